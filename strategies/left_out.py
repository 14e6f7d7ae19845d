"""SuperNodes whose answer could not be used: left out for now, and asked again after a while."""

import logging
import time
from collections.abc import Container
from dataclasses import dataclass

PAUSE_S, LONGEST_PAUSE_S = 5.0, 300.0
"""Until a node is asked again: at first, and at most; twice as long each time."""

log = logging.getLogger("nufed")


@dataclass(frozen=True)
class _Node:
    why: str
    pause: float
    again: float
    """When it is asked again, by time.monotonic."""


class LeftOut:
    """Which nodes these are, why, and until when. What is said of them is not said twice."""

    def __init__(self) -> None:
        self._nodes: dict[int, _Node] = {}

    def __contains__(self, node: int) -> bool:
        return node in self._nodes

    def keep(self, present: Container[int]) -> None:
        """Forget nodes that left."""
        self._nodes = {node: each for node, each in self._nodes.items() if node in present}

    def paused(self) -> set[int]:
        """Return the nodes that are not to be asked yet."""
        now = time.monotonic()
        return {node for node, each in self._nodes.items() if each.again > now}

    def add(self, node: int, why: str) -> None:
        """Leave a node out, once more perhaps, and say why where that is new."""
        before = self._nodes.get(node)
        pause = PAUSE_S if before is None else min(2 * before.pause, LONGEST_PAUSE_S)
        self._nodes[node] = _Node(why, pause, time.monotonic() + pause)
        if before is None or before.why != why:
            log.warning("SuperNode %d is left out: %s", node, why)

    def remove(self, node: int) -> None:
        """Leave a node out no longer."""
        if self._nodes.pop(node, None) is not None:
            log.warning("SuperNode %d is no longer left out", node)
