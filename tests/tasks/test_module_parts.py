"""What a module holds or does that would make it another: found at once, or where it happens."""

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from nufed.client_app import client
from nufed.client_app.algorithm import algorithm_of
from nufed.client_app.work import task_for
from nufed.conf.compose import compose_config
from nufed.conf.errors import InputError
from nufed.simulation.batched import why_one_by_one
from nufed.tasks.module import Made, make_module
from nufed.tasks.task import Task
from tests.helpers import distance, measuring, training
from tests.tasks.test_module_trial import data

HERE = __name__


class Net(nn.Module):
    """Two layers, to which a test adds what is to be found."""

    def __init__(self, what: str) -> None:
        super().__init__()
        self.a, self.b, self.what = nn.Linear(4, 5), nn.Linear(5, 3), what
        self.register_buffer("count", torch.zeros(1))
        self.kept = [self.a.weight]
        self.own = torch.Generator().manual_seed(0)
        match what:
            case "view":
                self.register_buffer("v", self.a.weight.data[:2])
            case "twin":
                self.v = nn.Parameter(self.a.weight.data, requires_grad=False)
            case "expanded":
                self.register_buffer("v", torch.ones(1).expand(6))
            case "sparse":
                self.register_buffer("v", torch.eye(3).to_sparse())
            case "inference":
                with torch.inference_mode():
                    self.register_buffer("v", torch.ones(2))
            case "hook":
                self.a.weight.register_hook(lambda slope: slope * 0)
            case "later hook":
                self.a.weight.register_post_accumulate_grad_hook(lambda p: None)
            case "backward hook":
                self.b.register_full_backward_hook(lambda m, of_input, of_output: (of_input[0],))
            case "domain":
                self.s = nn.Parameter(torch.tensor([-1.0, 2.0]))

    def hidden(self, x: Tensor) -> Tensor:
        return torch.tanh(self.a(x))

    def forward(self, x: Tensor) -> Tensor:
        h = self.hidden(x)
        match self.what:
            case "recomputed":
                h = checkpoint(self.hidden, x, use_reentrant=False)
            case "list":
                h = torch.tanh(nn.functional.linear(x, self.kept[0], self.a.bias))
            case "own generator":
                h = h * torch.rand(1, generator=self.own)
            case "NumPy":
                h = h * float(np.random.rand())
            case "Python":
                h = h * random.random()
            case "grows":
                self.count = torch.cat([self.count, x.detach().mean().reshape(1)])
            case "registers":
                self.register_buffer(f"v{len(list(self.buffers()))}", torch.zeros(2))
            case "flips":
                self.count = 1 - self.count
            case "counts in eval" if not self.training:
                self.count += 1
            case "counts large" if len(x) > 5:
                self.count += 1
            case "writes in eval" if not self.training:
                x *= -2
            case "writes large" if len(x) > 3:
                x *= -2
            case "writes larger" if len(x) > 5:
                x *= -2
            case "domain":
                h = h * torch.linalg.cholesky(torch.eye(2) * (2 - self.s[0] ** 2))[0, 0]
        out: Tensor = self.b(h)
        return out


class Copying(Net):
    """Hands out copies of its parameters."""

    def state_dict(self, *args: Any, **options: Any) -> dict[str, Any]:
        whole = super().state_dict(*args, **options)
        return {name: tensor.detach().clone() for name, tensor in whole.items()}


def scripted(what: str) -> nn.Module:
    net: nn.Module = torch.jit.script(nn.Sequential(nn.Linear(4, 3)))
    return net


def made(what: str, kind: str = "Net") -> Made:
    return make_module({"_target_": f"{HERE}.{kind}", "what": what}, data(), seed=0)


