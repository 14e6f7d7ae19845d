"""The report of a run: its numbers are the run's, whatever run it is."""

import json
import logging
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nufed.conf.compose import compose_config
from nufed.conf.convert import to_json
from nufed.conf.errors import InputError, RunStopped
from nufed.server_app.report.callback import Report
from nufed.server_app.report.record import badness, read_record
from nufed.server_app.report.run_figures import worst_first
from nufed.server_app.report.run_page import write_report
from nufed.server_app.resume import resumed_config
from nufed.tasks.task import build
from tests.conftest import training_in
from tests.helpers import RunResult, read_run
from tests.server_app.report.helpers import (
    SMALL,
    Page,
    forget_figures,
    labelled,
    read_page,
    spend,
)

Train = Callable[..., RunResult]
EXTERNAL = re.compile(r"(?:src|href|url\()\W*(?:https?:)?//")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a small run, which is trained once."""
    return training_in(tmp_path_factory.mktemp("small"))(SMALL).folder


@pytest.fixture
def small(trained: Path, tmp_path: Path) -> RunResult:
    """Return it, to be written to."""
    return read_run(shutil.copytree(trained, tmp_path / "small"))


def page_of(run: RunResult) -> Page:
    return read_page(run.folder / "report.html")


def test_the_numbers_are_those_of_the_run(train: Train, tmp_path: Path) -> None:
    sizes = ["algorithm.alpha=0.3", "algorithm.beta=0.3"]
    run = train([*labelled(tmp_path), *sizes, "seed=4"], report=True)
    page, end = page_of(run), run.summary
    new, old = end["new"], end["participating"]
    untrained = run.rows[0]["new"]["accuracy"][3]
    assert untrained < new["accuracy"][3]
    assert f"From the untrained model, the same steps take new clients to {untrained:.3f}." in (
        page.text
    )
    assert (
        f"After 3 fine-tuning steps, 2 new clients are at {new['accuracy'][3]:.3f} accuracy "
        f"(worst tenth {new['accuracy_worst_decile'][3]:.3f}), from {new['accuracy'][0]:.3f} "
        f"before; 10 participating clients at {old['accuracy'][3]:.3f} accuracy"
    ) in page.text

    curves = json.loads((run.folder / "clients.json").read_text())
    left = [
        sum(curve[-1] < curve[0] for curve in curves[group]["accuracy"])
        for group in ("participating", "new")
    ]
    assert f"{left[0]} of 10 participating and {left[1]} of 2 new clients are better left" in (
        page.text
    )

    accuracy, loss = (rows[1:] for rows in page.tables if rows[0][:2] == ["clients", "k=0"])
    wanted = [
        (f"{group}, {label}", end[group][f"accuracy{suffix}"])
        for group in ("participating", "new")
        for label, suffix in (
            ("mean", ""),
            ("std", "_std"),
            ("worst tenth", "_worst_decile"),
            ("worst", "_bottom"),
        )
    ]
    assert [row[0] for row in accuracy] == [label for label, _ in wanted]
    for row, (_, values) in zip(accuracy, wanted, strict=True):
        assert [float(cell) for cell in row[1:]] == pytest.approx(values, abs=5e-4)
    assert float(loss[0][1]) == pytest.approx(old["loss"][0], rel=5e-3)

    rounds = page.table("round training loss")
    assert [row[0] for row in rounds] == ["0", "2", "4"]
    assert rounds[0][1] == "–"
    assert float(rounds[2][1]) == pytest.approx(run.rows[4]["train_loss"], rel=5e-3)
    assert float(rounds[1][4]) == pytest.approx(run.rows[2]["new"]["accuracy"][3], abs=5e-4)
    assert len(page.figures()) == 7, "two by what was spent"
    data = "npz rows.npz, 12 clients of its own"
    assert page.text.count(f"npz-nufed: {data}") == 2, "title and heading"
    assert page.text.count(data) == 2 + 7, "and under each figure's title"
    assert page.text.count(f"{data} · ↑\N{NO-BREAK SPACE}higher is better") == 5
    assert page.text.count(f"{data} · ↓\N{NO-BREAK SPACE}lower is better") == 1


def test_what_was_spent_and_the_algorithms_metrics_are_shown_where_rows_have_them(
    train: Train, tmp_path: Path
) -> None:
    """Nothing of it in a run that has none; of one that has, figures of the numbers given."""
    run = train([*labelled(tmp_path), "seed=1"], report=True)
    for row in run.rows:
        row.pop("cost", None)  # as an older version has them
    lines = [json.dumps(row) for row in run.rows]
    (run.folder / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    before = read_page(write_report(run.folder))
    assert "cost so far" not in before.text
    assert "Metrics of the algorithm" not in before.text
    spend(run, gradients=217.39125, bytes_up=250_000, bytes_down=1_000_000)
    assert "870 gradients a client" in read_page(write_report(run.folder)).text
    spend(run, gradients=12.5, bytes_up=250_000, bytes_down=1_000_000)
    page = read_page(write_report(run.folder))
    folded = [part.split("</details>")[0] for part in page.source.split("<details>")[1:]]
    assert [each.count("<figure>") for each in folded if "By gradients and by bytes" in each] == [2]
    assert "50 gradients a client, 1 MB up, 4 MB down" in page.text
    assert "drift went from 1 to 0.25" in page.text
    assert "gap went from not finite to not finite" in page.text
    added = page.figures()
    for figure in before.figures():
        added.remove(figure)
    ends = [run.rows[i]["new"]["accuracy"][3] for i in (0, 4)]
    constant = run.summary["constant"]["accuracy"]
    said = f"new clients from {ends[0]:.3f} to {ends[1]:.3f}; "
    said += f"all, its most frequent class, {constant:.3f}."
    assert len(added) == 4
    by_gradients, by_bytes = (each for each in added if "Mean accuracy by" in each)
    assert by_gradients.startswith("Mean accuracy by gradients taken per participating client: ")
    assert by_bytes.startswith("Mean accuracy by MB sent and received by clients: ")
    assert by_gradients.endswith(said)
    assert by_bytes.endswith(said)

    record = read_record(run.folder)
    assert record.costs[0] == {"gradients": 0.0, "bytes": 0.0}
    assert record.costs[4] == {"gradients": 50.0, "bytes": 5_000_000.0}
    rounds, drift = record.metric_series("drift")
    assert rounds == [1, 2, 3, 4]
    assert drift.tolist() == pytest.approx([1, 1 / 2, 1 / 3, 1 / 4])


def test_of_many_metrics_the_first_are_drawn_and_the_others_counted(small: RunResult) -> None:
    run = small
    for row in run.rows[1:]:
        row["metrics"] = {f"m{i}": float(i) for i in range(15)}
    lines = "".join(json.dumps(row) + "\n" for row in run.rows)
    (run.folder / "metrics.jsonl").write_text(lines)
    page = read_page(write_report(run.folder))
    drawn = [each for each in page.figures() if "a mean over the clients of each" in each]
    assert [each.split()[0] for each in drawn] == [f"m{i}" for i in range(12)]
    assert "And 3 more, in metrics.jsonl." in page.text


def test_clients_are_named_by_how_well_they_are_served(train: Train, tmp_path: Path) -> None:
    run = train(labelled(tmp_path), report=True)
    clients = json.loads((run.folder / "clients.json").read_text())
    assert clients["round"] == 4
    ends, rows = {}, {}
    for group in ("participating", "new"):
        curves = np.array(clients[group]["accuracy"])
        assert curves.mean(0) == pytest.approx(run.summary[group]["accuracy"], abs=1e-5)
        ends |= dict(zip(clients[group]["client"], curves[:, -1], strict=True))
        rows |= dict(zip(clients[group]["client"], clients[group]["rows"], strict=True))
    assert set(ends) == set(range(12))
    assert set(rows.values()) == {18}, "three quarters of 24"
    data = build(read_record(run.folder).config).data
    tested = {i: len(data.partition.test_rows(i)) for i in range(12)}

    listed = page_of(run).table("client kind k=3")
    middle = sorted(ends.values(), reverse=True)[len(ends) // 2]
    worse = sorted(end for end in ends.values() if end < middle - 1e-6)
    assert 1 < len(worse) < 12
    assert worse == pytest.approx([float(row[2]) for row in listed], abs=5e-4)
    for client, kind, end, right, _, train_rows in listed:
        assert float(end) == pytest.approx(ends[int(client)], abs=5e-4)
        assert int(client) in clients[kind]["client"]
        assert right == f"{round(float(end) * tested[int(client)])} of {tested[int(client)]}"
        assert train_rows == "18"
    first = listed[0]
    assert f"the worst served is at {first[2]} ({first[3]} rows)" in page_of(run).text

    for group in ("participating", "new"):  # an older folder
        del clients[group]["test_rows"]
    (run.folder / "clients.json").write_text(json.dumps(clients))
    older = read_page(write_report(run.folder)).table("client kind k=3")
    assert older == [[*row[:3], *row[4:]] for row in listed]


@pytest.mark.parametrize(
    "names", [[f"<b>ward {11 - i}" for i in range(12)], [1000 - 7 * i for i in range(12)]]
)
def test_clients_go_by_what_the_data_set_calls_them(
    train: Train, tmp_path: Path, names: list[Any]
) -> None:
    """Those whose answers were dropped, too; names are sorted as text, numbers by value."""
    overrides = [*labelled(tmp_path, loud=3), "strategy.max_norm=10", "fraction=1.0"]
    with np.load(tmp_path / "rows.npz") as rows:
        given = dict(rows)
    np.savez(tmp_path / "rows.npz", **given | {"client": np.array(names)[given["client"]]})
    run = train(overrides, num_supernodes=12, report=True)
    clients, page = json.loads((run.folder / "clients.json").read_text()), page_of(run)
    listed = [client for group in ("participating", "new") for client in clients[group]["client"]]
    assert sorted(listed) == sorted(names)
    ends = dict[str, float]()
    for group in ("participating", "new"):
        called = list(map(str, clients[group]["client"]))
        ends |= dict(zip(called, np.array(clients[group]["accuracy"])[:, -1], strict=True))
    listed = page.table("client kind k=3")
    assert len(listed) > 1
    for client, _, end, *_ in listed:
        assert float(end) == pytest.approx(ends[client], abs=5e-4)
    assert {row[3] for row in page.table("reason in")} == {str(names[3])}
    failed = [failure["client"] for row in run.rows for failure in row.get("failures", [])]
    assert set(failed) == {names[3]}
    assert "Clients go by their ids in the data." in page.text
    assert f"Listed are {len(listed)} of 12" in page.text


def test_the_command_repeats_the_run_bit_by_bit(train: Train, tmp_path: Path) -> None:
    run = train([*labelled(tmp_path), "algorithm.alpha=0.07", "seed=5"], report=True)
    (line,) = re.findall(r"nufed dataset.*", page_of(run).text)
    again = train(shlex.split(line)[1:])
    assert again.folder != run.folder
    assert all(torch.equal(again.model[name], run.model[name]) for name in run.model)
    changed = dict(row[:2] for row in page_of(run).table("key this run default"))
    assert changed["algorithm.alpha"] == "0.07"
    assert changed["seed"] == "5"


def test_nothing_is_asked_of_anybody_else(small: RunResult) -> None:
    run = small
    write_report(run.folder)
    text = (run.folder / "report.html").read_text()
    assert "<script" not in text
    assert EXTERNAL.search(text) is None
    assert "default-src 'none'" in text
    identifiers = re.findall(r'\bid="([^"]+)"', text)
    assert len(identifiers) == len(set(identifiers))
    referred = re.findall(r'(?:href="#|url\(#)([^")]+)', text)
    assert referred
    assert set(referred) <= set(identifiers)


def test_a_page_is_the_same_whenever_it_is_made(small: RunResult) -> None:
    run = small
    write_report(run.folder)
    first = (run.folder / "report.html").read_bytes()
    write_report(run.folder)
    assert (run.folder / "report.html").read_bytes() == first


def go_on(folder: Path, *more: str) -> None:
    """Resume a run as the command does."""
    from nufed.client_app.app import app as client_app
    from nufed.server_app.app import app as server_app
    from nufed.simulation.grid import run_in_process

    config = resumed_config(folder, compose_config([*more]), [*more])
    run_in_process(server_app, client_app, {"config": to_json(config), "run-dir": str(folder)})


def test_a_run_that_wants_no_page_has_none(train: Train) -> None:
    """Nor one of before it went on, which would be taken for that of its end."""
    run = train([*SMALL, "report=false"], report=True)
    file = run.folder / "report.html"
    assert not file.exists()
    assert write_report(run.folder) == file
    assert "new client is at a loss" in page_of(run).text
    go_on(run.folder, "rounds=3")
    assert read_run(run.folder).summary["rounds"] == 3
    assert not file.exists()


HOSTILE = "<script>alert(1)</script>&\"'$x^{$"


def test_what_stands_in_files_is_text(small: RunResult, tmp_path: Path) -> None:
    """A name, a reason that a client wrote, and what ended a run: none of it becomes markup."""
    run = small
    config = (run.folder / "config.yaml").read_text()
    quoted = json.dumps(HOSTILE)
    config = re.sub(r"^name: .*", lambda _: f"name: {quoted}", config, flags=re.MULTILINE)
    config = config.replace("  name: quadratics", f"  name: {quoted}")
    (run.folder / "config.yaml").write_text(config)
    run.rows[1]["failures"] = [{"client": 1, "reason": HOSTILE}]
    lines = "".join(json.dumps(row) + "\n" for row in run.rows)
    (run.folder / "metrics.jsonl").write_text(lines)
    (run.folder / "summary.json").write_text(json.dumps(run.summary | {"stopped": HOSTILE}))
    page = read_page(write_report(run.folder))
    assert page.text.count(HOSTILE) >= 5
    assert page.table("reason in")[0] == [HOSTILE, "training", "1", "1", "1"]
    assert not {tag for tag, _ in page.tags} & {"script", "iframe", "object", "form"}


def test_a_regression_is_told_by_its_loss(small: RunResult) -> None:
    run = small
    write_report(run.folder)
    page, new = page_of(run), run.summary["new"]
    assert f"1 new client is at a loss of {new['loss'][2]:.3g} (worst tenth" in page.text
    assert "accuracy" not in page.text
    listed = page.table("client kind k=2")
    assert [float(row[2]) for row in listed] == sorted((float(r[2]) for r in listed), reverse=True)


def test_without_new_clients_nothing_is_said_of_them(train: Train) -> None:
    run = train([*SMALL, "evaluation.new_clients=0"], report=True)
    page = page_of(run)
    assert "new client" not in page.text + "".join(page.figures())
    assert "5 participating, 0 new" in page.text


def test_without_fine_tuning_there_is_one_point(train: Train) -> None:
    run = train([*SMALL, "evaluation.steps=0", "rounds=0"], report=True)
    assert "Without fine-tuning, 1 new client is at" in page_of(run).text


def test_a_run_that_stopped_says_why_and_where(train: Train, tmp_path: Path) -> None:
    with pytest.raises(RunStopped) as stopped:
        train([*SMALL, "algorithm.beta=1e30", "algorithm.tau=9", "rounds=9"], report=True)
    page = read_page(tmp_path / "run1" / "report.html")
    assert f"This run stopped early: {stopped.value}" in page.text
    assert "of 9" in page.text
    assert "This is of the untrained model. After 2 fine-tuning steps" in page.text
    assert "None in what was completed" in page.text


def test_a_run_that_was_killed_or_goes_on_is_read_as_far_as_it_got(small: RunResult) -> None:
    run = small
    for name in ("summary.json", "clients.json"):
        (run.folder / name).unlink()
    with (run.folder / "metrics.jsonl").open("a") as file:
        file.write('{"round": 3, "train_')
    page = read_page(write_report(run.folder))
    assert "first 2 of 2 rounds" in page.text
    assert f"a loss of {run.rows[2]['new']['loss'][2]:.3g}" in page.text
    assert any("Mean loss by fine-tuning steps" in label for label in page.figures())


def test_before_any_round_there_is_a_page_too(small: RunResult) -> None:
    run = small
    (run.folder / "summary.json").unlink()
    (run.folder / "metrics.jsonl").write_text("")
    page = read_page(write_report(run.folder))
    assert "No round of this run has been evaluated." in page.text
    assert page.figures() == []


def test_a_run_none_of_whose_figures_are_finite_has_a_page(train: Train) -> None:
    run = train([*SMALL, "diagnostics.every=1"])
    forget_figures(run.folder)
    page = read_page(write_report(run.folder))
    assert [row[1] for row in page.table("round training loss")] == ["–", *["not finite"] * 2]
    assert "the run took" not in page.text
    assert "median round" not in page.text


def test_clients_of_another_round_are_not_shown(small: RunResult) -> None:
    """As where a run that was resumed stopped before it was evaluated again."""
    run = small
    assert read_record(run.folder).clients is not None
    clients = json.loads((run.folder / "clients.json").read_text())
    (run.folder / "clients.json").write_text(json.dumps(clients | {"round": 1}))
    assert read_record(run.folder).clients is None
    for forged in ([0], [1, 1], ["1"]):
        clients["new"]["test_rows"] = forged
        (run.folder / "clients.json").write_text(json.dumps(clients))
        with pytest.raises(InputError, match=r"clients\.json: cannot be read"):
            read_record(run.folder)


def test_failures_are_counted_by_reason_and_client(train: Train, tmp_path: Path) -> None:
    overrides = [*labelled(tmp_path, loud=3), "strategy.max_norm=10", "fraction=1.0"]
    run = train(overrides, num_supernodes=12, report=True)
    dropped = [(row["round"], f) for row in run.rows for f in row.get("failures", [])]
    assert [(round, f["client"]) for round, f in dropped] == [(k, 3) for k in (1, 2, 3, 4)]
    found = page_of(run).table("reason in")
    assert sum(int(row[2]) for row in found) == len(dropped)
    assert {row[3] for row in found} == {"3"}
    assert "4 answers were dropped" in page_of(run).text
    assert all("is above strategy.max_norm=10" in row[0] for row in found)


def test_a_resumed_run_has_one_report_of_all_rounds(small: RunResult) -> None:
    run = small
    write_report(run.folder)
    go_on(run.folder, "rounds=5")
    page = page_of(run)
    assert "5 of 5" in page.text
    assert [row[0] for row in page.table("round training loss")] == ["0", "1", "2", "3", "4", "5"]
    assert "resume=" not in page.text.split("The same again")[1]


def test_what_was_diagnosed_is_drawn_and_the_certificate_beside_it(train: Train) -> None:
    run = train([*SMALL, "diagnostics.every=1"], report=True)
    (label,) = [label for label in page_of(run).figures() if "‖∇F(w)‖²" in label]
    norms = [row["diagnostics"]["meta_grad_norm2"] for row in run.rows]
    assert f"{norms[0]:.3g} in round 0, {norms[-1]:.3g} in round 2" in label
    (run.folder / "certificate.svg").write_text("<svg/>")
    page = read_page(write_report(run.folder))
    (source,) = [found["src"] for tag, found in page.tags if tag == "img"]
    assert source == "data:image/svg+xml;base64,PHN2Zy8+"


def test_a_report_that_cannot_be_made_is_told_of_and_the_run_is_there(
    small: RunResult, caplog: pytest.LogCaptureFixture
) -> None:
    run = small
    (run.folder / "clients.json").write_text("{")
    caplog.clear()
    with caplog.at_level(logging.WARNING, "nufed"):
        Report(run.folder).on_end(run.summary)
    (record,) = caplog.records
    assert "clients.json: cannot be read" in record.getMessage()
    assert "\n" not in record.getMessage()
    assert f"nufed-report {run.folder} tries again" in record.getMessage()
    assert not (run.folder / "report.html").exists()


def test_a_page_that_cannot_be_written_is_named(small: RunResult) -> None:
    run = small
    (run.folder / "report.html").mkdir()
    with pytest.raises(InputError, match=r"report\.html: cannot be written \(Is a directory\)"):
        write_report(run.folder)
    assert not (run.folder / ".report.html").exists()


def test_what_is_not_finite_is_worse_than_anything() -> None:
    values = np.array([0.5, np.nan, 0.2])
    assert badness(values, lower_is_better=True).tolist() == [0.5, np.inf, 0.2]
    assert np.array_equal(
        worst_first(values, lower_is_better=False), [np.nan, 0.2, 0.5], equal_nan=True
    )
    assert np.array_equal(
        worst_first(values, lower_is_better=True), [np.nan, 0.5, 0.2], equal_nan=True
    )


def test_without_a_summary_a_metric_keeps_its_direction(train: Train) -> None:
    run = train([*SMALL, "+task.metrics.rmse=torch.nn.functional.l1_loss"])
    (run.folder / "summary.json").unlink()
    record = read_record(run.folder)
    assert (record.metric, record.lower_is_better) == ("rmse", True)
