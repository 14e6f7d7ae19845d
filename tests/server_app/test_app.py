"""Setting a run up: values that only the run itself can judge, and the folder that it may have."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from nufed.conf.compose import compose_config
from nufed.conf.errors import InputError
from nufed.server_app.app import make_strategy, notes
from nufed.server_app.run_folder import require_free
from nufed.strategies.roster import Roster
from nufed.tasks.partitions import Partition
from nufed.tasks.task import build
from tests.helpers import RunResult

SGD = "strategy.optimizer={{_target_: torch.optim.SGD, _partial_: true, lr: {}}}"


@pytest.mark.parametrize(
    ("override", "words"),
    [
        (SGD.format("-1"), "strategy.optimizer: Invalid learning rate: -1"),
        (SGD.format("abc"), "strategy.optimizer: "),
        (SGD.format("1, foo: 1"), "foo"),
        (SGD.format("1").replace("SGD", "Nothing"), "torch.optim.Nothing"),
        ("strategy.weighting=fair", "strategy.weighting=fair: must be uniform | examples"),
        ("+strategy.foo=1", "foo"),
        ("strategy._target_=nothing.Here", "nothing.Here"),
    ],
)
def test_a_strategy_that_cannot_be_made_is_named_in_one_line(override: str, words: str) -> None:
    with pytest.raises(InputError) as caught:
        make_strategy(compose_config([override]), Roster(0, 0.2, Partition.elsewhere(5)))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("dataset.seed=-1", "seed=-1"),
        ("dataset.curvature=5", "curvature=5"),
        ("dataset.curvature=[2,1]", "dataset.curvature=[2, 1]: must be [smallest, largest]"),
        ("dataset.dimension=2.5", "dimension=2.5"),
        ("dataset.num_clients=0", "dataset.num_clients=0: must be at least 1"),
        ("dataset._target_=nothing.read", "dataset._target_=nothing.read"),
    ],
)
def test_arguments_that_a_data_set_cannot_use_are_named_in_one_line(
    override: str, words: str
) -> None:
    with pytest.raises(InputError) as caught:
        build(compose_config(["dataset=quadratics", override]))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_is_free_if_it_can_be_written_and_holds_no_run(tmp_path: Path) -> None:
    require_free(tmp_path / "new" / "run")
    assert list((tmp_path / "new" / "run").iterdir()) == []
    (tmp_path / "metrics.jsonl").write_text("")
    with pytest.raises(InputError, match="holds a run already"):
        require_free(tmp_path)
    for unwritable in (
        tmp_path / "metrics.jsonl",
        tmp_path / "metrics.jsonl" / "run",
        Path("/proc"),
    ):
        with pytest.raises(InputError, match=r"cannot be written \(.+\); name another folder"):
            require_free(unwritable)


def test_small_clients_are_named_with_the_largest_batch() -> None:
    config = compose_config(["algorithm.batch.query=30", "evaluation.batch=null"])
    task = build(config)
    assert notes(config, task, {0: 30, 1: 90}) == []
    (note,) = notes(config, task, {0: 30, 4: 29, 7: 3})
    assert "2 of 3 clients have fewer train rows than a batch of 30 (client 4: 29)" in note


def test_a_client_whose_own_word_gives_it_most_of_the_weight_is_named() -> None:
    shapes = ["dataset.input_shape=[4]", "dataset.num_outputs=3", "dataset.num_clients=3"]
    by_rows = compose_config(["dataset=private", *shapes, "strategy.weighting=examples"])
    task = build(by_rows)
    (note,) = notes(by_rows, task, {0: 30, 1: 90, 2: 40})
    assert note.startswith("client 1 says that it has 90 train rows, and has 56% of the weight")
    (note,) = notes(by_rows, task, {0: 30, 1: 10**9, 2: 30})
    assert note.startswith("client 1 says that it has 1000000000 train rows, and has 60% of the")
    assert notes(by_rows, task, {0: 80, 1: 90, 2: 40}) == []
    uniform = compose_config(["dataset=private", *shapes])
    assert notes(uniform, task, {0: 30, 1: 90, 2: 40}) == []
    here = compose_config(["strategy.weighting=examples"])
    assert notes(here, build(here), {0: 30, 1: 90, 2: 40}) == []


def test_labels_with_gaps_are_warned_of(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    train: Callable[..., RunResult],
) -> None:
    """By the run itself, once: a model of many outputs takes long to come to anything."""
    monkeypatch.setenv("NUFED_DATA", str(tmp_path / "data"))
    y = np.where(np.arange(40) % 2, 300, 3)
    client = np.repeat(np.arange(2), 20)
    np.savez(tmp_path / "mine.npz", x=np.random.default_rng(0).random((40, 2)), y=y, client=client)
    path = f"dataset.path={tmp_path / 'mine.npz'}"
    sizes = ["algorithm.alpha=0.1", "algorithm.beta=0.1", "evaluation.new_clients=0"]
    train(["dataset=npz", path, "rounds=0", "model.hidden=[2]", *sizes])
    told = "dataset=npz: y goes up to class 300 but holds 2 classes: the model has 301 outputs"
    assert caplog.text.count(told) == 1
