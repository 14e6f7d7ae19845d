"""The baselines of a client's own rows, each a function in a file of its own.

None is returned where it makes no sense of the data. Nothing of a model is chosen by a test row.
"""

import reprlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from nufed.client_app import figures
from nufed.client_app.baselines.alone import alone, alone_linear
from nufed.client_app.baselines.boosting import alone_boosting
from nufed.client_app.baselines.clients import Clients, Scores
from nufed.client_app.baselines.constant import constant
from nufed.client_app.executor import OneByOne
from nufed.client_app.messages import (
    EvaluateReport,
    MalformedMessage,
    possible,
    require_figures,
    require_names,
)
from nufed.client_app.meta_gradient import Params
from nufed.client_app.work import Measuring
from nufed.conf.errors import NuFedError
from nufed.conf.schema import BASELINES, Config
from nufed.tasks.task import Task

ALONE = "query.alone"  # a message type
LONGEST, SHORTEST, A_ROUND = 256, 16, 5
"""Steps of training: so many for each round of the run, and no more or less than these."""

Baseline = Callable[[Clients], Scores | None]

LOCAL: tuple[Baseline, ...] = constant, alone_linear, alone, alone_boosting
OF_SKLEARN = {"alone_boosting", "pooled_boosting"}
"""Those of ``baselines=sklearn`` alone."""


@dataclass(frozen=True)
class AloneInstruction:
    """A question: what do these clients have by their own rows alone."""

    clients: list[int]

    def __post_init__(self) -> None:
        few = len(set(self.clients)) == len(self.clients)
        possible("clients", reprlib.repr(self.clients), few)


@dataclass(frozen=True)
class AloneReport:
    """What they have, of the metric by which personal models are compared with it."""

    clients: list[int]
    names: list[str]
    """Baselines."""
    scores: list[float]
    """[baseline, client] in one row; NaN where there is none."""
    reasons: list[str]
    """Why a baseline is missing."""

    def __post_init__(self) -> None:
        require_names(self.names)
        if unknown := sorted(set(self.names) - {each.__name__ for each in LOCAL}):
            raise MalformedMessage(f"unknown baselines {reprlib.repr(unknown)}")
        if len(self.scores) != len(self.names) * len(self.clients):
            raise MalformedMessage(f"{len(self.scores)} scores of {len(self.names)} baselines")
        require_figures("scores", self.scores)


def wanted(baseline: Baseline, config: Config) -> bool:
    """Tell whether a run's configuration asks for a baseline."""
    return config.baselines == BASELINES[-1] or baseline.__name__ not in OF_SKLEARN


def longest(config: Config) -> int:
    """Return the most steps that a model is trained beside a run."""
    return min(max(A_ROUND * config.rounds, SHORTEST), LONGEST)


def trained_alone(config: Config, task: Task, instruction: AloneInstruction) -> AloneReport:
    """Train and score what the configuration's `baselines` names; nothing where it is ``none``.

    A baseline that raises does not stop the others.
    """
    part = task.data.partition
    clients = [client for client in instruction.clients if len(part.test_rows(client))]
    if config.baselines == "none" or not clients:
        return AloneReport([], [], [], [])
    of = Clients(config, task, clients, longest(config), one_after_another)
    found, reasons = dict[str, list[float]](), list[str]()
    for baseline in LOCAL:
        if not wanted(baseline, config):
            continue
        try:
            scores = baseline(of)
        except NuFedError:
            raise
        except Exception as error:  # of a model to which Adam does something else
            reasons.append(f"{baseline.__name__}: {type(error).__name__}: {error}")
            continue
        if scores is not None:
            found[baseline.__name__] = scores[of.metric].tolist()
    flat = figures.as_reported(np.concatenate([*found.values()]) if found else [])
    return AloneReport(clients, [*found], flat, reasons)


def one_after_another(task: Task, model: Params, instruction: Measuring) -> EvaluateReport:
    """Measure clients as a SuperNode does."""
    return OneByOne(task).evaluate(model, instruction)
