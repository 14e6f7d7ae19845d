"""What a user's module must leave as it is, and give: kept, or refused in one line."""

import logging
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from nufed.conf.errors import InputError
from nufed.tasks.module import Made, make_module
from nufed.tasks.partitions import Partition
from nufed.tasks.store import FederatedData

N = 8


def data(places: tuple[int, ...] = (), classes: int = 3, width: int = 4) -> FederatedData:
    """Return eight rows of reals, with classes at `places`, of one client."""
    x = np.zeros((N, width), np.float32)
    y = np.zeros((N, *places), np.int64)
    y.flat[0] = classes - 1
    everyone = Partition(np.arange(N), np.array([0, N]), np.array([N - 2]))
    return FederatedData(x, y, everyone)


class Versioned(nn.Linear):
    """Keeps something that is no tensor in its state."""

    def get_extra_state(self) -> Any:
        return {"version": 3}


class Net(nn.Module):
    """A linear model, to which a test adds what is to be found."""

    def __init__(self, what: str, outputs: int = 3) -> None:
        super().__init__()
        self.linear, self.what, self.calls = nn.Linear(4, outputs), what, 0
        self.register_buffer("count", torch.zeros(1))
        self.table = nn.Embedding(5, 3, max_norm=0.1) if what == "max_norm" else None
        self.norm = spectral_norm(nn.Linear(4, 4)) if what == "spectral norm" else None
        if what == "complex":
            self.phase = nn.Parameter(torch.zeros(4, dtype=torch.complex64))
        if what == "extra":
            self.linear = Versioned(4, outputs)

    def forward(self, x: Tensor) -> Any:
        y: Any = self.linear(x)
        match self.what:
            case "counts":
                self.count += 1
            case "clamps":
                self.linear.weight.data.clamp_(-2, 2)
            case "max_norm" if self.table is not None:
                y = y + self.table(torch.zeros(len(x), dtype=torch.long))
            case "spectral norm" if self.norm is not None:
                y = self.linear(self.norm(x))
            case "integers":
                y = y.argmax(-1)
            case "double":
                y = y.double()
            case "complex outputs":
                y = torch.complex(y, y)
            case "across":
                y = y.T
            case "one number":
                y = y.sum()
            case "image":
                y = y.reshape(len(x), 3, 1)
            case "two":
                y = y, x
            case "none":
                y = None
            case "nested":
                y = {"a": [y]}
        return y


def made(what: str, of: FederatedData | None = None, **options: Any) -> Made:
    arguments = {k: options.pop(k) for k in ("outputs",) if k in options}
    config = {"_target_": f"{__name__}.Net", "what": what, **arguments}
    return make_module(config, data() if of is None else of, seed=0, **options)


