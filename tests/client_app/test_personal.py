"""Personal models: what plain SGD gives, what the run's own evaluation measures, and no more."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from nufed.client_app import personalize
from nufed.client_app.client import evaluate
from nufed.conf.compose import of_run
from nufed.conf.errors import InputError
from nufed.tasks.datasets.digits import read as read_digits
from nufed.tasks.models import mlp
from nufed.tasks.rows import Rows
from nufed.tasks.task import build
from nufed.tasks.trained import Sizes, require_held
from tests.client_app.conftest import Small
from tests.helpers import RunResult, distance, measuring

Run = Callable[..., Small]
ROOT = Path(__file__).parents[2]


class Tied(nn.Module):
    """A lazy layer, dropout, a buffer that is drawn, and one matrix under two names."""

    def __init__(self, num_outputs: int) -> None:
        super().__init__()
        self.flat, self.first = nn.Flatten(), nn.LazyLinear(8, bias=False)
        self.second, self.again = nn.Linear(8, 8, bias=False), nn.Linear(8, 8, bias=False)
        self.again.weight = self.second.weight
        self.register_buffer("mask", torch.rand(8))
        self.last, self.drop = nn.Linear(8, num_outputs), nn.Dropout(0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = self.mask * torch.tanh(self.first(self.flat(x)))
        return self.last(self.drop(self.again(torch.tanh(self.second(hidden)))))


TIED = ("model=custom", f"model._target_={__name__}.Tied")


def one_client(small: Small, **arrays: Any) -> Rows:
    """Return the rows of client 30 alone."""
    given = np.load(small.file)
    mine = given["client"] == 30
    return Rows(**{"x": given["x"][mine], "y": given["y"][mine], **arrays})


def test_it_is_what_plain_sgd_gives(small: Run) -> None:
    """torch's own optimizer, loss and module, on the rows that are no test rows."""
    run = small()
    test = np.arange(12) >= 9
    mine = one_client(run, test=test)
    personal = personalize(run.folder, mine, steps=4, alpha=0.2, batch=None)
    net = mlp((3, 4), 3)
    net.load_state_dict(load_file(run.folder / "model.safetensors"))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.2)
    x, y = torch.from_numpy(mine.x), torch.from_numpy(mine.y)
    losses = []
    for _ in range(5):
        with torch.no_grad():
            losses.append(float(nn.functional.cross_entropy(net(x[test]), y[test])))
        before = {name: p.detach().clone() for name, p in net.named_parameters()}
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(x[~test]), y[~test]).backward()
        optimizer.step()
    assert distance(personal.params, before) < 1e-6
    assert personal.curve["loss"] == pytest.approx(losses, abs=1e-6)
    right = (personal.module(x[test]).argmax(-1) == y[test]).double().mean()
    assert personal.curve["accuracy"][-1] == pytest.approx(float(right))


@pytest.mark.parametrize("model", [(), TIED], ids=["mlp", "dropout"])
def test_the_curve_is_the_one_that_the_run_measures(small: Run, model: tuple[str, ...]) -> None:
    """Bit by bit, from the file that the run was trained on: none of its train rows is held out."""
    run = small("algorithm.nu=3", "evaluation.batch=4", *model)
    config = of_run(run.folder, "run")
    task = build(config)
    params = task.load_state(load_file(run.folder / "model.safetensors"))
    job = measuring(config, [2], steps=3, alpha=0.1, batch=4)
    personal = personalize(run.folder, run.file, client=30, steps=3)
    assert personal.curve == evaluate(task, params, job, 2)
    assert personalize(run.folder, client="30", steps=3).curve == personal.curve, "its own data"
    assert personal.train_rows.tolist() == task.data.partition.train_rows(2).tolist()
    assert personal.test_rows.tolist() == task.data.partition.test_rows(2).tolist()
    assert not set(personal.train_rows) & set(personal.test_rows)


