"""The folder of a run whose process was killed says so, and how to go on."""

import json
import signal
import subprocess
import sys
from pathlib import Path

from safetensors.torch import load_file

from nufed.conf.compose import compose_config
from nufed.server_app import checkpoint
from nufed.server_app.cut_short import cut_short
from nufed.server_app.run_folder import METRICS, whole_rows
from nufed.server_app.tracking import RunInfo
from nufed.tasks.task import build

RUN = [
    *("partition.num_clients=6", "clients_per_round=3", "model=logistic", "algorithm.nu=1"),
    *("algorithm.alpha=0.1", "algorithm.beta=0.1", "rounds=5", "evaluation.every=1"),
    *("evaluation.steps=1", "tracking=none"),
]


KILLER = """
import os, signal
from nufed.server_app.tracking import Callback

class Killed(Callback):
    def __init__(self, folder):
        pass

    def on_round(self, row, state):
        if row["round"] == 3:
            os.kill(os.getpid(), signal.SIGKILL)
"""


def killed(folder: Path, *words: str) -> str:
    """Carry out a run that is killed once round 3 is written; return what is said of it."""
    (folder.parent / "killer.py").write_text(KILLER)
    own = [*RUN, "+tracking.mine._target_=killer.Killed", *words]
    command = [
        sys.executable,
        "-m",
        "nufed.cli.run",
        *own,
        f"hydra.run.dir={folder}",
        "trust=killer",
    ]
    done = subprocess.run(command, cwd=folder.parent, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    config = compose_config([*RUN, *words])
    task = build(config)
    run = RunInfo(config, task.size, 5, 1, task=task)
    return cut_short(folder, run, "the process was killed")


def test_a_killed_run_is_summed_up_with_the_model_of_its_last_checkpoint(tmp_path: Path) -> None:
    line = killed(tmp_path / "run", "checkpoint.every=2")
    folder = tmp_path / "run"
    assert line == (
        f"the process was killed; the model of round 2 is in {folder}; "
        f"go on with: nufed resume={folder}"
    )
    summary, rows = json.loads((folder / "summary.json").read_text()), whole_rows(folder / METRICS)
    assert (summary["stopped"], summary["resumable"], summary["rounds"]) == (line, True, 3)
    assert summary["new"] == rows[3]["new"]
    model, saved = load_file(folder / "model.safetensors"), checkpoint.read(folder)
    assert saved.state.round == 2
    assert all((model[name] == tensor).all() for name, tensor in saved.state.params.items())


def test_without_a_checkpoint_nothing_is_promised(tmp_path: Path) -> None:
    line = killed(tmp_path / "run", "checkpoint.every=null")
    assert line == (
        "the process was killed; there is no checkpoint yet (checkpoint.every=null): "
        "start the run anew"
    )
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["resumable"] is False


def test_a_run_that_never_began_leaves_no_summary(tmp_path: Path) -> None:
    config = compose_config(RUN)
    task = build(config)
    run = RunInfo(config, task.size, 5, 1, task=task)
    assert cut_short(tmp_path, run, "killed") == "killed; no round was completed"
    assert list(tmp_path.iterdir()) == []
