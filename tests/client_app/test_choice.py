"""How many steps a client takes: by hand, by a plain loop, and for clients of whom it is known."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import nn

from nufed.client_app import personalize
from nufed.client_app.choice import choose, folds, paired
from nufed.tasks.models import mlp
from nufed.tasks.objective import Objective
from nufed.tasks.rows import Rows
from tests.client_app.conftest import Small
from tests.client_app.conftest import small as small
from tests.helpers import distance

Run = Callable[..., Small]


@pytest.mark.parametrize(
    ("rows", "sizes"),
    [(2, [1] * 2), (10, [1] * 10), (25, [3] * 5 + [2] * 5), (3000, [300] * 4), (20_000, [1000])],
)
def test_each_row_is_held_out_once_or_a_thousand_are(rows: int, sizes: list[int]) -> None:
    found = folds(np.random.default_rng(0), rows)
    assert [len(fold) for fold in found] == sizes
    held = np.concatenate(found)
    assert len(set(held.tolist())) == len(held)
    assert held.min() >= 0
    assert held.max() < rows
    assert len(held) == min(rows, 1200 if rows == 3000 else 1000)


def test_the_best_k_is_taken_if_it_is_better_by_more_than_its_error() -> None:
    """Gains of 1, 2 and 3: 2 on average, √(1/3) its standard error."""
    before = np.array([4.0, 4.0, 4.0])
    found = choose(np.array([before, before - 1.0, before - [1.0, 2.0, 3.0], before]))
    assert (found.k, found.best, found.rows) == (2, 2, 3)
    assert found.gain == pytest.approx((2.0, math.sqrt(1 / 3)))
    assert found.loss == pytest.approx([4.0, 3.0, 2.0, 4.0])
    assert paired(before, before - 1).error == 0
    assert math.isnan(paired(before[:1], before[:1]).error)


@pytest.mark.parametrize(("gains", "k"), [([2.9, -0.1], 0), ([3.1, 0.1], 1), ([-1.0, -2.0], 0)])
def test_a_gain_within_its_error_is_none(gains: list[float], k: int) -> None:
    """Of two rows with gains 3 apart the mean has an error of 1.5."""
    losses = np.array([[5.0, 5.0], 5.0 - np.array(gains)])
    found = choose(losses)
    assert found.k == k
    assert found.best == int(sum(gains) > 0)


def test_rounding_is_no_gain_and_what_diverged_is_not_taken() -> None:
    assert choose(np.array([[1.0, 1.0], [1 - 1e-7, 1 - 1e-7]])).k == 0
    assert choose(np.array([[1.0, 1.0], [0.5, 0.4], [0.1, np.inf], [np.nan, 0]])).k == 1


def test_the_loss_held_out_is_that_of_a_plain_loop(small: Run) -> None:
    """torch's own optimizer on all rows but one, and its loss there, for each of eight."""
    run = small("algorithm.nu=1", "evaluation.steps=1")
    given = np.load(run.file)
    x, y = torch.from_numpy(given["x"][:12]), torch.full((12,), 2)
    test = np.arange(12) >= 8
    rows = Rows(x.numpy(), y.numpy(), None, test)
    personal = personalize(run.folder, rows, alpha=0.05, batch=None)
    losses = np.zeros((3, 8))
    for held in range(8):
        net = mlp((3, 4), 3)
        net.load_state_dict(load_file(run.folder / "model.safetensors"))
        optimizer = torch.optim.SGD(net.parameters(), lr=0.05)
        kept = [i for i in range(8) if i != held]
        for k in range(3):
            with torch.no_grad():
                loss = nn.functional.cross_entropy(net(x[held : held + 1]), y[held : held + 1])
            losses[k, held] = float(loss)
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(x[kept]), y[kept]).backward()
            optimizer.step()
    assert personal.choice is not None
    assert personal.choice.loss == pytest.approx(losses.mean(1).tolist(), abs=1e-6)
    assert personal.choice.gain.error == pytest.approx(choose(losses).gain.error, abs=1e-6)
    assert personal.how.steps == personal.choice.k == choose(losses).k > 0
    same = personalize(run.folder, rows, alpha=0.05, batch=None, steps=personal.choice.k)
    assert distance(personal.params, same.params) == 0

    def right(k: int) -> NDArray[np.bool_]:
        of = personalize(run.folder, rows, alpha=0.05, batch=None, steps=k)
        found: NDArray[np.bool_] = of.predict(x[test].numpy()).argmax(-1).numpy() == y[test].numpy()
        return found

    rise = right(personal.how.steps).astype(float) - right(0)
    error = rise.std(ddof=1) / 2
    assert personal.changes["accuracy"] == pytest.approx((rise.mean(), error), abs=1e-6)
    assert personal.gain("loss") == pytest.approx(-personal.changes["loss"].mean, abs=1e-6)


