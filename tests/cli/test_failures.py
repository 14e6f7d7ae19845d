"""One line of an error: a person's mistake in our words, and no word about a defect of ours."""

import pytest

from cli.failures import known_keys, one_line
from conf.compose import compose_config
from conf.errors import RunStopped


def line_of(*overrides: str) -> str:
    """Return the line for what composing these overrides raises."""
    with pytest.raises(Exception) as caught:  # noqa: PT011 - Hydra's and OmegaConf's, of any kind
        compose_config(list(overrides))
    line = one_line(caught.value)
    assert line is not None, f"a traceback: {caught.value!r}"
    assert "\n" not in line
    return line


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("algoritm.nu", "algorithm.nu"),
        ("evaluation.step", "evaluation.steps"),
        ("clients_per_rounds", "clients_per_round"),
        ("partition.num_client", "partition.num_clients"),
    ],
)
def test_a_mistyped_key_is_answered_with_the_nearest(typed: str, meant: str) -> None:
    line = line_of(f"{typed}=1")
    assert line.startswith(f"{typed}: no such key; did you mean {meant}")


def test_a_key_like_no_other_is_answered_with_where_to_look() -> None:
    assert line_of("zzz=1") == "zzz: no such key; see nufed --help"


def test_an_option_that_does_not_exist_is_answered_with_those_that_do() -> None:
    line = line_of("model=resnet")
    assert line.startswith("model=resnet: ")
    assert [m for m in ("cnn", "linear", "logistic", "mlp") if m not in line] == []


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("rounds=ten", "rounds=ten: must be an integer"),
        ("rounds=1.5", "rounds=1.5: must be an integer"),
        ("algorithm.alpha=big", "algorithm.alpha=big: must be above 0"),
        ("algorithm.recompute=maybe", "algorithm.recompute=maybe: must be true or false"),
        ("rounds=null", "rounds"),
        ("algorithm.batch=5", "algorithm.batch"),
        ("seed=${nothing}", "seed"),
        ("~algorithm.nu", "algorithm.nu"),
        ("~algorithm", "algorithm"),
        ("~seed", "seed"),
        ("dataset=null", "null"),
    ],
)
def test_a_value_of_the_wrong_type_is_named_by_its_key(override: str, key: str) -> None:
    """A line that does not say which key leaves one to guess among a dozen overrides."""
    assert key in line_of(override)


def test_a_key_of_another_option_is_answered_with_that_option() -> None:
    """Every option that has the key, and no other."""
    assert "dataset=quadratics" in line_of("dataset.curvature=[1,2]")
    line = line_of("dataset.path=x")
    assert [o for o in ("fashion_mnist", "mnist", "npz") if f"dataset={o}" not in line] == []
    assert "digits" not in line


def test_known_keys_can_all_be_set() -> None:
    """A suggestion that leads to the next error is worse than none."""
    keys = known_keys()
    assert keys["algorithm.nu"] == [
        "algorithm=fedavg",
        "algorithm=nufed",
        "algorithm=per_fedavg",
    ]
    for key in ("rounds", "evaluation.steps", "partition.num_clients", "algorithm.batch.query"):
        assert key in keys
        compose_config([f"{key}=2"])


def test_a_run_that_stopped_is_told_in_its_own_words() -> None:
    assert one_line(RunStopped("round 3: no client")) == "round 3: no client"


@pytest.mark.parametrize(
    "error", [RuntimeError("x"), KeyError("x"), AssertionError(), PermissionError(13, "no", "file")]
)
def test_a_defect_of_ours_keeps_its_traceback(error: Exception) -> None:
    """One line of it would hide where it happened."""
    assert one_line(error) is None
