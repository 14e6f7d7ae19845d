"""Hundreds of forged checkpoints, configurations and records: each is taken, or told in one line.

Their checksums are right: what is wrong is what they say.
"""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors import safe_open
from safetensors.torch import save

from nufed.client_app.from_run import personalize
from nufed.conf.compose import compose_config, of_run
from nufed.server_app import checkpoint, resume
from nufed.server_app.app import make_strategy
from nufed.server_app.releases import RELEASES
from nufed.server_app.report.run_page import write_report
from nufed.server_app.run_folder import CLIENTS, METRICS, MODEL, SUMMARY
from nufed.strategies.roster import Roster
from nufed.tasks.partitions import Partition
from tests.fuzz import Escapes, Random, cases, damaged
from tests.helpers import RunResult

CLIENT_COUNT = 6
RUN = [
    *("dataset=quadratics", f"dataset.num_clients={CLIENT_COUNT}", "clients_per_round=3"),
    *("rounds=2", "evaluation.every=1", "evaluation.new_clients=[1]", "diagnostics.every=1"),
    *("algorithm.nu=1", "algorithm.tau=1", "algorithm.alpha=0.03", "algorithm.beta=0.1"),
    *("checkpoint.every=1", "privacy=central_dp", "privacy.clipping_norm=1"),
    *("privacy.noise_multiplier=1", "privacy.delta=0.01", "evaluation.steps=2"),
    "strategy.optimizer={_target_: torch.optim.Adam, _partial_: true, lr: 0.01}",
]
ODD: list[Any] = [
    *(None, True, False, 0, -1, 1, 2**31, 2**63, 2**64, -(2**63), 10**400, 0.5, -0.0, 1e308),
    *(float("nan"), float("inf"), "", "x", "0", "7", "null", "${oc.env:HOME}", "\x1b[31m", "a\nb"),
    *([], {}, [0], [[]], [None], {"": 0}, {"a": {"b": []}}, [1, "x"], "x" * 10_000, [0] * 1000),
    *("cuda", "auto", "nothing.here", ["participating"], {"_target_": "os.getcwd"}),
]


def pick(random: Random, options: Any) -> Any:
    return options[int(random.integers(len(options)))]


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path to every value within another."""
    inner = value.items() if isinstance(value, dict) else ()
    for key, each in enumerate(value) if isinstance(value, list) else inner:
        yield (*path, key)
        yield from places(each, (*path, key))


def forged(value: Any, random: Random) -> Any:
    """Change a value or two within what JSON says: another type, missing, swapped, doubled."""
    value = json.loads(json.dumps(value))
    for _ in range(int(random.integers(1, 3))):
        every = sorted(places(value), key=lambda path: (len(path), str(path)))
        if not every:
            break
        # As often at the top as far below, of which there is more.
        depth = pick(random, sorted({len(path) for path in every}))
        *parents, key = pick(random, [path for path in every if len(path) == depth])
        owner = value
        for parent in parents:
            owner = owner[parent]
        match int(random.integers(5)):
            case 0:
                del owner[key]
            case 1 if isinstance(owner, dict):
                owner[pick(random, ["x", "", "round", "_target_", "loss", key])] = owner.pop(key)
            case 1 | 2 if isinstance(owner, list):
                owner.insert(key, owner[key])
            case 2:
                other = pick(random, [*owner])
                owner[key], owner[other] = owner[other], owner[key]
            case _:
                owner[key] = pick(random, ODD)
    return value


class Folder:
    """A run's folder, whose files are forged one at a time."""

    def __init__(self, ran: RunResult, place: Path) -> None:
        self.place, self.good = place, ran.folder
        shutil.copytree(ran.folder, place)
        (file,) = (ran.folder / "checkpoint").glob("000002.*")
        self.checkpoint = file.name
        with safe_open(file, "pt") as content:
            self.tensors = {n: content.get_tensor(n) for n in content.keys()}  # noqa: SIM118
            self.said = json.loads(content.metadata()["checkpoint"])

    def write(self, name: str, content: str | bytes) -> None:
        (self.place / name).write_bytes(content.encode() if isinstance(content, str) else content)

    def restore(self, name: str) -> None:
        shutil.copyfile(self.good / name, self.place / name)

    def forge_checkpoint(self, content: bytes, round: int = 2) -> None:
        """Put this in place of the checkpoints, with its checksum."""
        folder = self.place / "checkpoint"
        shutil.rmtree(folder)
        folder.mkdir()
        name = f"{round:06}.{checkpoint._checksum(content)}.safetensors"
        (folder / name).write_bytes(content)


@pytest.fixture
def folder(train: Callable[..., RunResult], tmp_path: Path) -> Folder:
    return Folder(train(RUN, report=True), tmp_path / "forged")


def resumed(run: Path, task: Any) -> None:
    """Do with a run what `nufed resume=` does before its first round."""
    config = resume.resumed_config(run, compose_config(["rounds=4"]), ["rounds=4"])
    saved, _ = resume.counted(run, config, resume.read(run, config, task, task.initial_params()))
    strategy = make_strategy(
        config,
        Roster(config.seed, [], Partition.elsewhere(CLIENT_COUNT)),
    )
    strategy.load_state_dict(saved.state.params, saved.state.strategy)


