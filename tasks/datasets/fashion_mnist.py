"""Fashion-MNIST (Xiao et al. 2017): 70,000 images of clothes, 28x28, 10 classes."""

from pathlib import Path

from nufed.tasks.datasets.idx_images import read_idx
from nufed.tasks.rows import Rows

DEBIAN_PACKAGE = Path("/usr/share/datasets/fashion-mnist")


def read(path: str | None = None) -> Rows:
    """Return the rows from `path`, Debian's dataset-fashion-mnist, or torchvision's download."""
    return read_idx("FashionMNIST", path, DEBIAN_PACKAGE)
