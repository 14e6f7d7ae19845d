"""Gated recurrent units for sequences, of plain operations.

The kernel that `nn.GRU` calls takes no stack of clients (vmap has no rule for it), so that clients
are computed one by one, and on GPUs it has no second derivative; matrix products and sigmoids have
both. The function is that of `nn.GRU`.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from nufed.conf.schema import require
from nufed.tasks.sequences import SequenceModel


class GRU(SequenceModel):
    """Embedding, GRU layers (Cho et al. 2014) and a linear layer, over T places.

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
        whole, from the state at its end, [B, num_outputs].
    embedding
        Features that a token, or the numbers at a place, become.
    width, depth
        Features of the state, and layers.

    Raises
    ------
    InputError
        If rows are no sequences, or a size is below 1.
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        num_outputs: int,
        num_tokens: int | None = None,
        places: Sequence[int] = (),
        embedding: int = 8,
        width: int = 128,
        depth: int = 1,
    ) -> None:
        for key, size in (("embedding", embedding), ("width", width), ("depth", depth)):
            require(size >= 1, f"model.{key}", size, "at least 1")
        super().__init__("gru", input_shape, num_tokens, places, embedding)
        self.layers = nn.Sequential(
            *(Layer(width if i else embedding, width) for i in range(depth))
        )
        self.head = nn.Linear(width, num_outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Return [B, T, num_outputs] or [B, num_outputs] for x [B, T] or [B, T, d]."""
        states = self.layers(self.embedded(x))
        outputs: Tensor = self.head(states if self.at_each_place else states[:, -1])
        return outputs


class Layer(nn.Module):
    """One layer; its parameters are those of `nn.GRU`, gates in the order reset, update, new."""

    def __init__(self, inside: int, width: int) -> None:
        super().__init__()
        self.of_input = nn.Linear(inside, 3 * width)
        self.of_state = nn.Linear(width, 3 * width)
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -1 / math.sqrt(width), 1 / math.sqrt(width))

    def forward(self, x: Tensor) -> Tensor:
        """Return the state at each place, [B, T, width], for [B, T, inside]."""
        state = x.new_zeros(len(x), self.of_state.in_features)
        states = []
        for place in self.of_input(x).unbind(1):
            reset_i, update_i, new_i = place.chunk(3, -1)
            reset_s, update_s, new_s = self.of_state(state).chunk(3, -1)
            update = torch.sigmoid(update_i + update_s)
            new = torch.tanh(new_i + torch.sigmoid(reset_i + reset_s) * new_s)
            state = new + update * (state - new)
            states.append(state)
        return torch.stack(states, 1)
