"""docs/methods.md: of today, and its figures those that the algorithms themselves say."""

import re

import pytest

from nufed.cli.methods import PAGE, names, page

TEXT = PAGE.read_text()
HEAD, MODEL = 10 * 100 + 10, 64 * 100 + 100 + 2 * 100 + 10 * 100 + 10


def test_the_page_is_current() -> None:
    assert page() == TEXT, "make docs"


@pytest.mark.parametrize(
    ("name", "sent", "kept", "gradients"),
    [
        ("fedavg", 1, 0, 1),
        ("nufed", 1, 0, 16),  # 5 + 1 gradients, and 5 products of two each
        ("meta_sgd", 2, 0, 16),
        ("ditto", 1, 1, 2),
        ("local_only", 0, 1, 1),
        ("fedrep", 1 - HEAD / MODEL, HEAD / MODEL, 6),
        ("lg_fedavg", HEAD / MODEL, 1 - HEAD / MODEL, 1),
        ("scaffold", 2, 1, 1),
    ],
)
def test_what_a_method_costs(name: str, sent: float, kept: float, gradients: int) -> None:
    (row,) = re.findall(rf"^\| `{name}` .*\| (\S+) \| (\S+) \| (\S+) \|$", TEXT, re.MULTILINE)
    assert [*map(float, row)] == pytest.approx([sent, kept, gradients], rel=2e-3)


def test_all_are_listed() -> None:
    assert re.findall(r"^\| `(\w+)` ", TEXT, re.MULTILINE) == names()
