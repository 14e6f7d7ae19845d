"""The strongest opponent on a CPU: a client's round as one jitted JAX program, client by client.

It is written as FedJAX has it, a `lax.scan` over local steps that the compiler fuses, and made as
quick as we could: rows of all clients lie on the device before the clock starts, each client's row
numbers are drawn within the program, the model is donated, and nothing is read back before the
round's end. A process of its own, with one thread: ``python -m benchmarks.jax_round`` takes lines
of JSON and answers with the CPU seconds that a round took.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

ONE_THREAD = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"


def make(spec: dict[str, Any]) -> Callable[[Any, Any, Any, Any], tuple[Any, Any]]:
    """Return ``round_of(params, key, x, y)`` -> (w_0 − w_τ, mean loss) of one client, jitted.

    Parameters
    ----------
    spec
        nu, tau, alpha, beta, batch, exact.
    """
    import jax
    import jax.numpy as jnp
    from jax import lax

    nu, tau, batch = spec["nu"], spec["tau"], spec["batch"]
    alpha, beta, exact = spec["alpha"], spec["beta"], spec["exact"]
    tree = jax.tree.map

    def loss(params: Any, x: Any, y: Any) -> Any:
        *hidden, last = params
        for weight, bias in hidden:
            x = jax.nn.relu(x @ weight + bias)
        scores = x @ last[0] + last[1]
        chosen = jnp.take_along_axis(scores, y[:, None], 1)[:, 0]
        return jnp.mean(jax.nn.logsumexp(scores, 1) - chosen)

    def adapted(w: Any, x: Any, y: Any) -> Any:
        for step in range(nu):
            g = jax.grad(loss)(w, x[step], y[step])
            w = tree(lambda p, d: p - alpha * d, w, g)
        return w

    def meta_loss(w: Any, x: Any, y: Any) -> Any:
        return loss(adapted(w, x, y), x[-1], y[-1])

    def local_step(w: Any, rows: Any, x: Any, y: Any) -> tuple[Any, Any]:
        x, y = x[rows], y[rows]
        if exact:
            value, g = jax.value_and_grad(meta_loss)(w, x, y)
        else:
            value, g = jax.value_and_grad(loss)(adapted(w, x, y), x[-1], y[-1])
        return tree(lambda p, d: p - beta * d, w, g), value

    @jax.jit
    def round_of(params: Any, key: Any, x: Any, y: Any) -> tuple[Any, Any]:
        rows = jax.random.randint(key, (tau, nu + 1, batch), 0, len(y))
        end, losses = lax.scan(partial(local_step, x=x, y=y), params, rows)
        return tree(lambda a, b: a - b, params, end), losses.mean()

    return round_of


def serve() -> None:
    """Answer requests: first the file of what is trained, then numbers of rounds."""
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {ONE_THREAD}"
    import jax
    import numpy as np

    request = json.loads(sys.stdin.readline())
    held = np.load(request["file"])
    layers = range(len([name for name in held.files if name.startswith("weight")]))
    params = jax.device_put([(held[f"weight{i}"].T, held[f"bias{i}"]) for i in layers])
    clients = [
        jax.device_put((held[f"x{i}"].reshape(len(held[f"y{i}"]), -1), held[f"y{i}"]))
        for i in range(request["clients"])
    ]
    round_of = make(request["spec"])
    add = jax.jit(lambda total, update: jax.tree.map(lambda a, b: a + b, total, update))
    keys = jax.random.split(jax.random.key(0), len(clients))
    for line in sys.stdin:
        started = time.process_time()
        for _ in range(int(line)):
            total = None
            for key, (x, y) in zip(keys, clients, strict=True):
                update, _ = round_of(params, key, x, y)
                total = update if total is None else add(total, update)
            jax.block_until_ready(total)
        print(json.dumps({"cpu_s": time.process_time() - started}), flush=True)


if __name__ == "__main__":
    serve()
