"""Integers x for a module that takes them: tokens, each of which an embedding has a row for."""

import numpy as np
import torch
from torch import Tensor, nn

from nufed.conf.errors import InputError, reason
from nufed.tasks.store import FederatedData

TIMES = 32  # so that dropout leaves something of a row
INT64 = "tokens are int64, x.astype('int64')"


def require_known(module: nn.Module, data: FederatedData, where: str) -> None:
    """Push the lowest and the highest token of each place through a module.

    An embedding fails on the first row that holds a token it does not know, in the middle of a run.

    Parameters
    ----------
    module
        One that takes integers.
    where
        What names it to a person.

    Raises
    ------
    InputError
        If it does not take them.
    """
    if not data.rows_here:
        return
    low, high = (np.asarray(extreme, np.int64) for extreme in (data.x.min(0), data.x.max(0)))
    for rows in (low, high):
        if (error := _refused(module, torch.from_numpy(rows)[None])) is not None:
            least, most = int(low.min()), int(high.max())
            number = most + 1
            remedy = f"it has to know {number:,} tokens, num_tokens={number}"
            if least < 0:
                remedy = f"tokens are numbered from 0, and so is padding: make it {number}, or 0"
            raise InputError(
                f"{where}: does not take x, which holds {least} to {most} ({reason(error)}); "
                f"{remedy}"
            ) from error


def require_seen(module: nn.Module, data: FederatedData, where: str, dtype: torch.dtype) -> None:
    """Raise an `InputError` if a module makes integers of pixels in [0, 1], and so zeros of all.

    It is meant for tokens, then, which lie in a file as uint8. Arguments as of `require_known`;
    `dtype` is that of real x.
    """
    if data.x.dtype != np.uint8 or not data.rows_here:
        return
    tokens = torch.from_numpy(np.asarray(data.x.max(0))).to(dtype)[None]
    pixels = torch.linspace(0.1, 0.9, tokens.numel(), dtype=dtype).view(tokens.shape)
    of_none, of_pixels, of_tokens = (
        _outputs(module, x) for x in (torch.zeros_like(tokens), pixels, tokens)
    )
    if torch.equal(of_pixels, of_none) and not torch.equal(of_tokens, of_none):
        raise InputError(
            f"{where}: makes integers of x, which are pixels divided by 255, as x is uint8: zeros "
            f"all of them; {INT64}"
        )


def hint(module: nn.Module, data: FederatedData) -> str:
    """Return what to say where a module does not take x as reals, but takes integers; or ""."""
    if _refused(module, torch.zeros(2, *data.x.shape[1:], dtype=torch.int64)) is not None:
        return ""
    pixels = ", taken for pixels and divided by 255" if data.x.dtype == np.uint8 else ""
    return f"; x is {data.x.dtype}{pixels}: {INT64}"


def _refused(module: nn.Module, rows: Tensor) -> Exception | None:
    """Return what a module raises on rows."""
    try:
        with torch.no_grad():
            module(rows)
    except Exception as error:  # whatever the user's code raises
        return error
    return None


def _outputs(module: nn.Module, rows: Tensor) -> Tensor:
    """Return what a module gives for rows, dropout drawn alike in each call; else nothing."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():  # which ends as it began
        try:
            outputs = module(rows.repeat(TIMES, *[1] * (rows.ndim - 1)))
        except Exception:  # such as of a token that it does not know
            outputs = None
    return outputs if isinstance(outputs, Tensor) else torch.empty(0)
