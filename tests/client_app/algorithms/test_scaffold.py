"""SCAFFOLD: control variates, and where rounds with all clients lead with and without them."""

import numpy as np
import pytest
import torch
from numpy.linalg import matrix_power, solve

from nufed.client_app.algorithm import BatchSizes
from nufed.client_app.algorithms.scaffold import Scaffold
from nufed.client_app.messages import Numbers
from nufed.client_app.meta_gradient import Params
from nufed.conf.errors import InputError
from tests.client_app.algorithms.quadratic import (
    ALPHA,
    BETA,
    DIMENSION,
    TIGHT,
    Array,
    Quadratic,
    curve_of,
    off,
    params,
    point,
    quadratics,
    train_on,
)

TAU = 3
EYE = np.eye(DIMENSION)


def scaffold(tau: int = TAU, sampled: int = 2, clients: int = 5) -> Scaffold:
    batch = BatchSizes(support=None, query=None)
    made = Scaffold(name="scaffold", alpha=ALPHA, beta=BETA, tau=tau, batch=batch)
    return made.of_federation(sampled, clients)


def shared_of(w: Array, c: Array) -> Params:
    return params(**{"w": w, "c/w": c})


def end_of(client: Quadratic, w: Array, correction: Array, tau: int = TAU) -> Array:
    """w_τ: SGD on f with a constant added to its gradient, whose minimum lies elsewhere."""
    m = client.optimum - solve(client.hessian, correction)
    return m + matrix_power(EYE - BETA * client.hessian, tau) @ (w - m)


def test_all_control_variates_begin_at_zero() -> None:
    algorithm, w = scaffold(), point(0)
    assert off(algorithm.shared(params(w=w)), **{"w": w, "c/w": np.zeros(DIMENSION)}) == 0
    assert off(algorithm.state(params(w=w)), w=np.zeros(DIMENSION)) == 0


def test_a_step() -> None:
    """w − β (∇f + c − c_i); after one step c_i⁺ is the gradient itself; 2 of 5 clients move c."""
    (client,) = quadratics()
    w, c, own = point(0), point(1), point(2)
    done = train_on(client, scaffold(tau=1), shared_of(w, c), params(w=own))
    g = client.gradient(w)
    assert off(done.update, **{"w": BETA * (g + c - own), "c/w": -2 / 5 * (g - own)}) < TIGHT
    assert off(done.state, w=g) < TIGHT
    assert float(done.norm) == pytest.approx(np.linalg.norm(g + c - own), abs=TIGHT)
    assert float(done.loss) == pytest.approx(client.loss(w), abs=TIGHT)


def test_two_rounds() -> None:
    """c_i⁺ = c_i − c + (w_0 − w_τ) / (τ β), and the next round's correction is made of it."""
    (client,) = quadratics()
    algorithm, own = scaffold(), np.zeros(DIMENSION)
    state = params(w=own)
    for w, c in ((point(0), point(1)), (point(3), point(4))):
        done = train_on(client, algorithm, shared_of(w, c), state)
        end = end_of(client, w, c - own)
        kept = own - c + (w - end) / (TAU * BETA)
        assert off(done.update, **{"w": w - end, "c/w": -2 / 5 * (kept - own)}) < TIGHT
        assert off(done.state, w=kept) < TIGHT
        own, state = kept, done.state


def rounds(clients: list[Quadratic], drawn: int, count: int) -> tuple[Array, Array, list[Array]]:
    """Return w, c and all c_i after rounds as the server has them: the mean update subtracted."""
    algorithm = scaffold(tau=10, sampled=drawn, clients=len(clients))
    shared = algorithm.shared(params(w=np.zeros(DIMENSION)))
    states = [params(w=np.zeros(DIMENSION)) for _ in clients]
    random = np.random.default_rng(0)
    for _ in range(count):
        some = random.choice(len(clients), drawn, replace=False)
        updates = list[Params]()
        for i in some:
            done = train_on(clients[i], algorithm, shared, states[i])
            states[i] = done.state
            updates.append(done.update)
        mean = {name: torch.stack([u[name] for u in updates]).mean(0) for name in shared}
        shared = {name: p - mean[name] for name, p in shared.items()}
    return shared["w"].numpy(), shared["c/w"].numpy(), [state["w"].numpy() for state in states]


@pytest.mark.parametrize("drawn", [2, 4])
def test_c_is_the_mean_of_all_clients_variates(drawn: int) -> None:
    """Also where not all are drawn: that is what |S|/n is for."""
    clients = quadratics(4)
    _, c, own = rounds(clients, drawn, 7)
    assert np.abs(c - np.mean(own, 0)).max() < TIGHT


def test_clients_do_not_drift() -> None:
    """All c_i end at ∇f_i(w*), and w at the optimum of the mean loss; without them it does not."""
    clients = quadratics(4)
    best = solve(
        np.sum([c.hessian for c in clients], 0), np.sum([c.hessian @ c.optimum for c in clients], 0)
    )
    w, c, own = rounds(clients, 4, 150)
    assert np.abs(w - best).max() < TIGHT
    assert np.abs(c).max() < TIGHT
    for client, variate in zip(clients, own, strict=True):
        assert np.abs(variate - client.gradient(best)).max() < TIGHT
    drifted = best
    for _ in range(150):
        zero = np.zeros(DIMENSION)
        drifted = np.mean([end_of(client, drifted, zero, 10) for client in clients], 0)
    assert np.abs(drifted - best).max() > 0.01


def test_fine_tuning_is_of_the_model_alone() -> None:
    (client,) = quadratics()
    w = point(0)
    curve = curve_of(client, scaffold(), shared_of(w, point(1)), params(w=point(2)), 3)
    for k, model in enumerate(curve):
        factor = matrix_power(EYE - ALPHA * client.hessian, k)
        assert np.abs(model - client.optimum - factor @ (w - client.optimum)).max() < TIGHT


def test_the_part_that_is_drawn_reaches_the_clients() -> None:
    """By the numbers of the round; what a person set stays."""
    asked = scaffold(sampled=3, clients=12)
    batch = BatchSizes(support=None, query=None)
    own = Scaffold(name="scaffold", alpha=ALPHA, beta=BETA, tau=TAU, batch=batch)
    assert Numbers.of(asked).into(own).participation == 0.25
    assert (
        Scaffold(name="scaffold", alpha=ALPHA, beta=BETA, tau=TAU, batch=batch, participation=0.5)
        .of_federation(3, 12)
        .participation
        == 0.5
    )
    with pytest.raises(InputError, match=r"algorithm\.participation=1\.5: must be above 0"):
        scaffold(sampled=3, clients=2)
