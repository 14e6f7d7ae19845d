"""Is it trained? Runs that are not, for real, say so; what they say is their figures."""

import io
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from nufed.conf.compose import compose_config
from nufed.conf.schema import Config
from nufed.conf.typed import Mistyped
from nufed.server_app.amiss import Rising, alarms, of_clients, still_pays, still_rising
from nufed.server_app.app import notes
from nufed.server_app.progress import ProgressBar, curve_table
from nufed.server_app.report.record import read_record
from nufed.server_app.report.run_page import headline, write_report
from nufed.server_app.terminal import Terminal
from nufed.server_app.tracking import RunInfo
from nufed.server_app.written import checked_summary
from nufed.strategies.curves import Evaluation, Members
from nufed.tasks.module_state import Size
from nufed.tasks.task import build
from tests.helpers import RunResult
from tests.server_app.report.helpers import read_page

Train = Callable[..., RunResult]
RARE = "Accuracy says little of classes so rare"


def blind(folder: Path, ones: list[int]) -> list[str]:
    """Return overrides of clients of 20 rows whose x says nothing, so many of which are of class 1.

    All that a model can learn of them is how frequent classes are. Every fourth row is a test row.
    """
    y = np.concatenate([np.arange(20) % 4 >= 4 - k for k in ones]).astype(int)
    test = np.tile(np.arange(20) // 4 == 0, len(ones))
    client = np.repeat(np.arange(len(ones)), 20)
    np.savez(folder / "blind.npz", x=np.zeros((len(y), 2)), y=y, client=client, test=test)
    return [
        *("dataset=npz", f"dataset.path={folder / 'blind.npz'}", "model=logistic", "rounds=3"),
        *("evaluation.every=1", "evaluation.steps=2", "algorithm.nu=1", "algorithm.tau=4"),
        *("algorithm.batch.support=null", "algorithm.batch.query=null", "algorithm.beta=1.0"),
    ]


def test_a_run_that_predicts_one_class_is_an_alarm(
    train: Train, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A quarter of each client's rows is of class 1, and nothing tells which: 0 is right in 3/4."""
    run = train([*blind(tmp_path, [1] * 6), "algorithm.alpha=0.01"], report=True)
    assert run.summary["participating"]["accuracy"] == [0.75] * 3
    found = run.summary["constant"]
    assert found == {"accuracy": 0.75, "of": 6, "low": 0, "high": 0, "clients": 6, "class": 0}
    assert run.summary["gain"] == {"mean": 0, "low": 0, "high": 0, "clients": 6}
    lines = alarms(run.summary, read_record(run.folder).config)
    assert lines[0] == (
        "The models say one class: each of 6 clients has just the accuracy of always saying class "
        "0 (0.750 in the mean); try rounds=6."
    )
    assert lines[1] == (
        "Fine-tuning changes nothing: accuracy is 0.750 after 0 and after 2 steps; try a larger "
        "algorithm.alpha (it is 0.01)."
    )
    printed = capsys.readouterr().out
    table, end = printed.rpartition("┘\n")[::2]
    assert "accuracy on held-out rows after k" in table
    said, *places = end.replace("\n", " ").split(" report: ")
    assert said.endswith(" ".join(lines)), "hints stand last but for where things are"
    assert len(places) == 1
    assert " run folder: " in places[0]

    page = read_page(run.folder / "report.html")
    text = (run.folder / "report.html").read_text()
    (box,) = [
        part.split("</div>")[0] for part in text.split('<div class="warning" role="note">')[1:]
    ]
    said = re.sub(r"</?strong>", "", box)
    assert re.findall(r"<p>(.*)</p>", said) == lines, "a line each, and no title of a figure"
    assert "<strong>The models say one class:</strong> each of" in box
    assert "Fine-tuning takes" not in page.text
    assert "Accuracy by fine-tuning steps; shaded" in page.text


def test_of_clients_that_differ_each_says_its_own(train: Train, tmp_path: Path) -> None:
    """Fine-tuning finds the more frequent class of each, which is right in three of four rows."""
    sizes = ["algorithm.alpha=2", "evaluation.steps=9"]
    run = train([*blind(tmp_path, [1, 3] * 3), *sizes], report=True)
    assert run.summary["participating"]["accuracy"][-1] == 0.75
    found = run.summary["constant"]
    assert (found["clients"], found["accuracy"]) == (6, 0.75)
    assert "class" not in found
    config = read_record(run.folder).config
    (line,) = [each for each in alarms(run.summary, config) if "one class" in each]
    assert "always saying its own most frequent class (0.750" in line


@pytest.fixture(scope="module")
def config() -> Config:
    return compose_config(["algorithm.alpha=0.5", "algorithm.beta=0.2"])


def curves(start: float, end: float, clients: int = 4, **loss: float) -> dict[str, Any]:
    steps = np.linspace(start, end, 3).tolist()
    found = {"k": [0, 1, 2], "clients": clients, "accuracy": steps, "loss": [1.0] * 3}
    found["loss"][-1] = loss.get("loss", 1.0)
    return found | {f"{name}_worst_decile": steps for name in ("accuracy", "loss")}


def summary(start: float, end: float, **more: Any) -> dict[str, Any]:
    return {"rounds": 8, "participating": curves(start, end), "lower_is_better": ["loss"]} | more


def test_a_gain_is_told_from_noise_by_its_interval(config: Config) -> None:
    def said(start: float, end: float, low: float, high: float) -> list[str]:
        gain = {"mean": end - start, "low": low, "high": high, "clients": 4.0}
        return alarms(summary(start, end, gain=gain), config, ["alpha", "beta"])

    assert said(0.5, 0.75, 0.1, 0.4) == []
    (line,) = said(0.5, 0.75, -0.1, 0.6)
    assert line.startswith(
        "Fine-tuning gains no more than noise may: +0.250 [−0.100, +0.600] accuracy in 2 steps, "
        "over 4 clients; try a larger algorithm.alpha (it is 0.5), or one shared model"
    )
    (line,) = said(0.75, 0.5, -0.4, -0.1)
    assert line.startswith("Fine-tuning makes models worse: −0.250 [−0.400, −0.100] accuracy in 2")
    assert line.endswith("try a smaller algorithm.alpha (it is 0.5).")
    (line,) = alarms(summary(0.9481, 0.9484), config)
    assert line.startswith("Fine-tuning changes nothing: accuracy is 0.948 after 0 and after 2")
    assert alarms(summary(0.9, 0.95), config) == []
    assert alarms(summary(0.9481, 0.9484, stopped="interrupted"), config) == []
    falls = {"mean": -0.2, "low": -0.3, "high": -0.1, "clients": 4}
    assert alarms(summary(0.9, 0.7, gain=falls, lower_is_better=["accuracy"]), config) == []


def test_what_a_constant_gets_is_set_against_what_models_have(config: Config) -> None:
    found = {"accuracy": 0.9, "of": 4.0, "clients": 1.0, "low": -0.3, "high": 0.1}
    told = summary(0.5, 0.8, constant=found)
    lines = alarms(told, config, ["beta"])
    assert lines[0] == (
        "The models are not seen to be better than a constant: always saying a client's most "
        "frequent class has accuracy 0.900, they have 0.800 (−0.100 [−0.300, +0.100]); try "
        "rounds=16, or a larger algorithm.beta (it is 0.2)."
    )
    assert lines[1] == f"{RARE}: try task.metrics=balanced_accuracy."
    worse = alarms(summary(0.5, 0.8, constant=found | {"high": -0.1}), config)
    assert worse[0].startswith("The models are worse than a constant: ")
    assert alarms(summary(0.5, 0.8, constant=found | {"low": 0.1}), config) == []
    of_one_class_each = found | {"accuracy": 1.0, "clients": 4.0}
    assert alarms(summary(0.9, 1.0, constant=of_one_class_each), config) == []
    assert alarms(summary(0.9, 1.0, constant={"accuracy": None}, gain={}), config) == []


def test_no_hint_names_what_is_set_already(config: Config) -> None:
    """A loss of 1.0 after one of 0.7, both ± 0.2/√3: 0.3 is 1.8 standard errors of 2.0, or more."""
    constant = {"accuracy": 0.9, "of": 4.0, "clients": 1.0, "low": -0.3, "high": 0.1}

    def way(spread: float, probed: list[str], clip: object, **more: Any) -> str:
        before, after = (curves(0.5, 0.8, loss=loss) for loss in (0.7, 1.0))
        for each in (before, after):
            each["loss_std"] = [spread] * 3
        told = summary(0.5, 0.8, constant=constant, untrained={"participating": before}, **more)
        told["participating"] = after
        clipped = replace(config, strategy=config.strategy | {"clip_norm": clip})
        return alarms(told, clipped, probed)[0].partition("]); ")[2]

    grown = "their loss has grown: try "
    assert way(0.1, ["beta"], None) == (
        f"{grown}a smaller algorithm.beta (it is 0.2), or strategy.clip_norm=1."
    )
    assert way(0.1, ["beta"], "usual").endswith("or strategy.clip_norm=1.")
    assert way(0.1, ["beta"], 1.0) == f"{grown}a smaller algorithm.beta (it is 0.2)."
    assert way(0.1, [], "usual") == f"{grown}strategy.clip_norm=1."
    assert way(0.1, [], 1.0) == f"{grown}fewer rounds."
    larger = "try rounds=16, or a larger algorithm.beta (it is 0.2)."
    assert way(0.2, ["beta"], None) == larger, "no growth beyond noise: √(2 · 0.2²/3) · 2 > 0.3"
    assert way(0.2, [], None) == "try rounds=16."
    noise = {"mean": 0.1, "low": -0.1, "high": 0.3, "clients": 4.0}
    (line,) = alarms(summary(0.5, 0.6, gain=noise), config)
    assert line.endswith("; try one shared model, where nufed-data check finds clients alike.")


def test_a_loss_that_grew_for_some_and_fell_for_others_has_not_grown(config: Config) -> None:
    """As 0.618 → 0.632 of those who took part, and 0.622 → 0.584 of the new ones."""
    constant = {"accuracy": 0.9, "of": 8.0, "clients": 1.0, "low": -0.3, "high": 0.1}
    told = summary(0.5, 0.8, constant=constant, new=curves(0.5, 0.8, loss=0.584))
    told["participating"] = curves(0.5, 0.8, loss=0.632)
    told["untrained"] = {
        "participating": curves(0.5, 0.8, loss=0.618),
        "new": curves(0.5, 0.8, loss=0.622),
    }
    for each in (told, told["untrained"]):
        for group in ("participating", "new"):
            each[group]["loss_std"] = [0.0] * 3
    assert alarms(told, config)[0].endswith("; try rounds=16.")
    told["new"]["loss"][-1] = None
    assert "their loss has grown" in alarms(told, config)[0]
    rising = Rising(falls=False, rounds=13)
    assert alarms(told, config, (), rising)[0].endswith("; try rounds=13.")


def test_more_steps_are_not_named_where_their_gain_may_be_noise(config: Config) -> None:
    gain = {"mean": 0.25, "low": 0.1, "high": 0.4, "clients": 4.0}
    sure, unsure = (summary(0.5, 0.75, gain=gain | {"low": low}) for low in (0.1, -0.1))
    said = "Fine-tuning still pays at k=2: try evaluation.steps=4"
    assert still_pays(sure, config, ["alpha"]) == f"{said}, or a larger algorithm.alpha."
    assert still_pays(sure, config) == f"{said}."
    assert still_pays(unsure, config) is None
    assert "no more than noise" in alarms(unsure, config)[0]
    assert still_pays(summary(0.75, 0.5), config) is None


def test_models_that_clients_keep_are_not_asked_what_fine_tuning_gains(tmp_path: Path) -> None:
    """Of participating clients, that is: those that are new have none yet."""
    task = build(compose_config(blind(tmp_path, [1] * 4)))

    def members(clients: list[int], gain: float) -> Members:
        curve = np.tile([0.25, 0.25 + gain], (len(clients), 1))
        return Members([*clients], [15] * len(clients), {"loss": curve * 0, "accuracy": curve})

    both = {"participating": members([0, 1], 0.0), "new": members([2, 3], 0.5)}
    found = of_clients(task, Evaluation(3, both), stateful=True)
    assert found["gain"] == {"mean": 0.5, "low": 0.5, "high": 0.5, "clients": 2}
    found = of_clients(task, Evaluation(3, both), stateful=False)
    assert found["gain"]["mean"] == 0.25
    assert found["gain"]["clients"] == 4
    both["new"].curves["accuracy"][:, -1] = np.nan  # diverged: no gain of which to speak
    assert of_clients(task, Evaluation(3, both), stateful=False)["gain"]["clients"] == 2


def test_a_run_that_still_rises_says_so_first(train: Train, tmp_path: Path) -> None:
    """And not if it stopped, or its whole way is next to nothing."""
    run = train([*blind(tmp_path, [1] * 6), "algorithm.alpha=0.01", "rounds=4"])
    for row in run.rows:
        for group in {"participating", "new"} & row.keys():
            row[group]["accuracy"] = [0.2, 0.2, 0.2 + row["round"] / 10]
    (run.folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in run.rows))
    (run.folder / "clients.json").unlink()
    said = "Still rising at the last round: rounds=8 or more would tell. After 2 fine-tuning steps"
    assert headline(read_record(run.folder)).startswith(said)
    assert said in read_page(write_report(run.folder)).text
    text = io.StringIO()
    bar = ProgressBar(Terminal(width=300, force_terminal=False, file=text), run.folder)
    config = read_record(run.folder).config
    bar.on_start(RunInfo(config, Size(1, 1), 6, 0, tuple(run.rows)))
    bar.on_end(run.summary)
    before, table, _ = text.getvalue().partition("accuracy on held-out rows")
    assert table
    first = before.splitlines()[-1]
    assert first.startswith(f"{said.split('. ')[0]}; this run goes on with: nufed resume=")

    def told(summary: dict[str, Any], *, lower: bool = False) -> str:
        return str(still_rising(run.rows, summary, lower_is_better=lower))

    assert told(run.summary) == said.split(". ")[0]
    assert told(run.summary | {"stopped": "interrupted"}) == "None"
    assert told(run.summary | {"stopped_early": "a callback asked for it"}) == "None"
    assert told(run.summary, lower=True) == "None"
    for row in run.rows:
        for group in {"participating", "new"} & row.keys():
            row[group]["accuracy"] = [0.9, 0.9, 0.9 - row["round"] / 10]
    assert told(run.summary, lower=True).startswith("Still falling at the last round: rounds=8")
    for row in run.rows:
        for group in {"participating", "new"} & row.keys():
            row[group]["accuracy"] = [0.9, 0.9, 0.9 + row["round"] / 1000]
    assert told(run.summary) == "None"


def test_what_others_wrote_in_a_summary_is_of_its_type() -> None:
    assert checked_summary({"gain": {"mean": 1, "low": None}})["gain"] == {"mean": 1.0, "low": None}
    for key in ("gain", "constant"):
        with pytest.raises(Mistyped):
            checked_summary({key: {"mean": "<script>"}})


def test_rare_classes_are_noted_before_a_run(tmp_path: Path) -> None:
    chosen = blind(tmp_path, [1] * 4)
    with np.load(tmp_path / "blind.npz") as rows:
        given = dict(rows)
    given["y"][(np.arange(80) % 20 != 3) & (np.arange(80) % 20 != 19)] = 0
    np.savez(tmp_path / "blind.npz", **given)
    task = build(compose_config(chosen))
    (note,) = notes(compose_config(chosen), task, dict.fromkeys(range(4), 40))
    assert note.startswith(
        "to say class 0 always is right in 90% of the rows, and an accuracy says"
    )
    own = compose_config([*chosen, "task.metrics=accuracy"])
    assert notes(own, build(own), dict.fromkeys(range(4), 40)) == [], "it is shown already"


def test_balanced_accuracy_of_rare_classes_is_shown(train: Train, tmp_path: Path) -> None:
    """A model that says one class finds half of them, whatever part of the rows that is."""
    chosen, row = blind(tmp_path, [1] * 4), np.arange(160) % 40
    given = {"x": np.zeros((160, 2)), "y": (row % 10 == 0) & (row < 30), "test": row < 10}
    np.savez(tmp_path / "blind.npz", **given, client=np.arange(160) // 40)
    run = train([*chosen, "algorithm.alpha=0.01", "rounds=1"])
    for group in ("participating", "new"):
        assert run.rows[-1][group]["accuracy"] == pytest.approx([0.9] * 3)
        assert run.rows[-1][group]["balanced_accuracy"] == pytest.approx([0.5] * 3)
    text = io.StringIO()
    Console(file=text, width=100).print(curve_table(run.summary))
    assert "balanced accuracy, mean │ 0.500" in text.getvalue()
    said = alarms(run.summary, read_record(run.folder).config)
    assert f"{RARE}: balanced accuracy is 0.500." in said
