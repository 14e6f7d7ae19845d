"""The commands that the README and docs/ tell people to type: whether each can be, what runs it."""

import re
import shlex
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple

from hydra import compose
from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from nufed.cli import adapt, attach, certify, data, data_prepare, keys, ls, report
from nufed.cli.run import typed
from nufed.cli.sweep import prepare_options
from nufed.conf.compose import composing
from nufed.conf.convert import to_config
from tests import forked
from tests.docs.pages import ROOT

OF_DEVELOPERS = [ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]
PAGES = [ROOT / "README.md", *OF_DEVELOPERS, *sorted((ROOT / "docs").glob("*.md"))]
RUN = re.compile(r"runs/[\w-]+(/[\d-]{10}_[\d-]{8})?")
"""What a run or sweep is called, by itself or by a person."""
COMPOSE = OmegaConf.load(ROOT / "docker-compose.yml")
IN_COMPOSE = ["engine=deployment", "engine.superlink=superlink:8000"]
SHELL = {"cp", "eval", "export", "pip", "source", "sudo", "tensorboard", "umask"}
"""Of the system, or of a package that is installed with NuFed."""

ALONE = "tests/docs/test_run_commands.py"
"""Runs what stands by itself."""
CLUSTERED = "tests/simulation/test_cluster.py"
DEPLOYED, COMPOSED = "tests/deployment/test_pages.py", "tests/compose/test_pages.py"
STORIES = {
    "conformance.md": "tests/docs/test_conformance.py",
    "extending.md": "tests/docs/test_extending.py",
    "own-data.md": "tests/docs/test_own_*.py",
    "personal-models.md": "tests/cli/test_adapt.py",
    "quick-start.md": "tests/docs/test_quick_start*.py",
}
"""Pages that are run from their beginning to their end."""


class Command(NamedTuple):
    """A line that a page shows."""

    page: Path
    words: list[str]

    def __str__(self) -> str:
        return f"{self.page.name}: {' '.join(self.words)}"


def commands() -> list[Command]:
    """Return every command of every block of commands; settings before one are left out."""
    found = list[Command]()
    for page in PAGES:
        for block in re.findall(r"```sh\n(.*?)```", page.read_text(), re.DOTALL):
            for line in block.replace("\\\n", " ").splitlines():
                words = shlex.split(line, comments=True)
                while words and re.match(r"[A-Z_]+=", words[0]):
                    words = words[1:]
                if words:
                    found.append(Command(page, words))
    return found


def place(command: Command) -> str:
    """Return what runs a command: the file of a test, or a pattern of several."""
    page, words = command.page.name, command.words
    if words[0] == "make":
        return "tests/test_readme.py" if words[1:] == ["demo"] else ".ci/run"
    if page in STORIES:
        return STORIES[page]
    if words[0] == "docker" or (words[0] in ("export", "umask") and page == "deployment.md"):
        return COMPOSED
    of_a_cluster = any(word.startswith("engine.ray_address=") for word in words)
    if of_a_cluster or words[0] == "ray" or (words[0] == "export" and page == "engines.md"):
        return CLUSTERED
    of_a_federation = words[0].startswith("flower-") or "engine=deployment" in words
    return DEPLOYED if of_a_federation or page == "deployment.md" else ALONE


def check(command: Command) -> None:
    """Fail unless a command is one that would be understood."""
    name, *words = command.words
    if name in CHECKS:
        CHECKS[name](words)
    elif name == "python":
        scripts = re.findall(r"```python\n# (\w+\.py)\n", command.page.read_text())
        there = words[0] in scripts or (ROOT / words[0]).is_file()
        assert there, f"{command.page.name} shows no {words[0]}"
    elif name in ("flower-superlink", "flower-supernode", "flwr", "ray"):
        program = [name, *words[: name in ("flwr", "ray")]]
        given = {word.partition("=")[0] for word in words if word.startswith("--")}
        unknown = given - options(*program)
        assert not unknown, f"{' '.join(program)}: {unknown}"
    else:
        assert name in SHELL, f"a command of no known kind: {command}"


def nufed(words: list[str]) -> None:
    """Compose what is typed; of what a sweep goes through, the first. Or read a command's words."""
    command = next((word for word in words if "=" not in word), "")
    if command in COMMANDS:
        COMMANDS[command]([word for word in words if word != command])
        return
    given = get_args_parser().parse_args(typed(words))
    if given.config_dir or given.shell_completion:
        return  # test_extending runs the one, tests/cli/test_completion the other
    parsed = OverridesParser.create().parse_overrides(given.overrides)
    sweeps = [each for each in parsed if each.is_sweep_override()]
    assert given.multirun or not sweeps, "several values take -m"
    composable = []
    for each in parsed:
        if each in sweeps and not each.is_choice_sweep() and not each.is_range_sweep():
            continue  # an interval, which has no first value
        value = str(next(iter(each.sweep_iterator()))) if each in sweeps else None
        composable.append(f"{each.key_or_group}={value}" if value else str(each.input_line))
    prepare_options()
    with composing():
        composed = compose("config", composable, return_hydra_config=True)
        OmegaConf.set_struct(composed, False)
        del composed["hydra"]
        to_config(composed)


def nufed_certify(words: list[str]) -> None:
    what = certify._parser().parse_args(words).what
    if any("=" in word for word in what):
        assert certify.subject(what)[1] is None
    else:
        assert all(map(RUN.fullmatch, what))


def nufed_report(words: list[str]) -> None:
    for word in report._parser().parse_args(words).what:
        assert word.partition("=")[0] in report.KEYS if "=" in word else RUN.fullmatch(word)


def nufed_data(words: list[str]) -> None:
    given = data._parser().parse_args(words)
    if words[0] == "prepare":
        assert data_prepare.request(given.what).table.endswith(".csv")
    else:
        (file,) = given.what
        assert file.endswith(".npz")


def make(words: list[str]) -> None:
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert set(words) <= set(targets)


def docker(words: list[str]) -> None:
    """Docker need not be there: profiles and services are read from docker-compose.yml."""
    assert words[0] == "compose"
    services = COMPOSE.services
    rest = words[1:]
    while rest[0] == "--profile":
        assert any(rest[1] in (each.get("profiles") or ()) for each in services.values())
        rest = rest[2:]
    verb, *rest = rest
    assert verb in ("build", "up", "run", "cp", "down")
    if verb == "cp":
        assert rest[0].split(":")[0] in services
    if verb == "run":
        place = next(i for i, word in enumerate(rest) if word in services)
        if rest[place].startswith("nufed"):
            nufed([*IN_COMPOSE, *rest[place + 1 :]])


@cache
def options(*program: str) -> set[str]:
    """Return the options that a program of Flower's or Ray's says it has."""
    done = forked.run([*program, "--help"], ROOT)
    assert done.status == 0, done.err
    return set(re.findall(r"--[\w-]+", done.out))


COMMANDS: dict[str, Callable[[list[str]], object]] = {"attach": attach.read, "ls": ls.read}
CHECKS = {
    "nufed": nufed,
    "nufed-adapt": adapt.request,
    "nufed-certify": nufed_certify,
    "nufed-data": nufed_data,
    "nufed-keys": keys._parser().parse_args,
    "nufed-report": nufed_report,
    "make": make,
    "docker": docker,
}
