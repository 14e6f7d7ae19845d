"""One local step as a compiled program: engine.compile."""

import logging
import os
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from nufed.client_app.algorithm import Batches, Carry, Step
from nufed.client_app.meta_gradient import Params
from nufed.conf.errors import InputError, reason
from nufed.simulation.memory import out_of_memory
from nufed.tasks.store import home

LocalStep = Callable[[Carry, Batches], Step]
"""One local step of a stack of clients."""
Shown = tuple[Tensor, Tensor, dict[str, Tensor]]
"""Loss, norm and metrics of a step."""
Program = Callable[[Carry, Batches], Shown]


class Untraceable(RuntimeError):
    """A step that works but is no fixed list of tensor operations, so that nothing is compiled."""


class CompilerFailed(InputError):
    """There is no compiler, or it cannot cope."""


class Overwritten(dict[str, Params]):
    """A carry whose tensors are a program's own, to write the next one over."""


def compiled(step: LocalStep) -> LocalStep:
    """Return `step` as programs, made when their inputs' shapes and the threads are first met.

    The step is traced to its plain tensor operations, gradients and all, so that the compiler need
    not know of autograd; `torch.compile` turns these into kernels, and keeps them on disk. What a
    step leads to is written over what it started from, but for that of the first.
    """
    programs: dict[tuple[int, tuple[torch.Size, ...]], Program] = {}

    def in_place(carry: Carry, batches: Batches) -> Shown:
        result = step(carry, batches)
        for p, new in zip(tree_leaves(carry), tree_leaves(result.carry), strict=True):
            if new is not p:
                p.copy_(new)
        return result.loss, result.norm, dict(result.metrics)

    def run(carry: Carry, batches: Batches) -> Step:
        carry = dict(carry) if isinstance(carry, Overwritten) else copied(carry)
        leaves = tree_leaves((carry, batches))
        shapes = tuple(leaf.shape for leaf in leaves if isinstance(leaf, Tensor))
        key = torch.get_num_threads(), shapes  # a program for the CPU is made for these alone
        if key not in programs:
            programs[key] = _compile(in_place, carry, batches)
        loss, norm, metrics = programs[key](carry, batches)
        return Step(Overwritten(carry), loss, norm, metrics)

    return run


def copied(carry: Carry) -> Carry:
    """Return tensors of their own, each of them whole in memory."""
    return {
        kind: {name: p.clone(memory_format=torch.contiguous_format) for name, p in params.items()}
        for kind, params in carry.items()
    }


def _compile(function: Program, carry: Carry, batches: Batches) -> Program:
    """Trace a function on copies of these inputs, compile it, and try it.

    Raises
    ------
    Untraceable
        If it cannot be traced.
    CompilerFailed
        If the compiler does.
    """
    # Seconds of imports, that others need not pay.
    from torch._inductor.runtime.cache_dir_utils import default_cache_dir
    from torch.fx.experimental.proxy_tensor import make_fx

    # What imports the compiler sets the variable, to a folder that does not outlive the machine.
    if os.environ.get("TORCHINDUCTOR_CACHE_DIR") in (None, default_cache_dir()):
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(home().absolute() / "compiled")
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # that CUDA is missing

    try:
        graph = make_fx(function)(copied(carry), batches)
    except Exception as error:
        function(copied(carry), batches)  # what the step itself raises is no matter of tracing
        raise Untraceable(reason(error)) from error
    # Guards would check at every call what `compiled` has looked up: the shapes.
    options: dict[str, Any] = {"guard_filter_fn": torch.compiler.skip_all_guards_unsafe}
    program: Program = torch.compile(graph, fullgraph=True, dynamic=False, options=options)
    try:
        program(copied(carry), batches)
    except Exception as error:  # whatever the compiler, or the compiler's compiler, raises
        if out_of_memory(error):
            raise
        raise CompilerFailed(
            f"engine.compile: {reason(error):.200}; a C++ compiler is needed, "
            "or say engine.compile=false"
        ) from error
    return program
