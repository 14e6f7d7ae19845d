"""The body is trained and averaged alone, on a head that stays as it was initialised.

Oh, Kim and Yun, "FedBABU: Toward Enhanced Representation for Federated Image Classification" (ICLR
2022, arXiv 2106.06042), Algorithm 1: θ_ext is trained with a learning rate of the head of 0,

    θ_ext ← θ_ext − β ∇_ext f_i(θ_ext, θ_cls),     θ_cls as initialised, the same for all,

and a personal model is fine-tuned from both: the whole of it, or the head or the body alone, which
the paper compares (`fine_tune`).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from nufed.client_app.algorithm import Batches, Carry, End, Step, difference
from nufed.client_app.algorithms.fedper import FedPer
from nufed.client_app.meta_gradient import LossFn, Params, Support, value_and_gradient
from nufed.client_app.partly_shared import beside, part_tuned
from nufed.conf.schema import require

TUNED = ("all", "head", "body")


@dataclass(frozen=True, kw_only=True)
class FedBABU(FedPer):
    """u ← u − β ∇_u f_i(u, h_0): the body u is averaged, the initial head h_0 is everyone's."""

    stateful: ClassVar[bool] = False

    fine_tune: str = "all"
    """What fine-tuning steps move: `all`, the `head`, or the `body`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.fine_tune in TUNED, "algorithm.fine_tune", self.fine_tune, " | ".join(TUNED))

    def begin(self, shared: Params, state: Params) -> Carry:
        """Return body and head."""
        return {"w": shared, "head": state}

    def step(self, loss_fn: LossFn, carry: Carry, batches: Batches) -> Step:
        """Take a step of the body."""
        of_body = beside(loss_fn, carry["head"])
        loss, gradient = value_and_gradient(of_body, carry["w"], batches["query"])
        return self.stepped(carry, gradient, loss)

    def end(self, shared: Params, carry: Carry) -> End:
        """Return the update of the body; the head is as it was, and need not be kept."""
        return End(difference(shared, carry["w"]), {})

    def personal(
        self, loss_fn: LossFn, shared: Params, state: Params, support: Support
    ) -> Iterator[Params]:
        """Yield the model after 0, 1, … fine-tuning steps of what they are to move."""
        fixed, moved = {
            "all": ({}, shared | state),
            "head": (shared, state),
            "body": (state, shared),
        }[self.fine_tune]
        return part_tuned(loss_fn, fixed, moved, support, alpha=self.alpha)
