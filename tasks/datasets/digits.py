"""scikit-learn's handwritten digits: 1797 real images, 8x8, inside the package."""

import numpy as np

from nufed.tasks.rows import Rows


def read() -> Rows:
    """Return x [1797, 8, 8] in [0, 1] and y [1797] in 0 … 9."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    return Rows((digits.images / 16).astype(np.float32), digits.target.astype(np.int64))
