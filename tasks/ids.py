"""What clients are called: the ids of the data set, as they are; else 0, 1, … n − 1.

An id is a whole number of 64 bits, or text. Everywhere else in the code clients are numbered
0 … n − 1, in the sorted order of their ids; a person types and reads ids alone.
"""

import difflib
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nufed.conf.errors import InputError
from nufed.conf.memory import require_room

Id = int | str
Ids = NDArray[np.integer | np.str_]
"""int64; uint64 where one is beyond that; else text."""

DIGITS = re.compile(r"[0-9]{1,600}")
WHOLE = re.compile(r"0|-?[1-9][0-9]{0,19}")
"""A whole number as one writes it, of 64 bits or little more."""
LONGEST = 1000  # characters of an id
SHOWN = 5  # ids, where one is not there
COMPARED = 10_000  # ids that a mistyped one is compared with
REMEDY = "give [N] integers or text"


@dataclass(frozen=True)
class ClientIds:
    """The ids of clients 0 … n − 1."""

    n: int
    given: Ids | None = None
    """[n] Those of the data set, each once; None where the clients have no ids but their numbers.
    """

    def __getitem__(self, number: int) -> Id:
        """Return the id of a client."""
        if self.given is None:
            return int(number)
        found: Id = self.given[number].item()
        return found

    def number(self, id: Id) -> int | None:
        """Return which client is called so, None if none is; a number may be typed as text."""
        text = str(id)
        if self.given is None:
            known = WHOLE.fullmatch(text) and 0 <= int(text) < self.n
            return int(text) if known else None
        found = self._numbers.get(text)
        return self._composed.get(_composed(text)) if found is None else found

    @property
    def few(self) -> str:
        """Some of the ids, for a line that says what there is."""
        if self.given is None and self.n > 1:
            return "0, 1" if self.n == 2 else f"0 … {self.n - 1}"
        some = ", ".join(str(self[i]) for i in range(min(self.n, SHOWN)))
        between = " …" * (self.n > SHOWN + 1)
        return some if self.n <= SHOWN else f"{some},{between} {self[self.n - 1]}"

    def hint(self, id: Id) -> str:
        """Return ``; did you mean …?`` where an id that is not there is like one that is."""
        known = [] if self.given is None else list(self._numbers)[:COMPARED]
        close = difflib.get_close_matches(str(id), known, n=1)
        return "".join(f"; did you mean {each}?" for each in close)

    @cached_property
    def _numbers(self) -> dict[str, int]:
        ids = [] if self.given is None else self.given.tolist()
        return {str(each): i for i, each in enumerate(ids)}

    @cached_property
    def _composed(self) -> dict[str, int]:
        """The same by what each looks like: an accent may be typed as a character of its own."""
        found = dict[str, int]()
        twice = set[str]()
        for text, number in self._numbers.items():
            twice |= {_composed(text)} & found.keys()
            found[_composed(text)] = number
        return {text: number for text, number in found.items() if text not in twice}


def as_ids(client: NDArray[Any], where: str) -> Ids:
    """Return the ids of rows, of whatever type they were given.

    Text that is a whole number for every client is taken for these numbers, and bytes for text in
    UTF-8; what is beyond 64 bits, or as 007 no plain number, stays text.

    Parameters
    ----------
    client
        [N] Integers, whole floating-point numbers, text, bytes, or Python objects that are such.
    where
        What names the data to a person.

    Raises
    ------
    InputError
        For other types and shapes, and a row that does not say whose it is.
    """
    kind = client.dtype.kind
    if client.ndim != 1 or kind not in "iufUSO":
        raise InputError(f"{where}: client is {client.dtype} {list(client.shape)}; {REMEDY}")
    if kind in "iu":
        return client.astype(_type_of([client.min(initial=0), client.max(initial=0)]))
    if kind == "f":
        return _whole(client, where)
    if kind == "O":
        entries = enumerate(client.tolist())
        ids = [_plain(entry, row, where) for row, entry in entries]
        _refuse_alike(ids, where)
        return _array(ids, where)
    some, row, owner = np.unique(client, return_index=True, return_inverse=True)
    ids = [_plain(each, int(row[i]), where) for i, each in enumerate(some.tolist())]
    return _array(ids, where)[owner]


