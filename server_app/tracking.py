"""The hooks of a run. Progress, the run folder and any tracker are callbacks of this one kind."""

from dataclasses import dataclass
from typing import Any

from client_app.meta_gradient import Params
from conf.schema import Config
from strategies.curves import Evaluation

Row = dict[str, Any]


@dataclass(frozen=True)
class RunInfo:
    """What is known of a run before its first round."""

    config: Config
    parameters: int
    """Parameters of the model."""
    participating: int
    new: int
    rows: tuple[Row, ...] = ()
    """What metrics.jsonl holds already, of a run that is resumed."""


class Callback:
    """Four hooks; override those you need."""

    def on_start(self, run: RunInfo) -> None:
        """Before the first round."""

    def on_round(self, row: Row, params: Params) -> None:
        """After each round, with its row of metrics.jsonl and the new global model."""

    def on_clients(self, evaluation: Evaluation) -> None:
        """At the end, before `on_end`: what the last evaluation measured, client by client."""

    def on_end(self, summary: dict[str, Any]) -> None:
        """After the last round, or once the run stopped early (`summary["stopped"]` says why)."""
