"""`nufed`: compose a configuration with Hydra, run it on the chosen engine, show what came out."""

import json
import math
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

import hydra
from hydra._internal.utils import get_args_parser
from hydra.conf import HydraConf
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from nufed.cli.command import (
    EXIT_INTERRUPTED,
    EXIT_TERMINATED,
    EXIT_USER_ERROR,
    complaint,
    fail,
    prepare,
)
from nufed.cli.failures import one_line
from nufed.cli.folders import remove_empty
from nufed.cli.sweep import Job, Sweep, begun, is_search, jobs_of, lines_of, prepare_options
from nufed.conf.compose import CONFIG_DIR
from nufed.conf.convert import to_config
from nufed.conf.errors import InputError, NuFedError, Terminated, reason
from nufed.conf.importing import let_import
from nufed.conf.keys import known_keys
from nufed.conf.schema import Config
from nufed.conf.text import printable
from nufed.conf.words import for_hydra, path_of


def main() -> None:
    """Run the command; a person's mistake ends in one line on stderr and exit status 2."""
    wants_traceback = _prepare()
    prepare_options()
    begun.clear()
    _failed.clear()
    signal.signal(signal.SIGTERM, _terminate)
    _require_options(sys.argv[1:])
    sys.argv[1:] = typed(sys.argv[1:])
    status = 0
    try:
        _hydra_main()
    except KeyboardInterrupt as error:
        _complain(str(error) or "interrupted")
        status = EXIT_TERMINATED if isinstance(error, Terminated) else EXIT_INTERRUPTED
    except Exception as error:
        line = one_line(error) or _no_folder(error)
        if line is None or wants_traceback:
            raise
        _complain(line)
        status = EXIT_USER_ERROR
    went_well = [_conclude(sweep) for sweep in begun]
    if _failed or not all(went_well):
        status = status or EXIT_USER_ERROR
    sys.exit(status)


_failed: list[Path] = []  # single runs


@cache
def _prepare() -> bool:
    """Set up this process, once; the jobs of a sweep may have processes of their own."""
    return prepare()


def _require_options(words: list[str]) -> None:
    """End with one line, and not with Hydra's usage, if there is no such option."""
    parser = get_args_parser()

    def error(message: str) -> NoReturn:
        fail("nufed", complaint(parser, message, list(known_keys())))

    parser.error = error  # type: ignore[method-assign]
    _, unknown = parser.parse_known_args(words)
    if unknown:
        error(f"unrecognized arguments: {unknown[0]}")


def typed(words: list[str]) -> list[str]:
    """Return what was typed as Hydra is to read it."""
    words = for_hydra(words, several=not {"-m", "--multirun"}.isdisjoint(words))
    if not any(word.startswith("resume=") and word != "resume=null" for word in words):
        return words
    # The run's data set may have a path; the one that a run has by default has none.
    return [f"++{word}" if word.startswith("dataset.path=") else word for word in words]


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
def _hydra_main(composed: DictConfig) -> float | None:
    return job(composed)  # of a module, so that other processes find it


def job(composed: DictConfig) -> float | None:
    """Carry out a single run, or one job of a sweep; return its score if that is a search."""
    hydra_config = HydraConfig.get()
    # As it stands: OmegaConf would take `${x}` in a name for another key.
    runtime: Any = OmegaConf.to_container(hydra_config.runtime, resolve=False)
    folder = Path(runtime["output_dir"])
    if hydra_config.mode != RunMode.MULTIRUN:
        if _attempt(composed, folder)[1]:
            _failed.append(folder)
        return None
    return _job_of_sweep(composed, hydra_config, folder)


def _job_of_sweep(composed: DictConfig, hydra_config: HydraConf, folder: Path) -> float | None:
    number, overrides = int(hydra_config.job.num), list(hydra_config.overrides.task)
    search, elsewhere = is_search(hydra_config), not begun
    with lines_of(number) if elsewhere else nullcontext():
        _prepare()
        quiet = composed.get("progress") == "none"
        if not quiet:
            print("" if elsewhere else "\n", printable(" ".join(overrides)), sep="")
        folder, error = _attempt(composed, folder, search)
        if quiet and error is None:
            print(printable(f"{' '.join(overrides)}: {_in_a_line(folder)}"), flush=True)
    found = None
    if search:
        from nufed.cli.search import WORST, score

        found = WORST if error else score(folder)
    complaint = str(error) if error else None
    finite = found if found is not None and math.isfinite(found) else None
    outcome = Job(number, overrides, str(folder), complaint, finite)
    outcome.note_down(Path(hydra_config.sweep.dir))
    if search and isinstance(error, InputError):
        sys.exit(EXIT_USER_ERROR)  # the next one would go no better
    return found


