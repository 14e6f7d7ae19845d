"""What clients keep between their rounds, where their rows are: a slot for a client and a round.

`read_all(clients, before)` gives the newest states of *earlier* rounds, so that a round that is
repeated, and a run that goes on from a checkpoint, begin from what they began from. What no
checkpoint asks for any more is written over (`nufed.client_app.slots`).

    <folder>/<layout>.index, <layout>.slots    the states of one layout
    <folder>/session                           which process carries the run on
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from nufed.client_app import former_states as former
from nufed.client_app.layout import Layout
from nufed.client_app.meta_gradient import Params
from nufed.client_app.slots import Slots, held, put
from nufed.conf.errors import CannotWrite, InputError
from nufed.conf.files import is_there, read_bytes

SESSION = "session"
LONGEST = 100  # characters of a session's name
HEADER = 1 << 20
"""Bytes of names and shapes that a file of an older version had at most."""
BLOCK = 1 << 23
"""Bytes that are read or written in one go, more where one state has more."""


class States(Protocol):
    """Where clients' states lie."""

    missed: set[int]
    """Clients whose state was asked for, and is not there."""

    def read_all(self, clients: Sequence[int], before: int) -> list[Params]:
        """Return the newest states of rounds earlier than `before`; empty where there is none."""

    def keep_all(self, clients: Sequence[int], round: int, states: Params) -> None:
        """Keep the states, [K, …], that a round led to; empty ones are none."""

    def read(self, client: int, before: int) -> Params:
        """Return one client's."""
        (state,) = self.read_all([client], before)
        return state

    def keep(self, client: int, round: int, state: Params) -> None:
        """Keep one client's."""
        self.keep_all([client], round, {name: p[None] for name, p in state.items()})


class Held(States):
    """States in memory that somebody else keeps: of nobody, or those brought to a worker."""

    def __init__(self, brought: Mapping[int, Params] | None = None) -> None:
        self.brought, self.missed = brought or {}, set[int]()
        self.kept: dict[int, Params] = {}

    def read_all(self, clients: Sequence[int], before: int) -> list[Params]:
        """Return the states that were brought along."""
        return [self.brought.get(client, {}) for client in clients]

    def keep_all(self, clients: Sequence[int], round: int, states: Params) -> None:
        """Take note of them, for whoever keeps them."""
        for i, client in enumerate(clients):
            self.kept[client] = {name: p[i] for name, p in states.items()}

    def on_cpu(self) -> dict[int, Params]:
        """Return what was kept, where every process can have it: tensors of their own."""
        return {
            client: {name: p.detach().cpu().clone() for name, p in state.items()}
            for client, state in self.kept.items()
        }


class StateFolder(States):
    """States in files; a state that is lost or damaged is none.

    Parameters
    ----------
    folder
        Of one run; it need not be there.
    like
        A state; all have its names, shapes and types.
    session
        Names the process that carries the run on. A new one goes on after round `since`; states of
        later rounds are then of rounds that will be done again.
    since
        The round after which this session began.
    saved
        The rounds of the checkpoints that the run may go on from, two at most.

    Raises
    ------
    CannotWrite
        If the folder cannot be written.
    """

    def __init__(
        self, folder: Path, like: Params, session: str, since: int, saved: Sequence[int]
    ) -> None:
        self.folder, self.saved, self.missed = folder, saved, set[int]()
        self._layout = Layout.of(like)
        self._slots = self._slots_of(self._layout)
        note = folder / SESSION
        if is_there(note) and read_bytes(note, largest=LONGEST) == session.encode():
            return
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CannotWrite.of(folder, error) from error
        with held(note) as file:  # the first of a session's processes, which others wait for
            if os.pread(file, LONGEST, 0) != session.encode():
                self._slots.forget(since)
                self._take_over(since)
                os.truncate(file, 0)
                put(file, session.encode(), 0)

    def read_all(self, clients: Sequence[int], before: int) -> list[Params]:
        """Return the newest states of rounds earlier than `before`; empty where one is lost."""
        if not self._layout.size:
            return [{} for _ in clients]
        return [state for some in self._blocks(clients) for state in self._read(some, before)]

    def keep_all(self, clients: Sequence[int], round: int, states: Params) -> None:
        """Write states over those that no checkpoint asks for; empty ones are none.

        Raises
        ------
        CannotWrite
            If the disk is full, or not to be written to.
        InputError
            If they are of another layout than the algorithm's first state.
        """
        if not states:
            return
        if not self._layout.fits(states):
            raise InputError(
                "algorithm: a client's round ends with a state of other names or shapes than "
                "Algorithm.state gives"
            )
        if not self._layout.size:
            return
        at = 0
        for some in self._blocks(clients):
            rows = self._layout.pack({n: p[at : at + len(some)] for n, p in states.items()})
            self._slots.write(some, round, rows, self.saved)
            at += len(some)

    def _read(self, clients: Sequence[int], before: int) -> list[Params]:
        rows, found = self._slots.read(clients, before)
        self.missed.update(client for client, has in zip(clients, found, strict=True) if not has)
        stack = self._layout.unpack(rows if found.all() else rows[found])
        leaves = zip(*(p.unbind() for p in stack.values()), strict=True)
        states = (dict(zip(stack, each, strict=True)) for each in leaves)
        return [next(states) if has else {} for has in found.tolist()]

    def _blocks(self, clients: Sequence[int]) -> Iterator[Sequence[int]]:
        """Share clients out, so that the bytes of their states are few at a time."""
        size = max(BLOCK // self._layout.size, 1)
        return (clients[at : at + size] for at in range(0, len(clients), size))

    def _slots_of(self, layout: Layout) -> Slots:
        return Slots(self.folder / layout.name, layout.size)

    def _take_over(self, since: int) -> None:
        """Keep what an earlier session left here in another form, in that of this one."""
        if not self._layout.size:
            return
        for layout in self._layout.in_other_precisions():
            slots = self._slots_of(layout)
            for client, round, content in slots.all():
                if round <= since:
                    self.keep_all([client], round, layout.unpack(content[None]))
            slots.remove()
        for client, round, state in former.states(self.folder, 4 * self._layout.size + HEADER):
            stack = {name: p[None] for name, p in state.items()}
            if round <= since and self._layout.fits(stack):
                self.keep_all([client], round, stack)
        former.remove(self.folder)
