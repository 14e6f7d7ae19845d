"""Follow a run that goes on without whoever submitted it; who watches leaves it as it is."""

import re
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from nufed.cli.engines.deployment import OF_THE_WAY, follow, unread
from nufed.cli.folders import make, remember, remove_empty
from nufed.cli.submitted import RUNS, Submitted
from nufed.cli.superlink import COMPLETED, RETRY_S, SuperLink, connect
from nufed.client_app.algorithm import algorithm_of
from nufed.conf.compose import CONFIG, compose_config, find_config, theirs, to_file
from nufed.conf.errors import InputError
from nufed.conf.files import write_whole
from nufed.conf.importing import let_import
from nufed.conf.schema import Config
from nufed.conf.targets import foreign, modules_of, require_allowed
from nufed.conf.text import printable
from nufed.conf.words import command_line, written
from nufed.server_app.callbacks import own_callbacks
from nufed.server_app.checkpoint import alone
from nufed.server_app.log_files import BrokenStream
from nufed.server_app.log_submission import Submission
from nufed.server_app.resume import resumed_config
from nufed.server_app.run_dir import below
from nufed.server_app.terminal import Terminal, showing
from nufed.server_app.trackers import trackers

PLACE = "engine.superlink"
ELSEWHERE = "wait for it, or follow the run into another folder as out=…"
LONGEST = 200  # bytes of a run's name, where it names a folder
TIME = re.compile(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d", re.ASCII)


def composed(words: Sequence[str]) -> Config:
    """Return the configuration of any run on the SuperLink that was typed.

    Raises
    ------
    InputError
        If none was.
    """
    return compose_config(["engine=deployment", *words])


def watch_folder(folder: Path, words: Sequence[str], said: str = "") -> None:
    """Follow the run of a folder again, or fetch what it left; it is never submitted.

    Parameters
    ----------
    folder
        The run folder.
    words
        Overrides: the way to the SuperLink, and what is called here.
    said
        Is said first.

    Raises
    ------
    InputError
        If the folder follows no run of a SuperLink, or another process has it.
    RunStopped, KeyboardInterrupt
        As of `Follower.follow`.
    """
    name, folder = str(folder), folder.absolute()
    before = find_config(folder, name).config
    known, resume = Submitted.of(folder), command_line("nufed", resume=folder)
    if known is None or not known.run_id:
        raise InputError(f"{name}: follows no run of a SuperLink; go on with it by: {resume}")
    typed_place = any(word.startswith(f"{PLACE}=") for word in words)
    typed = composed([*words, *([] if typed_place else [f"{PLACE}={written(known.superlink)}"])])
    config = replace(resumed_config(folder, typed, list(words)), resume=before.resume)
    with showing(typed.progress), tempfile.TemporaryDirectory(prefix="nufed-") as scratch:
        console = Terminal()
        if said:
            console.say(said)
        superlink = connect(config.engine, Path(scratch))
        with console.status(f"asking {superlink.name} for run {known.run_id}"):
            run = superlink.find(known.run_id)
        if run is None:
            raise InputError(
                f"{PLACE}={superlink.name}: knows no run {known.run_id}; what came of it is in "
                f"{name}, and goes on with: {resume}"
            )
        if run.status == COMPLETED and not unread(folder):
            console.say(f"run {run.run_id} is over, and {name} has all of it; for more: {resume}")
            return
        let_import(config)
        algorithm_of(config.algorithm)  # a mistake is told of before anything is written
        with alone(folder, ELSEWHERE):
            called = trackers(config, folder), own_callbacks(config, folder)
            if known.superlink != superlink.name:  # the same one, as it has this run
                replace(known, superlink=superlink.name).note_down(folder)
            again = {"again": True, "watching": True}
            follow(superlink, run.run_id, config, folder, console, called, **again)


def watch_anew(run_id: str, out: Path | None, words: Sequence[str]) -> None:
    """Follow a run of which nothing is here; arguments and errors as of `watch_folder`.

    Parameters
    ----------
    out
        Its run folder to be; None: where that of its submitter would be.
    """
    typed = composed(words)
    with showing(typed.progress), tempfile.TemporaryDirectory(prefix="nufed-") as scratch:
        console = Terminal()
        superlink = connect(typed.engine, Path(scratch))
        with console.status(f"asking {superlink.name} for run {run_id}"):
            submission = _submission(superlink, run_id)
        config = configured(submission, typed, f"run {run_id}")
        let_import(config)
        algorithm_of(config.algorithm)
        folder = new_folder_of(submission, config.name, out, f"run {run_id}")
        try:
            with alone(folder, ELSEWHERE):
                called = trackers(config, folder), own_callbacks(config, folder)
                write_whole(folder / CONFIG, to_file(config).encode())
                Submitted(superlink.name, run_id, submission.run_dir).note_down(folder)
                follow(superlink, run_id, config, folder, console, called, watching=True)
        finally:
            remove_empty(folder)


def _submission(superlink: SuperLink, run_id: str) -> Submission:
    """Return what was submitted, as soon as the run's log says it.

    Raises
    ------
    InputError
        If there is no such run, or it says nothing of it.
    """
    while True:
        run = superlink.find(run_id)
        if run is None:
            runs = command_line("nufed", ["ls", f"{PLACE}={superlink.name}"])
            raise InputError(f"{run_id}: {superlink.name} knows no such run; its runs: {runs}")
        try:
            with closing(superlink.log(run_id)) as lines:
                found = Submission.of(lines)
        except BrokenStream as error:
            line = f"run {run_id}: {error}; only this version's runs can be followed by their id"
            raise InputError(line) from error
        if found is not None:
            return found
        if run.over:
            why = f" ({run.details})" if run.details else ""
            raise InputError(
                f"run {run_id}: is over, and its log does not say what it was{why}; it never "
                "began, or nufed did not submit it"
            )
        time.sleep(RETRY_S)


def configured(submission: Submission, typed: Config, what: str) -> Config:
    """Return the configuration of a run that somebody submitted, to be followed here.

    What is called here, and the way to the SuperLink, is as it was typed here.

    Raises
    ------
    InputError
        If it cannot be read, or names code that is not trusted here.
    """
    config = theirs(submission.config, f"{what}: its configuration")
    way = {key: typed.engine[key] for key in OF_THE_WAY}
    called = {"tracking": typed.tracking, "callbacks": typed.callbacks}
    config = replace(config, engine=config.engine | way, **called)
    require_allowed(config, what, (*modules_of(typed.trust), *foreign(typed).values()))
    return config


def new_folder_of(submission: Submission, name: str, out: Path | None, what: str) -> Path:
    """Make the folder of a run of that name: `out`, or where that of its submitter would be.

    Raises
    ------
    InputError
        If it cannot be made, or there is something in it.
    """
    try:
        if out is not None:
            remember(out)
            out.mkdir(parents=True, exist_ok=True)
            if any(out.iterdir()):
                raise InputError(f"out={out}: is not empty; name a new folder")
            return out.absolute()
        fit = printable(name) == name and len(name.encode()) <= LONGEST
        parent = below(Path(RUNS).absolute(), name) if fit else None
        if parent is None:
            raise InputError(
                f"{what}: its name {name!r:.100} is none for a folder in {RUNS}; name one as out=…"
            )
        submitted = TIME.match(submission.run_dir.rpartition("/")[2])
        now = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
        return make(parent / (submitted[0] if submitted else now)).absolute()
    except OSError as error:
        where = printable(str(error.filename))[:200]
        line = f"{where}: cannot be made ({error.strerror}); name a folder as out=…"
        raise InputError(line) from error