def test_who_has_the_shared_model_for_optimum_takes_no_step(small: Run) -> None:
    """Targets a little above and below what it says, once each; who differs by 3 takes steps."""
    random = np.random.default_rng(1)
    run = small("model=logistic", "algorithm.alpha=0.01", y=random.normal(size=60))
    x = random.normal(size=(8, 3, 4)).astype(np.float32).repeat(2, 0)
    rows = Rows(x, np.zeros(16))
    says = personalize(run.folder, rows, steps=0).predict(x).numpy().ravel()
    off = np.tile([0.5, -0.5], 8)
    test = np.arange(16) >= 12
    own = personalize(run.folder, Rows(x, says + off, None, test))
    other = personalize(run.folder, Rows(x, says + 3, None, test))
    assert own.choice is not None
    assert own.choice.best == own.how.steps == 0
    assert other.choice is not None
    assert other.how.steps == len(other.choice.loss) - 1 == 10
    assert other.gain("loss") > 0
    shuffled = Rows(x, np.where(test, random.permutation(says + 3), says + 3), None, test)
    again = personalize(run.folder, shuffled)
    assert again.choice == other.choice
    assert distance(again.params, other.params) == 0
    assert again.curve != other.curve


def test_whose_labels_are_permuted_takes_steps_whatever_the_test_labels_say(small: Run) -> None:
    run = small()
    x = np.load(run.file)["x"]
    said = personalize(run.folder, Rows(x, np.arange(60) % 3), steps=0).predict(x).argmax(-1)
    permuted, test = (said.numpy() + 1) % 3, np.arange(60) >= 30
    found = personalize(run.folder, Rows(x, permuted, None, test))
    lied = personalize(run.folder, Rows(x, np.where(test, said.numpy(), permuted), None, test))
    assert found.how.steps > 0
    assert found.gain("loss") > 0
    assert lied.choice == found.choice, "test rows choose nothing"
    assert lied.gain("loss") < 0


@pytest.mark.parametrize("kind", ["classes", "sequences", "reals", "own"])
def test_the_scores_of_rows_have_the_scores_for_mean(kind: str) -> None:
    torch.manual_seed(0)
    outputs, y = torch.randn(6, 5, 3), torch.randint(-1, 3, (6, 5))
    if kind == "classes":
        outputs, y = outputs[:, 0], y[:, 0].abs()
    elif kind == "reals":
        outputs, y = outputs[:, 0], torch.randn(6, 3)
    of = (lambda o, t: (o - t).abs()) if kind == "own" else None
    objective = Objective(kind in ("classes", "sequences"), of)
    if kind == "own":
        outputs, y = outputs[:, :, 0], torch.randn(6, 5)
    rows, whole = objective.row_scores(outputs, y), objective.scores(outputs, y)
    assert rows.keys() == whole.keys()
    for name, values in rows.items():
        assert values.shape == (6,)
        assert float(values.mean()) == pytest.approx(float(whole[name]), rel=1e-5)
