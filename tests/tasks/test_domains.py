"""Cameras: what each makes of pixels is its closed form, and nothing else of a row changes."""

import numpy as np
import pytest
from numpy.typing import NDArray

from nufed.conf.compose import compose_config
from nufed.conf.errors import InputError
from nufed.tasks.datasets import digits, domains, fashion_mnist
from nufed.tasks.datasets.domains import DOMAINS
from nufed.tasks.rows import Rows
from nufed.tasks.task import build
from tests.helpers import require_data

DIGITS = "nufed.tasks.datasets.digits.read"


def seen(name: str, x: NDArray[np.float64]) -> NDArray[np.float64]:
    return DOMAINS[name](x, np.random.default_rng(0))


def images(*shape: int) -> NDArray[np.float64]:
    return np.random.default_rng(1).random(shape)


def test_clients_take_turns_at_the_domains_and_rows_are_the_source_s() -> None:
    source = digits.read()
    label = {image.tobytes(): y for image, y in zip(source.x, source.y, strict=True)}
    rows = domains.read(DIGITS, 17, 100, ["inverted", "plain", "edges"], seed=0)
    as_dealt = domains.read(DIGITS, 17, 100, ["plain"], seed=0)
    assert [label[image.tobytes()] for image in as_dealt.x] == as_dealt.y.tolist()
    assert len({image.tobytes() for image in as_dealt.x}) == len(as_dealt.x) == 1700
    assert rows.client is not None
    np.testing.assert_array_equal(rows.client, np.repeat(np.arange(17), 100))
    np.testing.assert_array_equal(rows.y, as_dealt.y)
    turn = rows.client % 3
    np.testing.assert_array_equal(rows.x[turn == 0], 1 - as_dealt.x[turn == 0])
    np.testing.assert_array_equal(rows.x[turn == 1], as_dealt.x[turn == 1])
    assert rows.x.dtype == source.x.dtype
    differ = (rows.x[turn == 2] != as_dealt.x[turn == 2]).any((1, 2))
    assert differ.all()


@pytest.mark.parametrize("name", DOMAINS)
@pytest.mark.parametrize("shape", [(3, 8, 8), (3, 28, 20), (2, 3, 32, 32)])
def test_an_image_is_seen_by_itself_and_keeps_its_shape(name: str, shape: tuple[int, ...]) -> None:
    """Neither other images nor other colours shine through."""
    x = images(*shape)
    whole = seen(name, x)
    assert whole.shape == shape
    if name == "noisy":
        return
    for i in range(shape[0]):
        np.testing.assert_allclose(whole[i : i + 1], seen(name, x[i : i + 1]))
    if len(shape) == 4:
        np.testing.assert_allclose(whole[:, 1], seen(name, x[:, 1]))


def test_blur_keeps_the_brightness_and_spreads_a_point_by_its_deviation() -> None:
    x = np.zeros((1, 41, 41))
    x[0, 20, 20] = 1
    found = seen("blurred", x)[0]
    assert found.sum() == pytest.approx(1, abs=1e-9)
    row, _ = np.mgrid[:41, :41] - 20.0
    assert np.sqrt((found * row**2).sum()) == pytest.approx(41 / 20, rel=0.01)


def test_noise_is_that_of_its_deviation_in_each_pixel() -> None:
    x = np.full((50, 20, 20), 0.5)
    added = seen("noisy", x) - x
    assert added.std() == pytest.approx(0.3, rel=0.02)
    assert abs(np.corrcoef(added[:, 0, 0], added[:, 0, 1])[0, 1]) < 4 / np.sqrt(50)


def test_pale_and_shaded_are_their_closed_forms() -> None:
    x = images(2, 28, 28)
    np.testing.assert_allclose(seen("pale", np.array([[[0.0, 0.5, 1.0]]])), [[[0.35, 0.5, 0.65]]])
    np.testing.assert_allclose(seen("shaded", x)[..., 0], x[..., 0])
    np.testing.assert_allclose(seen("shaded", x)[..., 27], 0.2 * x[..., 27])


def test_edges_are_where_a_step_is_and_nowhere_else() -> None:
    x = np.zeros((1, 9, 9))
    x[0, :, 5:] = 0.8
    expected = np.tile(0.8 * np.isin(np.arange(9), [4, 5]), (9, 1))
    np.testing.assert_allclose(seen("edges", x)[0], expected)
    np.testing.assert_allclose(seen("edges", np.full((1, 9, 9), 0.7)), 0)


@pytest.mark.parametrize(("side", "block"), [(28, 4), (21, 3), (8, 2)])
def test_coarse_has_the_mean_of_each_block(side: int, block: int) -> None:
    x = images(2, side, side)
    blocks = x.reshape(2, side // block, block, side // block, block).mean((2, 4))
    expected = np.kron(blocks, np.ones((1, block, block)))
    np.testing.assert_allclose(seen("coarse", x), expected)


def test_of_pixels_of_a_byte_come_such_again() -> None:
    """255 − x to the bit, by default names of 100 clients; what leaves the range is cut off."""
    require_data(fashion_mnist.DEBIAN_PACKAGE)
    data = build(compose_config(["dataset=domains"])).data
    assert (data.num_clients, data.x.shape, data.num_outputs) == (100, (5000, 28, 28), 10)
    assert data.x.dtype == np.uint8
    source = compose_config(["dataset=domains"]).dataset["source"]
    as_dealt = domains.read(source, 100, 50, ["plain"], seed=0)
    assert as_dealt.client is not None
    turn = as_dealt.client % 5
    np.testing.assert_array_equal(data.x[turn == 1], 255 - as_dealt.x[turn == 1])
    np.testing.assert_array_equal(data.y, as_dealt.y)
    dark = as_dealt.x[turn == 3] == 0
    half = (np.asarray(data.x)[turn == 3][dark] == 0).mean()
    assert half == pytest.approx(0.5, abs=0.01)  # P(noise < half a step) = 0.5026


def test_the_seed_draws_it() -> None:
    a, b, c = (domains.read(DIGITS, 4, 10, ["noisy"], seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(a.x, b.x)
    assert (a.x != c.x).any()


@pytest.mark.parametrize(
    ("override", "remedy"),
    [
        ("dataset.domains=[]", "a list of plain, inverted"),
        ("dataset.domains=[plain,sketch]", "a list of plain, inverted"),
        ("dataset.domains=[plain,noisy,pale,edges,coarse,shaded]", "no more than clients"),
        ("dataset.rows_per_client=400", "between 2 and 359"),
        ("dataset.source=tests.tasks.test_domains.no_images", "no images"),
        ("dataset.source=tests.tasks.test_domains.beyond", r"nor reals in \[0, 1\]"),
        ("dataset.source=tests.tasks.test_domains.of_bits", "neither uint8 nor reals"),
    ],
)
def test_what_no_camera_takes_is_named(override: str, remedy: str) -> None:
    chosen = ["dataset=domains", f"dataset.source={DIGITS}", "dataset.num_clients=5"]
    with pytest.raises(InputError, match=remedy) as error:
        build(compose_config([*chosen, "dataset.rows_per_client=10", override]))
    assert "\n" not in str(error.value)


def no_images() -> Rows:
    return Rows(np.zeros((100, 5)), np.arange(100) % 2)


def beyond() -> Rows:
    return Rows(np.full((100, 4, 6), 1.5), np.arange(100) % 2)


def of_bits() -> Rows:
    """Return what a blur would round to 0."""
    return Rows(np.ones((100, 4, 6), np.int64), np.arange(100) % 2)
