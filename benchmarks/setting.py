"""A workload as configured: what is learned, from what model, and what a round asks of clients."""

from collections.abc import Sequence
from dataclasses import dataclass

from nufed.client_app.algorithm import algorithm_of
from nufed.client_app.meta_gradient import Params
from nufed.client_app.work import Training
from nufed.conf.compose import compose_config
from nufed.conf.schema import Config
from nufed.server_app.probe import measured_here
from nufed.server_app.steps import with_steps
from nufed.tasks.task import Task, build

FASHION = ("dataset=fashion_mnist", "partition=iid")
MLP = ("model=mlp", "model.hidden=[100]")
PER_FEDAVG = (
    "algorithm=per_fedavg",
    "algorithm.mode=first_order",
    "algorithm.tau=24",
    "algorithm.batch.support=40",
    "algorithm.batch.query=40",
    "algorithm.alpha=0.01",
    "algorithm.beta=0.01",
)
"""The work at which public implementations were timed: Per-FedAvg as PFLlib and others have it."""


@dataclass(frozen=True)
class Setting:
    """What all contenders of a row are given."""

    overrides: tuple[str, ...]
    config: Config
    task: Task
    params: Params
    """The initial model."""
    job: Training
    """A round of the first clients."""

    def vary(self, *overrides: str) -> Config:
        """Return the configuration with further overrides."""
        return compose_config([*self.overrides, *overrides])


def setting(overrides: Sequence[str], clients: int) -> Setting:
    """Compose a configuration and map its data; a round trains the first `clients` clients."""
    composed = compose_config(list(overrides))
    task = build(composed)
    config = with_steps(composed, lambda: measured_here(composed, task, task.initial_params()))
    job = Training(algorithm_of(config.algorithm), 1, config.seed, list(range(clients)))
    return Setting(tuple(overrides), config, task, task.initial_params(), job)
