"""What every test shares: a data folder of its own, and one thread (the models are small)."""

import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

# Before anything reads it, and empty at first: kept data would hide changes of the code.
DATA = tempfile.TemporaryDirectory(prefix="nufed-test-data-")
os.environ["NUFED_DATA"] = DATA.name
os.environ["TRACKIO_DIR"] = f"{DATA.name}/trackio"  # read once, when trackio is imported
os.environ["FLWR_TELEMETRY_ENABLED"] = "0"
os.environ["OMP_NUM_THREADS"] = "1"

import torch

from nufed.conf.compose import compose_config
from nufed.conf.convert import to_json
from nufed.conf.schema import Config
from tests.helpers import RunResult, read_run

torch.set_num_threads(1)


LONGEST = [
    *("benchmarks/test_experiments", "simulation/test_compiled", "server_app/test_training"),
    *("cli/test_search", "server_app/report/test_comparison", "docs/test_own_data"),
    *("benchmarks/test_attack", "server_app/report/test_run_page", "client_app/test_fuzz_messages"),
]
"""Files of half a minute and more: begun first, so that no process is left with one at the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first; the others stay in their order.

    What the Makefile looks for in one folder is nowhere else.
    """
    for item in items:
        for name in ("deployment", "compose"):
            if item.get_closest_marker(name) and not item.nodeid.startswith(f"tests/{name}/"):
                raise pytest.UsageError(f"{item.nodeid}: marked as {name}, so in tests/{name}/")
    place = {f"tests/{name}.py": i for i, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.nodeid.split("::")[0], len(place)))


@pytest.fixture
def train(tmp_path: Path) -> Callable[..., RunResult]:
    """Return a function that runs the apps in this process and reads the run folder."""
    return training_in(tmp_path)


def training_in(place: Path) -> Callable[..., RunResult]:
    """Return such a function, which leaves run1, run2, … in a folder."""
    from nufed.client_app.app import app as client_app
    from nufed.server_app.app import app as server_app
    from nufed.simulation.grid import run_in_process

    count = 0

    def run(overrides: Sequence[str], num_supernodes: int = 1, report: bool = False) -> RunResult:
        nonlocal count
        count += 1
        config: Config = compose_config(["baselines=none", *overrides])
        folder = place / f"run{count}"
        run_config = {"config": to_json(config), "run-dir": str(folder), "report": report}
        run_in_process(server_app, client_app, run_config, num_supernodes)
        return read_run(folder)

    return run
