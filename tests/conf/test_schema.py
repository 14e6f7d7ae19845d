"""The schema: every impossible value is named, and what travels arrives as it was sent."""

from dataclasses import replace
from typing import Any

import pytest
from omegaconf import OmegaConf

from nufed.client_app.algorithm import algorithm_of
from nufed.conf.compose import compose_config, from_run_config
from nufed.conf.convert import read_config, to_json
from nufed.conf.errors import InputError

# Override, the key and value that the line must name, and what it must say is allowed.
OUT_OF_RANGE = [
    ("rounds=-1", "rounds=-1", "0 or more"),
    ("clients_per_round=0", "clients_per_round=0", "at least 1"),
    ("fraction=0", "fraction=0.0", "above 0 and at most 1"),
    ("fraction=1.5", "fraction=1.5", "above 0 and at most 1"),
    ("fraction=nan", "fraction=nan", "above 0 and at most 1"),
    ("seed=-1", "seed=-1", "0 or more"),
    ("seed=99999999999999999999", "seed=99999999999999999999", ""),
    ("algorithm.nu=-1", "algorithm.nu=-1", "0 or more (0 is FedAvg"),
    ("algorithm.nu=1000000000000", "algorithm.nu=1000000000000", "at most 100000"),
    ("algorithm.tau=100001", "algorithm.tau=100001", "at most 100000"),
    ("evaluation.steps=100001", "evaluation.steps=100001", "from 0 to 100000"),
    ("algorithm.alpha=0", "algorithm.alpha=0.0", "above 0"),
    ("algorithm.alpha=-0.1", "algorithm.alpha=-0.1", "above 0"),
    ("algorithm.alpha=nan", "algorithm.alpha=nan", "a number"),
    ("algorithm.alpha=inf", "algorithm.alpha=inf", "a number"),
    ("algorithm.beta=0", "algorithm.beta=0.0", "above 0"),
    ("algorithm.beta=nan", "algorithm.beta=nan", "a number"),
    ("algorithm.beta=automatic", "algorithm.beta=automatic", "a number"),
    ("algorithm.tau=2.5", "algorithm.tau=2.5", "a whole number"),
    ("algorithm.tau=many", "algorithm.tau=many", "a whole number"),
    ("algorithm.recompute=1", "algorithm.recompute=1", "true or false"),
    ("algorithm.batch=20", "algorithm.batch=20", "several keys"),
    ("algorithm.tau=0", "algorithm.tau=0", "at least 1"),
    ("algorithm.mode=second", "algorithm.mode=second", "exact | first_order | hessian_free"),
    ("algorithm.delta=0", "algorithm.delta=0.0", "above 0"),
    ("algorithm.batch.support=0", "algorithm.batch.support=0", "at least 1"),
    ("algorithm.batch.query=-3", "algorithm.batch.query=-3", "at least 1"),
    ("algorithm.batch.hessian=0", "algorithm.batch.hessian=0", "at least 1"),
    ("partition.num_clients=0", "partition.num_clients=0", "at least 1"),
    ("partition.test_fraction=0", "partition.test_fraction=0.0", "between 0 and 1"),
    ("partition.test_fraction=1", "partition.test_fraction=1.0", "between 0 and 1"),
    ("partition.test_fraction=nan", "partition.test_fraction=nan", "between 0 and 1"),
    ("partition.seed=-1", "partition.seed=-1", "0 or more"),
    ("evaluation.every=0", "evaluation.every=0", "at least 1"),
    ("evaluation.steps=-1", "evaluation.steps=-1", "from 0 to 100000"),
    ("evaluation.batch=0", "evaluation.batch=0", "at least 1"),
    ("evaluation.clients=0", "evaluation.clients=0", "at least 1"),
    ("evaluation.split=train", "evaluation.split=train", "test | validation"),
    ("evaluation.new_clients=1", "evaluation.new_clients=1", "a fraction in [0, 1)"),
    ("evaluation.new_clients=-0.1", "evaluation.new_clients=-0.1", "a fraction in [0, 1)"),
    ("evaluation.new_clients=nan", "evaluation.new_clients=nan", "a fraction in [0, 1)"),
    ("evaluation.new_clients=true", "evaluation.new_clients=True", "a fraction in [0, 1)"),
    ("evaluation.new_clients=null", "evaluation.new_clients=None", "a fraction in [0, 1)"),
    ("evaluation.new_clients=amy", "evaluation.new_clients=amy", "a list of client ids"),
    ("evaluation.new_clients=[0.5]", "evaluation.new_clients=[0.5]", "a list of client ids"),
    ("evaluation.new_clients=[true]", "evaluation.new_clients=[True]", "a list of client ids"),
]

