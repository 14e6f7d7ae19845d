"""`nufed`: compose a configuration with Hydra, run it on the chosen engine, show what came out."""

import json
import signal
import sys
import traceback
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from cli.command import EXIT_INTERRUPTED, EXIT_TERMINATED, EXIT_USER_ERROR, prepare
from cli.failures import one_line
from cli.folders import remove_empty
from conf.compose import CONFIG_DIR
from conf.errors import NuFedError, Terminated
from conf.schema import Config, to_config


def main() -> None:
    """Run the command; a person's mistake ends in one line on stderr and exit status 2."""
    wants_traceback = prepare()
    signal.signal(signal.SIGTERM, _terminate)
    try:
        _hydra_main()
    except KeyboardInterrupt as error:
        _complain(str(error) or "interrupted")
        sys.exit(EXIT_TERMINATED if isinstance(error, Terminated) else EXIT_INTERRUPTED)
    except Exception as error:
        line = one_line(error) or _no_folder(error)
        if line is None or wants_traceback:
            raise
        _complain(line)
    if len(_finished) > 1:
        _compare(_finished)
    if _complaints:
        sys.exit(EXIT_USER_ERROR)


def _no_folder(error: Exception) -> str | None:
    """Explain why Hydra could not make the run's folder; None for an error within the run."""
    if not isinstance(error, OSError) or not error.filename:
        return None
    frames = traceback.extract_tb(error.__traceback__)
    if any(frame.name == _hydra_main.__name__ for frame in frames):
        return None
    return f"hydra.run.dir={error.filename}: cannot be written ({error.strerror}); name another"


def _terminate(*_: object) -> None:
    raise Terminated


@hydra.main(config_path=str(CONFIG_DIR), config_name="config", version_base="1.3")
def _hydra_main(composed: DictConfig) -> None:
    # An error of one job must not end the others of a sweep, nor be announced twice by Hydra.
    folder = Path(HydraConfig.get().runtime.output_dir)
    hydra_config = HydraConfig.get()
    overrides = " ".join(hydra_config.overrides.task)
    if hydra_config.mode == RunMode.MULTIRUN:
        print(f"\n{overrides}")
    try:
        _finished.append((overrides, run(to_config(composed), folder)))
    except NuFedError as error:
        _complain(str(error))
    finally:
        remove_empty(folder)


_complaints: list[str] = []
_finished: list[tuple[str, Path]] = []


def _compare(finished: list[tuple[str, Path]]) -> None:
    """Print the runs of a sweep side by side."""
    from rich.console import Console

    from server_app.progress import sweep_table
    from server_app.run_folder import SUMMARY

    summaries = {overrides: json.loads((f / SUMMARY).read_text()) for overrides, f in finished}
    Console().print(sweep_table(summaries))


def _complain(line: str) -> None:
    _complaints.append(line)
    print(f"nufed: {line}", file=sys.stderr)


def run(config: Config, folder: Path) -> Path:
    """Run one configuration on the engine that it names, or go on with one.

    Returns
    -------
    Path
        The run folder: `folder`, or that of the run that is resumed.
    """
    # Imported here, so that --help and a mistyped key answer at once.
    from hydra.utils import get_method
    from rich.console import Console

    from conf.errors import InputError
    from server_app.resume import resumed_config
    from server_app.run_folder import require_free
    from tasks.datasets.hf import NAME as HF

    if config.resume is None:
        require_free(folder)
    else:
        folder = Path(config.resume).expanduser().absolute()
        config = resumed_config(folder, config, list(HydraConfig.get().overrides.task))
    if isinstance(path := config.dataset.get("path"), str):
        # Absolute: other engines' processes run in other folders.
        absolute = Path(path).expanduser().absolute()
        on_the_hub = config.dataset["name"] == HF and not absolute.exists()
        config.dataset["path"] = path if on_the_hub else str(absolute)
    try:
        launch = get_method(config.engine["launcher"])
    except (ImportError, ValueError) as error:
        raise InputError(f"engine.launcher={config.engine['launcher']}: {error}") from error
    launch(config, folder, Console())
    return folder


if __name__ == "__main__":
    main()
