"""engine=deployment: submit to a SuperLink that runs, and follow the run from afar."""

import os
import re
import secrets
import tempfile
from collections.abc import Sequence
from datetime import datetime
from functools import partial
from pathlib import Path

from cli.bundle import lay_out
from cli.submitted import Submitted
from cli.superlink import SuperLink, connect
from conf.command import differing_keys
from conf.compose import CONFIG, find_config, to_file
from conf.convert import to_json
from conf.errors import CannotWrite, InputError, RunStopped
from conf.files import is_there, write_whole
from conf.schema import Config
from conf.text import printable
from conf.words import command_line
from server_app.carried import carry
from server_app.checkpoint import alone
from server_app.log_reader import BrokenStream, LogReader
from server_app.progress import ProgressBar
from server_app.report.callback import Report
from server_app.run_folder import (
    METRICS,
    RESCUED,
    SUBMITTED,
    SUMMARY,
    RunFolder,
    append,
    load,
    read_json,
    whole_rows,
)
from server_app.terminal import Terminal
from server_app.trackers import trackers
from server_app.tracking import Callback
from server_app.written import checked_summary

LOG = "flower.log"
LONGEST = 2000  # characters of what Flower says of a run
OF_THE_WAY = "superlink", "root_certificates", "insecure"
HERE = "resume", "trust", "tracking", *(f"engine.{key}" for key in OF_THE_WAY)
"""Keys that say nothing of what a run does where it runs."""


def launch(config: Config, folder: Path, console: Terminal) -> None:
    """Submit the app and follow its log, leaving the run folder `folder`.

    A run of this folder that still goes on, or that ended while nobody followed it, is not
    submitted again: it is followed where it is.
    """
    known = None if config.resume is None else Submitted.of(folder)
    tracked = trackers(config, folder)  # here, where a person's logins and packages are
    with tempfile.TemporaryDirectory(prefix="nufed-") as scratch:
        superlink = connect(config.engine, Path(scratch))
        if known and known.run_id and _goes_on(known, superlink, config, folder, console):
            rows = load(folder / METRICS, whole_rows) if is_there(folder / METRICS) else []
            for each in tracked:
                each.drawn = tuple(rows[:-1])  # the last may not have come so far
            there = known
        else:
            there = _submit(superlink, config, folder, console, known)
        console.say(f"Flower run {there.run_id} on {superlink.name}; its log: {folder / LOG}")
        again = there is known
        Follower(superlink, there.run_id, config, folder, console, tracked, again).follow()


def _submit(
    superlink: SuperLink, config: Config, folder: Path, console: Terminal, known: Submitted | None
) -> Submitted:
    """Submit a run, or the rest of one; keep what finds it again, should this process be killed."""
    run_dir = known.run_dir if known else server_folder(config, folder)
    run_config: dict[str, str | bool] = {"config": to_json(config), "run-dir": run_dir}
    run_config |= {"log-stream": True, "report": False}  # it is made here
    with tempfile.TemporaryDirectory(prefix="nufed-") as scratch:
        app = lay_out(Path(scratch))
        if config.resume is not None and not (known and known.run_id):  # it ran here so far
            _require_same_server(known, superlink, config, folder)
            with alone(folder):
                carry(folder, app)
                if config.privacy.name != "none":  # a server may release of it from now on
                    Submitted(superlink.name, "", run_dir).note_down(folder)
        with console.status(f"submitting to {superlink.name}"):
            run_id = superlink.submit(app, run_config)
    submitted = Submitted(superlink.name, run_id, run_dir)
    try:
        write_whole(folder / CONFIG, to_file(config).encode())
        submitted.note_down(folder)
    except OSError as error:
        superlink.stop(run_id)  # nobody would find it again
        raise InputError(
            f"{folder}: cannot be written ({error.strerror}); the run was stopped at once; make "
            "room, or name another folder"
        ) from error
    return submitted


