"""Meta-SGD: the gradients of model and step sizes, against finite differences and by hand."""

from functools import partial

import pytest
import torch
from torch import Tensor, nn

from nufed.client_app.algorithm import local_update
from nufed.client_app.algorithms.meta_sgd import MetaSGD
from nufed.client_app.meta_gradient import LossFn, Params
from tests.client_app.algorithms.two_layers import (
    BODY,
    HEAD,
    KEYS,
    SIZES,
    TIGHT,
    Point,
    batch,
    by_body,
    by_head,
    drawn,
    loss_fn,
    support,
)
from tests.helpers import distance, network


def meta_sgd(**changes: object) -> MetaSGD:
    return MetaSGD(**{**KEYS, "nu": 1, **changes}, batch=SIZES)  # type: ignore[arg-type]


def walked(
    loss: LossFn, shared: Params, inner: tuple[Tensor, ...], outer: tuple[Tensor, ...]
) -> float:
    """F(w, a), by its definition."""
    theta = {name: p for name, p in shared.items() if not name.startswith("a/")}
    for step in range(len(inner[0])):
        leaves = {name: p.clone().requires_grad_() for name, p in theta.items()}
        value = loss(leaves, *(tensor[step] for tensor in inner))
        slopes = torch.autograd.grad(value, list(leaves.values()))
        moved = zip(theta.items(), slopes, strict=True)
        theta = {name: p - shared[f"a/{name}"] * g for (name, p), g in moved}
    return float(loss(theta, *outer))


@pytest.mark.parametrize("nu", [1, 3])
def test_both_gradients_against_finite_differences(nu: int) -> None:
    """Of a network with different step sizes in every entry, at every entry."""
    torch.manual_seed(nu)
    loss, model = network(nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)))
    inner = torch.randn(nu, 5, 3, dtype=torch.float64), torch.randint(2, (nu, 5))
    outer = torch.randn(5, 3, dtype=torch.float64), torch.randint(2, (5,))
    algorithm = meta_sgd(nu=nu, beta=1.0)
    shared = {
        name: p + 0.2 * torch.rand_like(p) * name.startswith("a/")
        for name, p in algorithm.shared(model).items()
    }
    step = algorithm.step(loss, {"w": shared}, {"support": inner, "query": outer})
    assert float(step.loss) == pytest.approx(walked(loss, shared, inner, outer), abs=TIGHT)
    delta = 1e-5
    for name, p in shared.items():
        found = (p - step.carry["w"][name]).flatten()  # β = 1
        for at in range(p.numel()):
            sides = []
            for sign in (1, -1):
                moved = p.clone()
                moved.view(-1)[at] += sign * delta
                sides.append(walked(loss, shared | {name: moved}, inner, outer))
            assert float(found[at]) == pytest.approx((sides[0] - sides[1]) / (2 * delta), abs=2e-9)


def test_one_inner_step_by_hand() -> None:
    """∂F/∂a = −∇f(w; D) ⊙ ∇f(θ; D′): where two gradients agree, the step grows, as published."""
    at, inner, outer = Point(0.7, -1.1), drawn(1, seed=1), drawn(1, seed=2)[0]
    for mode in ("exact", "first_order"):
        algorithm = meta_sgd(mode=mode, tau=1)
        given = local_update(
            algorithm,
            partial(algorithm.step, loss_fn),
            algorithm.shared(at.params),
            {},
            [{"support": support(inner), "query": batch(outer)}],
        )
        g = Point(by_body(at, inner[0]), by_head(at, inner[0]))
        theta = Point(at.u - 0.3 * g.u, at.h - 0.3 * g.h)
        v = Point(by_body(theta, outer), by_head(theta, outer))
        assert float(given.update[f"a/{BODY}"]) == pytest.approx(-0.2 * g.u * v.u, abs=TIGHT)
        assert float(given.update[f"a/{HEAD}"]) == pytest.approx(-0.2 * g.h * v.h, abs=TIGHT)
        plain = (float(given.update[BODY]), float(given.update[HEAD]))
        assert (plain == pytest.approx((0.2 * v.u, 0.2 * v.h), abs=TIGHT)) == (
            mode == "first_order"
        )


def test_first_order_over_several_steps() -> None:
    """v stays ∇f(θ^ν; D′): ∂F/∂a ≈ −Σ_l ∇f(θ^l; D_l) ⊙ v."""
    at, inner, outer = Point(0.7, -1.1), drawn(3, seed=1), drawn(1, seed=2)[0]
    algorithm = meta_sgd(nu=3, mode="first_order", beta=1.0)
    start = algorithm.shared(at.params)
    batches = {"support": support(inner), "query": batch(outer)}
    end = algorithm.step(loss_fn, {"w": start}, batches).carry["w"]
    total = Point(0.0, 0.0)
    for rows in inner:
        g = Point(by_body(at, rows), by_head(at, rows))
        total = Point(total.u + g.u, total.h + g.h)
        at = Point(at.u - 0.3 * g.u, at.h - 0.3 * g.h)
    assert float(end[f"a/{BODY}"]) == pytest.approx(0.3 + total.u * by_body(at, outer), abs=TIGHT)
    assert float(end[f"a/{HEAD}"]) == pytest.approx(0.3 + total.h * by_head(at, outer), abs=TIGHT)


def test_a_personal_model_takes_steps_of_the_learned_sizes() -> None:
    at, rows = Point(0.7, -1.1), drawn(1, seed=3)
    algorithm = meta_sgd()
    shared = algorithm.shared(at.params)
    assert {name: float(p) for name, p in shared.items()} == {
        BODY: 0.7, HEAD: -1.1, f"a/{BODY}": 0.3, f"a/{HEAD}": 0.3,
    }  # fmt: skip
    learned = shared | {f"a/{HEAD}": torch.tensor([-0.5], dtype=torch.float64)}
    before, after = algorithm.personal(loss_fn, learned, {}, support(rows))
    assert distance(before, at.params) == 0
    assert float(after[BODY]) == pytest.approx(0.7 - 0.3 * by_body(at, rows[0]), abs=TIGHT)
    assert float(after[HEAD]) == pytest.approx(-1.1 + 0.5 * by_head(at, rows[0]), abs=TIGHT)


def test_what_it_costs() -> None:
    assert [meta_sgd(nu=5, mode=mode).gradients for mode in ("exact", "first_order")] == [16, 6]
