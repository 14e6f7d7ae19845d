"""docs/configuration.md: written from the code, as the code is now, and it leaves no key out."""

import re
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from nufed.conf.compose import CONFIG_DIR, compose_config
from nufed.conf.reference import PAGE, page
from tests.conf.test_options import FILES, NEEDED, override

TEXT = PAGE.read_text()
ROWS = dict(re.findall(r"^\| `([\w.]+)` \| .*? \| (.*) \|$", TEXT, re.MULTILINE))
INHERITED = ("_target_", "_partial_", "launcher")


def test_the_page_is_current() -> None:
    assert page() == TEXT, "make docs writes it anew"


def test_every_row_says_what_it_is() -> None:
    rows = re.findall(r"^\| (`.*`.*?) \|.* \| *(.*?) *\|$", TEXT, re.MULTILINE)
    assert len(rows) > 100
    assert [name for name, text in rows if len(text) < 3] == []


def test_every_option_is_there_with_what_it_is() -> None:
    for file in FILES:
        assert re.search(rf"^\| `{override(file)}`( \(default\))? \| \S.{{10,}} \|$", TEXT, re.M)


@pytest.mark.parametrize("file", [f for f in FILES if f.parent.name != "experiment"], ids=override)
def test_every_key_of_what_is_composed_is_there(file: Path) -> None:
    """Whatever option is chosen, each key that can be typed then has its row."""
    config = compose_config([override(file), *NEEDED.get(file.stem, [])])
    found = list(leaves(OmegaConf.to_container(OmegaConf.structured(config)), ""))
    groups = {each.name for each in CONFIG_DIR.iterdir() if each.is_dir()}
    names = {f"{group}.name" for group in groups} | {"tracking", "schedule"}  # of none
    assert [key for key in found if key not in ROWS and key not in names] == []


def leaves(node: object, prefix: str) -> list[str]:
    if not isinstance(node, dict) or not node:
        return [prefix]
    return [
        key
        for name, value in node.items()
        if name not in INHERITED
        for key in leaves(value, f"{prefix}.{name}".lstrip("."))
    ]
