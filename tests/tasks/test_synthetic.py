"""Synthetic(α, β): models, inputs, labels and sizes are those of its definition."""

import numpy as np
import pytest

from nufed.conf.compose import compose_config
from nufed.conf.errors import InputError
from nufed.tasks.datasets import synthetic
from nufed.tasks.task import build

FEDPROX = {"mean": 4.0, "sigma": 2.0, "least": 50, "most": 100_000}


def of_size(rows: int) -> dict[str, float]:
    return {"mean": 0.0, "sigma": 0.0, "least": rows, "most": rows}


def test_labels_are_those_of_each_clients_own_model() -> None:
    """For every row; the model of another client is right in little more than a row of ten."""
    rows = synthetic.read(1.0, 1.0, False, 30, FEDPROX, seed=2)
    w, b, _ = synthetic.clients(1.0, 1.0, False, 30, seed=2)
    assert rows.client is not None
    k = rows.client
    scores = np.einsum("nd,ndc->nc", rows.x, w[k]) + b[k]
    np.testing.assert_array_equal(scores.argmax(1), rows.y)
    other = (k + 1) % 30
    wrong = np.einsum("nd,ndc->nc", rows.x, w[other]) + b[other]
    assert (wrong.argmax(1) == rows.y).mean() < 0.25


def test_alpha_and_beta_are_standard_deviations() -> None:
    """Of 3,000 clients: var mean(W_k) = α² + 1 / 600, var mean(v_k) = β² + 1 / 60, within, 1.

    Of variances α = 0.5 would be 0.5; the standard error of one is √(2 / 3000), 2.6%.
    """
    w, b, v = synthetic.clients(0.5, 2.0, False, 3000, seed=0)
    assert w.mean((1, 2)).var() == pytest.approx(0.25 + 1 / 600, rel=0.1)
    assert v.mean(1).var() == pytest.approx(4.0 + 1 / 60, rel=0.1)
    assert w.var((1, 2)).mean() == pytest.approx(1 - 1 / 600, rel=0.01)
    assert v.var(1).mean() == pytest.approx(1 - 1 / 60, rel=0.01)
    # b_k has the u_k of W_k: cov = α², and so corr = α² / √((α² + 1/600) (α² + 1/10)).
    expected = 0.25 / np.sqrt((0.25 + 1 / 600) * (0.25 + 1 / 10))
    assert np.corrcoef(w.mean((1, 2)), b.mean(1))[0, 1] == pytest.approx(expected, abs=0.03)
    assert abs(np.corrcoef(w.mean((1, 2)), v.mean(1))[0, 1]) < 4 / np.sqrt(3000)


def test_inputs_have_the_diagonal_covariance() -> None:
    """Σ_jj = j^−1.2 of 40,000 rows, whose standard error is 0.7%; and correlations of none."""
    rows = synthetic.read(1.0, 1.0, False, 1, of_size(40_000), seed=5)
    (centre,) = synthetic.clients(1.0, 1.0, False, 1, seed=5)[2]
    covariance = np.cov(rows.x.astype(np.float64).T)
    expected = np.arange(1, 61) ** -1.2
    np.testing.assert_allclose(np.diag(covariance), expected, rtol=0.04)
    apart = np.corrcoef(rows.x.T)[np.triu_indices(60, 1)]
    assert abs(apart).max() < 5 / np.sqrt(40_000)
    np.testing.assert_array_less(abs(rows.x.mean(0) - centre), 5 * np.sqrt(expected / 40_000))


def test_labels_do_not_depend_on_alpha() -> None:
    """W_k = u_k + Z adds u_k (Σ x + 1) to the score of every class."""
    a, b = (synthetic.read(alpha, 1.0, False, 5, of_size(200), seed=1) for alpha in (0.0, 7.0))
    np.testing.assert_array_equal(a.x, b.x)
    np.testing.assert_array_equal(a.y, b.y)


def test_iid_is_one_model_and_inputs_around_zero() -> None:
    rows = synthetic.read(0, 0, True, 4, of_size(5000), seed=0)
    w, b, v = synthetic.clients(0, 0, True, 4, seed=0)
    assert (w == w[0]).all()
    assert (b == b[0]).all()
    assert not v.any()
    np.testing.assert_array_equal((rows.x @ w[0] + b[0]).argmax(1), rows.y)
    assert abs(rows.x[:, 0].mean()) < 5 / np.sqrt(20_000)


def test_sizes_are_the_log_normal_ones_of_fedprox() -> None:
    """Of 2,000 clients: least 50, median 50 + ⌊e⁴⌋ = 104, and a spread of 2 in the logarithm."""
    small = FEDPROX | {"most": 500}
    rows = synthetic.read(1.0, 1.0, False, 2000, small, seed=0)
    assert rows.client is not None
    size = np.bincount(rows.client)
    assert size.min() == 50
    assert size.max() == 500
    assert np.median(size) == pytest.approx(104, abs=8)
    # P(50 + exp(N(4, 4)) > 500) = P(z > (ln 450 − 4) / 2) = P(z > 1.0546) = 0.1458.
    assert (size == 500).mean() == pytest.approx(0.1458, abs=4 * np.sqrt(0.1458 * 0.8542 / 2000))


def test_the_seed_draws_it() -> None:
    a, b, c = (synthetic.read(1.0, 1.0, False, 5, of_size(30), seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(a.x, b.x)
    np.testing.assert_array_equal(a.y, b.y)
    assert (a.x != c.x).mean() > 0.99


def test_a_task_of_it_is_a_logistic_regression_for_30_clients() -> None:
    task = build(compose_config(["dataset=synthetic"]))
    assert task.data.num_clients == 30
    assert (task.data.x.shape[1:], task.data.num_outputs) == ((60,), 10)
    assert sum(p.numel() for p in task.initial_params().values()) == 61 * 10


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("dataset.alpha=-1", "dataset.alpha=-1"),
        ("dataset.beta=inf", "dataset.beta=inf: must be 0 or more"),
        ("dataset.iid=true", "dataset.alpha=1.0: must be 0 with dataset.iid=true"),
        ("dataset.num_clients=0", "dataset.num_clients=0: must be at least 1"),
        ("dataset.num_clients=100000000", "their models take"),
        ("dataset.sizes.mean=nan", "dataset.sizes.mean=nan"),
        ("dataset.sizes.sigma=-2", "dataset.sizes.sigma=-2"),
        ("dataset.sizes.least=1", "dataset.sizes.least=1: must be at least 2"),
        ("dataset.sizes.most=49", "dataset.sizes.most=49: must be from 50"),
        ("dataset.sizes={mean: 800, most: 900000000}", "rows take"),
        ("+dataset.sizes.median=4", "median"),
    ],
)
def test_what_cannot_be_drawn_is_refused_in_one_line(override: str, said: str) -> None:
    with pytest.raises(InputError) as error:
        build(compose_config(["dataset=synthetic", override]))
    assert said in str(error.value)
    assert "\n" not in str(error.value)
