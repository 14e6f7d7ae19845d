"""The ν-step meta-gradient: the algorithm of the paper, in one file that needs torch alone.

A client's meta-objective is its loss after ν fine-tuning steps from the shared initial model w,

    F_i(w) = f_i(θ^ν),    θ^0 = w,    θ^{l+1} = θ^l − α ∇f_i(θ^l; D_l),

and by the chain rule its gradient is

    ∇F_i(w) = [∏_{l=0}^{ν−1} (I − α ∇²f_i(θ^l; D″_l))] ∇f_i(θ^ν; D′),

with support batches D_l, Hessian batches D″_l and a query batch D′. ν = 0 is FedAvg's gradient,
ν = 1 is Per-FedAvg's (Fallah et al. 2020), any ν is the generalized framework of Jamali, Saber and
Bae (2025, arXiv 2504.21327). `value_and_meta_gradient` is those two lines: the first loop walks the
inner trajectory and keeps each step's linearisation, the second applies one factor a step.

**A stack of K clients** is served by the same code: give parameters a leading axis K, batches the
axis K after their axis ν, and let `loss_fn` return K losses. The clients share no parameter, so the
gradient of the summed loss is each client's own.
"""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import repeat
from typing import Any, NamedTuple

import torch
from torch import Tensor

Params = dict[str, Tensor]
Batch = tuple[Tensor, ...]
Support = Batch | Iterable[Batch]
"""One batch a fine-tuning step: tensors with a leading axis ν, or the batches one by one."""
StepSize = float | Params
LossFn = Callable[..., Tensor]
HessianVectorProduct = Callable[[Params], Params]

MODES = ("exact", "first_order", "hessian_free")


class ValueAndGradient(NamedTuple):
    """A loss (scalar, or [K] for a stack of clients) and its gradient, like the parameters."""

    value: Tensor
    gradient: Params


def meta_gradient(
    loss_fn: LossFn,
    params: Params,
    support: Batch,
    query: Batch,
    *,
    alpha: StepSize,
    mode: str = "exact",
    hessian: Batch | None = None,
    delta: float = 1e-3,
    recompute: bool = False,
) -> Params:
    """Return ∇F_i(w) = ∏_l (I − α ∇²f_i(θ^l; D″_l)) ∇f_i(θ^ν; D′), or an approximation of it.

    Parameters
    ----------
    loss_fn
        ``loss_fn(params, *batch)`` -> scalar: the mean loss f_i of one batch.
    params
        The initial model w: name -> tensor. Never written to.
    support
        D_0 … D_{ν−1}: tensors with a leading axis ν, one batch an inner step; () where ν is 0.
    query
        D′: one batch, on which the outer gradient is taken.
    alpha
        Inner step size α; or one for each parameter, name -> tensor that broadcasts to it. A
        parameter without one is not fine-tuned.
    mode
        ``exact``: the true meta-gradient. ``first_order``: the Hessians dropped, ∇f_i(θ^ν; D′).
        ``hessian_free``: Hessian-vector products by central differences of gradients,
        ∇²f(θ) v ≈ [∇f(θ + δv) − ∇f(θ − δv)] / 2δ (Fallah et al. 2020, §3).
    hessian
        D″_0 … D″_{ν−1}, as `support`. None: the support batches serve for the Hessians too.
    delta
        δ of ``hessian_free``.
    recompute
        Keep only θ^0 … θ^{ν−1} and rebuild each step's graph on the way back: ``exact`` in
        O(ν · parameters) memory, for a second forward and backward pass a step.

    Returns
    -------
    Params
        The meta-gradient, detached, a dict like `params`.

    Raises
    ------
    ValueError
        For an unknown mode, a support without its axis ν, or a loss that draws random numbers
        (dropout) where the same step is evaluated twice (``recompute``, ``hessian_free``): its mask
        would be drawn anew.
    """
    return value_and_meta_gradient(
        loss_fn,
        params,
        support,
        query,
        alpha=alpha,
        mode=mode,
        hessian=hessian,
        delta=delta,
        recompute=recompute,
    ).gradient


