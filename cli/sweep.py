"""Sweeps: the jobs of one command, wherever they run, and what became of each.

Jobs may run in other processes (hydra/launcher=joblib), of which nothing comes back but files: each
adds its line to jobs.jsonl in the sweep's folder, and the sweep is concluded from these lines.
"""

import contextlib
import json
import logging
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TextIO

from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from nufed.conf.compose import CONFIG_DIR
from nufed.conf.errors import InputError, reason
from nufed.conf.files import is_there, read_text
from nufed.conf.typed import made, parsed

JOBS = "jobs.jsonl"
LARGEST = 1 << 28  # bytes of it; a job takes some hundred
SPLIT = "evaluation.split"


@dataclass(frozen=True)
class Job:
    """What became of one job of a sweep."""

    number: int
    overrides: list[str]
    folder: str
    """Its run folder."""
    complaint: str | None = None
    """What kept it from its end."""
    score: float | None = None
    """In a search, what is to be as large as possible; None of a run that diverged."""

    def note_down(self, sweep: Path) -> None:
        """Add the job's line, in one write, so that those of other processes lie beside it."""
        sweep.mkdir(parents=True, exist_ok=True)
        with (sweep / JOBS).open("a") as file:
            file.write(json.dumps(asdict(self)) + "\n")


def jobs_of(sweep: Path) -> list[Job]:
    """Return what became of the jobs of a sweep, in their order."""
    file = sweep / JOBS
    lines = read_text(file, largest=LARGEST).splitlines() if is_there(file) else []
    try:
        return sorted((made(Job, parsed(line)) for line in lines), key=lambda job: job.number)
    except ValueError as error:
        raise InputError(f"{file}: cannot be read ({reason(error)})") from error


@dataclass(frozen=True)
class Sweep:
    """A sweep that began in this process."""

    folder: Path
    search: bool


begun: list[Sweep] = []


class Begin(Callback):
    """Remember the sweep that begins, which Hydra itself tells only its jobs of."""

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Note it; announce a search, whose library takes seconds to import."""
        sweep = Sweep(Path(config.hydra.sweep.dir), is_search(config.hydra))
        begun.append(sweep)
        if sweep.search:
            print(f"a search by {config.hydra.runtime.choices['hydra/sweeper']}", flush=True)
            with suppress(ImportError):
                import optuna

                optuna.logging.set_verbosity(logging.WARNING)  # we tell of the trials


def is_search(hydra: Any) -> bool:
    """Tell whether a sweep chooses its jobs by how those before went."""
    return bool(hydra.runtime.choices["hydra/sweeper"] != "basic")


def prepare_options() -> None:
    """Let our options take the place of those that a plugin brings under the same name."""
    Plugins.instance()  # makes the plugins known, and their options with them
    for file in (CONFIG_DIR / "hydra").rglob("*.yaml"):
        options = ConfigStore.instance().repo
        for group in file.relative_to(CONFIG_DIR).parts[:-1]:
            options = options.get(group, {})
        options.pop(file.name, None)


@contextlib.contextmanager
def lines_of(job: int) -> Iterator[None]:
    """Print whole lines that begin with the number of a job, beside others that do the same."""
    out, err = Marked(sys.stdout, f"[{job}] "), Marked(sys.stderr, f"[{job}] ")
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        yield


class Marked:
    """A stream, no terminal, of whole lines that begin with a mark."""

    def __init__(self, stream: TextIO, mark: str) -> None:
        self._stream, self._mark, self._begun = stream, mark, ""

    def write(self, text: str) -> int:
        """Print the lines that are whole now."""
        *lines, self._begun = (self._begun + text).split("\n")
        if lines:
            self._stream.write("".join(f"{self._mark}{line.rstrip()}\n" for line in lines))
            self._stream.flush()
        return len(text)

    def flush(self) -> None:
        """Do nothing: lines are printed as soon as they are whole."""

    def isatty(self) -> bool:
        """Tell that nothing that moves can be drawn."""
        return False
