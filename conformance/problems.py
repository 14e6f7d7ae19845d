"""What the code under test is given: clients whose meta-gradient is known."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from nufed.client_app.meta_gradient import Batch, Params
from nufed.conf.errors import InputError
from nufed.tasks.streams import Purpose, seeded, stream, torch_stream

LossOfOutputs = Callable[[Tensor, Tensor], Tensor]
"""``loss_fn(outputs, y)`` -> scalar, the mean over rows."""
DIMENSION, ROWS = 5, 10
LEAST, MOST = 0.2, 1.6  # curvature of the quadratics
CLASSES = 4
TEST_ROWS = 40
START = 0.1  # of a row's logits before any step
NOISE, NOISES = 4.0, 256
"""Length of a row's part that no other row shares, and the dimensions of it.

With them a step on a row, however its label was drawn, is enough to know the label again; what
rows of a class share is enough for the support rows to tell of the test rows.
"""


class LocalStep(NamedTuple):
    """The batches of one local step."""

    support: tuple[Batch, ...]
    """One batch (x, y) an inner step: ν of them."""
    query: Batch


@dataclass(frozen=True)
class Problem:
    """A model at w, the loss, and two local steps of a client."""

    name: str
    module: nn.Module
    """At w. Never written to, and handed out as copies."""
    loss_fn: LossOfOutputs
    steps: tuple[LocalStep, LocalStep]

    @property
    def nu(self) -> int:
        """Inner steps ν."""
        return len(self.steps[0].support)

    @property
    def params(self) -> Params:
        """The initial model w, of what is not frozen."""
        return {n: p.detach() for n, p in self.module.named_parameters() if p.requires_grad}

    def loss(self, params: Params, x: Tensor, y: Tensor) -> Tensor:
        """Return the mean loss of a batch, as `nufed.client_app.meta_gradient` takes it."""
        return self.loss_fn(functional_call(self.module, params, (x,)), y)

    def in_double(self) -> "Problem":
        """Return the same in float64, where references are computed."""
        steps = (_double(self.steps[0]), _double(self.steps[1]))
        return replace(self, module=deepcopy(self.module).double(), steps=steps)


class Quadratic(NamedTuple):
    """A client of f(w) = ½ (w − c)ᵀ H (w − c), whichever of its batches is looked at."""

    problem: Problem
    hessian: Tensor
    """[d, d], float64."""
    optimum: Tensor
    """[d], float64."""


def quadratic(nu: int, seed: int, dtype: torch.dtype) -> Quadratic:
    """Return a linear regression without residual: a quadratic, by way of rows and squared errors.

    With X = √(N/2) Q S, the columns of Q orthonormal and SᵀS = H, the mean squared error over N
    rows is f, whatever Q is: each batch has other rows, and the same f.
    """
    random = torch_stream(stream(Purpose.CONFORMANCE, seed, client=0))
    rotation = torch.linalg.qr(_normal(random, DIMENSION, DIMENSION)).Q
    eigenvalues = torch.linspace(LEAST, MOST, DIMENSION, dtype=torch.float64)
    root = eigenvalues.sqrt()[:, None] * rotation.T
    optimum = _normal(random, DIMENSION)

    def batch() -> Batch:
        x = torch.linalg.qr(_normal(random, ROWS, DIMENSION)).Q @ root * (ROWS / 2) ** 0.5
        return x.to(dtype), (x @ optimum)[:, None].to(dtype)

    module = _drawn(nn.Linear(DIMENSION, 1, bias=False), random, 1.0).to(dtype)
    steps = (_step(batch, nu, False), _step(batch, nu, False))
    problem = Problem(f"quadratic, ν={nu}", module, F.mse_loss, steps)
    return Quadratic(problem, root.T @ root, optimum)


def network(
    nu: int, seed: int, dtype: torch.dtype, loss_fn: LossOfOutputs, same_support: bool
) -> Problem:
    """Return a small tanh network whose third derivatives are not small; batches of random rows."""
    random = torch_stream(stream(Purpose.CONFORMANCE, seed, client=1))
    outputs = 1 if loss_fn is F.mse_loss else 3
    module: nn.Module = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, outputs))

    def batch() -> Batch:
        x = _normal(random, ROWS, 4)
        y = _normal(random, ROWS, 1) if outputs == 1 else _labels(random, ROWS, outputs)
        return x.to(dtype), y if y.dtype == torch.long else y.to(dtype)

    module = _drawn(module, random, 1.5).to(dtype)
    steps = (_step(batch, nu, same_support), _step(batch, nu, same_support))
    return Problem(f"network, ν={nu}", module, loss_fn, steps)


def own(
    model: Callable[[], nn.Module],
    rows: Batch,
    nu: int,
    seed: int,
    dtype: torch.dtype,
    loss_fn: LossOfOutputs,
    same_support: bool,
) -> Problem:
    """Return a person's own model, with batches of their own rows, none of which has two places.

    Raises
    ------
    InputError
        If there are too few rows, or the model draws random numbers.
    """
    random = stream(Purpose.CONFORMANCE, seed, client=2)
    x, y = rows
    size = min(len(x) // (2 * nu + 2), 32)
    if not size or len(x) != len(y):
        given = f"rows: {len(x)} of x and {len(y)} of y"
        raise InputError(f"{given}; give as many of each, and at least {2 * nu + 2} for nu={nu}")
    places = iter(torch.split(torch.from_numpy(random.permutation(len(x))), size))

    def batch() -> Batch:
        place = next(places)
        return _as(dtype, x[place]), _as(dtype, y[place])

    with seeded(random):
        module = model().to(dtype)
        steps = (_step(batch, nu, same_support), _step(batch, nu, same_support))
        once, again = (module(steps[0].query[0]) for _ in range(2))
    if not torch.equal(once, again):
        raise InputError("model: draws random numbers (dropout?), give one that does not")
    return Problem(f"your model, ν={nu}", module, loss_fn, steps)


def clusters(nu: int, seed: int, dtype: torch.dtype) -> tuple[Problem, Batch]:
    """Return a linear classifier, a client's support batches for it, and its test rows.

    At 0, steps of all lengths would lead to the same classes.
    """
    random = torch_stream(stream(Purpose.CONFORMANCE, seed, client=3))

    def batch() -> Batch:
        y = torch.arange(TEST_ROWS) % CLASSES
        noise = _normal(random, TEST_ROWS, NOISES) * (NOISE / NOISES**0.5)
        x = torch.cat([F.one_hot(y, CLASSES), noise], 1)
        return x.to(dtype), y

    module = _drawn(nn.Linear(CLASSES + NOISES, CLASSES), random, START).to(dtype)
    steps = (_step(batch, nu, False), _step(batch, nu, False))
    return Problem(f"test rows, ν={nu}", module, F.cross_entropy, steps), batch()


def copied(batch: Batch) -> Batch:
    """Return a batch that may be written to."""
    return tuple(tensor.clone() for tensor in batch)


def _step(batch: Callable[[], Batch], nu: int, same_support: bool) -> LocalStep:
    if same_support:
        return LocalStep((batch(),) * nu, batch())
    return LocalStep(tuple(batch() for _ in range(nu)), batch())


def _drawn(module: nn.Module, random: torch.Generator, scale: float) -> nn.Module:
    """Return a module in float64 with weights that follow from `random`."""
    module = module.double()
    with torch.no_grad():
        for p in module.parameters():
            p.copy_(_normal(random, *p.shape) * scale / p.shape[-1] ** 0.5)
    return module


def _double(step: LocalStep) -> LocalStep:
    def batch(tensors: Batch) -> Batch:
        return tuple(_as(torch.float64, each) for each in tensors)

    return LocalStep(tuple(map(batch, step.support)), batch(step.query))


def _as(dtype: torch.dtype, tensor: Tensor) -> Tensor:
    return tensor.to(dtype) if tensor.is_floating_point() else tensor


def _normal(random: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(shape, generator=random, dtype=torch.float64)


def _labels(random: torch.Generator, rows: int, classes: int) -> Tensor:
    return torch.randint(classes, (rows,), generator=random)
