"""Batch normalization whose running statistics are parameters: it is torch's, and nothing hides."""

import copy
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.fx.experimental.proxy_tensor import make_fx

from nufed.client_app.algorithm import algorithm_of
from nufed.client_app.meta_gradient import LossFn, Params, descend, value_and_gradient
from nufed.client_app.stacked_loss import repeated, stacked
from nufed.client_app.work import task_for
from nufed.conf.compose import compose_config
from nufed.conf.errors import InputError
from nufed.tasks.statistics import TrackedNorm, counting, statistics, tracked
from tests.helpers import distance

RATE = 0.1
TIGHT = 1e-12
K, STEPS, ROWS = 3, 4, 6


def flat(affine: bool = True) -> nn.Module:
    return nn.Sequential(
        nn.Linear(5, 4), nn.BatchNorm1d(4, affine=affine), nn.Tanh(), nn.Linear(4, 2)
    )


def images() -> nn.Module:
    return nn.Sequential(
        nn.Unflatten(1, (1, 1, 5)), nn.Conv2d(1, 3, (1, 2)), nn.BatchNorm2d(3, momentum=0.3),
        nn.Flatten(), nn.BatchNorm1d(12), nn.Linear(12, 2),
    )  # fmt: skip


def without_weights() -> nn.Module:
    return flat(affine=False)


def loss_of(module: nn.Module) -> tuple[LossFn, Params]:
    """Return a loss as `Task.loss` computes it, and the parameters."""

    def loss(params: Params, x: Tensor, y: Tensor, weight: Tensor | None = None) -> Tensor:
        with counting(weight):
            outputs = functional_call(module, params, (x,))
        off = (outputs - y).square().mean(1)
        return off.mean() if weight is None else (off * weight).sum() / weight.sum()

    return loss, {name: p.detach().clone() for name, p in module.named_parameters()}


def data(seed: int, rows: int = ROWS) -> tuple[Tensor, Tensor]:
    """Return batches [STEPS, K, rows, …]."""
    random = torch.Generator().manual_seed(seed)
    return (
        3 + 2 * torch.randn(STEPS, K, rows, 5, dtype=torch.float64, generator=random),
        torch.randn(STEPS, K, rows, 2, dtype=torch.float64, generator=random),
    )


def walked(loss: LossFn, params: Params, batches: Sequence[tuple[Tensor, ...]]) -> Params:
    """Descend, with steps of size 1 for statistics."""
    own = statistics(params)
    sizes = {n: p.new_tensor(1.0 if n in own else RATE) for n, p in params.items()}
    for batch in batches:
        params = descend(params, value_and_gradient(loss, params, batch).gradient, sizes)
    return params


def by_torch(module: nn.Module, x: Tensor, y: Tensor) -> nn.Module:
    """Train a copy of a module by torch alone."""
    module = copy.deepcopy(module)
    for rows, targets in zip(x, y, strict=True):
        module.zero_grad()
        (module(rows) - targets).square().mean().backward()
        with torch.no_grad():  # torch.optim takes seconds to import what it needs
            for p in module.parameters():
                p -= RATE * p.grad
    return module


@pytest.mark.parametrize("make", [flat, images, without_weights])
def test_it_trains_as_torch_s_does(make) -> None:
    """Parameters, statistics and what is predicted with them, after steps on four batches."""
    torch.manual_seed(0)
    module = make().double()
    x, y = data(1)
    theirs = by_torch(module, x[:, 0], y[:, 0])
    mine = tracked(copy.deepcopy(module))
    loss, params = loss_of(mine)
    end = walked(loss, params, [*zip(x[:, 0], y[:, 0], strict=True)])
    state = theirs.state_dict()
    assert distance(end, {name: state[name] for name in end}) < TIGHT
    moved = [float((end[name] - params[name]).abs().max()) for name in statistics(end)]
    assert moved
    assert min(moved) > 0.05
    assert all(torch.equal(buffer, torch.tensor(0)) for buffer in mine.buffers())
    predicted = functional_call(mine.eval(), end, (x[0, 1],)).detach()
    assert float((predicted - theirs.eval()(x[0, 1]).detach()).abs().max()) < TIGHT


