"""MetaFedAvg: the mean of the clients' updates is a pseudo-gradient for a server optimizer.

    w_{k+1} = ServerOpt(w_k, Δ_k),    Δ_k = (1/m) Σ_{i ∈ S_k} (w_k − w_{k,i,τ})

where S_k are m of the participating clients. With SGD of learning rate 1 this is plain averaging,
w_{k+1} = (1/m) Σ_i w_{k,i,τ}: FedAvg at ν = 0 (McMahan et al. 2017), Per-FedAvg at ν = 1 (Fallah et
al. 2020), generalized meta federated learning at any ν (Jamali et al. 2025). For other server
optimizers see Reddi et al. 2021.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
from flwr.app import ArrayRecord, ConfigRecord, Message, MessageType, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy

from client_app.local_update import norm
from client_app.mean import StreamingMean
from client_app.messages import EvaluateInstruction, TrainInstruction, encode, to_params
from client_app.meta_gradient import Params
from conf.errors import InputError, RunStopped
from conf.schema import (
    WEIGHTINGS,
    AlgorithmConfig,
    EvaluationConfig,
    PrivacyConfig,
    require_norm,
)
from strategies.curves import GROUPS, summarize
from strategies.flower_rules import clip
from strategies.privacy import CentralDP
from strategies.replies import Curves, Failure, Sent, read_curves, read_replies, read_update
from strategies.roster import Roster


class TooFewUpdates(ValueError):
    """A rule cannot do with so few updates; the text says how many it needs."""


class Rule(Protocol):
    """How a round's updates become one."""

    def add(self, update: Params, weight: float) -> None:
        """Take one more client's update."""

    def value(self, dtype: torch.dtype) -> Params:
        """Return the aggregated update, or raise `TooFewUpdates`."""


