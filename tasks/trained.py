"""A trained model as a file: its parameters, and the sizes of the data that it is for.

Both are in the one file, so that whoever has it can make the model without the data set: by the
configuration beside it and these sizes.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from conf.errors import InputError, NuFedError, reason
from conf.files import regular
from conf.text import printable
from conf.typed import Mistyped, made, parsed
from tasks.store import FederatedData

MODEL = "model.safetensors"
"""In a run folder, the trained model."""
KEY = "data"  # of the file's metadata
LARGEST = 1 << 31  # of one size of the data

Params = dict[str, Tensor]


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
        )


def to_bytes(
    params: Params, sizes: Sizes | None, facts: Mapping[str, object] | None = None
) -> bytes:
    """Return a model as a file's content.

    Parameters
    ----------
    params
        Name -> tensor.
    sizes
        What is needed to make the model; None if it is not known.
    facts
        What else its metadata is to say.
    """
    metadata = {key: printable(str(value)) for key, value in (facts or {}).items()}
    if sizes is not None:
        metadata[KEY] = json.dumps(asdict(sizes))
    contiguous = {name: tensor.detach().contiguous() for name, tensor in params.items()}
    return save(contiguous, metadata)


def read(file: Path) -> tuple[Params, Sizes | None]:
    """Read a model, and its sizes unless an older version wrote it.

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
    return sizes
