"""Kernels that have second derivatives, in place of fused ones, which mostly have not."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel


@contextmanager
def plain_kernels() -> Iterator[None]:
    """Compute attention and recurrent layers by plain operations, for as long as one is within.

    ``scaled_dot_product_attention`` has fused kernels on every device, and cuDNN has them for
    ``nn.LSTM`` and its like: neither can be differentiated twice.
    """
    with sdpa_kernel(SDPBackend.MATH), torch.backends.cudnn.flags(enabled=False):
        yield
