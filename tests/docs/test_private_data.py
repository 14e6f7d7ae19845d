"""docs/deployment.md, each its own data: the command that `check` prints is there, and fits."""

import shlex
from pathlib import Path

import pytest

from nufed.conf.compose import compose_config
from nufed.tasks.private import Local
from nufed.tasks.task import build
from tests.docs.pages import run, sections, shown, type_in

pytestmark = pytest.mark.docs

TEXT = sections("deployment.md")["Several machines"]


def test_the_whole_command_of_private_data(tmp_path: Path) -> None:
    run(
        sections("quick-start.md")["Your data, in one file"].split("nufed-data")[0] + "```",
        tmp_path,
    )
    asked, *told, whole = shown(TEXT)
    printed = type_in(shlex.split(asked), tmp_path).splitlines()
    assert printed[-2:] == told
    file = tmp_path / "mine.npz"
    for command in (whole, told[0].replace("SERVER:PORT", "a:1").replace("=N", "=120")):
        config = compose_config(shlex.split(command)[1:])
        server, node = build(config), build(config, Local(str(file), 2, 4))
        assert server.data.num_clients == 120
        assert node.size == server.size
        assert node.data.partition.train.nonzero()[0].tolist() == [*range(2, 120, 4)]
