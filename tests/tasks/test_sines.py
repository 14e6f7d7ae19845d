"""Sine waves: what a client's rows say of its wave is what was drawn."""

import numpy as np
import pytest

from nufed.conf.compose import compose_config
from nufed.conf.errors import InputError
from nufed.tasks.datasets import sines
from nufed.tasks.task import build


def fitted(x: np.ndarray, y: np.ndarray) -> tuple[float, float, float]:
    """Return amplitude, phase and residual: A sin(x − φ) = (A cos φ) sin x − (A sin φ) cos x."""
    basis = np.stack([np.sin(x), -np.cos(x)], axis=1)
    (a, b), _, _, _ = np.linalg.lstsq(basis, y, rcond=None)
    return float(np.hypot(a, b)), float(np.arctan2(b, a)), float(np.std(y - basis @ [a, b]))


def test_the_train_rows_of_a_client_tell_its_wave() -> None:
    """Ten of them, by least squares; and the test rows lie on the same wave."""
    rows = sines.read(num_clients=50, train_rows=10, test_rows=30, noise=0.0, seed=3)
    amplitude, phase = sines.clients(50, seed=3)
    assert rows.client is not None
    assert rows.test is not None
    assert rows.x.shape == (2000, 1)
    assert rows.y.shape == (2000,)
    for client in range(50):
        own = rows.client == client
        assert np.bincount(rows.test[own]).tolist() == [10, 30]
        for part in (own & ~rows.test, own & rows.test):
            found = fitted(rows.x[part, 0], rows.y[part])
            assert found == pytest.approx((amplitude[client], phase[client], 0), abs=1e-9)


def test_waves_and_rows_fill_the_ranges_of_the_paper() -> None:
    """Means and extremes of uniform draws, of 4,000 clients: within four standard errors."""
    rows = sines.read(num_clients=4000, train_rows=1, test_rows=1, noise=0.0, seed=0)
    amplitude, phase = sines.clients(4000, seed=0)
    drawn = (amplitude, 0.1, 5.0), (phase, 0.0, np.pi), (rows.x.ravel(), -5.0, 5.0)
    for values, low, high in drawn:
        width = high - low
        assert low <= values.min() < low + 0.01 * width
        assert high - 0.01 * width < values.max() <= high
        error = width / np.sqrt(12 * len(values))
        assert values.mean() == pytest.approx((low + high) / 2, abs=4 * error)


def test_the_mean_of_all_waves_is_the_closed_form() -> None:
    """E[A] E[sin(x − φ)] = −2.55 (2/π) cos x: what a model without fine-tuning can know."""
    amplitude, phase = sines.clients(100_000, seed=1)
    x = np.linspace(-5, 5, 11)
    mean = (amplitude[:, None] * np.sin(x - phase[:, None])).mean(0)
    np.testing.assert_allclose(mean, -2.55 * 2 / np.pi * np.cos(x), atol=0.03)


def test_noise_has_its_standard_deviation_and_moves_y_alone() -> None:
    clean, noisy = (sines.read(100, 10, 90, noise, seed=0) for noise in (0.0, 0.5))
    np.testing.assert_array_equal(clean.x, noisy.x)
    added = noisy.y - clean.y
    assert added.std() == pytest.approx(0.5, rel=0.03)
    assert abs(added.mean()) < 4 * 0.5 / 100


def test_the_seed_draws_it() -> None:
    a, b, c = (sines.read(5, 10, 30, 0.1, seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(a.y, b.y)
    assert not np.isin(a.x, c.x).any()


def test_a_task_of_it_is_a_regression_for_the_network_of_the_paper() -> None:
    """1 → 40 → 40 → 1, 1,761 parameters; 10 train and 30 test rows a client."""
    task = build(compose_config(["dataset=sines"]))
    assert not task.classification
    assert sum(p.numel() for p in task.initial_params().values()) == 80 + 1640 + 41
    assert task.data.num_clients == 200
    part = task.data.partition
    assert (len(part.train_rows(7)), len(part.test_rows(7))) == (10, 30)


@pytest.mark.parametrize("model", ["linear", "logistic", "mlp"])
def test_another_model_is_given_nothing_of_it(model: str) -> None:
    """Were the layers a key of the data set, models without such a key would refuse it."""
    build(compose_config(["dataset=sines", f"model={model}"])).initial_params()


@pytest.mark.parametrize(
    "override",
    [
        *("dataset.num_clients=0", "dataset.train_rows=0", "dataset.test_rows=0"),
        *("dataset.noise=-0.1", "dataset.noise=nan", "dataset.noise=inf"),
        *("dataset.num_clients=100000000000", "dataset.num_clients=1.5", "dataset.noise=much"),
    ],
)
def test_what_cannot_be_drawn_is_refused_in_one_line(override: str) -> None:
    with pytest.raises(InputError) as error:
        build(compose_config(["dataset=sines", override]))
    assert "\n" not in str(error.value)
    assert override.split("=")[0].split(".")[1] in str(error.value) or "sines" in str(error.value)
