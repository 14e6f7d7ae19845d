"""Clients that name the classes in their own way: the same rows, each once, under other names."""

import numpy as np
import pytest

from nufed.conf.compose import compose_config
from nufed.conf.errors import InputError
from nufed.tasks.datasets import digits, own_labels
from nufed.tasks.task import build

DIGITS = "nufed.tasks.datasets.digits.read"


def test_a_client_holds_its_classes_under_names_of_its_own() -> None:
    """Every name stands for one class of the source, and clients disagree about which."""
    source = digits.read()
    label = {image.tobytes(): y for image, y in zip(source.x, source.y, strict=True)}
    rows = own_labels.read(DIGITS, num_clients=20, classes=4, rows_per_class=6, seed=1)
    assert rows.client is not None
    assert np.bincount(rows.client).tolist() == [24] * 20
    assert len({image.tobytes() for image in rows.x}) == len(rows.x) == 480
    meant = []
    for client in range(20):
        own = rows.client == client
        original = np.array([label[image.tobytes()] for image in rows.x[own]])
        names = rows.y[own]
        assert np.bincount(names).tolist() == [6] * 4
        classes = [set(original[names == name]) for name in range(4)]
        assert all(len(of) == 1 for of in classes)
        meant.append(tuple(next(iter(of)) for of in classes))
        assert len(set(meant[-1])) == 4
    assert len(set(meant)) > 15


def test_the_seed_draws_it() -> None:
    a, b, c = (own_labels.read(DIGITS, 5, 3, 4, seed) for seed in (0, 0, 1))
    assert (a.x == b.x).all()
    assert not (a.x == c.x).all()


@pytest.mark.parametrize(
    ("override", "remedy"),
    [
        ("dataset.classes=11", "between 2 and 10"),
        ("dataset.num_clients=0", "between 1 and"),
        ("dataset.rows_per_class=1", "between 2 and"),
        ("dataset.rows_per_class=100", "for 30 clients, at most [0-9]+"),
        ("dataset.num_clients=1000", "too many for 1797 rows"),
        (
            "dataset.source=nufed.tasks.datasets.absent.read",
            "dataset.source=nufed.tasks.datasets.absent.read",
        ),
    ],
)
def test_what_cannot_be_dealt_out_is_named(override: str, remedy: str) -> None:
    chosen = ["dataset=own_labels", f"dataset.source={DIGITS}", "dataset.num_clients=30", override]
    with pytest.raises(InputError, match=remedy) as error:
        build(compose_config(chosen))
    assert override.split("=")[0] in str(error.value)
