"""The types behind the configuration: every key, its type, its meaning and what is allowed.

The YAML files beside this one hold the values. Hydra checks keys and types against these classes
while it composes; the values are checked here, when the composed configuration becomes a `Config`.
"""

import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, OmegaConf

from nufed.conf.errors import InputError
from nufed.conf.metric_names import by_name
from nufed.conf.text import printable

T = TypeVar("T")

WEIGHTINGS = ("uniform", "examples")
PRIVACY = ("none", "central_dp")
AUTO = "auto"
"""In place of a step size: a probe of the task chooses it (theory/steps.py)."""
USUAL = "usual"
"""In place of a norm to clip to: the last rounds' updates choose it (strategies/usual.py)."""
SPLITS = ("test", "validation")
BASELINES = ("none", "simple", "sklearn")
PROGRESS = ("auto", "bar", "lines", "none")
MEAN, UNIFORM = "nufed.strategies.rules.mean.Mean", "nufed.strategies.samplers.uniform.Uniform"


LONGEST = 300  # characters of a value, in an error
MOST_STEPS = 100_000
"""Steps ν, τ and K: far more than anybody takes, and few enough that their batches fit memory."""


def require(valid: bool, key: str, value: object, allowed: str) -> None:
    """Raise an `InputError` that names the key, the value and what is allowed, unless `valid`."""
    if not valid:
        raise InputError(f"{key}={printable(str(value))[:LONGEST]}: must be {allowed}")


def positive(value: float) -> bool:
    """Tell whether a step size is usable: above zero and finite, in float32 too."""
    return 0 < value < 3e38


def require_norm(key: str, value: object, also: str = "null") -> None:
    """Raise an `InputError` unless `value` may bound an L2 norm: a number above zero, or null."""
    valid = value is None or (type(value) in (int, float) and 0 < float(str(value)) < math.inf)
    require(valid, key, value, f"above 0, such as 10, or {also}")


@dataclass
class PartitionConfig:
    """How rows become clients."""

    name: str = MISSING
    num_clients: int | None = None
    """Clients; null where the data set, or the partitioner, says how many."""
    test_fraction: float = 0.25
    """Part of each client's rows that is held out for its test split."""
    stratified: bool = False
    """Whether that is as much of each class, as far as a client's rows allow, and follows from them
    alone; else it is drawn of all rows alike."""
    seed: int = MISSING
    """Draws who gets which row, and which rows are held out."""
    partitioner: Any = None
    """A flwr-datasets partitioner by `_target_`; null keeps the data set's own clients."""

    def __post_init__(self) -> None:
        n = self.num_clients
        require(n is None or n >= 1, "partition.num_clients", n, "at least 1")
        fraction = self.test_fraction
        require(
            0 < fraction < 1, "partition.test_fraction", fraction, "between 0 and 1, such as 0.25"
        )


@dataclass
class EvaluationConfig:
    """Personalization curves: who is measured, when, and after how many steps."""

    every: int = MISSING
    """Rounds between evaluations; the first (round 0) and the last round are always evaluated."""
    steps: int = MISSING
    """Fine-tuning steps K: metrics are taken after k = 0 … K."""
    batch: int | None = MISSING
    """Rows a fine-tuning step; null takes all train rows of the client."""
    new_clients: Any = MISSING
    """Clients that never train: a fraction of all clients, or a list of ids, as the data set has
    them: [5,8], [amy,bob], in quotes where they have other signs, ['a, b']; of a partition that
    makes the clients, and of private data, their numbers from 0."""
    clients: int | None = None
    """At most so many clients of each kind, drawn once; null measures all."""
    split: str = "test"
    """Rows that are measured: each client's test rows; or, to choose step sizes by, `validation`
    rows, which are taken from its train rows while the test rows are left alone."""

    def __post_init__(self) -> None:
        require(self.every >= 1, "evaluation.every", self.every, "at least 1")
        allowed = f"from 0 to {MOST_STEPS}"
        require(0 <= self.steps <= MOST_STEPS, "evaluation.steps", self.steps, allowed)
        require(self.batch is None or self.batch >= 1, "evaluation.batch", self.batch, "at least 1")
        require(
            self.clients is None or self.clients >= 1,
            "evaluation.clients",
            self.clients,
            "at least 1",
        )
        require(self.split in SPLITS, "evaluation.split", self.split, " | ".join(SPLITS))
        new = self.new_clients
        listed = isinstance(new, list) and all(type(i) in (int, str) for i in new)
        fraction = isinstance(new, int | float) and not isinstance(new, bool) and 0 <= new < 1
        require(
            listed or fraction,
            "evaluation.new_clients",
            new,
            "a fraction in [0, 1), or a list of client ids such as [0,7] or [amy,'1.5']",
        )


