"""The clients of dataset=synthetic as pFedMe's generator draws them: the same federation, to a bit.

Of data/Logistic_Synthetic/generate_synthetic_05_05.py of CharlieDinh/pFedMe (at 599cbf4) this keeps
numpy's old generator, its seed 0, and the order in which it is asked.
"""

import math
from collections.abc import Mapping

import numpy as np

from nufed.tasks.datasets.synthetic import CLASSES, DEVIATION, FEATURES
from nufed.tasks.rows import Rows

IN_FIVES = 5  # rows of a client are a multiple of it


def read(
    alpha: float, beta: float, iid: bool, num_clients: int, sizes: Mapping[str, float], seed: int
) -> Rows:
    """Return the rows; arguments as of `nufed.tasks.datasets.synthetic.read`, not `iid`."""
    if iid:
        raise ValueError("iid=true: this is of clients that differ")
    random = np.random.RandomState(seed)
    mean, least = sizes["mean"] - math.log(IN_FIVES), int(sizes["least"]) // IN_FIVES
    drawn = random.lognormal(mean, sizes["sigma"], num_clients).astype(np.int64)
    size = (drawn + least) * IN_FIVES
    u, centre = random.normal(0, alpha, num_clients), random.normal(0, beta, num_clients)
    v = [random.normal(b, 1, FEATURES) for b in centre]
    x, y = [], []
    for k, rows in enumerate(size):
        w, b = random.normal(u[k], 1, (FEATURES, CLASSES)), random.normal(u[k], 1, CLASSES)
        x.append(random.multivariate_normal(v[k], np.diag(DEVIATION**2), rows))
        y.append(np.argmax(x[-1] @ w + b, axis=1))
    whose = np.repeat(np.arange(num_clients), size)
    return Rows(np.concatenate(x).astype(np.float32), np.concatenate(y), whose)
