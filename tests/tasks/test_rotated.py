"""Turned images: turned back they are the source's, and they mean what they meant."""

import numpy as np
import pytest

from nufed.conf.compose import compose_config
from nufed.conf.errors import InputError
from nufed.tasks.datasets import digits, fashion_mnist, rotated
from nufed.tasks.rows import Rows
from nufed.tasks.task import build
from tests.helpers import require_data

DIGITS = "nufed.tasks.datasets.digits.read"


def test_turned_back_every_image_is_one_of_the_source_with_its_label() -> None:
    """Each once; by another quarter none is, but what is the same upside down."""
    source = digits.read()
    label = {image.tobytes(): y for image, y in zip(source.x, source.y, strict=True)}
    rows = rotated.read(DIGITS, 20, 50, [0, 90, 180, 270], seed=1)
    assert rows.client is not None
    assert np.bincount(rows.client).tolist() == [50] * 20
    seen = set()
    for client in range(20):
        own = rows.client == client
        back = np.rot90(rows.x[own], -(client % 4), axes=(1, 2))
        found = [image.tobytes() for image in back]
        assert [label[each] for each in found] == rows.y[own].tolist()
        seen |= set(found)
        further = np.rot90(back, 1, axes=(1, 2))
        assert sum(image.tobytes() in label for image in further) < 5
    assert len(seen) == 1000


def test_a_quarter_turn_takes_the_right_side_to_the_top() -> None:
    """Counterclockwise: of [[1, 2], [3, 4]] what stood right, 2 and 4, lies above."""
    x = np.array([[[1, 2], [3, 4]]])
    np.testing.assert_array_equal(rotated.turned(x, 90), [[[2, 4], [1, 3]]])
    colours = np.stack([x, 10 * x], axis=1)
    np.testing.assert_array_equal(rotated.turned(colours, 90)[:, 1], [[[20, 40], [10, 30]]])


def test_other_angles_go_the_same_way_and_less_far() -> None:
    """A disc at 3 o'clock, 8 pixels from the centre, lies at 45° where it has to, in pixels."""
    rows, columns = np.mgrid[:29, :29] - 14.0
    disc = (255 * ((rows**2 + (columns - 8) ** 2) < 6)).astype(np.uint8)[None]
    for angle in (45.0, 89.9, 200.0):
        found = rotated.turned(disc, angle)
        assert found.dtype == np.uint8
        weight = found[0] / found.sum()
        at = (weight * columns).sum(), -(weight * rows).sum()
        expected = 8 * np.cos(np.deg2rad(angle)), 8 * np.sin(np.deg2rad(angle))
        assert at == pytest.approx(expected, abs=0.05)
        assert float(found.sum()) == pytest.approx(float(disc.sum()), rel=0.03)


def test_there_and_back_is_where_it_was_but_for_interpolation() -> None:
    smooth = np.exp(-((np.mgrid[:28, :28] - 13.5) ** 2).sum(0) / 100)[None].astype(np.float32)
    shifted = np.roll(smooth, 3, axis=2)
    there = rotated.turned(shifted, 30)
    back = rotated.turned(there, 330)
    assert back.dtype == np.float32
    inside = np.s_[:, 5:-5, 5:-5]
    assert abs(back - shifted)[inside].max() < 0.03
    assert abs(there - shifted)[inside].max() > 0.1


def test_the_seed_draws_it() -> None:
    a, b, c = (rotated.read(DIGITS, 4, 10, [0, 90], seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(a.x, b.x)
    assert (a.x != c.x).any()


def test_of_fashion_mnist_are_100_clients_with_50_images() -> None:
    require_data(fashion_mnist.DEBIAN_PACKAGE)
    data = build(compose_config(["dataset=rotated"])).data
    assert (data.num_clients, data.x.shape, data.num_outputs) == (100, (5000, 28, 28), 10)
    assert data.x.dtype == np.uint8


@pytest.mark.parametrize(
    ("override", "remedy"),
    [
        ("dataset.angles=[]", "a list of degrees"),
        ("dataset.angles=[0,360]", "from 0 to below 360"),
        ("dataset.angles=[-90]", "from 0 to below 360"),
        ("dataset.angles=[0,1,2,3,4,5]", "no more than clients"),
        ("dataset.rows_per_client=400", "between 2 and 359, for 5 clients share 1797 rows"),
        ("dataset.num_clients=0", "between 1 and 898"),
        ("dataset.source=tests.tasks.test_rotated.no_images", "no images"),
        ("dataset.source=tests.tasks.test_rotated.lying", "90 turns 4x6 into 6x4"),
    ],
)
def test_what_cannot_be_turned_is_named(override: str, remedy: str) -> None:
    chosen = ["dataset=rotated", f"dataset.source={DIGITS}", "dataset.num_clients=5"]
    with pytest.raises(InputError, match=remedy) as error:
        build(compose_config([*chosen, "dataset.rows_per_client=10", override]))
    assert "\n" not in str(error.value)


def no_images() -> Rows:
    return Rows(np.zeros((100, 5)), np.arange(100) % 2)


def lying() -> Rows:
    return Rows(np.zeros((100, 4, 6)), np.arange(100) % 2)
