"""Folders that Hydra makes before a run begins: taken away again where it never does."""

from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

_made: set[Path] = set()


class NewFolders(Callback):
    """Remember which folders Hydra is about to make: only those may be removed again."""

    def on_run_start(self, config: DictConfig, **_: Any) -> None:
        """Note the folders of a single run."""
        self._remember(Path(config.hydra.run.dir))

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Note the folders of a sweep."""
        self._remember(Path(config.hydra.sweep.dir))

    def _remember(self, folder: Path) -> None:
        folder = folder.absolute()
        _made.update(path for path in (folder, *folder.parents) if not path.exists())


def remove_empty(folder: Path) -> None:
    """Remove a run's folder if nothing is in it, and its empty parents, if Hydra made them."""
    folder = folder.absolute()
    if folder.parent in _made:
        _made.add(folder)  # one job of a sweep
    while folder in _made and folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
        folder = folder.parent
