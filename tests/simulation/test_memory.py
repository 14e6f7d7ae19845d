"""Bytes are counted exactly, and a machine that has too few of them still gets its results."""

import ctypes
import logging
import os
import pickle
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import nn

from nufed.client_app.executor import OneByOne
from nufed.client_app.meta_gradient import meta_gradient
from nufed.conf.errors import RunStopped
from nufed.simulation.batched import Batched
from nufed.simulation.memory import PeakMemory, free_bytes, out_of_memory
from nufed.simulation.plan import Way
from tests.helpers import network
from tests.simulation.helpers import (
    Setting,
    assert_same_curves,
    assert_same_training,
    batched,
    evaluate_job,
    setting,
    train_job,
)

ROOT = Path(__file__).parents[2]


def test_bytes_alive_at_the_same_time_are_counted() -> None:
    with PeakMemory() as peak:
        a = torch.ones(1000)
        assert peak.bytes == 4000
        b = torch.ones(500, dtype=torch.float64)
        assert peak.bytes == 8000
        del a
        c = torch.ones(900)  # takes the place of a
        assert peak.bytes == 8000
        d = c[:100] + 1
        assert peak.bytes == 8000
        e = torch.cat([c, d])
        assert peak.bytes == 4000 + 3600 + 400 + 4000
    assert (len(b), len(e)) == (500, 1000)


def test_views_writes_in_place_and_tensors_of_before_are_not_counted() -> None:
    before = torch.ones(1000)
    with PeakMemory() as peak:
        before.add_(1)
        row = before.view(10, 100)[3]
        row.mul_(2)
        assert peak.bytes == 0
        made = torch.ones(10, 100)
        views = [made.T, made[2:], made.reshape(-1), made.expand(5, 10, 100)]
        made += 1
        del made  # its views keep it alive
        other = torch.ones(1000)
    assert peak.bytes == 8000
    assert float(views[0][0, 0] + other[0]) == 3.0


def test_what_autograd_keeps_for_the_way_back_is_counted() -> None:
    """The sine is kept by its cosine; without gradients one tensor dies for the next."""
    x = torch.ones(1000, requires_grad=True)
    with PeakMemory() as kept:
        y = x.sin().cos().exp()
    with torch.no_grad(), PeakMemory() as freed:
        x.sin().cos().exp()
    assert kept.bytes == 3 * 4000  # exp keeps its result
    assert freed.bytes == 2 * 4000
    del y


def test_one_count_does_not_see_another() -> None:
    """What the first made may die in the second, and be followed at its address."""
    with PeakMemory() as first:
        a = torch.ones(1000)
    with PeakMemory() as second:
        del a
        for _ in range(5):
            torch.ones(1000)
    assert (first.bytes, second.bytes) == (4000, 4000)


def peaks(recompute: bool, steps: tuple[int, ...]) -> list[float]:
    """Return the peak of a meta-gradient of ν steps on an MLP, in copies of its parameters."""
    torch.manual_seed(0)
    loss, params = network(nn.Sequential(nn.Linear(64, 100), nn.ReLU(), nn.Linear(100, 10)))
    counted = []
    for nu in steps:
        x, y = torch.randn(nu, 20, 64, dtype=torch.float64), torch.randint(10, (nu, 20))
        with PeakMemory() as peak:
            meta_gradient(loss, params, (x, y), (x[0], y[0]), alpha=0.1, recompute=recompute)
        counted.append(peak.bytes / sum(p.nbytes for p in params.values()))
    return counted


def test_recompute_grows_by_one_copy_of_the_parameters_a_step() -> None:
    """θ^l is all that a step leaves behind; without it, the step's graph stays too."""
    steps = (2, 3, 5, 8)
    with_it, without = (np.diff(peaks(recompute, steps)) for recompute in (True, False))
    assert with_it / np.diff(steps) == pytest.approx(1.0, abs=0.3)
    assert (without / np.diff(steps) > 2).all()


def test_memory_that_is_short_is_told_from_other_errors() -> None:
    """Real ones, of PyTorch and of NumPy."""
    for job in (lambda: torch.empty(1 << 60), lambda: np.empty(1 << 50)):
        with pytest.raises((RuntimeError, MemoryError)) as raised:
            job()
        assert out_of_memory(raised.value)
    for mistake in (lambda: torch.ones(2) @ torch.ones(3), lambda: int("DefaultCPUAllocator")):
        with pytest.raises((RuntimeError, ValueError)) as raised:
            mistake()
        assert not out_of_memory(raised.value)


