"""A folder as people have who use Flower and Hydra: its files have the names of NuFed's parts."""

from pathlib import Path

import numpy as np

NAMES = ("cli", "client_app", "server_app", "simulation", "strategies", "theory")
NET = """\
from collections import OrderedDict
from torch import nn

class Net(nn.Sequential):
    def __init__(self, input_shape, num_outputs):
        layer = nn.Linear(input_shape[0], num_outputs)
        super().__init__(OrderedDict({__name__: layer}))
"""
RUN = [
    *("dataset=npz", "dataset.path=rows.npz", "model=custom", "algorithm.nu=1", "rounds=1"),
    *("clients_per_round=2", "evaluation.steps=1", "tracking=none"),
    "baselines=none",
]


def lay_out(folder: Path) -> Path:
    """Make such a folder; the name of a `Net`'s one layer is that of its module.

    tasks.py needs all the others.
    """
    (folder / "conf").mkdir(parents=True)
    (folder / "conf/config.yaml").write_text("foo: 1\n")
    for name in NAMES:
        (folder / f"{name}.py").write_text(NET)
    every = "".join(f"from {name} import Net as {name}\n" for name in NAMES)
    (folder / "tasks.py").write_text(f"{every}\n{NET}")
    random = np.random.default_rng(0)
    rows = {"x": random.normal(size=(48, 3)).astype(np.float32), "y": random.integers(2, size=48)}
    np.savez(folder / "rows.npz", **rows, client=np.arange(48) // 12)
    np.savez(folder / "one.npz", **{key: value[:12] for key, value in rows.items()})
    return folder
