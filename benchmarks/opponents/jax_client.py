"""What the JAX opponent computes for one client, as pure functions that its ways of going share."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.opponents.work import Spec, Work

Tree = Any
"""A pair of weight and bias for each layer that has them."""
Client = Callable[..., tuple[Tree, Tree]]
"""(params, state, rows, x, y) -> (update, state); rows [τ, ν + 1, D] number the rows of x and y."""


def client_round(spec: Spec) -> Client:
    """Return a client's round."""
    from jax import lax

    step_of = local_step(spec)
    unroll = "conv" in spec.layers  # convolutions in a loop take XLA twelve times as long on a CPU

    def run(params: Tree, state: Tree, rows: Any, x: Any, y: Any) -> tuple[Tree, Tree]:
        step = partial(step_of, start=params, x=x, y=y)
        begin = params, state
        (end, state), _ = lax.scan(lambda w, at: (step(w, at), None), begin, rows, unroll=unroll)
        return update_of(spec, params, end), state

    return run


def local_step(spec: Spec) -> Callable[..., tuple[Tree, Tree]]:
    """Return ``step((w, v), rows, start, x, y)`` -> (w, v); v is () but for Ditto."""
    import jax

    tree, loss = jax.tree.map, loss_of(spec.layers)
    gradient_of = jax.grad(loss)

    def minus(w: Tree, g: Tree, size: float) -> Tree:
        return tree(lambda p, d: p - size * d, w, g)

    def adapted(w: Tree, x: Any, y: Any) -> Tree:
        for k in range(spec.nu):
            w = minus(w, gradient_of(w, x[k], y[k]), spec.alpha)
        return w

    def meta_loss(w: Tree, x: Any, y: Any) -> Any:
        return loss(adapted(w, x, y), x[-1], y[-1])

    def step(carry: tuple[Tree, Tree], rows: Any, start: Tree, x: Any, y: Any) -> tuple[Tree, Tree]:
        w, v = carry
        x, y = x[rows], y[rows]
        if spec.lamda is not None:
            own, held = gradient_of(v, x[-1], y[-1]), minus(v, start, 1.0)
            v = minus(v, tree(lambda g, h: g + spec.lamda * h, own, held), spec.beta)
        if spec.exact:
            return minus(w, jax.grad(meta_loss)(w, x, y), spec.beta), v
        return minus(w, gradient_of(adapted(w, x, y), x[-1], y[-1]), spec.beta), v

    return step


def update_of(spec: Spec, start: Tree, end: Tree) -> Tree:
    """Return w_0 − w_τ, clipped if that is asked."""
    import jax
    import jax.numpy as jnp

    update = jax.tree.map(lambda a, b: a - b, start, end)
    if spec.clip is None:
        return update
    norm = jnp.sqrt(sum(jnp.sum(p * p) for p in jax.tree.leaves(update)))
    scale = jnp.minimum(1.0, spec.clip / norm)
    return jax.tree.map(lambda p: scale * p, update)


def loss_of(layers: Sequence[str]) -> Callable[[Tree, Any, Any], Any]:
    """Return the cross-entropy of a model; images are [B, height, width, channels]."""
    import jax
    import jax.numpy as jnp
    from jax import lax

    def loss(params: Tree, x: Any, y: Any) -> Any:
        left = iter(params)
        for layer in layers:
            if layer == "conv":
                weight, bias = next(left)
                order = ("NHWC", "HWIO", "NHWC")
                x = lax.conv_general_dilated(x, weight, (1, 1), "VALID", dimension_numbers=order)
                x = x + bias
            elif layer == "linear":
                weight, bias = next(left)
                x = x @ weight + bias
            elif layer == "relu":
                x = jax.nn.relu(x)
            elif layer == "pool":
                size = (1, 2, 2, 1)
                x = lax.reduce_window(x, -jnp.inf, lax.max, size, size, "VALID")
            else:
                x = x.reshape(len(x), -1)
        chosen = jnp.take_along_axis(x, y[:, None], 1)[:, 0]
        return jnp.mean(jax.nn.logsumexp(x, 1) - chosen)

    return loss


def rows_of(work: Work) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Return x and y as JAX likes them."""
    x = work.x.transpose(0, 2, 3, 1) if "conv" in work.spec.layers else work.x
    return np.ascontiguousarray(x), work.y.astype(np.int32)


def from_torch(params: Sequence[NDArray[np.float32]]) -> Tree:
    """Return parameters as JAX likes them: what comes in before what goes out, channels last."""
    tree, channels = [], 1
    for weight, bias in zip(params[::2], params[1::2], strict=True):
        if weight.ndim == 4:
            tree.append((weight.transpose(2, 3, 1, 0), bias))
            channels = len(weight)
        else:  # the columns of the one after the convolutions are channels times places
            by_channel = weight.reshape(len(weight), channels, -1)
            tree.append((by_channel.transpose(2, 1, 0).reshape(-1, len(weight)), bias))
            channels = 1
    return tree


def to_torch(tree: Tree) -> list[NDArray[np.float32]]:
    """Undo `from_torch`."""
    params, channels = list[NDArray[np.float32]](), 1
    for weight, bias in tree:
        weight = np.asarray(weight)
        if weight.ndim == 4:
            params += [weight.transpose(3, 2, 0, 1), np.asarray(bias)]
            channels = weight.shape[-1]
        else:
            out = weight.shape[1]
            by_place = weight.reshape(-1, channels, out)
            params += [by_place.transpose(2, 1, 0).reshape(out, -1), np.asarray(bias)]
            channels = 1
    return params
