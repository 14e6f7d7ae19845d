"""pFedMe: the shared model descends the Moreau envelopes of the clients' losses.

    F_i(w) = min_θ f_i(θ) + λ/2 ‖θ − w‖²,    ∇F_i(w) = λ (w − θ_i(w))
    θ^0 = w,  θ^{l+1} = θ^l − α [∇f_i(θ^l; D) + λ (θ^l − w)],    θ_i(w) ≈ θ^ν
    w ← w − β λ (w − θ^ν)

(Dinh, Tran and Nguyen 2020, NeurIPS, arXiv 2006.08848, algorithm 1: ν is its K, α its personal
learning rate, β its η, τ its R; all ν steps take the one batch D of their local step.) Its server
keeps a part of its model, w ← (1 − b) w + b · mean, b being its β: here that is what
strategy.optimizer is, SGD with rate b.

θ^ν is the personal model. The problem of θ is curved by L + λ at most, and F_i by λ: α below
2/(L + λ), and β up to 1/λ.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import repeat
from typing import ClassVar

from torch import Tensor

from nufed.client_app.algorithm import Algorithm, Batches, Carry, Draws, Step, difference
from nufed.client_app.leaves import plus, scaled
from nufed.client_app.meta_gradient import (
    LossFn,
    Params,
    Support,
    descend,
    steps,
    value_and_gradient,
)


@dataclass(frozen=True, kw_only=True)
class PFedMe(Algorithm):
    """τ steps w ← w − β λ (w − θ^ν(w)); the loss shown is f_i(w)."""

    steps_follow_curvature: ClassVar[bool] = False

    nu: int
    """Steps ν that θ_i(w) is approximated by."""
    lamda: float
    """Strength λ with which the personal model is held to the shared one."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_steps("nu", least=1)
        self.require_positive("lamda")

    def draws(self) -> Mapping[str, Draws]:
        """Return the batch D that all steps of θ take."""
        return {"support": Draws((), self.batch.support)}

    def step(self, loss_fn: LossFn, carry: Carry, batches: Batches) -> Step:
        """Take one step w − β λ (w − θ^ν)."""
        w = theta = carry["w"]
        losses = list[Tensor]()
        for batch in repeat(batches["support"], self.nu):
            loss, theta = self.nearer(loss_fn, theta, w, batch)
            losses.append(loss)
        return self.stepped(carry, scaled(difference(w, theta), self.lamda), losses[0])

    def personal(
        self, loss_fn: LossFn, shared: Params, state: Params, support: Support
    ) -> Iterator[Params]:
        """Yield θ^0 = w, θ^1, …, one batch a step."""
        theta = shared
        yield theta
        for batch in steps(support):
            _, theta = self.nearer(loss_fn, theta, shared, batch)
            yield theta

    def nearer(
        self, loss_fn: LossFn, theta: Params, w: Params, batch: tuple[Tensor, ...]
    ) -> tuple[Tensor, Params]:
        """Return f_i(θ), and θ − α [∇f_i(θ) + λ (θ − w)]."""
        loss, gradient = value_and_gradient(loss_fn, theta, batch)
        held = plus(gradient, difference(theta, w), self.lamda)
        return loss, descend(theta, held, self.alpha)

    @property
    def unread_in_training(self) -> tuple[str, ...]:
        """None: α is the size of the inner steps."""
        return ()

    @property
    def gradients(self) -> int:
        """ν."""
        return self.nu

    @property
    def inner_steps(self) -> int:
        """ν."""
        return self.nu
