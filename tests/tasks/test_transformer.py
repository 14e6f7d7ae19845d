"""The transformer sees what it may see, and integers reach the models that take them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nufed.conf.compose import compose_config
from nufed.conf.errors import InputError
from nufed.tasks.task import Task, build
from nufed.tasks.transformer import Block, Transformer

Save = Callable[..., Path]
TOKENS = np.array([[0, 4, 1], [2, 2, 0], [1, 0, 3], [0, 0, 0], [4, 1, 2], [3, 3, 3]])
PLACES = TOKENS % 2


def task(path: Path, *overrides: str) -> Task:
    return build(compose_config(["dataset=npz", f"dataset.path={path}", *overrides]))


@pytest.mark.parametrize("causal", [True, False])
def test_a_causal_place_sees_itself_and_those_before(causal: bool) -> None:
    model = Transformer((7,), 5, num_tokens=11, places=(7,), causal=causal)
    x = torch.randint(11, (3, 7))
    changed = x.clone()
    changed[:, 4] = (x[:, 4] + 1) % 11
    moved = (model(x) - model(changed)).abs().amax((0, 2)) > 1e-6
    assert moved.tolist() == ([False] * 4 + [True] * 3 if causal else [True] * 7)


def test_attention_is_torchs_own() -> None:
    """`scaled_dot_product_attention` of the same queries, keys and values, head by head."""
    block = Block(width=12, heads=3, places=5, causal=True).double()
    x = torch.randn(2, 5, 12, dtype=torch.float64)
    split = block.query_key_value(x).reshape(2, 5, 3, 3, 4)  # rows, places, q k v, heads, features
    query, key, value = (split[:, :, i].transpose(1, 2) for i in range(3))
    expected = F.scaled_dot_product_attention(query, key, value, is_causal=True)
    found = block._attention(x)
    assert torch.allclose(found, expected.transpose(1, 2).reshape(2, 5, 12), atol=1e-12)


@pytest.mark.parametrize(
    ("x", "y", "outputs"),
    [
        (TOKENS, PLACES, (6, 3, 2)),
        (TOKENS, TOKENS[:, 0] % 2, (6, 2)),
        (TOKENS * 0.5, TOKENS[:, 0] * 0.5, (6, 1)),
        (np.zeros((6, 3, 4)), PLACES, (6, 3, 2)),
    ],
    ids=["a class at each place", "a class a row", "a series, a target", "features, places"],
)
def test_it_is_sized_from_the_data(
    save: Save, x: np.ndarray, y: np.ndarray, outputs: tuple[int, ...]
) -> None:
    of = task(save(x=x, y=y), "model=transformer", "dataset.one_class=keep")
    given, targets = of.batch(np.arange(6))
    assert of.predict(of.initial_params(), given).shape == outputs
    assert given.dtype == (torch.int64 if x.dtype.kind == "i" else torch.float32)
    assert torch.isfinite(of.loss(of.initial_params(), given, targets))


def test_places_that_do_not_count_change_nothing(save: Save) -> None:
    """And what stands in x there is seen by later places alone, of which there are none."""
    y = np.array(PLACES)
    y[:, 2] = -1
    of = task(save(x=TOKENS, y=y), "model=transformer", "dataset.one_class=keep")
    params, (x, places) = of.initial_params(), of.batch(np.arange(6))
    outputs = of.predict(params, x)
    expected = F.cross_entropy(outputs[:, :2].flatten(0, 1), places[:, :2].flatten())
    assert float(of.loss(params, x, places)) == pytest.approx(float(expected), abs=1e-6)
    right = (outputs.argmax(-1) == places)[:, :2].float().mean()
    assert float(of.metrics(params, x, places)["accuracy"]) == pytest.approx(float(right))
    other = x.clone()
    other[:, 2] = 0
    assert of.loss(params, other, places) == of.loss(params, x, places)


@pytest.mark.parametrize(
    ("x", "y", "overrides", "words"),
    [
        (np.zeros((6, 2, 2, 2)), PLACES, [], "model=transformer: a row has shape [2, 2, 2]"),
        (TOKENS, PLACES[:, :2], [], "x has 3 places a row and y [2]"),
        (TOKENS, PLACES, ["model.heads=5"], "model.heads=5: must divide model.width=64"),
        (
            TOKENS,
            PLACES,
            ["model=custom", f"model._target_={__name__}.Own", "+model.tokens=11"],
            "the data needs [3, 2], classes at each place",
        ),
    ],
)
def test_what_does_not_fit_is_refused(
    save: Save, x: np.ndarray, y: np.ndarray, overrides: list[str], words: str
) -> None:
    with pytest.raises(InputError) as caught:
        task(save(x=x, y=y), "model=transformer", "dataset.one_class=keep", *overrides)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


class Own(nn.Module):
    """An embedding of so many tokens."""

    def __init__(self, num_outputs: int, tokens: int) -> None:
        super().__init__()
        self.scores = nn.Embedding(tokens, num_outputs)

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.scores(x)
        return scores.mean(-2)


@pytest.mark.parametrize("dtype", ["i8", "i4", "u2"])
def test_integers_reach_an_embedding_and_reals_a_matrix_product(save: Save, dtype: str) -> None:
    """The same file serves both, and the batched engine gives them as they are stored."""
    path = save(x=TOKENS.astype(dtype))
    own = ["model=custom", f"model._target_={__name__}.Own", "+model.tokens=5"]
    for overrides, integers in ((own, True), (["model=mlp"], False)):
        of = task(path, *overrides)
        x, y = of.batch(np.arange(6))
        assert of.integers == integers
        assert x.dtype == (torch.int64 if integers else torch.float32)
        np.testing.assert_array_equal(x.numpy(), TOKENS)
        stored = torch.from_numpy(TOKENS.astype(dtype))
        assert torch.equal(
            of.loss(of.initial_params(), stored, y), of.loss(of.initial_params(), x, y)
        )
