"""What clients have without federation: closed forms, torch's Adam, and who may see which row."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nufed.client_app.baselines.alone import alone, alone_linear, best
from nufed.client_app.baselines.boosting import alone_boosting
from nufed.client_app.baselines.clients import Clients
from nufed.client_app.baselines.constant import constant
from nufed.client_app.baselines.local import (
    AloneInstruction,
    AloneReport,
    trained_alone,
)
from nufed.client_app.baselines.training import BATCH, curves, doubling, trained
from nufed.client_app.messages import MalformedMessage
from nufed.client_app.work import Measuring
from nufed.conf.compose import compose_config
from nufed.conf.typed import Mistyped
from nufed.server_app.baselines import measure, verdict
from nufed.server_app.baselines.pooled import pooled
from nufed.server_app.baselines.pooled_boosting import pooled_boosting
from nufed.server_app.baselines.stacked import stacked, way
from nufed.server_app.report.run_page import write_report
from nufed.simulation.device_executor import DeviceExecutor
from nufed.simulation.plan import ONE_BY_ONE, Way
from nufed.tasks.task import build
from tests.helpers import RunResult

N, TRAIN, TEST = 6, 40, 20


BATCH_NORM = """
from torch import nn


class Net(nn.Sequential):
    def __init__(self, input_shape, num_outputs, **_):
        last = nn.Linear(3, num_outputs)
        super().__init__(nn.BatchNorm1d(3, track_running_stats=False), last)
