"""Models: sized from the data, drawn from the seed, one's own by name, and no BatchNorm."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from nufed.conf.compose import compose_config
from nufed.conf.errors import InputError
from nufed.tasks.datasets import fashion_mnist
from nufed.tasks.models import cnn, logistic, mlp
from nufed.tasks.task import Task, build
from tests.helpers import distance, require_data

# Regression on rows of shape (5,): no partitioner to import.
BASE = ["dataset=quadratics", "dataset.seed=0", "partition.seed=0"]

MODULES = """
import torch
from torch import nn

class Sized(nn.Module):
    def __init__(self, input_shape, num_outputs, width):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(input_shape[0], width), nn.Linear(width, num_outputs))
    def forward(self, x):
        return self.layers(x)

class Fixed(nn.Linear):
    def __init__(self):
        super().__init__(5, 1)

def half(input_shape):
    return nn.Linear(input_shape[0], 1, bias=False)

def with_batch_norm(track=True):
    norm = nn.BatchNorm1d(4, track_running_stats=track)
    return nn.Sequential(nn.Linear(5, 4), norm, nn.Linear(4, 1))

def with_group_norm():
    return nn.Sequential(nn.Linear(5, 4), nn.GroupNorm(2, 4), nn.Linear(4, 1))

def with_instance_norm():
    return nn.Sequential(
        nn.Unflatten(1, (1, 5)), nn.InstanceNorm1d(1, track_running_stats=True), nn.Flatten(),
        nn.Linear(5, 1),
    )

class Dropping(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Dropout(0.5), nn.Linear(5, 1))

def no_module():
    return 3

def silent():
    raise AssertionError
"""


@pytest.fixture
def _own_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the modules above into a file that Python finds, as a user's own are."""
    (tmp_path / "own_modules.py").write_text(MODULES)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "own_modules", raising=False)


def own(name: str, *overrides: str) -> Task:
    """Build a task with one of the user's models in place of the option's."""
    target = f"model._target_=own_modules.{name}"
    return build(compose_config([*BASE, target, "~model.bias", *overrides]))


def count(module: nn.Module) -> int:
    """Return the number of parameters."""
    return sum(p.numel() for p in module.parameters())


def test_parameter_counts_are_those_of_the_literature() -> None:
    """784·100 + 100 + 100·10 + 10; McMahan's network without padding; softmax regression."""
    assert count(mlp((28, 28), 10)) == 79_510
    assert count(cnn((28, 28), 10)) == count(cnn((1, 28, 28), 10)) == 582_026
    assert count(logistic((28, 28), 10)) == 7_850
    assert count(logistic((28, 28), 10, bias=False)) == 7_840


@pytest.mark.parametrize(("make", "shape"), [(mlp, (28, 28)), (cnn, (28, 28)), (cnn, (3, 32, 32))])
def test_models_take_batches_of_the_shape_that_they_were_made_for(
    make: type[nn.Module], shape: tuple[int, ...]
) -> None:
    assert make(shape, 7)(torch.zeros(2, *shape)).shape == (2, 7)


@pytest.mark.parametrize("make", [logistic, mlp, cnn])
def test_each_place_has_a_last_layer_of_its_own(make: Any) -> None:
    """As many outputs as models of the places one by one, and they share what is before."""
    whole, single = make((28, 28), 2, places=(3, 4)), make((28, 28), 2)
    assert whole(torch.rand(5, 28, 28)).shape == (5, 3, 4, 2)
    last = sum(p.numel() for p in single[-1].parameters())
    counts = [sum(p.numel() for p in each.parameters()) for each in (whole, single)]
    assert counts[0] - counts[1] == 11 * last


def test_the_cnn_of_fashion_mnist_has_582026_parameters_from_end_to_end() -> None:
    """Its size comes from the data, through the store, the configuration and Hydra."""
    require_data(fashion_mnist.DEBIAN_PACKAGE)
    task = build(compose_config(["dataset=fashion_mnist", "model=cnn"]))
    assert count(task.module) == 582_026
    x, y = task.batch(task.data.partition.train_rows(0)[:8])
    assert x.shape == (8, 28, 28)
    assert 0.5 < x.max() <= 1
    assert 1.5 < float(task.loss(task.initial_params(), x, y)) < 3.5, "about log 10"


def test_images_too_small_for_the_cnn_are_refused_with_what_would_fit() -> None:
    with pytest.raises(InputError, match=r"8x8 are too small.*model\.kernel=3 model\.padding=1"):
        cnn((8, 8), 10)
    assert cnn((8, 8), 10, kernel=3, padding=1)(torch.zeros(2, 8, 8)).shape == (2, 10)


def test_rows_that_are_no_images_are_refused_by_the_cnn() -> None:
    """Through `build`, where Hydra wraps what the model raises."""
    with pytest.raises(InputError, match=r"^model=cnn: a row has shape \[5\], not an image"):
        build(compose_config([*BASE, "model=cnn"]))