REFUSED = {
    "view": "its buffer v and its parameter a.weight share memory, and only one would be trained",
    "twin": "share memory, and only one would be trained",
    "expanded": "its buffer v has elements that are one in memory, as expand makes them",
    "sparse": "its buffer v is sparse, which no file of tensors holds",
    "inference": "its buffer v was made under torch.inference_mode; register its .clone()",
    "hook": "its parameter a.weight has a hook on its gradient, which is not called",
    "later hook": "its parameter a.weight has a hook on its gradient",
    "recomputed": "does not compute with the parameters that it is lent (its gradient by a.weight",
    "list": "does not compute with the parameters that it is lent (what it gives is another)",
    "own generator": "gives something else each time, though torch, NumPy and Python are seeded",
    "grows": "changes its buffer count in every forward",
    "registers": "changes its buffer v",
    "flips": "changes its buffer count in every forward",
    "counts in eval": "changes its buffer count in every forward",
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_would_make_it_another_is_refused_in_a_line(what: str) -> None:
    with pytest.raises(InputError) as caught:
        made(what)
    line = str(caught.value)
    assert line.startswith(f"model._target_={HERE}.Net: ")
    assert REFUSED[what] in line
    assert "\n" not in line


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("Copying", "its state_dict does not hand out its parameter a.weight itself"),
        ("scripted", "is a program of torch.jit, to which no parameters can be lent"),
    ],
)
def test_what_cannot_be_saved_or_lent_is_refused(kind: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        made("", kind)


def test_parameters_need_not_be_possible_elsewhere() -> None:
    """The Cholesky factor of I · (2 − s²) is there at s = −1, and not at 8 s + 1 = −7."""
    assert made("domain").trial.width == 3


@pytest.mark.parametrize("what", ["writes in eval", "writes large"])
def test_a_forward_that_writes_to_its_input_in_one_mode_or_to_large_batches_gets_copies(
    what: str,
) -> None:
    assert made(what).trial.writes_input
    assert not made("").trial.writes_input


Built = Callable[..., Task]


@pytest.fixture
def built(tmp_path: Any) -> Built:
    """Return a function that builds a task of two clients, eight rows each, on a module."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(16, 4)).astype(np.float32)
    np.savez(tmp_path / "rows.npz", x=x, y=np.arange(16) % 3, client=np.repeat([0, 1], 8))

    def build_on(what: str, mode: str = "exact") -> Task:
        config = compose_config(
            [
                *("dataset=npz", f"dataset.path={tmp_path / 'rows.npz'}", "model=custom"),
                *(f"model._target_={HERE}.Net", f"+model.what={what}", f"algorithm.mode={mode}"),
            ]
        )
        return task_for(algorithm_of(config.algorithm), config)

    return build_on


def trained(task: Task, size: int) -> client.ClientUpdate:
    config = compose_config(
        [
            *("algorithm.alpha=0.1", "algorithm.beta=0.1", "algorithm.nu=1", "algorithm.tau=2"),
            *(f"algorithm.batch.support={size}", f"algorithm.batch.query={size}"),
        ]
    )
    return client.train(task, task.initial_params(), training(config, [0]), 0)


@pytest.mark.parametrize("what", ["NumPy", "Python"])
def test_what_a_forward_draws_follows_from_the_seed(built: Built, what: str) -> None:
    """Wherever the global generators are; and it is not drawn for a stack at once."""
    task = built(what)
    updates = []
    for elsewhere in (1, 2):
        np.random.seed(elsewhere)
        random.seed(elsewhere)
        updates.append(trained(task, 4).update)
    assert distance(*updates) == 0
    assert distance(updates[0], trained(built(""), 4).update) > 1e-4
    assert "draws random numbers" in str(why_one_by_one(task, task.initial_params()))
    with pytest.raises(InputError, match="computes each step more than once, and the model draws"):
        built(what, "hessian_free")


def test_a_hook_on_gradients_is_called_one_by_one(built: Built) -> None:
    task = built("backward hook")
    why = why_one_by_one(task, task.initial_params())
    assert why == "layer b has a hook on its gradient, which no stack calls"


def test_what_the_trial_did_not_meet_is_refused_where_it_happens(built: Built) -> None:
    """Batches of six: larger than any of the trial."""
    with pytest.raises(InputError, match="changed count, which does not train"):
        trained(built("counts large"), 6)
    with pytest.raises(InputError, match="writes to its input with these 6 rows"):
        trained(built("writes larger"), 6)
    for what in ("counts large", "writes larger"):
        assert distance(trained(built(what), 4).update, trained(built(""), 4).update) == 0
    task = built("counts large")
    job = measuring(compose_config(["algorithm.alpha=0.1"]), [0], steps=1, batch=6)
    with pytest.raises(InputError, match="changed count"):
        client.evaluate(task, task.initial_params(), job, 0)