"""


def clients(folder: Path, flipped: bool = False, real: bool = False, steps: int = 64) -> Clients:
    """Return clients of half of whom classes are the other way round; y is in a line of x."""
    random = np.random.default_rng(0)
    x = random.normal(size=(N * (TRAIN + TEST), 3)).astype(np.float32)
    owner = np.repeat(np.arange(N), TRAIN + TEST)
    test = np.tile(np.arange(TRAIN + TEST) >= TRAIN, N)
    y = (x[:, 0] > 0).astype(np.int64) ^ (owner % 2)
    if flipped:
        y[test] ^= 1
    folder.mkdir(exist_ok=True)
    file = folder / f"{flipped}{real}.npz"
    np.savez(file, x=x, y=2.0 * y + owner if real else y, client=owner, test=test)
    words = ["dataset=npz", f"dataset.path={file}", "partition=natural", "model.hidden=[8]"]
    config = compose_config(words)
    return Clients(config, build(config), list(range(N)), steps, stacked)


def test_a_constant_is_as_good_as_the_classes_are_frequent(tmp_path: Path) -> None:
    of = clients(tmp_path)
    found = constant(of)
    assert found is not None
    part, y = of.task.data.partition, np.asarray(of.task.data.y)
    for i in range(N):
        ones = y[part.train_rows(i)].mean()
        shown = y[part.test_rows(i)]
        assert found["accuracy"][i] == pytest.approx((shown == (ones > 0.5)).mean())
        p = (ones * TRAIN + 1 / 2) / (TRAIN + 1)
        loss = -(shown * math.log(p) + (1 - shown) * math.log(1 - p)).mean()
        assert found["loss"][i] == pytest.approx(loss, rel=1e-5)


def test_a_constant_of_a_regression_is_the_mean(tmp_path: Path) -> None:
    of = clients(tmp_path, real=True)
    found = constant(of)
    assert found is not None
    part, y = of.task.data.partition, np.asarray(of.task.data.y)
    off = [y[part.test_rows(i)] - y[part.train_rows(i)].mean() for i in range(N)]
    assert found["mae"] == pytest.approx([np.abs(each).mean() for each in off], rel=1e-5)
    assert found["loss"] == pytest.approx([np.square(each).mean() / 2 for each in off], rel=1e-5)


def test_training_is_by_torchs_adam_in_a_stack_as_by_itself(tmp_path: Path) -> None:
    of = clients(tmp_path)
    task, start = of.task, of.task.initial_params()
    random = np.random.default_rng(1)
    rows = [random.choice(task.data.partition.train_rows(0), BATCH) for _ in range(7)]
    net = task.module
    adam = torch.optim.Adam(net.parameters(), lr=0.01)
    for some in rows:
        x, y = task.batch(some)
        adam.zero_grad()
        torch.nn.functional.cross_entropy(net(x), y).backward()
        adam.step()
    points = trained(0.01, (3, 7)).personal(task.loss, start, {}, map(task.batch, rows))
    _, _, ours = points
    for name, p in net.named_parameters():
        torch.testing.assert_close(ours[name], p.detach(), rtol=1e-4, atol=1e-6)
    net.load_state_dict(start)

    def losses(of_whom: list[int]) -> np.ndarray:
        return curves(of, task, start, of_whom, trained(0.01, (2, 4)), 4)["loss"]

    together, apart = losses([*range(N)]), np.concatenate([losses([i]) for i in range(N)])
    assert together.shape == (N, 3)
    np.testing.assert_allclose(together, apart, rtol=1e-5)


def test_clients_that_have_their_rows_say_what_one_process_finds(tmp_path: Path) -> None:
    """Of a SuperNode that hosts them all; nothing of a client without test rows."""
    of = clients(tmp_path)
    config = replace(of.config, baselines="sklearn", rounds=10)
    here = measure._here(config, of.task, of.numbers)
    said = trained_alone(config, of.task, AloneInstruction(of.numbers))
    assert said.names == ["constant", "alone_linear", "alone", "alone_boosting"]
    assert (said.clients, said.reasons) == (of.numbers, [])
    for name, values in zip(said.names, np.reshape(said.scores, (-1, N)), strict=True):
        np.testing.assert_allclose(values, here[name], atol=1e-6)
    part = of.task.data.partition
    part = replace(part, train=part.train + TEST * (np.arange(N) == 0))
    some = replace(of.task, data=replace(of.task.data, partition=part))
    assert trained_alone(config, some, AloneInstruction([0, 2])).clients == [2]
    nothing = trained_alone(replace(config, baselines="none"), of.task, AloneInstruction([0]))
    assert nothing == AloneReport([], [], [], [])


@pytest.mark.parametrize(
    ("said", "line"),
    [
        (([0], ["pooled"], [0.5], []), "unknown baselines ['pooled']"),
        (([0], ["alone"], [0.5, 0.5], []), "2 scores of 1 baselines"),
        (([0], ["alone"], [1e300], []), "scores is 1e\\+300"),
    ],
)
def test_what_a_client_says_is_checked(said: tuple[Any, ...], line: str) -> None:
    with pytest.raises(MalformedMessage, match=line.replace("[", "\\[")):
        AloneReport(*said)


def test_each_learns_what_one_model_of_all_rows_cannot(tmp_path: Path) -> None:
    """What is a one for half of the clients is a zero for the others."""
    of = clients(tmp_path)
    linear, boosting = alone_linear(of), alone_boosting(of)
    assert linear is not None
    assert boosting is not None
    assert linear["accuracy"].mean() > 0.9
    assert alone(of)["accuracy"].mean() > 0.8
    assert boosting["accuracy"].mean() > 0.85
    everyone = pooled_boosting(of)
    assert everyone is not None
    for one in (pooled(of)["accuracy"], everyone["accuracy"]):
        assert abs(one.mean() - 0.5) < 0.1


def test_no_test_row_chooses_anything(tmp_path: Path) -> None:
    """With the classes of all test rows turned, as many are right as were wrong."""
    of, turned = clients(tmp_path), clients(tmp_path, flipped=True)
    for baseline in (constant, alone, alone_linear, pooled, alone_boosting, pooled_boosting):
        right, wrong = baseline(of), baseline(turned)
        assert right is not None
        assert wrong is not None
        np.testing.assert_allclose(right["accuracy"], 1 - wrong["accuracy"], atol=1e-6)


def test_size_and_length_of_training_are_those_that_serve_clients_on_the_mean(
    tmp_path: Path,
) -> None:
    """By the metric, of equal ones by the loss; what is not finite is no choice."""
    nan, of = math.nan, clients(tmp_path)
    accuracy = np.array([[0.5, 0.6, 0.9, 0.7], [nan] * 4, [0.5, 1.0, 0.7, 0.9]])
    loss = np.array([[3.0, 2.0, 4.0, 1.0], [nan] * 4, [3.0, 3.5, 4.0, 3.0]])
    tried = {0.1: {"accuracy": accuracy, "loss": loss}}
    assert best(tried, of) == (0.1, 3)
    loss[2, 3] = math.inf
    assert best(tried, of) == (0.1, 1)
    assert best(tried | {0.2: {"accuracy": accuracy + 0.05, "loss": loss}}, of) == (0.2, 1)
    assert best({0.1: {"accuracy": accuracy * nan, "loss": loss}}, of) == (0.1, 0)
    real = clients(tmp_path, real=True)
    assert best({0.1: {"mae": accuracy, "loss": loss}}, real) == (0.1, 0)
    assert doubling(1) == (0, 1)
    assert doubling(10) == (0, 1, 2, 4, 8, 10)


def beside(*gains: list[float], lower: bool = False, **changes: object) -> verdict.Beside:
    """Return a verdict over gains of participating and of new clients."""
    against = {
        group: each
        for group, some in zip(("participating", "new"), gains, strict=False)
        if (each := measure._against(np.array(some))) is not None
    }
    means: dict[str, dict[str, float | None]] = {"personal": {}, "alone_linear": {}}
    of = verdict.Beside("accuracy", lower, True, 5, 64, "alone_linear", means, against)
    return replace(of, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("gains", "begin"),
    [
        ([[0.1, 0.2, 0.15]], "Federation pays: personal models are better than what clients do"),
        ([[-0.1, -0.2, -0.15]], "Federation does not pay here: "),
        ([[0.1, -0.1, 0.0]], "That federation pays is not seen here: "),
        ([[0.1, 0.2, 0.15], [0.0, 0.0]], "Federation pays for participating clients: "),
        ([[0.1, 0.2, 0.15], [-0.1, -0.2, -0.15]], "That federation pays is not seen here: "),
        ([[0.3]], "That federation pays is not seen here: "),
    ],
)
def test_whether_it_pays_is_said_in_a_sentence(gains: list[list[float]], begin: str) -> None:
    assert beside(*gains).pays().startswith(begin)


def test_the_sentence_counts_clients_and_has_an_interval() -> None:
    assert (
        beside([0.1, 0.2, -0.05, 0.0])
        .pays()
        .endswith(
            "best alone (linear model) for 2 of 4 participating clients and worse for 1, "
            "by 0.063 [−0.114, 0.239]."
        )
    )
    assert "by 0.3." in beside([0.3]).pays()
    drawn = measure._against(np.array([0.1, 0.2, -0.1, math.nan]), everyone=9)
    said = beside([0.1], against={"participating": drawn})
    assert "for 2 of 3 drawn from 9 participating clients and worse for 1, by" in said.pays()
    assert said.head("participating") == "participating, 3 drawn from 9"
    assert said.head("new") == "new"
    whole = measure._against(np.array([0.1, 0.2, math.nan]), everyone=3)
    assert whole is not None
    assert whole.drawn_from is None, "one of whom nothing is known was asked too"
    assert beside([math.nan]).pays().endswith("alone: no client has accuracy of both.")
    assert "(its mean)" in beside([0.3], best="constant", classes=False).pays()


def test_a_model_that_diverged_is_worse_and_no_mean_is_better_without_it() -> None:
    curves = {
        "accuracy": np.array([[0.9, 0.9], [0.9, 0.1], [0.9, math.nan]]),
        "loss": np.array([[1.0, 1.0], [1.0, math.inf], [1.0, 1.0]]),
    }
    ends = measure._ends(curves, "accuracy", [0, 1, 2], -1.0)
    np.testing.assert_array_equal(ends, [0.9, -math.inf, math.nan])
    assert measure._mean(ends) == -math.inf
    said = beside([0.3, 0.2, 0.25, -math.inf, math.nan]).pays()
    assert said.startswith("That federation pays is not seen here: ")
    assert "3 of 4 participating clients and worse for 1 (1 of them not finite, " in said
    assert (
        beside([-0.3, -0.2, -0.25, -math.inf]).pays().startswith("Federation does not pay here: ")
    )
    assert "by nothing that is finite." in beside([-math.inf]).pays()


@pytest.mark.parametrize("model", ["", "model._target_=batch_norm.Net"])
def test_clients_are_stacked_only_where_that_changes_nothing(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows that fill up a short batch are seen by those that a batch normalization sees."""
    (tmp_path / "batch_norm.py").write_text(BATCH_NORM)
    monkeypatch.syspath_prepend(tmp_path)
    of = clients(tmp_path)
    words = ["dataset=npz", f"dataset.path={of.config.dataset['path']}", "partition=natural"]
    config = compose_config([*words, "model=custom", model]) if model else of.config
    task = build(config)
    job = Measuring(trained(0.01, (2,)), 0, list(range(N)), 2, BATCH)
    found = way(DeviceExecutor(task), task.initial_params(), job)
    assert found == (ONE_BY_ONE if model else Way(N))


