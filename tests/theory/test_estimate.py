"""The estimates: against closed forms of quadratics, and dense Hessians of a small network."""

import math
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.func import hessian, vmap

from nufed.client_app.lanczos import lanczos
from nufed.client_app.meta_gradient import Params
from nufed.conf.compose import compose_config
from nufed.tasks.datasets.quadratics import clients
from nufed.tasks.task import Task, build
from nufed.theory import quadratics
from nufed.theory.constants import Method
from nufed.theory.ensemble import Ensemble
from nufed.theory.estimate import Effort, Estimates, estimate
from nufed.theory.sampled import mean_square

FLOAT64 = "engine.precision=float64"
QUADRATICS = ["dataset=quadratics", "dataset.num_clients=6", "dataset.correlation=0.5", FLOAT64]
NETWORK = ["dataset=digits", "partition.num_clients=60", "model.hidden=[3]", FLOAT64]
ALPHA, NU = 0.6, 3


def values(found: Estimates) -> dict[str, float]:
    return {name: estimate.value for name, estimate in found.of.items()}


def norm(matrix: np.ndarray) -> float:
    return float(np.linalg.norm(matrix, 2))


@pytest.mark.parametrize("nu", [0, 1, NU])
def test_quadratics_have_the_constants_of_their_closed_forms(nu: int) -> None:
    """L, l, B, γ_G and γ_H from H_i and c_i; σ_G and σ_H from the rows behind them."""
    task = build(compose_config(QUADRATICS))
    (w,) = task.initial_params().values()
    start = w.numpy().flatten()
    of, c = clients(6, 5, (0.05, 1.0), 0.5, seed=0)
    mean, among = of.mean(0), range(6)
    paths = [[quadratics.fine_tuned(of[i], c[i], start, ALPHA, s) for i in among] for s in range(4)]
    gradients = [[of[i] @ (at[i] - c[i]) for i in among] for at in paths[: nu + 1]]

    common, spreads = start, []
    for _ in range(nu + 1):
        each = np.einsum("nij,nj->ni", of, common - c)
        spreads.append(np.mean(np.sum((each - each.mean(0)) ** 2, 1)))
        common = common - ALPHA * each.mean(0)

    row_gradients, row_hessians = [], []
    for i in among:
        rows = task.batch(task.data.partition.train_rows(i))[0].numpy()
        outer = np.einsum("ri,rj->rij", rows, rows) - of[i]
        row_hessians.append(np.mean(outer @ outer, 0))
        for at in (paths[0][i], paths[nu][i]):
            row_gradients.append(np.mean(np.sum((outer @ (at - c[i])) ** 2, 1)))

    eigenvalues = np.linalg.eigvalsh(of)
    expected = {
        "L": eigenvalues.max(),
        "negative": -eigenvalues.min(),
        "rho": 0.0,
        "B": max(np.linalg.norm(g) for at in gradients for g in at),
        "sigma_G": math.sqrt(max(row_gradients)),
        "sigma_H": math.sqrt(max(map(norm, row_hessians))),
        "gamma_G": math.sqrt(max(spreads)),
        "gamma_H": math.sqrt(norm(np.mean((of - mean) @ (of - mean), 0))),
    }
    found = estimate(task, [task.initial_params()], Method(ALPHA, nu), list(among))
    assert values(found) == pytest.approx(expected, rel=1e-10, abs=1e-10)
    assert found.constants.negative == values(found)["negative"]
    errors = [error for each in found.of.values() for error in each.errors.values()]
    assert max(errors) < 1e-10, "every client, every row, every eigenvalue"


class Dense(NamedTuple):
    """A client at a point: its Hessian [P, P], and its rows' gradients and Hessians."""

    hessian: Tensor
    row_gradients: Tensor
    row_hessians: Tensor

    @property
    def gradient(self) -> Tensor:
        return self.row_gradients.mean(0)


