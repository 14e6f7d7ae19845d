"""What a configuration names is called with Python's own containers."""

from collections import OrderedDict
from typing import Any

import pytest
import torch
from hydra.errors import InstantiationException

from conf.making import make, prepared


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


def test_ones_own_convert_is_kept() -> None:
    made = make({"_target_": KEPT, "_convert_": "none", "sizes": [1]})
    assert type(made.named["sizes"]) is not list


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
