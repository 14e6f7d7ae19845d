"""What training has cost so far, so that methods are compared by more than rounds."""

from collections.abc import Mapping
from typing import Any

from nufed.client_app.algorithm import Algorithm
from nufed.client_app.meta_gradient import Params
from nufed.conf.errors import InputError
from nufed.conf.typed import Mistyped, typed

COST = "cost"
"""Under which it stands in a round's row, and in a strategy's state."""


class Cost:
    """Gradients and bytes of all rounds so far. Personalization curves are not counted.

    Each client counts as a device of its own, also where one process hosts many.
    """

    def __init__(self) -> None:
        self._gradients = 0
        self._down = self._up = 0

    def add(self, algorithm: Algorithm, shared: Params, asked: int, replied: int) -> None:
        """Count a round, in which so many clients were asked and sent a usable update."""
        size = sum(p.nbytes for p in shared.values())
        self._gradients += asked * algorithm.tau * algorithm.gradients
        self._down += asked * size
        self._up += replied * size

    def row(self, clients: int) -> dict[str, Any]:
        """Return gradients of a batch per client, and bytes from and to the server.

        Parameters
        ----------
        clients
            That may train, whether they are there now or not.
        """
        gradients = self._gradients / max(clients, 1)
        return {"gradients": gradients, "bytes_down": self._down, "bytes_up": self._up}

    def state(self) -> dict[str, Any]:
        """Return what outlives this process."""
        return {"gradients": self._gradients, "bytes_down": self._down, "bytes_up": self._up}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` returned.

        Raises
        ------
        InputError
            If it is no such state.
        """
        try:
            counts = typed(dict(state), dict[str, int], COST)
            self._gradients = counts.get("gradients", 0)
            self._down, self._up = counts.get("bytes_down", 0), counts.get("bytes_up", 0)
        except Mistyped as error:
            raise InputError(f"resume: the checkpoint's {COST}: {error}") from error
