"""A key that does not exist: what is near is named only if it is near."""

import pytest

from nufed.conf.compose import compose_config
from nufed.conf.errors import InputError
from nufed.conf.keys import known_keys, no_such_key

FAMILY = ("fedavg", "nufed", "per_fedavg")


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("algoritm.nu", "algorithm.nu"),
        ("evaluation.step", "evaluation.steps"),
        ("clients_per_rounds", "clients_per_round"),
        ("partition.num_client", "partition.num_clients"),
        ("algorithm.Alpha", "algorithm.alpha"),
        ("algorithm.NU", "algorithm.nu"),
        ("algorithm.ta", "algorithm.tau"),
        ("algorithm.query", "algorithm.batch.query"),
        ("partition.alpha", "partition.partitioner.alpha"),
        ("engine.chunk", "engine.chunk_size"),
        ("chunk_sizes", "engine.chunk_size"),
        ("nu", "algorithm.nu"),
        ("hydra.run.dirr", "hydra.run.dir"),
        ("task.los", "task.loss"),
    ],
)
def test_a_mistyped_key_is_answered_with_the_nearest(typed: str, meant: str) -> None:
    assert no_such_key(typed) == f"{typed}: no such key; did you mean {meant}?"


@pytest.mark.parametrize(
    ("typed", "group"),
    [
        ("algorithm.lr", "algorithm has name, "),
        ("algorithm.un", "algorithm has name, "),
        ("algorithm.nested.xyz", "algorithm has name, "),
        ("algorithm.batch.qu", "algorithm.batch has support, query, hessian"),
        ("partition.n", "partition has name, num_clients, test_fraction, stratified, seed, "),
        ("evaluation.k", "evaluation has every, steps, batch, new_clients, "),
        ("privacy.z", "privacy has name, clipping_norm, noise_multiplier, delta, max_epsilon"),
        ("server.t", "server has join_timeout, "),
        ("diagnostics.e", "diagnostics has every"),
        ("engine.mu", "engine has name, launcher, precision, "),
    ],
)
def test_a_key_like_no_other_is_answered_with_those_of_its_group(typed: str, group: str) -> None:
    """A short one is like another in nothing but its group: mu is no mistyped nu."""
    assert no_such_key(typed).startswith(f"{typed}: no such key; {group}")


@pytest.mark.parametrize("typed", ["zzz", "xyz", "foo.bar", "hydra.foo"])
def test_a_key_like_no_other_is_answered_with_where_to_look(typed: str) -> None:
    assert no_such_key(typed) == f"{typed}: no such key; see nufed --help"


@pytest.mark.parametrize("typed", ["model.dropout", "strategy.mu", "partition.partitioner.mu"])
def test_an_argument_of_ones_own_can_be_added(typed: str) -> None:
    assert no_such_key(typed).endswith(f"; an argument of your own is added by +{typed}=…")
    compose_config([f"+{typed}=1"])


def test_a_key_of_another_option_is_answered_with_that_option() -> None:
    """Every option that has the key, and no other."""
    assert "dataset=quadratics" in no_such_key("dataset.curvature")
    line = no_such_key("dataset.path")
    assert [o for o in ("fashion_mnist", "mnist", "npz") if f"dataset={o}" not in line] == []
    assert "digits" not in line


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["+engine.mu=1"], "engine.mu: no such key; engine has "),
        (["+engine.workres=2"], "engine.workres: no such key; did you mean engine.workers?"),
        (["engine=ray", "+engine.workers=2"], "engine.workers: no such key with the chosen opti"),
    ],
)
def test_a_key_that_no_engine_reads_is_refused(overrides: list[str], told: str) -> None:
    """It would be ignored without a word."""
    with pytest.raises(InputError, match=f"^{told.replace('?', '.')}"):
        compose_config(overrides)


def test_known_keys_can_all_be_set() -> None:
    """A suggestion that leads to the next error is worse than none."""
    keys = known_keys()
    assert {"algorithm=fedavg", "algorithm=nufed"} < set(keys["algorithm.nu"])
    assert keys["algorithm.recompute"] == [f"algorithm={name}" for name in FAMILY]
    for key in ("rounds", "evaluation.steps", "partition.num_clients", "algorithm.batch.query"):
        assert key in keys
        compose_config([f"{key}=2"])
