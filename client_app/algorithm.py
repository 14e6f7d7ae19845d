"""What a client does in a round, as one object: the contract of `client_app/algorithms/`.

The server keeps what is **shared** and averages the clients' updates of it; a client keeps its
**state** from one of its rounds to the next. A round of a client is

    carry = begin(shared, state)
    carry = step(loss_fn, carry, batches)      τ times
    update, state = end(shared, carry)

and `personal` says how its model comes of what is shared, of its state and of its own rows.

All of it is written for one client, leaf by leaf, and serves **a stack of K clients** as it is:
leaves are then [K, …] and losses [K]. Nothing here branches on the value of a tensor or writes to
one that it was given, so that the same lines are traced and compiled.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, NamedTuple, Self

import torch
from torch import Tensor

from nufed.client_app.meta_gradient import (
    Batch,
    LossFn,
    Params,
    Support,
    descend,
    trajectory,
    value_and_gradient,
)
from nufed.conf.errors import InputError
from nufed.conf.fields import class_of, made_of
from nufed.conf.schema import AUTO, MOST_STEPS, positive, require

Carry = dict[str, Params]
"""What goes from one local step to the next; "w" is what the steps descend."""
Batches = Mapping[str, Batch]
"""The batches of one local step, by the names that `draws` gives them."""


class Draws(NamedTuple):
    """Batches that a local step needs of one kind, each drawn independently of all others."""

    shape: tuple[int, ...]
    """() for one batch, (ν,) for one a fine-tuning step."""
    rows: int | None
    """Rows a batch; None: all train rows of the client."""


class Step(NamedTuple):
    """What a local step leads to."""

    carry: Carry
    loss: Tensor
    """The loss that it descends, before it: a scalar, or [K]."""
    norm: Tensor
    """‖g‖ of the step w − β g: a scalar, or [K]."""
    metrics: Mapping[str, Tensor] = {}
    """Others that a run is to show, likewise."""


class End(NamedTuple):
    """What is left of a client's round."""

    update: Params
    """What the server is to subtract, like what is shared; it takes the clients' mean."""
    state: Params
    """What the client keeps for its next round; {} if that begins as the first."""


@dataclass(frozen=True, kw_only=True)
class BatchSizes:
    """Rows a batch; null takes all train rows of the client."""

    support: int | None
    """Rows of the batch of an inner step; null: all train rows of the client."""
    query: int | None
    """Rows of the batch that the outer gradient is taken on; null: all train rows of the client."""

    def __post_init__(self) -> None:
        for each in fields(self):
            rows = getattr(self, each.name)
            valid = rows is None or rows >= 1
            require(valid, f"algorithm.batch.{each.name}", rows, "at least 1, or null")


