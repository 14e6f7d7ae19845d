"""The meta-gradient against closed forms, and against plain autograd through the inner loop."""

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nufed.client_app.meta_gradient import MODES, adapt, meta_gradient, value_and_meta_gradient
from nufed.tasks.models import cnn, mlp
from nufed.theory import quadratics
from tests.client_app.algorithms.two_layers import BODY, HEAD, Point, anil, batch, drawn
from tests.client_app.algorithms.two_layers import loss_fn as two_layers
from tests.client_app.algorithms.two_layers import support as batches_of
from tests.helpers import (
    cosine,
    distance,
    network,
    quadratic_loss,
    random_quadratics,
    unrolled_meta_gradient,
)

ROOT = Path(__file__).parents[2]
STEPS = range(11)
DIMENSIONS = [1, *np.random.default_rng(0).integers(2, 40, size=2).tolist()]
TIGHT = 1e-10
ALPHA = 0.4


def quadratic_case(
    dimension: int, nu: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, tuple[Tensor, ...], tuple[Tensor, ...]]:
    """A random client (H, c), a point w, and the client's data as ν support batches and a query."""
    hessians, optima = random_quadratics(1, dimension, seed=100 * dimension + nu)
    w = np.random.default_rng(nu).normal(size=dimension)
    hessian, optimum = torch.from_numpy(hessians[0]), torch.from_numpy(optima[0])
    support = (hessian.expand(nu, -1, -1), optimum.expand(nu, -1))
    return hessians[0], optima[0], w, support, (hessian, optimum)


@pytest.mark.parametrize("nu", STEPS)
@pytest.mark.parametrize("dimension", DIMENSIONS)
class TestClosedForms:
    """Every quantity of a quadratic client, for ν = 0 … 10 and several dimensions."""

    def test_fine_tuned_point(self, dimension: int, nu: int) -> None:
        h, c, w, support, _ = quadratic_case(dimension, nu)
        theta = adapt(quadratic_loss, {"w": torch.from_numpy(w)}, support, alpha=ALPHA)["w"]
        assert np.abs(theta.numpy() - quadratics.fine_tuned(h, c, w, ALPHA, nu)).max() < TIGHT

    def test_meta_loss(self, dimension: int, nu: int) -> None:
        h, c, w, support, query = quadratic_case(dimension, nu)
        value, _ = value_and_meta_gradient(
            quadratic_loss, {"w": torch.from_numpy(w)}, support, query, alpha=ALPHA
        )
        assert abs(float(value) - quadratics.meta_loss(h, c, w, ALPHA, nu)) < TIGHT

    @pytest.mark.parametrize("recompute", [False, True])
    def test_exact(self, dimension: int, nu: int, recompute: bool) -> None:
        h, c, w, support, query = quadratic_case(dimension, nu)
        gradient = meta_gradient(
            quadratic_loss,
            {"w": torch.from_numpy(w)},
            support,
            query,
            alpha=ALPHA,
            recompute=recompute,
        )
        assert (
            np.abs(gradient["w"].numpy() - quadratics.meta_gradient(h, c, w, ALPHA, nu)).max()
            < TIGHT
        )

    def test_first_order(self, dimension: int, nu: int) -> None:
        h, c, w, support, query = quadratic_case(dimension, nu)
        gradient = meta_gradient(
            quadratic_loss,
            {"w": torch.from_numpy(w)},
            support,
            query,
            alpha=ALPHA,
            mode="first_order",
        )
        assert (
            np.abs(gradient["w"].numpy() - quadratics.first_order(h, c, w, ALPHA, nu)).max() < TIGHT
        )

    def test_hessian_free_is_exact_on_quadratics(self, dimension: int, nu: int) -> None:
        h, c, w, support, query = quadratic_case(dimension, nu)
        gradient = meta_gradient(
            quadratic_loss, {"w": torch.from_numpy(w)}, support, query,
            alpha=ALPHA, mode="hessian_free", delta=0.5,
        )  # fmt: skip
        assert (
            np.abs(gradient["w"].numpy() - quadratics.meta_gradient(h, c, w, ALPHA, nu)).max()
            < TIGHT
        )


