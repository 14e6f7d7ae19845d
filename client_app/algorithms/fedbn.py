"""Norm layers stay with the client, all else is averaged; both are trained at once.

Li, Jiang, Zhang, Kamp and Dou, "FedBN: Federated Learning on Non-IID Features via Local Batch
Normalization" (ICLR 2021, arXiv 2102.07623), Algorithm 1: FedAvg, but that a layer of batch
normalization is neither sent nor averaged. The authors' program keeps its running statistics with
its parameters, and so does this: a client's statistics follow its own batches, in its rounds and
in fine-tuning, and are what it is measured with. A new client begins from those of the
constructor, 0 and 1, until it fine-tunes.

Layers of other norms are kept likewise.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from nufed.client_app.algorithm import Batches, Carry, Step, norm
from nufed.client_app.leaves import without
from nufed.client_app.meta_gradient import (
    LossFn,
    Params,
    Support,
    descend,
    trajectory,
    value_and_gradient,
)
from nufed.client_app.partly_shared import PartlyShared
from nufed.conf.errors import InputError
from nufed.tasks.statistics import statistics


@dataclass(frozen=True, kw_only=True)
class FedBN(PartlyShared):
    """(u, n_i) ← (u, n_i) − β ∇f_i(u, n_i): norm layers n_i stay, all else is averaged."""

    keeps_statistics: ClassVar[bool] = True

    norms: tuple[str | int, ...] | None = None
    """The norm layers' names; null: all layers whose weight is a vector, or shaped as their bias.
    """

    def kept(self, model: Params) -> list[str]:
        """Return the names of what norm layers have."""
        every = list(dict.fromkeys(map(_layer, model)))
        layers = [each for each in every if _is_norm(model, each)]
        layers = layers if self.norms is None else [*map(str, self.norms)]
        if unknown := [layer for layer in layers if layer not in every]:
            raise InputError(
                f"algorithm.norms: the model has no layer {unknown[0]} with parameters that train; "
                f"name some of {', '.join(every):.200}"
            )
        if not 0 < len(layers) < len(every):
            raise InputError(
                f"algorithm={self.name}: {'all layers' if layers else 'no layer'} of the model "
                "would stay with the client; name its norm layers by algorithm.norms, of "
                f"{', '.join(every):.200}; or take algorithm=fedavg"
            )
        return [name for name in model if _layer(name) in layers]

    def step(self, loss_fn: LossFn, carry: Carry, batches: Batches) -> Step:
        """Take a step of all, and let statistics follow the batch."""
        w = carry["w"]
        loss, gradient = value_and_gradient(loss_fn, w, batches["query"])
        moved = descend(w, gradient, _sizes(w, self.beta))
        descended = without(gradient, statistics(w))
        return Step(carry | {"w": moved}, loss, norm(descended, axes=loss.ndim))

    def personal(
        self, loss_fn: LossFn, shared: Params, state: Params, support: Support
    ) -> Iterator[Params]:
        """Yield the model after 0, 1, … fine-tuning steps, which its statistics follow."""
        model = self.model(shared, state)
        return trajectory(loss_fn, model, support, alpha=_sizes(model, self.alpha))


def _layer(name: str) -> str:
    return name.rpartition(".")[0]


def _is_norm(model: Params, layer: str) -> bool:
    """Tell a norm layer: it scales each entry by itself, where others have a matrix."""
    own = {name.rpartition(".")[2]: p for name, p in model.items() if _layer(name) == layer}
    weight, bias = own.get("weight"), own.get("bias")
    if weight is None:
        return bool(statistics(own))
    return weight.ndim == 1 or (bias is not None and bias.shape == weight.shape)


def _sizes(params: Params, size: float) -> Params:
    """Return the step size of each parameter: 1 for statistics, whose slope has the momentum."""
    own = set(statistics(params))
    return {name: p.new_full((), 1.0 if name in own else size) for name, p in params.items()}