def value_and_meta_gradient(
    loss_fn: LossFn,
    params: Params,
    support: Batch,
    query: Batch,
    *,
    alpha: StepSize,
    mode: str = "exact",
    hessian: Batch | None = None,
    delta: float = 1e-3,
    recompute: bool = False,
) -> ValueAndGradient:
    """Return f_i(θ^ν; D′) beside the meta-gradient; arguments as in `meta_gradient`."""
    if mode not in MODES:
        raise ValueError(f"mode={mode!r}: choose one of {', '.join(MODES)}")
    beside_query = (*zip(support, query, strict=False), *zip(hessian or (), query, strict=False))
    for inner, outer in beside_query:
        if inner.ndim != outer.ndim + 1:
            shapes = f"{tuple(inner.shape)} beside the query's {tuple(outer.shape)}"
            raise ValueError(f"support {shapes}: needs one more axis, ν, first")
    linearized = partial(_linearize, loss_fn, mode=mode, delta=delta, recompute=recompute)
    hessian_batches = repeat(None) if hessian is None else steps(hessian)

    theta, curvature = params, list[HessianVectorProduct]()
    for batch, hessian_batch in zip(steps(support), hessian_batches, strict=hessian is not None):
        gradient, hvp = linearized(theta, batch, hessian_batch)
        if mode != "first_order":
            curvature.append(hvp)
        theta = descend(theta, gradient, alpha)  # θ^{l+1} = θ^l − α ∇f(θ^l; D_l)

    value, v = value_and_gradient(loss_fn, theta, query)  # v = ∇f(θ^ν; D′)
    while curvature:  # popped, so that each step's graph is freed once it has served
        v = pulled_back(v, curvature.pop(), alpha)  # v ← (I − α ∇²f(θ^l; D″_l)) v
    return ValueAndGradient(value, v)


def adapt(loss_fn: LossFn, params: Params, support: Batch, *, alpha: StepSize) -> Params:
    """Return θ^ν, the personal model after ν fine-tuning steps from w = `params`.

    Parameters
    ----------
    loss_fn, params, alpha
        As in `meta_gradient`.
    support
        Tensors with a leading axis ν, one batch a step.
    """
    *_, theta = trajectory(loss_fn, params, support, alpha=alpha)
    return theta


def trajectory(
    loss_fn: LossFn, params: Params, support: Support, *, alpha: StepSize
) -> Iterator[Params]:
    """Yield θ^0 = w, θ^1, …, θ^ν in turn: θ^{l+1} = θ^l − α ∇f_i(θ^l; D_l)."""
    yield params
    for batch in steps(support):
        params = descend(params, value_and_gradient(loss_fn, params, batch).gradient, alpha)
        yield params


def steps(batches: Support) -> Iterator[Batch]:
    """Return ν batches one by one, of tensors with a leading axis ν or of what yields them."""
    if not isinstance(batches, tuple):
        return iter(batches)
    return zip(*(tensor.unbind(0) for tensor in batches), strict=True)


def descend(params: Params, direction: Params, size: StepSize) -> Params:
    """Return params − size · direction, leaf by leaf."""
    if isinstance(size, dict):
        return {
            name: p - size[name] * direction[name] if name in size else p
            for name, p in params.items()
        }
    return {name: torch.sub(p, direction[name], alpha=size) for name, p in params.items()}


def pulled_back(v: Params, hvp: HessianVectorProduct, alpha: StepSize) -> Params:
    """Return (I − ∇²f diag α) v, the transposed Jacobian of a step times v."""
    if isinstance(alpha, dict):
        scaled = {
            name: alpha[name] * p if name in alpha else torch.zeros_like(p) for name, p in v.items()
        }
        return descend(v, hvp(scaled), 1.0)
    return descend(v, hvp(v), alpha)


def value_and_gradient(loss_fn: LossFn, params: Params, batch: Batch) -> ValueAndGradient:
    """Return f(θ) and ∇f(θ) on one batch, detached."""
    loss, gradient, _ = _differentiate(loss_fn, params, batch, create_graph=False)
    return ValueAndGradient(loss.detach(), gradient)


