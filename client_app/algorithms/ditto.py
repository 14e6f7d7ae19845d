"""Ditto: beside the shared model, a personal one that is held to it.

    w by FedAvg:  w_{t+1} = w_t − β ∇f_i(w_t; D′)
    v by itself:  v_{t+1} = v_t − β [∇f_i(v_t; D′) + λ (v_t − w_0)]

where w_0 is the shared model at the round's start (Li, Hu, Beirami and Smith 2021, ICML, arXiv
2012.04221, algorithm 1, with as many steps and one step size for both). λ → 0 is training alone,
and a large λ keeps v at w. The personal model of a client that was never drawn starts from the
shared one.
"""

from dataclasses import dataclass
from typing import ClassVar

from nufed.client_app.algorithm import Algorithm, Batches, Carry, End, Step, difference
from nufed.client_app.leaves import plus
from nufed.client_app.meta_gradient import LossFn, Params, descend, value_and_gradient


@dataclass(frozen=True, kw_only=True)
class Ditto(Algorithm):
    """τ steps of w on f_i, which is averaged; τ of v on f_i + λ/2 ‖v − w_0‖², which is kept."""

    stateful: ClassVar[bool] = True

    lamda: float
    """Strength λ with which the personal model is held to the shared one."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_positive("lamda")

    def state(self, model: Params) -> Params:
        """Return v = w."""
        return model

    def begin(self, shared: Params, state: Params) -> Carry:
        """Start from w_0, and from the personal model as it was left."""
        return {"w": shared, "start": shared, "v": state}

    def step(self, loss_fn: LossFn, carry: Carry, batches: Batches) -> Step:
        """Take one step of each model, on the same batch."""
        v = carry["v"]
        loss, gradient = value_and_gradient(loss_fn, carry["w"], batches["query"])
        personal_loss, own = value_and_gradient(loss_fn, v, batches["query"])
        held = plus(own, difference(v, carry["start"]), self.lamda)
        also = {"v": descend(v, held, self.beta)}
        return self.stepped(carry | also, gradient, loss, personal_loss=personal_loss)

    def end(self, shared: Params, carry: Carry) -> End:
        """Return the update of w, and keep v."""
        return End(difference(shared, carry["w"]), carry["v"])

    def model(self, shared: Params, state: Params) -> Params:
        """Return v."""
        return state

    @property
    def gradients(self) -> int:
        """One of each model."""
        return 2
