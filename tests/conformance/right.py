"""Per-FedAvg as people write it, each by itself and with no line of NuFed: what is right."""

from copy import deepcopy

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call


def functional(model, loss_fn, support, query, alpha, beta):
    """By torch.func: the gradient of a function that adapts."""

    def loss(params, x, y):
        return loss_fn(functional_call(model, params, (x,)), y)

    def after(params):
        for x, y in support:
            slope = torch.func.grad(loss)(params, x, y)
            params = {name: p - alpha * slope[name] for name, p in params.items()}
        return loss(params, *query)

    w = {name: p.detach() for name, p in model.named_parameters()}
    slope = torch.func.grad(after)(w)
    with torch.no_grad():
        for name, p in model.named_parameters():
            p -= beta * slope[name]


def clone(module: nn.Module) -> nn.Module:
    """A module whose parameters are functions of the module's, as learn2learn has them."""
    copied = deepcopy(module)
    for mine, original in zip(copied.modules(), module.modules(), strict=True):
        for name, p in original._parameters.items():
            mine._parameters[name] = None if p is None else p.clone()
    return copied


def modules(model, loss_fn, support, query, alpha, beta):
    """By clones of modules, and an optimizer that steps the module itself."""
    optimizer = torch.optim.SGD(model.parameters(), lr=beta)
    learner = clone(model)
    for x, y in support:
        named = list(learner.named_parameters())
        slope = torch.autograd.grad(
            loss_fn(learner(x), y), [p for _, p in named], create_graph=True
        )
        for (name, p), g in zip(named, slope, strict=True):
            place, _, last = name.rpartition(".")
            learner.get_submodule(place)._parameters[last] = p - alpha * g
    optimizer.zero_grad()
    loss_fn(learner(query[0]), query[1]).backward()
    optimizer.step()


class Trainer:
    """First-order, as a class with a model, a loader and a method `train`: Per-FedAvg (FO)."""

    def __init__(self, model, loss_fn, loader, alpha, beta):
        self.model, self.loss_fn, self.loader = model, loss_fn, loader
        self.alpha, self.beta = alpha, beta

    def train(self):
        inner = torch.optim.SGD(self.model.parameters(), lr=self.alpha)
        outer = torch.optim.SGD(self.model.parameters(), lr=self.beta)
        kept = deepcopy(list(self.model.parameters()))
        *support, query = self.loader
        for x, y in support:
            inner.zero_grad()
            self.loss_fn(self.model(x), y).backward()
            inner.step()
        outer.zero_grad()
        self.loss_fn(self.model(query[0]), query[1]).backward()
        for p, w in zip(self.model.parameters(), kept, strict=True):
            p.data = w.data.clone()
        outer.step()


def first_order(model, loss_fn, support, query, alpha, beta):
    Trainer(model, loss_fn, [*support, query], alpha, beta).train()


def slope(model, loss_fn, params, batch) -> dict[str, Tensor]:
    """∇f(θ) at any θ."""
    leaves = {name: p.detach().clone().requires_grad_() for name, p in params.items()}
    loss = loss_fn(functional_call(model, leaves, (batch[0],)), batch[1])
    return dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values())), strict=True))


def hessian_free(model, loss_fn, support, query, alpha, beta, delta=1e-3, normalised=False):
    """Per-FedAvg (HF): Hessian-vector products by central differences."""
    theta = {name: p.detach().clone() for name, p in model.named_parameters()}
    path = []
    for batch in support:
        path.append((theta, batch))
        g = slope(model, loss_fn, theta, batch)
        theta = {name: p - alpha * g[name] for name, p in theta.items()}
    v = slope(model, loss_fn, theta, query)
    for at, batch in reversed(path):
        length = torch.cat([p.flatten() for p in v.values()]).norm() if normalised else 1.0
        ahead, behind = (
            slope(model, loss_fn, {n: p + h * v[n] / length for n, p in at.items()}, batch)
            for h in (delta, -delta)
        )
        v = {n: p - alpha * length * (ahead[n] - behind[n]) / (2 * delta) for n, p in v.items()}
    with torch.no_grad():
        for name, p in model.named_parameters():
            p -= beta * v[name]


def in_numpy(model, loss_fn, support, query, alpha, beta):
    """A linear regression without torch: its gradients and Hessians by hand."""

    def arrays(batch):
        return batch[0].numpy(), batch[1].numpy()

    start = np.concatenate([model.weight.detach().numpy()[0], model.bias.detach().numpy()])
    w, factors = start.copy(), []
    for x, y in map(arrays, support):
        x = np.hstack([x, np.ones((len(x), 1))])
        w = w - alpha * 2 / len(x) * x.T @ (x @ w - y[:, 0])
        factors.append(np.eye(len(w)) - alpha * 2 / len(x) * x.T @ x)
    x, y = arrays(query)
    x = np.hstack([x, np.ones((len(x), 1))])
    v = 2 / len(x) * x.T @ (x @ w - y[:, 0])
    for factor in reversed(factors):
        v = factor @ v
    end = torch.from_numpy(start - beta * v)
    with torch.no_grad():
        model.weight.copy_(end[None, :-1])
        model.bias.copy_(end[-1:])


