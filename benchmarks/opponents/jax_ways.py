"""How the JAX opponent may go through the clients of a round: programs, and what calls them."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from benchmarks.opponents.jax_client import (
    Tree,
    client_round,
    from_torch,
    local_step,
    rows_of,
    update_of,
)
from benchmarks.opponents.work import Work

CHUNK = 5
"""Clients at once, where some are."""


class Held(NamedTuple):
    """What lies on the device before the clock starts."""

    x: Any
    y: Any
    low: Any
    """Where each client's rows begin."""
    count: Any
    """How many they are."""


Round = Callable[[Tree, Tree, Any], tuple[Tree, Tree]]
"""(params, states of all clients, key) -> (sum of updates, states)."""


def hold(work: Work) -> Held:
    """Put rows on the device."""
    import jax
    import numpy as np

    low, count = work.offset[:-1].astype(np.int32), np.diff(work.offset).astype(np.int32)
    return Held(*jax.device_put((*rows_of(work), low, count)))


def drawn(work: Work, held: Held, key: Any, i: Any) -> Any:
    """Draw the rows of a client's round: [τ, ν + 1, D]."""
    import jax

    shape = work.spec.tau, work.spec.nu + 1, work.spec.batch
    return held.low[i] + jax.random.randint(jax.random.fold_in(key, i), shape, 0, held.count[i])


def _zeros(work: Work) -> Tree:
    import jax
    import jax.numpy as jnp

    return jax.tree.map(jnp.zeros_like, from_torch(work.params))


def _client_by_client(work: Work, held: Held) -> Round:
    """Call one program for each client."""
    import jax

    one = client_round(work.spec)

    def add(total: Tree, states: Tree, i: Any, params: Tree, key: Any, held: Held) -> Any:
        state = jax.tree.map(lambda s: s[i], states)
        rows = drawn(work, held, key, i)
        update, state = one(params, state, rows, held.x, held.y)
        states = jax.tree.map(lambda s, new: s.at[i].set(new), states, state)
        return jax.tree.map(lambda a, b: a + b, total, update), states

    program = jax.jit(add, donate_argnums=(0, 1))

    def run(params: Tree, states: Tree, key: Any) -> tuple[Tree, Tree]:
        total = _zeros(work)
        for i in range(work.clients):
            total, states = program(total, states, i, params, key, held)
        return total, states

    return run


def _step_by_step(work: Work, held: Held) -> Round:
    """Call one program for each local step, and so without a loop that XLA must see through."""
    import jax

    spec = work.spec
    step_of = local_step(spec)

    def step(carry: Any, rows: Any, k: Any, start: Tree, held: Held) -> Any:
        return step_of(carry, rows[k], start, held.x, held.y)

    def begin(params: Tree, states: Tree, i: Any, key: Any, held: Held) -> Any:
        rows = drawn(work, held, key, i)
        copied = jax.tree.map(lambda p: p + 0.0, params)
        return (copied, jax.tree.map(lambda s: s[i], states)), rows

    def end(total: Tree, states: Tree, carry: Any, i: Any, params: Tree) -> Any:
        w, state = carry
        states = jax.tree.map(lambda s, new: s.at[i].set(new), states, state)
        return jax.tree.map(lambda a, b: a + b, total, update_of(spec, params, w)), states

    begins, steps = jax.jit(begin), jax.jit(step, donate_argnums=0)
    ends = jax.jit(end, donate_argnums=(0, 1))

    def run(params: Tree, states: Tree, key: Any) -> tuple[Tree, Tree]:
        total = _zeros(work)
        for i in range(work.clients):
            carry, rows = begins(params, states, i, key, held)
            for k in range(spec.tau):
                carry = steps(carry, rows, k, params, held)
            total, states = ends(total, states, carry, i, params)
        return total, states

    return run


def _one_program(work: Work, held: Held) -> Round:
    """Go through all clients within one program."""
    import jax
    import jax.numpy as jnp
    from jax import lax

    one = client_round(work.spec)

    def whole(params: Tree, states: Tree, key: Any, held: Held) -> Any:
        def add(total: Tree, client: Any) -> Any:
            state, i = client
            update, state = one(params, state, drawn(work, held, key, i), held.x, held.y)
            return jax.tree.map(lambda a, b: a + b, total, update), state

        return lax.scan(add, _zeros(work), (states, jnp.arange(work.clients)))

    program = jax.jit(whole, donate_argnums=1)
    return lambda params, states, key: program(params, states, key, held)


def _at_once(chunk: int | None, work: Work, held: Held) -> Round:
    """Compute some clients, or all, by `vmap`."""
    import jax
    import jax.numpy as jnp
    from jax import lax

    one = client_round(work.spec)

    def whole(params: Tree, states: Tree, key: Any, held: Held) -> Any:
        def client(given: Any) -> Any:
            state, i = given
            return one(params, state, drawn(work, held, key, i), held.x, held.y)

        given = states, jnp.arange(work.clients)
        updates, states = lax.map(client, given, batch_size=chunk or work.clients)
        return jax.tree.map(lambda u: u.sum(0), updates), states

    program = jax.jit(whole, donate_argnums=1)
    return lambda params, states, key: program(params, states, key, held)


WAYS: dict[str, Callable[[Work, Held], Round]] = {
    "a program a client": _client_by_client,
    "a program a local step": _step_by_step,
    "one program, clients in turn": _one_program,
    f"one program, {CHUNK} clients at once": partial(_at_once, CHUNK),
    "one program, all clients at once": partial(_at_once, None),
}
