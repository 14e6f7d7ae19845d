"""A trained model as a file: all that it consists of, and the sizes of the data that it is for.

Both are in the one file, so that whoever has it can make the model without the data set: by the
configuration beside it and these sizes.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import save

from nufed.conf.errors import InputError, NuFedError, reason
from nufed.conf.files import regular
from nufed.conf.text import printable
from nufed.conf.typed import Mistyped, made, parsed
from nufed.tasks.partitions import Partition
from nufed.tasks.store import FederatedData
from nufed.tasks.streams import DRAWS
from nufed.tasks.task import Params, Task

MODEL = "model.safetensors"
"""In a run folder, the trained model."""
BESIDE = "shared/"
"""Begins the names of what is no part of the model."""
KEY = "data"  # of the file's metadata
LARGEST = 1 << 31  # of one size of the data


@dataclass(frozen=True)
class Sizes:
    """What a model has to know of the data."""

    input_shape: tuple[int, ...]
    """Of one row x."""
    num_outputs: int
    """Classes, or targets a row."""
    regression: bool
    pixels: bool
    """Whether x was uint8, and is divided by 255."""
    places: tuple[int, ...] = ()
    """Shape of one row y, where it has a class at each of several places."""
    num_tokens: int | None = None
    """One above the largest x, where x were other integers."""
    draws: int = 1
    """Of `nufed.tasks.streams`, by which rows were held out; older versions do not say it."""
    table: str | None = None
    """How rows were made of a table's columns, as JSON (see `table_transform.py`)."""

    @classmethod
    def of(cls, data: FederatedData) -> "Sizes":
        """Return the sizes of a data set."""
        return cls(
            tuple(map(int, data.x.shape[1:])),
            data.num_outputs,
            regression=not data.classes,
            pixels=bool(data.x.dtype == "uint8"),
            places=tuple(map(int, data.y.shape[1:])) if data.classes else (),
            num_tokens=data.num_tokens,
            draws=DRAWS,
            table=data.table,
        )

    def outline(self) -> FederatedData:
        """Return data of these sizes, of one client and no rows: enough to make the model."""
        kind = np.uint8 if self.pixels else np.float32 if self.num_tokens is None else np.int64
        x: NDArray[np.generic] = np.zeros((0, *self.input_shape), kind)
        real, whole = ((0, self.num_outputs), np.float32), ((0, *self.places), np.int64)
        y: NDArray[np.generic] = np.zeros(*(real if self.regression else whole))
        return FederatedData(
            x,
            y,
            Partition.elsewhere(1),
            outputs=self.num_outputs,
            tokens=self.num_tokens,
            table=self.table,
        )


def to_bytes(
    task: Task,
    params: Params,
    facts: Mapping[str, object] | None = None,
    beside: Params | None = None,
) -> bytes:
    """Return a model as a file's content: its `state_dict`, and the sizes of the data in metadata.

    Parameters
    ----------
    task
        What the model is of.
    params
        The parameters that train, name -> tensor.
    facts
        What else its metadata is to say.
    beside
        What a run shares besides the model, under names of its own.
    """
    metadata = {key: printable(str(value)) for key, value in (facts or {}).items()}
    metadata[KEY] = json.dumps(asdict(Sizes.of(task.data)))
    # Clones: safetensors refuses tensors that share their memory, such as tied weights.
    whole = task.state(params) | {f"{BESIDE}{name}": t for name, t in (beside or {}).items()}
    state = {name: t.cpu().contiguous().clone() for name, t in whole.items()}
    return save(state, metadata)


def apart(state: Params) -> tuple[Params, Params]:
    """Return what a file holds of the model, and what else the run shared."""
    beside = {name: t for name, t in state.items() if name.startswith(BESIDE)}
    model = {name: t for name, t in state.items() if name not in beside}
    return model, {name.removeprefix(BESIDE): t for name, t in beside.items()}


