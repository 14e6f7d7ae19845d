"""One local step as a compiled program: engine.compile."""

import logging
import os
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from nufed.client_app.algorithm import Batches, Carry, Step
from nufed.client_app.meta_gradient import Params
from nufed.conf.errors import InputError, reason
from nufed.simulation.memory import out_of_memory
from nufed.tasks.store import home

LocalStep = Callable[[Carry, Batches], Step]
"""One local step of a stack of clients."""
Program = Callable[..., Sequence[Tensor]]
"""Takes the tensors of a carry and of batches; gives loss, norm and metrics of a step."""


class Untraceable(RuntimeError):
    """A step that works but is no fixed list of tensor operations, so that nothing is compiled."""


class CompilerFailed(InputError):
    """There is no compiler, or it cannot cope."""


class Overwritten(dict[str, Params]):
    """A carry whose tensors are a program's own, to write the next one over."""


def compiled(step: LocalStep) -> LocalStep:
    """Return `step` as programs, made when their inputs' shapes and the threads are first met.

    The step is traced to its plain tensor operations, gradients and all, so that the compiler need
    not know of autograd; Inductor turns these into kernels, and keeps them on disk. What a step
    leads to is written over what it started from, but for that of the first.
    """
    programs: dict[tuple[int, tuple[torch.Size, ...]], tuple[Program, list[str]]] = {}

    def run(carry: Carry, batches: Batches) -> Step:
        carry = carry if isinstance(carry, Overwritten) else Overwritten(copied(carry))
        given = leaves(carry, batches)
        # A program for the CPU is made for these threads alone.
        key = torch.get_num_threads(), tuple([leaf.shape for leaf in given])
        if key not in programs:
            programs[key] = _compile(step, carry, batches)
        program, shown = programs[key]
        loss, norm, *metrics = program(*given)
        return Step(carry, loss, norm, dict(zip(shown, metrics, strict=True)))

    return run


def leaves(carry: Carry, batches: Batches) -> list[Tensor]:
    """Return all tensors, in one order."""
    parameters = [p for params in carry.values() for p in params.values()]
    return parameters + [rows for batch in batches.values() for rows in batch]


def copied(carry: Carry) -> Carry:
    """Return tensors of their own, each of them whole in memory."""
    return {
        kind: {name: p.clone(memory_format=torch.contiguous_format) for name, p in params.items()}
        for kind, params in carry.items()
    }


def _compile(step: LocalStep, carry: Carry, batches: Batches) -> tuple[Program, list[str]]:
    """Trace a step on copies of these inputs, compile it, and try it.

    Returns
    -------
    tuple
        The program, and the names of the metrics that it gives.

    Raises
    ------
    Untraceable
        If it cannot be traced.
    CompilerFailed
        If the compiler does.
    """
    # Seconds of imports, that others need not pay.
    import torch._inductor
    from torch._inductor.runtime.cache_dir_utils import default_cache_dir
    from torch.fx.experimental.proxy_tensor import make_fx

    # What imports the compiler sets the variable, to a folder that does not outlive the machine.
    if os.environ.get("TORCHINDUCTOR_CACHE_DIR") in (None, default_cache_dir()):
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(home().absolute() / "compiled")
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # that CUDA is missing

    def inputs() -> list[Tensor]:
        return leaves(copied(carry), batches)

    shown = list[str]()

    def in_place(*tensors: Tensor) -> list[Tensor]:
        given = iter(tensors)
        before = {kind: {name: next(given) for name in carry[kind]} for kind in carry}
        rows = {name: tuple(next(given) for _ in batch) for name, batch in batches.items()}
        result = step(before, rows)
        for p, new in zip(leaves(before, {}), leaves(result.carry, {}), strict=True):
            if new is not p:
                p.copy_(new)
        shown[:] = result.metrics
        return [result.loss, result.norm, *result.metrics.values()]

    try:
        graph = make_fx(in_place)(*inputs())
    except Exception as error:
        in_place(*inputs())  # what the step itself raises is no matter of tracing
        raise Untraceable(reason(error)) from error
    try:
        # Not torch.compile, which would look up at every call what `compiled` has: the shapes.
        program: Program = torch._inductor.standalone_compile(
            graph, [*inputs()], dynamic_shapes="from_example_inputs"
        )
        program(*inputs())
    except Exception as error:  # whatever the compiler, or the compiler's compiler, raises
        if out_of_memory(error):
            raise
        raise CompilerFailed(
            f"engine.compile: {reason(error):.200}; a C++ compiler is needed, "
            "or say engine.compile=false"
        ) from error
    return program, shown
