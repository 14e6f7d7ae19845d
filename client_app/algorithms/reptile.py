"""Reptile: the initial model moves a part of the way to where SGD leads each client.

    w ← w + ε (1/m) Σ_i (w_{i,τ} − w),    w_{i,t+1} = w_{i,t} − β ∇f_i(w_{i,t}; D′_t)

(Nichol, Achiam and Schulman 2018, arXiv 1803.02999, algorithm 2, its U a number of SGD steps.) With
ε = 1 it is FedAvg: what makes it Reptile is the server's step ε, which a client's update is scaled
by here, so that clipping and privacy see it as it counts. The paper anneals ε linearly to 0.
"""

from dataclasses import dataclass

from nufed.client_app.algorithm import Algorithm, Carry, End, difference
from nufed.client_app.leaves import scaled
from nufed.client_app.meta_gradient import Params


@dataclass(frozen=True, kw_only=True)
class Reptile(Algorithm):
    """τ steps w ← w − β ∇f_i(w); the update is ε (w_0 − w_τ)."""

    epsilon: float
    """Step size ε of the server; 1 is FedAvg."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_positive("epsilon")

    def end(self, shared: Params, carry: Carry) -> End:
        """Return the update ε (w_0 − w_τ)."""
        return End(scaled(difference(shared, carry["w"]), self.epsilon), {})
