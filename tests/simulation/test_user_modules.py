"""Modules of kinds that people bring: one model on every way to it, or the reason in a line."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

from nufed.cli.engines.batched import launch
from nufed.client_app import personalize
from nufed.client_app.client import evaluate
from nufed.client_app.export import export
from nufed.conf.compose import compose_config, of_run
from nufed.tasks.module_state import buffers, frozen
from nufed.tasks.task import build
from tests import user_modules
from tests.helpers import RunResult, distance, measuring, read_run

CLIENTS, ROWS = 6, 12
KINDS = {
    "ResNet18": "images",
    "ViT": "images",
    "Recurrent": "series",
    "Tied": "tokens",
    "Spectral": "rows",
    "Adapted": "rows",
    "StillBatchNorm": "rows",
    "Dropping": "rows",
    "InPlace": "rows",
    "Scaled": "rows",
    "Fourier": "rows",
    "Attention": "series",
}
ONE_BY_ONE = {"Recurrent": "aten::lstm", "Dropping": "draws random numbers"}
"""Modules that no stack can compute, and the words that say why."""
SMALLER = ["algorithm.alpha=0.01", "algorithm.beta=0.02", "algorithm.tau=1"]
FINER = [*SMALLER, "engine.precision=float64"]
OWN = {"ResNet18": FINER}  # its losses are so curved that 1e-7 becomes 1e-4 in two rounds


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write rows of each kind, of six clients."""
    folder, random = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    client = np.repeat(np.arange(CLIENTS), ROWS)
    shapes = {"rows": (6,), "series": (5, 4), "images": (3, 8, 8)}
    for kind, shape in shapes.items():
        x = random.normal(size=(len(client), *shape)).astype(np.float32)
        y = (x.reshape(len(x), -1)[:, :2].sum(1) > 0).astype(int)
        y[::ROWS], y[1::ROWS] = 0, 1
        np.savez(folder / f"{kind}.npz", x=x, y=y, client=client)
    text = random.integers(7, size=(len(client), 6))
    text[:, -1] = 6  # the largest token is everywhere
    np.savez(folder / "tokens.npz", x=text, y=(text + client[:, None]) % 7, client=client)
    return folder


def overrides(name: str, data: Path, *more: str) -> list[str]:
    """Return what one would type, with steps that are large beside the tolerance."""
    return [
        *("dataset=npz", f"dataset.path={data / KINDS[name]}.npz", "name=modules"),
        *("model=custom", f"model._target_={user_modules.__name__}.{name}"),
        *("algorithm.nu=2", "algorithm.tau=2", "algorithm.alpha=0.1", "algorithm.beta=0.2"),
        *("algorithm.batch.support=4", "algorithm.batch.query=4", "evaluation.steps=1"),
        *("rounds=2", "clients_per_round=4", "evaluation.every=5", "tracking=none"),
        *("baselines=none", "report=false"),
        *(*OWN.get(name, []), *more),
    ]


Runs = Callable[..., RunResult]


@pytest.fixture
def run(tmp_path: Path, data: Path) -> Runs:
    """Return a function that trains a module on the batched engine."""

    def run(name: str, *more: str, folder: Path | None = None) -> RunResult:
        config = compose_config(overrides(name, data, *more))
        place = folder or tmp_path / f"run{len(list(tmp_path.iterdir()))}"
        place.mkdir(exist_ok=True)
        launch(replace(config, resume=str(folder) if folder else None), place, Console(quiet=True))
        return read_run(place)

    return run


@pytest.mark.parametrize("name", KINDS)
def test_a_module_is_the_same_one_by_one_in_a_stack_resumed_and_reloaded(
    name: str, run: Runs, data: Path, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    caplog.set_level("INFO", "nufed")
    alone = run(name, "engine.chunk_size=1")
    caplog.clear()
    stack = run(name, *([] if name in ONE_BY_ONE else ["engine.chunk_size=3"]))
    assert distance(stack.model, alone.model) < 1e-5
    said = [line for line in caplog.messages if "one by one" in line]
    assert any(ONE_BY_ONE[name] in line for line in said) if name in ONE_BY_ONE else said == []

    task = build(compose_config(overrides(name, data)))
    initial = task.state(task.initial_params())
    constants = {*frozen(task.module), *buffers(task.module)}
    for key, tensor in alone.model.items():
        assert torch.equal(tensor, initial[key]) == (key in constants), key

    cut = run(name, "engine.chunk_size=1", "rounds=1")
    on = run(name, "engine.chunk_size=1", folder=cut.folder)
    assert distance(on.model, alone.model) == 0
    assert on.rows[-1]["train_loss"] == alone.rows[-1]["train_loss"]

    _require_same_personal(name, alone, data, tmp_path)


SENT = {"Adapted", "StillBatchNorm", "Tied"}
"""With frozen parameters, with buffers, with one parameter of two names."""


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.flower if name in SENT else pytest.mark.methods)
        for name in KINDS
    ],
)
def test_two_workers_give_the_model_of_one_process(name: str, run: Runs) -> None:
    """They get frozen parameters and buffers, whatever a constructor draws."""
    alone = run(name, "engine.chunk_size=1")
    shared = run(name, "engine.workers=2", "engine.chunk_size=1")
    assert distance(shared.model, alone.model) < 1e-5
    assert shared.rows[-1]["failures"] == []


def _require_same_personal(name: str, trained: RunResult, data: Path, scratch: Path) -> None:
    """Adapt the run's model; save, reload and export what came out of it."""
    rows = data / f"{KINDS[name]}.npz"
    config = of_run(trained.folder, "run")
    personal = personalize(trained.folder, rows, client=3, steps=1)
    task = build(config)
    params = task.load_state(trained.model)
    job = measuring(config, [3], steps=1)
    assert personal.curve == evaluate(task, params, job, 3)

    personal.save(scratch / "personal.safetensors")
    net = build(config).module  # as one's own code makes it, with other numbers at first
    with torch.no_grad():
        for tensor in [*net.parameters(), *net.buffers()]:
            tensor.zero_()
    net.load_state_dict(load_file(scratch / "personal.safetensors"), strict=True)
    x = np.load(rows)["x"][:7]
    again = replace(task, module=net)
    with torch.no_grad():
        outputs = again.predict(dict(net.named_parameters()), torch.from_numpy(x))
    assert torch.allclose(outputs, personal.predict(x), atol=1e-5)
    assert export(personal, scratch / "personal.pt2") < 1e-4
