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
from typing import Any

from benchmarks.opponents.jax_client import Tree, from_torch
from benchmarks.opponents.jax_ways import WAYS, Held, Round, hold
from benchmarks.opponents.work import Work

NAME, NEEDS = "JAX, jitted", "jax"
SAME = True
TRIAL = 10
"""Clients of the trial."""
TIMES = 3
CLOSE = 1.15
"""Ways that take so many times as long as the quickest are tried again, on all clients."""


def lacks(work: Work) -> str | None:
    """Return what it does not have for some work."""
    return None


def prepare(work: Work) -> tuple[Callable[[], None], str]:
    """Return what carries out a round, and how it goes through the clients."""
    few = replace(work, offset=work.offset[: TRIAL + 1])
    seconds = {name: _trial(few, name) for name in ways(work)}
    close = [name for name, s in seconds.items() if s < CLOSE * min(seconds.values())]
    # Which of these is the quickest may depend on how many clients there are.
    whole = {name: _trial(work, name) for name in close} if len(close) > 1 else {close[0]: 0.0}
    best = min(whole, key=lambda name: whole[name])
    run = rounds(work, WAYS[best])
    run()
    tried = ", ".join(f"{name} {1e3 * s / few.clients:.2g} ms" for name, s in seconds.items())
    return run, f"{best}; in the trial, a client: {tried}"


def ways(work: Work) -> list[str]:
    """Name the ways to try: with convolutions, which loops of XLA slow down, those without one."""
    return list(WAYS)[:2] if "conv" in work.spec.layers else list(WAYS)


def _trial(work: Work, name: str) -> float:
    """Return the CPU seconds of a round: the fewest of a few, as others disturb it."""
    run, seconds = rounds(work, WAYS[name]), []
    run()  # compiles
    for _ in range(TIMES):
        started = time.process_time()
        run()
        seconds.append(time.process_time() - started)
    return min(seconds)


def rounds(work: Work, way: Callable[[Work, Held], Round]) -> Callable[[], None]:
    """Return what carries out one round after another, each from the model that the last left."""
    import jax

    held = hold(work)
    one_round, finish = way(work, held), jax.jit(partial(_finish, work=work), donate_argnums=1)
    params: Tree = jax.device_put(from_torch(work.params))
    states, number = states_of(work, params), 0

    def run() -> None:
        nonlocal params, states, number
        number += 1
        keys = jax.random.split(jax.random.key(number))
        total, states = one_round(params, states, keys[0])
        params = jax.block_until_ready(finish(params, total, keys[1]))

    return run


def states_of(work: Work, params: Tree) -> Tree:
    """Return what clients keep before the first round: [clients, …] of Ditto, or nothing."""
    import jax
    import jax.numpy as jnp

    if work.spec.lamda is None:
        return ()
    return jax.tree.map(lambda p: jnp.repeat(p[None], work.clients, 0), params)


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
