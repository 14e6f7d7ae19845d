"""Tokens that a model does not know, and tokens that are stored as something else."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nufed.conf.compose import compose_config
from nufed.conf.errors import InputError
from nufed.tasks.task import Task, build

Save = Callable[..., Path]
TOKENS = np.array([[1, 2, 3], [4, 5, 29], [6, 7, 8], [1, 2, 3], [3, 2, 1], [9, 9, 9]])


class Embeds(nn.Module):
    """An embedding, as people write it."""

    def __init__(self, num_outputs: int, num_tokens: int | None = None, shift: int = 0) -> None:
        super().__init__()
        self.shift = shift
        self.embedding = nn.Embedding((num_tokens or 30) + shift, 4, padding_idx=0)
        self.last = nn.Linear(4, num_outputs)

    def forward(self, x: Tensor) -> Tensor:
        outputs: Tensor = self.last(self.embedding(x + self.shift).mean(1))
        return outputs


class Columns(nn.Module):
    """A vocabulary of its own for each of two columns, of which one is small."""

    def __init__(self, num_outputs: int) -> None:
        super().__init__()
        self.small, self.large = nn.Embedding(3, num_outputs), nn.Embedding(1000, num_outputs)

    def forward(self, x: Tensor) -> Tensor:
        outputs: Tensor = self.small(x[:, 0]) + self.large(x[:, 1])
        return outputs


def task(path: Path, *overrides: str, model: str = "Embeds") -> Task:
    given = [f"dataset.path={path}", "dataset.one_class=keep", *overrides]
    own = ["model=custom", f"model._target_={__name__}.{model}"] if model else []
    return build(compose_config(["dataset=npz", *given, *own]))


def refusal(path: Path, *overrides: str, model: str = "Embeds") -> str:
    with pytest.raises(InputError) as caught:
        task(path, *overrides, model=model)
    line = str(caught.value)
    assert "\n" not in line
    return line


def test_padding_below_zero_is_refused_with_what_to_do(save: Save) -> None:
    """By one's own model and by ours, in one row among many, before anything is computed."""
    padded = TOKENS.copy()
    padded[4, 2] = -1
    for model, words in (("Embeds", []), ("", ["model=transformer"])):
        line = refusal(save(x=padded), *words, model=model)
        assert "does not take x, which holds -1 to 29 (" in line
        assert "tokens are numbered from 0, and so is padding: make it 30, or 0" in line


def test_padding_that_a_model_numbers_itself_is_taken(save: Save) -> None:
    padded = TOKENS.copy()
    padded[:, 2] = -1
    of = task(save(x=padded), "+model.shift=1")
    x, _ = of.batch(np.arange(6))
    assert x[:, 2].tolist() == [-1] * 6
    assert torch.isfinite(of.predict(of.initial_params(), x)).all()


def test_a_vocabulary_that_is_too_small_is_refused(save: Save) -> None:
    line = refusal(save(x=TOKENS), "+model.num_tokens=20")
    assert "which holds 1 to 29 (index out of range in self)" in line
    assert "it has to know 30 tokens, num_tokens=30" in line


def test_each_column_may_have_a_vocabulary_of_its_own(save: Save) -> None:
    """What is highest in one column need not be known in another."""
    x = np.array([[0, 999], [1, 5], [2, 7], [0, 0], [1, 1], [2, 2]])
    assert task(save(x=x), model="Columns").integers
    x[3, 0] = 3
    assert "which holds 0 to 999" in refusal(save(x=x), model="Columns")


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("uint8", "; x is uint8, taken for pixels and divided by 255: tokens are int64, x.astype("),
        ("float32", "; x is float32: tokens are int64, x.astype('int64')"),
        ("bool", "; x is bool: tokens are int64, x.astype('int64')"),
    ],
)
def test_tokens_of_another_type_are_refused_with_what_to_do(
    save: Save, kind: str, words: str
) -> None:
    line = refusal(save(x=TOKENS.astype(kind)))
    assert "does not take rows of shape [3]: " in line
    assert words in line
    fits = task(save(x=TOKENS.astype(kind).astype("int64")))
    assert fits.integers


def test_rows_that_neither_fit_are_answered_without_talk_of_tokens(save: Save) -> None:
    words = ["model=custom", "model._target_=torch.nn.Linear", "+model.in_features=7"]
    path = save(x=TOKENS.astype("uint8"))
    line = refusal(path, *words, "+model.out_features=3", model="")
    assert "does not take rows of shape [3]" in line
    assert "tokens" not in line


class Casts(Embeds):
    """Makes tokens of whatever it is given, as many text models do."""

    def __init__(self, num_outputs: int) -> None:
        super().__init__(num_outputs)
        self.dropout = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        return self.dropout(super().forward(x.long()))


class Starts(nn.Sequential):
    """Gives zeros at first, whatever it is given, as adapters do."""

    def __init__(self) -> None:
        last = nn.Linear(4, 3)
        nn.init.zeros_(last.weight)
        super().__init__(nn.Linear(3, 4), nn.ReLU(), last)


def test_a_model_that_makes_zeros_of_pixels_is_refused(save: Save) -> None:
    """uint8 is divided by 255, of which it would see nothing: a wrong number without a word."""
    line = refusal(save(x=TOKENS.astype("uint8")), model="Casts")
    assert "makes integers of x" in line
    assert "x is uint8: zeros all of them; tokens are int64, x.astype('int64')" in line
    assert task(save(x=TOKENS), model="Casts").integers
    assert not task(save(x=TOKENS.astype("uint8")), model="Starts").integers


def test_pixels_are_taken(save: Save) -> None:
    assert not task(save(x=TOKENS.astype("uint8")), model="").integers
