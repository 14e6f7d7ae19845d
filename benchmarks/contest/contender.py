"""Who is compared, and where."""

from dataclasses import dataclass

from benchmarks.contest.search import BUDGET, Axis, Point
from benchmarks.experiments.plan import SEED, Job, axes

TUNING_SEEDS = ("100", "101", "102")
"""Of the federations that are tuned on; the results' seeds begin at 0."""


@dataclass(frozen=True)
class Setting:
    """A federation and a length of run, the same for all who are compared on it."""

    experiment: str
    """Its file in conf/experiment/, whose seeds are those of the results."""
    title: str
    metric: str = "accuracy"
    """What is compared."""
    steps: tuple[int, ...] = (5,)
    """Fine-tuning steps k after which it counts: of several, the best by validation rows."""
    budget: int = BUDGET
    """Points that each may try."""
    tuning_seeds: tuple[str, ...] = TUNING_SEEDS
    """Of the federations whose mean decides between points."""

    @property
    def seeds(self) -> list[str]:
        """Of the results."""
        return axes(self.experiment)[SEED]

    @property
    def lower_is_better(self) -> bool:
        """Whether less of the metric is better."""
        return self.metric != "accuracy"


@dataclass(frozen=True)
class Contender:
    """A method, before it is tuned."""

    name: str
    axes: tuple[Axis, ...]
    """What is tuned: the same step sizes for all, and the strength of one that has its own."""
    choices: tuple[tuple[str, str], ...] = ()
    """What makes it the method: keys and values."""
    options: tuple[str, ...] = ()
    """And options of groups, such as ``algorithm=ditto``."""
    steps: tuple[int, ...] | None = None
    """Fine-tuning steps after which it counts, where they are not the setting's."""

    def trials(self, setting: Setting, point: Point) -> list[Job]:
        """Return the runs that score a point, by rows held out of the train rows."""
        held_out = ("evaluation.split", "validation")
        return [self._job(setting, point, held_out, (SEED, s)) for s in setting.tuning_seeds]

    def jobs(self, setting: Setting, point: Point) -> list[Job]:
        """Return the runs of a point that results are taken from, one a seed."""
        return [self._job(setting, point, (SEED, seed)) for seed in setting.seeds]

    def _job(self, setting: Setting, point: Point, *also: tuple[str, str]) -> Job:
        keys = (axis.key for axis in self.axes)
        chosen = (*self.choices, *zip(keys, point, strict=True), *also)
        return Job(setting.experiment, chosen, self.options)
