"""The device's matrix product rate, and how many of such operations a piece of work needs."""

from collections.abc import Callable

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.measure import CPU, Contender, Samples, medians

GEMM = "matrix product"
_SIZE = {"cpu": 1024, "cuda": 8192}
_PRODUCTS = 3


def gemm(device: torch.device = CPU) -> Contender:
    """Return products of square float32 matrices as a contender, to be timed beside the others."""
    a, b = (torch.rand(_SIZE[device.type], _SIZE[device.type], device=device) for _ in range(2))

    def run() -> float:
        for _ in range(_PRODUCTS):
            torch.mm(a, b)
        return 0.0

    run()
    return Contender(GEMM, run)


def gemm_share(samples: Samples, name: str, operations: int, device: torch.device = CPU) -> float:
    """Return the part of the matrix product rate, timed beside it, that a contender reached.

    `operations` are the floating-point operations of its work.
    """
    rate = _PRODUCTS * 2 * _SIZE[device.type] ** 3 / medians(samples, GEMM)["wall_s"]
    return operations / medians(samples, name)["wall_s"] / rate


def operations(run: Callable[[], object]) -> int:
    """Count the floating-point operations of the matrix products and convolutions of `run`."""
    with FlopCounterMode(display=False) as counter:
        run()
    return int(counter.get_total_flops())
