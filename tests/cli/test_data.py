"""`nufed-data check`: figures counted by hand, faults that were put there, a command that runs."""

import json
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image
import pyarrow as pa
import pytest
import torch
from pyarrow import parquet

from nufed.cli import run
from nufed.cli.data import main, overrides
from nufed.conf.compose import compose_config
from nufed.conf.errors import InputError
from nufed.tasks.private import Local
from nufed.tasks.task import Task, build
from tests.cli.in_process import run_here

Check = Callable[..., str]
RANDOM = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines as long as they are."""
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture
def check(capsys: pytest.CaptureFixture[str]) -> Check:
    """Return a function that runs the command and returns what it prints."""

    def called(*words: object) -> str:
        capsys.readouterr()
        main(["check", *map(str, words)])
        return capsys.readouterr().out

    return called


def write(folder: Path, sizes: list[int], **arrays: np.ndarray) -> Path:
    """Write clients of these sizes, two classes each, unless told otherwise."""
    n = sum(sizes)
    given = {
        "x": RANDOM.normal(size=(n, 5)),
        "y": np.arange(n) % 2,
        "client": np.repeat(np.arange(len(sizes)), sizes),
    }
    np.savez(folder / "mine.npz", **(given | arrays))  # type: ignore[arg-type]
    return folder / "mine.npz"


def table(output: str) -> dict[str, list[float]]:
    """Return the rows of the table: least, median and most."""
    cells = [line.strip("│").split("│") for line in output.splitlines() if line.startswith("│")]
    return {name.strip(): [float(value) for value in values] for name, *values in cells}


def trained(output: str) -> tuple[str, Task]:
    """Return the command to train, and the task that it makes."""
    lines = output.splitlines()
    (at,) = [i for i, line in enumerate(lines) if line.startswith("To train")]
    command, *words = shlex.split(lines[at + 1])
    assert command == "nufed"
    return lines[at + 1].strip(), build(compose_config(words))


def test_it_counts_clients_rows_and_classes(tmp_path: Path, check: Check) -> None:
    """Sizes 20, 24, 28, 32, 48 with a quarter held out; client 0 has three classes."""
    sizes = [20, 24, 28, 32, 48]
    y = np.arange(152) % 2
    y[0] = 2
    output = check(write(tmp_path, sizes, y=y))
    assert "152 rows of 5 clients" in output
    assert table(output) == {
        "rows": [20, 28, 48],
        "train rows": [15, 21, 36],
        "test rows": [5, 7, 12],
        "classes": [2, 2, 3],
    }
    assert "y: 3 classes; to say 1 always is right in 50%" in output
    assert "!" not in output
    command, task = trained(output)
    assert command == (
        f"nufed dataset=npz dataset.path={tmp_path / 'mine.npz'} "
        "model=logistic algorithm.batch.support=16 algorithm.batch.query=16"
    )
    assert np.percentile(task.data.partition.train, 10) == 16.2
    assert f"with a model of {sum(p.numel() for p in task.module.parameters())} par" in output


def test_faults_are_named_with_what_to_do(tmp_path: Path, check: Check) -> None:
    """Each put there by hand."""
    sizes = [40, 40, 2, 40, 3, 40]
    n = sum(sizes)
    x = RANDOM.normal(size=(n, 5))
    x[:, 1], x[:, 3] = 7.0, 5e4 * x[:, 3]
    test = np.arange(n) % 4 == 0
    test[[80, 122]] = True
    x[1], x[50] = x[0], x[0]  # a train row like a test row of client 0, and one of client 1
    y = np.where(np.arange(n) % 2, 4, 0)
    x[2] = x[0]
    y[0] = y[1] = y[50] = 0
    y[2] = 4  # the same x with another y is no duplicate
    client = np.repeat(["a", "b", "c", "d", "e", "f"], sizes)
    output = check(write(tmp_path, sizes, x=x, y=y, client=client, test=test))
    lines = [line for line in output.splitlines() if line.startswith("!")]
    wide, narrow = x[:, 3].std(), min(x[:, i].std() for i in (0, 2, 4))
    assert len(lines) == 6
    assert "1 of 5 features are constant (1); drop" in lines[0]
    assert f"feature 3 varies {wide / narrow:.2g} times as much" in lines[1]
    assert "standardise" in lines[1]
    assert "3 of 5 classes never occur (1, 2, 3)" in lines[2]
    assert "2 of 6 clients have fewer than 4 rows (c, e)" in lines[3]
    assert f"1 of {test.sum()} test rows, x and y, are among the same client's train" in lines[4]
    assert f"3 of {n} rows, x and y, are with several clients" in lines[5]
    assert "partition.test_fraction" not in output, "the split is the file's own"


def test_what_coarse_columns_have_in_common_is_chance(tmp_path: Path, check: Check) -> None:
    """Others who answer alike are no duplicates; rows copied from one client to another are.

    Of five columns: a number of thirty values, and the four categories of another.
    """
    random = np.random.default_rng(0)
    n = 2000
    coarse = np.hstack([random.integers(30, size=(n, 1)), np.eye(4)[random.integers(4, size=n)]])
    y = (random.random(n) < 0.2 + 0.5 * coarse[:, 1]).astype(int)
    assert "rows, x and y" not in check(write(tmp_path, [40] * 50, x=coarse, y=y))
    fine = random.normal(size=(n, 5))
    fine[40:60], y[40:60] = fine[:20], y[:20]
    output = check(write(tmp_path, [40] * 50, x=fine, y=y))
    assert f"! 40 of {n} rows, x and y, are with several clients" in output
    assert "test rows, x and y" not in output


def test_a_model_has_no_more_parameters_than_a_client_can_tell(
    tmp_path: Path, check: Check
) -> None:
    """The default one has 5·100 + 100 and 101 a class, 802 in all: 401 rows of two classes."""
    assert " model=" not in trained(check(write(tmp_path, [401] * 5)))[0]
    command, task = trained(check(write(tmp_path, [400] * 5)))
    assert command.endswith(" model=logistic")
    assert task.size.trained == 12
    command, task = trained(check(write(tmp_path, [400] * 5, y=RANDOM.normal(size=2000))))
    assert command.endswith(LINEAR)
    assert task.size.trained == 6, "an intercept, as clients' means differ"
    for own in ("model=mlp", "model.hidden=[9]"):
        assert "model=l" not in check(tmp_path / "mine.npz", own)


def test_of_small_clients_more_is_held_out(tmp_path: Path, check: Check) -> None:
    """Ten rows each: five to be measured on, and batches of the five that are left."""
    output = check(write(tmp_path, [10] * 3))
    command, task = trained(output)
    assert "partition.test_fraction=0.5 evaluation.new_clients=0" in command
    assert "algorithm.batch.support=5 algorithm.batch.query=5" in command
    assert task.data.partition.train.tolist() == [5, 5, 5]
    given = check(tmp_path / "mine.npz", "partition.test_fraction=0.2")
    assert given.count("partition.test_fraction=") == 1, "in the command, once: as it was given"
    assert "algorithm.batch.support=8" in given


def test_targets_that_want_scaling_or_are_no_classes(tmp_path: Path, check: Check) -> None:
    n = 200
    targets = 3000 + 2 * RANDOM.normal(size=n)
    output = check(write(tmp_path, [40] * 5, y=targets))
    assert "1 regression target from" in output
    assert f"y has mean {targets.mean():.3g} and standard deviation {targets.std():.3g}" in output
    assert "classes" not in table(output)
    output = check(write(tmp_path, [40] * 5, y=RANDOM.permutation(n)))
    assert "200 classes in 200 rows; for a regression" in output


def test_sequences_and_images_are_trained_by_a_model_for_them(tmp_path: Path, check: Check) -> None:
    tokens = RANDOM.integers(9, size=(200, 6))
    tokens[0, 0] = 8
    y = np.where(RANDOM.random((200, 6)) < 0.2, -1, tokens)
    y[:, 0] = tokens[:, 0]
    output = check(write(tmp_path, [40] * 5, x=tokens, y=y))
    assert "9 classes at each of [6] places" in output
    share = np.bincount(y[y >= 0]).max() / (y >= 0).sum()
    assert f"is right in {share:.0%}" in output
    command, task = trained(output)
    assert command.endswith("model=transformer")
    assert task.integers

    for i, label in np.ndindex(5, 2):
        folder = tmp_path / "photos" / str(i) / "ab"[label]
        folder.mkdir(parents=True)
        for k in range(20):
            pixels = RANDOM.integers(256, size=(24, 24), dtype=np.uint8)
            PIL.Image.fromarray(pixels).save(folder / f"{k}.png")
    output = check(tmp_path / "photos")
    assert "uint8 [24, 24] from 0 to 255, pixels" in output
    assert "dataset=image_folder" in trained(output)[0]
    assert trained(output)[0].endswith("model=cnn")


def test_a_feature_that_is_the_target_is_named(tmp_path: Path, check: Check) -> None:
    """A copy of y among the features, under another name: every accuracy would be 1."""
    x = RANDOM.normal(size=(200, 3))
    y = RANDOM.integers(2, size=200)
    x[:, 1] = y
    told = "! feature 1 is y, which tells the model what it is to find; drop it"
    assert told in check(write(tmp_path, [40] * 5, x=x, y=y))
    x[7, 1] = 1 - x[7, 1]
    assert "is y" not in check(write(tmp_path, [40] * 5, x=x, y=y))


LINEAR = " model=linear model.bias=true"
LABELS = RANDOM.random((200, 4)) < 0.4
TAGS = RANDOM.integers(9, size=(200, 5))
PIXELS = RANDOM.normal(size=(200, 3, 4, 4))
KINDS: dict[str, tuple[np.ndarray | None, np.ndarray, str, str]] = {
    "several labels": (None, LABELS.astype(int), "", "2 classes at each of [4] places"),
    "several labels, as booleans": (None, LABELS, "", "2 classes at each of [4] places"),
    "as many labels as features": (None, LABELS[:, [0, 1, 2, 3, 0]].astype(np.uint8), "", "[5] pl"),
    "several labels, as reals": (None, LABELS * 1.0, "", "make it integers"),
    "one-hot reals": (
        None,
        np.eye(3)[TAGS[:, 0] % 3],
        "",
        "y is one-hot; for classes, give in",
    ),
    "whole numbers": (
        None,
        TAGS[:, 0] % 3 * 1.0,
        LINEAR,
        "3 whole numbers as reals; for classes",
    ),
    "-1 and 1": (None, TAGS[:, 0] % 2 * 2.0 - 1, LINEAR, "make it integers from 0"),
    "tags of tokens": (TAGS, (TAGS + 1) % 9, " model=transformer", "9 classes at each of [5] pla"),
    "tags of reals": (None, TAGS, "", "9 classes at each of [5] places"),
    "a class a pixel": (
        RANDOM.normal(size=(200, 3, 4, 4)),
        RANDOM.integers(3, size=(200, 4, 4)),
        "",
        "",
    ),
    "several targets": (None, RANDOM.normal(size=(200, 3)), "", "3 regression targets"),
    "a column of targets": (None, RANDOM.normal(size=(200, 1)), "", "1 regression target"),
    "booleans": (None, LABELS[:, 0], " model=logistic", "2 classes"),
}


@pytest.mark.parametrize(("x", "y", "model", "said"), KINDS.values(), ids=KINDS.keys())
def test_the_command_that_is_printed_can_be_carried_out(
    tmp_path: Path, check: Check, x: np.ndarray | None, y: np.ndarray, model: str, said: str
) -> None:
    """Whatever y is: the model has the outputs that it needs, and a gradient."""
    given = {"y": y} if x is None else {"x": x, "y": y}
    output = check(write(tmp_path, [40] * 5, **given))
    assert said in output
    command, task = trained(output)
    assert command == f"nufed dataset=npz dataset.path={tmp_path / 'mine.npz'}{model}"
    params = task.initial_params()
    for p in params.values():
        p.requires_grad_()
    loss = task.loss(params, *task.batch(np.arange(8)))
    gradient = torch.autograd.grad(loss, list(params.values()))
    assert all(torch.isfinite(g).all() for g in gradient)
    assert sum(float(g.abs().sum()) for g in gradient) > 0


def test_several_labels_a_row_are_trained_by_the_command(tmp_path: Path, check: Check) -> None:
    """Two labels that follow from x are learnt; accuracy is over labels."""
    x = RANDOM.normal(size=(200, 5))
    path = write(tmp_path, [40] * 5, x=x, y=x[:, :2] > 0)
    words = shlex.split(trained(check(path))[0])[1:]
    words += ["rounds=3", "algorithm.alpha=0.3", "algorithm.beta=0.3", "evaluation.steps=2"]
    words += ["evaluation.every=3", "tracking=none", f"hydra.run.dir={tmp_path / 'run'}"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["nufed", *words])
        patch.setenv("HYDRA_FULL_ERROR", "0")
        run._prepare.cache_clear()
        done = run_here()
    assert done.status == 0, done.err
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["participating"]["accuracy"][-1] > 0.8


def test_a_file_is_known_by_its_kind(tmp_path: Path, check: Check) -> None:
    """And the keys beside it are nufed's."""
    x = RANDOM.normal(size=100)
    rows = pa.table({"age": x, "ill": np.arange(100) % 2, "client": np.arange(100) // 20})
    parquet.write_table(rows, tmp_path / "mine.parquet")
    output = check(tmp_path / "mine.parquet", "dataset.features=[age]", "dataset.target=ill")
    assert "'dataset.features=[age]'" in output, "quoted as a shell needs it"
    assert trained(output)[1].data.num_clients == 5
    assert overrides([str(tmp_path)]) == ["dataset=parquet", f"dataset.path={tmp_path}"]
    assert overrides(["dataset=digits"]) == ["dataset=digits"]
    named = ["dataset=hf", str(tmp_path)]
    assert overrides(named) == ["dataset=hf", f"dataset.path={tmp_path}"]


def hopes(output: str) -> list[str]:
    """Return what can be hoped for, a line each."""
    lines = output.splitlines()
    start = lines.index("What can be hoped for:") + 1
    return [line.strip() for line in lines[start : lines.index("", start)]]


def test_what_can_be_hoped_for_of_clients_that_are_alike(tmp_path: Path, check: Check) -> None:
    """Ten test rows: Wilson's interval at one half is ½ ± 0.98/√(10 + 1.96²) = ½ ± 0.26."""
    random = np.random.default_rng(5)
    x = random.normal(size=(1600, 5))
    y = (x.sum(1) + random.normal(size=1600) > 0).astype(int)
    first, constant, verdict = hopes(check(write(tmp_path, [40] * 40, x=x, y=y)))
    assert first == (
        "10 test rows, as the median client has, tell its accuracy to ±0.26 (95%), and those of "
        "all clients their mean to ±0.05"  # 1.96 √(¼/400)
    )
    part = build(compose_config(["dataset=npz", f"dataset.path={tmp_path / 'mine.npz'}"])).data
    right = [
        _right(y[part.partition.train_rows(c)], y[part.partition.test_rows(c)]) for c in range(40)
    ]
    assert f"gets a client an accuracy of {np.mean(right):.2f}, the mean over clients" in constant
    assert verdict.startswith("labels differ between clients no more than by chance (0.0")
    assert verdict.endswith("as far as straight lines tell: one shared model may do as well")


def _right(train: np.ndarray, test: np.ndarray) -> float:
    """Return in how many test rows the most frequent class of train rows is right."""
    count = np.bincount(train, minlength=2)
    return float(np.mean([(test == k).mean() for k in np.flatnonzero(count == count.max())]))


def test_what_can_be_hoped_for_of_clients_that_contradict_each_other(
    tmp_path: Path, check: Check
) -> None:
    """Labels are as frequent everywhere; what one client calls 1, the next calls 0."""
    random = np.random.default_rng(5)
    x = random.normal(size=(800, 5))
    sign = np.repeat(np.arange(20) % 2 * 2 - 1, 40)
    *_, verdict = hopes(check(write(tmp_path, [40] * 20, x=x, y=(sign * x.sum(1) > 0).astype(int))))
    assert "no more than by chance" in verdict
    share = float(verdict.split("; ")[1].split("%")[0])
    assert share > 90, "the mean over clients knows nothing"
    assert verdict.endswith("% of how x goes with y is a client's own: personal models may pay")
    tokens = random.integers(9, size=(800, 4))
    *_, verdict = hopes(check(write(tmp_path, [40] * 20, x=tokens)))
    assert verdict.endswith("another y at each client, which cannot be told from here")


def test_what_can_be_hoped_for_of_clients_with_classes_of_their_own(
    tmp_path: Path, check: Check
) -> None:
    """Client i has classes i and i + 1 of five: 3/5 of its labels would have to be others."""
    y = (np.repeat(np.arange(5), 40) + np.arange(200) % 2) % 5
    test = np.arange(200) % 40 >= 36
    y[[0, 2]], y[[38, 36]] = 3, 3  # at client 0: in its train rows, and all of its test rows' 0
    given = {"y": y, "test": test, "x": np.arange(200)[:, None] * 1.0}
    found = hopes(check(write(tmp_path, [40] * 5, **given), "partition.test_fraction=0.1"))
    assert found[1] == (
        "5 of 5 clients have fewer than 5 test rows (0, 1, 2, 3, 4), which tell theirs to ±0.35 at "
        "best: nothing, client by client"
    )
    assert found[3] == (
        "5 of 5 clients lack a class among their train rows (0, 1, 2, 3, 4); 5 of 5 clients lack a "
        "class among their test rows (0, 1, 2, 3, 4)"
    )
    assert found[4].startswith("labels differ between clients far more than by chance (0.5")
    assert found[4].endswith("personal models may pay")
    y[[0, 2]] = 0
    found = hopes(check(write(tmp_path, [40] * 5, **given), "partition.test_fraction=0.1"))
    assert found[4] == (
        "2 of 20 test rows are of classes that their client's train rows lack (0), which its "
        "fine-tuning never sees"
    )


def test_what_can_be_hoped_for_of_a_regression(tmp_path: Path, check: Check) -> None:
    """Means of ±1 over what has 40/39, of which 1/39 is in the means: 0.995 of 0.995 + 1.026."""
    random = np.random.default_rng(5)
    noise = random.normal(size=(50, 40))
    noise = (noise - noise.mean(1, keepdims=True)) / noise.std(1, keepdims=True)
    means = np.repeat([-1.0, 1.0], 25)[:, None]
    first, verdict = hopes(check(write(tmp_path, [40] * 50, y=(noise + means).ravel())))
    assert first.startswith("y has standard deviation 1.41; within a client it is 72% of that")
    assert verdict.startswith("y differs between clients far more than by chance (49% of its var")
    *_, verdict = hopes(check(write(tmp_path, [40] * 50, y=random.normal(size=2000))))
    assert verdict.startswith("y differs between clients no more than by chance (")


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ({}, "'dataset.input_shape=[5]' dataset.num_outputs=2 model=logistic engine"),
        (
            {"y": np.linspace(-1, 1, 160).reshape(80, 2)},
            "dataset.num_outputs=2 dataset.regression=true",
        ),
        ({"x": np.full((80, 6, 6), 9, np.uint8)}, "dataset.pixels=true"),
        (
            {"x": np.arange(160).reshape(80, 2) % 7, "y": np.arange(160).reshape(80, 2) % 3},
            "dataset.num_outputs=3 'dataset.places=[2]' dataset.num_tokens=7 model=transformer",
        ),
    ],
)
def test_of_a_supernodes_own_file_the_whole_command_is_printed(
    tmp_path: Path, check: Check, rows: dict[str, np.ndarray], said: str
) -> None:
    """The server builds its model by it, and the file fits; two things no file can know."""
    file = write(tmp_path, [40, 40], **rows)
    lines = check("dataset=private", file).splitlines()
    (at,) = [i for i, line in enumerate(lines) if line.startswith("For the run, whose server sees")]
    assert said in lines[at + 1]
    assert str(file) not in lines[at + 1], "it stays with the SuperNode"
    assert lines[at + 2] == "N is how many clients all SuperNodes have together, 2 of them here."
    words = shlex.split(lines[at + 1].replace("SERVER:PORT", "a:1").replace("=N", "=6"))[1:]
    config = compose_config(words)
    server, node = build(config), build(config, Local(str(file), 1, 3))
    assert (server.data.num_clients, server.size) == (6, node.size)
    assert node.data.partition.train.tolist() == [0, 30, 0, 0, 30, 0]
    whole = check("dataset=private", file, "dataset.num_clients=6", "engine.superlink=a:1")
    assert "dataset.num_clients=6" in whole
    assert "SERVER" not in whole
    assert "N is how many" not in whole


