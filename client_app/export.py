"""Export a personal model to where NuFed is not: ONNX, or torch.export's .pt2."""

import copy
import importlib
import json
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nufed.client_app.personal import Personal
from nufed.conf.errors import InputError, reason
from nufed.tasks.outputs import scores
from nufed.tasks.table_transform import described

Rows = NDArray[Any]
NEEDED = {"onnx": ("onnx", "onnxscript", "onnxruntime"), "pt2": ()}
"""Format, by the ending of its files -> the packages that writing and checking it takes."""
TOLERANCE = 1e-4  # of the largest output, or of 1: float32, summed in another order


class Raw(nn.Module):
    """A model in float32 that takes rows as they are in the client's file: pixels as uint8 too."""

    def __init__(self, personal: Personal) -> None:
        super().__init__()
        module = copy.deepcopy(personal.module).cpu()
        self.module = module.float() if personal.task.dtype == torch.float64 else module
        self._inputs = replace(personal.task, dtype=torch.float32).inputs

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs, a row each: scores of the classes, or targets."""
        return scores(self.module(self._inputs(x)))


def require_available(form: str) -> None:
    """Raise an `InputError` for an unknown format, or one whose packages are not there."""
    if form not in NEEDED:
        raise InputError(f"export={form}: must be {' | '.join(NEEDED)}, or onnx,pt2 for both")
    for package in NEEDED[form]:
        try:
            importlib.import_module(package)
        except ImportError as error:
            raise InputError(
                f"export={form}: needs {package}; pip install {' '.join(NEEDED[form])}"
            ) from error


def export(personal: Personal, file: Path) -> float:
    """Write the model for any number of rows, load it again, and compare what it gives.

    Parameters
    ----------
    personal
        The model; rows of its data are tried.
    file
        Ends with .onnx or .pt2.

    Returns
    -------
    float
        The largest difference between its outputs and those of the personal model, on the rows
        held out (or on all, where none are).

    Raises
    ------
    InputError
        If a package is missing, the model cannot be exported, or what was written gives other
        outputs; no file is left then.
    """
    form = file.suffix.removeprefix(".")
    require_available(form)
    write, load = (_write_onnx, _load_onnx) if form == "onnx" else (_write_pt2, _load_pt2)
    raw = Raw(personal).eval()
    numbers = personal.test_rows if len(personal.test_rows) else personal.train_rows
    rows = np.asarray(personal.task.data.x)[numbers]
    try:
        with _quietly():
            example = torch.from_numpy(np.resize(rows, (2, *rows.shape[1:])))
            write(raw, example, file, names_in(personal.task.data.table))
            difference = _difference(personal, load(file), rows, form)
    except Exception as error:  # whatever torch's exporter makes of the user's model
        file.unlink(missing_ok=True)
        if isinstance(error, InputError | OSError):
            raise
        raise InputError(
            f"export={form}: the model cannot be exported ({reason(error):.300}); "
            "see torch.export's documentation for what its forward may do"
        ) from error
    return difference


def _difference(
    personal: Personal, exported: Callable[[Rows], Rows], rows: Rows, form: str
) -> float:
    """Return how far the exported model's outputs are off, on all rows together and on one.

    Raises
    ------
    InputError
        If that is more than rounding.
    """
    largest = 0.0
    for some in (rows, rows[:1]):
        wanted = personal.predict(some).cpu().numpy()
        off = float(np.abs(exported(some) - wanted).max())
        allowed = TOLERANCE * max(1.0, float(np.abs(wanted).max()))
        if not off <= allowed:
            raise InputError(
                f"export={form}: the exported model's outputs are off by {off:.3g}, more than "
                "rounding; it was not kept"
            )
        largest = max(largest, off)
    return largest


def names_in(table: str | None) -> dict[str, str]:
    """Return what an exported model says of its inputs and outputs, each as JSON.

    Parameters
    ----------
    table
        How rows were made of a table's columns; None: not by us, and nothing is known.

    Returns
    -------
    dict
        ``features``, a name each; of classes their names, ``classes``; and ``table``, what was
        done: of numbers the means and scales, of a real target too.
    """
    if table is None:
        return {}
    of = described(table, "table")
    classes = of.target.classes
    names = {"features": of.features} | ({} if classes is None else {"classes": classes})
    return {key: json.dumps(each) for key, each in names.items()} | {"table": table}


def _write_pt2(raw: Raw, example: Tensor, file: Path, names: dict[str, str]) -> None:
    torch.export.save(_program(raw, example), file, extra_files=names)


def _load_pt2(file: Path) -> Callable[[Rows], Rows]:
    module = torch.export.load(file).module()

    def outputs(rows: Rows) -> Rows:
        with torch.no_grad():
            given: Rows = module(torch.from_numpy(rows)).numpy()
        return given

    return outputs


def _write_onnx(raw: Raw, example: Tensor, file: Path, names: dict[str, str]) -> None:
    program = torch.onnx.export(
        _program(raw, example),
        (),
        input_names=["x"],
        output_names=["outputs"],
        dynamo=True,
        verbose=False,
    )
    assert program is not None
    program.model.metadata_props.update(names)
    program.save(file, external_data=False)


def _load_onnx(file: Path) -> Callable[[Rows], Rows]:
    import onnxruntime

    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])

    def outputs(rows: Rows) -> Rows:
        (given,) = session.run(["outputs"], {"x": rows})
        return np.asarray(given)

    return outputs


def _program(raw: Raw, example: Tensor) -> torch.export.ExportedProgram:
    rows = ({0: torch.export.Dim("rows")},)
    try:
        return torch.export.export(raw, (example,), dynamic_shapes=rows)
    except Exception:  # slower, and it follows more of Python, such as len(x)
        return torch.export.export(raw, (example,), dynamic_shapes=rows, strict=True)


@contextmanager
def _quietly() -> Iterator[None]:
    """Keep torch's exporters from telling at length what we say in one line."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
