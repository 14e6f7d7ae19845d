"""Figures as clients report them: finite ones are such as float32 can hold.

So a mean over a million clients is finite in float64, and so are the squares in a standard
deviation, whatever one of them reports.
"""

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

MOST = torch.finfo(torch.float32).max


def reportable(figures: Tensor) -> Tensor:
    """Return which figures are finite, and not beyond `MOST`."""
    return figures.abs() <= MOST


def all_finite(tensor: Tensor) -> bool:
    """Tell whether all entries are finite.

    A sum that is finite says so in a fraction of the time; one that is not may be an overflow.
    """
    return bool(torch.isfinite(tensor.sum())) or bool(torch.isfinite(tensor).all())


def as_reported(figures: Iterable[float]) -> list[float]:
    """Return figures with an infinity in place of each that is beyond `MOST`, as float32 has it."""
    found = np.array([*figures], np.float64)
    beyond = np.abs(found) > MOST
    found[beyond] = np.copysign(np.inf, found[beyond])
    listed: list[float] = found.tolist()
    return listed