def forged_tensors(tensors: dict[str, torch.Tensor], random: Random) -> dict[str, torch.Tensor]:
    """Change a tensor or two: another type, shape, name; not finite; swapped; missing."""
    changed = dict(tensors)
    for _ in range(int(random.integers(1, 3))):
        name, other = pick(random, [*changed]), pick(random, [*changed])
        tensor = changed[name]
        kinds = [torch.float16, torch.int64, torch.bool, torch.complex64, torch.uint8]
        match int(random.integers(7)):
            case 0 if len(changed) > 1:
                del changed[name]
            case 1:
                changed[name] = tensor.to(pick(random, kinds))
            case 2:
                changed[name] = torch.full(tensor.shape, pick(random, [np.nan, np.inf]))
            case 3:
                changed[name] = tensor[None] if random.random() < 0.5 else tensor.flatten()[:1]
            case 4:
                changed[name], changed[other] = changed[other].clone(), tensor.clone()
            case 5:
                owner = pick(random, ["model/", "strategy/", "strategy/optimizer/", "", "x/"])
                changed[owner + pick(random, ["x", "weight", "1.weight/exp_avg", ""])] = (
                    tensor.clone()
                )
            case _:
                changed[name] = torch.zeros(pick(random, [(0,), (1,), (2, 3), ()]))
    return changed


@pytest.mark.filterwarnings("ignore")
def test_no_checkpoint_escapes(folder: Folder) -> None:
    from nufed.tasks.task import build

    task, escapes = build(compose_config(RUN)), Escapes()
    for name, random in cases(500, "checkpoint"):
        said, tensors = folder.said, folder.tensors
        kind = random.random()
        if kind < 0.5:
            said = forged(said, random)
        elif kind < 0.8:
            tensors = forged_tensors(tensors, random)
        try:
            text = json.dumps(said)
        except (ValueError, OverflowError):
            text = "{}"
        key = pick(random, ["checkpoint"] * 20 + ["config", ""])
        content = save(tensors, {key: text[: pick(random, [len(text)] * 20 + [100])]})
        content = damaged(content, random) if kind > 0.9 else content
        folder.forge_checkpoint(content, pick(random, [2] * 20 + [0, 3, 999_999_999]))
        escapes.of(name, lambda: resumed(folder.place, task))
    escapes.require_none()


@pytest.mark.filterwarnings("ignore")
def test_no_configuration_escapes(folder: Folder) -> None:
    """Of a run that is resumed, or whose report is made."""
    escapes, whole = Escapes(), (folder.good / "config.yaml").read_text()
    said = yaml.safe_load(whole)
    for name, random in cases(500, "config"):
        if random.random() < 0.7:
            folder.write("config.yaml", yaml.safe_dump(forged(said, random)))
        else:
            folder.write("config.yaml", damaged(whole.encode(), random))
        escapes.of(name, lambda: of_run(folder.place, "resume=run"))
        if random.random() < 0.2:
            escapes.of(name, lambda: write_report(folder.place))
        elif random.random() < 0.2:
            escapes.of(name, lambda: resume.resumed_config(folder.place, compose_config([]), []))
    escapes.require_none()


@pytest.mark.filterwarnings("ignore")
def test_no_record_escapes(folder: Folder) -> None:
    """What nufed-report reads beside the configuration."""
    escapes = Escapes()
    for name, random in cases(300, "record"):
        file = pick(random, [METRICS, METRICS, SUMMARY, CLIENTS])
        content = (folder.good / file).read_text()
        if random.random() < 0.3:
            folder.write(file, damaged(content.encode(), random))
        elif file == METRICS:
            rows = forged([json.loads(line) for line in content.splitlines()], random)
            lines = [json.dumps(row) for row in rows if row is not None]
            folder.write(file, "".join(f"{line}\n" for line in lines))
        else:
            folder.write(file, json.dumps(forged(json.loads(content), random)))
        escapes.of(name, lambda: write_report(folder.place))
        folder.restore(file)
    escapes.require_none()


def test_no_ledger_escapes(folder: Folder) -> None:
    """What a private run reads of its releases, when it goes on."""
    from nufed.tasks.task import build

    task, escapes = build(compose_config(RUN)), Escapes()
    content = (folder.good / RELEASES).read_text()
    for name, random in cases(150, "ledger"):
        if random.random() < 0.3:
            folder.write(RELEASES, damaged(content.encode(), random))
        else:
            told = forged([json.loads(line) for line in content.splitlines()], random)
            folder.write(RELEASES, "".join(f"{json.dumps(each)}\n" for each in told))
        escapes.of(name, lambda: resumed(folder.place, task))
    escapes.require_none()


@pytest.mark.filterwarnings("ignore")
def test_no_model_escapes(folder: Folder, tmp_path: Path) -> None:
    """What nufed-adapt reads of a run."""
    x = np.random.default_rng(0).normal(size=(8, 5)).astype(np.float32)
    np.savez(tmp_path / "own.npz", x=x, y=np.zeros((8, 1), np.float32))
    escapes, file = Escapes(), folder.good / MODEL
    with safe_open(file, "pt") as content:
        tensors = {n: content.get_tensor(n) for n in content.keys()}  # noqa: SIM118
        said = {key: json.loads(text) for key, text in content.metadata().items()}
    for name, random in cases(300, "model"):
        facts, changed = said, tensors
        kind = random.random()
        if kind < 0.4:
            facts = forged(said, random)
        elif kind < 0.7:
            changed = forged_tensors(tensors, random)
        texts = {key: json.dumps(value) for key, value in facts.items()}
        written = save(changed, texts) if isinstance(facts, dict) else b""
        folder.write(MODEL, damaged(written, random) if kind > 0.8 else written)
        escapes.of(name, lambda: personalize(folder.place, tmp_path / "own.npz", steps=1))
    escapes.require_none()
