"""A workload's setting as the work that opponents are given."""

import numpy as np
from torch import nn

from benchmarks.opponents.work import Spec, Work
from benchmarks.setting import Setting
from nufed.client_app.algorithms.ditto import Ditto
from nufed.client_app.algorithms.meta_gradient import MetaGradient

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
    """
    ask, task = setting.ask, setting.task
    a = ask.algorithm
    if not isinstance(a, MetaGradient | Ditto):
        raise TypeError(f"opponents do not know {a.name}")
    meta = isinstance(a, MetaGradient)
    leaves = [m for m in task.module.modules() if not any(m.children())]
    spec = Spec(
        layers=[LAYERS[type(leaf)] for leaf in leaves],
        nu=a.nu if meta else 0,
        tau=a.tau,
        alpha=a.alpha if meta else 0.0,
        beta=a.beta,
        batch=a.batch.query,
        exact=meta and a.nu > 0 and a.mode == "exact",
        lamda=None if meta else a.lamda,
        clip=clip,
        noise=noise,
    )
    rows = [task.data.partition.train_rows(client) for client in ask.clients]
    x, y = task.batch(np.concatenate(rows))
    offset = np.cumsum([0, *map(len, rows)])
    params = [p.numpy() for p in setting.params.values()]
    return Work(spec, params, x.numpy(), y.numpy(), offset)
