"""What a process is to do for its clients, once a message is understood: see `messages` for those.

The algorithm is always one of this process's own configuration.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from nufed.client_app.algorithm import Algorithm
from nufed.client_app.meta_gradient import Params
from nufed.client_app.states import Held, States
from nufed.conf.errors import InputError
from nufed.conf.schema import Config
from nufed.tasks.private import Local
from nufed.tasks.store import FederatedData
from nufed.tasks.task import Task, build, named


@dataclass(frozen=True)
class Training:
    """A round of local training."""

    algorithm: Algorithm
    round: int
    seed: int
    clients: Sequence[int]
    weighting: str = "uniform"
    most_rows: int | None = None
    """Train rows of a client that count in its weight; None: all."""
    each: bool = False
    """Whether each client's update is wanted, stacked along a first axis; else their mean."""
    clip_norm: float | None = None
    """L2 norm that longer updates are scaled down to; None: they stay as they are."""
    max_norm: float | None = None
    """L2 norm above which an update is left out, where others are clipped; None: none is."""
    states: States = field(default_factory=Held)

    def with_algorithm(self, **changes: Any) -> "Training":
        """Return the same job, its algorithm with other fields."""
        return replace(self, algorithm=replace(self.algorithm, **changes))

    @property
    def tau(self) -> int:
        """Local steps τ."""
        return self.algorithm.tau

    @property
    def before(self) -> int:
        """States of earlier rounds than this are read."""
        return self.round


@dataclass(frozen=True)
class Measuring:
    """Personalization curves, of the model after a round."""

    algorithm: Algorithm
    seed: int
    clients: Sequence[int]
    steps: int
    batch: int | None
    round: int = 0
    states: States = field(default_factory=Held)

    @property
    def before(self) -> int:
        """States of earlier rounds than this are read."""
        return self.round + 1


def states_of(
    task: Task, shared: Params, job: Training | Measuring, clients: Sequence[int]
) -> list[Params]:
    """Return the states that clients begin with, each the newest or that of one never drawn."""
    fresh = new_state(task, job.algorithm, shared)
    if not job.algorithm.stateful:
        return [fresh for _ in clients]
    kept = job.states.read_all(clients, job.before)
    return [_placed(state, fresh) if state else fresh for state in kept]


def new_state(task: Task, algorithm: Algorithm, shared: Params) -> Params:
    """Return the state of a client that was never drawn."""
    if type(algorithm).state is Algorithm.state:  # none, and no model need be copied for it
        return {}
    model = task.initial_params()
    return algorithm.state(model | {name: p for name, p in shared.items() if name in model})


def new_model(task: Task, algorithm: Algorithm, shared: Params) -> Params:
    """Return the model that a client which was never drawn fine-tunes from."""
    model = algorithm.model(shared, new_state(task, algorithm, shared))
    return {name: model[name] for name in task.initial_params()}


def beside(model: Params, shared: Params) -> Params:
    """Return what is shared and no part of the model."""
    return {name: p for name, p in shared.items() if name not in model}


def _placed(kept: Params, fresh: Params) -> Params:
    """Return a state as the task computes with it; `fresh` where there is none that fits."""
    if {name: p.shape for name, p in kept.items()} != {name: p.shape for name, p in fresh.items()}:
        return fresh
    return {name: kept[name].to(p) for name, p in fresh.items()}


def task_for(
    algorithm: Algorithm,
    config: Config,
    local: Local | None = None,
    data: FederatedData | None = None,
) -> Task:
    """Map the data and make the model of a configuration; arguments as of `tasks.task.build`.

    Raises
    ------
    InputError
        If they cannot be used, or not by this algorithm.
    """
    task = build(
        config,
        local,
        data,
        twice=algorithm.needs_hessians,
        statistics=algorithm.keeps_statistics,
    )
    missing = task.derivatives.missing
    if algorithm.needs_hessians and missing is not None:
        raise InputError(
            f"{named(config)}: its loss has no second derivative ({missing:.150}); "
            f"{algorithm.without_hessians}"
        )
    if config.diagnostics.every is not None and missing is not None:
        raise InputError(
            f"diagnostics.every={config.diagnostics.every}: needs second derivatives, and the loss "
            f"has none ({missing:.150}); say diagnostics.every=null"
        )
    if task.draws and algorithm.repeats_the_loss:
        raise InputError(
            f"algorithm={algorithm.name}: computes each step more than once, and the model draws "
            f"random numbers (dropout), others each time; {algorithm.without_repeating}"
        )
    return task
