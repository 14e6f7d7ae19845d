"""What is timed to find how many clients at once are quickest: a small part of the real work."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from client_app.client import evaluate
from client_app.local_update import local_step
from client_app.messages import EvaluateInstruction, TrainInstruction
from client_app.meta_gradient import Params
from client_app.stack import repeated
from simulation.lane import Lane
from simulation.stack import batches, draw_train, evaluate_stack, gathered

Run = Callable[[int], object]
"""Does the work of k clients as a stack, or of one by itself for k = 1."""


def train_trial(
    lane: Lane, params: Params, ask: TrainInstruction, limit: int, *, compile: bool
) -> Run:
    """Return one local step of up to `limit` clients of `ask`."""
    task = lane.task
    drawn = draw_train(task, replace(ask, tau=1), ask.clients[:limit])

    def run(k: int) -> object:
        if k == 1:
            (alone,) = gathered(task, drawn, 0)
            return local_step(task.loss, params, alone, **ask.step)
        (some,) = batches(lane.source, drawn.of(range(k)))
        return lane.step(ask, compile)(repeated(params, k, copied=compile), some)

    return run


def evaluate_trial(
    lane: Lane, params: Params, ask: EvaluateInstruction, clients: Sequence[int]
) -> Run:
    """Return the personalization curves of some of `clients`."""

    def run(k: int) -> object:
        if k == 1:
            return evaluate(lane.task, params, ask, clients[0])
        return evaluate_stack(lane.task, lane.source, params, ask, clients[:k])

    return run