def dense(task: Task, ensemble: Ensemble, theta: Tensor, client: int) -> Dense:
    """Return everything by autograd on one row at a time."""
    x, y = task.batch(task.data.partition.train_rows(client))

    def loss(flat: Tensor, x: Tensor, y: Tensor) -> Tensor:
        return task.loss(ensemble.params(flat), x[None], y[None])

    gradients = vmap(torch.func.grad(loss), (None, 0, 0))(theta, x, y)
    hessians = vmap(hessian(loss), (None, 0, 0))(theta, x, y)
    return Dense(hessians.mean(0), gradients, hessians)


def spectral(matrix: Tensor) -> float:
    return float(torch.linalg.matrix_norm(matrix, 2))


def test_a_network_has_the_constants_of_its_dense_hessians() -> None:
    """Every quantity anew, one client, row and point after another, from matrices."""
    task, among = build(compose_config([*NETWORK, "seed=1"])), [3, 41]
    w, method = task.initial_params(), Method(0.5, 2)
    ensemble = Ensemble(task, among, 2, 999, np.random.default_rng(0))
    points, thetas = list[list[Dense]](), [ensemble.flat(w)] * 2
    lengths = []
    for _ in range(3):
        points.append([dense(task, ensemble, t, i) for t, i in zip(thetas, among, strict=True)])
        moves = [0.5 * at.gradient for at in points[-1]]
        thetas = [t - move for t, move in zip(thetas, moves, strict=True)]
        lengths.append([float(move.norm()) for move in moves])
    every, ends = [at for some in points for at in some], points[0] + points[-1]

    common, gamma_g, gamma_h = ensemble.flat(w), [], []
    for _ in range(3):
        here = [dense(task, ensemble, common, i) for i in among]
        gradients = torch.stack([at.gradient for at in here])
        apart = torch.stack([at.hessian for at in here])
        apart = apart - apart.mean(0)
        gamma_g.append(float((gradients - gradients.mean(0)).square().sum(1).mean()))
        gamma_h.append(spectral((apart @ apart).mean(0)))
        common = common - 0.5 * gradients.mean(0)

    eigenvalues = [torch.linalg.eigvalsh(at.hessian) for at in every]
    steps = list(zip(points, points[1:], lengths, strict=False))
    rows = [(at.row_gradients - at.gradient).square().sum(1).mean() for at in ends]
    row_hessians = [at.row_hessians - at.hessian for at in ends]
    expected = {
        "L": max(float(some.abs().max()) for some in eigenvalues),
        "negative": max(-float(some.min()) for some in eigenvalues),
        "rho": max(
            spectral(after.hessian - before.hessian) / length
            for step in steps
            for before, after, length in zip(*step, strict=True)
        ),
        "B": max(float(at.gradient.norm()) for at in every),
        "sigma_G": math.sqrt(max(rows)),
        "sigma_H": math.sqrt(max(spectral((some @ some).mean(0)) for some in row_hessians)),
        "gamma_G": math.sqrt(max(gamma_g)),
        "gamma_H": math.sqrt(max(gamma_h)),
    }
    found = estimate(task, [w], method, among, effort=Effort(steps=60))
    assert values(found) == pytest.approx(expected, rel=1e-6)

    hasty = estimate(task, [w], method, among)
    for name, each in hasty.of.items():
        assert expected[name] * 0.9 < each.value < expected[name] * (1 + 1e-9), name
        assert each.value + 3 * each.error > expected[name] * (1 - 1e-9), name


def test_the_largest_over_several_models_is_given() -> None:
    task = build(compose_config(QUADRATICS))
    near, far = task.initial_params(), {"weight": torch.full((1, 5), 7.0)}
    (name,) = near
    far = {name: far["weight"].to(torch.float64)}
    method, among = Method(ALPHA, NU), range(6)
    both, one, other = (
        estimate(task, some, method, among) for some in ([near, far], [near], [far])
    )
    assert values(both)["B"] == pytest.approx(values(other)["B"])
    assert values(other)["B"] > 2 * values(one)["B"]


