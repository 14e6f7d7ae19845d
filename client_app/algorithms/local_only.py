"""Training alone, which every personalized method is compared with.

    v_{i,t+1} = v_{i,t} − β ∇f_i(v_{i,t}; D′)

A client takes τ steps of SGD in each of its rounds, on from where it left off; nothing is shared
("Local" in the tables of Li et al. 2021, Ditto, and Deng et al. 2020, APFL).
"""

from dataclasses import dataclass
from typing import ClassVar

from nufed.client_app.algorithm import Algorithm, Carry, End
from nufed.client_app.meta_gradient import Params


@dataclass(frozen=True, kw_only=True)
class LocalOnly(Algorithm):
    """τ steps v ← v − β ∇f_i(v) from the client's own v; its update is empty."""

    stateful: ClassVar[bool] = True

    def shared(self, model: Params) -> Params:
        """Return nothing."""
        return {}

    def state(self, model: Params) -> Params:
        """Return v = w_0."""
        return model

    def begin(self, shared: Params, state: Params) -> Carry:
        """Go on from v."""
        return {"w": state}

    def end(self, shared: Params, carry: Carry) -> End:
        """Keep v; there is nothing to send."""
        return End({}, carry["w"])

    def model(self, shared: Params, state: Params) -> Params:
        """Return v."""
        return state