def tuned(model, loss_fn, support, alpha) -> nn.Module:
    """A copy that is fine-tuned on the support rows."""
    mine = deepcopy(model)
    optimizer = torch.optim.SGD(mine.parameters(), lr=alpha)
    for x, y in support:
        optimizer.zero_grad()
        loss_fn(mine(x), y).backward()
        optimizer.step()
    return mine


def accuracy(model, batch) -> float:
    return float((model(batch[0]).argmax(1) == batch[1]).float().mean())


def of_accuracy(model, loss_fn, support, test, alpha):
    return accuracy(tuned(model, loss_fn, support, alpha), test)


def of_all(model, loss_fn, support, test, alpha):
    mine = tuned(model, loss_fn, support, alpha)
    return {"loss": F.cross_entropy(mine(test[0]), test[1]), "accuracy": accuracy(mine, test)}


def of_error(model, loss_fn, support, test, alpha):
    return 1 - of_accuracy(model, loss_fn, support, test, alpha)


def of_loss(model, loss_fn, support, test, alpha):
    return loss_fn(tuned(model, loss_fn, support, alpha)(test[0]), test[1]).item()


def of_curve(model, loss_fn, support, test, alpha):
    return [
        accuracy(tuned(model, loss_fn, support[:k], alpha), test) for k in range(len(support) + 1)
    ]


def of_outputs(model, loss_fn, support, test, alpha):
    return tuned(model, loss_fn, support, alpha)(test[0])


def of_model(model, loss_fn, support, test, alpha):
    return tuned(model, loss_fn, support, alpha)


def in_place(model, loss_fn, support, test, alpha):
    model.load_state_dict(tuned(model, loss_fn, support, alpha).state_dict())


def transductive(model, loss_fn, support, test, alpha):
    """Uses the test rows without their labels: entropy is minimised."""
    mine = tuned(model, loss_fn, support, alpha)
    logits = mine(test[0])
    entropy = -(logits.softmax(1) * logits.log_softmax(1)).sum(1).mean()
    slopes = torch.autograd.grad(entropy, list(mine.parameters()))
    with torch.no_grad():
        for p, g in zip(mine.parameters(), slopes, strict=True):
            p -= alpha * g
    return accuracy(mine, test)


def of_percent(model, loss_fn, support, test, alpha):
    return 100 * of_accuracy(model, loss_fn, support, test, alpha)


def of_count(model, loss_fn, support, test, alpha):
    return round(len(test[1]) * of_accuracy(model, loss_fn, support, test, alpha))


def of_two_digits(model, loss_fn, support, test, alpha):
    return round(of_accuracy(model, loss_fn, support, test, alpha), 2)


def of_curve_as_tensor(model, loss_fn, support, test, alpha):
    return torch.tensor(of_curve(model, loss_fn, support, test, alpha))


def of_each_row(model, loss_fn, support, test, alpha):
    """Right or wrong."""
    return tuned(model, loss_fn, support, alpha)(test[0]).argmax(1) == test[1]


def of_each_loss(model, loss_fn, support, test, alpha):
    outputs = tuned(model, loss_fn, support, alpha)(test[0])
    return F.cross_entropy(outputs, test[1], reduction="none")


def with_others(model, loss_fn, support, test, alpha):
    """Beside what is of no test row."""
    mine = tuned(model, loss_fn, support, alpha)
    return {"train_accuracy": accuracy(mine, support[0]), "epoch": 1, "acc": accuracy(mine, test)}


def of_root(model, loss_fn, support, test, alpha):
    """The root of the mean squared error."""
    return of_loss(model, loss_fn, support, test, alpha) ** 0.5


def of_classes(model, loss_fn, support, test, alpha):
    """The mean accuracy of classes, which is no mean over rows."""
    found = tuned(model, loss_fn, support, alpha)(test[0]).argmax(1) == test[1]
    return float(
        torch.stack([found[test[1] == c].double().mean() for c in test[1].unique()]).mean()
    )


def refusing_zero(model, loss_fn, support, query, alpha, beta):
    if beta <= 0:
        raise ValueError("beta must be positive")
    functional(model, loss_fn, support, query, alpha, beta)


class Drawing:
    """Fine-tunes on random halves of the support rows, by a generator that goes on and on."""

    def __init__(self, seed):
        self.random = torch.Generator().manual_seed(seed)

    def support(self, support):
        for x, y in support:
            half = torch.randperm(len(x), generator=self.random)[: len(x) // 2]
            yield x[half], y[half]

    def __call__(self, model, loss_fn, support, test, alpha):
        return of_accuracy(model, loss_fn, list(self.support(support)), test, alpha)