AT_THE_EDGE = [
    "rounds=0",
    "fraction=1",
    "seed=0",
    "algorithm.nu=0",
    "algorithm.nu=100000",
    "algorithm.alpha=1e-9",
    "algorithm.tau=1",
    "algorithm.batch.support=null",
    "algorithm.batch.query=null",
    "algorithm.batch.hessian=1",
    "evaluation.steps=0",
    "evaluation.batch=null",
    "evaluation.new_clients=0",
    "evaluation.new_clients=[]",
    "evaluation.new_clients=[0,-7]",
    "evaluation.new_clients=[amy,5,'1.5',18446744073709551615]",
]

UNLIKE_THE_DEFAULTS = [
    "rounds=3",
    "fraction=0.25",
    "seed=18446744073709551615",
    "algorithm.alpha=0.1234567890123456",
    "algorithm.mode=hessian_free",
    "algorithm.batch.support=null",
    "evaluation.new_clients=[1,2]",
    "model.hidden=[7,5]",
    "name='a \"b\" ü'",
]


@pytest.mark.parametrize(("override", "named", "allowed"), OUT_OF_RANGE)
def test_a_value_out_of_range_is_named_with_what_is_allowed(
    override: str, named: str, allowed: str
) -> None:
    """In one line that starts with the key as one types it."""
    with pytest.raises(InputError) as caught:
        algorithm_of(compose_config([override]).algorithm)
    line = str(caught.value)
    assert line.startswith(f"{named}: must be ")
    assert allowed in line.removeprefix(named)
    assert "\n" not in line


@pytest.mark.parametrize("override", AT_THE_EDGE)
def test_the_last_allowed_value_is_taken(override: str) -> None:
    """What stands just inside the range must not be refused, and must be what arrives."""
    key, value = override.split("=")
    config = compose_config([override])
    found: Any = replace(config, algorithm=algorithm_of(config.algorithm))
    for name in key.split("."):
        found = getattr(found, name)
    assert found == OmegaConf.from_dotlist([f"value={value}"]).value


def test_a_missing_value_is_named_with_how_to_give_it() -> None:
    with pytest.raises(
        InputError, match=r"^dataset\.path: has no value; give one as dataset\.path="
    ):
        compose_config(["dataset=npz"])


@pytest.mark.parametrize("override", ["+rouns=3", "+algorithm.nuu=3"])
def test_a_key_that_nothing_reads_is_refused_even_if_added(override: str) -> None:
    """Hydra's + adds any key; one that nothing knows would silently do nothing."""
    key = override.removeprefix("+").split("=")[0]
    with pytest.raises(InputError, match=f"^{key}"):
        algorithm_of(compose_config([override]).algorithm)


def test_a_configuration_travels_as_one_line_and_arrives_equal() -> None:
    """Every float to its last bit: the ServerApp and the ClientApps must compute the same."""
    config = compose_config(UNLIKE_THE_DEFAULTS)
    text = to_json(config)
    assert "\n" not in text
    assert read_config(text) == config
    assert read_config(text) != compose_config([])
    assert read_config(text).algorithm["alpha"] == 0.1234567890123456


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ('"nu": 5', '"nu": -5', r"algorithm\.nu=-5: must be"),
        (
            '"test_fraction": 0.25',
            '"test_fraction": 7.0',
            r"partition\.test_fraction=7\.0: must be",
        ),
        ('"rounds": 50', '"rounds": -50', "rounds=-50: must be"),
    ],
)
def test_what_arrives_is_checked_again(old: str, new: str, named: str) -> None:
    """A SuperLink may be sent anything."""
    text = to_json(compose_config([]))
    assert old in text
    with pytest.raises(InputError, match=named):
        algorithm_of(read_config(text.replace(old, new)).algorithm)


def test_a_run_config_carries_a_configuration_or_overrides() -> None:
    """The composed configuration, if there is one; else overrides, as one types them in a shell."""
    sent = compose_config(["algorithm.nu=7"])
    assert from_run_config({"config": to_json(sent), "overrides": "algorithm.nu=3"}) == sent
    typed = {"config": "", "overrides": "algorithm.nu=3 'evaluation.new_clients=[0, 4]'"}
    config = from_run_config(typed)
    assert config.algorithm["nu"] == 3
    assert config.evaluation.new_clients == [0, 4]
    assert from_run_config({}) == compose_config([])
