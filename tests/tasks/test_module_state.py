"""Frozen parameters, buffers, modes and files of modules: what is there, as it was."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from nufed.client_app.algorithm import algorithm_of
from nufed.client_app.work import task_for
from nufed.conf.compose import compose_config
from nufed.conf.errors import InputError
from nufed.tasks.module_state import (
    Places,
    Size,
    digest,
    evaluating,
    frozen,
    load_whole_state,
    trainable,
    whole_state,
)
from nufed.tasks.task import Task
from tests import user_modules
from tests.helpers import distance, unrolled_meta_gradient


class _Own(nn.Sequential):
    """Keeps its norm in eval mode, and merges something whenever its mode is set."""

    merged = False

    def train(self, mode: bool = True) -> "_Own":
        self.merged = True
        return super().train(mode)


def test_measuring_leaves_each_child_in_its_mode() -> None:
    """A frozen BatchNorm stays frozen, and code that hangs on a change of mode is not called."""
    net = _Own(nn.Linear(2, 2), nn.BatchNorm1d(2).eval(), nn.Dropout(), nn.Sequential(nn.Dropout()))
    modes = [child.training for child in net.modules()]
    assert modes == [True, True, False, True, True, True]
    with evaluating(net):
        assert not any(child.training for child in net.modules())
        with evaluating(net):
            pass
        assert not any(child.training for child in net.modules())
    assert [child.training for child in net.modules()] == modes
    with pytest.raises(ZeroDivisionError), evaluating(net):
        raise ZeroDivisionError
    assert [child.training for child in net.modules()] == modes
    assert not net.merged


class _Tied(nn.Module):
    """One weight under two names, and a recurrent layer that looks its own ones up by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.LSTM(3, 3, 2, batch_first=True)
        self.a, self.b = nn.Linear(3, 3), nn.Linear(3, 3)
        self.b.weight = self.a.weight

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.b(self.a(self.layers(x)[0]).tanh())
        return out


def test_a_module_computes_with_parameters_in_their_places() -> None:
    """As `functional_call` has it, to the last bit, gradients too; then it has its own again."""
    module, x = _Tied(), torch.randn(2, 5, 3)
    own = dict(module.named_parameters())
    params = {name: torch.randn_like(p).requires_grad_() for name, p in own.items()}
    slopes = []
    for places in (True, False):
        with Places(module).hold(params if places else {}):
            out = module(x) if places else functional_call(module, params, (x,))
        slopes.append([out, *torch.autograd.grad(out.square().sum(), list(params.values()))])
    assert all(map(torch.equal, *slopes))
    with pytest.raises(RuntimeError), Places(module).hold(params):
        module(x[..., :2])
    assert all(p is own[name] for name, p in module.named_parameters())
    with pytest.raises(KeyError, match="no parameter nobody"), Places(module).hold({"nobody": x}):
        pass


def test_the_whole_state_is_what_load_state_dict_takes() -> None:
    """Of tied weights too, which go by two names; and back again, into another module."""
    net, other = (user_modules.Tied(7, 7) for _ in range(2))
    net.register_buffer("offset", torch.arange(3.0))
    other.register_buffer("offset", torch.zeros(3))
    net.inside.requires_grad_(False)
    other.inside.requires_grad_(False)
    trained = {name: p.detach() + 1 for name, p in trainable(net).items()}
    assert list(trained) == ["embedding.weight"]
    state = whole_state(net, trained)
    assert state.keys() == net.state_dict().keys()
    assert torch.equal(state["out.weight"], net.embedding.weight + 1)
    assert torch.equal(state["inside.weight"], net.inside.weight)
    before = other.embedding.weight.clone()
    params = load_whole_state(other, state)
    assert distance(params, trained) == 0
    assert torch.equal(other.inside.weight, net.inside.weight)
    assert torch.equal(other.offset, net.offset)
    assert torch.equal(other.embedding.weight, before), "what trains is an argument, not a state"


def test_a_file_of_version_0_1_is_read() -> None:
    """It held each parameter once, and no buffer."""
    net = user_modules.Tied(7, 7)
    old = {name: p.detach() + 2 for name, p in net.named_parameters()}
    assert distance(load_whole_state(net, old), old) == 0
    with pytest.raises(ValueError, match="names or shapes of tensors differ"):
        load_whole_state(net, old | {"more": torch.zeros(1)})


