"""How a SuperNode works for the clients that it hosts: one after another, or as an engine has it.

The ClientApp knows an `Executor` alone. `OneByOne` is the plain one, on every SuperNode; the
batched engine brings another that does the same work for many clients at once.
"""

from collections import defaultdict
from typing import NamedTuple, Protocol

from nufed.client_app.algorithm import clipped, norm
from nufed.client_app.client import evaluate, train
from nufed.client_app.figures import as_reported, reportable
from nufed.client_app.mean import Stack, StreamingMean
from nufed.client_app.messages import (
    EvaluateReport,
    TrainReport,
)
from nufed.client_app.meta_gradient import Params
from nufed.client_app.work import Measuring, Training
from nufed.conf.errors import NuFedError
from nufed.tasks.task import Task
from nufed.tasks.undefined import noting


class Trained(NamedTuple):
    """The mean update of some clients, and what the server is told of each."""

    update: Params
    """Mean over the clients in `report.clients`, weighted as asked; or each of theirs, [K, …], if
    that is asked for; empty if there are none."""
    report: TrainReport


class Executor(Protocol):
    """Carries out a job of several clients of one task."""

    def train(self, shared: Params, job: Training) -> Trained:
        """Train the clients of the job, each from what is `shared`."""

    def evaluate(self, shared: Params, job: Measuring) -> EvaluateReport:
        """Measure the personalization curves of the clients of the job."""


class OneByOne:
    """The clients of one task, one after another."""

    def __init__(self, task: Task) -> None:
        self.task = task

    def train(self, shared: Params, job: Training) -> Trained:
        """Train one client after another; one that fails or diverges does not stop the others."""
        updates, report = Stack() if job.each else StreamingMean(), TrainReport.empty()
        columns = list[dict[str, float]]()
        for client in job.clients:
            try:
                result = train(self.task, shared, job, client)
            except NuFedError:
                raise
            except Exception as error:  # one client's failure, reported, is not its neighbours'
                report.failed.append(client)
                report.reasons.append(f"{type(error).__name__}: {error}")
                continue
            if result.diverged_at is not None:
                report.diverged.append(client)
                report.diverged_at.append(result.diverged_at)
                continue
            update = result.update
            if job.clip_norm is not None:
                length = norm(update)
                if job.max_norm is not None and length > job.max_norm:
                    report.too_long.append(client)
                    report.too_long_by.append(float(length))
                    continue
                if not reportable(length):
                    report.diverged.append(client)
                    report.diverged_at.append(job.tau)
                    continue
                report.lengths.append(float(length))
                update = clipped(update, length, job.clip_norm)
            updates.add(update, weight(self.task, job, client))
            report.clients.append(client)
            report.loss.append(result.loss)
            report.meta_grad_norm.append(result.meta_grad_norm)
            columns.append(result.metrics)
        shown = {name: [each[name] for each in columns] for name in (columns or [{}])[0]}
        return Trained(updates.value(self.task.dtype), report.showing(shown))

    def evaluate(self, shared: Params, job: Measuring) -> EvaluateReport:
        """Measure one client after another; those without test rows are left out."""
        measured, columns = list[int](), defaultdict[str, list[float]](list)
        failed, reasons = list[int](), list[str]()
        with noting() as undefined:
            for client in job.clients:
                try:
                    curve = evaluate(self.task, shared, job, client)
                except NuFedError:
                    raise
                except Exception as error:
                    failed.append(client)
                    reasons.append(f"{type(error).__name__}: {error}")
                    continue
                if curve is not None:
                    measured.append(client)
                    for name, values in curve.items():
                        columns[name] += values
        curves = as_reported(value for column in columns.values() for value in column)
        return EvaluateReport(measured, list(columns), curves, failed, reasons, undefined)


def weight(task: Task, job: Training, client: int) -> float:
    """Return the weight of a client's update in the mean."""
    if job.weighting != "examples":
        return 1.0
    rows = int(task.data.partition.train[client])
    return float(rows if job.most_rows is None else min(rows, job.most_rows))
