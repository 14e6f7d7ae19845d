"""engine=deployment: submit to a SuperLink that runs, and follow the run from afar."""

import json
import re
import secrets
import tempfile
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from cli.bundle import lay_out
from cli.superlink import SuperLink, connect
from conf.convert import to_json
from conf.errors import InputError, RunStopped
from conf.files import is_there, read_text, write_whole
from conf.schema import Config
from conf.text import printable
from conf.typed import parsed, typed
from conf.words import command_line
from server_app.carried import carry
from server_app.checkpoint import alone
from server_app.log_stream import BrokenStream, LogReader
from server_app.progress import ProgressBar
from server_app.report.callback import Report
from server_app.run_folder import RESCUED, SUBMITTED, RunFolder
from server_app.terminal import Terminal
from server_app.trackers import trackers
from server_app.tracking import Callback

LOG = "flower.log"
LARGEST = 1 << 20  # bytes of submitted.json, which has two short lines


def launch(config: Config, folder: Path, console: Terminal) -> None:
    """Submit the app and follow its log, leaving the run folder `folder`."""
    known = {} if config.resume is None else _submitted(folder)
    tracked = trackers(config, folder)  # here, where a person's logins and packages are
    run_dir = known.get("run_dir") or server_folder(config, folder)
    run_config: dict[str, str | bool] = {}
    run_config |= {"config": to_json(config), "run-dir": run_dir, "log-stream": True}
    run_config |= {"report": False}  # it is made here
    with tempfile.TemporaryDirectory(prefix="nufed-") as scratch:
        superlink = connect(config.engine, Path(scratch))
        with console.status(f"submitting to {superlink.name}"):
            (Path(scratch) / "app").mkdir()
            app = lay_out(Path(scratch) / "app")
            if config.resume is not None and not known.get("run_id"):
                _require_same_server(known, superlink, config, folder)
                with alone(folder):
                    carry(folder, app)  # it ran here so far
                    # Before it is sent: if this process is killed, a server may have it or not.
                    _note_down(folder, superlink, "", run_dir)
            run_id = superlink.submit(app, run_config)
        _note_down(folder, superlink, run_id, run_dir)
        console.say(
            f"Flower run {run_id} on {superlink.name}; its log: {folder / LOG}",
        )
        Follower(superlink, run_id, config, folder, console, tracked).follow()


def server_folder(config: Config, folder: Path) -> str:
    """Return the name of the run folder on the server's side: <name>/<time>-<random>.

    Others may submit in the same second, from machines that know nothing of each other.
    """
    now = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    ours = re.match(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d", folder.name)
    return f"{config.name}/{ours[0] if ours else now}-{secrets.token_hex(4)}"


def _submitted(folder: Path) -> dict[str, str]:
    """Return what `_note_down` kept; nothing if no server has the run."""
    if not is_there(folder / SUBMITTED):
        return {}
    try:
        text = read_text(folder / SUBMITTED, largest=LARGEST)
        facts = typed(parsed(text), dict[str, str], SUBMITTED)
        return {key: facts[key] for key in ("superlink", "run_id", "run_dir")}
    except (ValueError, KeyError) as error:
        raise InputError(f"{folder / SUBMITTED}: cannot be read; delete it") from error


def _require_same_server(
    known: Mapping[str, str], superlink: SuperLink, config: Config, folder: Path
) -> None:
    """Raise an `InputError` if another server may have gone on with a private run.

    That one alone would know what was released there.
    """
    if known and known["superlink"] != superlink.name and config.privacy.name != "none":
        raise InputError(
            f"engine.superlink={superlink.name}: {known['superlink']} may have gone on with this "
            f"private run, and it alone knows what was released there; name that one, or delete "
            f"{folder / SUBMITTED} if it never had the run"
        )


def _note_down(folder: Path, superlink: SuperLink, run_id: str, run_dir: str) -> None:
    """Keep what finds the run again, should this process be killed; first without its id."""
    facts = {"superlink": superlink.name, "run_id": run_id, "run_dir": run_dir}
    write_whole(folder / SUBMITTED, f"{json.dumps(facts)}\n".encode())


class Follower:
    """Make the run folder from the log of a run, as it is written."""

    def __init__(
        self,
        superlink: SuperLink,
        run_id: str,
        config: Config,
        folder: Path,
        console: Terminal,
        tracked: list[Callback],
    ) -> None:
        self.superlink, self.run_id, self.folder, self.console = superlink, run_id, folder, console
        self.callbacks = [RunFolder(folder), Report(folder), ProgressBar(console, folder), *tracked]
        self.reader = LogReader(config, folder, self.callbacks, self._warn)

    def follow(self) -> None:
        """Follow to the end.

        Raises
        ------
        RunStopped
            If the run failed or was stopped, or the SuperLink was lost.
        KeyboardInterrupt
            If the person here interrupted it; the run is stopped then.
        """
        try:
            stopped = self._until_the_end()
        except KeyboardInterrupt as error:
            raise type(error)(self._end(f"interrupted; {self._stop()}")) from None
        except BrokenStream as error:
            raise RunStopped(self._end(str(error))) from error
        if stopped is not None:
            raise RunStopped(self._end(stopped))
        assert self.reader.summary is not None
        there = str(self.reader.server_folder)
        summary = self.reader.summary | {"server_run_folder": there}
        summary.pop(RESCUED, None)  # there, not here
        if "stopped" in summary:  # what the server has is here too, and resumed from here
            said, ours = summary["stopped"], command_line("nufed", resume=self.folder)
            said = said.replace(command_line("nufed", resume=there), ours)
            summary["stopped"] = said.replace(there, str(self.folder))
        for callback in self.callbacks:
            callback.on_end(summary)
        self._say(f"server's run folder: {there}")
        if "stopped" in summary:
            raise RunStopped(summary["stopped"])

    def _until_the_end(self) -> str | None:
        """Read the log, again where it broke off; return why the run has no summary, if so."""
        with (self.folder / LOG).open("ab") as log:
            begin, ended = log.tell(), None
            while True:
                log.truncate(begin)  # it comes from its beginning again
                for line in self.superlink.log(self.run_id):
                    if plain := self.reader.read(line):
                        log.write(printable(plain, lines=True).encode())
                        log.flush()
                    if self.reader.summary is not None:
                        return None
                    if who := next((each for each in self.callbacks if each.stop), None):
                        return f"{who} asked for it; {self._stop()}"
                if ended is not None:
                    return ended
                status, details = self.superlink.status(self.run_id)
                if status.startswith("finished"):  # what was said at the end may still be missing
                    ended = self._why(status, details)

    def _why(self, status: str, details: str) -> str:
        """Say why a run ended without a summary."""
        if status == "finished:completed":
            what = self.reader.missing or f"line {self.reader.next} of the run's record is missing"
            return f"the run completed, but {what}"
        cause = " ".join(details.removeprefix("ServerApp failed with exception: ").split())
        return cause or f"the run is {status}"

    def _end(self, stopped: str) -> str:
        """Close the run folder, where there is one, without the server's summary."""
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
            stopped += f"; go on with: {command_line('nufed', resume=self.folder)}"
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
