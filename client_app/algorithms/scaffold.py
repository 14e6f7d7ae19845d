"""SCAFFOLD: control variates take the clients' drift out of their local steps.

    w ← w − β [∇f_i(w; D′) + c − c_i]                     τ times
    c_i⁺ = c_i − c + (w_0 − w_τ) / (τ β)                  (option II)
    c ← c + |S|/n · (1/|S|) Σ_{i ∈ S} (c_i⁺ − c_i)

(Karimireddy, Kale, Mohri, Reddi, Stich and Suresh 2020, ICML, arXiv 1910.06378, algorithm 1.) c is
shared beside the model, as leaves ``c/<parameter>``; a client keeps c_i. All begin at 0. The server
takes the mean of clients' updates alone, so each sends |S|/n (c_i − c_i⁺): S are the clients drawn
a round, of n. With an optimizer at the server other than averaging, which is the paper's η_g = 1, c
goes through it too.
"""

import math
from dataclasses import dataclass, replace
from typing import ClassVar, Self

from nufed.client_app.algorithm import Algorithm, Batches, Carry, End, Step, difference
from nufed.client_app.leaves import plus, scaled, zeros_like
from nufed.client_app.meta_gradient import LossFn, Params, value_and_gradient
from nufed.conf.schema import require

CONTROL = "c/"
"""What the names of the leaves of c begin with."""


@dataclass(frozen=True, kw_only=True)
class Scaffold(Algorithm):
    """τ steps w ← w − β [∇f_i(w) + c − c_i]; c is the mean over clients of their c_i."""

    stateful: ClassVar[bool] = True

    participation: float = math.nan
    """|S|/n, which the server says; what is set here is taken in its place."""

    def __post_init__(self) -> None:
        super().__post_init__()
        valid = math.isnan(self.participation) or 0 < self.participation <= 1
        require(valid, "algorithm.participation", self.participation, "above 0, and at most 1")

    def shared(self, model: Params) -> Params:
        """Return the model, and c = 0 beside it."""
        return model | _named(zeros_like(model))

    def state(self, model: Params) -> Params:
        """Return c_i = 0."""
        return zeros_like(model)

    def begin(self, shared: Params, state: Params) -> Carry:
        """Start from w_0, with the correction c − c_i."""
        return {"w": self.model(shared, state), "correction": difference(_control(shared), state)}

    def step(self, loss_fn: LossFn, carry: Carry, batches: Batches) -> Step:
        """Take one corrected step."""
        loss, gradient = value_and_gradient(loss_fn, carry["w"], batches["query"])
        return self.stepped(carry, plus(gradient, carry["correction"]), loss)

    def end(self, shared: Params, carry: Carry) -> End:
        """Return the updates of w and of c; keep c_i⁺."""
        update = difference(self.model(shared, {}), carry["w"])
        mean = scaled(update, 1 / (self.tau * self.beta))
        change = difference(mean, _control(shared))  # c_i⁺ − c_i
        kept = difference(mean, carry["correction"])  # c_i⁺
        return End(update | _named(scaled(change, -self.participation)), kept)

    def model(self, shared: Params, state: Params) -> Params:
        """Return w."""
        return {name: p for name, p in shared.items() if not name.startswith(CONTROL)}

    def of_federation(self, sampled: int, clients: int) -> Self:
        """Return the same with |S|/n, unless that is set."""
        known = not math.isnan(self.participation)
        return self if known else replace(self, participation=sampled / clients)


def _named(c: Params) -> Params:
    return {f"{CONTROL}{name}": p for name, p in c.items()}


def _control(shared: Params) -> Params:
    return {name.removeprefix(CONTROL): p for name, p in shared.items() if name.startswith(CONTROL)}