@pytest.mark.parametrize("filled_up", [False, True])
@pytest.mark.parametrize("make", [flat, images])
def test_clients_in_a_stack_have_each_their_own(make, filled_up: bool) -> None:
    """And rows that fill a batch up are not in its statistics."""
    torch.manual_seed(0)
    loss, params = loss_of(tracked(make().double()))
    x, y = data(2)
    weight: tuple[Tensor, ...] = ()
    wide = x, y
    if filled_up:
        wide = torch.cat([x, 100 * x[:, :, :2]], 2), torch.cat([y, y[:, :, :2]], 2)
        weight = ((torch.arange(ROWS + 2) < ROWS).expand(K, -1),)
    batches = [(*some, *weight) for some in zip(*wide, strict=True)]
    together = walked(stacked(loss), repeated(params, K), batches)
    for client in range(K):
        alone = walked(loss, params, [*zip(x[:, client], y[:, client], strict=True)])
        assert distance({name: p[client] for name, p in together.items()}, alone) < TIGHT
    traced = make_fx(lambda *given: value_and_gradient(stacked(loss), *given).gradient)(
        together, batches[0]
    )
    expected = value_and_gradient(stacked(loss), together, batches[0]).gradient
    assert distance(traced(together, batches[0]), expected) < TIGHT


def test_a_file_of_one_is_a_file_of_the_other() -> None:
    module = images()
    state = tracked(copy.deepcopy(module)).state_dict()
    assert list(state) == list(module.state_dict())
    module.load_state_dict(state)


def test_which_layers_it_takes_the_place_of() -> None:
    class Own(nn.BatchNorm1d):
        pass

    twice = nn.BatchNorm1d(4)
    left = [
        nn.BatchNorm1d(4).eval(), nn.BatchNorm1d(4, track_running_stats=False),
        nn.BatchNorm1d(4, momentum=None), Own(4), nn.GroupNorm(2, 4),
    ]  # fmt: skip
    made = tracked(nn.Sequential(twice, *left, twice))
    assert [*made][1:-1] == left
    assert made[0] is made[-1]
    assert isinstance(made[0], TrackedNorm)
    assert made[0].weight is twice.weight
    assert isinstance(tracked(nn.BatchNorm2d(3)), TrackedNorm)


def test_one_value_a_channel_has_no_variance() -> None:
    with pytest.raises(ValueError, match="more than 1 row, not 1"):
        tracked(flat())(torch.zeros(1, 5))
    tracked(images())[:3](torch.zeros(1, 5))  # four places of one row are four values


def with_batch_norm(num_outputs: int) -> nn.Module:
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64, 4), nn.BatchNorm1d(4), nn.Linear(4, num_outputs)
    )


def test_a_task_has_them_where_the_algorithm_takes_care_of_them() -> None:
    config = compose_config(
        ["algorithm=fedbn", "model=custom", f"model._target_={__name__}.with_batch_norm"]
    )
    others = algorithm_of(compose_config(["algorithm=fedavg"]).algorithm)
    with pytest.raises(InputError, match=r"layer 2 keeps running statistics .*algorithm=fedbn"):
        task_for(others, config)
    task = task_for(algorithm_of(config.algorithm), config)
    params = task.initial_params()
    assert statistics(params) == ["2.running_mean", "2.running_var"]
    x, _ = task.batch(task.data.partition.index[:8])
    alone = torch.cat([task.predict(params, row[None]) for row in x])
    torch.testing.assert_close(task.predict(params, x), alone)
    moved = params | {"2.running_mean": params["2.running_mean"] + 1}
    assert float((task.predict(moved, x) - alone).abs().max()) > 0.01
