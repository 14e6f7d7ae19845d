"""APFL: a client predicts by a mixture of the shared model and one of its own.

    v̄ = a v + (1 − a) w
    w ← w − β ∇f_i(w; D′)
    v ← v − β a ∇f_i(v̄; D′)
    a ← a − β ⟨v − w, ∇f_i(v̄; D′)⟩, within [0, 1], where it is adaptive

each from the values before the step (Deng, Kamani and Mahdavi 2020, arXiv 2003.13461, algorithm 1
and eq. 10; a is the paper's α_i). w is the local copy of the shared model. The authors' program
takes eq. 10 on the first step of a round alone, with ∇f_i mixed of those at v̄ and at w, and adds a
penalty of a²; here it is as written, on every step. What is measured is v̄ of v, a and the shared w;
fine-tuning goes on from it.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from nufed.client_app.algorithm import Algorithm, Batches, Carry, End, Step, difference
from nufed.client_app.meta_gradient import LossFn, Params, descend, value_and_gradient
from nufed.conf.schema import require

MIXING, OWN = "mixing", "v/"
"""In the state: a client's weight a; and what the names of v begin with, unlike that."""


@dataclass(frozen=True, kw_only=True)
class APFL(Algorithm):
    """τ steps of w on f_i(w), which is averaged; τ of v on f_i(a v + (1 − a) w), which is kept."""

    stateful: ClassVar[bool] = True

    mixing: float
    """Weight a of a client's own model, to begin with."""
    adaptive: bool
    """Whether each client's weight a follows its gradient (eq. 10), or stays."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 <= self.mixing <= 1, "algorithm.mixing", self.mixing, "from 0 to 1")

    def state(self, model: Params) -> Params:
        """Return v = w, and the weight."""
        like = next(iter(model.values()))
        return _kept(model, like.new_full((), self.mixing))

    def begin(self, shared: Params, state: Params) -> Carry:
        """Start from w, and from v and its weight as they were left."""
        return {"w": shared, "v": _own(state), MIXING: {MIXING: state[MIXING]}}

    def step(self, loss_fn: LossFn, carry: Carry, batches: Batches) -> Step:
        """Take one step of each, on the same batch."""
        w, v, a = carry["w"], carry["v"], carry[MIXING][MIXING]
        loss, gradient = value_and_gradient(loss_fn, w, batches["query"])
        mixed_loss, mixed = value_and_gradient(loss_fn, mixture(v, w, a), batches["query"])
        also = {"v": descend(v, {name: along(a, g) * g for name, g in mixed.items()}, self.beta)}
        if self.adaptive:
            slope = inner(difference(v, w), mixed, axes=a.ndim)
            also[MIXING] = {MIXING: (a - self.beta * slope).clamp(0, 1)}
        return self.stepped(carry | also, gradient, loss, mixed_loss=mixed_loss, mixing=a)

    def end(self, shared: Params, carry: Carry) -> End:
        """Return the update of w; keep v and its weight."""
        kept = _kept(carry["v"], carry[MIXING][MIXING])
        return End(difference(shared, carry["w"]), kept)

    def model(self, shared: Params, state: Params) -> Params:
        """Return v̄."""
        return mixture(_own(state), shared, state[MIXING])

    @property
    def gradients(self) -> int:
        """One of w, and one of the mixture."""
        return 2


def mixture(v: Params, w: Params, a: Tensor) -> Params:
    """Return a v + (1 − a) w, leaf by leaf; a is a scalar, or [K] for a stack."""
    return {name: torch.lerp(w[name], p, along(a, p)) for name, p in v.items()}


def along(a: Tensor, p: Tensor) -> Tensor:
    """Return a, a scalar or [K], with as many axes as a leaf."""
    return a.reshape(*a.shape, *[1] * (p.ndim - a.ndim))


def inner(params: Params, others: Params, axes: int = 0) -> Tensor:
    """Return ⟨params, others⟩; the first `axes` axes, those of a stack, are kept."""
    products = [(p * others[name]).reshape(*p.shape[:axes], -1) for name, p in params.items()]
    return torch.stack([p.sum(-1) for p in products]).sum(0)


def _own(state: Params) -> Params:
    return {name.removeprefix(OWN): p for name, p in state.items() if name != MIXING}


def _kept(v: Params, a: Tensor) -> Params:
    return {f"{OWN}{name}": p for name, p in v.items()} | {MIXING: a}
