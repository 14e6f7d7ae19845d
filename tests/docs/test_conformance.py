"""docs/conformance.md: the code that it shows is checked as it says, and prints what is shown."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.pages import environment, run, sections, shown

pytestmark = pytest.mark.docs

TEXT = sections("conformance.md")


def test_what_is_wrong_is_called_by_its_name(tmp_path: Path) -> None:
    printed = run(TEXT["A step"], tmp_path).splitlines()
    assert shown(TEXT["A step"]) == [line.rstrip() for line in printed]


def test_what_is_put_right_passes_also_as_a_test(tmp_path: Path) -> None:
    assert run(TEXT["Put right"], tmp_path) == ""
    (tmp_path / "put_right.py").rename(tmp_path / "test_maml.py")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_maml.py"],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert "1 passed" in done.stdout, done.stdout + done.stderr


def test_other_ways_to_write_it(tmp_path: Path) -> None:
    assert run(TEXT["Other ways to write it"], tmp_path).split() == ["True"] * 3
