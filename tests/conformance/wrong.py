"""The same with faults: those that published code was seen to have, and other likely ones."""

from copy import deepcopy

import torch
from torch.func import functional_call

from tests.conformance import right


def by_data(model, loss_fn, support, query, alpha, beta):
    """Called MAML, and first-order: the inner steps are written to `param.data`."""
    optimizer = torch.optim.SGD(model.parameters(), lr=beta)
    learner = deepcopy(model)
    for x, y in support:
        slope = torch.autograd.grad(
            loss_fn(learner(x), y), list(learner.parameters()), create_graph=True
        )
        for p, g in zip(learner.parameters(), slope, strict=True):
            p.data = p.data - alpha * g.data
    slope = torch.autograd.grad(loss_fn(learner(query[0]), query[1]), list(learner.parameters()))
    for p, g in zip(model.parameters(), slope, strict=True):
        p.grad = g
    optimizer.step()


def exact(model, loss_fn, support, query, alpha):
    """∇F(w) by autograd, of whatever batches it is given."""
    w = {name: p.detach().clone().requires_grad_() for name, p in model.named_parameters()}
    theta = w
    for x, y in support:
        loss = loss_fn(functional_call(model, theta, (x,)), y)
        slope = torch.autograd.grad(loss, list(theta.values()), create_graph=True)
        theta = {n: p - alpha * g for (n, p), g in zip(theta.items(), slope, strict=True)}
    loss = loss_fn(functional_call(model, theta, (query[0],)), query[1])
    slope = torch.autograd.grad(loss, list(w.values()))
    return theta, dict(zip(w, slope, strict=True))


def move(model, start, slope, beta):
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.copy_(start[name] - beta * slope[name])


def weights(model):
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def not_restored(model, loss_fn, support, query, alpha, beta):
    """θ^ν − β g."""
    theta, slope = exact(model, loss_fn, support, query, alpha)
    move(model, theta, slope, beta)


def stale(model, loss_fn, batches, alpha, beta):
    """Local steps that all start from a copy of w which is made once a round."""
    kept = weights(model)
    for support, query in batches:
        model.load_state_dict(kept)
        move(model, kept, exact(model, loss_fn, support, query, alpha)[1], beta)


def from_theta(model, loss_fn, batches, alpha, beta):
    """The last local step alone starts from w: those before it leave θ^ν − β g."""
    for support, query in batches[:-1]:
        not_restored(model, loss_fn, support, query, alpha, beta)
    right.functional(model, loss_fn, *batches[-1], alpha, beta)


def adding_up(model, loss_fn, support, query, alpha, beta):
    """Gradients of the outer step are never set to zero."""
    slope = exact(model, loss_fn, support, query, alpha)[1]
    for name, p in model.named_parameters():
        p.grad = slope[name] if p.grad is None else p.grad + slope[name]
    torch.optim.SGD(model.parameters(), lr=beta).step()


def on(batches):
    """A right step on batches other than those it was given."""

    def step(model, loss_fn, support, query, alpha, beta):
        return right.functional(model, loss_fn, *batches(support, query), alpha, beta)

    return step


def one_step_more(support, query):
    return [*support, support[-1]], query


def one_step_less(support, query):
    return support[:-1], query


def query_of_support(support, query):
    return support, support[-1]


def all_rows(support, query):
    return support, tuple(torch.cat(each) for each in zip(*support, query, strict=True))


def inner_on_query(support, query):
    return [query] * len(support), query


def first_batch_alone(support, query):
    return [support[0]] * len(support), query


def sized(inner=None, outer=None):
    """A right step that takes other sizes than those it was given."""

    def step(model, loss_fn, support, query, alpha, beta):
        right.functional(model, loss_fn, support, query, inner or alpha, outer or beta)

    return step


def by(optimizer, **options):
    """An outer update of another kind."""

    def step(model, loss_fn, support, query, alpha, beta):
        slope = exact(model, loss_fn, support, query, alpha)[1]
        for name, p in model.named_parameters():
            p.grad = slope[name]
        optimizer(model.parameters(), lr=beta, **options).step()

    return step


def reptile(model, loss_fn, support, query, alpha, beta):
    """w ← w + β (θ^ν − w)."""
    theta, _ = exact(model, loss_fn, support, query, alpha)
    w = weights(model)
    move(model, w, {name: w[name] - theta[name].detach() for name in w}, beta)


def forward_order(model, loss_fn, support, query, alpha, beta):
    """The Hessian factors of the wrong points: all taken at w."""
    theta = w = weights(model)
    for batch in support:
        g = right.slope(model, loss_fn, theta, batch)
        theta = {n: p - alpha * g[n] for n, p in theta.items()}
    v = right.slope(model, loss_fn, theta, query)
    for batch in support:
        leaves = {n: p.clone().requires_grad_() for n, p in w.items()}
        loss = loss_fn(functional_call(model, leaves, (batch[0],)), batch[1])
        g = torch.autograd.grad(loss, list(leaves.values()), create_graph=True)
        along = sum((a * b).sum() for a, b in zip(g, v.values(), strict=True))
        product = torch.autograd.grad(along, list(leaves.values()))
        v = {n: p - alpha * h for (n, p), h in zip(v.items(), product, strict=True)}
    move(model, w, v, beta)


def nothing(model, loss_fn, support, query, alpha, beta):
    """A copy is trained, and thrown away."""
    right.functional(deepcopy(model), loss_fn, support, query, alpha, beta)


def tuned_on_test(measure, rows=None):
    """An evaluation that takes one more step, on test rows."""

    def evaluate(model, loss_fn, support, test, alpha):
        some = tuple(each[:rows] for each in test)
        return measure(model, loss_fn, [*support, some], test, alpha)

    return evaluate


def test_for_support(model, loss_fn, support, test, alpha):
    """One step on the test rows, and none on the support rows: as pFedMe's one-step evaluation."""
    return right.of_accuracy(model, loss_fn, [test], test, alpha)


def best_step(model, loss_fn, support, test, alpha):
    """The best of all steps, by the test rows."""
    return max(right.of_curve(model, loss_fn, support, test, alpha))


def not_adapted(model, loss_fn, support, test, alpha):
    right.tuned(model, loss_fn, support, alpha)
    return right.of_all(model, loss_fn, [], test, alpha)


def best_alpha(model, loss_fn, support, test, alpha):
    """The best of three step sizes, by the test rows."""
    sizes = alpha / 3, alpha, 3 * alpha
    return max(right.of_accuracy(model, loss_fn, support, test, each) for each in sizes)


def in_the_model_itself(model, loss_fn, support, test, alpha):
    """Fine-tunes the shared model, and leaves it so."""
    right.in_place(model, loss_fn, support, test, alpha)
    return right.accuracy(model, test)


def statistics(model, loss_fn, support, test, alpha):
    """Leaves running statistics of this client's rows in the shared model."""
    for x, _ in support:
        model(x)
    return right.of_outputs(model, loss_fn, support, test, alpha), 1.0


def swapped(support, query):
    return [query, *support[1:]], support[0]


def longer(step, factor):
    """A step whose β is a little off."""

    def off(model, loss_fn, support, query, alpha, beta):
        step(model, loss_fn, support, query, alpha, factor * beta)

    return off


class Drawing(right.Drawing):
    """Random halves, and a step on test rows."""

    def support(self, support):
        yield from super().support(support)
        yield self.test

    def __call__(self, model, loss_fn, support, test, alpha):
        self.test = test
        return super().__call__(model, loss_fn, support, test, alpha)