def numbered(ids: Ids) -> tuple[Ids, NDArray[np.int64]]:
    """Give ids numbers in sorted order, by value where all are whole numbers ("10" after "9").

    Returns
    -------
    ndarray, ndarray of int64
        The ids in that order, [n], and the number of each that was given, [N].
    """
    order, owner = np.unique(np.asarray(ids), return_inverse=True)
    if order.dtype.kind == "U" and all(map(DIGITS.fullmatch, order.tolist())):
        by_value = sorted(range(len(order)), key=lambda i: int(order[i]))
        place = np.empty(len(order), np.int64)
        place[by_value] = np.arange(len(order))
        order, owner = order[by_value], place[owner]
    return order, owner.astype(np.int64, copy=False)


def _array(ids: Sequence[Id], where: str) -> Ids:
    """Return ids as numbers if all of them are, else as text."""
    plain = all(isinstance(each, int) or WHOLE.fullmatch(each) for each in ids)
    if plain and (type_ := _type_of(numbers := [int(each) for each in ids])):
        return np.array(numbers, type_)
    texts = [str(each) for each in ids]
    require_room(4 * max(map(len, texts), default=0) * len(texts), where, "client takes")
    return np.array(texts)


def _refuse_alike(ids: Sequence[Id], where: str) -> None:
    """Raise if a client is called by a number and another by a text of the same digits."""
    kinds = set(ids)
    for each in kinds:
        if isinstance(each, int) and str(each) in kinds:
            raise InputError(
                f"{where}: client has the number {each} in row {ids.index(each)} and the text "
                f"'{each}' in row {ids.index(str(each))}; write one client's id in one way"
            )


def _type_of(numbers: Sequence[Any]) -> type[np.integer[Any]] | None:
    """Return the type of 64 bits that holds whole numbers, None if neither does."""
    low, high = int(min(numbers, default=0)), int(max(numbers, default=0))
    if low >= -(2**63) and high < 2**63:
        return np.int64
    return np.uint64 if low >= 0 and high < 2**64 else None


def _whole(client: NDArray[Any], where: str) -> Ids:
    """Return floating-point numbers as the integers that they are."""
    exact = 2 ** min(int(np.finfo(client.dtype).nmant) + 1, 53)
    whole = (client == np.rint(client)) & (abs(client) < exact)  # above, two ids look alike
    if not whole.all():
        row = int(np.argmin(whole))
        raise InputError(
            f"{where}: client is {client.dtype}, {float(client[row])!r} in row {row}; {REMEDY}"
        )
    return client.astype(np.int64)


def _plain(entry: object, row: int, where: str) -> Id:
    """Return what is one client's id as a number or text."""
    if isinstance(entry, int | np.integer) and not isinstance(entry, bool):
        return int(entry)
    if isinstance(entry, float | np.floating):
        try:
            return int(_whole(np.array([entry]), where)[0])
        except InputError as error:
            raise _unusable(f"is {float(entry)!r}", row, where) from error
    try:
        text = entry.decode() if isinstance(entry, bytes) else entry
    except UnicodeDecodeError as error:
        raise _unusable(f"is {entry!r:.60}, no UTF-8", row, where) from error
    if not isinstance(text, str):
        raise _unusable(f"is {entry!r:.60}", row, where)
    if not text:
        raise _unusable("is empty", row, where)
    if len(text) > LONGEST:
        raise _unusable(f"has {len(text):,} characters of {LONGEST} that it may have", row, where)
    if any("\ud800" <= c <= "\udfff" for c in text):
        raise _unusable(f"is {text!r:.60}, no valid text", row, where)
    return text


def _unusable(what: str, row: int, where: str) -> InputError:
    return InputError(f"{where}: the client of row {row} {what}; give integers or text")


def _composed(text: str) -> str:
    return unicodedata.normalize("NFC", text)