def test_the_digest_is_of_names_types_shapes_and_contents() -> None:
    base = {"a": torch.arange(6.0)}
    others = [
        {"b": torch.arange(6.0)},
        {"a": torch.arange(6.0).double()},
        {"a": torch.arange(6.0).reshape(2, 3)},
        {"a": torch.arange(6.0) + 1e-6},
        {},
    ]
    assert len({digest(each) for each in [base, *others]}) == 6
    assert digest({"a": torch.arange(12.0)[::2] / 2}) == digest(base)
    assert digest({"a": torch.zeros(3, dtype=torch.bfloat16)}) != digest({"a": torch.zeros(3)})


def test_what_trains_is_said_of_what_there_is() -> None:
    assert str(Size(1234)) == "1,234 parameters"
    assert str(Size(1234, 11_000_000)) == "11,001,234 parameters, of which 1,234 train"
    net = nn.Sequential(nn.Linear(3, 4).requires_grad_(False), nn.Linear(4, 2))
    assert Size.of(net) == (10, 16)
    assert list(frozen(net)) == ["0.weight", "0.bias"]


def task(name: str, *overrides: str, rows: int = 5) -> Task:
    """Build a task of sequences of four numbers, under a module of tests/user_modules.py."""
    from dataclasses import replace

    from nufed.tasks.partitions import Partition
    from nufed.tasks.store import FederatedData

    random = np.random.default_rng(0)
    x, y = random.normal(size=(rows, 3, 4)), random.integers(2, size=rows)
    y[:2] = 0, 1
    data = FederatedData(x, y, Partition(np.arange(rows), np.array([0, rows]), np.array([rows])))
    target = f"model._target_={user_modules.__name__}.{name}"
    config = compose_config(["model=custom", target, "engine.precision=float64", *overrides])
    return task_for(algorithm_of(config.algorithm), replace(config), data=data)


def test_attention_has_the_meta_gradient_of_what_it_stands_for() -> None:
    """The fused function has no second derivative on a CPU: by plain kernels, then, to rounding."""
    from nufed.client_app.meta_gradient import meta_gradient

    fused, plain = task("Attention"), task("Attention", "+model.fused=false")
    assert fused.derivatives.by_plain
    assert not plain.derivatives.by_plain
    params = fused.initial_params()
    x, y = fused.batch(np.arange(5))
    support = x.expand(2, *x.shape), y.expand(2, *y.shape)
    exact = meta_gradient(fused.loss, params, support, (x, y), alpha=0.5)
    by_hand = unrolled_meta_gradient(plain.loss, params, support, (x, y), 0.5)
    first_order = meta_gradient(plain.loss, params, support, (x, y), alpha=0.5, mode="first_order")
    assert distance(exact, by_hand) < 1e-12
    assert distance(first_order, by_hand) > 1e-3


@pytest.mark.parametrize("mode", ["first_order", "hessian_free"])
def test_a_loss_without_second_derivative_trains_where_none_is_taken(mode: str) -> None:
    once = task("OnceDifferentiable", f"algorithm.mode={mode}")
    assert once.derivatives.missing is not None
    with pytest.raises(InputError, match=r"no second derivative .*mode=first_order, or hess"):
        task("OnceDifferentiable")
    with pytest.raises(InputError, match=r"diagnostics\.every=3: needs second derivatives"):
        task("OnceDifferentiable", f"algorithm.mode={mode}", "diagnostics.every=3")


@pytest.mark.parametrize("how", ["algorithm.mode=hessian_free", "algorithm.recompute=true"])
def test_dropout_is_refused_where_a_step_is_computed_twice(how: str) -> None:
    with pytest.raises(InputError, match="computes each step more than once"):
        task("Dropping", how)
    task("Dropping")


def test_a_module_that_writes_to_its_input_gets_copies() -> None:
    """The loss of a batch is the same whenever it is taken, and that of one that does not write."""
    writes, keeps = task("Scaled"), task("Scaled", "+model.in_place=false")
    assert writes.writes_input
    assert not keeps.writes_input
    params = keeps.initial_params()
    x, y = keeps.batch(np.arange(5))
    before = x.clone()
    losses = [float(each.loss(params, x, y)) for each in (writes, writes, keeps)]
    assert losses[0] == losses[1] == losses[2]
    assert torch.equal(x, before)


@pytest.mark.parametrize("kind", ["tuple", "dict", "logits", "object"])
def test_scores_are_found_in_what_a_module_returns(kind: str) -> None:
    wrapped, plain = task("Scaled", f"+model.kind={kind}"), task("Scaled")
    params = plain.initial_params()
    x: Tensor = plain.batch(np.arange(5))[0]
    assert torch.equal(wrapped.predict(params, x), plain.predict(params, x))