def test_a_file_of_one_client_needs_no_ids_where_it_is_a_supernodes(
    tmp_path: Path, check: Check
) -> None:
    np.savez(tmp_path / "own.npz", x=np.eye(40, 3), y=np.arange(40) % 2)
    assert "1 of them here" in check("dataset=private", tmp_path / "own.npz")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["none.npz"], "none.npz: no such file or folder"),
        (["mine.csv"], "say dataset=hf dataset.path=mine.csv"),
        (["mine.csv", "mine.npz"], "mine.npz: name one file"),
        (["mine.npz", "dataset.pth=3"], "dataset.pth"),
        (["mine.npz", "model=linear", "task.loss=nowhere.loss"], "task.loss=nowhere.loss"),
        (["one.npz"], "has one class only (1 of 1 clients do)"),
        (
            [
                "dataset=private",
                *(f"dataset.{k}" for k in ("input_shape=[4]", "num_outputs=2")),
                "dataset.num_clients=3",
            ],
            "the rows are with the clients; name one SuperNode's file beside it",
        ),
        (["dataset=private", "none.npz"], "data-path=none.npz: no such file"),
        (["dataset=private", "mine.npz", "mine.csv"], "name one SuperNode's file"),
        (
            ["dataset=private", "mine.npz", "dataset.num_clients=3"],
            "data-path=mine.npz: holds client 4 of the federation",
        ),
        (
            ["dataset=private", "mine.npz", "dataset.input_shape=[4]"],
            "a row x has shape [5], but the run says dataset.input_shape=[4]",
        ),
    ],
)
def test_what_cannot_be_used_ends_in_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path, [20], y=np.zeros(20, int)).rename("one.npz")
    write(tmp_path, [20] * 5)
    (tmp_path / "mine.csv").write_text("a\n")
    with pytest.raises(SystemExit) as stopped:
        main(["check", *words])
    line = capsys.readouterr().err.strip()
    assert stopped.value.code == 2
    assert "\n" not in line
    assert line.startswith("nufed-data: ")
    assert said in line


