"""FedAvg whose models are fine-tuned by epochs, the strong plain baseline of personalization.

    train:        w_{t+1} = w_t − β ∇f_i(w_t; D′), and the server averages
    personalize:  θ ← θ − α ∇f_i(θ; D) for each batch D of a pass over the client's rows

Training is FedAvg's (McMahan et al. 2017). Point k of a personalization curve is the model after k
epochs, as federated fine-tuning is reported (Wang, Mathews, Kiddon, Eichner, Beaufays and Ramage
2019, arXiv 1910.10252; Collins, Hassani, Mokhtari and Shakkottai 2022, arXiv 2205.13692), not after
k batches.
"""

from dataclasses import dataclass
from typing import ClassVar

from nufed.client_app.algorithm import Algorithm


@dataclass(frozen=True, kw_only=True)
class FedAvgFinetuned(Algorithm):
    """τ steps w ← w − β ∇f_i(w); a personal model is k epochs of SGD away."""

    by_epoch: ClassVar[bool] = True
