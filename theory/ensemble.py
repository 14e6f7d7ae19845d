"""Some clients of a task as one stack: their gradients and Hessian-vector products, all at once.

A model is a vector here, [P]. `theta` and `v` are [M, P], the members of a stack of M, and `who`
[M] says which client (by its position in the ensemble) each of them is.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nufed.client_app.meta_gradient import (
    Batch,
    Params,
    hessian_vector_product,
    value_and_gradient,
    value_and_meta_gradient,
)
from nufed.client_app.stacked_loss import stacked
from nufed.tasks.module_state import trainable
from nufed.tasks.task import Task
from nufed.theory.constants import Method

ENTRIES = 1 << 22  # of parameters that one call has before it
ROWS = 2048  # that one call has before it


class Ensemble:
    """Clients with their train rows, or some of them.

    Parameters
    ----------
    task
        Data, model and loss.
    clients
        The clients; at most `most_clients` of them are drawn.
    most_clients, most_rows
        So many clients, and so many train rows of each.
    random
        Draws them, without replacement.
    """

    def __init__(
        self,
        task: Task,
        clients: Sequence[int],
        most_clients: int,
        most_rows: int,
        random: np.random.Generator,
    ) -> None:
        chosen = _some(np.asarray(clients), most_clients, random)
        every = [task.data.partition.train_rows(client) for client in chosen]
        rows = [_some(mine, most_rows, random) for mine in every]
        self.task, self.all_clients = task, len(clients)
        self.sizes, self.all_sizes = (np.array([*map(len, some)]) for some in (rows, every))
        order = np.arange(self.sizes.max())
        filled = np.stack([mine[np.minimum(order, len(mine) - 1)] for mine in rows])
        self._x, self._y = task.batch(filled)
        counts = torch.from_numpy(order < self.sizes[:, None]).to(task.device)
        self._counts = () if bool(counts.all()) else (counts,)
        self._loss = stacked(task.loss)
        self._shapes = {name: p.shape for name, p in trainable(task.module).items()}

    def __len__(self) -> int:
        return len(self.sizes)

    @property
    def drawn(self) -> bool:
        """Whether some clients, or rows of theirs, are left out."""
        return len(self) < self.all_clients or bool((self.sizes < self.all_sizes).any())

    @property
    def everyone(self) -> Tensor:
        """Every client once, as `who`."""
        return torch.arange(len(self), device=self.task.device)

    def flat(self, params: Params) -> Tensor:
        """Return a model as a vector, [P]."""
        whole = torch.cat([params[name].flatten() for name in self._shapes])
        return whole.to(self.task.device, self.task.dtype)

    def params(self, flat: Tensor) -> Params:
        """Return vectors [*, P] as parameters [*, …]."""
        sizes = [shape.numel() for shape in self._shapes.values()]
        parts = zip(self._shapes.items(), torch.split(flat, sizes, -1), strict=True)
        return {name: part.reshape(*flat.shape[:-1], *shape) for (name, shape), part in parts}

    def gradient(self, theta: Tensor, who: Tensor) -> Tensor:
        """Return ∇f_who(θ), [M, P]."""

        def work(theta: Tensor, who: Tensor) -> Tensor:
            return self._gradient(theta, self._batch(who))

        return self._in_chunks(self._x.shape[1], work, theta, who)

    def product(self, theta: Tensor, who: Tensor, v: Tensor) -> Tensor:
        """Return ∇²f_who(θ) v, [M, P]."""

        def work(theta: Tensor, who: Tensor, v: Tensor) -> Tensor:
            return self._product(theta, self._batch(who), v)

        return self._in_chunks(self._x.shape[1], work, theta, who, v)

    def meta(self, w: Tensor, method: Method) -> tuple[Tensor, Tensor]:
        """Return F_i(w) [K] and ∇F_i(w) [K, P] of every client: all rows are support and query."""

        def work(theta: Tensor, who: Tensor) -> Tensor:
            query = self._batch(who)
            support = tuple(tensor.expand(method.nu, *tensor.shape) for tensor in query)
            value, gradient = value_and_meta_gradient(
                self._loss, self.params(theta), support, query, alpha=method.alpha
            )
            return torch.cat([value[:, None], self._flattened(gradient)], 1)

        each = w.expand(len(self), -1)
        both = self._in_chunks(self._x.shape[1], work, each, self.everyone)
        return both[:, 0], both[:, 1:]

    def by_row(self, theta: Tensor, client: int, v: Tensor | None = None) -> Tensor:
        """Return what each row of a client has for ∇f(θ), or for ∇²f(θ) v: [R, P].

        θ is [P], and so is v, or [R, P] with one for each row.
        """
        size = int(self.sizes[client])
        x, y = self._x[client, :size, None], self._y[client, :size, None]  # batches of one row

        def gradient(theta: Tensor, *row: Tensor) -> Tensor:
            return self._gradient(theta, row)

        def product(theta: Tensor, v: Tensor, *row: Tensor) -> Tensor:
            return self._product(theta, row, v)

        thetas = theta.expand(size, -1)
        if v is None:
            return self._in_chunks(1, gradient, thetas, x, y)
        return self._in_chunks(1, product, thetas, v.expand_as(thetas), x, y)

    def _gradient(self, theta: Tensor, batch: Batch) -> Tensor:
        return self._flattened(value_and_gradient(self._loss, self.params(theta), batch).gradient)

    def _product(self, theta: Tensor, batch: Batch, v: Tensor) -> Tensor:
        params = self.params(theta)
        return self._flattened(hessian_vector_product(self._loss, params, batch, self.params(v)))

    def _batch(self, who: Tensor) -> Batch:
        return tuple(tensor[who] for tensor in (self._x, self._y, *self._counts))

    def _flattened(self, stack: Params) -> Tensor:
        return torch.cat([stack[name].flatten(1) for name in self._shapes], 1)

    def _in_chunks(self, rows: int, work: Callable[..., Tensor], *stacks: Tensor) -> Tensor:
        """Return work(*stacks), for as many members, of so many rows each, as suit the memory."""
        at_once = max(1, min(ENTRIES // stacks[0].shape[1], ROWS // rows))
        pieces = zip(*(torch.split(stack, at_once) for stack in stacks), strict=True)
        return torch.cat([work(*piece) for piece in pieces])


def _some(of: NDArray[np.int64], most: int, random: np.random.Generator) -> NDArray[np.int64]:
    """Return all of `of`, or `most` of them drawn, in order."""
    return of if len(of) <= most else of[np.sort(random.choice(len(of), most, replace=False))]
