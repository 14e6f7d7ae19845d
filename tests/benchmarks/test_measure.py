"""Medians, ratios and counts, on numbers that are known."""

import time

import pytest
import torch

from benchmarks.arithmetic import GEMM, gemm, gemm_share, operations
from benchmarks.measure import (
    Contender,
    Samples,
    Timing,
    cpu_ratio,
    interleaved,
    medians,
    peak_bytes,
    timed,
)


def samples(**walls: list[float]) -> Samples:
    return {name: [Timing(wall, 2 * wall) for wall in each] for name, each in walls.items()}


def test_ratios_are_taken_repeat_by_repeat() -> None:
    """Of the medians it would be 4; the machine was slow in the second repeat, for both."""
    figures = medians(samples(a=[4.0, 40.0, 8.0], b=[2.0, 10.0, 2.0]), "b", "a")
    assert figures == {"wall_s": 2.0, "cpu_s": 4.0, "speedup": 4.0, "relative_time": 0.25}
    figures = medians(samples(a=[4.0, 6.0, 8.0], b=[4.0, 2.0, 1.0]), "b", "a")
    assert figures["speedup"] == 3.0
    assert figures["relative_time"] == pytest.approx(1 / 3)


def test_no_reference_no_ratio() -> None:
    assert medians(samples(a=[1.0, 3.0]), "a") == {"wall_s": 2.0, "cpu_s": 4.0}


def test_the_ratio_of_cpu_seconds_is_taken_repeat_by_repeat() -> None:
    """Of the medians it would be 3."""
    assert cpu_ratio(samples(a=[6.0, 2.0, 9.0], b=[3.0, 2.0, 1.0]), "a", "b") == 2.0


def test_contenders_take_turns() -> None:
    order: list[str] = []

    def contender(name: str) -> Contender:
        def run() -> float:
            order.append(name)
            return 5.0

        return Contender(name, run)

    done = interleaved([contender("a"), contender("b")], 3)
    assert order == ["a", "b"] * 3
    assert [len(each) for each in done.values()] == [3, 3]
    assert all(t.cpu >= 5.0 for each in done.values() for t in each)


def test_waiting_costs_time_but_no_cpu() -> None:
    def wait() -> float:
        time.sleep(0.05)
        return 0.0

    timing = timed(wait)
    assert timing.wall >= 0.05
    assert timing.cpu < timing.wall


def test_operations_of_a_matrix_product_and_of_its_gradient() -> None:
    w = torch.zeros(3, 5, requires_grad=True)
    assert operations(lambda: torch.ones(7, 3) @ w.detach()) == 2 * 7 * 3 * 5
    assert operations(lambda: (torch.ones(7, 3) @ w).sum().backward()) == 2 * (2 * 7 * 3 * 5)


def test_share_of_the_measured_rate() -> None:
    """Three products of 1024³ in 3 s are 2 · 1024³ operations a second; half of that in 4 s."""
    done = {GEMM: [Timing(3.0, 3.0)], "a": [Timing(4.0, 4.0)]}
    assert gemm_share(done, "a", 4 * 1024**3) == 0.5


def test_the_rate_is_measured_by_the_products_that_are_counted() -> None:
    assert operations(gemm().run) == 3 * 2 * 1024**3


def test_peak_counts_what_is_alive_at_once() -> None:
    def one_after_another() -> None:
        for _ in range(3):
            torch.zeros(1000)

    assert peak_bytes(one_after_another) == 4000
    assert peak_bytes(lambda: [torch.zeros(1000) for _ in range(3)]) == 12000
