"""Checkpoints whose checksum is right, and whose content is not: each is told in one line."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save

from nufed.conf.compose import compose_config
from nufed.conf.convert import to_json
from nufed.conf.errors import InputError
from nufed.server_app import checkpoint, resume
from nufed.server_app.app import make_strategy
from nufed.strategies.roster import Roster
from nufed.tasks.partitions import Partition
from nufed.tasks.task import build
from tests.helpers import RunResult

RUN = [
    *("dataset=quadratics", "dataset.num_clients=6", "clients_per_round=3", "rounds=2"),
    *("evaluation.new_clients=[1]", "algorithm.nu=1", "algorithm.tau=1", "algorithm.alpha=0.03"),
    *("algorithm.beta=0.1", "checkpoint.every=1", "privacy=central_dp", "privacy.delta=0.01"),
    *("privacy.clipping_norm=1", "privacy.noise_multiplier=1"),
    "strategy.optimizer={_target_: torch.optim.Adam, _partial_: true, lr: 0.01}",
]
Tensors = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    """A run of two rounds, whose checkpoint has all there is."""
    from nufed.client_app.app import app as client_app
    from nufed.server_app.app import app as server_app
    from nufed.simulation.grid import run_in_process
    from tests.helpers import read_run

    folder = tmp_path_factory.mktemp("sound") / "run"
    config = to_json(compose_config(RUN))
    run_in_process(
        server_app, client_app, {"config": config, "run-dir": str(folder), "report": False}
    )
    return read_run(folder)


def resumed(run: Path) -> None:
    """Do with a run what `nufed resume=` does before its first round."""
    config = resume.resumed_config(run, compose_config(["rounds=4"]), ["rounds=4"])
    task = build(config)
    saved, _ = resume.counted(run, config, resume.read(run, config, task, task.initial_params()))
    strategy = make_strategy(config, Roster(config.seed, [], Partition.elsewhere(6)))
    strategy.load_state_dict(saved.state.params, saved.state.strategy)


def forge(run: Path, change: Callable[[dict[str, Any], Tensors], None], at: Path) -> Path:
    """Copy a run whose checkpoint says something else; return its folder."""
    (file,) = (run / "checkpoint").glob("000002.*")
    with safe_open(file, "pt") as content:
        tensors = {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118
        said = json.loads(content.metadata()["checkpoint"])
    change(said, tensors)
    written = save(tensors, {"checkpoint": json.dumps(said)})
    (at / "checkpoint").mkdir(parents=True)
    name = f"000002.{checkpoint._checksum(written)}.safetensors"
    (at / "checkpoint" / name).write_bytes(written)
    for name in ("config.yaml", "releases.jsonl"):
        (at / name).write_bytes((run / name).read_bytes())
    return at


def say(*path: Any, value: Any) -> Callable[[dict[str, Any], Tensors], None]:
    """Put a value in place of another."""

    def change(said: Any, tensors: Tensors) -> None:
        *parents, key = path
        for parent in parents:
            said = said[parent]
        said[key] = value

    return change


def drop(*path: Any) -> Callable[[dict[str, Any], Tensors], None]:
    def change(said: Any, tensors: Tensors) -> None:
        *parents, key = path
        for parent in parents:
            said = said[parent]
        del said[key]

    return change


def put(name: str, make: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    """Put another tensor in place of the first whose name ends so."""

    def change(said: Any, tensors: Tensors) -> None:
        found = next(each for each in tensors if each.endswith(name))
        tensors[found] = make(tensors[found])

    return change


def renamed(said: Any, tensors: Tensors) -> None:
    for name in [each for each in tensors if each.endswith("exp_avg_sq")]:
        tensors[name.replace("exp_avg_sq", "momentum_buffer")] = tensors.pop(name)


def without_model(said: Any, tensors: Tensors) -> None:
    for name in [each for each in tensors if each.startswith("model/")]:
        del tensors[name]


RELEASES = ("state", "strategy", "privacy", "compositions", 0)
FORGED: dict[str, tuple[Callable[[dict[str, Any], Tensors], None], str]] = {
    "no model": (without_model, "the model or the data are not what"),
    "another shape": (put("weight", lambda t: t[:, :1]), "the model or the data are not what"),
    "whole numbers": (put("weight", lambda t: t.long()), "'1.weight' in torch.int64"),
    "complex": (put("weight", lambda t: t.to(torch.complex64)), "in torch.complex64"),
    "NaN": (put("weight", lambda t: t * float("nan")), "values that are not finite"),
    "no rows": (drop("rows"), "has no 'rows'"),
    "no config": (drop("config"), "has no 'config'"),
    "no round": (drop("state", "round"), "has no 'round'"),
    "an unknown key": (say("more", value=1), "has an unknown 'more'"),
    "rows no list": (say("rows", value={"0": 1}), "rows is an object of 1"),
    "a row no object": (say("rows", 1, value=3), "an entry of rows is 3"),
    "a loss of text": (say("rows", 1, "train_loss", value="low"), "train_loss is 'low', not"),
    "a negative round": (say("state", "round", value=-1), "it is of round -1, and called 2"),
    "a round beyond": (say("state", "round", value=3), "it is of round 3, and called 2"),
    "a round of text": (say("state", "round", value="2"), "round is '2', not a whole number"),
    "a doubled row": (say("rows", 0, "round", value=1), "round 1 comes after round 1"),
    "a row too few": (drop("rows", 2), "its last row is not of round 2"),
    "clients of text": (say("num_clients", value="6"), "num_clients is '6', not a whole"),
    "no clients": (say("num_clients", value=0), "new_clients are not some of the 0 clients"),
    "new beyond": (say("new_clients", value=[6]), "new_clients are not some of the 6 clients"),
    "new twice": (say("new_clients", value=[1, 1]), "new_clients are not some of the 6"),
    "all new": (say("new_clients", value=[0, 1, 2, 3, 4, 5]), "new_clients are not some"),
    "seconds of text": (say("wall_s", value="3"), "wall_s is '3', not a number"),
    "seconds below 0": (say("wall_s", value=-3), "wall_s is -3"),
    "another optimizer": (renamed, "exp_avg, momentum_buffer, step; exp_avg, exp_avg_sq, step"),
    "moments cut": (put("exp_avg", lambda t: t[:, :1]), "what the checkpoint keeps of one"),
    "moments NaN": (put("exp_avg", lambda t: t * float("nan")), "is not finite, or no number"),
    "no releases": (drop("state", "strategy", "privacy"), "there were 2, and it has none"),
    "a release too few": (drop(*RELEASES), "there were 2, and it has 1"),
    "other noise": (say(*RELEASES, "event", "noise_multiplier", value=9.0), "their noise is not"),
    "ε too low": (say("rows", 2, "epsilon", value=0.1), "and the last row says 0.1"),
    "releases of text": (
        say("state", "strategy", "privacy", value="none"),
        "releases are no object",
    ),
    "a configuration of text": (say("config", "rounds", value="many"), "rounds"),
    "another federation": (say("config", "seed", value=7), "the run to resume has 7"),
}


@pytest.mark.parametrize(("change", "words"), FORGED.values(), ids=FORGED.keys())
def test_a_forged_checkpoint_is_refused(
    trained: RunResult, tmp_path: Path, change: Any, words: str
) -> None:
    run = forge(trained.folder, change, tmp_path / "run")
    with pytest.raises(InputError) as caught:
        resumed(run)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_as_it_was_written_it_is_taken(trained: RunResult, tmp_path: Path) -> None:
    """Also without what an older version did not write."""
    resumed(forge(trained.folder, lambda said, tensors: None, tmp_path / "run"))


def test_a_run_without_privacy_has_no_releases(trained: RunResult, tmp_path: Path) -> None:
    run = forge(trained.folder, lambda said, tensors: None, tmp_path / "run")
    saved = checkpoint.read(run)
    bare = compose_config([word for word in RUN if "privacy" not in word])
    from nufed.server_app.sound import require_accounted

    with pytest.raises(InputError, match="tells of a privacy that it has not"):
        require_accounted(saved, bare, "run")
    rows = tuple({k: v for k, v in row.items() if k != "epsilon"} for row in saved.rows)
    state = saved.state._replace(strategy={})
    require_accounted(replace(saved, rows=rows, state=state), bare, "run")
