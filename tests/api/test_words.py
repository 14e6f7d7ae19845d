"""Overrides from Python are the words that one would type."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nufed
from nufed.api.words import Overrides, words_of
from nufed.conf.compose import compose_config

KINDS: list[tuple[list[Overrides], dict[str, Any], list[str]]] = [
    (["rounds=20 algorithm.nu=3", "seed=1"], {}, ["rounds=20", "algorithm.nu=3", "seed=1"]),
    (["'task.metrics={f1: mine.f1}'"], {}, ["task.metrics={f1: mine.f1}"]),
    (["rounds=3"], {"rounds": 5}, ["rounds=5"]),
    ([{"algorithm.nu": 3}], {}, ["algorithm.nu=3"]),
    (["algorithm=fedavg +a=1"], {"algorithm": "nufed", "a": 2}, ["algorithm=nufed", "a=2"]),
    (
        [{"algorithm": {"nu": 3, "batch": {"query": None}}}],
        {},
        [*["algorithm.nu=3", "algorithm.batch.query=null"]],
    ),
    ([], {"dataset": "digits", "device": "cuda:1"}, ["dataset=digits", 'device="cuda:1"']),
    ([], {"seed": np.int64(7), "fraction": np.float32(0.5)}, ["seed=7", "fraction=0.5"]),
    ([], {"model": {"hidden": (8, np.int64(4))}}, ["model.hidden=[8,4]"]),
    ([], {"+model.width": 3}, ["+model.width=3"]),
    ([], {"resume": Path("a b")}, ['resume="a b"']),
    ([], {"task": {"metrics": {"r2": "mine.r2"}}}, ["task.metrics={r2:mine.r2}"]),
    ([], {"task": {"loss": np.linalg.norm}}, ["task.loss=numpy.linalg.norm"]),
    ([], {"evaluation": {"new_clients": range(2)}}, ["evaluation.new_clients=[0,1]"]),
]


@pytest.mark.parametrize(("given", "named", "words"), KINDS, ids=lambda each: str(each)[:40])
def test_what_is_given_is_what_would_be_typed(
    given: list[Overrides], named: dict[str, Any], words: list[str]
) -> None:
    assert words_of(given, named) == words


def test_a_value_is_never_several() -> None:
    """On a command line `a,b` is a sweep; a text that is given is this text."""
    config = compose_config(words_of([], {"name": "a,b", "device": "${name}"}))
    assert (config.name, config.device) == ("a,b", "${name}")


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        (
            "-m seed=0,1",
            "-m: is an option of the command; here one run is made, of key=value, and a loop "
            "makes several",
        ),
        ("name='a", "name='a: cannot be read (No closing quotation); quote it as in a shell"),
        (3, "3: is a int; give text such as 'rounds=20', a mapping, or rounds=20"),
    ],
)
def test_what_is_no_override_is_told_in_a_line(wrong: Any, line: str) -> None:
    with pytest.raises(nufed.InputError) as e:
        words_of([wrong], {})
    assert str(e.value) == line


def test_what_no_key_takes_is_refused() -> None:
    with pytest.raises(nufed.InputError, match=r"seed=<object .*>: is a object; give a number"):
        words_of([], {"seed": object()})