def read(file: Path) -> tuple[Params, Sizes | None]:
    """Read what a model consists of, and its sizes unless an older version wrote it.

    Raises
    ------
    InputError
        If it cannot be read.
    """
    try:
        regular(file, links=True).close()
        with safe_open(file, "pt") as archive:
            metadata = archive.metadata() or {}
            params = {name: archive.get_tensor(name) for name in archive.keys()}  # noqa: SIM118
        return params, _sizes(metadata[KEY]) if KEY in metadata else None
    except NuFedError:
        raise
    except Exception as error:  # whatever safetensors makes of a file that is damaged
        raise InputError(f"{file}: cannot be read ({reason(error)})") from error


def require_held(sizes: Sizes, state: Params, *, embeds: bool, name: str) -> None:
    """Raise an `InputError` if a model of these sizes has more numbers than its file.

    To make it would take the memory, before it is seen not to be the file's.

    Parameters
    ----------
    sizes
        As `read` gives them, like the state.
    state
        What the file holds.
    embeds
        Whether the model has parameters of each token; others take integers of any size as numbers.
    name
        What names the file to a person.
    """
    held = sum(tensor.numel() for tensor in state.values())
    # Targets of a regression may share their parameters, as pixels do; rows bound how many.
    claimed = {"num_outputs": 0 if sizes.regression else sizes.num_outputs}
    claimed["num_tokens"] = (sizes.num_tokens or 0) if embeds else 0
    for key, size in claimed.items():
        if size > held:
            raise InputError(
                f"{name} says {key}={size:,}, but holds {held:,} numbers, and each takes one at "
                "least; the file was changed, so take it from the run again"
            )


def load_model(task: Task, state: Params, name: str) -> Params:
    """Return the parameters that train, of a model that was read; the task takes over the rest.

    Parameters
    ----------
    state
        As `read` gives it.
    name
        What names the file to a person.

    Raises
    ------
    InputError
        If it is of another model, of numbers of another kind, or not finite where it trains.
    """
    try:
        params = task.load_state(state)
    except ValueError as error:
        raise InputError(
            f"{name} is not of the model that config.yaml describes ({error}); take both from one "
            "run, and the model's code as it was"
        ) from error
    return placed(params, task.initial_params(), name)


def placed(trained: Params, like: Params, name: str) -> Params:
    """Return a model that was read as a task takes it, in the order and the types that it has.

    Parameters
    ----------
    like
        The task's own model.
    name
        What names the file to a person.

    Raises
    ------
    InputError
        If it is of another model, of numbers of another kind, or not finite.
    """
    shapes = ({n: tuple(p.shape) for n, p in params.items()} for params in (trained, like))
    if next(shapes) != next(shapes):
        raise InputError(
            f"{name} is not of the model that config.yaml describes; take both from one run, and "
            "the model's code as it was"
        )
    for each, tensor in trained.items():
        if tensor.is_floating_point() != like[each].is_floating_point() or tensor.is_complex():
            raise InputError(f"{name} has {each!r:.80} in {tensor.dtype}; the file was changed")
        if not bool(tensor.isfinite().all()):
            raise InputError(f"{name} has {each!r:.80} with values that are not finite")
    return {each: trained[each].to(p) for each, p in like.items()}


def _sizes(text: str) -> Sizes:
    sizes = made(Sizes, parsed(text))
    counts = (*sizes.input_shape, *sizes.places, sizes.num_outputs, sizes.num_tokens or 1)
    if not all(1 <= count <= LARGEST for count in counts):
        raise Mistyped(f"sizes are not all from 1 to {LARGEST}")
    if sizes.table is not None:
        # Imported here: it takes a fifth of a second, and most runs are of no table.
        from nufed.tasks.table_transform import described

        if sizes.input_shape != (len(described(sizes.table, "its table").features),):
            raise Mistyped("the table has another number of features than a row")
    return sizes
