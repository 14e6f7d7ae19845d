"""Clients that are measured many at once, where their rows are in this process."""

from dataclasses import replace

from nufed.client_app.messages import EvaluateReport
from nufed.client_app.meta_gradient import Params
from nufed.client_app.work import Measuring
from nufed.simulation.batched import why_one_by_one
from nufed.simulation.device_executor import DeviceExecutor
from nufed.simulation.plan import ONE_BY_ONE, Way
from nufed.simulation.search import fitting
from nufed.simulation.trial import evaluate_trial
from nufed.tasks.task import Task

AT_ONCE = 50  # clients in a stack


def stacked(task: Task, model: Params, job: Measuring) -> EvaluateReport:
    """Measure the clients of the job, as many at once as fit, where a stack changes nothing."""
    executor = DeviceExecutor(task)
    return executor.evaluate(model, job, job.clients, way(executor, model, job))


def way(executor: DeviceExecutor, model: Params, job: Measuring) -> Way:
    """Return how many clients are computed at once."""
    task, clients = executor.task, job.clients
    if len(clients) < 2 or why_one_by_one(task, model) is not None:
        return ONE_BY_ONE
    try:
        fit = fitting(
            evaluate_trial(executor, model, replace(job, steps=min(job.steps, 1)), clients),
            len(clients),
            task.device,
        )
    except Exception:  # what a stack cannot do; a client that fails by itself is named in its turn
        return ONE_BY_ONE
    return Way(min(AT_ONCE, fit, len(clients)))