def test_the_run_folder_is_all_it_takes(small: Run, tmp_path: Path) -> None:
    """Copied to where neither the run's data nor what was prepared of them is; and no Flower."""
    run = small()
    there = tmp_path / "there"
    there.mkdir()
    for name in ("config.yaml", "model.safetensors"):
        shutil.copy(run.folder / name, there)
    here = personalize(run.folder, run.file, client=30)
    np.savez(there / "own.npz", **np.load(run.file))
    run.file.unlink()
    code = (
        "import sys; from client_app import personalize; "
        "personal = personalize('.', 'own.npz', client=30); "
        "assert 'flwr' not in sys.modules; print(personal.curve)"
    )
    environment = os.environ | {"NUFED_DATA": str(tmp_path / "none"), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=there, env=environment, capture_output=True, text=True
    )
    assert done.stdout.strip() == str(here.curve), done.stderr
    assert not (tmp_path / "none").exists()


def test_clients_that_never_trained_are_served(
    train: Callable[..., RunResult], tmp_path: Path
) -> None:
    """Real digits, of pairs that no other client has: which of the ten, and which is which."""
    digits, random = read_digits(), np.random.default_rng(0)
    ours = random.random(len(digits.y)) < 0.3
    pairs = [(i % 10, (i + 1 + i // 10) % 10) for i in range(30)]
    held = [random.choice(np.flatnonzero(np.isin(digits.y, p) & ~ours), 40) for p in pairs]
    rows, client = np.concatenate(held), np.repeat(np.arange(30), 40)
    np.savez(tmp_path / "others.npz", x=digits.x[rows], y=digits.y[rows], client=client)
    others = ["dataset=npz", f"dataset.path={tmp_path / 'others.npz'}", "evaluation.new_clients=0"]
    short = [
        "rounds=20",
        "evaluation.every=20",
        "clients_per_round=5",
        "algorithm.mode=first_order",
    ]
    run = train([*others, *short])
    for pair in ((0, 4), (2, 7), (1, 6)):
        mine = ours & np.isin(digits.y, pair)
        curve = personalize(run.folder, Rows(digits.x[mine], digits.y[mine])).curve
        assert curve["accuracy"][0] < 0.7
        assert curve["accuracy"][-1] > 0.85
        assert curve["loss"][-1] < curve["loss"][0] / 2


def test_of_a_fedavg_run_twice_the_steps_that_it_evaluates_are_tried(small: Run) -> None:
    run = small("algorithm=fedavg", "evaluation.steps=2")
    choice = personalize(run.folder, one_client(run)).choice
    assert choice is not None
    assert len(choice.loss) == 5


def test_rows_are_held_out_as_asked(small: Run) -> None:
    run = small()
    mine = one_client(run)

    def sides(rows: Rows = mine, **options: Any) -> tuple[int, int]:
        personal = personalize(run.folder, rows, steps=2, **options)
        assert sorted({*personal.train_rows, *personal.test_rows}) == list(range(len(rows.y)))
        assert bool(personal.curve) == bool(len(personal.test_rows))
        return len(personal.train_rows), len(personal.test_rows)

    assert sides() == (9, 3)
    assert sides(test_fraction=0.5) == (6, 6)
    assert sides(test_fraction=0) == (12, 0)
    assert sides(test_fraction=0.001) == (11, 1)
    assert sides(Rows(mine.x[:2], mine.y[:2])) == (1, 1)
    assert sides(Rows(mine.x[:1], mine.y[:1])) == (1, 0)
    assert sides(mine._replace(test=np.arange(12) < 5)) == (7, 5)


def test_fewer_classes_than_the_model_has_are_fine(small: Run) -> None:
    """And the model keeps its outputs."""
    run = small()
    mine = one_client(run)
    only = mine.y == 0
    personal = personalize(run.folder, Rows(mine.x[only], mine.y[only]))
    assert personal.module(torch.from_numpy(mine.x)).shape == (12, 3)
    assert personal.curve["loss"][-1] < personal.curve["loss"][0]


def test_a_regression_is_personal_too(small: Run) -> None:
    y = np.random.default_rng(1).normal(size=(60, 2))
    run = small("model=logistic", "algorithm.alpha=0.01", y=y)
    personal = personalize(run.folder, run.file, client=20, batch=None)
    assert personal.curve.keys() == {"loss", "mae"}
    x = torch.from_numpy(np.load(run.file)["x"][personal.test_rows])
    with torch.no_grad():
        off = personal.module(x).numpy() - y[personal.test_rows]
    k = personal.how.steps
    assert personal.curve["loss"][k] == pytest.approx((off**2).mean() / 2, rel=1e-5)
    assert personal.curve["mae"][k] == pytest.approx(np.abs(off).mean(), rel=1e-5)


@pytest.mark.parametrize("model", [(), TIED], ids=["mlp", "tied"])
def test_the_saved_model_is_the_personal_one(
    small: Run, tmp_path: Path, model: tuple[str, ...]
) -> None:
    """Loaded by torch alone into a module that was drawn otherwise; the metadata say what it is."""
    run = small(*model, "name=ours")
    mine = one_client(run)
    personal = personalize(run.folder, mine, steps=2, batch=3)
    personal.save(tmp_path / "personal.safetensors")
    net = Tied(3) if model else mlp((3, 4), 3)
    net.load_state_dict(load_file(tmp_path / "personal.safetensors"))
    x = torch.from_numpy(mine.x)
    assert torch.equal(net.eval()(x), personal.module(x))
    with safe_open(tmp_path / "personal.safetensors", "pt") as file:
        facts = file.metadata()
    assert facts["run"] == f"ours/{run.folder.name}"
    assert (facts["steps"], facts["alpha"], facts["batch"]) == ("2", "0.1", "3")
    assert facts.keys() >= {"nufed", "seed"}


def test_a_model_of_an_older_version_needs_its_data(
    small: Run, caplog: pytest.LogCaptureFixture
) -> None:
    """It does not say what it is for: then the data do, where they are."""
    run = small()
    file = run.folder / "model.safetensors"
    now = personalize(run.folder, one_client(run)).curve
    save_file(load_file(file), file)
    mine = one_client(run)
    assert personalize(run.folder, mine).curve == now
    assert personalize(file, mine).curve == now
    assert "held out" not in caplog.text
    personalize(run.folder, run.file, client=30)
    assert "an older version held out other rows: a client that trained it is" in caplog.text
    run.file.unlink()
    with pytest.raises(InputError, match=r"so its data are needed .*no such file"):
        personalize(run.folder, mine)


BAD: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "shape": ({"x": np.zeros((12, 5))}, {}, "a row x has shape [5], the run's had [3, 4]"),
    "class": ({"y": np.arange(12)}, {}, "class 11, but the model was trained on the classes 0 … 2"),
    "targets": ({"y": np.zeros(12)}, {}, "y is float64, but the model was trained on classes"),
    "clients": ({"client": np.arange(12)}, {}, "the rows of 12 clients; name one, as client=0"),
    "client": ({}, {"client": 4}, "client=4: data has no rows of it; it has client 0"),
    "two splits": ({"test": np.arange(12) > 6}, {"test_fraction": 0.5}, "has a split of its own"),
    "all test": ({"test": np.ones(12, bool)}, {}, "client 0 has no train row"),
    "NaN": ({"x": np.full((12, 3, 4), np.nan)}, {}, "loss on the rows held out is not finite"),
    "pixels": ({"x": np.ones((12, 3, 4), np.uint8)}, {}, "x is uint8, which are pixels"),
    "fraction": ({}, {"test_fraction": 1.0}, "test_fraction=1.0: must be from 0"),
    "steps": ({}, {"steps": -1}, "steps=-1: must be from 0 to 100000"),
    "steps without end": ({}, {"steps": 10**12}, "steps=1000000000000: must be from 0 to 100000"),
    "rows without end": (
        {},
        {"batch": 10**12},
        "batch=1000000000000: must be fewer: 10 steps",
    ),
    "alpha": ({}, {"alpha": 0.0}, "alpha=0.0: must be above 0"),
    "large": ({}, {"alpha": 1e30, "steps": 5}, "is not finite after step 1; try alpha=1e+29"),
    "batch": ({}, {"batch": 0}, "batch=0: must be at least 1"),
    "device": ({}, {"device": "tpu"}, "device=tpu: must be cpu, cuda"),
}


def test_what_cannot_be_used_is_named_in_one_line(small: Run) -> None:
    run = small()
    for arrays, options, words in BAD.values():
        with pytest.raises(InputError) as caught:
            personalize(run.folder, one_client(run, **arrays), **options)
        assert words in str(caught.value)
        assert "\n" not in str(caught.value)


def test_learned_step_sizes_are_not_given_others(small: Run) -> None:
    run = small("algorithm=meta_sgd", "algorithm.nu=1")
    with pytest.raises(InputError, match=r"^alpha=0.2: meta_sgd learned its step sizes of fine-t"):
        personalize(run.folder, one_client(run), alpha=0.2)
    assert personalize(run.folder, one_client(run)).curve["loss"]


def test_who_keeps_a_state_is_told_that_it_begins_without(
    small: Run, caplog: pytest.LogCaptureFixture
) -> None:
    run = small("algorithm=ditto")
    personalize(run.folder, one_client(run))
    assert "what clients of ditto kept of their training is not read" in caplog.text


def test_a_run_that_cannot_be_used_is_named_in_one_line(small: Run, tmp_path: Path) -> None:
    run = small()
    mine = one_client(run)

    def refusal(checkpoint: Path) -> str:
        with pytest.raises(InputError) as caught:
            personalize(checkpoint, mine)
        return str(caught.value)

    assert refusal(tmp_path / "no") == f"checkpoint={tmp_path / 'no'}: is not there; " + (
        "name the folder of a run"
    )
    assert "it has no config.yaml" in refusal(tmp_path)
    other = run.folder / "config.yaml"
    text = other.read_text()
    other.write_text(text.replace("- 100", "- 50"))
    assert "is not of the model that config.yaml describes" in refusal(run.folder)
    other.write_text(text)
    model = run.folder / "model.safetensors"
    model.write_bytes(model.read_bytes()[:-9])
    assert "model.safetensors: cannot be read" in refusal(run.folder)
    model.unlink()
    assert "has no model.safetensors; the run has not ended yet" in refusal(run.folder)


def claim(run: Small, **sizes: Any) -> None:
    """Have the run's model say that it is for other data than it is."""
    file = run.folder / "model.safetensors"
    with safe_open(file, "pt") as archive:
        said = json.loads(archive.metadata()["data"])
    save_file(load_file(file), file, {"data": json.dumps(said | sizes)})


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("input_shape", "a row x has shape [3, 4], the run's had [1, 1, 1, 1, 1, 1, 1, 1, … "),
        ("places", "a row y has shape [], the run's had [1, 1, 1, 1, 1, 1, 1, 1, … "),
    ],
)
def test_a_shape_without_end_is_told_in_short(small: Run, key: str, words: str) -> None:
    run = small()
    claim(run, **{key: [1] * 100_000})
    with pytest.raises(InputError, match=re.escape(f"{words}100,000 sizes]; ")) as caught:
        personalize(run.folder, one_client(run))
    assert len(str(caught.value)) < 300


