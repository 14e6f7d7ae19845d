"""Each link of the README and of docs/ leads to something: a file, and a heading of it."""

import re
from pathlib import Path

import pytest

from tests.docs.commands import PAGES
from tests.docs.pages import ROOT

LINKS = [
    (page, link)
    for page in PAGES
    for link in re.findall(
        r"\]\(([^)\s]+)\)", re.sub(r"```.*?```", "", page.read_text(), flags=re.S)
    )
    if not link.startswith("http")
]


def anchors(page: Path) -> set[str]:
    """Return what GitHub calls the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in headings}


@pytest.mark.parametrize(("page", "link"), LINKS, ids=lambda each: Path(each).name)
def test_a_link_leads_somewhere(page: Path, link: str) -> None:
    name, _, anchor = link.partition("#")
    target = (page.parent / name).resolve() if name else page
    assert target.exists()
    assert target.is_relative_to(ROOT)
    assert not anchor or anchor in anchors(target)


def test_every_page_is_linked_from_the_readme() -> None:
    linked = {link.partition("#")[0] for page, link in LINKS if page.name == "README.md"}
    assert {str(page.relative_to(ROOT)) for page in PAGES[1:]} <= linked


def test_keys_that_pages_name_exist() -> None:
    """`algorithm.nu` and the like, in any text: what is renamed is renamed here too."""
    others = "py", "yaml", "crt", "safetensors", "example", "_target_"
    known = set(re.findall(r"^\| `([\w.]+)` ", (ROOT / "docs/configuration.md").read_text(), re.M))
    groups = {key.split(".")[0] for key in known if "." in key}
    for page in PAGES:
        for key in re.findall(r"`([a-z_]+(?:\.[a-z_]+)+)(?:=[^`]*)?`", page.read_text()):
            if key.split(".")[0] in groups and key.split(".")[-1] not in others:
                above = any(name.startswith(f"{key}.") for name in known)
                of_a_value = key.rpartition(".")[0] in known  # such as strategy.optimizer.lr
                assert key in known or above or of_a_value, f"{page.name}: {key}"