def _in_a_line(folder: Path) -> str:
    """Say what came out of a run."""
    from nufed.server_app.progress import ends
    from nufed.server_app.run_folder import SUMMARY

    return f"{ends(json.loads((folder / SUMMARY).read_text()))} ({folder})"


def _attempt(
    composed: DictConfig, folder: Path, search: bool = False
) -> tuple[Path, NuFedError | None]:
    """Run one configuration; return its folder, and the mistake, which is told of."""
    # An error of one job must not end the others of a sweep, nor be announced twice by Hydra.
    try:
        config = to_config(composed)
        if search:
            from nufed.cli.search import require_validation

            require_validation(config)
            typed = [word.lstrip("+").split("=")[0] for word in HydraConfig.get().overrides.task]
            without: dict[str, Any] = {"baselines": "none", "report": False}
            left = {key: value for key, value in without.items() if key not in typed}
            config = replace(config, **left)  # trials are compared with each other
        return run(config, folder, list(HydraConfig.get().overrides.task)), None
    except NuFedError as error:
        _complain(str(error))
        return folder, error
    finally:
        remove_empty(folder)


def _conclude(sweep: Sweep) -> bool:
    """Show what came out of a sweep; return whether it went well."""
    jobs = jobs_of(sweep.folder)
    for each in jobs:
        remove_empty(Path(each.folder))  # of another process, which did not know what is new
    if sweep.search and jobs:
        from nufed.cli.search import conclude
        from nufed.server_app.terminal import Terminal

        return conclude(jobs, sweep.folder, Terminal())
    finished = [(" ".join(j.overrides), Path(j.folder)) for j in jobs if j.complaint is None]
    if len(finished) > 1:
        _compare(finished)
    return len(finished) == len(jobs)


def _compare(finished: list[tuple[str, Path]]) -> None:
    """Show the runs of a sweep side by side, seeds together, and leave a page that does."""
    from nufed.server_app.progress import sweep_table
    from nufed.server_app.report.comparison_page import COMPARISON, terminal_table, write_comparison
    from nufed.server_app.run_folder import SUMMARY
    from nufed.server_app.terminal import Terminal

    summaries = {overrides: json.loads((f / SUMMARY).read_text()) for overrides, f in finished}
    console = Terminal()
    folder = Path(os.path.commonpath([run for _, run in finished]))  # of the sweep
    try:
        found = write_comparison([run for _, run in finished], folder / COMPARISON)
    except InputError as error:
        console.print(sweep_table(summaries))
        _complain(str(error))
        return
    seeds = len(found.groups) < len(finished)
    console.print(terminal_table(found) if seeds else sweep_table(summaries))
    for note in found.notes if seeds else ():
        console.say(note)
    console.say(f"comparison: {folder / COMPARISON}")


def _complain(line: str) -> None:
    print(printable(f"nufed: {line}"), file=sys.stderr)


def run(config: Config, folder: Path, overrides: Sequence[str]) -> Path:
    """Run one configuration on the engine that it names, or go on with one.

    Parameters
    ----------
    overrides
        What `config` was composed of, as it was typed.

    Returns
    -------
    Path
        The run folder: `folder`, or that of the run that is resumed.
    """
    # Imported here, so that --help and a mistyped key answer at once.
    from nufed.client_app.algorithm import algorithm_of
    from nufed.conf.making import find
    from nufed.server_app.resume import resumed_config
    from nufed.server_app.run_folder import require_free
    from nufed.server_app.terminal import Terminal, showing
    from nufed.tasks.datasets.hf import NAME as HF

    if isinstance(trace := config.sampler.get("path"), str):  # before a run's own is looked at
        config.sampler["path"] = str(path_of(trace).absolute())
    if config.resume is None:
        require_free(folder)
    else:
        folder = path_of(config.resume).absolute()
        config = resumed_config(folder, config, list(overrides))
    if isinstance(path := config.dataset.get("path"), str):
        # Absolute: other engines' processes run in other folders.
        absolute = path_of(path).absolute()
        on_the_hub = config.dataset["name"] == HF and not absolute.exists()
        config.dataset["path"] = path if on_the_hub else str(absolute)
    config = replace(config, trust=None)  # it is of this machine, and of now
    let_import(config)
    algorithm_of(config.algorithm)  # a mistake is told of here, not by a server
    try:
        launch = find(config.engine["launcher"])
    except (ImportError, TypeError, ValueError) as error:
        raise InputError(f"engine.launcher={config.engine['launcher']}: {reason(error)}") from error
    with showing(config.progress):
        launch(config, folder, Terminal())
    return folder


if __name__ == "__main__":
    main()
