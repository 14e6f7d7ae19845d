"""One line of an error: a person's mistake in our words, and no word about a defect of ours."""

import pytest

from nufed.cli.failures import one_line
from nufed.client_app.algorithm import algorithm_of
from nufed.conf.compose import compose_config
from nufed.conf.errors import RunStopped


def line_of(*overrides: str) -> str:
    """Return the line for what composing these overrides raises."""
    with pytest.raises(Exception) as caught:  # noqa: PT011 - Hydra's and OmegaConf's, of any kind
        algorithm_of(compose_config(list(overrides)).algorithm)
    line = one_line(caught.value)
    assert line is not None, f"a traceback: {caught.value!r}"
    assert "\n" not in line
    return line


@pytest.mark.parametrize("sign", ["", "+", "++", "~"])
@pytest.mark.parametrize(
    ("key", "told"),
    [
        ("algorithm.xi", "algorithm.xi: no such key; algorithm has name, "),
        ("algorithm.nuu", "algorithm.nuu: no such key; did you mean algorithm.nu?"),
        ("algorithm.batch.size", "algorithm.batch.size: no such key; algorithm.batch has support"),
        ("server.mu", "server.mu: no such key; server has join_timeout, round_timeout, "),
        ("xi", "xi: no such key; see nufed --help"),
    ],
)
def test_a_sign_does_not_change_the_answer(sign: str, key: str, told: str) -> None:
    """A key can be typed to be set, added, set or added, and taken away."""
    assert line_of(f"{sign}{key}" if sign == "~" else f"{sign}{key}=1").startswith(told)


def test_a_key_that_is_there_needs_no_sign() -> None:
    told = "+algorithm.nu: is there already; write algorithm.nu=… without the +"
    assert line_of("+algorithm.nu=3") == told


def test_an_option_that_does_not_exist_is_answered_with_those_that_do() -> None:
    line = line_of("model=resnet")
    assert line.startswith("model=resnet: ")
    assert [m for m in ("cnn", "linear", "logistic", "mlp") if m not in line] == []


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("rounds=ten", "rounds=ten: must be an integer"),
        ("rounds=1.5", "rounds=1.5: must be an integer"),
        ("algorithm.alpha=big", "algorithm.alpha=big: must be a number"),
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


def test_a_run_that_stopped_is_told_in_its_own_words() -> None:
    assert one_line(RunStopped("round 3: no client")) == "round 3: no client"


@pytest.mark.parametrize(
    "error", [RuntimeError("x"), KeyError("x"), AssertionError(), PermissionError(13, "no", "file")]
)
def test_a_defect_of_ours_keeps_its_traceback(error: Exception) -> None:
    """One line of it would hide where it happened."""
    assert one_line(error) is None