@dataclass(frozen=True, kw_only=True)
class Algorithm:
    """What all have in common; as it stands, FedAvg.

    Its fields are the keys of `algorithm` in a run's configuration.
    """

    name: str
    """What the algorithm is called: in the run's name, and in no formula."""
    alpha: float
    """Inner step size α, in training and in evaluation; auto: chosen from the losses' curvature."""
    beta: float
    """Local (outer) step size β; auto: chosen from the losses' curvature."""
    tau: int
    """Local steps τ a round."""
    batch: BatchSizes

    by_epoch: ClassVar[bool] = False
    """Whether a step of fine-tuning, for a curve, is a pass over the client's rows, not a batch."""
    stateful: ClassVar[bool] = False
    """Whether clients keep anything from one of their rounds to the next."""
    without_hessians: ClassVar[str] = "take another algorithm"
    """What to say where the loss has no second derivatives and `needs_hessians`."""
    without_repeating: ClassVar[str] = "take another algorithm"
    """What to say where the model draws random numbers and the algorithm `repeats_the_loss`."""
    steps_follow_curvature: ClassVar[bool] = True
    """Whether α and β may be chosen from the curvature of the clients' losses."""
    learns_alpha: ClassVar[bool] = False
    """Whether steps of fine-tuning have sizes that were learned, which began as α."""
    keeps_statistics: ClassVar[bool] = False
    """Whether the running statistics of batch normalization are parameters that it takes care of:
    steps of size 1 along what stands for their gradient, see `nufed.tasks.statistics`."""

    def __post_init__(self) -> None:
        self.require_positive("alpha", "beta")
        self.require_steps("tau", least=1)

    def shared(self, model: Params) -> Params:
        """Return what is sent and averaged, given the initial model."""
        return model

    def state(self, model: Params) -> Params:
        """Return the state of a client that was never drawn.

        Parameters
        ----------
        model
            The initial model, with what is shared now in the place of what it was.
        """
        return {}

    def draws(self) -> Mapping[str, Draws]:
        """Return which batches a local step needs, by name; they are drawn in this order."""
        return {"query": Draws((), self.batch.query)}

    def begin(self, shared: Params, state: Params) -> Carry:
        """Return what the first local step starts from."""
        return {"w": shared}

    def step(self, loss_fn: LossFn, carry: Carry, batches: Batches) -> Step:
        """Take one local step: w − β ∇f_i(w; D′), unless it is another's."""
        loss, gradient = value_and_gradient(loss_fn, carry["w"], batches["query"])
        return self.stepped(carry, gradient, loss)

    def end(self, shared: Params, carry: Carry) -> End:
        """Return the update w_0 − w_τ, and the state."""
        return End(difference(shared, carry["w"]), {})

    def model(self, shared: Params, state: Params) -> Params:
        """Return a client's model before it is fine-tuned: all parameters that train."""
        return shared

    def personal(
        self, loss_fn: LossFn, shared: Params, state: Params, support: Support
    ) -> Iterator[Params]:
        """Yield a client's model after 0, 1, … batches of its own rows.

        Parameters
        ----------
        support
            The batches: one a step, or all of an epoch where that is a step (`by_epoch`).
        """
        return trajectory(loss_fn, self.model(shared, state), support, alpha=self.alpha)

    @property
    def gradients(self) -> int:
        """Gradients of a batch that a local step takes; a Hessian-vector product counts as two."""
        return 1

    @property
    def inner_steps(self) -> int:
        """Fine-tuning steps ν that training looks ahead to."""
        return 0

    @property
    def flattened(self) -> int:
        """Factors I − α∇²f by which fine-tuning flattens what local steps descend."""
        return 0

    @property
    def needs_hessians(self) -> bool:
        """Whether a step takes second derivatives of the loss."""
        return False

    @property
    def repeats_the_loss(self) -> bool:
        """Whether a step needs the same loss twice, so that a model must draw no random numbers."""
        return False

    def whole(self) -> "Algorithm":
        """Return what takes one step of size 1 along the meta-gradient over all rows of a client.

        Raises
        ------
        InputError
            If the algorithm has none.
        """
        raise InputError(
            f"diagnostics.every: algorithm={self.name} does not descend a meta-gradient ∇F, whose "
            "norm it would measure; say diagnostics.every=null"
        )

    def of_federation(self, sampled: int, clients: int) -> Self:
        """Return the same for a federation of which so many clients are drawn a round."""
        return self

    @property
    def numbers(self) -> dict[str, float]:
        """The fields that are real numbers, which the server may choose anew for each round."""
        return {each.name: getattr(self, each.name) for each in fields(self) if each.type is float}

    @property
    def unread_in_training(self) -> tuple[str, ...]:
        """Real numbers that local steps do not read, or not after the first round's."""
        return ("alpha",)

    def with_numbers(self, numbers: Mapping[str, float]) -> Self:
        """Return the same with other real numbers.

        Raises
        ------
        InputError
            If one is no field of it, or out of its range.
        """
        if unknown := sorted(numbers.keys() - self.numbers.keys()):
            raise InputError(f"algorithm.{unknown[0]}: is no real number of {self.name}")
        return replace(self, **numbers)  # type: ignore[arg-type]

    def stepped(self, carry: Carry, gradient: Params, loss: Tensor, **metrics: Tensor) -> Step:
        """Return the step w ← w − β g; the rest of the carry stays as it is."""
        moved = carry | {"w": descend(carry["w"], gradient, self.beta)}
        return Step(moved, loss, norm(gradient, axes=loss.ndim), metrics)

    def require_positive(self, *names: str) -> None:
        """Raise an `InputError` unless fields are above 0; NaN stands for auto, not chosen yet."""
        for name in names:
            value = getattr(self, name)
            allowed = f"above 0, such as 0.05{', or auto' if name in AUTOMATIC else ''}"
            valid = positive(value) or (name in AUTOMATIC and math.isnan(value))
            require(valid, f"algorithm.{name}", value, allowed)

    def require_steps(self, name: str, least: int, meaning: str = "") -> None:
        """Raise an `InputError` unless a field is a number of steps, from `least` on."""
        value = getattr(self, name)
        allowed = f"at least {least} and at most {MOST_STEPS}"
        if meaning:
            allowed = f"{least} or more{meaning}, and at most {MOST_STEPS}"
        require(least <= value <= MOST_STEPS, f"algorithm.{name}", value, allowed)


