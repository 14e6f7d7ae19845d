"""Dataclasses of `nufed.client_app.messages` ⇄ Flower's records, and arrays ⇄ tensors.

What comes is checked: `decode` refuses missing, unknown and ill-typed fields, and `to_params` bytes
that are not those of the array that they declare.
"""

import reprlib
import types
from collections.abc import Iterable
from dataclasses import fields
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict

from nufed.client_app.messages import (
    EvaluateInstruction,
    EvaluateReport,
    EvaluationNumbers,
    Fixed,
    MalformedMessage,
    Memory,
    Numbers,
)
from nufed.client_app.meta_gradient import Params
from nufed.conf.errors import reason

ARRAYS, REPORT, EVALUATION, METRICS = "arrays", "report", "evaluation", "metrics"
FIXED = "fixed"
T = TypeVar("T")

PLACES: dict[type, str] = {
    Fixed: FIXED,
    Numbers: "numbers",
    EvaluationNumbers: "evaluation.numbers",
    Memory: "memory",
}


def encode(
    value: Any,
    arrays: ArrayRecord | None = None,
    examples: int | None = None,
    also: Iterable[Fixed | Numbers | Memory | None] = (),
) -> RecordDict:
    """Pack what is said, with the arrays it goes with, as the content of a message.

    `examples`, the train rows behind an update, goes where Flower's own strategies look for it.
    """
    packed = [value, *(each for each in also if each is not None)]
    content = RecordDict({_place(type(each)): _record(each) for each in packed})
    if arrays is not None:
        content[ARRAYS] = arrays
    if examples is not None:
        content[METRICS] = MetricRecord({"num-examples": examples})
    return content


def _record(value: Any) -> ConfigRecord:
    given = {f.name: getattr(value, f.name) for f in fields(value)}
    return ConfigRecord({name: each for name, each in given.items() if each is not None})


def decode(kind: type[T], message: Message) -> T:
    """Return what a message says, as one of those dataclasses.

    Raises
    ------
    MalformedMessage
        If a field is missing, unknown or of the wrong type.
    """
    record = message.content.config_records.get(_place(kind))
    if record is None:
        raise MalformedMessage(f"no {_place(kind)!r} record")
    hints = get_type_hints(kind)
    if unknown := sorted(set(record) - set(hints)):
        raise MalformedMessage(f"unknown field {unknown[0]!r}")
    values = {name: _checked(name, record.get(name), hint) for name, hint in hints.items()}
    return kind(**values)


def memory_of(message: Message) -> Memory | None:
    """Return how clients find what they kept, where they keep anything."""
    there = PLACES[Memory] in message.content.config_records
    return decode(Memory, message) if there else None


def asks_for_evaluation(message: Message) -> bool:
    """Tell whether a message asks for personalization curves, or brings them."""
    return EVALUATION in message.content.config_records


def _place(kind: type) -> str:
    """Return the name of the record that holds one of those dataclasses."""
    if kind in PLACES:
        return PLACES[kind]
    return EVALUATION if kind in (EvaluateInstruction, EvaluateReport) else REPORT


def arrays_of(message: Message) -> ArrayRecord:
    """Return the arrays of a message, an empty record if it has none."""
    return message.content.array_records.get(ARRAYS, ArrayRecord())


def examples_of(message: Message) -> object:
    """Return the train rows that an update claims to come from, None if it says nothing of it."""
    return message.content.metric_records.get(METRICS, MetricRecord()).get("num-examples")


def to_params(arrays: ArrayRecord) -> Params:
    """Return arrays as tensors, name -> tensor on the CPU.

    Raises
    ------
    MalformedMessage
        If the bytes of an array are not those of an array of the shape and type that it declares.
    """
    return {name: _tensor(name, array) for name, array in arrays.items()}


def _tensor(name: str, array: Array) -> torch.Tensor:
    try:
        tensor = torch.from_numpy(array.numpy())  # Flower reads without pickle
    except Exception as error:  # bytes from elsewhere: whatever NumPy or torch makes of them
        raise MalformedMessage(f"array {name!r} cannot be read: {reason(error)}") from error
    held = tuple(tensor.shape), str(tensor.dtype).removeprefix("torch.")
    if held != (tuple(array.shape), array.dtype):
        raise MalformedMessage(f"array {name!r} holds {held}, other than it declares")
    return tensor


def _checked(name: str, value: Any, hint: Any) -> Any:
    """Return `value` if it is of type `hint`, one of those that the dataclasses here use."""
    if get_origin(hint) in (Union, types.UnionType):
        if value is None:
            return None
        hint = get_args(hint)[0]
    if get_origin(hint) is list:
        (item,) = get_args(hint)
        if isinstance(value, list) and all(type(entry) is item for entry in value):
            return value
    elif type(value) is hint:
        return value
    raise MalformedMessage(f"{name} is {reprlib.repr(value):.60}, not {hint}")