def test_fewer_clients_are_a_lower_estimate_with_an_error() -> None:
    many = ["dataset=quadratics", "dataset.num_clients=60", "dataset.seed=1", FLOAT64]
    task = build(compose_config(many))
    w, method = task.initial_params(), Method(ALPHA, 1)
    whole = values(estimate(task, [w], method, range(60), effort=Effort(clients=60)))
    some = [
        estimate(task, [w], method, range(60), effort=Effort(clients=12), seed=seed)
        for seed in range(10)
    ]
    assert {(found.clients, found.all_clients) for found in some} == {(12, 60)}
    for name in ("L", "B", "sigma_G", "sigma_H"):
        assert max(values(found)[name] for found in some) <= whole[name] * (1 + 1e-12)
    for name in ("gamma_G", "gamma_H"):  # means over clients: as often above as below
        off = np.array([(found.of[name].value - whole[name]) for found in some])
        errors = np.array([found.of[name].errors["clients"] for found in some])
        assert 0.4 < np.sqrt(np.mean(off**2) / np.mean(errors**2)) < 2, name


def test_a_sample_is_right_on_average_and_as_far_off_as_it_says() -> None:
    """Ten of forty vectors, 4000 times: the mean of what they say is what all of them say."""
    random = torch.Generator().manual_seed(0)
    every = torch.randn(40, 6, generator=random, dtype=torch.float64)
    truth = float((every - every.mean(0)).square().sum(1).mean())
    drawn = torch.stack(
        [mean_square(every[torch.randperm(40, generator=random)[:10]], 40) for _ in range(4000)]
    )
    assert float(drawn[:, 0].mean()) == pytest.approx(truth, rel=0.01)
    assert float(drawn[:, 1].mean()) == pytest.approx(float(drawn[:, 0].std()), rel=0.15)
    assert mean_square(every, 40).tolist() == [pytest.approx(truth), 0.0]


def test_few_rows_say_how_far_off_they_are() -> None:
    """The errors cover what all rows give, within three of them."""
    task = build(compose_config(["partition.num_clients=10", "model=logistic", FLOAT64]))
    w, method = task.initial_params(), Method(0.05, 1)
    whole = estimate(task, [w], method, range(10), effort=Effort(rows=10**6))
    few = estimate(task, [w], method, range(10), effort=Effort(rows=40))
    assert few.rows == 40
    assert whole.rows == whole.all_rows == few.all_rows > 100
    for name in ("L", "B", "gamma_G", "gamma_H"):
        assert few.of[name].errors["rows"] > 0
        assert abs(few.of[name].value - whole.of[name].value) < 3 * few.of[name].error, name
    assert values(whole)["negative"] < 1e-12, "convex"


def test_the_meta_gradient_of_an_ensemble_is_that_of_the_closed_form() -> None:
    task = build(compose_config(QUADRATICS))
    of, c = clients(6, 5, (0.05, 1.0), 0.5, seed=0)
    ensemble = Ensemble(task, range(6), 6, 5, np.random.default_rng(0))
    w = ensemble.flat(task.initial_params())
    loss, gradient = ensemble.meta(w, Method(ALPHA, NU))
    for i in range(6):
        exact = quadratics.meta_gradient(of[i], c[i], w.numpy(), ALPHA, NU)
        assert np.abs(gradient[i].numpy() - exact).max() < 1e-12
        assert float(loss[i]) == pytest.approx(
            quadratics.meta_loss(of[i], c[i], w.numpy(), ALPHA, NU)
        )


class Dropping(torch.nn.Sequential):
    """Half of its inputs are dropped while it trains."""

    def __init__(self) -> None:
        super().__init__(torch.nn.Flatten(), torch.nn.Dropout(0.5), torch.nn.Linear(64, 10))


def test_dropout_is_left_out_and_left_on() -> None:
    model = ["model=custom", "model._target_=tests.theory.test_estimate.Dropping"]
    task = build(compose_config([*model, "partition.num_clients=20", FLOAT64]))
    w: Params = task.initial_params()
    twice = [estimate(task, [w], Method(0.05, 1), range(20)) for _ in range(2)]
    assert values(twice[0]) == values(twice[1])
    assert task.module.training


