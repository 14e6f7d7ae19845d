"""One local step as a compiled program: engine.compile=true."""

import logging
import os
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from nufed.client_app.local_update import LocalStep, LocalUpdate, StepBatches
from nufed.client_app.meta_gradient import Params
from nufed.conf.errors import InputError, reason
from nufed.simulation.memory import out_of_memory
from nufed.tasks.store import home

Program = Callable[[Params, StepBatches], tuple[Tensor, Tensor]]


class Untraceable(RuntimeError):
    """A step that works but is no fixed list of tensor operations, so that nothing is compiled."""


def compiled(step: LocalStep) -> LocalStep:
    """Return `step` as programs, made when their inputs' shapes and the threads are first met.

    The step is traced to its plain tensor operations, gradients and all, so that the compiler need
    not know of autograd; `torch.compile` turns these into kernels, and keeps them on disk. What is
    returned writes the new parameters over those that it is given.
    """
    programs: dict[tuple[int, tuple[torch.Size, ...]], Program] = {}

    def in_place(params: Params, batches: StepBatches) -> tuple[Tensor, Tensor]:
        result = step(params, batches)
        for name, p in params.items():
            p.copy_(result.params[name])
        return result.loss, result.meta_grad_norm

    def run(params: Params, batches: StepBatches) -> LocalUpdate:
        leaves = tree_leaves((params, batches))
        shapes = tuple(leaf.shape for leaf in leaves if isinstance(leaf, Tensor))
        key = torch.get_num_threads(), shapes  # a program for the CPU is made for these alone
        if key not in programs:
            programs[key] = _compile(in_place, params, batches)
        return LocalUpdate(params, *programs[key](params, batches))

    return run


def _compile(function: Program, params: Params, batches: StepBatches) -> Program:
    """Trace a function on copies of these inputs, compile it, and try it.

    Raises
    ------
    Untraceable
        If it cannot be traced.
    InputError
        If the compiler fails.
    """
    # Seconds of imports, that others need not pay.
    from torch._inductor.runtime.cache_dir_utils import default_cache_dir
    from torch.fx.experimental.proxy_tensor import make_fx

    # What imports the compiler sets the variable, to a folder that does not outlive the machine.
    if os.environ.get("TORCHINDUCTOR_CACHE_DIR") in (None, default_cache_dir()):
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(home().absolute() / "compiled")
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # that CUDA is missing

    def copy() -> Params:
        return {name: p.clone() for name, p in params.items()}

    try:
        graph = make_fx(function)(copy(), batches)
    except Exception as error:
        function(copy(), batches)  # what the step itself raises is no matter of tracing
        raise Untraceable(reason(error)) from error
    # Guards would check at every call what `compiled` has looked up: the shapes.
    options: dict[str, Any] = {"guard_filter_fn": torch.compiler.skip_all_guards_unsafe}
    program: Program = torch.compile(graph, fullgraph=True, dynamic=False, options=options)
    try:
        program(copy(), batches)
    except Exception as error:  # whatever the compiler, or the compiler's compiler, raises
        if out_of_memory(error):
            raise
        raise InputError(
            f"engine.compile=true: {reason(error):.200}; a C++ compiler is needed, "
            "or say engine.compile=false"
        ) from error
    return program