def test_hessian_batches_are_used_for_the_hessians_alone() -> None:
    """∇F = ∏(I − α H″_l) ∇f(θ^ν; D′), with the trajectory from D_l: each batch in its own place."""
    nu = 3
    hessians, optima = random_quadratics(2 * nu + 1, 4, seed=5)
    h, c = torch.from_numpy(hessians), torch.from_numpy(optima)
    w = np.random.default_rng(0).normal(size=4)

    theta = w.copy()
    for step in range(nu):
        theta = quadratics.fine_tuned(hessians[step], optima[step], theta, ALPHA, 1)
    expected = hessians[-1] @ (theta - optima[-1])
    for step in reversed(range(nu)):
        expected = quadratics.contraction(hessians[nu + step], ALPHA) @ expected

    params = {"w": torch.from_numpy(w)}
    support, hessian, query = (h[:nu], c[:nu]), (h[nu:-1], c[nu:-1]), (h[-1], c[-1])
    for mode in ("exact", "hessian_free"):
        gradient = meta_gradient(
            quadratic_loss,
            params,
            support,
            query,
            alpha=ALPHA,
            mode=mode,
            hessian=hessian,
            delta=0.1,
        )
        assert np.abs(gradient["w"].numpy() - expected).max() < TIGHT


def test_a_stack_of_clients_is_each_client_alone() -> None:
    nu, n = 5, 7
    hessians, optima = random_quadratics(n, 4, seed=3)
    h, c = torch.from_numpy(hessians), torch.from_numpy(optima)
    w = torch.from_numpy(np.random.default_rng(1).normal(size=(n, 4)))
    for mode in MODES:
        value, stacked = value_and_meta_gradient(
            quadratic_loss, {"w": w}, (h.expand(nu, -1, -1, -1), c.expand(nu, -1, -1)), (h, c),
            alpha=ALPHA, mode=mode,
        )  # fmt: skip
        assert value.shape == (n,)
        for i in range(n):
            support = h[i].expand(nu, -1, -1), c[i].expand(nu, -1)
            params, query = {"w": w[i]}, (h[i], c[i])
            alone = meta_gradient(quadratic_loss, params, support, query, alpha=ALPHA, mode=mode)
            assert float((stacked["w"][i] - alone["w"]).abs().max()) < TIGHT


def network_case(kind: str, nu: int):
    """A network with random support and query batches of 8 rows."""
    torch.manual_seed(nu)
    shape = (5,) if kind == "smooth" else (8, 8)
    module = {
        "smooth": nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 3)),
        "mlp": mlp((8, 8), 3, [16]),
        "cnn": cnn((8, 8), 3, [4, 8], 16, kernel=3, padding=1),
    }[kind]
    loss, params = network(module)
    support = torch.randn(nu, 8, *shape, dtype=torch.float64), torch.randint(3, (nu, 8))
    query = torch.randn(8, *shape, dtype=torch.float64), torch.randint(3, (8,))
    return loss, params, support, query