@dataclass
class ServerConfig:
    """How long the server waits for clients, and for how many."""

    join_timeout: float = MISSING
    """Seconds to wait for SuperNodes before the first round, and where too few are left."""
    round_timeout: float = MISSING
    """Seconds to wait for the replies of a round; it goes on with those that came."""
    min_replies: int = MISSING
    """Clients whose update must be usable, else the round is repeated."""
    attempts: int = MISSING
    """How often a round is tried before the run stops."""

    def __post_init__(self) -> None:
        for name in ("join_timeout", "round_timeout"):
            seconds = getattr(self, name)
            require(0 <= seconds < 1e9, f"server.{name}", seconds, "seconds, 0 or more")
        for name in ("min_replies", "attempts"):
            count = getattr(self, name)
            require(count >= 1, f"server.{name}", count, "at least 1")


@dataclass
class CheckpointConfig:
    """When a run is saved so that it can be resumed."""

    every: int | None = MISSING
    """Rounds between checkpoints; null writes none but when the run ends or is interrupted."""

    def __post_init__(self) -> None:
        every = self.every
        require(every is None or every >= 1, "checkpoint.every", every, "at least 1, or null")


@dataclass
class EarlyStoppingConfig:
    """When a run that no longer improves ends before its last round."""

    patience: int | None = None
    """Evaluations without improvement that end the run; null: it goes through all its rounds."""
    metric: str = "train_loss"
    """`train_loss`, after ν steps; or a metric that is reported, such as accuracy, with
    evaluation.split=validation, of participating clients."""

    def __post_init__(self) -> None:
        patience = self.patience
        valid = patience is None or patience >= 1
        require(valid, "early_stopping.patience", patience, "at least 1, or null")


@dataclass
class DiagnosticsConfig:
    """When a run measures what its theory is about."""

    every: int | None = None
    """Rounds between measuring ‖∇F‖² and the constants of its bound, with the first (round 0) and
    the last; null: none."""

    def __post_init__(self) -> None:
        every = self.every
        require(every is None or every >= 1, "diagnostics.every", every, "at least 1, or null")


@dataclass
class PrivacyConfig:
    """Differential privacy of the models that a run makes known; see strategies/privacy.py."""

    name: str = MISSING
    clipping_norm: float | None = None
    """L2 norm C that each client's update is clipped to."""
    noise_multiplier: float | None = None
    """z: the noise on the sum of the clipped updates has standard deviation z C."""
    delta: float | None = None
    """δ that ε is reported at; far below 1 / clients."""
    max_epsilon: float | None = None
    """The budget: the run ends before a round that would exceed it. null: none."""

    def __post_init__(self) -> None:
        require(self.name in PRIVACY, "privacy", self.name, " | ".join(PRIVACY))
        for key in ("clipping_norm", "noise_multiplier", "delta", "max_epsilon"):
            value = getattr(self, key)
            if self.name == "none":
                require(value is None, f"privacy.{key}", value, "null, or add privacy=central_dp")
            elif key == "delta":
                require(value and 0 < value < 1, "privacy.delta", value, "between 0 and 1")
            elif value is not None or key != "max_epsilon":
                require(value and positive(value), f"privacy.{key}", value, "above 0")


@dataclass
class TaskConfig:
    """What is minimised and reported, where it is not what follows from y; see tasks/objective.py.

    A loss or metric is a function (outputs, y), named by `_target_` with its arguments, or by a
    name alone.
    """

    loss: Any = None
    """A function (outputs, y) or class by name, one loss a row; null: cross-entropy where y holds
    classes, else half the squared error."""
    metrics: Any = None
    """`{name: metric}`, or short names, `[accuracy,auroc]`; null: accuracy where y holds classes,
    else mae, the mean absolute error."""
    class_axis: str | None = None
    """`last`: outputs of a sequence have their classes there, where as many classes as places leave
    both axes possible; null asks for it then."""

    def __post_init__(self) -> None:
        self.metrics = by_name(self.metrics)
        axis = self.class_axis
        require(axis in (None, "last"), "task.class_axis", axis, "last, or null")