def test_more_outputs_than_the_file_has_numbers_are_not_made(small: Run) -> None:
    """A model of 2^31 outputs would take a terabyte."""
    run = small()
    claim(run, num_outputs=1 << 31)
    with pytest.raises(InputError, match=r"says num_outputs=2,147,483,648, but holds [\d,]+ numb"):
        personalize(run.folder, one_client(run))


def test_more_tokens_than_the_file_has_numbers_are_not_embedded(small: Run) -> None:
    """A model that embeds none takes integers as numbers, however large."""
    x = np.random.default_rng(0).integers(0, 9, (60, 5))
    run = small("model=transformer", "model.width=8", x=x)
    assert personalize(run.folder, one_client(run), steps=1).how.steps == 1
    claim(run, num_tokens=1 << 31)
    with pytest.raises(InputError, match=r"says num_tokens=2,147,483,648, but holds [\d,]+ numb"):
        personalize(run.folder, one_client(run))
    steps = ("algorithm.alpha=1e-9", "algorithm.beta=1e-9")
    run = small("model=logistic", *steps, x=x * 1000)
    assert personalize(run.folder, one_client(run), steps=0).how.steps == 0


def test_targets_may_share_their_parameters() -> None:
    """An image from an image by a few weights: more targets than numbers in the file."""
    state = {"kernel": torch.zeros(3, 3)}
    require_held(Sizes((28, 28), 784, True, False), state, embeds=False, name="a")
    with pytest.raises(InputError, match="a says num_outputs=784, but holds 9 numbers"):
        require_held(Sizes((28, 28), 784, False, False), state, embeds=False, name="a")


