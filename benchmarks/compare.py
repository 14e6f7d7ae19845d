"""A round of training by several contenders, in turns, as lines of the table."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import count

from benchmarks.arithmetic import gemm, gemm_share, operations
from benchmarks.contenders import Trainer
from benchmarks.measure import Contender, cpu_ratio, interleaved, medians, peak_bytes
from benchmarks.outcome import Line, Target
from benchmarks.setting import Setting
from benchmarks.workload import Effort
from nufed.client_app.executor import OneByOne


def compare(
    trainers: Sequence[Trainer],
    effort: Effort,
    repeats: int,
    targets: Mapping[str, Sequence[Target]],
    ours: str | None = None,
) -> list[Line]:
    """Time a round of each trainer, in turns; ratios are to the first.

    Parameters
    ----------
    trainers
        Who does what; all on one device.
    effort, repeats
        How often.
    targets
        Name of a trainer -> what it must reach.
    ours
        Name of the trainer whose CPU seconds those of the others are compared with.
    """
    device = trainers[0].setting.task.device
    ready = [_warm(trainer, effort) for trainer in trainers]
    timed = [Contender(trainer.name, _rounds(trainer)) for trainer in trainers]
    samples = interleaved([gemm(device), *timed], repeats, device=device, say=effort.say)
    lines = []
    for trainer, (peak, said) in zip(trainers, ready, strict=True):
        name = trainer.name
        figures = medians(samples, name, trainers[0].name) | peak
        if trainer.same:
            work = round_operations(trainer.setting)
            figures["gemm_share"] = gemm_share(samples, name, work, device)
        if ours is not None and name != ours:
            figures["cpu_ratio"] = cpu_ratio(samples, name, ours)
        lines.append(Line(name, figures, list(targets.get(name, [])), said))
    return lines


def beside(bounds: Mapping[str, float]) -> dict[str, list[Target]]:
    """Return targets: contender -> how many times the CPU seconds of NuFed it is to take."""
    return {name: [Target("cpu_ratio", "≥", bound)] for name, bound in bounds.items()}


def round_operations(setting: Setting) -> int:
    """Count the floating-point operations of a round: a local step's, times τ and clients."""
    job = replace(setting.job.with_algorithm(tau=1), clients=setting.job.clients[:1])
    one = partial(OneByOne(setting.task).train, setting.params, job)
    return operations(one) * setting.job.tau * len(setting.job.clients)


def _warm(trainer: Trainer, effort: Effort) -> tuple[dict[str, float], str]:
    """Train for a round; return the peak memory, and what the engine said of itself."""
    effort.say(f"{trainer.name}: warming up")
    setting = trainer.setting
    with _said() as lines:
        trainer.train(setting.job)
    peak = {}
    if _countable(trainer):
        job = setting.job.with_algorithm(tau=min(setting.job.tau, 2))
        peak["peak_mb"] = peak_bytes(partial(trainer.train, job), setting.task.device) / 1e6
    return peak, "; ".join([*lines, trainer.about] if trainer.about else lines)


def _countable(trainer: Trainer) -> bool:
    """Tell whether all tensors are made by torch in this process."""
    engine, device = trainer.setting.config.engine, trainer.setting.task.device
    compiled = engine.get("compile") is True and device.type == "cpu"
    return not (trainer.elsewhere or compiled or engine.get("workers"))


def _rounds(trainer: Trainer) -> Callable[[], float]:
    """Return what trains for a round: for another one each time, with other batches."""
    numbers = count(2)
    return lambda: trainer.train(replace(trainer.setting.job, round=next(numbers)))


@contextmanager
def _said() -> Iterator[list[str]]:
    """Collect what the engine says of its choices."""
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    log = logging.getLogger("nufed")
    level = log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield lines
    finally:
        log.removeHandler(handler)
        log.setLevel(level)
