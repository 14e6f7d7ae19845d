"""Follow a run on a SuperLink by its log, and make its run folder here."""

import os
from collections.abc import Sequence
from pathlib import Path

from nufed.cli.superlink import SuperLink
from nufed.conf.errors import CallbackFailed, CannotWrite, InputError, RunStopped
from nufed.conf.schema import Config
from nufed.conf.text import printable
from nufed.conf.words import command_line
from nufed.server_app.callbacks import Own, require_none_failed
from nufed.server_app.log_files import BrokenStream
from nufed.server_app.log_reader import LogReader
from nufed.server_app.progress import ProgressBar
from nufed.server_app.report.callback import Report
from nufed.server_app.run_folder import RESCUED, RunFolder, append
from nufed.server_app.terminal import Terminal
from nufed.server_app.tracking import Callback

LOG = "flower.log"
LONGEST = 2000  # characters of what Flower says of a run
FAILED = "finished:failed"  # the status of a run


class NeverBegan(RunStopped):
    """A run failed before our app said anything.

    Flower unpacks an app into a folder that whatever else begins at the same moment takes for
    unpacked already; it then misses a file. A second attempt finds them all.
    """


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
    """Make the run folder from the log of a run, as it is written.

    Parameters
    ----------
    tracked, own
        Callbacks that the configuration names.
    again
        Whether the folder holds a part of this very run, all of which comes again.
    watching
        Whether the run is left where it is when the person here goes.
    """

    def __init__(
        self,
        superlink: SuperLink,
        run_id: str,
        config: Config,
        folder: Path,
        console: Terminal,
        tracked: Sequence[Callback],
        again: bool = False,
        own: Sequence[Own] = (),
        watching: bool = False,
    ) -> None:
        self.superlink, self.run_id, self.folder, self.console = superlink, run_id, folder, console
        self.watching, self._status = watching, ""
        kept = RunFolder(folder, again)
        shown = Report(folder, own, config.report), ProgressBar(console, folder)
        self.callbacks = [*own, kept, *shown, *tracked]
        self.reader = LogReader(config, folder, self.callbacks, self._warn)

    def follow(self) -> None:
        """Follow to the end.

        Raises
        ------
        RunStopped
            If the run failed or was stopped, or the SuperLink was lost; or if what comes cannot be
            written here, which is no reason to stop the run where it is. `NeverBegan` if nothing of
            it came.
        KeyboardInterrupt
            If the person here interrupted it; the run is stopped then, unless they only watched.
        """
        try:
            stopped = self._until_the_end()
        except KeyboardInterrupt as error:
            said = self._go() if self.watching else self._end(f"interrupted; {self._stop()}")
            raise type(error)(said) from None
        except (CannotWrite, InputError, OSError) as error:
            if isinstance(error.__cause__, FileExistsError):  # another run took the folder
                raise
            raise CannotWrite(self._leave(error)) from error
        except CallbackFailed as error:
            raise CallbackFailed(self._end(f"{error}; {self._stop()}")) from error
        except (BrokenStream, RunStopped) as error:
            raise RunStopped(self._end(str(error))) from error
        if stopped is not None:
            failed = self.reader.next == 0 and self._status == FAILED
            raise (NeverBegan if failed else RunStopped)(self._end(stopped))
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
        if whole:
            require_none_failed(self.callbacks)
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
                require_none_failed(self.callbacks)
                if who := next((each for each in self.callbacks if each.stop), None):
                    return f"{who} asked for it; {self._stop()}"
            if ended is not None:
                return ended
            self._status, details = self.superlink.status(self.run_id)
            if self._status.startswith("finished"):  # what was said last may still be missing
                ended = self._why(self._status, details)

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

    def _go(self) -> str:
        """Close the run folder, and leave the run where it is; say how to come back."""
        stop = self.superlink.how_to_stop(self.run_id)
        resume = command_line("nufed", resume=self.folder)
        said = f"interrupted; run {self.run_id} on {self.superlink.name} goes on"
        again = command_line("nufed", ["attach", str(self.folder)])
        return f"{self._close(said)}; come back with: {again}; stop it with: " + (
            stop or f"{resume}, and Ctrl-C"
        )

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