def test_ones_own_model_has_to_be_where_one_is(small: Run) -> None:
    run = small()
    file = run.folder / "config.yaml"
    file.write_text(file.read_text().replace("nufed.tasks.models.mlp", "mine_elsewhere.Net"))
    with pytest.raises(InputError, match="No module named 'mine_elsewhere'; be where its file is"):
        personalize(run.folder, one_client(run), trust="mine_elsewhere")


def test_bytes_are_not_confused_with_numbers(small: Run) -> None:
    """Trained on uint8, which is divided by 255: the same numbers as floats would be too large."""
    run = small(pixels=True)
    mine = one_client(run)
    curve = personalize(run.folder, mine).curve
    scaled = mine._replace(x=(mine.x / 255).astype(np.float32))
    assert personalize(run.folder, scaled).curve["loss"] == pytest.approx(curve["loss"], rel=1e-5)
    with pytest.raises(InputError, match="uint8 or divided by 255"):
        personalize(run.folder, mine._replace(x=mine.x.astype(np.float32)))


def test_clients_that_have_names_may_be_numbered(small: Run) -> None:
    """As reports number them; where ids are integers, these are meant."""
    run = small()
    mine = one_client(run)
    both = Rows(
        np.concatenate([mine.x, mine.x[::-1]]),
        np.concatenate([mine.y, mine.y[::-1]]),
        np.repeat(["bob", "ann"], len(mine.y)),
    )
    by_number, by_name = (personalize(run.folder, both, client=c) for c in (1, "bob"))
    assert by_number.curve == by_name.curve != personalize(run.folder, both, client=0).curve


