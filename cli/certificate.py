"""The certificate of a task or a run: what was measured, and what the theory makes of it."""

import logging
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from nufed.client_app.algorithms.meta_gradient import MetaGradient, meta_gradient_of
from nufed.client_app.meta_gradient import Params, descend
from nufed.client_app.work import task_for
from nufed.conf.errors import InputError
from nufed.conf.files import is_there
from nufed.conf.schema import Config
from nufed.server_app.probe import measured_here
from nufed.server_app.run_folder import METRICS, MODEL, load, whole_rows
from nufed.server_app.steps import with_steps
from nufed.strategies.roster import choose_new_clients, per_round
from nufed.tasks.streams import DRAWS, Purpose, stream
from nufed.tasks.task import Task
from nufed.tasks.trained import load_model, read
from nufed.theory.constants import Constants, Method
from nufed.theory.ensemble import Ensemble
from nufed.theory.estimate import Effort, Estimates, estimate, largest
from nufed.theory.sampled import Estimate
from nufed.theory.theorem import (
    Bound,
    LargestBeta,
    Rounds,
    best_beta,
    bound,
    largest_beta,
    rounds_for,
)

log = logging.getLogger("nufed")

T = TypeVar("T")
PROBE = 3  # rounds, where no run shows where training leads


@dataclass(frozen=True)
class Certificate:
    """What was measured, and what it is of."""

    config: Config
    estimates: Estimates
    where: str
    """The models that were measured."""
    rounds: Rounds
    gap: float
    """F(w_0) − 0 ≥ F(w_0) − inf F: no loss of ours is below 0."""
    gap_drawn: bool
    """Whether F(w_0) is of some of the clients or rows alone."""
    measured: dict[int, float]
    """Round -> ‖∇F(w)‖², of a run with diagnostics."""

    @property
    def constants(self) -> Constants:
        """The estimates as the theory takes them."""
        return self.estimates.constants

    @property
    def algorithm(self) -> MetaGradient:
        """The algorithm of the configuration."""
        return meta_gradient_of(self.config.algorithm)

    @property
    def method(self) -> Method:
        """How the meta-gradient is estimated."""
        return Method.of(self.algorithm)

    @property
    def betas(self) -> LargestBeta:
        """The largest β, safe and admissible."""
        return largest_beta(self.constants, self.method, self.rounds)

    def bound(self, beta: float | None = None, rounds: int | None = None) -> Bound | None:
        """Return the bound for the configured β and number of rounds, or for others."""
        given = self.rounds
        changed = replace(given, beta=beta or given.beta, rounds=rounds or given.rounds)
        return bound(self.constants, self.method, changed, self.gap)

    @property
    def best_beta(self) -> float:
        """The β with the smallest bound."""
        return best_beta(self.constants, self.method, self.rounds, self.gap)

    def rounds_for(self, epsilon: float) -> Rounds | None:
        """Return the fewest rounds, and their β, for a bound of ε; None if there are none."""
        return rounds_for(self.constants, self.method, self.rounds, self.gap, epsilon)


def certificate(config: Config, folder: Path | None, effort: Effort) -> Certificate:
    """Measure a task at its initial model and after a short probe, or at both ends of a run.

    Raises
    ------
    InputError
        If the run's files cannot be read, or a loss is not finite.
    """
    task = task_for(meta_gradient_of(config.algorithm), config)
    if (missing := task.derivatives.missing) is not None:
        raise InputError(
            f"model._target_={config.model.get('_target_')}: its loss has no second derivative "
            f"({missing:.150}), and all that is certified follows from those"
        )
    if line := task.data.gaps:
        log.warning("dataset=%s: %s", config.dataset["name"], line)
    config = with_steps(config, lambda: measured_here(config, task, task.initial_params()))
    a = meta_gradient_of(config.algorithm)
    new = choose_new_clients(task.data.partition.ids, config.evaluation.new_clients, config.seed)
    clients = [i for i in range(task.data.num_clients) if i not in new]
    initial, method = task.initial_params(), Method.of(a)
    rows = [] if folder is None else _diagnosed(folder)
    with task.measuring() as still:
        ensemble = Ensemble(still, clients, *effort.most, stream(Purpose.CONSTANTS, config.seed))
        gap = float(ensemble.meta(ensemble.flat(initial), method)[0].double().mean())
        last = (
            _probe(ensemble, initial, method, a.beta * a.tau)
            if folder is None
            else _model(folder, task)
        )
    found = estimate(task, [initial, last], method, clients, effort=effort, seed=config.seed)
    seen = [e for row in rows if (e := _estimates(row)) is not None]
    found = replace(found, of=largest([found.of, *seen]))
    where = f"the initial model and {'the last' if folder else f'{PROBE} rounds on'}"
    if seen:
        where += f", and in {len(seen)} diagnosed rounds"
    if not all(math.isfinite(each.value) for each in found.of.values()):
        raise InputError(
            f"algorithm.alpha={a.alpha:g}, algorithm.beta={a.beta:g}: the loss is not finite where "
            "these steps lead; lower one of them"
        )
    m = min(per_round(config.clients_per_round, config.fraction, len(clients)), len(clients))
    rounds = Rounds(len(clients), m, a.tau, a.beta, max(config.rounds, 1))
    measured = {
        row["round"]: norm2
        for row in rows
        if (norm2 := row["diagnostics"]["meta_grad_norm2"]) is not None
    }
    return Certificate(config, found, where, rounds, gap, ensemble.drawn, measured)


def _probe(ensemble: Ensemble, initial: Params, method: Method, step: float) -> Params:
    """Return where a few steps along −∇F lead, each as long as a round's."""
    w = initial
    for _ in range(PROBE):
        gradient = ensemble.meta(ensemble.flat(w), method)[1].mean(0)
        w = descend(w, ensemble.params(gradient), step)
    return w


def _model(folder: Path, task: Task) -> Params:
    """Read a run's last model."""
    file = folder / MODEL
    if not is_there(file):
        raise InputError(f"{folder}: has no {MODEL}; the run has not ended yet")
    model, sizes = read(file)
    if sizes is None or sizes.draws != DRAWS:
        raise InputError(
            f"{file}: an older version trained it, which drew other clients and rows of the same "
            "seed than are measured here; train it anew"
        )
    return load_model(task, model, str(file))


def _diagnosed(folder: Path) -> list[dict[str, Any]]:
    """Return the rows of metrics.jsonl that have diagnostics."""
    file = folder / METRICS
    rows = load(file, whole_rows) if is_there(file) else []
    return [row for row in rows if "diagnostics" in row]


def _estimates(row: dict[str, Any]) -> dict[str, Estimate] | None:
    """Return a diagnosed round's estimates, None if it has none or they were not finite."""
    found = row["diagnostics"].get("estimates", {})
    read = {name: Estimate(each["value"], each["errors"]) for name, each in found.items()}
    whole = read and not any(None in (e.value, *e.errors.values()) for e in read.values())
    return read if whole else None