def _require_same_server(
    known: Submitted | None, superlink: SuperLink, config: Config, folder: Path
) -> None:
    """Raise an `InputError` if another server may have gone on with a private run.

    That one alone would know what was released there.
    """
    if known and known.superlink != superlink.name and config.privacy.name != "none":
        raise InputError(
            f"engine.superlink={superlink.name}: {known.superlink} may have gone on with this "
            f"private run, and it alone knows what was released there; name that one, or delete "
            f"{folder / SUBMITTED} if it never had the run"
        )


def server_folder(config: Config, folder: Path) -> str:
    """Return the name of the run folder on the server's side: <name>/<time>-<random>.

    Others may submit in the same second, from machines that know nothing of each other.
    """
    now = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    ours = re.match(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d", folder.name)
    return f"{config.name}/{ours[0] if ours else now}-{secrets.token_hex(4)}"


def _goes_on(
    known: Submitted, superlink: SuperLink, config: Config, folder: Path, console: Terminal
) -> bool:
    """Tell whether the run of a folder is to be followed where it is.

    Raises
    ------
    InputError
        If it goes on and something was typed that it does not do; or if the SuperLink does not say.
    """
    if known.superlink != superlink.name:
        return False
    with console.status(f"asking {superlink.name} for run {known.run_id}"):
        status = superlink.find(known.run_id)
    ended = status is None or status.startswith("finished")
    if ended and not (status == "finished:completed" and _unread(folder)):
        return False
    said = "ended while nobody followed it" if ended else "still goes on"
    begun = find_config(folder, f"resume={folder}").config
    for key, (now, was) in sorted(differing_keys(config, begun).items()):
        if not f"{key}.".startswith(tuple(f"{each}." for each in HERE)):
            other = "" if ended else f", or flwr stop {known.run_id} first"
            raise InputError(
                f"{key}={now}: run {known.run_id} has {was}, and {said}; say "
                f"{command_line('nufed', resume=folder)} to follow it{other}"
            )
    console.say(f"run {known.run_id} {said}: following it")
    return True


def _unread(folder: Path) -> bool:
    """Tell whether the end of a run that completed never came here."""
    file = folder / SUMMARY
    return not is_there(file) or "stopped" in load(file, partial(read_json, checked_summary))


def said_here(stopped: str, there: str, rescued: str | None, here: Path) -> str:
    """Return why a server ended a run, for who has followed it into the folder `here`.

    The model came along. The run goes on from what lies in the server's folder `there`; what had
    no room in that was `rescued` into another one of the server, None if nothing was.
    """
    on = "go on with: "
    theirs, ours = (command_line("nufed", resume=each) for each in (rescued or there, here))
    copy = f"on the server, copy what is in {rescued} into {there}; then " if rescued else ""
    for place in filter(None, (there, rescued)):
        stopped = stopped.replace(f" is in {place};", f" is in {here};")
    stopped = stopped.replace(f"; {on}{theirs}", f"; {copy}{on}{ours}")
    return f"on the server: {stopped}" if stopped.startswith(f"{there}/") else stopped


class Follower:
    """Make the run folder from the log of a run, as it is written."""

    def __init__(
        self,
        superlink: SuperLink,
        run_id: str,
        config: Config,
        folder: Path,
        console: Terminal,
        tracked: Sequence[Callback],
        again: bool = False,
    ) -> None:
        self.superlink, self.run_id, self.folder, self.console = superlink, run_id, folder, console
        kept = RunFolder(folder, again)
        self.callbacks = [kept, Report(folder), ProgressBar(console, folder), *tracked]
        self.reader = LogReader(config, folder, self.callbacks, self._warn)

    def follow(self) -> None:
        """Follow to the end.

        Raises
        ------
        RunStopped
            If the run failed or was stopped, or the SuperLink was lost; or if what comes cannot be
            written here, which is no reason to stop the run where it is.
        KeyboardInterrupt
            If the person here interrupted it; the run is stopped then.
        """
        try:
            stopped = self._until_the_end()
        except KeyboardInterrupt as error:
            raise type(error)(self._end(f"interrupted; {self._stop()}")) from None
        except (CannotWrite, InputError, OSError) as error:
            if isinstance(error.__cause__, FileExistsError):  # another run took the folder
                raise
            raise CannotWrite(self._leave(error)) from error
        except (BrokenStream, RunStopped) as error:
            raise RunStopped(self._end(str(error))) from error
        if stopped is not None:
            raise RunStopped(self._end(stopped))
        assert self.reader.summary is not None
        there = str(self.reader.server_folder)
        summary = self.reader.summary | {"server_run_folder": there}
        rescued = summary.pop(RESCUED, None)  # there, not here
        whole = "stopped" not in summary
        if not whole:
            summary["stopped"] = said_here(summary["stopped"], there, rescued, self.folder)
        for callback in self.callbacks:
            callback.on_end(summary)
        self._say(f"server's run folder: {there}")
        if "stopped" in summary:
            raise RunStopped(summary["stopped"] + (self._there("is complete") if whole else ""))

    def _until_the_end(self) -> str | None:
        """Read the log, again where it broke off; return why the run has no summary, if so."""
        log, ended = self.folder / LOG, None
        append(log, b"")
        begin = log.stat().st_size
        while True:
            os.truncate(log, begin)  # it comes from its beginning again
            self.reader.again()
            for line in self.superlink.log(self.run_id):
                if plain := self.reader.read(line):
                    self._keep(log, plain)
                if self.reader.summary is not None:
                    return None
                if who := next((each for each in self.callbacks if each.stop), None):
                    return f"{who} asked for it; {self._stop()}"
            if ended is not None:
                return ended
            status, details = self.superlink.status(self.run_id)
            if status.startswith("finished"):  # what was said at the end may still be missing
                ended = self._why(status, details)

    def _keep(self, log: Path, line: str) -> None:
        """Write a line of the log that is for people."""
        try:
            append(log, printable(line, lines=True).encode())
        except OSError as error:
            raise CannotWrite.of(log, error) from error

    def _why(self, status: str, details: str) -> str:
        """Say why a run ended without a summary."""
        if status == "finished:completed":
            what = self.reader.missing or f"record {self.reader.next} of the run's log is missing"
            return f"the run completed, but {what}"
        cause = " ".join(details.removeprefix("ServerApp failed with exception: ").split())
        return f"{cause:.{LONGEST}}" or f"the run is {status}"

    def _end(self, stopped: str) -> str:
        """Close the run folder; say how to go on, where there is something to go on with."""
        on = f"; go on with: {command_line('nufed', resume=self.folder)}"
        return self._close(stopped) + (on if self.reader.started else "")

    def _leave(self, error: CannotWrite | InputError | OSError) -> str:
        """Close the run folder, which cannot be written any more; leave the run where it is."""
        cause = error if isinstance(error, OSError) else error.__cause__
        if isinstance(cause, OSError) and not isinstance(error, CannotWrite):
            error = CannotWrite.of(self.folder, cause)
        return self._close(str(error)) + self._there("goes on without it")

    def _there(self, what: str) -> str:
        """Say what the run does where it is, and how to follow it from here again."""
        again = command_line("nufed", resume=self.folder)
        there = f"run {self.run_id} on {self.superlink.name}"
        return f"; {there} {what}; once there is room, follow it with: {again}"

    def _close(self, stopped: str) -> str:
        """Close the run folder, where there is one, without the server's summary; say where it is.

        What is in the folder is what came so far.
        """
        if self.reader.server_folder:
            stopped += f"; the server's run folder: {self.reader.server_folder}"
        if self.reader.started:
            summary = {
                "rounds": self.reader.rounds,
                "stopped": stopped,
                "server_run_folder": self.reader.server_folder,
            }
            for callback in self.callbacks:
                callback.on_end(summary)
        return stopped

    def _stop(self) -> str:
        """Stop the run; say what came of it."""
        self._say("stopping the run")
        try:
            self.superlink.stop(self.run_id)
        except RunStopped as error:
            return f"the run could not be stopped ({error})"
        return f"the run was stopped after round {self.reader.rounds}"

    def _say(self, text: str) -> None:
        self.console.say(text)

    def _warn(self, text: str) -> None:
        self.console.say(text, style="yellow")
