"""What becomes of clients' updates: a mean, in the memory of one; or all of them, stacked."""

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
            if name not in self._sum:
                # float64, so that the order in which replies arrive does not show in float32.
                self._sum[name] = torch.zeros_like(tensor, dtype=torch.float64)
            self._sum[name].add_(tensor, alpha=weight)

    def value(self, dtype: torch.dtype) -> Params:
        """Return the mean; an empty dict if nothing was added."""
        return {name: (total / self.weight).to(dtype) for name, total in self._sum.items()}


class Stack:
    """Keep every update; none counts more than another."""

    def __init__(self) -> None:
        self._updates = list[Params]()

    def add(self, params: Params, weight: float) -> None:
        """Take one more update."""
        self._updates.append(params)

    def value(self, dtype: torch.dtype) -> Params:
        """Return them along a first axis; an empty dict if nothing was added."""
        names = self._updates[0] if self._updates else {}
        return {name: torch.stack([p[name] for p in self._updates]).to(dtype) for name in names}