@pytest.mark.parametrize("kind", ["mlp", "cnn"])
@pytest.mark.parametrize("nu", [0, 1, 2, 5])
@pytest.mark.parametrize("recompute", [False, True])
def test_exact_equals_the_full_unroll(kind: str, nu: int, recompute: bool) -> None:
    loss, params, support, query = network_case(kind, nu)
    ours = meta_gradient(loss, params, support, query, alpha=0.3, recompute=recompute)
    assert distance(ours, unrolled_meta_gradient(loss, params, support, query, 0.3)) < TIGHT


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("hessians_apart", [False, True])
def test_a_step_size_for_each_parameter_that_is_the_same_one(
    mode: str, hessians_apart: bool
) -> None:
    loss, params, support, query = network_case("smooth", 3)
    hessian = (support[0].flip(0), support[1].flip(0)) if hessians_apart else None
    alike = {name: torch.tensor(0.3, dtype=torch.float64) for name in params}
    one, each = (
        value_and_meta_gradient(
            loss, params, support, query, alpha=alpha, mode=mode, hessian=hessian, delta=1e-5
        )
        for alpha in (0.3, alike)
    )
    # Central differences are of another length, α v, and divide what rounding leaves by 2δ.
    assert distance(one.gradient, each.gradient) < (1e-10 if mode == "hessian_free" else 1e-12)
    assert abs(float(one.value - each.value)) < 1e-12
    theta = adapt(loss, params, support, alpha=alike)
    assert distance(theta, adapt(loss, params, support, alpha=0.3)) < 1e-12


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("nu", [1, 3])
def test_a_part_alone_is_fine_tuned(nu: int, masked: bool) -> None:
    """A parameter of step size 0, or of none, stays inside; its meta-gradient has the Hessians."""
    at, inner, outer = Point(0.7, -1.1), drawn(nu, seed=1), drawn(1, seed=2)[0]
    alpha = {HEAD: torch.tensor(0.3, dtype=torch.float64)}
    alpha |= {BODY: torch.zeros((), dtype=torch.float64)} if masked else {}
    exact, first = anil(at, inner, outer, 0.3)
    for mode, expected, within in (
        ("exact", exact, TIGHT),
        ("first_order", first, TIGHT),
        ("hessian_free", exact, 1e-7),  # δ² times third derivatives
    ):
        gradient = meta_gradient(
            two_layers, at.params, batches_of(inner), batch(outer),
            alpha=alpha, mode=mode, delta=1e-4,
        )  # fmt: skip
        assert (float(gradient[BODY]), float(gradient[HEAD])) == pytest.approx(expected, abs=within)
    assert abs(exact.u - first.u) > 0.01


@pytest.mark.parametrize("mode", MODES)
def test_a_stack_whose_clients_have_step_sizes_of_their_own(mode: str) -> None:
    nu, n = 3, 5
    hessians, optima = random_quadratics(n, 4, seed=3)
    h, c = torch.from_numpy(hessians), torch.from_numpy(optima)
    random = np.random.default_rng(1)
    w, sizes = (torch.from_numpy(random.uniform(size=(n, 4))) for _ in range(2))
    stacked = meta_gradient(
        quadratic_loss, {"w": w}, (h.expand(nu, -1, -1, -1), c.expand(nu, -1, -1)), (h, c),
        alpha={"w": sizes}, mode=mode,
    )  # fmt: skip
    for i in range(n):
        support = h[i].expand(nu, -1, -1), c[i].expand(nu, -1)
        alone = meta_gradient(
            quadratic_loss, {"w": w[i]}, support, (h[i], c[i]), alpha={"w": sizes[i]}, mode=mode
        )
        assert float((stacked["w"][i] - alone["w"]).abs().max()) < TIGHT
        # ∇F = (I − H diag a)^ν H (θ^ν − c) by hand: the sizes stand to the right of H.
        theta, factor = w[i], torch.eye(4, dtype=torch.float64)
        for _ in range(nu):
            theta = theta - sizes[i] * (h[i] @ (theta - c[i]))
            factor = factor @ (torch.eye(4, dtype=torch.float64) - h[i] * sizes[i])
        expected = h[i] @ (theta - c[i])
        expected = expected if mode == "first_order" else factor @ expected
        assert float((alone["w"] - expected).abs().max()) < 1e-9


@pytest.mark.parametrize("nu", [1, 3])
def test_hessian_free_converges_at_order_two(nu: int) -> None:
    """Halving δ quarters the error on a smooth net: the slope is 2."""
    loss, params, support, query = network_case("smooth", nu)
    exact = meta_gradient(loss, params, support, query, alpha=0.3)
    errors = [
        distance(
            meta_gradient(
                loss, params, support, query, alpha=0.3, mode="hessian_free", delta=delta
            ),
            exact,
        )
        for delta in (0.1, 0.05, 0.025)
    ]
    slopes = [math.log2(errors[i] / errors[i + 1]) for i in range(2)]
    assert slopes == pytest.approx([2.0, 2.0], abs=0.1)


