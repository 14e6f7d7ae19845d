"""engine=deployment: submit to a SuperLink that runs, and follow the run from afar."""

import re
import secrets
import tempfile
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path

from nufed.cli.bundle import lay_out
from nufed.cli.follower import LOG, Follower, NeverBegan
from nufed.cli.submitted import Submitted
from nufed.cli.superlink import COMPLETED, SuperLink, connect
from nufed.conf.command import differing_keys
from nufed.conf.compose import CONFIG, find_config, to_file
from nufed.conf.convert import to_json
from nufed.conf.errors import InputError
from nufed.conf.files import is_there, write_whole
from nufed.conf.schema import Config
from nufed.conf.words import command_line
from nufed.server_app.callbacks import Own, own_callbacks
from nufed.server_app.carried import carry
from nufed.server_app.checkpoint import alone
from nufed.server_app.run_folder import (
    METRICS,
    SUBMITTED,
    SUMMARY,
    load,
    read_json,
    whole_rows,
)
from nufed.server_app.terminal import Terminal
from nufed.server_app.trackers import Harmless, trackers
from nufed.server_app.written import checked_summary

OF_HERE = "tracking", "callbacks"
"""Keys of what is called here, where a person's packages and logins are, and is not sent."""
OF_THE_WAY = "superlink", "root_certificates", "insecure"
HERE = "resume", "trust", *OF_HERE, *(f"engine.{key}" for key in OF_THE_WAY)
"""Keys that say nothing of what a run does where it runs."""


def launch(config: Config, folder: Path, console: Terminal) -> None:
    """Submit the app and follow its log, leaving the run folder `folder`.

    A run of this folder that still goes on, or that ended while nobody followed it, is not
    submitted again: it is followed where it is.
    """
    known = None if config.resume is None else Submitted.of(folder)
    with tempfile.TemporaryDirectory(prefix="nufed-") as scratch, alone(folder):
        called = trackers(config, folder), own_callbacks(config, folder)
        superlink = connect(config.engine, Path(scratch))
        if known and known.run_id and _goes_on(known, superlink, config, folder, console):
            follow(superlink, known.run_id, config, folder, console, called, again=True)
        else:
            try:
                there = _submit(superlink, config, folder, console, known)
                follow(superlink, there.run_id, config, folder, console, called)
            except NeverBegan as error:
                console.say(f"{error}; it never began, so it is submitted again", style="yellow")
                there = _submit(superlink, config, folder, console, known)
                follow(superlink, there.run_id, config, folder, console, called)


def follow(
    superlink: SuperLink,
    run_id: str,
    config: Config,
    folder: Path,
    console: Terminal,
    called: tuple[list[Harmless], list[Own]],
    *,
    again: bool = False,
    watching: bool = False,
) -> None:
    """Follow a run to its end; arguments and errors as of `Follower`."""
    tracked, own = called
    if again:
        rows = load(folder / METRICS, whole_rows) if is_there(folder / METRICS) else []
        for each in tracked:
            each.drawn = tuple(rows[:-1])  # the last may not have come so far
    console.say(f"Flower run {run_id} on {superlink.name}; its log: {folder / LOG}")
    Follower(superlink, run_id, config, folder, console, tracked, again, own, watching).follow()


def _submit(
    superlink: SuperLink, config: Config, folder: Path, console: Terminal, known: Submitted | None
) -> Submitted:
    """Submit a run, or the rest of one; keep what finds it again, should this process be killed."""
    run_dir = known.run_dir if known else server_folder(config, folder)
    sent = replace(config, tracking={}, callbacks=None)
    run_config: dict[str, str | bool] = {"config": to_json(sent), "run-dir": run_dir}
    run_config |= {"log-stream": True, "report": False}  # it is made here
    with tempfile.TemporaryDirectory(prefix="nufed-") as scratch:
        app = lay_out(Path(scratch))
        if config.resume is not None and not (known and known.run_id):  # it ran here so far
            _require_same_server(known, superlink, config, folder)
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
        found = superlink.find(known.run_id)
    ended = found is None or found.over
    if ended and not (found and found.status == COMPLETED and unread(folder)):
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


def unread(folder: Path) -> bool:
    """Tell whether the end of a run that completed never came here."""
    file = folder / SUMMARY
    return not is_there(file) or "stopped" in load(file, partial(read_json, checked_summary))
