"""JAX, a client's round being one jitted program: the strongest opponent on a CPU.

It is written as FedJAX has it, a `lax.scan` over local steps that the compiler fuses, and made as
quick as we could: the rows of all clients lie on the device before the clock starts, row numbers
are drawn within the program, buffers are donated, and nothing is read back before the round's end.
There are several ways to go through the clients; a trial takes the quickest, as our engine does.
"""

import time
from collections.abc import Callable
from dataclasses import replace
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

NAME, NEEDS = "JAX, jitted", "jax"
SAME = True
CHUNK = 5
"""Clients at once, where some are."""
TRIAL = 10
"""Clients of the trial."""


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


def lacks(work: Work) -> str | None:
    """Return what it does not have for some work."""
    return None


def prepare(work: Work) -> tuple[Callable[[], None], str]:
    """Return what carries out a round, and how it goes through the clients."""
    few = replace(work, offset=work.offset[: TRIAL + 1])
    seconds = {name: _trial(few, name) for name in ways(work)}
    best = min(seconds, key=lambda name: seconds[name])
    run = rounds(work, WAYS[best])
    run()
    tried = ", ".join(f"{name} {1e3 * s / few.clients:.2g} ms" for name, s in seconds.items())
    return run, f"{best}; a client in the trial: {tried}"


def ways(work: Work) -> list[str]:
    """Name the ways to try: with convolutions, which loops of XLA slow down, those without one."""
    return list(WAYS)[:2] if "conv" in work.spec.layers else list(WAYS)


def _trial(work: Work, name: str) -> float:
    """Return the CPU seconds of a round."""
    run = rounds(work, WAYS[name])
    run()  # compiles
    started = time.process_time()
    run()
    return time.process_time() - started


def rounds(work: Work, way: Callable[[Work, Held], Round]) -> Callable[[], None]:
    """Return what carries out one round after another, each from the model that the last left."""
    import jax
    import jax.numpy as jnp

    held = hold(work)
    one_round, finish = way(work, held), jax.jit(partial(_finish, work=work), donate_argnums=1)
    params: Tree = jax.device_put(from_torch(work.params))
    states: Tree = ()
    if work.spec.lamda is not None:
        states = jax.tree.map(lambda p: jnp.repeat(p[None], work.clients, 0), params)
    number = 0

    def run() -> None:
        nonlocal params, states, number
        number += 1
        keys = jax.random.split(jax.random.key(number))
        total, states = one_round(params, states, keys[0])
        params = jax.block_until_ready(finish(params, total, keys[1]))

    return run


def hold(work: Work) -> Held:
    """Put rows on the device."""
    import jax
    import numpy as np

    low, count = work.offset[:-1].astype(np.int32), np.diff(work.offset).astype(np.int32)
    return Held(*jax.device_put((*rows_of(work), low, count)))


def _finish(params: Tree, total: Tree, key: Any, work: Work) -> Tree:
    """Return the next model: the mean update taken away, and noise where that is asked."""
    import jax

    spec = work.spec
    if spec.clip is not None:
        leaves, shape = jax.tree.flatten(total)
        keys = jax.random.split(key, len(leaves))
        sigma = spec.noise * spec.clip
        noisy = [
            p + sigma * jax.random.normal(k, p.shape) for p, k in zip(leaves, keys, strict=True)
        ]
        total = jax.tree.unflatten(shape, noisy)
    return jax.tree.map(lambda p, t: p - t / work.clients, params, total)


def _drawn(work: Work, key: Any, low: Any, count: Any) -> Any:
    """Draw the rows of a client's round: [τ, ν + 1, D]."""
    import jax

    shape = work.spec.tau, work.spec.nu + 1, work.spec.batch
    return low + jax.random.randint(key, shape, 0, count)


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
        rows = _drawn(work, jax.random.fold_in(key, i), held.low[i], held.count[i])
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
        rows = _drawn(work, jax.random.fold_in(key, i), held.low[i], held.count[i])
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
    from jax import lax

    one = client_round(work.spec)

    def whole(params: Tree, states: Tree, key: Any, held: Held) -> Any:
        def add(total: Tree, client: Any) -> Any:
            state, key, low, count = client
            rows = _drawn(work, key, low, count)
            update, state = one(params, state, rows, held.x, held.y)
            return jax.tree.map(lambda a, b: a + b, total, update), state

        keys = jax.random.split(key, work.clients)
        return lax.scan(add, _zeros(work), (states, keys, held.low, held.count))

    program = jax.jit(whole, donate_argnums=1)
    return lambda params, states, key: program(params, states, key, held)


def _at_once(chunk: int | None, work: Work, held: Held) -> Round:
    """Compute some clients, or all, by `vmap`."""
    import jax
    from jax import lax

    one = client_round(work.spec)

    def whole(params: Tree, states: Tree, key: Any, held: Held) -> Any:
        def client(given: Any) -> Any:
            state, key, low, count = given
            return one(params, state, _drawn(work, key, low, count), held.x, held.y)

        keys = jax.random.split(key, work.clients)
        given = states, keys, held.low, held.count
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
