"""What models of sequences have in common: rows of T places, and an embedding of each place."""

from collections.abc import Sequence

from torch import Tensor, nn

from nufed.conf.errors import InputError
from nufed.conf.making import find
from nufed.conf.targets import ours


class SequenceModel(nn.Module):
    """Embeds tokens, or the numbers at a place; has parameters of each token.

    Parameters
    ----------
    name
        The option of `model`, which errors name.
    input_shape
        (T,) for one token or number a place, (T, d) for d numbers a place.
    num_tokens
        Tokens there are, where x holds tokens; None where it holds numbers.
    places
        (T,) for outputs at each place; () for outputs of the sequence as a whole.
    features
        That a token, or the numbers at a place, become.

    Raises
    ------
    InputError
        If rows are no sequences.
    """

    def __init__(
        self,
        name: str,
        input_shape: Sequence[int],
        num_tokens: int | None,
        places: Sequence[int],
        features: int,
    ) -> None:
        super().__init__()
        if len(input_shape) not in (1, 2) or (num_tokens is not None and len(input_shape) != 1):
            raise InputError(
                f"model={name}: a row has shape {list(input_shape)}, not [T] tokens or numbers, "
                "nor [T, d] numbers; say model=mlp"
            )
        if places and tuple(places) != (input_shape[0],):
            raise InputError(
                f"model={name}: x has {input_shape[0]} places a row and y {list(places)}; give y "
                "one class for each place of x"
            )
        self.at_each_place, self.tokens = bool(places), num_tokens is not None
        numbers = input_shape[1] if len(input_shape) == 2 else 1
        self.embedding = (
            nn.Linear(numbers, features)
            if num_tokens is None
            else nn.Embedding(num_tokens, features)
        )

    def embedded(self, x: Tensor) -> Tensor:
        """Return [B, T, features] for x [B, T] or [B, T, d]."""
        if not self.tokens and x.ndim == 2:
            x = x[..., None]
        found: Tensor = self.embedding(x)
        return found


def embeds(target: str | None) -> bool:
    """Tell whether a model of NuFed's has parameters of each token; of others, nobody knows."""
    if target not in ours():
        return False
    found = find(target)
    return isinstance(found, type) and issubclass(found, SequenceModel)
