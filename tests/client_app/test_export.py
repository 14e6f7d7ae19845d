"""Exported models: elsewhere, from rows as they are in the file, the outputs are the same."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from nufed.client_app.export import export, require_available
from nufed.client_app.from_run import personalize
from nufed.client_app.personal import Personal
from nufed.conf.errors import InputError
from tests.client_app.conftest import Small

Run = Callable[..., Small]
CNN = ("model=cnn", "model.kernel=3", "model.padding=1", "model.channels=[4]", "model.hidden=8")


class Branching(nn.Module):
    """Takes another way for other rows, which no exporter can follow."""

    def __init__(self, num_outputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(12, num_outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        outputs = self.linear(x.reshape(len(x), -1))
        return outputs if bool(x.sum() > 0) else -outputs


class Noisy(Branching):
    """Never gives the same twice."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x.flatten(1)) + torch.rand_like(x[:, 0, :1])


def custom(model: type[nn.Module]) -> tuple[str, str]:
    return "model=custom", f"model._target_={__name__}.{model.__name__}"


def outputs_of(file: Path, rows: np.ndarray) -> np.ndarray:
    """Run an exported model with what it was exported for, and nothing of ours."""
    if file.suffix == ".onnx":
        session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
        (outputs,) = session.run(None, {"x": rows})
        return np.asarray(outputs)
    with torch.no_grad():
        return torch.export.load(file).module()(torch.from_numpy(rows)).numpy()


@pytest.mark.parametrize(
    ("model", "kind"),
    [(("model=mlp",), "float64"), (CNN, "float32"), (CNN, "uint8")],
    ids=["mlp", "cnn", "cnn of bytes"],
)
def test_both_formats_give_the_personal_models_outputs(
    small: Run, tmp_path: Path, model: tuple[str, ...], kind: str
) -> None:
    """For one row, and for more than it was made with; bytes go in as bytes."""
    pixels = kind == "uint8"
    run = small(*model, pixels=pixels)
    if not pixels:
        arrays = dict(np.load(run.file))
        np.savez(run.file, **arrays | {"x": arrays["x"].astype(kind)})
    personal = personalize(run.folder, run.file, client=30)
    x = np.load(run.file)["x"]
    as_floats = torch.from_numpy(x.astype(np.float32) / (255 if pixels else 1))
    for file in (tmp_path / "own.onnx", tmp_path / "own.pt2"):
        assert export(personal, file) < 1e-5
        for rows in (1, 7, 60):
            with torch.no_grad():
                wanted = personal.module(as_floats[:rows]).numpy()
            np.testing.assert_allclose(outputs_of(file, x[:rows]), wanted, atol=1e-5)


def test_a_model_in_float64_is_exported_in_float32(small: Run, tmp_path: Path) -> None:
    run = small("engine.precision=float64", "algorithm.alpha=0.01", y=np.linspace(0, 1, 60))
    personal = personalize(run.folder, run.file, client=30, test_fraction=0)
    off = export(personal, tmp_path / "own.pt2")
    assert 0 < off < 1e-6
    assert outputs_of(tmp_path / "own.pt2", np.load(run.file)["x"]).dtype == np.float32


@pytest.mark.parametrize(
    ("model", "form", "words"),
    [
        (Branching, "onnx", "the model cannot be exported"),
        (Branching, "pt2", "the model cannot be exported"),
        (Noisy, "pt2", "outputs are off by 0."),
    ],
    ids=["branching-onnx", "branching-pt2", "noisy"],
)
def test_what_is_not_the_same_model_is_refused_and_not_kept(
    small: Run, tmp_path: Path, form: str, model: type[nn.Module], words: str
) -> None:
    run = small(*custom(model))
    personal = personalize(run.folder, run.file, client=30)
    with pytest.raises(InputError) as caught:
        export(personal, tmp_path / f"own.{form}")
    assert words in str(caught.value)
    assert str(caught.value).startswith(f"export={form}: ")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / f"own.{form}").exists()


def test_a_missing_package_is_named(small: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """None in its place is how Python has it that a module is not to be found."""
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    line = "export=onnx: needs onnxscript; pip install onnx onnxscript onnxruntime"
    with pytest.raises(InputError, match=line):
        require_available("onnx")
    require_available("pt2")


def test_exporting_changes_nothing(small: Run, tmp_path: Path) -> None:
    """The model that is saved afterwards is the one that was measured."""
    run = small("engine.precision=float64")
    personal: Personal = personalize(run.folder, run.file, client=30)
    before: dict[str, Any] = {n: t.clone() for n, t in personal.module.state_dict().items()}
    export(personal, tmp_path / "own.pt2")
    after = personal.module.state_dict()
    assert all(torch.equal(before[n], after[n]) for n in before)
    assert {t.dtype for t in after.values()} == {torch.float64}
