"""A federation of which some clients are hostile, as the ClientApp knows it."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from benchmarks.attack.attacks import Attack
from nufed.client_app.algorithm import Trained as Steps
from nufed.client_app.algorithm import local_update
from nufed.client_app.executor import OneByOne, Trained
from nufed.client_app.messages import TrainReport
from nufed.client_app.meta_gradient import Params
from nufed.client_app.stacked_loss import repeated, stacked
from nufed.client_app.work import Training
from nufed.simulation.source import Source
from nufed.simulation.stacked_clients import batches, draw_train
from nufed.tasks.task import Task


class Federation(OneByOne):
    """Clients that train as they are asked, and of which the first do what the attack says.

    A SuperNode asks for its one client. All of a round train when it is the first one's turn, in a
    stack, which is quicker; and so those who collude see what the others will send.

    Parameters
    ----------
    task
        What is learned.
    attack
        What the hostile ones of the clients do.
    clients
        How many train, all of them in every round.
    """

    def __init__(self, task: Task, attack: Attack, clients: int) -> None:
        super().__init__(task)
        self.attack, self.clients = attack, range(clients)
        self._rows, self._round = attack.rows(task), -1

    def train(self, shared: Params, job: Training) -> Trained:
        """Return what the one client of the job sends."""
        (client,) = job.clients
        if job.round != self._round:
            result = train_each(self._rows, shared, job, self.clients)
            self._sent, self._round = self.attack.updates(result.update), job.round
            self._loss, self._norm = result.loss.mean(0), result.norm.mean(0)
        report = replace(
            TrainReport.empty(),
            clients=[client],
            loss=[float(self._loss[client])],
            meta_grad_norm=[float(self._norm[client])],
        )
        which = [client] if job.each else client
        return Trained({name: p[which].clone() for name, p in self._sent.items()}, report)


def train_each(task: Task, shared: Params, job: Training, clients: Sequence[int]) -> Steps:
    """Train each of K clients as `nufed.client_app.client.train` does, all at once: [K, …]."""
    drawn = draw_train(task, job, clients)
    return local_update(
        job.algorithm,
        partial(job.algorithm.step, stacked(task.loss)),
        repeated(shared, len(clients)),
        {},
        batches(Source(task), drawn, job.tau),
    )
