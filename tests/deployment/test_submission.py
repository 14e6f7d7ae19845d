"""Submissions that cannot be: one line that names key, value and remedy, and no trace."""

import os
from pathlib import Path

import pytest

from nufed.simulation.flower_command import HOST, free_ports
from tests import forked


@pytest.mark.parametrize(
    ("superlink", "words"),
    [(HOST, ["no SuperLink answers there", "start one"]), ("prod", ["not found", "config.toml"])],
)
def test_a_superlink_that_is_not_there(tmp_path: Path, superlink: str, words: list[str]) -> None:
    """Nobody listens on the port, or Flower's configuration knows no such name."""
    if superlink == HOST:
        superlink = f"{HOST}:{free_ports(1)[0]}"
    environment = os.environ | {"FLWR_HOME": str(tmp_path / "home")}
    here = tmp_path / "here"
    here.mkdir()
    done = forked.run(
        ["nufed", "engine=deployment", f"engine.superlink={superlink}"], here, environment
    )
    assert done.status == 2
    assert done.err.count("\n") == 1, done.err
    assert done.err.startswith(f"nufed: engine.superlink={superlink}: ")
    assert [word for word in words if word not in done.err] == []
    assert list(here.iterdir()) == []
