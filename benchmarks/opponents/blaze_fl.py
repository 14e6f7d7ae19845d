"""BlazeFL: FedAvg by its serial trainer, with as many gradients as the work has.

It has no meta-gradient, so a client's round is plain SGD of as many batches. Its trainers of
threads and processes do the same beside each other; of CPU seconds the serial one takes the fewest.
As quick as we could: a client's rows of the round are drawn before the clock starts, and a loader
cuts whole batches of them, where the usual one would fetch row after row and join them.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch.utils.data import BatchSampler, DataLoader, SequentialSampler, TensorDataset

from benchmarks.opponents.torch_model import module
from benchmarks.opponents.work import Work

NAME, NEEDS = "BlazeFL", "blazefl"
SAME = False


def lacks(work: Work) -> str | None:
    """Return what the engine does not have for some work."""
    if work.spec.lamda is not None:
        return "no personal models"
    return None if work.spec.clip is None else "no clipping"


class Models:
    """What selects the model: there is one."""

    def __init__(self, work: Work) -> None:
        self.work = work

    def select_model(self, model_name: str) -> torch.nn.Module:
        """Return the model with its initial parameters."""
        return module(self.work)


class Clients:
    """The clients' data, as loaders of whole batches."""

    def __init__(self, work: Work) -> None:
        x, y = torch.from_numpy(work.x), torch.from_numpy(work.y)
        self.loaders = []
        for client in range(work.clients):
            rows = torch.from_numpy(work.drawn[client].reshape(-1))
            data = TensorDataset(x[rows], y[rows])
            batches = BatchSampler(SequentialSampler(data), work.spec.batch, drop_last=False)
            self.loaders.append(DataLoader(data, sampler=batches, batch_size=None))

    def get_dataloader(self, type_: Any, cid: int, **_: Any) -> DataLoader[Any]:
        """Return a client's batches."""
        return self.loaders[cid]


def prepare(work: Work) -> tuple[Callable[[], None], str]:
    """Return what carries out a round."""
    from blazefl.contrib.fedavg import FedAvgBaseClientTrainer, FedAvgBaseServerHandler

    torch.set_num_threads(1)
    spec, clients, models = work.spec, Clients(work), Models(work)
    server = FedAvgBaseServerHandler(
        model_selector=models,
        model_name="",
        dataset=clients,
        global_round=10**9,
        num_clients=work.clients,
        sample_ratio=1.0,
        device="cpu",
        batch_size=spec.batch,
        seed=0,
    )
    trainer = FedAvgBaseClientTrainer(
        model_selector=models,
        model_name="",
        dataset=clients,
        device="cpu",
        num_clients=work.clients,
        epochs=1,
        batch_size=spec.batch,
        lr=spec.beta,
        seed=0,
    )

    def run() -> None:
        trainer.local_process(server.downlink_package(), server.sample_clients())
        for package in trainer.uplink_package():
            server.load(package)

    run()
    return run, f"FedAvg of {spec.gradients} gradients a client, its serial trainer"