def _linearize(
    loss_fn: LossFn,
    theta: Params,
    batch: Batch,
    hessian_batch: Batch | None,
    *,
    mode: str,
    delta: float,
    recompute: bool,
) -> tuple[Params, HessianVectorProduct]:
    """Return ∇f(θ; D) and v ↦ ∇²f(θ; D″) v, as the mode has it."""
    if mode == "exact" and hessian_batch is None and not recompute:
        return linearize(loss_fn, theta, batch)  # both from one graph
    evaluated_twice = mode == "hessian_free" or (mode == "exact" and recompute)
    before = random_state(theta) if evaluated_twice else []
    gradient = value_and_gradient(loss_fn, theta, batch).gradient
    if evaluated_twice:
        _refuse_random_loss(before, random_state(theta))
    product = hessian_vector_product
    if mode == "hessian_free":
        product = partial(central_difference, delta=delta)
    return gradient, partial(product, loss_fn, theta, hessian_batch or batch)


def linearize(loss_fn: LossFn, params: Params, batch: Batch) -> tuple[Params, HessianVectorProduct]:
    """Return ∇f(θ), and the function v ↦ ∇²f(θ) v on the same graph. It can be called once."""
    _, gradient, leaves = _differentiate(loss_fn, params, batch, create_graph=True)

    def hvp(v: Params) -> Params:
        slope = _Slope.apply(v, tuple(gradient), *gradient.values())
        if not slope.requires_grad:  # f is linear
            return {name: torch.zeros_like(tensor) for name, tensor in params.items()}
        product = torch.autograd.grad(slope, list(leaves.values()), materialize_grads=True)
        return dict(zip(leaves, product, strict=True))

    return {name: entry.detach() for name, entry in gradient.items()}, hvp


class _Slope(torch.autograd.Function):
    """The slope ∇f · v, whose own gradient is ∇²f v (Pearlmutter 1994), with its value left out.

    Autograd needs only its derivative by ∇f, which is v. To give it v as `grad_outputs` means the
    same and imports sympy, for seconds in every process; to compute the value takes time as well.
    """

    @staticmethod
    def forward(ctx: Any, v: Params, names: tuple[str, ...], *gradient: Tensor) -> Tensor:
        ctx.derivative = [v[name] for name in names]
        return gradient[0].new_zeros(())

    @staticmethod
    def backward(ctx: Any, *_: Tensor) -> tuple[Tensor | None, ...]:
        return None, None, *ctx.derivative


def hessian_vector_product(loss_fn: LossFn, params: Params, batch: Batch, v: Params) -> Params:
    """Return ∇²f(θ) v, exactly, with a graph that lives no longer than this call."""
    return linearize(loss_fn, params, batch)[1](v)


def central_difference(
    loss_fn: LossFn, params: Params, batch: Batch, v: Params, *, delta: float
) -> Params:
    """Return [∇f(θ + δv) − ∇f(θ − δv)] / 2δ ≈ ∇²f(θ) v, with error O(δ²) where f is smooth."""
    ahead = value_and_gradient(loss_fn, descend(params, v, -delta), batch).gradient
    behind = value_and_gradient(loss_fn, descend(params, v, delta), batch).gradient
    return {name: (ahead[name] - behind[name]) / (2 * delta) for name in params}


def _differentiate(
    loss_fn: LossFn, params: Params, batch: Batch, *, create_graph: bool
) -> tuple[Tensor, Params, Params]:
    """Return the loss, its gradient, and the leaves that it was taken at."""
    leaves = {name: tensor.detach().requires_grad_() for name, tensor in params.items()}
    with torch.enable_grad():
        loss = loss_fn(leaves, *batch)
        # `sum` joins the losses of a stack of clients, which share no parameter.
        gradient = torch.autograd.grad(
            loss.sum() if loss.ndim else loss,
            list(leaves.values()),
            create_graph=create_graph,
            materialize_grads=True,
        )
    return loss, dict(zip(leaves, gradient, strict=True)), leaves


def random_state(params: Params) -> list[Tensor]:
    """Return the states of the generators that a loss of these parameters may draw from."""
    devices = {tensor.device for tensor in params.values() if tensor.is_cuda}
    return [torch.get_rng_state(), *(torch.cuda.get_rng_state(device) for device in devices)]


def _refuse_random_loss(before: list[Tensor], after: list[Tensor]) -> None:
    """Raise if random numbers were drawn between the two states."""
    if not all(map(torch.equal, before, after)):
        raise ValueError(
            "the loss draws random numbers (dropout?), and recompute=True and "
            "mode='hessian_free' evaluate each step more than once with different draws: "
            "take the randomness out of the model, or mode='exact' with recompute=False"
        )
