"""The GRU is torch's own, and unlike that takes a stack of clients."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from nufed.client_app.meta_gradient import meta_gradient
from nufed.conf.compose import compose_config
from nufed.conf.errors import InputError
from nufed.tasks.gru import GRU
from nufed.tasks.task import build
from tests.helpers import RunResult, distance, network, unrolled_meta_gradient

Save = Callable[..., Path]
TOKENS = np.array([[0, 4, 1], [2, 2, 0], [1, 0, 3], [0, 0, 0], [4, 1, 2], [3, 3, 3]])


def small(**sizes: int) -> GRU:
    torch.manual_seed(0)
    return GRU((7,), 5, num_tokens=11, places=(7,), **{"embedding": 3, "width": 4} | sizes)


@pytest.mark.parametrize("depth", [1, 2])
def test_it_is_torchs_gru(depth: int) -> None:
    """The same states from the same parameters, in `nn.GRU`'s names of them."""
    model = small(depth=depth).double()
    theirs = nn.GRU(3, 4, num_layers=depth, batch_first=True).double()
    of = dict(model.named_parameters())
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():  # such as weight_ih_l0
            kind, side, layer = name.split("_")
            own = {"ih": "of_input", "hh": "of_state"}[side]
            parameter.copy_(of[f"layers.{layer[1:]}.{own}.{kind}"])
    x = model.embedding(torch.randint(11, (6, 7)))
    assert torch.allclose(model.layers(x), theirs(x)[0], atol=1e-14)


def test_a_place_sees_itself_and_those_before() -> None:
    model = small()
    x = torch.randint(11, (3, 7))
    changed = x.clone()
    changed[:, 4] = (x[:, 4] + 1) % 11
    moved = (model(x) - model(changed)).abs().amax((0, 2)) > 1e-7
    assert moved.tolist() == [False] * 4 + [True] * 3


def test_its_meta_gradient_is_exact() -> None:
    """∇F with both Hessian factors, against autograd through the whole inner loop."""
    model = GRU((4, 2), 3, embedding=2, width=3)
    loss, params = network(model)
    x, y = torch.randn(3, 5, 4, 2, dtype=torch.float64), torch.randint(3, (3, 5))
    support, query = (x[:2], y[:2]), (x[2], y[2])
    found = meta_gradient(loss, params, support, query, alpha=0.3)
    expected = unrolled_meta_gradient(loss, params, support, query, 0.3)
    first_order = meta_gradient(loss, params, support, query, alpha=0.3, mode="first_order")
    assert distance(found, expected) < 1e-12
    assert distance(first_order, expected) > 1e-4


def test_a_stack_is_its_clients_one_by_one_as_torchs_cannot_be() -> None:
    model = small()
    stack = {name: torch.randn(3, *p.shape) for name, p in model.named_parameters()}
    x = torch.randint(11, (3, 2, 7))

    def outputs(params: dict[str, Tensor], x: Tensor) -> Tensor:
        found: Tensor = functional_call(model, params, (x,))
        return found

    together = vmap(outputs)(stack, x)
    for i in range(3):
        alone = outputs({name: p[i] for name, p in stack.items()}, x[i])
        assert torch.allclose(together[i], alone, atol=1e-5)
    theirs = nn.GRU(3, 4, batch_first=True)
    with pytest.raises(RuntimeError, match="gru"):
        vmap(lambda x: theirs(x)[0])(torch.randn(3, 2, 7, 3))


def test_a_run_in_stacks_is_the_run_one_by_one(save: Save, train: Callable[..., RunResult]) -> None:
    client = np.repeat(np.arange(6), 6)
    x = np.random.default_rng(0).integers(5, size=(36, 4))
    path = save(x=x, y=(x + client[:, None]) % 5, client=client)
    given = [
        *("dataset=npz", f"dataset.path={path}", "model=gru", "model.width=6", "rounds=2"),
        *("algorithm.nu=2", "algorithm.alpha=0.3", "algorithm.beta=0.3", "algorithm.tau=2"),
        *("algorithm.batch.support=4", "algorithm.batch.query=4", "clients_per_round=4"),
        *("evaluation.steps=1", "tracking=none"),
    ]
    alone, stack = (train([*given, f"engine.chunk_size={n}"]) for n in (1, 4))
    assert distance(alone.model, stack.model) < 1e-6
    initial = build(compose_config(given)).initial_params()
    assert distance(alone.model, initial) > 1e-2


@pytest.mark.parametrize(
    ("x", "y", "outputs"),
    [
        (TOKENS, TOKENS % 2, (6, 3, 2)),
        (TOKENS, TOKENS[:, 0] % 2, (6, 2)),
        (TOKENS * 0.5, TOKENS[:, 0] * 0.5, (6, 1)),
        (np.zeros((6, 3, 4)), TOKENS % 2, (6, 3, 2)),
    ],
    ids=["a class at each place", "a class a row", "a series, a target", "features, places"],
)
def test_it_is_sized_from_the_data(
    save: Save, x: np.ndarray, y: np.ndarray, outputs: tuple[int, ...]
) -> None:
    of = build(
        compose_config(
            ["dataset=npz", f"dataset.path={save(x=x, y=y)}", "model=gru", "dataset.one_class=keep"]
        )
    )
    given, targets = of.batch(np.arange(6))
    assert of.predict(of.initial_params(), given).shape == outputs
    assert torch.isfinite(of.loss(of.initial_params(), given, targets))


@pytest.mark.parametrize(
    ("x", "y", "override", "words"),
    [
        (np.zeros((6, 2, 2, 2)), TOKENS % 2, "seed=0", "model=gru: a row has shape [2, 2, 2]"),
        (TOKENS, TOKENS[:, :2] % 2, "seed=0", "x has 3 places a row and y [2]"),
        (TOKENS, TOKENS % 2, "model.width=0", "model.width=0: must be at least 1"),
        (TOKENS, TOKENS % 2, "model.depth=0", "model.depth=0: must be at least 1"),
    ],
)
def test_what_does_not_fit_is_refused(
    save: Save, x: np.ndarray, y: np.ndarray, override: str, words: str
) -> None:
    given = ["dataset=npz", f"dataset.path={save(x=x, y=y)}", "dataset.one_class=keep"]
    with pytest.raises(InputError) as caught:
        build(compose_config([*given, "model=gru", override]))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