class MetaFedAvg(Strategy):
    """Sample clients, stream their updates into a mean, and let a server optimizer apply it.

    Parameters
    ----------
    algorithm, evaluation
        What clients are asked to do.
    roster
        Who is who.
    seed
        Draws each round's clients, and each client's batches.
    clients_per_round, fraction
        m; or r = m/n of the participating clients, which takes its place.
    weighting
        ``uniform``, as the objective is over clients; ``examples``, in proportion to train rows.
    optimizer
        ``optimizer(parameters)`` -> torch.optim.Optimizer. None averages, as SGD with rate 1 does.
    clip_norm
        Longer updates are scaled down to this L2 norm, each client's by itself. None: as they are.
    max_norm
        Longer updates are dropped: no honest client is that far off, and one such update could
        undo the training. None: any that is finite.
    privacy
        ``central_dp``: clipped updates and a noisy mean, see `strategies.privacy`. None: neither.

    Notes
    -----
    Another rule than the mean is a subclass that sets `aggregator`, and `one_reply_each` if the
    rule must see every client's update by itself.
    """

    aggregator: Callable[[], Rule] = StreamingMean
    """Makes what a round's updates are added to: ``add(update, weight)``, then ``value(dtype)``."""
    one_reply_each: bool = False
    """Ask each client by a message of its own, also where one node hosts many."""

    def __init__(
        self,
        algorithm: AlgorithmConfig,
        evaluation: EvaluationConfig,
        roster: Roster,
        *,
        seed: int,
        clients_per_round: int,
        fraction: float | None = None,
        weighting: str = "uniform",
        optimizer: Callable[[list[torch.nn.Parameter]], torch.optim.Optimizer] | None = None,
        clip_norm: float | None = None,
        max_norm: float | None = 1000.0,
        privacy: PrivacyConfig | None = None,
    ) -> None:
        if weighting not in WEIGHTINGS:
            raise InputError(f"strategy.weighting={weighting}: must be {' | '.join(WEIGHTINGS)}")
        if optimizer is not None:
            try:
                optimizer([torch.nn.Parameter(torch.zeros(1))])
            except (TypeError, ValueError) as error:
                raise InputError(f"strategy.optimizer: {error}") from error
        require_norm("strategy.clip_norm", clip_norm)
        require_norm("strategy.max_norm", max_norm)
        self.clip_norm, self.max_norm = clip_norm, max_norm
        self.privacy = self._private(privacy, weighting)
        if self.clip_norm is not None:
            self.one_reply_each = True
        self.algorithm, self.evaluation, self.roster = algorithm, evaluation, roster
        self.seed, self.weighting = seed, weighting
        self.clients_per_round, self.fraction = clients_per_round, fraction
        self.failures: list[Failure] = []
        """Clients whose reply could not be used, of what was last aggregated."""
        self._make_optimizer = optimizer
        self._optimizer: torch.optim.Optimizer | None = None
        self._model: dict[str, torch.nn.Parameter] = {}
        self._sent: list[Sent] = []

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Ask this round's clients to train: one message to each node that hosts some of them."""
        self.roster.refresh(grid)
        self._load(arrays)
        m = self.clients_per_round
        if self.fraction is not None:
            m = max(1, round(self.fraction * len(self.roster.participating)))
        ask = partial(
            TrainInstruction.of,
            self.algorithm,
            round=server_round,
            seed=self.seed,
            weighting=self.weighting,
        )
        clients = self.roster.sample(server_round, m)
        return self._send(MessageType.TRAIN, clients, lambda c: encode(ask(clients=c), arrays))

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Stream the updates into their mean and let the server optimizer apply it.

        Updates that are malformed, wrongly shaped, not finite or longer than `max_norm` are
        dropped, and stand in `failures` with the clients they are of. Returns (None, None) if too
        few were usable.

        Raises
        ------
        RunStopped
            If the privacy budget does not allow another round, or the step leaves a model that is
            not finite.
        """
        asked = sum(len(sent.clients) for sent in self._sent)
        if self.privacy is not None:  # before a reply is read
            self.privacy.require_budget(server_round, asked, self.roster.num_clients)
        updates, clients, clipped = self.aggregator(), list[int](), 0
        losses, norms, cpu_s = list[float](), list[float](), 0.0
        self.failures = []
        read = partial(read_update, like=self._model, rows=self.roster.rows, max_norm=self.max_norm)
        for report, update in read_replies(read, self._sent, replies, self.failures):
            if report.clients:
                if self.clip_norm is not None and float(norm(update)) > self.clip_norm:
                    update, clipped = clip(update, self.clip_norm), clipped + 1
                updates.add(update, sum(map(self._weight, report.clients)))
            clients += report.clients
            losses += report.loss
            norms += report.meta_grad_norm
            cpu_s += report.cpu_s
            self.failures += [
                Failure(client, f"not finite from local step {step} on", step)
                for client, step in zip(report.diverged, report.diverged_at, strict=True)
            ]
            self.failures += map(Failure, report.failed, report.reasons)
        if not clients:
            return None, None
        try:
            delta = updates.value(torch.float64)
        except TooFewUpdates as error:
            self.failures[:0] = [Failure(client, str(error)) for client in clients]
            return None, None
        row: dict[str, Any] = {"clients": len(clients)}
        if self.clip_norm is not None:
            row["clipped"] = clipped
        if self.privacy is not None:
            delta = self.privacy.release(delta, len(clients), asked)
            row |= self.privacy.spent()
        row |= {
            "train_loss": float(np.mean(losses)),
            "meta_grad_norm": float(np.mean(norms)),
            "update_norm": float(norm(delta)),
            "train_cpu_s": cpu_s,
        }
        arrays = self._step(delta)
        if not all(bool(torch.isfinite(p).all()) for p in self._model.values()):
            raise RunStopped(
                f"round {server_round}: the server's step left a model that is not finite; lower "
                "the learning rate of strategy.optimizer, or set strategy.max_norm"
            )
        return arrays, MetricRecord(row)

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Ask participating and new clients for their personalization curves."""
        self.roster.refresh(grid)
        ask = partial(
            EvaluateInstruction,
            seed=self.seed,
            steps=self.evaluation.steps,
            alpha=self.algorithm.alpha,
            batch=self.evaluation.batch,
        )
        clients = self.roster.measured(self.evaluation.clients)
        return self._send(MessageType.EVALUATE, clients, lambda c: encode(ask(clients=c), arrays))

    def aggregate_evaluate(
        self, server_round: int, replies: Iterable[Message]
    ) -> MetricRecord | None:
        """Condense the curves.

        Returns
        -------
        MetricRecord
            ``<participating | new>.<statistic>`` -> [K + 1], statistics as in `curves.summarize`,
            and ``<participating | new>.clients``; None if no reply was usable.
        """
        self.failures, curves = [], Curves()
        read = partial(read_curves, points=self.evaluation.steps + 1)
        for report, some in read_replies(read, self._sent, replies, self.failures):
            curves |= some
            self.failures += map(Failure, report.failed, report.reasons)
        curves = self._comparable(curves)
        metrics = MetricRecord()
        for group in GROUPS:
            members = [curves[i] for i in getattr(self.roster, group) if i in curves]
            if members:
                stacked = {
                    name: np.stack([curve[name] for curve in members]) for name in members[0]
                }
                metrics[f"{group}.clients"] = len(members)
                for name, values in summarize(stacked).items():
                    metrics[f"{group}.{name}"] = values
        return metrics or None

    def summary(self) -> None:
        """Flower's hook for a description at the start; the configuration file is ours."""

    def state_dict(self) -> dict[str, Any]:
        """Return what the next round needs to know of those before, as JSON has it."""
        return {"privacy": self.privacy.state()} if self.privacy is not None else {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from where `state_dict` was taken."""
        if self.privacy is not None:
            self.privacy.restore(state.get("privacy", {}))

    def _private(self, privacy: PrivacyConfig | None, weighting: str) -> CentralDP | None:
        """Return the mechanism that is asked for; its clipping takes the place of ours."""
        if privacy is None or privacy.name == "none":
            return None
        if weighting != "uniform":
            raise InputError(
                f"strategy.weighting={weighting}: privacy={privacy.name} bounds what every client "
                "contributes alike; take strategy.weighting=uniform"
            )
        if self.clip_norm is not None:
            raise InputError(
                f"strategy.clip_norm={self.clip_norm:g}: privacy.clipping_norm="
                f"{privacy.clipping_norm:g} clips already; leave it null"
            )
        self.clip_norm = privacy.clipping_norm
        return CentralDP(privacy)

    def _comparable(self, curves: Curves) -> Curves:
        """Drop, and note, clients with other metrics than most or no finite loss to start from."""
        names = Counter(tuple(curve) for curve in curves.values())
        usual = names.most_common(1)[0][0] if names else ()
        kept = Curves()
        for client, curve in curves.items():
            if tuple(curve) != usual:
                self.failures.append(Failure(client, f"measured {', '.join(curve)}"))
            elif not np.isfinite(curve["loss"][0]):
                reason = f"the global model's loss is {curve['loss'][0]}"
                self.failures.append(Failure(client, reason, diverged_at=0))
            else:
                kept[client] = curve
        return kept

    def _send(
        self, kind: str, clients: list[int], content: Callable[[list[int]], RecordDict]
    ) -> list[Message]:
        """Address `content` of the clients that a node hosts to that node, for every node."""
        groups = list(self.roster.nodes_of(clients).items())
        if self.one_reply_each and kind == MessageType.TRAIN:
            groups = [(node, [client]) for node, hosted in groups for client in hosted]
        self._sent = [Sent(Message(content(some), node, kind), some) for node, some in groups]
        return [sent.message for sent in self._sent]

    def _weight(self, client: int) -> float:
        """Return the client's weight; from the roster, so that a reply cannot claim another."""
        return self.roster.rows[client] if self.weighting == "examples" else 1.0

    def _load(self, arrays: ArrayRecord) -> None:
        """Take the global model as the server optimizer's parameters, which keep their state."""
        params = to_params(arrays)
        if not self._model:
            self._model = {name: torch.nn.Parameter(tensor) for name, tensor in params.items()}
            if self._make_optimizer is not None:
                self._optimizer = self._make_optimizer(list(self._model.values()))
        for name, parameter in self._model.items():
            parameter.data.copy_(params[name])

    def _step(self, delta: Params) -> ArrayRecord:
        """Apply the mean update as the gradient of the global model."""
        for name, parameter in self._model.items():
            parameter.grad = delta[name].to(parameter.dtype)
            if self._optimizer is None:
                parameter.data -= parameter.grad
        if self._optimizer is not None:
            self._optimizer.step()
        return ArrayRecord({name: parameter.detach() for name, parameter in self._model.items()})
