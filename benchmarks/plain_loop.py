"""The opponent: Per-FedAvg as a good practitioner writes it in plain PyTorch, client by client.

A module, `torch.autograd.grad`, updates in place. It shares no line with NuFed, and is as quick as
we could make it:

- each client's rows lie ready as float tensors, gathered before the clock starts;
- a client's row numbers are drawn at once, with repetition, which costs less than subsets;
- a local step gathers its support and query rows in one go;
- the client's model w and its look-ahead θ are two modules: the first inner step writes
  θ = w − α g, so that nothing is cloned and nothing has to be restored;
- modules and buffers are made once, and a client starts by copying the global model into them;
- nothing is read back from the device before the round's end.
"""

from collections.abc import Iterable, Sequence
from copy import deepcopy

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

Params = dict[str, Tensor]
Rows = tuple[Tensor, Tensor]
"""x [N, …] and y [N] of one client, or of one batch."""


class PlainLoop:
    """Train clients one after another.

    Parameters
    ----------
    module
        The model; only its structure matters.
    nu, alpha
        Inner steps ν and their size α.
    tau, beta
        Local steps τ and their size β.
    batch
        Rows of each support and query batch.
    exact
        Differentiate through the inner steps; else first-order.
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        nu: int,
        alpha: float,
        tau: int,
        beta: float,
        batch: int,
        exact: bool = False,
    ) -> None:
        self.nu, self.alpha, self.tau, self.beta = nu, alpha, tau, beta
        self.batch, self.exact = batch, exact
        self.model, self.ahead = deepcopy(module), deepcopy(module)
        self.names = [name for name, _ in self.model.named_parameters()]
        self.w, self.theta = list(self.model.parameters()), list(self.ahead.parameters())

    def train(
        self,
        params: Params,
        clients: Sequence[Rows],
        batches: Sequence[Iterable[Rows]] | None = None,
    ) -> tuple[Params, float]:
        """Train every client for τ local steps from the global model.

        Parameters
        ----------
        params
            The global model.
        clients
            Each client's train rows.
        batches
            For each client its local steps: x [ν + 1, D, …] and y [ν + 1, D], the support batches
            and then the query batch. None draws them.

        Returns
        -------
        Params, float
            The mean update w − w_τ, and the mean loss f_i(θ^ν; D′) over clients and local steps.
        """
        step = self._exact_step if self.exact else self._first_order_step
        initial = [params[name] for name in self.names]
        total = [torch.zeros_like(p) for p in initial]
        loss = torch.zeros((), device=initial[0].device)
        for i, client in enumerate(clients):
            with torch.no_grad():
                for w, p in zip(self.w, initial, strict=True):
                    w.copy_(p)
            for x, y in batches[i] if batches else self._drawn(client):
                step_loss = step(x, y)
                with torch.no_grad():
                    loss += step_loss
            with torch.no_grad():
                for t, w in zip(total, self.w, strict=True):
                    t.add_(w)
        update = [p - t / len(clients) for p, t in zip(initial, total, strict=True)]
        mean_loss = loss.item() / (len(clients) * self.tau)
        return dict(zip(self.names, update, strict=True)), mean_loss

    def curves(
        self,
        params: Params,
        clients: Sequence[tuple[Rows, Rows]],
        steps: int,
        batches: Sequence[Rows] | None = None,
    ) -> Tensor:
        """Fine-tune on each client's train rows, and measure on its test rows as it goes.

        Parameters
        ----------
        params
            The global model.
        clients
            Each client's train and test rows.
        steps
            Fine-tuning steps K, each of size α.
        batches
            For each client x [K, D, …] and y [K, D]. None draws them.

        Returns
        -------
        Tensor
            Loss and accuracy after k = 0 … K steps: [clients, K + 1, 2], on the CPU.
        """
        curves = []
        for i, (train, test) in enumerate(clients):
            with torch.no_grad():
                for name, w in zip(self.names, self.w, strict=True):
                    w.copy_(params[name])
            x, y = batches[i] if batches else _gather(train, self._draw(train, (steps,)))
            curves.append(self._measure(test))
            for k in range(steps):
                gradient = torch.autograd.grad(F.cross_entropy(self.model(x[k]), y[k]), self.w)
                with torch.no_grad():
                    for w, g in zip(self.w, gradient, strict=True):
                        w.sub_(g, alpha=self.alpha)
                curves.append(self._measure(test))
        return torch.stack(curves).view(len(clients), steps + 1, 2).cpu()

    def _first_order_step(self, x: Tensor, y: Tensor) -> Tensor:
        """Take one local step along ∇f(θ^ν; D′), and return f(θ^ν; D′)."""
        model, at = self.model, self.w
        for k in range(self.nu):
            gradient = torch.autograd.grad(F.cross_entropy(model(x[k]), y[k]), at)
            with torch.no_grad():
                for theta, p, g in zip(self.theta, at, gradient, strict=True):
                    torch.sub(p, g, alpha=self.alpha, out=theta)
            model, at = self.ahead, self.theta
        loss = F.cross_entropy(model(x[-1]), y[-1])
        self._descend(torch.autograd.grad(loss, at))
        return loss

    def _exact_step(self, x: Tensor, y: Tensor) -> Tensor:
        """Take one local step along ∇_w f(θ^ν(w); D′), and return f(θ^ν; D′)."""
        outputs, theta = self.model(x[0]), list[Tensor](self.w)
        for k in range(self.nu):
            inner = F.cross_entropy(outputs, y[k])
            gradient = torch.autograd.grad(inner, theta, create_graph=True)
            theta = [
                torch.sub(p, g, alpha=self.alpha) for p, g in zip(theta, gradient, strict=True)
            ]
            named = dict(zip(self.names, theta, strict=True))
            outputs = functional_call(self.model, named, (x[k + 1],))
        loss = F.cross_entropy(outputs, y[-1])
        self._descend(torch.autograd.grad(loss, self.w))
        return loss

    def _descend(self, gradient: Sequence[Tensor]) -> None:
        with torch.no_grad():
            for w, g in zip(self.w, gradient, strict=True):
                w.sub_(g, alpha=self.beta)

    def _drawn(self, client: Rows) -> Iterable[Rows]:
        """Yield the batches of τ local steps, gathered one step at a time: they fit the cache."""
        for index in self._draw(client, (self.tau, self.nu + 1)):
            yield _gather(client, index)

    def _draw(self, client: Rows, batches: tuple[int, ...]) -> Tensor:
        """Draw the row numbers of an array of batches, with repetition: [*batches, D]."""
        rows = client[1]
        return torch.randint(len(rows), (*batches, self.batch), device=rows.device)

    def _measure(self, test: Rows) -> Tensor:
        with torch.no_grad():
            outputs = self.model(test[0])
            right = (outputs.argmax(1) == test[1]).float().mean()
            return torch.stack([F.cross_entropy(outputs, test[1]), right])


def _gather(client: Rows, index: Tensor) -> Rows:
    """Return x and y [*index.shape, …]."""
    flat = index.flatten()
    x, y = (rows.index_select(0, flat).view(*index.shape, *rows.shape[1:]) for rows in client)
    return x, y
