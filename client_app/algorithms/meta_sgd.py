"""The inner step sizes are learned with the model, one for each of its entries.

Li, Zhou, Chen and Li, "Meta-SGD: Learning to Learn Quickly for Few-Shot Learning" (2017, arXiv
1707.09835), Algorithm 1: an inner step is θ ← θ − a ⊙ ∇f_i(θ), and

    (w, a) ← (w, a) − β ∇_{(w, a)} F_i(w, a),    F_i(w, a) = f_i(θ^ν),    θ^0 = w.

The paper takes ν = 1; entries of a may become negative, there as here. For any ν, with
v^ν = ∇f_i(θ^ν; D′) and back from there,

    ∂F_i/∂a = −Σ_l ∇f_i(θ^l; D_l) ⊙ v^{l+1},    v^l = v^{l+1} − ∇²f_i(θ^l; D_l) (a ⊙ v^{l+1}).

The federated form, with a averaged beside w, is Chen, Luo, Dong, Li and He (2018, arXiv
1802.07876).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch

from nufed.client_app.algorithm import Algorithm, Batches, Carry, Draws, Step
from nufed.client_app.leaves import zeros_like
from nufed.client_app.meta_gradient import (
    HessianVectorProduct,
    LossFn,
    Params,
    Support,
    descend,
    linearize,
    pulled_back,
    steps,
    trajectory,
    value_and_gradient,
)
from nufed.conf.schema import require

MODES = ("exact", "first_order")
RATE = "a/"
"""What precedes a parameter's name in that of its step sizes."""


@dataclass(frozen=True, kw_only=True)
class MetaSGD(Algorithm):
    """τ steps (w, a) ← (w, a) − β ∇F_i(w, a), where inner steps are θ ← θ − a ⊙ ∇f_i(θ).

    `alpha` is what all entries of a begin with; from then on they are the step sizes, in training
    and in evaluation.
    """

    without_hessians: ClassVar[str] = "say algorithm.mode=first_order"
    steps_follow_curvature: ClassVar[bool] = False
    learns_alpha: ClassVar[bool] = True

    nu: int
    """Fine-tuning (inner) steps ν."""
    mode: str = "exact"
    """`exact`, or `first_order`: Hessians dropped."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_steps("nu", least=1)
        require(self.mode in MODES, "algorithm.mode", self.mode, " | ".join(MODES))

    def shared(self, model: Params) -> Params:
        """Return the model, and its step sizes a beside it."""
        rates = {f"{RATE}{name}": torch.full_like(p, self.alpha) for name, p in model.items()}
        return model | rates

    def draws(self) -> Mapping[str, Draws]:
        """Return ν support batches and the query batch."""
        return {
            "support": Draws((self.nu,), self.batch.support),
            "query": Draws((), self.batch.query),
        }

    def step(self, loss_fn: LossFn, carry: Carry, batches: Batches) -> Step:
        """Take one step of model and step sizes."""
        theta, a = _parts(carry["w"])
        walked = list[tuple[Params, HessianVectorProduct | None]]()
        for batch in steps(batches["support"]):
            gradient, hvp = self._linearized(loss_fn, theta, batch)
            walked.append((gradient, hvp))
            theta = descend(theta, gradient, a)
        loss, v = value_and_gradient(loss_fn, theta, batches["query"])
        of_a = zeros_like(a)
        while walked:  # popped, so that each step's graph is freed once it has served
            gradient, hvp = walked.pop()
            of_a = {n: torch.addcmul(g, gradient[n], v[n], value=-1) for n, g in of_a.items()}
            v = v if hvp is None else pulled_back(v, hvp, a)
        return self.stepped(carry, v | {f"{RATE}{name}": g for name, g in of_a.items()}, loss)

    def model(self, shared: Params, state: Params) -> Params:
        """Return the model without its step sizes."""
        return _parts(shared)[0]

    def personal(
        self, loss_fn: LossFn, shared: Params, state: Params, support: Support
    ) -> Iterator[Params]:
        """Yield the model after 0, 1, … fine-tuning steps of the learned sizes."""
        model, a = _parts(shared)
        return trajectory(loss_fn, model, support, alpha=a)

    @property
    def inner_steps(self) -> int:
        """ν."""
        return self.nu

    @property
    def gradients(self) -> int:
        """ν + 1, and a Hessian-vector product for each inner step where there are Hessians."""
        return self.nu + 1 + (2 * self.nu if self.needs_hessians else 0)

    @property
    def needs_hessians(self) -> bool:
        """Whether the meta-gradient is exact."""
        return self.mode == "exact"

    def _linearized(
        self, loss_fn: LossFn, theta: Params, batch: tuple[torch.Tensor, ...]
    ) -> tuple[Params, HessianVectorProduct | None]:
        """Return ∇f(θ) and v ↦ ∇²f(θ) v, or None where it is dropped."""
        if self.mode == "exact":
            return linearize(loss_fn, theta, batch)
        return value_and_gradient(loss_fn, theta, batch).gradient, None


def _parts(shared: Params) -> tuple[Params, Params]:
    """Return the model, and the step size of each of its entries by the same names."""
    model = {name: p for name, p in shared.items() if not name.startswith(RATE)}
    return model, {name: shared[f"{RATE}{name}"] for name in model}
