"""What a configuration names is called with Python's own containers."""

from collections import OrderedDict
from typing import Any

import pytest
import torch
from hydra.errors import InstantiationException

from nufed.conf.making import make, prepared


class Kept:
    """Keeps its arguments."""

    def __init__(self, *given: Any, **named: Any) -> None:
        self.given, self.named = given, named


KEPT = f"{__name__}.Kept"


def test_containers_are_pythons_own_at_every_depth() -> None:
    made = make({"_target_": KEPT, "sizes": [1, 2], "nested": {"a": [[3]], "b": {"c": None}}})
    assert type(made.named["sizes"]) is list
    assert type(made.named["nested"]) is dict
    assert type(made.named["nested"]["a"][0]) is list
    assert type(made.named["nested"]["b"]) is dict
    assert made.named == {"sizes": [1, 2], "nested": {"a": [[3]], "b": {"c": None}}}


def test_a_nested_target_gets_them_too() -> None:
    made = make({"_target_": KEPT, "inner": {"_target_": KEPT, "sizes": [1, 2]}})
    assert type(made.named["inner"].named["sizes"]) is list


def test_what_is_given_arrives_as_it_is() -> None:
    shape, array = (8, 8), torch.ones(2)
    made = make({"_target_": KEPT}, array, config={"a": (1,)}, input_shape=shape)
    assert made.given[0] is array
    assert made.named["input_shape"] is shape
    assert made.named["config"] == {"a": (1,)}


def test_a_partial_that_is_nested_gets_them_too() -> None:
    inner = {"_target_": KEPT, "_partial_": True, "betas": [0.5, 0.9]}
    optimizer = make({"_target_": KEPT, "optimizer": inner}).named["optimizer"]([torch.zeros(1)])
    assert type(optimizer.named["betas"]) is list


@pytest.mark.parametrize("text", ["${oc.env:HOME}", "a${b", r"\${x}", "${", "???"])
def test_a_text_arrives_as_it_is(text: str) -> None:
    """It is not looked up in the environment, say, whatever it looks like."""
    made = make({"_target_": KEPT, "a": text, "inner": {"_target_": KEPT, "b": [text]}})
    assert made.named["a"] == text
    assert made.named["inner"].named["b"] == [text]


def test_hydras_words_mean_what_they_mean_there() -> None:
    inner = {"_target_": KEPT, "a": 1}
    made = make({"_target_": KEPT, "_args_": [1, inner], "_convert_": "all", "inner": inner})
    assert made.given[0] == 1
    assert made.given[1].named == made.named["inner"].named == {"a": 1}
    left = make({"_target_": KEPT, "_recursive_": False, "inner": inner, "_args_": [inner]})
    assert left.named == {"inner": inner}
    assert left.given == (inner,)


@pytest.mark.parametrize(
    ("target", "words"),
    [(None, "_target_ is a NoneType"), (["os"], "is a list"), ("sys.path", "cannot be called")],
)
def test_what_is_no_name_of_code_is_told_of(target: object, words: str) -> None:
    with pytest.raises(InstantiationException) as raised:
        make({"_target_": target})
    assert words in str(raised.value.__cause__)


def test_the_cause_of_a_failure_is_told() -> None:
    with pytest.raises(InstantiationException) as raised:
        make({"_target_": "torch.nn.Linear"}, 3)
    assert isinstance(raised.value.__cause__, TypeError)
    with pytest.raises(InstantiationException) as raised:
        make({"_target_": "builtins.int"}, "seven")
    assert isinstance(raised.value.__cause__, ValueError)


def test_what_is_prepared_is_called_later() -> None:
    of = prepared({"_target_": "torch.nn.functional.cross_entropy", "reduction": "none"})
    assert of(torch.zeros(3, 2), torch.zeros(3, dtype=torch.long)).shape == (3,)
    assert make({"_target_": "collections.OrderedDict", "a": 1}) == OrderedDict(a=1)
