"""Does federation pay? A run's personal models beside what each client has without it, in words."""

from dataclasses import dataclass

import numpy as np

from nufed.conf.typed import Mistyped, made
from nufed.server_app.report.statistics import Interval
from nufed.strategies.curves import GROUPS

ALONE = "alone, "
WORDS = {
    "constant": "its most frequent class",
    "alone": f"{ALONE}same model",
    "alone_linear": f"{ALONE}linear model",
    "alone_boosting": f"{ALONE}gradient boosting",
    "pooled": "pooled rows, same model",
    "pooled_boosting": "pooled rows, gradient boosting",
}
"""What people read, of classes."""
MEAN = "its mean"
"""In the place of the first, of a regression."""


@dataclass(frozen=True)
class Against:
    """Personal models of a group of clients against what they do best alone."""

    better: int
    worse: int
    clients: int
    """Of whom both are known."""
    gain: float | None
    low: float | None
    high: float | None
    """Mean over clients by which personal models are better, and its 95% interval; None where it
    is not finite, or there is none of one client."""
    diverged: int = 0
    """Whose personal model is not finite: they count as worse, and in no mean."""
    drawn_from: int | None = None
    """How many were measured, where not all of these are compared; None where all are."""

    @property
    def interval(self) -> Interval:
        """The gain and its interval."""
        gain = np.nan if self.gain is None else self.gain
        low = -np.inf if self.low is None else self.low
        return Interval(gain, low, np.inf if self.high is None else self.high)

    @property
    def who(self) -> str:
        """How many clients these are, in words."""
        return (
            f"{self.clients}"
            if self.drawn_from is None
            else (f"{self.clients} drawn from {self.drawn_from}")
        )

    @property
    def sign(self) -> int:
        """1 where personal models are better, −1 where they are worse, 0 where nobody can tell."""
        if not self.interval.decided or (self.diverged and self.interval.mean > 0):
            return 0
        return 1 if self.interval.mean > 0 else -1


@dataclass(frozen=True)
class Beside:
    """What stands beside a run's personal models, as its summary keeps it."""

    metric: str
    lower_is_better: bool
    classes: bool
    k: int
    """Fine-tuning steps of the personal models."""
    steps: int
    """Of training, at most."""
    best: str
    """Of what clients do alone, what is best on the mean over all that were measured."""
    means: dict[str, dict[str, float | None]]
    """Name -> group -> the metric's mean over clients; `personal` is the run's own."""
    against: dict[str, Against]
    """Group -> how personal models compare with `best`."""

    def called(self, name: str) -> str:
        """Return what people read of a baseline."""
        if name == "constant" and not self.classes:
            return MEAN
        return f"personal models, k={self.k}" if name == "personal" else WORDS[name]

    def head(self, group: str) -> str:
        """Return what heads the figures of a group: of how many they are, where not of all."""
        against = self.against.get(group)
        return group if against is None or against.drawn_from is None else f"{group}, {against.who}"

    def pays(self) -> str:
        """Say in a sentence whether federation pays, for whom, and by how much."""
        said = [
            f"for {of.better} of {of.who} {group} clients{_worse(of)}, by {_text(of.interval)}"
            for group, of in self.against.items()
        ]
        if not said:
            return (
                "Nobody can be compared with what each client does alone: no client has "
                f"{self.metric} of both."
            )
        return (
            f"{self._pays()}: personal models are better than what clients do best alone "
            f"({self.called(self.best).removeprefix(ALONE)}) {'; '.join(said)}."
        )

    def _pays(self) -> str:
        signs = {group: of.sign for group, of in self.against.items()}
        if all(sign > 0 for sign in signs.values()):
            return "Federation pays"
        if all(sign < 0 for sign in signs.values()):
            return "Federation does not pay here"
        if any(sign < 0 for sign in signs.values()) or not any(signs.values()):
            return "That federation pays is not seen here"
        return f"Federation pays for {' and '.join(g for g in signs if signs[g])} clients"


def _worse(of: Against) -> str:
    diverged = f" ({of.diverged} of them not finite, and in no mean)" if of.diverged else ""
    return f" and worse for {of.worse}{diverged}" if of.worse else ""


def _text(of: Interval) -> str:
    if np.isnan(of.mean):
        return "nothing that is finite"
    if np.isinf(of.low):
        return f"{of.mean:.3g}".replace("-", "−")
    return of.text(3, sign=False)


def read(said: object) -> Beside:
    """Return what a summary says.

    Raises
    ------
    Mistyped
        If it is not such as `beside` returns.
    """
    of = made(Beside, said)
    _require(of.means.keys() <= {"personal", *WORDS}, "a baseline that is not known")
    _require(of.best in of.means and "personal" in of.means, "no means")
    groups = set(of.against).union(*of.means.values())
    _require(groups <= set(GROUPS), "another group of clients")
    return of


def _require(holds: bool, what: str) -> None:
    if not holds:
        raise Mistyped(f"baselines have {what}")
