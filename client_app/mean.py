"""A weighted mean of updates that holds one model's worth of memory, whatever their number."""

import torch

from nufed.client_app.meta_gradient import Params


class StreamingMean:
    """Accumulate Σ weight · params and Σ weight in float64."""

    def __init__(self) -> None:
        self.weight = 0.0
        self._sum: Params = {}

    def add(self, params: Params, weight: float) -> None:
        """Take one more update into the mean."""
        self.weight += weight
        for name, tensor in params.items():
            # float64, so that the order in which replies arrive does not show in float32.
            term = tensor.to(torch.float64) * weight
            self._sum[name] = self._sum[name].add_(term) if name in self._sum else term

    def value(self, dtype: torch.dtype) -> Params:
        """Return the mean; an empty dict if nothing was added."""
        return {name: (total / self.weight).to(dtype) for name, total in self._sum.items()}
