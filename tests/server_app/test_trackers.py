"""Trackers: what is drawn is what metrics.jsonl says, and their failure costs nothing else."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import nufed.server_app.trackers
from nufed.conf.compose import compose_config, find_config
from nufed.conf.errors import InputError
from nufed.server_app.report.run_page import write_report
from nufed.server_app.resume import resumed_config
from nufed.server_app.trackers import Harmless, trackers
from nufed.server_app.trackers.scalars import scalars
from nufed.server_app.tracking import HOOKS, Callback, Row, RunInfo, State, pass_on
from nufed.strategies.curves import Evaluation
from nufed.tasks.task import build
from tests.helpers import RunResult

Train = Callable[..., RunResult]
SMALL = [
    *("dataset=quadratics", "dataset.num_clients=6", "evaluation.new_clients=[1]"),
    *("algorithm.batch.support=null", "algorithm.batch.query=null", "evaluation.steps=2"),
    *("evaluation.every=2", "engine.chunk_size=1"),
]


def ours(tracker: str) -> list[str]:
    """Return the overrides that choose a tracker of this file."""
    return ["tracking=none", f"+tracking.mine._target_=tests.server_app.test_trackers.{tracker}"]


class Broken(Callback):
    """A tracker whose server is gone at one of its hooks."""

    calls = 0

    def __init__(self, folder: Path, hook: str) -> None:
        Broken.calls = 0
        setattr(self, hook, self.fail)

    def fail(self, *_: object) -> None:
        Broken.calls += 1
        raise ConnectionError("the server\nis gone")


def drawn(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Read the event files of a run, as TensorBoard does: tag -> points."""
    events = EventAccumulator(str(folder / "tensorboard"), size_guidance={"scalars": 0})
    events.Reload()
    return {
        tag: [(event.step, event.value) for event in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
    }


def written(rows: list[Row]) -> dict[str, list[tuple[int, float]]]:
    """Return what metrics.jsonl says, as it is to be drawn."""
    points: dict[str, list[tuple[int, float]]] = {}
    for row in rows:
        for tag, value in scalars(row).items():
            points.setdefault(tag, []).append((row["round"], pytest.approx(value, rel=1e-6)))
    return points


def test_what_is_drawn_is_what_the_run_measured(train: Train) -> None:
    run = train([*SMALL, "rounds=3", "diagnostics.every=2"])
    points = drawn(run.folder)
    assert points == written(run.rows)
    last = run.rows[-1]
    assert points["train/loss"][-1] == (3, pytest.approx(last["train_loss"]))
    assert [step for step, _ in points["train/loss"]] == [1, 2, 3]
    for k in range(3):
        value = pytest.approx(last["new"]["loss"][k])
        assert points[f"new/loss_k{k}"][-1] == (3, value)
    worst = pytest.approx(last["participating"]["loss_worst_decile"][2])
    assert points["participating/loss_worst_decile_k2"] == [
        *points["participating/loss_worst_decile_k2"][:-1],
        (3, worst),
    ]
    norm2 = last["diagnostics"]["meta_grad_norm2"]
    assert points["diagnostics/meta_grad_norm2"][-1] == (3, pytest.approx(norm2))


def test_the_configuration_is_there_as_text_and_to_compare_by(train: Train) -> None:
    run = train([*SMALL, "rounds=0", "algorithm.alpha=0.07"])
    events = EventAccumulator(str(run.folder / "tensorboard"))
    events.Reload()
    (text,) = events.Tensors("config/text_summary")
    assert "  alpha: 0.07\n" in text.tensor_proto.string_val[0].decode()
    assert {"_hparams_/experiment", "_hparams_/session_start_info"} <= set(events.summary_metadata)
    start = events.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    assert b"algorithm.alpha" in start


def test_a_resumed_run_goes_on_with_its_curves(train: Train) -> None:
    """Rounds that were drawn and are not in the checkpoint come again, and count once."""
    run = train([*SMALL, "rounds=4", "checkpoint.every=2"])
    (latest,) = (run.folder / "checkpoint").glob("000004.*")
    latest.unlink()
    resume(train, run, "rounds=5")
    rows = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    assert [row["round"] for row in rows] == [0, 1, 2, 3, 4, 5]
    assert len(list((run.folder / "tensorboard").iterdir())) == 2
    assert drawn(run.folder) == written(rows)


def test_rows_that_come_again_are_drawn_once(train: Train, tmp_path: Path) -> None:
    """As of a run that is followed from its beginning once more."""
    run = train([*SMALL, "rounds=3", "tracking=none"])
    config = compose_config([*SMALL, "rounds=3"])
    info = RunInfo(config, build(config).size, 5, 1)
    for drawn_before, rows in ((run.rows[:0], run.rows[:2]), (run.rows[:1], run.rows)):
        (tracker,) = trackers(config, tmp_path)
        tracker.drawn = tuple(drawn_before)
        tracker.on_start(info)
        for row in rows:
            pass_on(row, State(row["round"], {}, {}), [tracker])
        tracker.on_end({"rounds": 3})
    assert drawn(tmp_path) == written(run.rows)


def test_a_run_that_was_not_tracked_is_drawn_whole_once_it_is(train: Train) -> None:
    run = train([*SMALL, "rounds=2", "tracking=none"])
    assert not (run.folder / "tensorboard").exists()
    resume(train, run, "rounds=3", "tracking=tensorboard")
    rows = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    assert drawn(run.folder) == written(rows)
    assert drawn(run.folder)["train/loss"][0][0] == 1


def resume(train: Train, run: RunResult, *overrides: str) -> None:
    """Go on with a run in this process."""
    from nufed.client_app.app import app as client_app
    from nufed.conf.convert import to_json
    from nufed.server_app.app import app as server_app
    from nufed.simulation.grid import run_in_process

    config = resumed_config(run.folder, compose_config(list(overrides)), list(overrides))
    run_config = {"config": to_json(config), "run-dir": str(run.folder)}
    run_in_process(server_app, client_app, run_config, 1)


def test_a_folder_from_before_trackers_is_resumed_without_one(train: Train) -> None:
    run = train([*SMALL, "rounds=1", "tracking=none"])
    file = run.folder / "config.yaml"
    lines = [line for line in file.read_text().splitlines() if not line.startswith("tracking:")]
    start = next(i for i, line in enumerate(lines) if line.startswith("early_stopping:"))
    file.write_text("\n".join(lines[:start] + lines[start + 3 :]) + "\n")
    resume(train, run, "rounds=2")
    assert not (run.folder / "tensorboard").exists()


@pytest.mark.parametrize("hook", HOOKS)
def test_a_tracker_that_fails_is_told_of_once_and_the_run_goes_on(
    hook: str, train: Train, caplog: pytest.LogCaptureFixture
) -> None:
    run = train([*SMALL, "rounds=3", *ours("Broken"), f"+tracking.mine.hook={hook}"])
    assert run.summary["rounds"] == 3
    assert "stopped" not in run.summary
    assert Broken.calls == 1
    told = [message for message in caplog.messages if "Broken" in message]
    assert told == ["Broken: the server is gone; the run goes on without it"]
    assert list((run.folder / "checkpoint").glob("000003.*"))


def test_event_files_that_cannot_be_written_cost_the_curves_alone(
    train: Train, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A file where the folder should be."""
    (tmp_path / "run1").mkdir()
    (tmp_path / "run1" / "tensorboard").write_text("mine")
    run = train([*SMALL, "rounds=1"])
    assert run.summary["rounds"] == 1
    assert sum("TensorBoard: " in message for message in caplog.messages) == 1
    assert (tmp_path / "run1" / "tensorboard").read_text() == "mine"


def test_several_run_side_by_side_and_one_that_fails_costs_the_others_nothing(
    train: Train, caplog: pytest.LogCaptureFixture
) -> None:
    """TensorBoard, one whose server is gone from the start, and one that sees all."""
    Seen.hooks = []
    broken = "+tracking.first={_target_: tests.server_app.test_trackers.Broken, hook: on_start}"
    seen = "+tracking.last._target_=tests.server_app.test_trackers.Seen"
    run = train([*SMALL, "rounds=2", "tracking=[tensorboard]", broken, seen])
    assert drawn(run.folder) == written(run.rows)
    assert Broken.calls == 1
    assert [hook for hook in Seen.hooks if "round" in hook] == ["round 0", "round 1", "round 2"]
    assert sum("goes on without it" in message for message in caplog.messages) == 1


def test_options_side_by_side_have_a_node_each() -> None:
    config = compose_config(["tracking=[trackio,wandb]", "tracking.wandb.project=other"])
    assert list(config.tracking) == ["trackio", "wandb"]
    assert config.tracking["trackio"]["project"] == "nufed"
    assert config.tracking["wandb"]["project"] == "other"


@pytest.mark.parametrize(
    ("target", "name"),
    [("nufed.server_app.trackers.tensorboard.TensorBoard", "tensorboard"), ("Tracker", "older")],
)
def test_the_one_tracker_of_an_older_run_is_one_of_several(
    target: str, name: str, train: Train
) -> None:
    """Its config.yaml is read, shown, and gone on with."""
    run = train([*SMALL, "rounds=1", "tracking=none"])
    file = run.folder / "config.yaml"
    text = file.read_text().replace("tracking: {}", f"tracking:\n  _target_: {target}")
    assert target in text
    file.write_text(text)
    assert find_config(run.folder, "run").config.tracking == {name: {"_target_": target}}
    assert target in write_report(run.folder).read_text()
    if name == "older":
        with pytest.raises(InputError, match=r"its tracking\.older\._target_ is Tracker"):
            resume(train, run, "rounds=2")
        resume(train, run, "rounds=2", "tracking=tensorboard")
    else:
        resume(train, run, "rounds=2")
    rows = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    assert drawn(run.folder) == written(rows)


MISTAKES = {
    "tracking.tensorboard._target_=absent.Tracker": (
        "tracking.tensorboard._target_=absent.Tracker: "
    ),
    "+tracking.tensorboard.colour=red": (
        "tracking.tensorboard._target_=nufed.server_app.trackers.tensorboard.TensorBoard: "
    ),
    "+tracking.mine._target_=datetime.date": "tracking.mine._target_=datetime.date: ",
    "+tracking.mine={_target_: pathlib.PurePath}": (
        "tracking.mine._target_=pathlib.PurePath: must be a subclass of "
        "nufed.server_app.tracking.Callback"
    ),
    "+tracking._target_=mine.Tracker": (
        "tracking._target_=mine.Tracker: must be under a name, as tracking.mine._target_; "
        "a YAML file begins with # @package tracking.mine"
    ),
    "+tracking.mine=red": "tracking.mine=red: must be a _target_ and its arguments",
    "+tracking.mine={file: a}": "tracking.mine={'file': 'a'}: must be a _target_ and its arguments",
}


@pytest.mark.parametrize(("override", "words"), MISTAKES.items())
def test_a_tracker_that_cannot_be_made_is_named_before_the_run(
    override: str, words: str, train: Train, tmp_path: Path
) -> None:
    with pytest.raises(InputError) as caught:
        train([*SMALL, override])
    assert str(caught.value).startswith(words)
    assert not (tmp_path / "run1" / "metrics.jsonl").exists()


@pytest.mark.parametrize("tracker", ["tensorboard", "wandb", "mlflow", "trackio"])
def test_a_package_that_is_missing_is_named(tracker: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is hidden, and what was imported of it and with it forgotten."""
    ours = f"nufed.server_app.trackers.{tracker}"
    for name in [m for m in sys.modules if m == ours or m.split(".")[0] == tracker]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr(nufed.server_app.trackers, tracker, raising=False)
    monkeypatch.setitem(sys.modules, tracker, None)
    with pytest.raises(InputError) as caught:
        trackers(compose_config([f"tracking={tracker}"]), Path())
    assert str(caught.value) == f"tracking={tracker}: needs {tracker}; pip install {tracker}"


def test_hooks_come_in_order(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each round, then its evaluation where there is one."""
    Seen.hooks = []
    train([*SMALL, "rounds=3", *ours("Seen")])
    hooks = (
        "start, round 0, evaluation 0, round 1, round 2, evaluation 2, round 3, evaluation 3, "
        "clients 3, end"
    )
    assert Seen.hooks == hooks.split(", ")


class Seen(Callback):
    """Note the hooks that are called."""

    hooks: list[str]

    def __init__(self, folder: Path) -> None: ...

    def on_start(self, run: RunInfo) -> None:
        self.hooks.append("start")

    def on_round(self, row: Row, state: State) -> None:
        self.hooks.append(f"round {row['round']}")

    def on_evaluation(self, row: Row, state: State) -> None:
        self.hooks.append(f"evaluation {row['round']}")

    def on_clients(self, evaluation: Evaluation) -> None:
        self.hooks.append(f"clients {evaluation.round}")

    def on_end(self, summary: dict[str, Any]) -> None:
        self.hooks.append("end")


def test_every_hook_that_there_is_reaches_a_tracker() -> None:
    """Also one that is added to `Callback` later: it is found, not listed."""
    hooks = [name for name, value in vars(Callback).items() if callable(value) and name[0] != "_"]
    assert tuple(hooks) == HOOKS
    got: list[object] = []
    tracker = type("Any", (Callback,), {hook: lambda _, *a: got.append(a) for hook in hooks})()
    given = [(hook, object()) for hook in hooks]
    for hook, *arguments in given:
        getattr(Harmless(tracker), hook)(*arguments)
    assert got == [(argument,) for _, argument in given]


class Enough(Callback):
    """Has seen enough in one of the hooks of a round; or fails as it says so."""

    def __init__(self, folder: Path, hook: str, fails: bool = False) -> None:
        self.fails = fails
        setattr(self, hook, self.end)

    def end(self, row: Row, state: State) -> None:
        self.stop = row["round"] >= 2
        if self.stop and self.fails:
            raise ConnectionError("gone")


@pytest.mark.parametrize("hook", ["on_round", "on_evaluation"])
def test_a_tracker_may_end_the_run(hook: str, train: Train) -> None:
    run = train([*SMALL, "rounds=5", *ours("Enough"), f"+tracking.mine.hook={hook}"])
    assert [row["round"] for row in run.rows] == [0, 1, 2]
    assert run.summary["rounds"] == 2
    assert run.summary["stopped_early"] == "Enough asked for it"
    assert "stopped" not in run.summary


def test_a_tracker_that_failed_ends_nothing(train: Train) -> None:
    fails = ["+tracking.mine.hook=on_round", "+tracking.mine.fails=true"]
    assert train([*SMALL, "rounds=3", *ours("Enough"), *fails]).summary["rounds"] == 3


def test_metrics_of_the_algorithm_and_what_was_spent_are_drawn() -> None:
    row = {"round": 3, "metrics": {"drift": 0.5, "gap": None}}
    row["cost"] = {"gradients": 37.5, "bytes_up": 1200, "bytes_down": 3400}
    assert scalars(row) == {
        "metrics/drift": 0.5,
        "cost/gradients": 37.5,
        "cost/bytes_up": 1200.0,
        "cost/bytes_down": 3400.0,
    }


def test_every_metric_is_drawn_after_each_k() -> None:
    curves = {name: [3.0, 2.0] for name in ("loss", "mae", "loss_worst_decile", "mae_worst_decile")}
    found = scalars({"round": 1, "new": {"k": [0, 1], "clients": 2, **curves}})
    assert {tag for tag in found if "decile" not in tag} == {
        *("new/loss_k0", "new/loss_k1", "new/mae_k0", "new/mae_k1")
    }
