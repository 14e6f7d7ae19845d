"""MetaFedAvg: the mean of the clients' updates is a pseudo-gradient for a server optimizer.

    w_{k+1} = ServerOpt(w_k, Δ_k),    Δ_k = (1/m) Σ_{i ∈ S_k} (w_k − w_{k,i,τ})

where S_k are m of the participating clients. With SGD of learning rate 1 this is plain averaging,
w_{k+1} = (1/m) Σ_i w_{k,i,τ}: FedAvg at ν = 0 (McMahan et al. 2017), Per-FedAvg at ν = 1 (Fallah et
al. 2020), generalized meta federated learning at any ν (Jamali et al. 2025). For other server
optimizers see Reddi et al. 2021.
"""

import logging
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from flwr.app import ArrayRecord, ConfigRecord, Message, MessageType, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy

from nufed.client_app.algorithm import Algorithm, clipped, norm
from nufed.client_app.messages import (
    EvaluateInstruction,
    EvaluationNumbers,
    Fixed,
    Memory,
    Numbers,
    TrainInstruction,
)
from nufed.client_app.meta_gradient import Params
from nufed.client_app.wire import encode
from nufed.conf.errors import InputError, RunStopped
from nufed.conf.schema import USUAL, WEIGHTINGS, EvaluationConfig, PrivacyConfig, require_norm
from nufed.strategies.cost import COST, Cost
from nufed.strategies.curves import GROUPS, Evaluation, Members, summarize
from nufed.strategies.exchange import apart
from nufed.strategies.privacy import CentralDP
from nufed.strategies.remembered import REMEMBERED, Remembered
from nufed.strategies.replies import (
    Curves,
    Failure,
    Sent,
    note_undefined,
    read_curves,
    read_replies,
    read_update,
)
from nufed.strategies.roster import Roster, per_round
from nufed.strategies.rules.mean import Mean
from nufed.strategies.rules.rule import Rule, TooFewUpdates
from nufed.strategies.samplers.sampler import Sampler
from nufed.strategies.samplers.uniform import Uniform
from nufed.strategies.schedules import Schedule, require_schedulable, scheduled
from nufed.strategies.server_optimizer import ServerOptimizer
from nufed.strategies.tally import Tally
from nufed.strategies.usual import Usual
from nufed.strategies.weights import Weights
from nufed.tasks.objective import LOWER_IS_BETTER

log = logging.getLogger("nufed")


