"""The body stays with the client, the head is averaged; both are trained at once.

Liang, Liu, Ziyin, Allen, Auerbach, Brent, Salakhutdinov and Morency, "Think Locally, Act Globally:
Federated Learning with Local and Global Representations" (2020, arXiv 2001.01523), Algorithm 1: a
client takes SGD steps on its representation ℓ_i and the global model g upon it together,

    (ℓ_i, g) ← (ℓ_i, g) − β ∇f_i(ℓ_i, g),

sends g alone and goes on from its own ℓ_i. Begun from nothing, as here; the authors' program begins
from a model of FedAvg. For a new client the paper takes the mean output of all clients' local
models; here it begins from the initial representation, and fine-tunes.
"""

from collections.abc import Collection
from dataclasses import dataclass

from nufed.client_app.leaves import head_of, without
from nufed.client_app.meta_gradient import Params
from nufed.client_app.partly_shared import PartlyShared


@dataclass(frozen=True, kw_only=True)
class LGFedAvg(PartlyShared):
    """(u_i, h) ← (u_i, h) − β ∇f_i(u_i, h): the head h is averaged, the body u_i stays."""

    head: str | int | None = None
    """What the names of the head's parameters begin with; null: the layer of the last one."""

    def kept(self, model: Params) -> Collection[str]:
        """Return the names of all parameters but the head's."""
        return without(model, head_of(model, self.head)).keys()