REFUSED = {
    "counts": "layer itself changes its buffer count in every forward",
    "clamps": "writes to its parameter linear.weight in forward",
    "max_norm": "writes to its parameter table.weight in forward",
    "spectral norm": "changes its buffer _u in every forward, and so a client's loss depends on "
    "how often it was computed; leave the layer out, or .eval() in the constructor, which keeps it",
    "integers": "gives int64 outputs; return real scores, which have gradients",
    "double": "gives float64 outputs, and engine.precision asks for float32; return "
    "outputs.to(torch.float32), or say engine.precision=float64",
    "complex": "its parameter phase is complex64, and engine.precision asks for float32",
    "complex outputs": "gives complex64 outputs; return real scores",
    "across": "gives outputs of shape [3, 2] for 2 rows and [3, 3] for 3; rows must be their first",
    "one number": "gives outputs of shape [] for 2 rows",
    "image": "gives outputs of shape [3, 1] a row; the data needs [3], and as many by chance",
    "two": "gives a tuple of 2 tensors; return the one tensor that the loss is of, or .logits",
    "none": "gives None; return the one tensor",
    "nested": "gives a dict; return the one tensor",
    "extra": "its state_dict has linear._extra_state, a dict, which no file of tensors holds",
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_would_be_wrong_later_is_refused_at_once(what: str) -> None:
    with pytest.raises(InputError) as caught:
        made(what)
    line = str(caught.value)
    assert line.startswith(f"model._target_={__name__}.Net: ")
    assert REFUSED[what] in line
    assert "\n" not in line
    assert "GroupNorm" not in line


def test_a_sound_module_is_taken_as_it_is() -> None:
    sound = made("")
    assert (sound.trial.width, sound.trial.writes_input, sound.trial.draws) == (3, False, False)
    assert {p.dtype for p in sound.module.parameters()} == {torch.float32}


class Mixed(nn.Module):
    """A frozen layer in half precision and a buffer in double, as a backbone may come."""

    def __init__(self) -> None:
        super().__init__()
        self.rough = nn.Linear(4, 4).half().requires_grad_(False)
        self.register_buffer("scale", torch.full((4,), 1 / 3, dtype=torch.float64))
        self.register_buffer("turn", torch.ones(4, dtype=torch.complex64))
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head((self.rough(x.half()) * self.scale * self.turn.real).float())
        return y


def test_types_of_what_does_not_train_are_kept() -> None:
    module = make_module({"_target_": f"{__name__}.Mixed"}, data(), seed=0).module
    kinds = {name: t.dtype for name, t in module.state_dict().items()}
    assert kinds["rough.weight"] == torch.float16
    assert kinds["scale"] == torch.float64
    assert kinds["turn"] == torch.complex64


def classes_at_places(input_shape: Any, num_outputs: int, places: Any, first: bool) -> nn.Module:
    """Return a model whose classes are its outputs' first or last axis."""
    shape = (num_outputs, *places) if first else (*places, num_outputs)
    size = int(np.prod(shape))
    return nn.Sequential(nn.Linear(input_shape[0], size), nn.Unflatten(1, shape))


@pytest.mark.parametrize(("places", "first"), [((5,), True), ((3,), True), ((3,), False)])
def test_classes_first_are_refused_and_what_may_be_either_is_asked(
    places: tuple[int, ...], first: bool
) -> None:
    config = {"_target_": f"{__name__}.classes_at_places", "first": first}
    words = "classes at each place and last" if places == (5,) else "task.class_axis=last"
    with pytest.raises(InputError, match=words):
        make_module(config, data(places), seed=0)
    if places == (3,):
        assert make_module(config, data(places), seed=0, class_axis="last").trial.width == 3


def test_classes_last_need_no_word_where_their_number_tells() -> None:
    config = {"_target_": f"{__name__}.classes_at_places", "first": False}
    assert make_module(config, data((5,)), seed=0).trial.width == 3


def all_frozen() -> nn.Module:
    return nn.Linear(4, 3).requires_grad_(False)


@pytest.mark.parametrize(
    ("target", "what"),
    [(f"{__name__}.all_frozen", "all 15 are frozen"), ("torch.nn.Flatten", "it has none")],
)
def test_a_model_of_which_nothing_trains_is_refused(target: str, what: str) -> None:
    with pytest.raises(InputError, match=f"no parameter trains, {what}"):
        make_module({"_target_": target}, data(), seed=0)


def compiled(whole: bool = True) -> nn.Module:
    inner = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
    if whole:
        return torch.compile(nn.Sequential(inner, nn.Linear(4, 3)))  # type: ignore[no-any-return]
    net = nn.Sequential(torch.compile(inner), nn.Linear(4, 3))
    net.compile()
    return net


@pytest.mark.parametrize("whole", [True, False])
def test_torch_compile_is_taken_off_and_said(whole: bool, caplog: pytest.LogCaptureFixture) -> None:
    """Names are those without it, and no compiler is started."""
    caplog.set_level(logging.INFO, "nufed")
    config = {"_target_": f"{__name__}.compiled", "whole": whole}
    module = make_module(config, data(), seed=whole).module
    assert list(module.state_dict()) == ["0.0.weight", "0.0.bias", "1.weight", "1.bias"]
    assert not any(type(each).__name__ == "OptimizedModule" for each in module.modules())
    assert all(each._compiled_call_impl is None for each in module.modules())


def test_generators_of_others_are_seeded_and_left_alone() -> None:
    """NumPy's and Python's, beside torch's; see tests/user_modules.py for one that draws."""
    import random

    from tests import user_modules

    config = {"_target_": f"{user_modules.__name__}.Fourier", "by": "numpy"}
    np.random.seed(5)
    random.seed(5)
    expected = np.random.rand(), random.random()
    np.random.seed(5)
    random.seed(5)
    waves = [make_module(config, data(), seed).module.waves for seed in (1, 1, 2)]
    assert (np.random.rand(), random.random()) == expected
    assert torch.equal(waves[0], waves[1])
    assert not torch.allclose(waves[0], waves[2])