def test_what_a_summary_says_is_checked() -> None:
    good = {**beside([0.1, 0.2]).__dict__, "against": {}}
    assert verdict.read(json.loads(json.dumps(good))).steps == 64
    older = {"better": 1, "worse": 0, "clients": 2, "gain": 0.1, "low": 0.0, "high": 0.2}
    read = verdict.read(good | {"against": {"new": older}})
    assert "for 1 of 2 new clients, by 0.100" in read.pays()
    for bad in ({"best": "theft"}, {"means": {"personal": {"all": 1.0}}}, {"steps": "64"}):
        with pytest.raises(Mistyped):
            verdict.read(good | bad)


def test_a_run_says_whether_it_pays_and_so_do_its_table_and_report(
    train: Callable[..., RunResult], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Personal models are right for a fifth: they began from what is wrong for all."""
    path = clients(tmp_path).config.dataset["path"]
    words = ["dataset=npz", f"dataset.path={path}", "partition=natural", "model.hidden=[8]"]
    words += [
        "rounds=4",
        "evaluation.new_clients=[4,5]",
        "evaluation.every=4",
        "evaluation.steps=1",
    ]
    run = train([*words, "baselines=sklearn", "algorithm.alpha=0.001", "algorithm.beta=0.001"])
    said = verdict.read(run.summary["baselines"])
    assert set(said.means) == {"personal", *verdict.WORDS}
    for group in ("participating", "new"):
        assert said.means["personal"][group] == pytest.approx(run.summary[group]["accuracy"][-1])
    assert "for 0 of 4 participating clients and worse for 4" in said.pays()
    assert said.against["participating"].clients == 4
    out = " ".join(capsys.readouterr().out.split())
    assert said.pays() in out
    assert "alone, gradient boosting" in out
    page = write_report(run.folder).read_text()
    assert "Does it pay?" in page
    lead = page.partition('<p class="lead">')[2].partition("</p>")[0]
    assert lead.startswith("After 1 fine-tuning step, ")
    assert f" before. {said.pays()}" in lead
    assert page.count(said.pays()) == 1
    constant = said.means["constant"]["new"]
    assert f"new, its most frequent class, {constant:.3f}" in page
    assert page.count("new, its most frequent class</text>") == 5, "in the legend of each figure"
    assert "baselines" not in train([*words, "baselines=none"]).summary


def test_a_run_is_whole_though_baselines_cannot_be_trained(
    train: Callable[..., RunResult],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    words = ["dataset=quadratics", "rounds=1", "baselines=simple"]

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    def failing(*_: object) -> None:
        raise RuntimeError("no such kernel")

    for stopped, why in ((interrupted, "interrupted"), (failing, "RuntimeError: no such kernel")):
        monkeypatch.setattr("nufed.server_app.app.beside", stopped)
        run = train(words)
        assert run.summary["rounds"] == 1
        assert "stopped" not in run.summary
        assert why in caplog.text
