"""The rows of a data set, where chunks of clients gather them from."""

import warnings
from collections.abc import Iterator

import torch
from torch import Tensor

from nufed.client_app.meta_gradient import Batch
from nufed.client_app.sampling import Draw
from nufed.simulation.memory import free_bytes
from nufed.tasks.task import Task

SHARE = 0.5  # of the device's free memory that the rows may take


class Source:
    """Gather batches by row number, as stored: `Task.loss` scales pixels and converts.

    On the CPU from the memory-mapped arrays; on another device from a copy there if it fits, else
    from the mapped arrays through pinned memory. To gather bytes and convert them is quicker than
    to gather rows that were converted before: these come from memory, not from a cache.

    Attributes
    ----------
    resident
        Whether the rows are on the device.
    """

    def __init__(self, task: Task) -> None:
        self.device = task.device
        with warnings.catch_warnings():  # that the mapped arrays are read-only: so are we
            warnings.filterwarnings("ignore", "The given NumPy array is not writable")
            self._x, self._y = (torch.from_numpy(a) for a in (task.data.x, task.data.y))
        if not task.classification:
            self._y = self._y.to(task.dtype)
        size = self._x.nbytes + self._y.nbytes
        on_cpu = self.device.type == "cpu"
        self.resident = on_cpu or size < SHARE * free_bytes(self.device)
        if self.resident:
            self._x, self._y = self._x.to(self.device), self._y.to(self.device)

    def each(self, drawn: Draw) -> Iterator[Batch]:
        """Yield the batches of `drawn`, along its first axis, each gathered when it is due.

        Yields
        ------
        tuple of Tensor
            x [*batches, K, D, …], y [*batches, K, D, …], and what counts, [*batches, K, D], where
            not every row does.
        """
        rows = torch.from_numpy(drawn.rows)
        rows = self._upload(rows) if self.resident else rows
        if drawn.counts is None:
            yield from map(self._gather, rows)
        else:
            counts = self._upload(torch.from_numpy(drawn.counts.copy()))
            for some, count in zip(rows, counts, strict=True):
                yield *self._gather(some), count

    def _gather(self, rows: Tensor) -> Batch:
        flat = rows.flatten()
        taken = (a.index_select(0, flat) for a in (self._x, self._y))
        batch = (a.view(*rows.shape, *a.shape[1:]) for a in taken)
        return tuple(batch if self.resident else map(self._upload, batch))

    def _upload(self, tensor: Tensor) -> Tensor:
        """Move a host tensor to the device, without waiting for it where the device allows."""
        if self.device.type != "cuda":
            return tensor.to(self.device)
        return tensor.contiguous().pin_memory().to(self.device, non_blocking=True)
