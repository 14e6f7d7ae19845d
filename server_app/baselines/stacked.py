"""Clients that are measured many at once, where their rows are in this process."""

from dataclasses import replace

from nufed.client_app.messages import EvaluateReport
from nufed.client_app.meta_gradient import Params
from nufed.client_app.work import Measuring
from nufed.simulation.executor import why_one_by_one
from nufed.simulation.lane import Lane
from nufed.simulation.plan import ONE_BY_ONE, Way
from nufed.simulation.search import fitting
from nufed.simulation.trial import evaluate_trial
from nufed.tasks.task import Task

AT_ONCE = 50  # clients in a stack


def stacked(task: Task, model: Params, ask: Measuring) -> EvaluateReport:
    """Measure the clients of `ask`, as many at once as fit, where a stack changes nothing."""
    lane = Lane(task)
    return lane.evaluate(model, ask, ask.clients, way(lane, model, ask))


def way(lane: Lane, model: Params, ask: Measuring) -> Way:
    """Return how many clients are computed at once."""
    task, clients = lane.task, ask.clients
    if len(clients) < 2 or why_one_by_one(task, model) is not None:
        return ONE_BY_ONE
    try:
        fit = fitting(
            evaluate_trial(lane, model, replace(ask, steps=min(ask.steps, 1)), clients),
            len(clients),
            task.device,
        )
    except Exception:  # what a stack cannot do; a client that fails by itself is named in its turn
        return ONE_BY_ONE
    return Way(min(AT_ONCE, fit, len(clients)))
