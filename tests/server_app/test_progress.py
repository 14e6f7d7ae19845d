"""What a run prints at its end."""

import io
from itertools import accumulate
from pathlib import Path

import pytest

from nufed.conf.compose import compose_config
from nufed.server_app.early_stopping import Watch
from nufed.server_app.progress import ProgressBar, TimeLeft, curve_table
from nufed.server_app.terminal import Terminal
from nufed.server_app.trackers.scalars import scalars
from nufed.server_app.tracking import RunInfo, State
from nufed.tasks.module_state import Size
from tests.server_app.report.helpers import without_figures


def curves(n: int, end: float) -> dict[str, object]:
    values = [end * k / (n - 1) for k in range(n)]
    names = ("accuracy", "accuracy_std", "accuracy_worst_decile", "loss", "loss_worst_decile")
    return {"k": list(range(n)), "clients": 9, **dict.fromkeys(names, values)}


def printed(summary: dict[str, object]) -> list[list[str]]:
    console = Terminal(width=80, force_terminal=False)
    with console.capture() as found:
        console.print(curve_table(summary))
    lines = found.get().splitlines()
    return [[cell.strip() for cell in line.strip("┃│").split("│")] for line in lines if "│" in line]


def test_many_steps_are_thinned_to_what_a_terminal_holds() -> None:
    rows = printed({"participating": curves(51, 1.0), "rounds": 5})
    assert rows[0][0] == "participating (9), mean"
    assert rows[0][1:] == ["0.000", "0.020", "0.060", "0.140", "0.380", "1.000"]


def test_what_training_did_stands_below() -> None:
    summary = {"new": curves(3, 1.0), "untrained": {"new": curves(3, 0.5)}, "rounds": 5}
    assert printed(summary)[-1] == ["untrained, mean", "0.000", "0.250", "0.500"]
    assert printed(summary | {"rounds": 0})[-1][0] == "worst tenth", "it is the same"


def test_a_row_none_of_whose_figures_are_finite_is_told_and_taken() -> None:
    """As the log of a foreign run may have it: the submitter reads it, whatever stands there."""
    row = {"round": 1, "attempts": 1, "clients": 3, "failures": [], "evaluation_failures": []}
    row |= dict.fromkeys(("train_loss", "update_norm", "meta_grad_norm", "train_s", "train_cpu_s"))
    row |= without_figures(
        {
            "new": curves(3, 1.0),
            "participating": curves(3, 1.0),
            "diagnostics": {"meta_grad_norm2": 1.0, "estimates": {"L": {"value": 1.0}}},
        }
    )
    for terminal in (False, True):
        text = io.StringIO()
        bar = ProgressBar(Terminal(width=80, force_terminal=terminal, file=text), Path("run"))
        bar.on_start(RunInfo(compose_config(["algorithm.alpha=1", "algorithm.beta=1"]), SIZE, 3, 1))
        bar.on_round(row, State(1, {}, {}))
        bar.on_evaluation(row, State(1, {}, {}))
        bar.on_end({"rounds": 1, "lower_is_better": ["loss"], "new": row["new"]})
        assert "loss not finite  accuracy of new clients not finite → not finite" in text.getvalue()
    assert scalars(row) == {"train/clients": 3.0, "train/dropped_updates": 0.0}
    for metric in ("train_loss", "accuracy"):
        watch = Watch(metric, [row])
        assert (watch.best, watch.waited) == (None, 0)


def test_the_algorithms_own_metrics_are_told_three_at_most() -> None:
    metrics = {"drift": 0.12345, "gap": None, "spread": 2e6, "fourth": 1.0}
    text = io.StringIO()
    bar = ProgressBar(Terminal(width=90, force_terminal=False, file=text), Path("run"))
    bar.on_start(RunInfo(compose_config(["algorithm.alpha=1", "algorithm.beta=1"]), SIZE, 3, 1))
    bar.on_round({"round": 1, "train_loss": 0.5, "metrics": metrics}, State(1, {}, {}))
    line = "round 1/50  loss 0.5  drift 0.123  gap not finite  spread 2e+06"
    assert text.getvalue().splitlines()[-1] == line


SIZE = Size(10, 0)


def test_the_time_left_is_that_of_the_median_round(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first warms up, and one waited for a client: both are as good as any other."""
    seconds = [7.0, 90.0, 2.0, 600.0, 4.0, 3.0]
    clock = accumulate(seconds)
    monkeypatch.setattr("nufed.server_app.progress.time.monotonic", lambda: next(clock))
    left = TimeLeft(14)
    said = [left.after(round) for round in range(5)]
    assert said == ["", "", "24 s left", "55 min left", "40 s left"]
    assert left.after(14) == ""
