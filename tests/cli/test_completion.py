"""What TAB completes, asked for as bash does, with what `nufed --shell-completion` installs."""

import os
import subprocess
from pathlib import Path

import pytest

from nufed.conf.compose import CONFIG_DIR
from tests import forked

SCRIPT = """
eval "$(nufed --shell-completion install=bash)"
complete -p nufed
COMP_LINE=$1 COMP_POINT=${#1}
COMP_WORDS=($1) COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
hydra_bash_completion
printf '%s\\n' "${COMPREPLY[@]}"
"""


def completed(line: str, folder: Path) -> list[str]:
    """Return what a TAB at the end of a line offers."""
    path = f"{forked.scripts()}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", SCRIPT, "bash", line],
        cwd=folder,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    installed, *offered = done.stdout.split("\n")
    assert installed.startswith("complete ")
    return list(filter(None, offered))


def options(group: str) -> list[str]:
    return [f"{group}={file.stem}" for file in sorted((CONFIG_DIR / group).glob("*.yaml"))]


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("nufed algor", ["algorithm.", "algorithm="]),
        ("nufed algorithm=", options("algorithm")),
        ("nufed -m dataset=digits engine=", options("engine")),
        ("nufed algorithm.b", ["algorithm.batch.", "algorithm.beta="]),
        ("nufed dataset=quadratics dataset.cu", ["dataset.curvature."]),  # of that option alone
        ("nufed dataset.cu", []),
        ("nufed -m hydra/launcher=jo", ["hydra/launcher=joblib"]),
        ("nufed dataset=npz dataset.path=./mi", ["dataset.path=./mine.npz"]),
    ],
)
def test_a_tab_offers_groups_options_keys_and_files(
    line: str, offered: list[str], tmp_path: Path
) -> None:
    (tmp_path / "mine.npz").touch()
    assert completed(line, tmp_path) == offered
    assert [file.name for file in tmp_path.iterdir()] == ["mine.npz"], "nothing is run"
