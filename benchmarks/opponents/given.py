"""A workload's setting as the work that opponents are given."""

from typing import Any

import numpy as np
from torch import nn

from benchmarks.opponents.work import Spec, Work
from benchmarks.setting import Setting
from nufed.client_app.algorithm import Algorithm
from nufed.client_app.algorithms.ditto import Ditto
from nufed.client_app.algorithms.meta_gradient import MetaGradient
from nufed.tasks.streams import Purpose, stream

LAYERS: dict[type[nn.Module], str] = {
    nn.Conv2d: "conv",
    nn.Linear: "linear",
    nn.ReLU: "relu",
    nn.MaxPool2d: "pool",
    nn.Flatten: "flatten",
}


def given(setting: Setting, *, clip: float | None = None, noise: float = 0.0) -> Work:
    """Return a round of the setting's clients.

    Parameters
    ----------
    setting
        What all contenders of a row are given.
    clip, noise
        As in `Spec`.

    Raises
    ------
    KeyError
        If the model has layers that opponents do not know.
    TypeError
        If they do not know the algorithm.
    """
    job, task = setting.job, setting.task
    leaves = [m for m in task.module.modules() if not any(m.children())]
    rows = [task.data.partition.train_rows(client) for client in job.clients]
    x, y = task.batch(np.concatenate(rows))
    spec = Spec(
        layers=[LAYERS[type(leaf)] for leaf in leaves],
        tau=job.tau,
        beta=job.algorithm.beta,
        clip=clip,
        noise=noise,
        **_numbers(job.algorithm),
    )
    params = [p.numpy() for p in setting.params.values()]
    offset = np.cumsum([0, *map(len, rows)])
    drawn = [
        low
        + stream(Purpose.TRAIN, job.seed, client).integers(0, len(of), (spec.gradients, spec.batch))
        for client, low, of in zip(job.clients, offset, rows, strict=False)
    ]
    return Work(spec, params, x.numpy(), y.numpy(), offset, np.stack(drawn))


def _numbers(algorithm: Algorithm) -> dict[str, Any]:
    """Return what an algorithm has besides τ and β."""
    rows = algorithm.batch.query
    if isinstance(algorithm, Ditto):
        return {"nu": 0, "alpha": 0.0, "batch": rows, "lamda": algorithm.lamda}
    if not isinstance(algorithm, MetaGradient):
        raise TypeError(f"opponents do not know {algorithm.name}")
    nu, exact = algorithm.nu, algorithm.mode == "exact" and algorithm.nu > 0
    return {"nu": nu, "alpha": algorithm.alpha, "batch": rows, "exact": exact}
