"""The methods that are compared, and the runs of each at the step sizes that tuning found."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from benchmarks.experiments.plan import ALPHA, NU, SEED, Job, axes, jobs
from benchmarks.experiments.runs import Outcome
from benchmarks.experiments.tuning import STEPS, Choice, choose, outer_key, tuning
from nufed.client_app.algorithm import algorithm_of
from nufed.server_app.report.statistics import Array, rounds_to

SETTINGS = ("fashion_shards", "digits_dirichlet", "own_labels")
TITLES = {
    "fashion_shards": "Fashion-MNIST, two classes a client",
    "digits_dirichlet": "digits, Dirichlet(0.1)",
    "own_labels": "Fashion-MNIST, few images, labels of a client's own",
}
GROUPS = ("participating", "new")
Outcomes = Mapping[Job, Outcome]


@dataclass(frozen=True)
class Method:
    """A number of steps with tuned step sizes, on one setting."""

    setting: str
    nu: str
    choice: Choice
    note: str = ""
    also: tuple[tuple[str, str], ...] = ()
    """Keys and values that its runs have beside."""

    @property
    def name(self) -> str:
        """What the field calls it."""
        known = {"0": "FedAvg + fine-tuning", "1": "Per-FedAvg"}.get(self.nu, f"NuFed ν={self.nu}")
        return f"{known}, {self.note}" if self.note else known

    def jobs(self) -> list[Job]:
        """Return its runs, one a seed."""
        sizes = {ALPHA: self.choice.alpha, outer_key(tuning(self.setting)): self.choice.outer}
        return jobs(f"compare_{self.setting}", {NU: self.nu} | sizes | dict(self.also))

    def finals(self, outcomes: Outcomes, group: str, metric: str = "accuracy") -> Array:
        """Return the metric at the end of each run, [seeds, K + 1]."""
        return np.stack([outcomes[job].final(group, metric) for job in self.jobs()])

    def curves(self, outcomes: Outcomes, group: str) -> Array:
        """Return the accuracy after five steps along each run, [seeds, evaluations]."""
        runs = [outcomes[job] for job in self.jobs()]
        longest = max(len(run.rounds) for run in runs)
        padded = np.full((len(runs), longest), np.nan)
        for row, run in zip(padded, runs, strict=True):
            curve = run.curve(group, "accuracy")[:, STEPS]
            row[: len(curve)] = curve
            row[len(curve) :] = curve[0]  # as `Outcome.final` has it
        return padded

    def rounds(self, outcomes: Outcomes) -> list[int]:
        """Return the rounds that were evaluated, of the run that lasted longest."""
        return max((outcomes[job].rounds for job in self.jobs()), key=len)

    def rounds_to(self, outcomes: Outcomes, group: str, target: float) -> Array:
        """Return the rounds to an accuracy after five steps, [seeds]; ∞ where none was enough."""
        rounds = self.rounds(outcomes)
        return np.array([rounds_to(rounds, c, target) for c in self.curves(outcomes, group)])

    def cost(self, outcomes: Outcomes) -> int:
        """Return a sampled client's gradients a round."""
        algorithm = algorithm_of(outcomes[self.jobs()[0]].config.algorithm)
        return algorithm.tau * algorithm.gradients


def tuned(setting: str, outcomes: Outcomes, nu: str, alpha: str | None = None) -> Choice:
    """Return the best step sizes for ν on a setting, with α where one is given."""
    at = {NU: nu} if alpha is None else {NU: nu, ALPHA: alpha}
    return choose(outcomes, tuning(setting), at)


def matrix_trials(setting: str, outcomes: Outcomes) -> list[Job]:
    """Return the trials that tune the outer step of every ν at the best α for ν = 1."""
    alpha = tuned(setting, outcomes, "1").alpha
    nus = axes(f"compare_{setting}")[NU]
    return [job for nu in nus for job in jobs(tuning(setting), {NU: nu, ALPHA: alpha})]


def matrix_methods(setting: str, outcomes: Outcomes) -> list[Method]:
    """Return every ν with one α, the best for ν = 1: if it favours anyone, then the baseline."""
    alpha = tuned(setting, outcomes, "1").alpha
    nus = axes(f"compare_{setting}")[NU]
    return [Method(setting, nu, tuned(setting, outcomes, nu, alpha)) for nu in nus]


def seeds(setting: str) -> int:
    """Return how many seeds the results are of."""
    return len(axes(f"compare_{setting}")[SEED])
