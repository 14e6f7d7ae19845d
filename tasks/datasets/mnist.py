"""MNIST (LeCun et al. 1998): 70,000 handwritten digits, 28x28, 10 classes."""

from nufed.tasks.datasets.idx_images import read_idx
from nufed.tasks.rows import Rows


def read(path: str | None = None) -> Rows:
    """Return the rows from `path`, or from torchvision's download."""
    return read_idx("MNIST", path)