@pytest.mark.parametrize(
    ("ids", "typed"),
    [
        (["a,b", "a=b", "x/y"], ["a,b", "a=b", "x/y"]),
        (["<b>", "\u202eab", "'q'"], ["<b>", "\u202eab", "'q'"]),
        (["2", "ann", "bob"], [2, "ann", "bob"]),
        ([2**63, 2**63 + 11, 2**64 - 1], [2**63, str(2**63 + 11), 2**64 - 1]),
        ([8.0, 13.0, 89.0], [8, "13", "89"]),
    ],
    ids=["commas", "signs", "a number among names", "64 bits", "whole reals"],
)
def test_a_client_is_named_by_its_id(small: Run, ids: list[Any], typed: list[Any]) -> None:
    """Whatever its type, as in the file; each has the curve of its own rows."""
    run = small()
    x, y = (np.concatenate([a, a[::-1], a[6:], a[:6]]) for a in one_client(run)[:2])
    client = np.repeat(np.array(ids, np.uint64 if 2**63 in ids else None), len(y) // 3)
    order = np.random.default_rng(0).permutation(len(y))
    np.savez(run.folder / "own.npz", x=x[order], y=y[order], client=client[order])
    curves = list[Any]()
    for number, each in enumerate(typed):
        personal = personalize(run.folder, run.folder / "own.npz", client=each)
        mine = [*personal.train_rows, *personal.test_rows]
        assert set(client[order][mine].tolist()) == {ids[number]}
        curves.append(personal.curve["loss"])
    assert curves[0] != curves[1]
    with pytest.raises(InputError, match="has no rows of it; it has client "):
        personalize(run.folder, run.folder / "own.npz", client=9)


def test_predictions_are_those_of_the_module(small: Run) -> None:
    """Pixels are divided as in training."""
    run = small(pixels=True)
    mine = one_client(run)
    personal = personalize(run.folder, mine)
    with torch.no_grad():
        expected = personal.module(torch.from_numpy(mine.x).float() / 255)
    assert torch.equal(personal.predict(mine.x), expected)
