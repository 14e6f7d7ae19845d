"""The inner loop moves the head alone, the outer one everything.

Raghu, Raghu, Bengio and Vinyals, "Rapid Learning or Feature Reuse? Towards Understanding the
Effectiveness of MAML" (ICLR 2020, arXiv 1909.09157), §4: MAML with

    θ^0 = w,    θ^{l+1} = θ^l − (0, …, 0, α ∇_head f_i(θ^l; D_l)),

that is the meta-gradient with the inner step size α for the head and 0 for the body:

    ∇F_i(w) = ∏_l (I − ∇²f_i(θ^l; D_l) P) ∇f_i(θ^ν; D′),    P = α on the head, 0 on the body.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

from nufed.client_app.algorithm import Algorithm, Batches, Carry, Draws, Step
from nufed.client_app.leaves import head_of, only, without
from nufed.client_app.meta_gradient import LossFn, Params, Support, value_and_meta_gradient
from nufed.client_app.partly_shared import part_tuned
from nufed.conf.schema import require

MODES = ("exact", "first_order")


@dataclass(frozen=True, kw_only=True)
class ANIL(Algorithm):
    """τ steps w ← w − β ∇F_i(w), where F_i(w) is the loss after ν inner steps of the head alone."""

    without_hessians: ClassVar[str] = "say algorithm.mode=first_order"

    nu: int
    """Fine-tuning (inner) steps ν, of the head."""
    mode: str = "exact"
    """`exact`, or `first_order`: Hessians dropped."""
    head: str | int | None = None
    """What the names of the head's parameters begin with; null: the layer of the last one."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_steps("nu", least=1)
        require(self.mode in MODES, "algorithm.mode", self.mode, " | ".join(MODES))

    def draws(self) -> Mapping[str, Draws]:
        """Return ν support batches and the query batch."""
        return {
            "support": Draws((self.nu,), self.batch.support),
            "query": Draws((), self.batch.query),
        }

    def step(self, loss_fn: LossFn, carry: Carry, batches: Batches) -> Step:
        """Take one step along the meta-gradient."""
        w = carry["w"]
        loss, gradient = value_and_meta_gradient(
            loss_fn,
            w,
            batches["support"],
            batches["query"],
            alpha={name: w[name].new_full((), self.alpha) for name in head_of(w, self.head)},
            mode=self.mode,
        )
        return self.stepped(carry, gradient, loss)

    def personal(
        self, loss_fn: LossFn, shared: Params, state: Params, support: Support
    ) -> Iterator[Params]:
        """Yield the model after 0, 1, … fine-tuning steps of its head."""
        head = head_of(shared, self.head)
        fixed, moved = without(shared, head), only(shared, head)
        return part_tuned(loss_fn, fixed, moved, support, alpha=self.alpha)

    @property
    def inner_steps(self) -> int:
        """ν."""
        return self.nu

    @property
    def unread_in_training(self) -> tuple[str, ...]:
        """None: α is the size of the inner steps."""
        return ()

    @property
    def gradients(self) -> int:
        """ν + 1, and a Hessian-vector product for each inner step where there are Hessians."""
        return self.nu + 1 + (2 * self.nu if self.needs_hessians else 0)

    @property
    def needs_hessians(self) -> bool:
        """Whether the meta-gradient is exact."""
        return self.mode == "exact"
