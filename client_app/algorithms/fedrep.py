"""The head stays with the client: a few steps of it, then one of the body, which is averaged.

Collins, Hassani, Mokhtari and Shakkottai, "Exploiting Shared Representations for Personalized
Federated Learning" (ICML 2021, arXiv 2102.07078), Algorithm 1. A round of a client is

    h ← h − β ∇_h f_i(φ, h)     head_steps times (the paper's τ), each on a batch of its own
    φ ← φ − β ∇_φ f_i(φ, h)     once

and φ alone is sent. That is **one local step** here: tau=1 is the paper's Algorithm 1, and tau = 2,
3, … do the same so many times between two means, head and body in turn. In the paper's experiments
both take whole epochs, the head's first; and a new client trains its head alone, as
fine-tuning steps do here.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from nufed.client_app.algorithm import Batches, Carry, Draws, End, Step
from nufed.client_app.algorithms.fedper import FedPer
from nufed.client_app.meta_gradient import LossFn, Params, Support, trajectory, value_and_gradient
from nufed.client_app.partly_shared import beside, part_tuned


@dataclass(frozen=True, kw_only=True)
class FedRep(FedPer):
    """h_i ← h_i − β ∇_h f_i(u, h_i), `head_steps` times; then u ← u − β ∇_u f_i(u, h_i)."""

    head_steps: int
    """Steps of the head before each step of the body."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_steps("head_steps", least=1)

    def draws(self) -> Mapping[str, Draws]:
        """Return the batches of the head's steps, and that of the body's."""
        return {
            "support": Draws((self.head_steps,), self.batch.support),
            "query": Draws((), self.batch.query),
        }

    def begin(self, shared: Params, state: Params) -> Carry:
        """Return body and head."""
        return {"w": shared, "head": state}

    def step(self, loss_fn: LossFn, carry: Carry, batches: Batches) -> Step:
        """Take the steps of the head, then one of the body."""
        of_head = beside(loss_fn, carry["w"])
        *_, head = trajectory(of_head, carry["head"], batches["support"], alpha=self.beta)
        of_body = beside(loss_fn, head)
        loss, gradient = value_and_gradient(of_body, carry["w"], batches["query"])
        return self.stepped(carry | {"head": head}, gradient, loss)

    def end(self, shared: Params, carry: Carry) -> End:
        """Return the update of the body, and the head."""
        return End(super().end(shared, carry).update, carry["head"])

    def personal(
        self, loss_fn: LossFn, shared: Params, state: Params, support: Support
    ) -> Iterator[Params]:
        """Yield the model after 0, 1, … fine-tuning steps of its head."""
        return part_tuned(loss_fn, shared, state, support, alpha=self.alpha)

    @property
    def gradients(self) -> int:
        """Those of the head's steps, and that of the body's."""
        return self.head_steps + 1
