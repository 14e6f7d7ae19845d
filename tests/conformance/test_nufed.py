"""NuFed's own functions pass, as anyone's would have to."""

from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from nufed.client_app import sampling
from nufed.client_app.algorithm import local_update
from nufed.client_app.algorithms.meta_gradient import MetaGradient, WithHessian
from nufed.client_app.meta_gradient import MODES, Batch, meta_gradient, trajectory
from nufed.client_app.personalization import personalization_curve
from nufed.conformance import check, from_gradient
from nufed.conformance.problems import quadratic
from nufed.tasks.streams import Purpose, stream
from nufed.theory import quadratics

DTYPES = [torch.float64, torch.float32]


def stacked(batches: list[Batch]) -> Batch:
    return tuple(torch.stack(each) for each in zip(*batches, strict=True))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
def test_meta_gradient(mode: str, recompute: bool, dtype: torch.dtype) -> None:
    def gradient(loss_fn, params, support, query, alpha):
        return meta_gradient(
            loss_fn, params, stacked(support), query, alpha=alpha, mode=mode, recompute=recompute
        )

    report = check(from_gradient(gradient), mode=mode, nu=(1, 5), dtype=dtype)
    assert all(each.passed for each in report.findings), str(report)


def losses(model: nn.Module, loss_fn):
    def loss(params: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        return loss_fn(functional_call(model, params, (x,)), y)

    return loss, {name: p.detach().clone() for name, p in model.named_parameters()}


def rounds(model, loss_fn, batches, alpha, beta, mode):
    """A client's round, as engines have it."""
    loss, w = losses(model, loss_fn)
    rows = WithHessian(support=None, query=None)
    nu, tau = len(batches[0][0]), len(batches)
    beta = max(beta, 1e-300)  # 0 is refused, and this is no step either
    algorithm = MetaGradient(
        name="nufed", nu=nu, tau=tau, alpha=alpha, beta=beta, mode=mode, batch=rows
    )
    drawn = [{"support": stacked(support), "query": query} for support, query in batches]
    trained = local_update(algorithm, partial(algorithm.step, loss), w, {}, drawn)
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.copy_(w[name] - trained.update[name])


@pytest.mark.parametrize("mode", MODES)
def test_a_clients_round(mode: str) -> None:
    report = check(local=partial(rounds, mode=mode), mode=mode)
    assert all(each.passed for each in report.findings), str(report)


@pytest.mark.parametrize("dtype", DTYPES)
def test_personalization_curves(dtype: torch.dtype) -> None:
    def evaluate(model, loss_fn, support, test, alpha):
        loss, w = losses(model, loss_fn)

        def metrics(params, x, y):
            right = functional_call(model, params, (x,)).argmax(1) == y
            return {"loss": loss(params, x, y), "accuracy": right.float().mean()}

        models = trajectory(loss, w, stacked(support), alpha=alpha)
        curve = personalization_curve(models, metrics, test)
        return {name: values.tolist() for name, values in curve.items()}

    report = check(evaluate=evaluate, dtype=dtype)
    assert all(each.passed for each in report.findings), str(report)


def test_batches_are_drawn_independently() -> None:
    random = stream(Purpose.TRAIN, 0)

    def draw(x, y):
        support, query = (sampling.draw(random, (n,), 20, len(x)) for n in (3, 1))
        return [(x[rows], y[rows]) for rows in support], (x[query[0]], y[query[0]])

    (finding,) = check(draw=draw).findings
    assert finding.passed
    assert finding.figure == pytest.approx(1 - 0.9**3, abs=0.05)


@pytest.mark.parametrize("nu", [1, 2, 5])
def test_the_quadratic_is_the_theorys(nu: int) -> None:
    """Each batch by itself has the f, and the meta-gradient, of the closed forms."""
    of = quadratic(nu, 0, torch.float64)
    h, c = of.hessian.numpy(), of.optimum.numpy()
    (w,) = of.problem.params["weight"].double().numpy()
    for step in of.problem.steps:
        for batch in (*step.support, step.query):
            value = of.problem.loss(of.problem.params, *batch)
            assert float(value) == pytest.approx(quadratics.meta_loss(h, c, w, 0.3, 0), rel=1e-12)
        ours = meta_gradient(
            of.problem.loss, of.problem.params, stacked(list(step.support)), step.query, alpha=0.3
        )["weight"][0]
        expected = quadratics.meta_gradient(h, c, w, 0.3, nu)
        assert ours.numpy() == pytest.approx(expected, abs=1e-12)
        assert len({float(batch[0].sum()) for batch in (*step.support, step.query)}) == nu + 1
