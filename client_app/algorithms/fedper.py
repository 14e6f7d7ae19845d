"""The head stays with the client, the body is averaged; both are trained at once.

Arivazhagan, Aggarwal, Singh and Choudhary, "Federated Learning with Personalization Layers" (2019,
arXiv 1912.00818), Algorithms 1 and 2: a client takes SGD steps on base layers W_B and
personalization layers W_P together,

    (W_B, W_P) ← (W_B, W_P) − β ∇f_i(W_B, W_P),

sends W_B alone and goes on from its own W_P. The paper weights the mean by rows
(strategy.weighting=examples), and fine-tunes nothing afterwards: its model is that of k = 0.
"""

from dataclasses import dataclass

from nufed.client_app.leaves import head_of
from nufed.client_app.meta_gradient import Params
from nufed.client_app.partly_shared import PartlyShared


@dataclass(frozen=True, kw_only=True)
class FedPer(PartlyShared):
    """(u, h_i) ← (u, h_i) − β ∇f_i(u, h_i): the body u is averaged, the head h_i stays."""

    head: str | int | None = None
    """What the names of the head's parameters begin with; null: the layer of the last one."""

    def kept(self, model: Params) -> list[str]:
        """Return the names of the head's parameters."""
        return head_of(model, self.head)
