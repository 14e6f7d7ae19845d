"""An algorithm of which a part of the model never leaves the client.

Which part, and how the two are trained, is what these methods differ in.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from nufed.client_app.algorithm import Algorithm, Carry, End, difference
from nufed.client_app.leaves import only, without
from nufed.client_app.meta_gradient import (
    LossFn,
    Params,
    Support,
    trajectory,
)


@dataclass(frozen=True, kw_only=True)
class PartlyShared(Algorithm, ABC):
    """SGD on the whole model, (u, v) ← (u, v) − β ∇f_i(u, v): u is averaged, v stays."""

    stateful: ClassVar[bool] = True

    @abstractmethod
    def kept(self, model: Params) -> Collection[str]:
        """Return the names of the parameters that stay with the client."""

    def shared(self, model: Params) -> Params:
        """Return the parameters that are averaged."""
        return without(model, self.kept(model))

    def state(self, model: Params) -> Params:
        """Return the parameters that stay with the client."""
        return only(model, self.kept(model))

    def begin(self, shared: Params, state: Params) -> Carry:
        """Return the whole model."""
        return {"w": shared | state}

    def end(self, shared: Params, carry: Carry) -> End:
        """Return the update of the one part, and the other part."""
        return End(difference(shared, carry["w"]), without(carry["w"], shared))

    def model(self, shared: Params, state: Params) -> Params:
        """Return both parts."""
        return shared | state


def beside(loss_fn: LossFn, fixed: Params) -> LossFn:
    """Return the loss as a function of the other parameters: those of `fixed` have no gradient."""

    def loss(params: Params, *batch: Tensor) -> Tensor:
        return loss_fn(fixed | params, *batch)

    return loss


def part_tuned(
    loss_fn: LossFn, fixed: Params, part: Params, support: Support, *, alpha: float
) -> Iterator[Params]:
    """Yield the whole model after 0, 1, … fine-tuning steps of `part`."""
    for moved in trajectory(beside(loss_fn, fixed), part, support, alpha=alpha):
        yield fixed | moved
