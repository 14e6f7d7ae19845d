"""How states of one kind lie in bytes: leaf after leaf, of the same names, shapes and types."""

import hashlib
from collections.abc import Iterator
from typing import NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray

from nufed.client_app.meta_gradient import Params


class Leaf(NamedTuple):
    """Where a tensor lies."""

    shape: torch.Size
    dtype: torch.dtype
    start: int
    stop: int


class Layout(NamedTuple):
    """States of one kind."""

    leaves: dict[str, Leaf]
    size: int
    """Bytes of a state."""

    @classmethod
    def of(cls, state: Params) -> Self:
        """Return that of states like this one."""
        leaves, at = dict[str, Leaf](), 0
        for name, p in sorted(state.items()):
            leaves[name] = Leaf(p.shape, p.dtype, at, at + p.nbytes)
            at += p.nbytes
        return cls(leaves, at)

    @property
    def name(self) -> str:
        """What other layouts are not called."""
        said = repr([(name, [*p.shape], str(p.dtype)) for name, p in self.leaves.items()])
        return hashlib.sha256(said.encode()).hexdigest()[:16]

    def in_other_precisions(self) -> Iterator[Self]:
        """Yield layouts whose real numbers are float32, or float64, and are not so here."""
        for kind in (torch.float32, torch.float64):
            like = {
                name: torch.empty(
                    leaf.shape, dtype=kind if leaf.dtype.is_floating_point else leaf.dtype
                )
                for name, leaf in self.leaves.items()
            }
            if (other := self.of(like)) != self:
                yield other

    def fits(self, states: Params) -> bool:
        """Tell whether states [K, …] have these names and shapes; types can be converted."""
        shapes = {name: leaf.shape for name, leaf in self.leaves.items()}
        return {name: p.shape[1:] for name, p in states.items()} == shapes

    def pack(self, states: Params) -> NDArray[np.uint8]:
        """Return the bytes of states [K, …], which fit: [K, size]."""
        count = len(next(iter(states.values())))
        rows = torch.empty(count, self.size, dtype=torch.uint8)
        for name, leaf in self.leaves.items():
            p = states[name].detach().to("cpu", leaf.dtype).reshape(count, -1)
            if leaf.stop > leaf.start:
                rows[:, leaf.start : leaf.stop] = p.contiguous().view(torch.uint8)
        return rows.numpy()

    def unpack(self, rows: NDArray[np.uint8]) -> Params:
        """Return the states of bytes [K, size]: [K, …]."""
        content = torch.from_numpy(rows)
        return {name: _leaf(content, leaf) for name, leaf in self.leaves.items()}


def _leaf(rows: torch.Tensor, leaf: Leaf) -> torch.Tensor:
    """Return a tensor of memory of its own, which begins where its type may begin."""
    one = torch.empty(len(rows), *leaf.shape, dtype=leaf.dtype)
    if one.numel():
        one.reshape(len(rows), -1).view(torch.uint8).copy_(rows[:, leaf.start : leaf.stop])
    return one