AUTOMATIC = ("alpha", "beta")
"""Step sizes that may be `auto`."""


UNSAID = ("_target_", "name", "delta", "recompute")
SYMBOLS = {"nu": "ν", "tau": "τ", "alpha": "α", "beta": "β", "lamda": "λ", "mu": "μ"}


def settings_of(values: Mapping[str, Any]) -> str:
    """Return what is set, in a line: ``ν=5, τ=5, α=0.1, β=0.5, exact``; nothing is looked up."""
    names = [name for name in dict.fromkeys([*SYMBOLS, *values]) if name in values]
    given = {name: values[name] for name in names if name not in UNSAID}
    shown = {name: f"{v:g}" if type(v) is float else v for name, v in given.items()}
    return ", ".join(
        str(value) if name == "mode" else f"{SYMBOLS.get(name, name)}={value}"
        for name, value in shown.items()
        if not isinstance(value, dict)
    )


def algorithm_of(values: Mapping[str, Any]) -> Algorithm:
    """Return the algorithm that a configuration's `algorithm` names; its step sizes may be NaN.

    Raises
    ------
    InputError
        If it names none, or a key, a type or a value is not one of its.
    """
    kind = class_of(Algorithm, values, "algorithm")
    automatic = [name for name in AUTOMATIC if values.get(name) == AUTO]
    if automatic and not kind.steps_follow_curvature:
        said = f"algorithm.{automatic[0]}={AUTO}"
        raise InputError(
            f"{said}: the curvature of the losses says nothing of the steps of {kind.__name__}; "
            "give a number"
        )
    made: Algorithm = made_of(kind, {**values, **dict.fromkeys(automatic, 1.0)}, "algorithm")
    return replace(made, **dict.fromkeys(automatic, math.nan))  # type: ignore[arg-type]


class Trained(NamedTuple):
    """What τ local steps give."""

    update: Params
    state: Params
    loss: Tensor
    """Of each local step, before it: [τ], or [τ, K]."""
    norm: Tensor
    """[τ] or [τ, K]"""
    metrics: Mapping[str, Tensor]
    """Name -> [τ] or [τ, K]."""


def local_update(
    algorithm: Algorithm,
    step: Callable[[Carry, Batches], Step],
    shared: Params,
    state: Params,
    batches: Iterable[Batches],
) -> Trained:
    """Carry a client, or a stack of them, through its round: one local step for each of `batches`.

    Parameters
    ----------
    step
        The algorithm's `step` on a loss; or what does the same, compiled.
    """
    carry, taken = algorithm.begin(shared, state), list[Step]()
    for batch in batches:
        one = step(carry, batch)
        carry = one.carry
        taken.append(one._replace(carry={}))
    end = algorithm.end(shared, carry)
    return Trained(
        end.update,
        end.state,
        torch.stack([one.loss for one in taken]),
        torch.stack([one.norm for one in taken]),
        {name: torch.stack([one.metrics[name] for one in taken]) for name in taken[0].metrics},
    )


def difference(params: Params, others: Params) -> Params:
    """Return params − others, leaf by leaf."""
    return {name: torch.sub(p, others[name]) for name, p in params.items()}


def clipped(update: Params, length: Tensor, most: float) -> Params:
    """Return an update of a norm of `length`, scaled down to `most` where it is longer.

    Of a stack, `length` is [K], and each update is scaled by itself.
    """
    scale = (most / length).clamp(max=1)
    return {
        name: p * scale.view(*scale.shape, *[1] * (p.ndim - scale.ndim))
        for name, p in update.items()
    }


def norm(params: Params, axes: int = 0) -> Tensor:
    """Return the Euclidean norm of all entries of `params` together.

    The first `axes` axes, those of a stack, are kept: a scalar, or [K] for `axes` = 1.
    """
    if not params:
        return torch.zeros(())
    flat = [p.reshape(*p.shape[:axes], -1) for p in params.values()]
    leaves = torch.stack([torch.linalg.vector_norm(p, dim=-1) for p in flat])
    total: Tensor = torch.linalg.vector_norm(leaves, dim=0)
    return total
