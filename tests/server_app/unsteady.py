"""A federation of six small clients, some of whom lose a message when a test says so."""

from collections.abc import Iterable

from flwr.app import Message, MessageType

from nufed.client_app.app import app as client_app
from nufed.conf.convert import to_json
from nufed.conf.schema import Config
from nufed.simulation.grid import LocalGrid

SMALL = [
    *("dataset=quadratics", "dataset.num_clients=6", "algorithm.nu=1", "engine.precision=float64"),
    *("clients_per_round=6", "evaluation.new_clients=0", "evaluation.every=2", "rounds=4"),
    *("algorithm.batch.support=null", "algorithm.batch.query=null", "server.join_timeout=0"),
    *("algorithm.alpha=0.03", "algorithm.beta=0.1"),
]
TOGETHER = "+engine.evaluate_with_training=true"


class Unsteady(LocalGrid):
    """Six SuperNodes; `script` says who loses its train message in which wave of them, from 1."""

    def __init__(self, config: Config, script: dict[int, set[int]] | None = None) -> None:
        super().__init__(client_app, {"config": to_json(config)}, num_supernodes=6)
        self.script = script or {}
        self.waves = 0
        self.kinds: list[list[str]] = []

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        messages = list(messages)
        kinds = sorted(m.metadata.message_type for m in messages)
        if kinds and MessageType.QUERY not in kinds:
            self.kinds.append(kinds)
        self.waves += MessageType.TRAIN in kinds
        ids = super().push_messages(messages)
        for message_id, message in zip(ids, messages, strict=True):
            mute = self.script.get(self.waves, set())
            if MessageType.TRAIN in kinds and message.metadata.dst_node_id - 1000 in mute:
                del self._waiting[message_id]
        return ids