def test_first_order_is_another_direction_than_exact() -> None:
    """At ν = 5 the dropped Hessians turn the gradient by more than arccos 0.95: what others call
    MAML is first-order, and would fail here."""
    loss, params, support, query = network_case("mlp", 5)
    exact = meta_gradient(loss, params, support, query, alpha=0.5)
    first = meta_gradient(loss, params, support, query, alpha=0.5, mode="first_order")
    assert cosine(exact, first) < 0.95
    assert cosine(exact, unrolled_meta_gradient(loss, params, support, query, 0.5)) > 1 - TIGHT


def test_inputs_are_not_written_to() -> None:
    loss, params, support, query = network_case("mlp", 2)
    before = {name: p.clone() for name, p in params.items()}
    gradient = meta_gradient(loss, params, support, query, alpha=0.3)
    assert distance(params, before) == 0.0
    assert not any(p.requires_grad for p in (*params.values(), *gradient.values()))


def test_parameters_that_the_loss_ignores_or_takes_linearly() -> None:
    """They have no Hessian of their own, which autograd must be told."""

    def loss(params: dict[str, Tensor], x: Tensor) -> Tensor:
        return (params["curved"] ** 2).sum() + (params["linear"] * x).sum()

    params = {name: torch.ones(2, dtype=torch.float64) for name in ("curved", "linear", "unused")}
    x = torch.full((2,), 3.0, dtype=torch.float64)
    gradient = meta_gradient(loss, params, (x.expand(2, -1),), (x,), alpha=0.1)
    # curved: θ ← 0.8 θ twice, gradient 2 · 0.64, factors 0.8²; linear: its gradient, unchanged.
    assert gradient["curved"].tolist() == pytest.approx([2 * 0.8**4] * 2, abs=TIGHT)
    assert gradient["linear"].tolist() == [3.0, 3.0]
    assert gradient["unused"].tolist() == [0.0, 0.0]
    only_linear = meta_gradient(
        lambda p, x: (p["w"] * x).sum(),
        {"w": torch.ones(2)},
        (torch.ones(3, 2),),
        (torch.ones(2),),
        alpha=0.1,
    )
    assert only_linear["w"].tolist() == [1.0, 1.0]


@pytest.mark.parametrize("options", [{"recompute": True}, {"mode": "hessian_free"}])
def test_a_loss_that_draws_random_numbers_is_refused_where_it_would_be_wrong(options: dict) -> None:
    loss, params = network(nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5), nn.Linear(4, 2)))
    support = torch.randn(2, 3, 4, dtype=torch.float64), torch.randint(2, (2, 3))
    query = torch.randn(3, 4, dtype=torch.float64), torch.randint(2, (3,))
    with pytest.raises(ValueError, match="random numbers"):
        meta_gradient(loss, params, support, query, alpha=0.1, **options)
    assert meta_gradient(loss, params, support, query, alpha=0.1).keys() == params.keys()


def test_unknown_mode() -> None:
    with pytest.raises(ValueError, match=r"mode='maml'.*exact"):
        meta_gradient(quadratic_loss, {"w": torch.zeros(1)}, (), (), alpha=0.1, mode="maml")


@pytest.mark.parametrize("place", ["support", "hessian"])
def test_one_batch_where_a_row_of_them_is_meant_is_refused(place: str) -> None:
    """Else each row of the batch would be taken for a step, and numbers would come back."""
    loss, params, support, query = network_case("mlp", 8)
    batches = {"support": support, "hessian": support, place: query}
    with pytest.raises(ValueError, match=r"needs one more axis, ν, first"):
        meta_gradient(loss, params, query=query, alpha=0.1, **batches)


def test_no_mode_loads_a_compiler_or_computer_algebra() -> None:
    """Each costs every ClientApp process seconds."""
    code = (
        "import sys, torch\n"
        "from nufed.client_app.meta_gradient import MODES, meta_gradient\n"
        "x = torch.ones(2, 3)\n"
        "for mode in MODES:\n"
        "    meta_gradient(lambda p, x: (p['w'] * x).square().sum(), {'w': x[0]}, (x,), (x[0],),\n"
        "                  alpha=0.1, mode=mode)\n"
        "print(*{'torch._dynamo', 'sympy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.stdout.split(), done.stderr) == ([], "")
