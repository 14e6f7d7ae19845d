"""Descent on the loss after ν fine-tuning steps, along its exact meta-gradient or an approximation.

The generalized framework of Jamali, Saber and Bae (2025, arXiv 2504.21327): ν = 0 is FedAvg
(McMahan et al. 2017), ν = 1 Per-FedAvg (Fallah et al. 2020, with its first-order and Hessian-free
approximations).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from nufed.client_app.algorithm import (
    Algorithm,
    Batches,
    BatchSizes,
    Carry,
    Draws,
    Step,
    algorithm_of,
)
from nufed.client_app.meta_gradient import MODES, LossFn, value_and_meta_gradient
from nufed.conf.errors import InputError
from nufed.conf.schema import require


@dataclass(frozen=True, kw_only=True)
class WithHessian(BatchSizes):
    """Rows a batch; null takes all train rows of the client."""

    hessian: int | None = None
    """Rows of an independent Hessian batch; null lets the support batches serve for it."""


@dataclass(frozen=True, kw_only=True)
class MetaGradient(Algorithm):
    """τ steps w ← w − β ∇̃F_i(w), where F_i(w) = f_i(θ_i^ν(w))."""

    without_hessians: ClassVar[str] = "say algorithm.mode=first_order, or hessian_free"
    without_repeating: ClassVar[str] = (
        "say algorithm.mode=exact or first_order, with algorithm.recompute=false"
    )

    nu: int
    """Fine-tuning (inner) steps ν."""
    mode: str = "exact"
    """`exact`; `first_order`: Hessians dropped; `hessian_free`: their products by differences."""
    delta: float = 1e-3
    """Step δ of mode=hessian_free."""
    recompute: bool = False
    """Exact meta-gradients in O(ν · parameters) memory, each step's graph made twice."""
    batch: WithHessian

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_steps("nu", 0, " (0 is FedAvg, 1 Per-FedAvg)")
        self.require_positive("delta")
        require(self.mode in MODES, "algorithm.mode", self.mode, " | ".join(MODES))

    def draws(self) -> Mapping[str, Draws]:
        """Return support batches D_l, the query batch D′ and, where asked for, Hessian batches."""
        query = {"query": Draws((), self.batch.query)}
        if not self.nu:
            return query
        draws = {"support": Draws((self.nu,), self.batch.support)} | query
        if self.batch.hessian is not None:
            draws["hessian"] = Draws((self.nu,), self.batch.hessian)
        return draws

    def step(self, loss_fn: LossFn, carry: Carry, batches: Batches) -> Step:
        """Take one step w − β ∇̃F_i(w)."""
        loss, gradient = value_and_meta_gradient(
            loss_fn,
            carry["w"],
            batches.get("support", ()),
            batches["query"],
            alpha=self.alpha,
            mode=self.mode,
            hessian=batches.get("hessian"),
            delta=self.delta,
            recompute=self.recompute,
        )
        return self.stepped(carry, gradient, loss)

    def whole(self) -> "MetaGradient":
        """Return what takes one exact step of size 1 over all rows of a client."""
        rows = WithHessian(support=None, query=None)
        return replace(self, beta=1.0, tau=1, mode="exact", batch=rows)

    @property
    def flattened(self) -> int:
        """2ν, as in ∇²F = ∇²f (I − α∇²f)^{2ν} of quadratics; ν without Hessians."""
        return self.nu if self.mode == "first_order" else 2 * self.nu

    @property
    def inner_steps(self) -> int:
        """ν."""
        return self.nu

    @property
    def gradients(self) -> int:
        """ν + 1, and a Hessian-vector product for each inner step where there are Hessians."""
        return self.nu + 1 + (0 if self.mode == "first_order" else 2 * self.nu)

    @property
    def unread_in_training(self) -> tuple[str, ...]:
        """α where there are no inner steps, δ where no Hessians are left out."""
        inner = () if self.nu else ("alpha",)
        return inner if self.nu and self.mode == "hessian_free" else (*inner, "delta")

    @property
    def needs_hessians(self) -> bool:
        """Whether ν > 0 meta-gradients are exact."""
        return self.nu > 0 and self.mode == "exact"

    @property
    def repeats_the_loss(self) -> bool:
        """Whether a step's loss is differentiated more than once."""
        twice = self.mode == "hessian_free" or (self.mode == "exact" and self.recompute)
        return self.nu > 0 and twice


def meta_gradient_of(values: Mapping[str, Any]) -> MetaGradient:
    """Return the algorithm of a configuration, where that is one of this family.

    Raises
    ------
    InputError
        If it is another one, of which the theory says nothing.
    """
    algorithm = algorithm_of(values)
    if not isinstance(algorithm, MetaGradient):
        raise InputError(
            f"algorithm={algorithm.name}: the theory is about fedavg, per_fedavg and nufed, which "
            "descend a meta-gradient; it says nothing of others"
        )
    return algorithm
