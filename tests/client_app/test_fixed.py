"""What of a model does not train, on its way: clients have the server's buffers, or refuse."""

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from flwr.app import Message
from safetensors.torch import load_file, save

from nufed.client_app.client import evaluate
from nufed.client_app.messages import EvaluateInstruction, Fixed, MalformedMessage
from nufed.client_app.wire import decode, encode
from nufed.conf.compose import of_run
from nufed.conf.errors import RunStopped
from nufed.simulation.flower_host import open_run
from nufed.tasks.module_state import buffers
from nufed.tasks.task import Task, build
from tests import user_modules
from tests.helpers import measuring

Small = Callable[..., Any]
FOURIER = ("model=custom", f"model._target_={user_modules.__name__}.Fourier")


def test_clients_compute_with_the_servers_buffers(small: Small) -> None:
    """Drawn by no seed, so that every process that makes the model has others at first."""
    run = small(*FOURIER, "+model.by=nobody", "evaluation.new_clients=0")
    config = of_run(run.folder, "run")
    task = build(config)
    saved = load_file(run.folder / "model.safetensors")
    assert not torch.allclose(task.buffers["waves"], saved["waves"])
    params = task.load_state(saved)
    assert torch.equal(task.buffers["waves"], saved["waves"])
    found = json.loads((run.folder / "clients.json").read_text())["participating"]
    for number, losses in enumerate(found["loss"]):
        job = measuring(config)
        assert losses == pytest.approx(evaluate(task, params, job, number)["loss"], rel=1e-4)


def test_frozen_parameters_that_differ_end_the_run_in_one_line(small: Small) -> None:
    with pytest.raises(RunStopped, match=r"its frozen parameters are not those of this model"):
        small(*FOURIER, "+model.by=nobody", "+model.frozen=true", "algorithm.beta=0.1")
    assert small(*FOURIER, "+model.frozen=true").folder.is_dir()


def message(fixed: Fixed) -> Message:
    """Return what a server would send of it."""
    open_run()
    return Message(encode(fixed), dst_node_id=1, message_type="train")


def fourier(small: Small) -> Task:
    return build(of_run(small(*FOURIER).folder, "run"))


def test_what_arrives_is_checked(small: Small) -> None:
    task = fourier(small)
    sent = Fixed.of(task)
    assert sent is not None
    assert decode(Fixed, message(sent)) == sent
    hostile = {
        "names, shapes or types of its buffers": [
            Fixed(save({"waves": torch.zeros(3)}), ""),
            Fixed(save({"waves": task.buffers["waves"].double()}), ""),
            Fixed(save({"waves": task.buffers["waves"], "more": torch.zeros(1)}), ""),
            Fixed(save({}), ""),
        ],
        "frozen parameters": [Fixed(sent.buffers, "0" * 32)],
        "the global model: ": [
            Fixed(b"", ""),
            Fixed(b"\xff" * 64, ""),
            Fixed(sent.buffers[:-1], ""),
        ],
    }
    before = {name: b.clone() for name, b in buffers(task.module).items()}
    for words, some in hostile.items():
        for each in some:
            with pytest.raises(MalformedMessage, match=words):
                each.load(task)
    assert torch.equal(task.buffers["waves"], before["waves"])
    Fixed(save({"waves": before["waves"] + 1}), "").load(task)
    assert torch.equal(task.buffers["waves"], before["waves"] + 1)


def test_a_model_that_trains_wholly_sends_nothing_more(small: Small) -> None:
    run = small()
    assert Fixed.of(build(of_run(run.folder, "run"))) is None
    assert encode(EvaluateInstruction(0, [], 1, None), also=(None,)).keys() == {"evaluation"}
