"""Folders of runs: one of its own for each, and taken away again where a run never begins."""

from contextlib import suppress
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from nufed.conf.files import new_folder
from nufed.conf.words import escaped, written

_made: set[Path] = set()


class NewFolders(Callback):
    """Make the folder that a run has by default, and remember which ones may be removed again."""

    def on_run_start(self, config: DictConfig, **_: Any) -> None:
        """Prepare the folder of a single run."""
        self._prepare(config, "run")

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Prepare the folder of a sweep, which all of its jobs lie in."""
        self._prepare(config, "sweep")

    def _prepare(self, config: DictConfig, kind: str) -> None:
        key = f"hydra.{kind}.dir"
        folder = Path(OmegaConf.select(config, key))
        remember(folder)
        if any(word.lstrip("+").startswith(f"{key}=") for word in config.hydra.overrides.hydra):
            return
        with suppress(OSError):  # Hydra, which makes it next, will say so
            folder = make(folder)
        with read_write(config), open_dict(config):
            OmegaConf.update(config, key, escaped(str(folder)))
            config.hydra.overrides.hydra.append(f"{key}={written(folder)}")  # of a sweep's jobs


def make(folder: Path) -> Path:
    """Make a new folder as `new_folder` does, which `remove_empty` may remove again."""
    remember(folder)
    folder = new_folder(folder)
    _made.add(folder.absolute())
    return folder


def remember(folder: Path) -> None:
    """Remember what of a folder to be is not there yet, which `remove_empty` may remove again."""
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