def test_a_loss_that_is_not_finite_gives_nan() -> None:
    """A diagnosis must not end the run that it is of. Hessians of quadratics are the same there."""
    task = build(compose_config(QUADRATICS))
    w, method = task.initial_params(), Method(1e200, 2)
    absurd = {name: torch.full_like(p, 1e200) for name, p in w.items()}
    found = values(estimate(task, [absurd], method, range(6)))
    usual = values(estimate(task, [w], Method(ALPHA, 2), range(6)))
    for name in ("rho", "B", "sigma_G", "gamma_G"):
        assert math.isnan(found[name]), name
    for name in ("L", "negative", "sigma_H", "gamma_H"):
        assert found[name] == pytest.approx(usual[name])


def test_lanczos_finds_both_ends_of_many_spectra_at_once() -> None:
    """Of full, singular and zero matrices, and of one with two eigenvalues; all of 30 steps."""
    random = torch.Generator().manual_seed(1)
    matrices = torch.randn(4, 30, 30, generator=random, dtype=torch.float64)
    matrices = matrices + matrices.mT
    matrices[1] = matrices[1][:, :3] @ matrices[1][:, :3].mT
    matrices[2] = 0
    matrices[3] = torch.diag(torch.tensor([2.0] * 10 + [-5.0] * 20, dtype=torch.float64))

    def product(v: Tensor) -> Tensor:
        return (matrices @ v[..., None])[..., 0]

    whole = lanczos(product, matrices[:, 0], 99, random)
    exact = torch.linalg.eigvalsh(matrices)
    assert float((whole.lowest - exact[:, 0]).abs().max()) < 1e-12 * 100
    assert float((whole.highest - exact[:, -1]).abs().max()) < 1e-12 * 100
    assert whole.norm.tolist() == pytest.approx(exact.abs().amax(1).tolist(), abs=1e-10)
    along = product(whole.direction) - whole.highest[:, None] * whole.direction
    assert float(along.abs().max()) < 1e-10
    assert torch.linalg.vector_norm(whole.direction, dim=-1).tolist() == pytest.approx([1] * 4)

    for steps in (1, 5, 12):
        part = lanczos(product, matrices[:, 0], steps, random)
        assert bool((part.lowest >= exact[:, 0] - 1e-10).all()), "within the spectrum"
        assert bool((part.highest <= exact[:, -1] + 1e-10).all())
        nearest = (exact - part.highest[:, None]).abs().amin(1)
        assert bool((nearest <= part.highest_residual + 1e-10).all()), "and near an eigenvalue"


def test_lanczos_on_what_is_not_finite_says_so() -> None:
    random = torch.Generator().manual_seed(0)
    like = torch.ones(2, 5)
    bad = torch.tensor([[1.0], [torch.nan]])
    found = lanczos(lambda v: bad * v, like, 5, random)
    assert found.highest[0] == pytest.approx(1)
    assert math.isnan(found.highest[1])
    assert math.isnan(found.lowest[1])


def test_curvature_is_also_that_of_batches_where_they_serve_for_the_hessians() -> None:
    """A batch of one row a: its Hessian is a aᵀ, of norm |a|², beyond that of the mean."""
    task = build(compose_config(QUADRATICS))
    w, among = task.initial_params(), range(6)
    rows = [task.batch(task.data.partition.train_rows(i))[0] for i in among]
    largest_row = max(float(some.square().sum(1).max()) for some in rows)
    smallest_row = min(float(some.square().sum(1).max()) for some in rows)
    own = values(estimate(task, [w], Method(ALPHA, 1, support=1), among))
    shared = values(estimate(task, [w], Method(ALPHA, 1, support=1, shared=True), among))
    assert smallest_row <= shared["L"] <= largest_row * (1 + 1e-12)
    assert shared["L"] > 1.2 * own["L"]
    assert shared["negative"] == pytest.approx(0, abs=1e-12), "one row leaves directions flat"
    for name in ("B", "sigma_G", "gamma_G", "gamma_H"):
        assert shared[name] == own[name]
