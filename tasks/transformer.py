"""A small transformer for sequences, of plain operations: gradients of gradients go through it.

The kernels that `nn.LSTM` and `nn.MultiheadAttention` call have no second derivative everywhere,
nor do they take a stack of clients; a matrix product and a softmax do.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from nufed.conf.errors import InputError
from nufed.tasks.sequences import SequenceModel


class Transformer(SequenceModel):
    """Pre-norm transformer (Vaswani et al. 2017; Radford et al. 2019) over T places.

    Parameters
    ----------
    input_shape
        (T,) for one token or number a place, (T, d) for d numbers a place.
    num_outputs
        Classes, or regression targets.
    num_tokens
        Tokens there are, where x holds tokens; None where it holds numbers.
    places
        (T,) for outputs at each place, [B, T, num_outputs]; () for outputs of the sequence as a
        whole, from the mean over its places, [B, num_outputs].
    width, depth, heads
        Features a place, blocks, and heads of attention in each.
    causal
        Whether a place sees only itself and those before it, as the next token asks.

    Raises
    ------
    InputError
        If rows are no sequences, or heads do not share the width evenly.
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        num_outputs: int,
        num_tokens: int | None = None,
        places: Sequence[int] = (),
        width: int = 64,
        depth: int = 2,
        heads: int = 4,
        causal: bool = True,
    ) -> None:
        if width % heads:
            raise InputError(f"model.heads={heads}: must divide model.width={width}")
        super().__init__("transformer", input_shape, num_tokens, places, width)
        self.position = nn.Parameter(torch.randn(input_shape[0], width) / math.sqrt(width))
        blocks = [Block(width, heads, input_shape[0], causal) for _ in range(depth)]
        self.blocks = nn.Sequential(*blocks, nn.LayerNorm(width))
        self.head = nn.Linear(width, num_outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Return [B, T, num_outputs] or [B, num_outputs] for x [B, T] or [B, T, d]."""
        features = self.blocks(self.embedded(x) + self.position)
        outputs: Tensor = self.head(features if self.at_each_place else features.mean(-2))
        return outputs


class Block(nn.Module):
    """Self-attention, then two layers at each place, each added to what it was given."""

    def __init__(self, width: int, heads: int, places: int, causal: bool) -> None:
        super().__init__()
        self.heads = heads
        self.before_attention, self.before_layers = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query_key_value, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.layers = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )
        unseen = torch.ones(places, places, dtype=torch.bool).triu(1) & causal
        self.register_buffer("unseen", unseen, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return [B, T, width] for [B, T, width]."""
        x = x + self.out(self._attention(self.before_attention(x)))
        after: Tensor = x + self.layers(self.before_layers(x))
        return after

    def _attention(self, x: Tensor) -> Tensor:
        heads = self.query_key_value(x).unflatten(-1, (3, self.heads, -1)).movedim(-4, -2)
        query, key, value = heads.unbind(-4)  # [B, heads, T, width / heads]
        scores = query @ key.mT / math.sqrt(query.shape[-1])
        weights = scores.masked_fill(self.unseen, -torch.inf).softmax(-1)
        attended: Tensor = weights @ value
        return attended.movedim(-3, -2).flatten(-2)
