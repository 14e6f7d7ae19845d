"""What the server tells clients that keep a state, so that they read that of the right round.

The states themselves stay with the clients. The server knows whose updates it used: a client among
them that has no state has lost it.
"""

import secrets
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from nufed.client_app.messages import KEY, Memory
from nufed.conf.errors import InputError
from nufed.conf.typed import Mistyped, typed

REMEMBERED = "remembered"
"""The key of it in a strategy's state."""


class Remembered:
    """Which run this is, also when it is resumed, and who has a state in it."""

    def __init__(self) -> None:
        self.run, self.session = secrets.token_hex(16), secrets.token_hex(16)
        self.since = 0
        self.checkpoints: Callable[[], list[int]] = list
        """Returns the rounds of the checkpoints that the run may go on from."""
        self._clients: set[int] = set()

    def add(self, clients: Iterable[int]) -> None:
        """Take note of clients whose updates were used."""
        self._clients.update(clients)

    def of(self, clients: list[int]) -> Memory:
        """Return what these clients are told."""
        known = [client for client in clients if client in self._clients]
        return Memory(self.run, self.session, self.since, self.checkpoints(), known)

    def state(self) -> dict[str, Any]:
        """Return what outlives this process."""
        return {"run": self.run, "clients": sorted(self._clients)}

    def restore(self, state: Mapping[str, Any], round: int) -> None:
        """Go on after a round, with what `state` returned then.

        Raises
        ------
        InputError
            If it is no such state.
        """
        self.since = max(round, 0)
        if not state:
            return
        try:
            run = typed(state.get("run"), str, "run")
            clients = typed(state.get("clients"), list[int], "clients")
        except Mistyped as error:
            raise InputError(f"resume: the checkpoint's {REMEMBERED}: {error}") from error
        if not KEY.fullmatch(run):
            raise InputError(f"resume: the checkpoint's {REMEMBERED}: run is {run!r:.40}")
        self.run, self._clients = run, set(clients)
