"""The overrides of a configuration compose it again, whatever is in it."""

import shlex

import pytest

from nufed.conf.command import differing_keys, overrides_of, written
from nufed.conf.compose import CONFIG_DIR, compose_config

ADAM = "strategy.optimizer={_target_: torch.optim.Adam, _partial_: true, lr: 0.01}"
TYPED = {
    "nothing": [],
    "seed, which others follow": ["seed=3"],
    "another option": ["algorithm=per_fedavg", "algorithm.alpha=1e-5"],
    "a seed of its own": ["partition=dirichlet", "partition.seed=9"],
    "a data set that chooses": ["dataset=quadratics", "engine.precision=float64"],
    "a path": ["dataset=npz", "dataset.path='/tmp/a b/x,y={1}.npz'"],
    "a model of one's own": ["model=custom", "model._target_=mine.Net", "+model.width=64"],
    "a rule": ["rule=krum", "rule.num_malicious=1"],
    "a server that is put together": ["sampler=available", "optimizer=fedyogi", "schedule=cosine"],
    "clients by their ids": ["sampler=available", "sampler.p={amy: 0.5, 3: 1}"],
    "a nested group": [ADAM, "clients_per_round=3"],
    "null": ["evaluation.batch=null", "checkpoint.every=null"],
    "a list": ["evaluation.new_clients=[0,7]"],
    "words that are none": ["name='null'", "device='1'"],
    "quotes": ["name='it\\'s \"<b>\"'"],
    "no tracker": ["tracking=none"],
    "several trackers": ["tracking=[trackio,tensorboard]", "tracking.trackio.project=mine"],
    "a tracker of one's own": ["+tracking.mine={_target_: mine.Tracker, file: a}"],
    "a callback of one's own": ["callbacks={mine: {_target_: mine.Callback}}"],
    "privacy": ["privacy=central_dp", "privacy.max_epsilon=2.5"],
    "an engine that sets other groups": ["engine=deployment", "engine.superlink=localhost:9093"],
    "keys that came and went": [
        "partition.partitioner._target_=mine.Partitioner",
        "~partition.partitioner.seed",
        "+partition.partitioner.cuts=[1,2.5]",
    ],
}


@pytest.mark.parametrize("typed", TYPED.values(), ids=TYPED)
def test_what_is_composed_can_be_typed(typed: list[str]) -> None:
    config = compose_config(typed)
    words = overrides_of(config)
    assert words is not None
    assert compose_config(shlex.split(shlex.join(words))) == config
    assert len(words) <= len(typed), words


@pytest.mark.parametrize(
    "experiment", sorted(file.stem for file in (CONFIG_DIR / "experiment").glob("*.yaml"))
)
def test_an_experiment_can_be_typed_without_its_file(experiment: str) -> None:
    config = compose_config([f"experiment={experiment}"])
    words = overrides_of(config)
    assert words is not None
    assert compose_config(words) == config
    assert not any(word.startswith("experiment") for word in words)


def test_a_resumed_run_is_repeated_from_its_start() -> None:
    config = compose_config(["resume=runs/there", "rounds=7"])
    assert overrides_of(config) == ["rounds=7"]


def test_a_value_that_no_override_can_say_is_owned_up_to() -> None:
    config = compose_config(["model=custom", "model._target_=mine.Net"])
    config.model["a key=with a sign"] = 1
    assert overrides_of(config) is None


def test_keys_that_differ_come_with_both_values() -> None:
    other = compose_config(["algorithm=fedavg", ADAM])
    found = differing_keys(other, compose_config([]))
    assert found["algorithm.nu"] == (0, 5)
    assert found["name"] == ("digits-fedavg", "digits-nufed")
    assert found["strategy.optimizer.lr"] == (0.01, None)
    assert "rounds" not in found


def test_values_are_written_as_hydra_reads_them() -> None:
    assert written({"a": [1, 2.5, None, True], "b": "x y"}) == '{a:[1,2.5,null,true],b:"x y"}'
