"""pfl-research: FedAvg by its `SimulatedBackend`, with as many gradients as the work has.

It has no meta-gradient, so a user's round is plain SGD of as many batches. As quick as we could:
users' datasets hold the batches of their round, drawn and cut before the clock starts, and nothing
is evaluated or written.
"""

from collections.abc import Callable, Iterator
from itertools import count, cycle
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.opponents.torch_model import module
from benchmarks.opponents.work import Work

NAME, NEEDS = "pfl-research", "pfl"
SAME = False
NEVER = 10**9


def lacks(work: Work) -> str | None:
    """Return what the engine does not have for some work."""
    return "no personal models" if work.spec.lamda is not None else None


class Model(nn.Module):
    """A module as pfl-research wants one."""

    def __init__(self, layers: nn.Module) -> None:
        super().__init__()
        self.layers = layers

    def loss(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the mean cross-entropy."""
        return F.cross_entropy(self.layers(x), y)

    def metrics(self, x: Tensor, y: Tensor) -> dict[str, Any]:
        """Return nothing: it is not evaluated."""
        return {}


def prepare(work: Work) -> tuple[Callable[[], None], str]:
    """Return what carries out a round."""
    from pfl.aggregate.simulate import SimulatedBackend
    from pfl.algorithm.base import NNAlgorithmParams
    from pfl.algorithm.federated_averaging import FederatedAveraging
    from pfl.hyperparam import NNTrainHyperParams
    from pfl.model.pytorch import PyTorchModel

    torch.set_num_threads(1)
    spec, made = work.spec, Model(module(work))
    server = torch.optim.SGD(made.parameters(), lr=1.0)
    model = PyTorchModel(made, torch.optim.SGD, server)
    users = _users(work)
    backend = SimulatedBackend(users, users, _privacy(work))
    algorithm, iterations = FederatedAveraging(), count(1)
    params = NNAlgorithmParams(
        central_num_iterations=NEVER,
        evaluation_frequency=NEVER,
        train_cohort_size=work.clients,
        val_cohort_size=None,
    )
    local = NNTrainHyperParams(
        local_num_epochs=1, local_learning_rate=spec.beta, local_batch_size=spec.batch
    )

    def run() -> None:
        (context,), _, _ = algorithm.get_next_central_contexts(
            model, next(iterations), params, local
        )
        statistics, metrics = backend.gather_results(
            model=model, training_algorithm=algorithm, central_context=context
        )
        algorithm.process_aggregated_statistics(context, metrics, model, statistics)

    run()
    return run, f"FedAvg of {spec.gradients} gradients a user"


def _users(work: Work) -> Any:
    """Return all clients in turn, each with the batches of its round as its dataset."""
    from pfl.data.dataset import Dataset
    from pfl.data.federated_dataset import FederatedDataset

    x, y = torch.from_numpy(work.x), torch.from_numpy(work.y)

    def user(client: int) -> Any:
        rows = torch.from_numpy(work.drawn[client].reshape(-1))
        return Dataset((x[rows], y[rows]), user_id=str(client))

    datasets = [user(client) for client in range(work.clients)]
    turns: Iterator[int] = cycle(range(work.clients))
    return FederatedDataset(datasets.__getitem__, lambda: next(turns))


def _privacy(work: Work) -> list[Any]:
    """Return what clips updates and adds noise to their sum, where that is asked."""
    from pfl.privacy.gaussian_mechanism import GaussianMechanism
    from pfl.privacy.privacy_mechanism import CentrallyAppliedPrivacyMechanism

    if work.spec.clip is None:
        return []
    return [CentrallyAppliedPrivacyMechanism(GaussianMechanism(work.spec.clip, work.spec.noise))]