@dataclass
class Config:
    """The composed configuration of one run."""

    name: str = MISSING
    """Names the run's folder."""
    rounds: int = MISSING
    """Rounds of training; 0 only measures the initial model."""
    clients_per_round: int = MISSING
    """Clients drawn in each round (m); all participating clients if there are fewer."""
    fraction: float | None = None
    """Drawn part of the participating clients (r = m/n); takes the place of clients_per_round."""
    seed: int = MISSING
    """Draws the initial model, each round's clients and every batch."""
    device: str = MISSING
    """Where to compute: cpu, cuda, cuda:1 or mps."""
    resume: str | None = None
    """The folder of a run to go on with."""
    trust: Any = None
    """Modules that may be called where that run, not one of your own, names them."""
    server: ServerConfig = MISSING
    checkpoint: CheckpointConfig = MISSING
    early_stopping: EarlyStoppingConfig = field(default_factory=EarlyStoppingConfig)
    diagnostics: DiagnosticsConfig = field(default_factory=DiagnosticsConfig)  # older runs lack it
    algorithm: Any = MISSING
    """What a client does: an `Algorithm` of nufed.client_app by `_target_`, and its fields."""
    dataset: Any = MISSING
    partition: PartitionConfig = MISSING
    model: Any = MISSING
    task: TaskConfig = field(default_factory=TaskConfig)  # older runs lack it
    strategy: Any = MISSING
    rule: Any = field(default_factory=lambda: {"_target_": MEAN})  # older runs lack these three
    sampler: Any = field(default_factory=lambda: {"_target_": UNIFORM})
    schedule: Any = field(default_factory=dict)
    """Float keys of the algorithm, such as beta -> what they are multiplied with in a round."""
    privacy: PrivacyConfig = MISSING
    engine: Any = MISSING
    evaluation: EvaluationConfig = MISSING
    tracking: dict[str, Any] = field(default_factory=dict)
    """Trackers beside the run folder, each by its `_target_` under a name of its own."""
    baselines: str = "none"  # older runs lack it
    """What stands beside personal models at the end: `simple`, a constant, the same and a linear
    model of each client alone, one model of all rows; `sklearn`, gradient boosting too; `none`."""
    report: bool = True
    """Whether a run leaves `report.html` when it ends; `nufed-report RUN` makes one at any time."""
    progress: str = "auto"
    """How a run is shown: a `bar`, `lines`, `none` (warnings alone; of a sweep, a line a run), or
    `auto`: a bar on a terminal, elsewhere lines."""
    callbacks: Any = None
    """Callbacks of your own, `{name: {_target_: …}}`; an exception from one ends the run."""

    def __post_init__(self) -> None:
        require(self.rounds >= 0, "rounds", self.rounds, "0 or more")
        m = self.clients_per_round
        require(m >= 1, "clients_per_round", m, "at least 1")
        least = self.server.min_replies
        require(
            self.fraction is not None or least <= m,
            "server.min_replies",
            least,
            f"at most clients_per_round={m}",
        )
        r = self.fraction
        require(r is None or 0 < r <= 1, "fraction", r, "above 0 and at most 1, or null")
        require(self.baselines in BASELINES, "baselines", self.baselines, " | ".join(BASELINES))
        require(self.progress in PROGRESS, "progress", self.progress, " | ".join(PROGRESS))
        require(0 <= self.seed < 2**64, "seed", self.seed, "0 or more, and below 2^64")
        self.schedule = self.schedule or {}
        groups = ("algorithm", "dataset", "model", "strategy", "rule", "sampler", "schedule")
        for group in (*groups, "engine"):
            options = getattr(self, group)
            require(isinstance(options, dict), group, options, "one of the options of its group")
        for group in ("algorithm", "dataset"):
            name = getattr(self, group).get("name")
            require(isinstance(name, str), f"{group}.name", name, "a name, such as digits")
        for key in ("tracking", "callbacks"):
            named = getattr(self, key)
            require(isinstance(named, dict | None), key, named, "names, each with a _target_")
            _require_named(key, named or {})
        self._require_honest_stopping()
        p = self.partition
        require(0 <= p.seed < 2**64, "partition.seed", p.seed, "0 or more, and below 2^64")

    def _require_honest_stopping(self) -> None:
        """Raise an `InputError` if a run would be stopped by what it must not be chosen by."""
        stopping = self.early_stopping
        if stopping.patience is None:
            return
        require(
            stopping.metric == "train_loss" or self.evaluation.split == "validation",
            "early_stopping.metric",
            stopping.metric,
            "train_loss, or add evaluation.split=validation: test rows are no rows to choose by",
        )
        require(
            self.privacy.name == "none",
            "early_stopping.patience",
            stopping.patience,
            f"null with privacy={self.privacy.name}: ε does not cover the losses it goes by",
        )


def _require_named(key: str, callbacks: dict[str, Any]) -> None:
    """Raise an `InputError` unless each has a name, and a `_target_` in its own node."""
    target = callbacks.get("_target_")
    if target is not None:
        header = f"# @package {key}.mine"
        allowed = f"under a name, as {key}.mine._target_; a YAML file begins with {header}"
        require(False, f"{key}._target_", target, allowed)
    for name, each in callbacks.items():
        require(str(name).isidentifier(), f"{key}.{name}", each, "under a name of letters, as mine")
        valid = isinstance(each, dict) and isinstance(each.get("_target_"), str)
        require(valid, f"{key}.{name}", each, "a _target_ and its arguments")


def register() -> None:
    """Make the types known to Hydra, under the name that config.yaml starts from."""
    ConfigStore.instance().store(name="schema", node=Config)
    OmegaConf.register_new_resolver("cwd", os.getcwd, replace=True)
    OmegaConf.register_new_resolver("cpus", _cpus, replace=True)
    OmegaConf.register_new_resolver("methods", _methods, replace=True)


def _methods() -> str:
    """Return the algorithms with what their YAML files begin with, a line each, for --help."""
    files = sorted((Path(__file__).parent / "algorithm").glob("*.yaml"))
    first = {file.stem: file.read_text().splitlines()[0].lstrip("# ") for file in files}
    return "\n".join(f"  {name:18} {line}" for name, line in first.items())


def _cpus() -> int:
    """Return how many CPU cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