class MetaFedAvg(Strategy):
    """Sample clients, let a rule make one of their updates, and a server optimizer apply it.

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
    min_replies
        Clients whose update must be usable, else nothing changes.
    weighting
        ``uniform``, as the objective is over clients; ``examples``, in proportion to train rows.
    optimizer
        ``optimizer(parameters)`` -> torch.optim.Optimizer. None averages, as SGD with rate 1 does.
    clip_norm
        Longer updates are scaled down to this L2 norm, each client's by itself. ``usual``: to four
        times that of the last rounds' updates, see `nufed.strategies.usual`. None: as they are.
    max_norm
        Longer updates are dropped: no honest client is that far off, and one such update could
        undo the training. None: any that is finite.
    privacy
        ``central_dp``: clipped updates and a noisy mean, see `nufed.strategies.privacy`.
    lower_is_better
        Names of the metrics of personalization curves whose worst clients have the largest.
    rule
        How a round's updates become one; None: their mean.
    sampler
        Who trains in a round; None: any participating client alike.
    schedule
        Float keys of the algorithm -> what they are multiplied with in a round of training.
    """

    def __init__(
        self,
        algorithm: Algorithm,
        evaluation: EvaluationConfig,
        roster: Roster,
        *,
        seed: int,
        clients_per_round: int,
        fraction: float | None = None,
        min_replies: int = 1,
        weighting: str = "uniform",
        optimizer: Callable[[list[torch.nn.Parameter]], torch.optim.Optimizer] | None = None,
        clip_norm: float | str | None = None,
        max_norm: float | None = 1000.0,
        privacy: PrivacyConfig | None = None,
        lower_is_better: Collection[str] = LOWER_IS_BETTER,
        rule: Rule | None = None,
        sampler: Sampler | None = None,
        schedule: Mapping[str, Schedule] | None = None,
    ) -> None:
        if weighting not in WEIGHTINGS:
            raise InputError(f"strategy.weighting={weighting}: must be {' | '.join(WEIGHTINGS)}")
        self._server = ServerOptimizer(optimizer)
        self.usual = Usual() if clip_norm == USUAL else None
        """How long updates usually are, where they are clipped by that."""
        if self.usual is None:
            require_norm("strategy.clip_norm", clip_norm, f"null, or {USUAL}")
        require_norm("strategy.max_norm", max_norm)
        self._clip_norm = None if self.usual or clip_norm is None else float(clip_norm)
        self.max_norm = None if max_norm is None else float(max_norm)
        self.rule, self.sampler = rule or Mean(), sampler or Uniform()
        self.schedule = dict(schedule or {})
        require_schedulable(self.schedule, algorithm)
        self.sampler.require(roster)
        self.rule.require(
            weighting=weighting,
            privacy="none" if privacy is None else privacy.name,
            clients=clients_per_round if fraction is None else None,
        )
        self.privacy = self._private(privacy, weighting)
        self.algorithm, self.evaluation, self.roster = algorithm, evaluation, roster
        self.seed, self.weighting = seed, weighting
        self.weights = Weights(weighting, roster)
        self.clients_per_round, self.fraction = clients_per_round, fraction
        self.min_replies, self.lower_is_better = min_replies, lower_is_better
        self.fixed: Fixed | None = None
        """What of the model does not train, to go with it; None where all of it does."""
        self.failures: list[Failure] = []
        """Clients whose reply could not be used, of what was last aggregated."""
        self.usable = 0
        """Clients whose update could be used, of what was last aggregated."""
        self.measured: Evaluation | None = None
        """What the last evaluation measured, client by client; None if it measured nobody."""
        self.undefined: dict[str, list[str]] = {}
        """Why metrics do not exist for some clients of the last evaluation, by metric."""
        self.cost = Cost()
        """What the rounds so far have cost."""
        self.remembered = Remembered()
        """Which clients keep a state of this run."""
        self.skipped = ""
        """Why nobody was asked to train in the last round that was configured, if nobody was."""
        self._shared_after = 0  # the round that led to what is being sent
        self._trained: list[Sent] = []
        self._measured: list[Sent] = []

    @property
    def clip_norm(self) -> float | None:
        """L2 norm that the next round's longer updates are scaled down to; None: none are."""
        return self._clip_norm if self.usual is None else self.usual.bound

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Ask this round's clients to train: one message to each node that hosts some of them.

        With ``evaluate: True`` in `config`, the same messages ask for the personalization curves of
        the model that they bring, which is the last round's; nodes where nobody trains get a
        message for them alone. Nobody is asked to train, and `skipped` says why, in a round in
        which the sampler finds too few that would be there in another.

        Raises
        ------
        RunStopped
            If the privacy budget does not allow another round.
        """
        self.roster.refresh(grid)
        self.weights.begin()
        self._server.load(arrays)
        m = per_round(self.clients_per_round, self.fraction, len(self.roster.participating))
        instruction = partial(
            TrainInstruction,
            server_round,
            self.seed,
            weighting=self.weighting,
            most_rows=self.weights.most,
            each=self.rule.sees_each,
            clip_norm=self.clip_norm,
            max_norm=None if self.clip_norm is None else self.max_norm,
        )
        numbers = Numbers.of(self.algorithm.with_numbers(self._scheduled(server_round)))
        trained = self.sampler.sample(self.roster, server_round, m)
        if self._note_skipped(server_round, len(trained), m):
            trained = []
        if self.privacy is not None and trained:
            self.privacy.require_budget(server_round, len(trained), self.roster.num_clients)
        measured = self.roster.measured(self.evaluation.clients) if config.get("evaluate") else []

        def content(clients: list[int]) -> RecordDict:
            also = (self.fixed, numbers, self._memory(clients))
            return encode(instruction(clients=clients), arrays, also=also)

        self._shared_after = server_round - 1
        return self._send(arrays, trained, measured, content)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Stream the updates into their mean and let the server optimizer apply it.

        Updates that are malformed, wrongly shaped, not finite or longer than `max_norm` are
        dropped, and stand in `failures` with the clients they are of. Returns (None, None), with
        nothing changed, if less than `min_replies` clients' were usable, or too few for the rule;
        the model as it is, of no clients, in a round that is skipped.

        Raises
        ------
        RunStopped
            If the step leaves a model that is not finite, or the privacy budget does not allow it.
        """
        asked = sum(len(sent.clients) for sent in self._trained)
        clip_norm = self.clip_norm
        updates, tally = self.rule.begin(), Tally(clip_norm, self.max_norm)
        self.failures = []
        if self.skipped:
            return self._server.arrays(), MetricRecord({"clients": len(list(replies))})
        read = partial(
            read_update,
            like=self._server.model,
            rows=self.roster.rows,
            failures=self.failures,
            max_norm=self.max_norm,
            each=self.rule.sees_each,
        )
        for report, received in read_replies(read, self._trained, replies, self.failures):
            for some, update in received:
                updates.add(_as_short(update, clip_norm), sum(map(self.weights.of, some)))
            self.failures += tally.add(report)
        clients = tally.clients
        self.usable = len(clients)
        if self.usable < self.min_replies:
            return None, None
        try:
            delta = updates.value(torch.float64)
        except TooFewUpdates as error:
            self.failures[:0] = [Failure(client, str(error)) for client in clients]
            self.usable = 0
            return None, None
        row: dict[str, Any] = tally.row()
        if self.privacy is not None:
            # Here too: a strategy of one's own may have asked clients in its own way.
            self.roster.require_each_once(
                [client for sent in self._trained for client in sent.clients]
            )
            self.privacy.require_budget(server_round, asked, self.roster.num_clients)
            delta = self.privacy.release(server_round, delta, len(clients), asked)
            row |= self.privacy.spent()
        row["update_norm"] = float(norm(delta))
        self.cost.add(self.algorithm, dict(self._server.model), asked, len(clients))
        cost = self.cost.row(self.roster.num_clients - len(self.roster.set_aside))
        row |= {f"{COST}.{name}": value for name, value in cost.items()}
        if self.algorithm.stateful:
            self.remembered.add(clients)
            row |= self._told_of(tally.afresh)
        if self.usual is not None:
            self.usual.add(tally.lengths)
        arrays = self._server.step(delta)
        if not self._server.is_finite():
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
        self._shared_after = server_round
        return self._send(arrays, [], self.roster.measured(self.evaluation.clients))

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
        self.failures, self.undefined, curves = [], {}, Curves()
        read = partial(read_curves, points=self.evaluation.steps + 1)
        for report, some in read_replies(read, self._measured, replies, self.failures):
            curves |= some
            note_undefined(self.undefined, report.undefined)
            self.failures += map(Failure, report.failed, report.reasons)
        curves = self._comparable(curves)
        metrics = MetricRecord()
        groups = dict[str, Members]()
        for group in GROUPS:
            if clients := [i for i in getattr(self.roster, group) if i in curves]:
                stacked = {
                    name: np.stack([curves[i][name] for i in clients])
                    for name in curves[clients[0]]
                }
                groups[group] = Members(clients, list(map(self.roster.rows.get, clients)), stacked)
                metrics[f"{group}.clients"] = len(clients)
                for name, values in summarize(stacked, self.lower_is_better).items():
                    metrics[f"{group}.{name}"] = values
        there = {name for members in groups.values() for name in members.curves}
        self.undefined = {name: why for name, why in self.undefined.items() if name in there}
        self.measured = Evaluation(server_round, groups) if groups else None
        return metrics or None

    def state_dict(self) -> dict[str, Any]:
        """Return a copy of what outlives a round beside the model, name -> tensor or JSON value."""
        state = self._server.state_dict() | {COST: self.cost.state()}
        if self.privacy is not None:
            state["privacy"] = self.privacy.state()
        if self.algorithm.stateful:
            state[REMEMBERED] = self.remembered.state()
        if self.usual is not None:
            state[USUAL] = self.usual.state()
        return state

    def load_state_dict(self, params: Params, state: Mapping[str, Any], round: int = 0) -> None:
        """Go on after a round, from what is shared and what `state_dict` returned with it."""
        self.cost.restore(state.get(COST, {}))
        self.remembered.restore(state.get(REMEMBERED, {}), round)
        if self.usual is not None:
            self.usual.restore(state.get(USUAL, {}))
        self._server.load(ArrayRecord(dict(params)))
        if self.privacy is not None:
            self.privacy.restore(state.get("privacy", {}))
        self._server.load_state_dict(state)

    def summary(self) -> None:
        """Flower's hook for a description at the start; the configuration file is ours."""

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
            said = USUAL if self.usual is not None else f"{self.clip_norm:g}"
            raise InputError(
                f"strategy.clip_norm={said}: privacy.clipping_norm="
                f"{privacy.clipping_norm:g} clips already; leave it null"
            )
        self._clip_norm = privacy.clipping_norm
        return CentralDP(privacy, self.sampler.amplifies)

    def _scheduled(self, round: int) -> dict[str, float]:
        """Return the value that each scheduled key of the algorithm has in a round."""
        return scheduled(self.schedule, self.algorithm, round)

    def _note_skipped(self, round: int, drawn: int, m: int) -> bool:
        """Note whether a round is skipped: to ask again would find the same clients available."""
        needed, there = max(self.min_replies, self.rule.fewest), len(self.roster.participating)
        few = drawn < min(needed, m) and needed <= there
        available = f"{drawn or 'none'} of {there} participating clients is available"
        more = f", {needed} are needed" if drawn else ""
        said = f"round {round}: {available}{more}; skipped, the model stays as it is"
        self.skipped = said if few else ""
        return few

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

    def apart(self, replies: Iterable[Message], aside: list[Message]) -> Iterator[Message]:
        """Yield the replies to train messages, and put what was measured aside, for later."""
        trained, measured = (
            {sent.message.metadata.message_id for sent in some}
            for some in (self._trained, self._measured)
        )
        return apart(replies, trained, measured, aside)

    def _send(
        self,
        arrays: ArrayRecord,
        trained: list[int],
        measured: list[int],
        train: Callable[[list[int]], RecordDict] | None = None,
    ) -> list[Message]:
        """Address what clients are asked to the nodes that host them, in one message a node.

        Parameters
        ----------
        arrays
            The global model.
        trained, measured
            The clients that are to train, and those whose curves are wanted.
        train
            ``train(clients)`` -> the content of a train message.
        """
        self.roster.require_each_once(trained)
        curves = self.roster.nodes_of(measured)
        self._trained, self._measured = [], []
        for node, some in self.roster.nodes_of(trained).items():
            assert train is not None
            content, also = train(some), curves.pop(node, [])
            if also:
                content.update(self._ask_for_curves(also))
            self._trained.append(Sent(Message(content, node, MessageType.TRAIN), some))
            if also:
                self._measured.append(Sent(self._trained[-1].message, also))
        messages = [sent.message for sent in self._trained]
        for node, some in curves.items():
            content = self._ask_for_curves(some, arrays)
            messages.append(Message(content, node, MessageType.EVALUATE))
            self._measured.append(Sent(messages[-1], some))
        return messages

    def _ask_for_curves(self, clients: list[int], arrays: ArrayRecord | None = None) -> RecordDict:
        """Return the content of a message that asks for clients' personalization curves."""
        e = self.evaluation
        instruction = EvaluateInstruction(self.seed, clients, e.steps, e.batch, self._shared_after)
        numbers = EvaluationNumbers.of(self.algorithm)
        if arrays is None:  # it goes with a train message, which has all the rest
            return encode(instruction, also=(numbers,))
        return encode(instruction, arrays, also=(self.fixed, numbers, self._memory(clients)))

    def _told_of(self, afresh: list[int]) -> dict[str, int]:
        """Say which clients lost their state; return what the round's row says of it."""
        if not afresh:
            return {}
        called = ", ".join(str(self.roster.ids[client]) for client in afresh[:5])
        more = f" and {len(afresh) - 5} more" if len(afresh) > 5 else ""
        log.warning("client %s%s had lost what it kept, and began afresh", called, more)
        return {"afresh": len(afresh)}

    def _memory(self, clients: list[int]) -> Memory | None:
        """Return how clients find what they kept; None where they keep nothing."""
        return self.remembered.of(clients) if self.algorithm.stateful else None


def _as_short(update: Params, clip_norm: float | None) -> Params:
    """Return an update clipped as its node was asked to: nobody's word is taken for it."""
    if clip_norm is None or not update:
        return update
    exact = {name: p.double() for name, p in update.items()}
    return clipped(exact, norm(exact), clip_norm)
