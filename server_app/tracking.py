"""The hooks of a run. All that watches one is a callback of this one kind.

The run folder, checkpoints, early stopping, progress, the trackers and a person's own are; a run of
rounds 0 … R is

    on_start, (on_round, [on_evaluation]) for round 0, …, (on_round, [on_evaluation]) for R, on_end
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from nufed.client_app.meta_gradient import Params
from nufed.conf.schema import Config
from nufed.strategies.curves import Evaluation
from nufed.tasks.module_state import Size
from nufed.tasks.task import Task

if TYPE_CHECKING:
    from nufed.server_app.report.sections import SectionOf

Row = dict[str, Any]


class State(NamedTuple):
    """All that the rounds after one depend on, beside the configuration."""

    round: int
    params: Params
    """The global model; empty where only the rows of a run are known."""
    strategy: dict[str, Any]
    """What the strategy's `state_dict` gives."""


@dataclass(frozen=True)
class RunInfo:
    """What is known of a run before its first round."""

    config: Config
    size: Size
    """Parameters of the model."""
    participating: int
    new: int
    rows: tuple[Row, ...] = ()
    """What metrics.jsonl holds already, of a run that is resumed."""
    task: Task | None = None
    """What is learned; None where a run is followed from afar."""


class Callback:
    """Five hooks; override those you need. An exception from one ends the run."""

    stop: bool = False
    """Set in a hook of a round, it ends the run after that round, which is not evaluated for it."""

    report_sections: "Sequence[SectionOf]" = ()
    """Of a person's own callback: functions of a `Record` that give a `Section` of report.html."""

    def __str__(self) -> str:
        return type(self).__name__

    def on_start(self, run: RunInfo) -> None:
        """Before the first round."""

    def on_round(self, row: Row, state: State) -> None:
        """After each round, with its row of metrics.jsonl and the new global model."""

    def on_evaluation(self, row: Row, state: State) -> None:
        """After `on_round`, where the round was evaluated."""

    def on_clients(self, evaluation: Evaluation) -> None:
        """At the end, before `on_end`: what the last evaluation measured, client by client.

        Clients go by the ids that the data set has for them.
        """

    def on_end(self, summary: dict[str, Any]) -> None:
        """After the last round, or once the run was cut short (`summary["stopped"]` says why).

        What a callback adds to the summary, those after it see.
        """


HOOKS = tuple(name for name in vars(Callback) if name.startswith("on_"))


def evaluated(row: Row) -> bool:
    """Tell whether a round was evaluated."""
    return "evaluation_failures" in row


def pass_on(row: Row, state: State, callbacks: Iterable[Callback]) -> None:
    """Call the hooks of a round."""
    for callback in callbacks:
        callback.on_round(row, state)
    if evaluated(row):
        for callback in callbacks:
            callback.on_evaluation(row, state)