def test_initial_parameters_follow_from_the_seed_alone() -> None:
    """Whatever was drawn before, and in whatever process: clients must start from one model."""
    one = build(compose_config([*BASE, "model=mlp", "seed=1"])).initial_params()
    torch.manual_seed(99)
    same = build(compose_config([*BASE, "model=mlp", "seed=1"])).initial_params()
    other = build(compose_config([*BASE, "model=mlp", "seed=2"])).initial_params()
    assert distance(one, same) == 0
    assert min(float((one[k] - other[k]).abs().max()) for k in one) > 0.01


def test_making_a_model_does_not_disturb_other_random_numbers() -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    build(compose_config([*BASE, "model=mlp"]))
    assert torch.equal(torch.rand(3), expected)


def test_initial_parameters_are_copies() -> None:
    """A run that writes into them must not change where the next one starts."""
    task = build(compose_config(BASE))
    for parameter in task.initial_params().values():
        parameter.zero_()
    assert all(float(p.abs().max()) > 0 for p in task.initial_params().values())


@pytest.mark.usefixtures("_own_modules")
@pytest.mark.parametrize(
    ("name", "overrides", "parameters"),
    [("Sized", ["+model.width=4"], 5 * 4 + 4 + 4 + 1), ("Fixed", [], 6), ("half", [], 5)],
)
def test_a_module_of_ones_own(name: str, overrides: list[str], parameters: int) -> None:
    """By its `_target_`; told the sizes that its signature names, both, one or none."""
    task = own(name, *overrides)
    assert count(task.module) == parameters
    batch = task.batch(task.data.partition.train_rows(0))
    assert torch.isfinite(task.loss(task.initial_params(), *batch))


@pytest.mark.usefixtures("_own_modules")
def test_sizes_in_the_configuration_win_over_those_of_the_data() -> None:
    """More classes than the data shows are fine; a regression has as many outputs as targets."""
    digits = build(compose_config(["model=mlp", "model.hidden=[4]", "+model.num_outputs=12"]))
    assert count(digits.module) == 64 * 4 + 4 + 4 * 12 + 12
    with pytest.raises(InputError, match=r"Sized: gives 3 outputs a row; the data needs 1$"):
        own("Sized", "+model.width=4", "+model.num_outputs=3")


@pytest.mark.usefixtures("_own_modules")
def test_batch_norm_is_refused_with_what_to_use_instead() -> None:
    """Running statistics would leak between clients, and are no parameters to average."""
    with pytest.raises(InputError) as caught:
        own("with_batch_norm")
    assert str(caught.value).startswith("model._target_=own_modules.with_batch_norm: layer 1 ")
    assert "torch.nn.GroupNorm" in str(caught.value)
    assert count(own("with_batch_norm", "+model.track=false").module) == 24 + 8 + 5
    assert count(own("with_group_norm").module) == 24 + 8 + 5


@pytest.mark.usefixtures("_own_modules")
@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("own_modules.absent", "absent"),
        ("absent_package.Model", "absent_package"),
        ("own_modules.no_module", "makes a int, not a torch.nn.Module"),
        ("own_modules.Sized", "width"),
        ("own_modules.silent", "AssertionError"),
        ("math.pi", "is a float, which cannot be called"),
    ],
)
def test_a_target_that_gives_no_module_is_refused(target: str, words: str) -> None:
    """In one line that names the target, also where the user's code says nothing of its own."""
    with pytest.raises(InputError) as caught:
        build(compose_config([*BASE, f"model._target_={target}", "~model.bias"]))
    line = str(caught.value)
    assert line.startswith(f"model._target_={target}: ")
    assert words in line
    assert "\n" not in line


@pytest.mark.usefixtures("_own_modules")
def test_what_is_measured_has_neither_dropout_nor_bfloat16() -> None:
    """And what is trained has them again afterwards, also where measuring has failed."""
    rough = own("Dropping", "engine.precision=bf16", "seed=0")
    plain = own("Dropping", "seed=0")
    plain.module.eval()
    params, rows = plain.initial_params(), plain.batch(plain.data.partition.train_rows(0))
    for training in (True, False):
        rough.module.train(training)
        with rough.measuring() as task:
            assert task.loss(params, *rows) == plain.loss(params, *rows)
        assert rough.module.training == training
        assert rough.loss(params, *rows) != plain.loss(params, *rows)
        with pytest.raises(InputError), rough.measuring():
            raise InputError("failed")
        assert rough.module.training == training


def test_a_device_that_is_not_there_is_refused() -> None:
    for device, line in (("gpu", "must be cpu, cuda"), ("cuda:99", "cannot be .*say device=cpu")):
        with pytest.raises(InputError, match=f"^device={device}: {line}"):
            build(compose_config([*BASE, f"device={device}"]))


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(InputError, match=r"engine\.precision=float16: must be float32 \| float64"):
        build(compose_config([*BASE, "engine.precision=float16"]))


@pytest.mark.usefixtures("_own_modules")
def test_any_layer_that_remembers_rows_is_refused() -> None:
    """InstanceNorm with running statistics would carry one client's rows to the next."""
    with pytest.raises(InputError, match=r"layer 1 keeps running statistics .*running_mean"):
        own("with_instance_norm")
