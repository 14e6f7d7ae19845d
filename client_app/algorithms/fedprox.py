"""FedProx: local steps are held back to where the round began.

    w_{t+1} = w_t − β [∇f_i(w_t; D′) + μ (w_t − w_0)]

which are steps of SGD on h_i(w; w_0) = f_i(w) + μ/2 ‖w − w_0‖² (Li, Sahu, Zaheer, Sanjabi,
Talwalkar and Smith 2020, MLSys, arXiv 1812.06127, algorithm 2). The paper leaves open how h_i is
minimised and how far, for each client by itself; here all take τ such steps. μ → 0 is FedAvg.
"""

from dataclasses import dataclass

from nufed.client_app.algorithm import Algorithm, Batches, Carry, Step, difference
from nufed.client_app.leaves import plus
from nufed.client_app.meta_gradient import LossFn, Params, value_and_gradient


@dataclass(frozen=True, kw_only=True)
class FedProx(Algorithm):
    """τ steps w ← w − β [∇f_i(w) + μ (w − w_0)]; the loss shown is f_i alone."""

    mu: float
    """Strength μ of the proximal term."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_positive("mu")

    def begin(self, shared: Params, state: Params) -> Carry:
        """Start from w_0, and keep it."""
        return {"w": shared, "start": shared}

    def step(self, loss_fn: LossFn, carry: Carry, batches: Batches) -> Step:
        """Take one step along ∇h_i."""
        loss, gradient = value_and_gradient(loss_fn, carry["w"], batches["query"])
        moved = difference(carry["w"], carry["start"])
        return self.stepped(carry, plus(gradient, moved, self.mu), loss)
