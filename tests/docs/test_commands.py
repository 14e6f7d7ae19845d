"""Every command of the README and of docs/ is understood by what it is typed to."""

import re
import shlex

import pytest

from nufed.conf.compose import compose_config
from nufed.conf.errors import InputError
from tests.docs.commands import PAGES, Command, check, commands

ALL = commands()


def test_there_are_commands_of_every_kind() -> None:
    kinds = {command.words[0] for command in ALL}
    ours = {"nufed", "nufed-adapt", "nufed-certify", "nufed-data", "nufed-keys", "nufed-report"}
    assert kinds >= ours | {"make", "flwr", "docker", "flower-superlink", "flower-supernode"}
    assert len(ALL) > 60


@pytest.mark.parametrize("command", ALL, ids=str)
def test_a_command_is_understood(command: Command) -> None:
    check(command)


@pytest.mark.parametrize(
    "line",
    [
        "nufed algorithm.ny=3",
        "nufed algorithm=fedavg,nufed",
        "nufed --hlep",
        "nufed ls engine.superlnk=prod",
        "nufed attach runs/a runs/b",
        "nufed-adapt checkpoint=run date=own.npz",
        "nufed-certify --epsilom 3",
        "nufed-report runs/a aim=3",
        "make tset",
        "python absent.py",
        "flwr run . --straem",
        "ray start --haed",
        "docker compose --profile secured up",
        "docker compose run nufed algorithm.ny=3",
        "rm -rf runs",
    ],
)
def test_a_mistake_in_a_page_would_be_found(line: str) -> None:
    with pytest.raises((Exception, SystemExit)):
        check(Command(PAGES[0], shlex.split(line)))


def test_flwr_runs_overrides_compose() -> None:
    for page in PAGES:
        for overrides in re.findall(r"overrides=\"([^\"]+)\"", page.read_text()):
            assert compose_config(shlex.split(overrides)).algorithm["nu"] == 3


def test_commands_within_the_text_are_understood_too() -> None:
    """Those without a gap, but for what has to be given besides."""
    found = {
        line
        for page in PAGES
        for line in re.findall(r"`(nufed(?:-\w+)? [^`]*)`", page.read_text().replace("\n", " "))
        if "=" in line and "…" not in line
    }
    assert len(found) > 5
    for line in sorted(found):
        try:
            check(Command(PAGES[0], shlex.split(line)))
        except InputError as error:
            assert "has no value" in str(error), line  # noqa: PT017