@pytest.mark.parametrize("name", ["x", "y"])
def test_numbers_beyond_float32_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    file = write(tmp_path, [12, 12, 12], **_with_one_large(name))
    with pytest.raises(SystemExit):
        main(["check", str(file)])
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith(
        f"dataset.path={file}: {name} is -1e+300 in row 7, beyond float32; scale {name} down, or "
        "say engine.precision=float64"
    )
    with pytest.raises(InputError, match=f"{name} is -1e.300 in row 7"):
        build(compose_config(["dataset=npz", f"dataset.path={file}", "engine.precision=bf16"]))


@pytest.mark.filterwarnings("error")
def test_numbers_beyond_float32_are_taken_in_float64(tmp_path: Path, check: Check) -> None:
    output = check(write(tmp_path, [12] * 3, **_with_one_large("x")), "engine.precision=float64")
    assert "feature 1 varies inf times as much as feature" in output
    assert trained(output)[1].dtype == torch.float64


def _with_one_large(name: str) -> dict[str, np.ndarray]:
    arrays = {"x": RANDOM.normal(size=(36, 5)), "y": RANDOM.normal(size=36)}
    arrays["x"][:, 0] *= 0.5
    arrays[name][(7, 1) if name == "x" else 7] = -1e300
    return arrays


def test_one_client_is_no_several(tmp_path: Path, check: Check) -> None:
    assert "96 rows of 1 client\n" in check(write(tmp_path, [96]))


def test_the_command_of_a_file_with_a_newline_in_its_name_is_one_line(
    tmp_path: Path, check: Check
) -> None:
    file = write(tmp_path, [12] * 3).rename(tmp_path / "my\ndata\t.npz")
    (line,) = [each for each in check(file).splitlines() if each.startswith("  nufed ")]
    assert r"my\ndata\t.npz" in line
    script = f"printf '%s\\0' {line.strip()}"
    done = subprocess.run(["bash", "-c", script], capture_output=True, check=True, text=True)
    _, *words = done.stdout.split("\0")[:-1]
    assert build(compose_config(words)).data.num_clients == 3
