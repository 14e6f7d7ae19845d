"""Adaptive server optimizers: algorithm 2 of Reddi et al. 2021 (arXiv 2003.00295).

    m ← β₁ m + (1 − β₁) Δ
    v ← v + Δ²                          FedAdagrad
    v ← v − (1 − β₂) Δ² sign(v − Δ²)    FedYogi
    v ← β₂ v + (1 − β₂) Δ²              FedAdam
    w ← w − η m / (√v + τ)

with m = 0 and v = τ² before the first round. There is no bias correction, which torch's Adam and
Flower's FedAdam have. Δ is the clients' mean w − w_τ, of which the paper's Δ is the negative.
"""

from abc import abstractmethod
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor


class Adaptive(torch.optim.Optimizer):
    """What the three share; they differ in v.

    Parameters
    ----------
    params
        The global model.
    lr, beta1, beta2, tau
        η, β₁, β₂ and τ.

    Raises
    ------
    ValueError
        For one out of its range.
    """

    def __init__(
        self, params: Iterable[Tensor], lr: float, beta1: float, beta2: float, tau: float
    ) -> None:
        for name, value in {"lr": lr, "tau": tau}.items():
            if not 0 < value < float("inf"):
                raise ValueError(f"{name}={value}: must be above 0")
        for name, value in {"beta1": beta1, "beta2": beta2}.items():
            if not 0 <= value < 1:
                raise ValueError(f"{name}={value}: must be 0 or more, and below 1")
        super().__init__(params, {"lr": lr, "beta1": beta1, "beta2": beta2, "tau": tau})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Take one step along the gradients, which are the mean update."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._step(parameter, parameter.grad, group)

    def _step(self, parameter: Tensor, delta: Tensor, group: dict[str, Any]) -> None:
        state, tau = self.state[parameter], group["tau"]
        if not state:
            state["m"] = torch.zeros_like(parameter)
            state["v"] = torch.full_like(parameter, tau**2)
        state["m"] = group["beta1"] * state["m"] + (1 - group["beta1"]) * delta
        state["v"] = self.second_moment(state["v"], delta.square(), group["beta2"])
        parameter -= group["lr"] * state["m"] / (state["v"].sqrt() + tau)

    @abstractmethod
    def second_moment(self, v: Tensor, square: Tensor, beta2: float) -> Tensor:
        """Return the next v, given Δ²."""


class FedAdagrad(Adaptive):
    """The sum of squares: steps only become shorter."""

    def __init__(
        self, params: Iterable[Tensor], lr: float, beta1: float = 0.0, tau: float = 1e-3
    ) -> None:
        super().__init__(params, lr, beta1, 0.0, tau)

    def second_moment(self, v: Tensor, square: Tensor, beta2: float) -> Tensor:
        """Return v + Δ²."""
        return v + square


class FedYogi(Adaptive):
    """v goes towards Δ² by a part of Δ², whatever the distance (Zaheer et al. 2018)."""

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float,
        beta1: float = 0.9,
        beta2: float = 0.99,
        tau: float = 1e-3,
    ) -> None:
        super().__init__(params, lr, beta1, beta2, tau)

    def second_moment(self, v: Tensor, square: Tensor, beta2: float) -> Tensor:
        """Return v − (1 − β₂) Δ² sign(v − Δ²)."""
        return v - (1 - beta2) * square * (v - square).sign()


class FedAdam(Adaptive):
    """The moving mean of squares."""

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float,
        beta1: float = 0.9,
        beta2: float = 0.99,
        tau: float = 1e-3,
    ) -> None:
        super().__init__(params, lr, beta1, beta2, tau)

    def second_moment(self, v: Tensor, square: Tensor, beta2: float) -> Tensor:
        """Return β₂ v + (1 − β₂) Δ²."""
        return beta2 * v + (1 - beta2) * square
