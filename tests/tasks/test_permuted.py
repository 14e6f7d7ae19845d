"""Permuted labels: a client's are the source's by one permutation, which its group shares."""

import numpy as np
import pytest

from nufed.conf.compose import compose_config
from nufed.conf.errors import InputError
from nufed.tasks.datasets import digits, fashion_mnist, permuted
from nufed.tasks.rows import Rows
from nufed.tasks.task import build
from tests.helpers import require_data

DIGITS = "nufed.tasks.datasets.digits.read"


def permutations(rows: Rows) -> list[tuple[int, ...]]:
    """Return of each client what it calls the digits 0 … 9, after a look at the source."""
    source = digits.read()
    label = {image.tobytes(): y for image, y in zip(source.x, source.y, strict=True)}
    meant = np.array([label[image.tobytes()] for image in rows.x])
    assert rows.client is not None
    found = []
    for client in range(rows.client.max() + 1):
        pairs = set(zip(meant[rows.client == client], rows.y[rows.client == client], strict=True))
        called = dict(pairs)
        assert len(pairs) == len(called) == 10, "one name for each digit"
        assert set(called.values()) == set(range(10)), "and one digit for each name"
        found.append(tuple(called[digit] for digit in range(10)))
    return found


def test_each_client_permutes_the_labels_in_its_own_way() -> None:
    """Permuted back they are the source's; every row once."""
    rows = permuted.read(DIGITS, 17, 100, None, seed=0)
    assert len({image.tobytes() for image in rows.x}) == len(rows.x) == 1700
    assert len(set(permutations(rows))) == 17


def test_clients_of_a_group_share_a_permutation() -> None:
    found = permutations(permuted.read(DIGITS, 16, 110, 3, seed=0))
    assert len(set(found)) == 3
    assert all(found[client] == found[client % 3] for client in range(16))


def test_a_name_stands_for_the_same_digit_by_chance_alone() -> None:
    """A random permutation keeps one of ten in place, whatever there are of: 400 of these."""
    rows = permuted.read(f"{__name__}.all_digits_to_everyone", 400, 120, None, seed=0)
    kept = (rows.x[:, 0] == rows.y).mean()
    assert kept == pytest.approx(0.1, abs=4 * 0.1 / np.sqrt(400))


def all_digits_to_everyone() -> Rows:
    labels = np.arange(48_000) % 10
    return Rows(labels[:, None], labels)


def test_the_seed_draws_it() -> None:
    a, b, c = (permuted.read(DIGITS, 4, 100, None, seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(a.x, b.x)
    np.testing.assert_array_equal(a.y, b.y)
    assert not set(permutations(a)) & set(permutations(c))


def test_of_fashion_mnist_are_100_clients_with_50_images() -> None:
    require_data(fashion_mnist.DEBIAN_PACKAGE)
    data = build(compose_config(["dataset=permuted"])).data
    assert (data.num_clients, data.x.shape, data.num_outputs) == (100, (5000, 28, 28), 10)


@pytest.mark.parametrize(
    ("override", "remedy"),
    [
        ("dataset.groups=0", "between 1 and 5"),
        ("dataset.groups=6", "between 1 and 5"),
        ("dataset.num_clients=1000", "between 1 and 898"),
        ("dataset.rows_per_client=1", "between 2 and 359"),
    ],
)
def test_what_cannot_be_dealt_out_is_named(override: str, remedy: str) -> None:
    chosen = ["dataset=permuted", f"dataset.source={DIGITS}", "dataset.num_clients=5", override]
    with pytest.raises(InputError, match=remedy) as error:
        build(compose_config(chosen))
    assert override in str(error.value)
