"""A metric that does not exist for some clients: left out of every mean, counted and said."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from nufed.cli.search import score
from nufed.conf.errors import InputError
from nufed.server_app.early_stopping import Watch
from nufed.server_app.report.record import read_record
from nufed.server_app.report.run_page import report, write_report
from tests.helpers import RunResult

Train = Callable[..., RunResult]
AUROC = "task.metrics={auroc: torchmetrics.classification.MulticlassAUROC}"
SMALL = ["rounds=1", "evaluation.steps=2", "evaluation.new_clients=[0, 5]", "tracking=none"]


def rows(folder: Path, one_class: list[int], clients: int = 8) -> list[str]:
    """Write clients of 40 rows of two classes, or one; return the overrides for them."""
    random = np.random.default_rng(0)
    client = np.repeat(np.arange(clients), 40)
    y = random.integers(2, size=len(client))
    y[np.isin(client, one_class)] = 1
    np.savez(
        folder / "rows.npz", x=random.normal(size=(len(client), 3)) + y[:, None], y=y, client=client
    )
    data = ["dataset=npz", f"dataset.path={folder / 'rows.npz'}", "dataset.one_class=keep"]
    return [*data, "model=logistic", *SMALL]


def test_it_is_left_out_of_the_mean_counted_and_said(
    train: Train, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = train([*rows(tmp_path, [2, 4, 5]), AUROC])
    last, clients = run.rows[-1], json.loads((run.folder / "clients.json").read_text())
    for group, some in (("participating", 2), ("new", 1)):
        curves = np.array(clients[group]["auroc"], np.float64)
        assert np.isnan(curves[:, -1]).sum() == some
        assert last[group]["auroc_undefined"] == [some] * 3
        assert last[group]["auroc"] == pytest.approx(np.nanmean(curves, 0).tolist(), abs=1e-5)
        assert last[group]["auroc_bottom"] == pytest.approx(np.nanmin(curves, 0).tolist(), abs=1e-5)
        assert run.summary[group] == last[group]
    assert last["undefined"] == run.summary["undefined"] == {"auroc": ["no row of class 0"]}
    assert last["evaluation_failures"] == []
    said = (
        "auroc is undefined for 2 of 6 participating and 1 of 2 new clients (no row of class 0); "
        "its figures are of the others"
    )
    out = capsys.readouterr().out
    assert out.count(f"round 0: {said}") == 1
    assert out.count(said) == 2, "at first, and beside the table of the end"
    page = report(read_record(run.folder))
    assert said in page
    assert "not finite" not in page
    write_report(run.folder)


def test_what_exists_for_nobody_is_undefined_and_no_divergence(
    train: Train, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nor does early stopping take it for a bad value, or a search for a bad run."""
    run = train([*rows(tmp_path, [*range(1, 8)]), AUROC])
    assert run.rows[-1]["participating"]["auroc"] == [None] * 3
    assert run.rows[-1]["participating"]["auroc_undefined"] == [6] * 3
    out = capsys.readouterr().out
    assert "undefined" in out
    assert "not finite" not in out
    page = report(read_record(run.folder))
    assert "undefined auroc" in page
    watch = Watch("auroc", [{"evaluation_failures": [], **row} for row in run.rows])
    assert (watch.best, watch.waited) == (None, 0)
    with pytest.raises(InputError, match=r"^task\.metrics: auroc is undefined for 6 of 6 partici"):
        score(run.folder)


def test_one_row_has_no_r2_and_all_other_figures(train: Train, tmp_path: Path) -> None:
    """Of 4 clients two have one test row, of which torchmetrics raises."""
    random = np.random.default_rng(0)
    client, test = np.repeat(np.arange(4), 10), np.tile(np.arange(10) >= 9, 4)
    test[:20] = np.tile(np.arange(10) >= 5, 2)
    x = random.normal(size=(40, 3))
    np.savez(tmp_path / "rows.npz", x=x, y=x @ np.ones(3), client=client, test=test)
    data = ["dataset=npz", f"dataset.path={tmp_path / 'rows.npz'}", "model=linear"]
    r2 = "task.metrics={r2: torchmetrics.R2Score, mae: torch.nn.functional.l1_loss}"
    run = train([*data, *SMALL, "evaluation.new_clients=0", r2])
    found = run.rows[-1]["participating"]
    assert found["r2_undefined"] == [2] * 3
    assert all(np.isfinite(found["r2"] + found["mae"] + found["loss"]))
    assert "mae_undefined" not in found
    assert run.rows[-1]["undefined"] == {"r2": ["fewer than 2 rows"]}
