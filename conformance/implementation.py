"""The code under test: how it is called, and how little it is trusted."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from nufed.client_app.meta_gradient import Batch, LossFn, Params
from nufed.conformance.problems import LocalStep, LossOfOutputs, Problem, copied
from nufed.tasks.streams import Purpose, seeded, stream

Step = Callable[[nn.Module, LossOfOutputs, list[Batch], Batch, float, float], Any]
"""``step(model, loss_fn, support, query, alpha, beta)``: a local step, in place."""
Local = Callable[[nn.Module, LossOfOutputs, list[tuple[list[Batch], Batch]], float, float], Any]
"""``local(model, loss_fn, batches, alpha, beta)``: a local step for each (support, query)."""
Evaluate = Callable[[nn.Module, LossOfOutputs, list[Batch], Batch, float], Any]
"""``evaluate(model, loss_fn, support, test, alpha)``: what it measures after the inner steps."""
Draw = Callable[[Tensor, Tensor], tuple[Any, Batch]]
"""``draw(x, y)`` -> support, one batch or a list, and query: batches of a client's rows."""
Gradient = Callable[[LossFn, Params, list[Batch], Batch, float], Mapping[str, Tensor]]
"""``gradient(loss_fn, params, support, query, alpha)`` -> name -> tensor."""


class Raised(Exception):
    """The code under test gave nothing to look at; the message goes on from "the code"."""


def from_gradient(gradient: Gradient) -> Step:
    """Return the local step w ← w − β g(w) of a function that returns a gradient.

    Parameters
    ----------
    gradient
        ``gradient(loss_fn, params, support, query, alpha)``: name -> tensor, like `params`.
        ``loss_fn(params, x, y)`` is the loss; `support` is a list of ν batches.
    """

    def step(
        model: nn.Module,
        loss_fn: LossOfOutputs,
        support: list[Batch],
        query: Batch,
        alpha: float,
        beta: float,
    ) -> None:
        def loss(params: Params, x: Tensor, y: Tensor) -> Tensor:
            return loss_fn(functional_call(model, params, (x,)), y)

        trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
        params = {name: p.detach().clone() for name, p in trained.items()}
        direction = gradient(loss, params, support, query, alpha)
        with torch.no_grad():
            for name, p in trained.items():
                p.sub_(direction[name], alpha=beta)

    return step


@dataclass(frozen=True)
class Implementation:
    """What a person gave, called with copies and always with the same global random numbers."""

    step: Step | None
    local: Local | None
    seed: int

    def run(
        self,
        problem: Problem,
        steps: Sequence[LocalStep],
        alpha: float,
        beta: float,
        *,
        start: Params | None = None,
        module: nn.Module | None = None,
    ) -> Params:
        """Take local steps from w, or from `start`; return the parameters that are left.

        Parameters
        ----------
        module
            To take them in; None: a copy of the problem's.
        """
        there = deepcopy(problem.module) if module is None else module
        before = problem.params if start is None else start
        with torch.no_grad():
            for name, p in there.named_parameters():
                if name in before:
                    p.copy_(before[name])
        batches = [([copied(b) for b in each.support], copied(each.query)) for each in steps]
        with theirs(self.seed):
            if self.local is not None:
                self.local(there, problem.loss_fn, batches, alpha, beta)
            elif self.step is not None:
                for support, query in batches:
                    self.step(there, problem.loss_fn, support, query, alpha, beta)
        frozen = dict(problem.module.named_parameters())
        left = {name: p.detach().clone() for name, p in there.named_parameters()}
        for name in left.keys() & frozen.keys() - before.keys():
            if not torch.equal(left[name], frozen[name]):
                raise Raised(f"moved {name!r}, which is frozen")
        for name, entry in before.items():
            if name not in left or left[name].shape != entry.shape:
                raise Raised(f"left no parameter {name!r} of the same shape in the model")
        return {name: left[name] for name in before}


@contextmanager
def theirs(seed: int) -> Iterator[None]:
    """Call code that is checked: the same global random numbers, and what it raises is `Raised`."""
    with seeded(stream(Purpose.CONFORMANCE, seed, client=4)), torch.enable_grad():
        try:
            yield
        except Exception as error:
            raise Raised(f"raised {type(error).__name__}: {error}") from error


def flat(params: Mapping[str, Tensor]) -> Tensor:
    """Return all entries in one row, in float64."""
    return torch.cat([p.detach().flatten().double() for p in params.values()])