def test_counting_does_not_load_the_compiler() -> None:
    """It would take seconds of every first run."""
    code = (
        "import sys, torch\nfrom nufed.simulation.memory import PeakMemory\n"
        "with PeakMemory() as peak:\n    torch.ones(3)\n"
        "print(peak.bytes, 'torch._dynamo' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.split() == ["12", "False"], done.stderr


def test_free_memory_is_some_of_what_the_machine_has() -> None:
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert 1 << 26 < free_bytes(torch.device("cpu")) <= total


# What follows is tried in processes of their own, whose address space is limited.

LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits address space")
WIDE = ("model.hidden=[600]", "algorithm.nu=1", "algorithm.tau=1", "evaluation.steps=1")
ROWS = 1500  # a batch, drawn with repetition
LARGEST_FIRST = [0, 4, 1, 6, 3, 5, 2]


class Case(NamedTuple):
    """What is tried, and with how many bytes."""

    kind: str
    rows: int
    chunk: int
    bytes: int


def asks(of: Setting, rows: int) -> dict[str, Any]:
    """Return one round and one evaluation with large batches: 13 kB a row."""
    training = train_job(of, LARGEST_FIRST, support=rows, query=rows)
    return {"train": training, "evaluate": evaluate_job(of, LARGEST_FIRST[:-1], batch=rows)}


def need(of: Setting, kind: str, clients: int) -> int:
    """Return the bytes that some clients at once take."""
    with PeakMemory() as peak:
        executor = batched(of, chunk_size=7).executor
        some, way = LARGEST_FIRST[:clients], Way(clients)
        getattr(executor, kind)(of.params, asks(of, ROWS)[kind], some, way)
    return peak.bytes


def engine_of(of: Setting, chunk: int) -> Batched:
    """Make the engine, and let large tensors take and give back address space of their own.

    What a heap keeps would be there for a tensor beyond the limit, if its holes are large enough.
    """
    engine = batched(of, chunk_size=chunk)
    libc = ctypes.CDLL(None)
    libc.mallopt(-3, 1 << 16)  # M_MMAP_THRESHOLD
    libc.malloc_trim(0)
    return engine


def try_twice(of: Setting, case: Case) -> Any:
    """Do the work in so many bytes; return the result, and what was said each time."""
    said = list[str]()
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("nufed").addHandler(handler)
    engine, job = engine_of(of, case.chunk), asks(of, case.rows)[case.kind]
    used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (used + case.bytes, resource.RLIM_INFINITY))
    try:
        result, first = getattr(engine, case.kind)(of.params, job), len(said)
        getattr(engine, case.kind)(of.params, job)
    except RunStopped as error:
        return str(error)
    return result, said[:first], said[first:]


def try_all(cases: list[Case], folder: Path) -> None:
    """Try each case in a copy of this process, which has made no large tensor so far."""
    torch.set_num_threads(1)
    of = setting(*WIDE)
    warm = engine_of(of, 7)  # on small batches: what is loaded lazily is there then
    warm.train(of.params, train_job(of))
    warm.evaluate(of.params, evaluate_job(of))
    for number, case in enumerate(cases):
        if os.fork() == 0:
            try:
                (folder / str(number)).write_bytes(pickle.dumps(try_twice(of, case)))
            finally:
                os._exit(0)
        os.wait()


@pytest.fixture(scope="module")
def tried(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Give memory for three clients of seven, then for half of one that has more rows."""
    of, folder = setting(*WIDE), tmp_path_factory.mktemp("short")
    cases = {
        kind: Case(kind, ROWS, 7, (need(of, kind, 3) + need(of, kind, count)) // 2)
        for kind, count in (("train", 7), ("evaluate", 6))
    }
    cases["more rows"] = Case("train", 6 * ROWS, 7, need(of, "train", 3))
    code = (
        "from pathlib import Path\nfrom tests.simulation.test_memory import Case, try_all\n"
        f"try_all({[*cases.values()]}, Path({str(folder)!r}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        # Threads' own heaps reserve address space, where what is beyond the limit would still go.
        env=os.environ | {"MALLOC_ARENA_MAX": "1"},
        capture_output=True,
        text=True,
    )
    assert len([*folder.iterdir()]) == len(cases), done.stderr
    return {case: pickle.loads((folder / str(i)).read_bytes()) for i, case in enumerate(cases)}


@LINUX
@pytest.mark.parametrize(
    ("kind", "clients", "same"),
    [("train", 7, assert_same_training), ("evaluate", 6, assert_same_curves)],
)
def test_a_chunk_that_does_not_fit_is_halved_and_this_is_said_once(
    tried: dict[str, Any], kind: str, clients: int, same: Callable[[Any, Any, float], None]
) -> None:
    """All clients at once do not fit, three do; the result is that of one after another."""
    result, first, second = tried[kind]
    assert first == [f"out of memory with {clients} clients at once: 3 from now on"]
    assert second == []
    of = setting(*WIDE)
    same(result, getattr(OneByOne(of.task), kind)(of.params, asks(of, ROWS)[kind]), 1e-5)


@LINUX
def test_a_single_client_that_does_not_fit_stops_the_run_and_says_what_helps(
    tried: dict[str, Any],
) -> None:
    message = tried["more rows"]
    assert isinstance(message, str), message[0].report.reasons
    assert message.startswith("device=cpu: out of memory with a single client")
    assert "algorithm.recompute=true" in message
    assert "\n" not in message
