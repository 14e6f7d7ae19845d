"""Memory: how much a computation needs at its peak, and how much there is."""

import ctypes
import weakref
from contextlib import suppress
from typing import Any, Self

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from nufed.conf.memory import SHARE as SHARE
from nufed.conf.memory import free_ram


class PeakMemory(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Count the bytes of the tensors made inside a ``with`` block and alive at the same time.

    Counted where they are made, so that the figure is exact, the same on every device, and free
    of what the process held before. What a kernel needs for itself meanwhile is not seen.

    Attributes
    ----------
    bytes
        The most that was alive at once.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.bytes = 0
        self._alive = 0
        self._seen: dict[int, int] = {}

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Tell torch not to import its compiler, which takes seconds, for what is not compiled."""
        return False

    def __enter__(self) -> Self:
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run an operation; count the storages of its results, once each, until they are freed."""
        out = func(*args, **(kwargs or {}))
        old = {t.untyped_storage()._cdata for t in tree_leaves((args, kwargs)) if _is_tensor(t)}
        for tensor in filter(_is_tensor, tree_leaves(out)):
            storage = tensor.untyped_storage()
            if storage._cdata not in self._seen and storage._cdata not in old:
                self._seen[storage._cdata] = storage.nbytes()
                self._alive += storage.nbytes()
                self.bytes = max(self.bytes, self._alive)
                weakref.finalize(storage, self._freed, storage._cdata)
        return out

    def _freed(self, key: int) -> None:
        self._alive -= self._seen.pop(key)


def _is_tensor(value: object) -> bool:
    return isinstance(value, torch.Tensor)


def free_bytes(device: torch.device) -> int:
    """Return the bytes that can still be allocated on a device."""
    if device.type == "cuda":
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + cached
    if device.type == "mps":
        limit, used = torch.mps.recommended_max_memory(), torch.mps.driver_allocated_memory()
        return int(limit - used)
    return free_ram()


def keep_freed_memory() -> None:
    """Let freed memory stay with this process, where its allocator is the GNU C library's.

    It gives large blocks back to the system at once, and getting them anew, page by page, takes
    longer than what is computed in them.
    """
    with suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(-3, 32 << 20)  # M_MMAP_THRESHOLD, as high as it may be
        mallopt(-1, (1 << 31) - 1)  # M_TRIM_THRESHOLD


def out_of_memory(error: BaseException) -> bool:
    """Tell an allocation that failed from any other error."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and (
        "DefaultCPUAllocator" in text or "MPS backend out of memory" in text
    )
