"""docs/robustness.md, of the outcomes of all cases."""

from typing import NamedTuple

import numpy as np

from benchmarks import machine
from benchmarks.attack.attacks import HOSTILE
from benchmarks.attack.cases import MEAN, NEW, PARTICIPATING, SETTING, Case, Outcomes

POINTS = 3.0  # of accuracy, that a rule may cost


class Cell(NamedTuple):
    """One strategy under one attack on one setting: a value for each seed."""

    accuracy: list[float]
    lost: list[float]
    """Points below plain averaging without attack, same seed."""

    @property
    def holds(self) -> bool:
        """Whether the mean of the points lost is small."""
        return bool(np.mean(self.lost) <= POINTS)

    def __str__(self) -> str:
        held = sum(points <= POINTS for points in self.lost)
        lost = f"{np.mean(self.lost):.1f} ± {np.std(self.lost):.1f}"
        shown = f"**{lost}**" if self.holds else lost
        accuracy = f"{np.mean(self.accuracy):.3f} ± {np.std(self.accuracy):.3f}"
        return f"{shown} ({held} of {len(self.lost)})<br>{accuracy}"


def loss_of_accuracy(outcomes: Outcomes, case: Case) -> float:
    """Return how many points lower a case ends than plain averaging without attack, same seed."""
    return 100 * (outcomes[case._replace(strategy=MEAN, attack=None)] - outcomes[case])


def cell(outcomes: Outcomes, setting: tuple[str, str], strategy: str, attack: str | None) -> Cell:
    """Gather the seeds of one strategy under one attack on a data set and partition."""
    seeds = sorted({case.seed for case in outcomes})
    of = [Case(*setting, strategy, attack, seed) for seed in seeds]
    return Cell([outcomes[c] for c in of], [loss_of_accuracy(outcomes, c) for c in of])


def settings(outcomes: Outcomes) -> list[tuple[str, str]]:
    """Return the data sets and partitions, in the order of the cases."""
    return list(dict.fromkeys((case.dataset, case.partition) for case in outcomes))


def strategies(outcomes: Outcomes) -> list[str]:
    """Return the strategies, in the order of the cases."""
    return list(dict.fromkeys(case.strategy for case in outcomes))


def attacks(outcomes: Outcomes) -> list[str | None]:
    """Return the attacks, in the order of the cases."""
    return list(dict.fromkeys(case.attack for case in outcomes))


def table(outcomes: Outcomes, setting: tuple[str, str]) -> str:
    """Return one setting's outcomes in Markdown: a row a strategy, a column an attack."""
    columns = attacks(outcomes)
    lines = [
        f"| {', '.join(setting)} | {' | '.join(attack or 'no attack' for attack in columns)} |",
        "|---" * (len(columns) + 1) + "|",
    ]
    for strategy in strategies(outcomes):
        cells = (str(cell(outcomes, setting, strategy, attack)) for attack in columns)
        lines.append(f"| `{strategy}` | {' | '.join(cells)} |")
    return "\n".join(lines)


def verdict(outcomes: Outcomes, strategy: str) -> str:
    """Return what a strategy holds against, and where it does not."""
    lost = {
        attack: {at: cell(outcomes, at, strategy, attack) for at in settings(outcomes)}
        for attack in attacks(outcomes)
    }
    holds = [a for a, cells in lost.items() if a and all(c.holds for c in cells.values())]
    fails = [_failures(a or "no attack", cells) for a, cells in lost.items()]
    more = "; ".join(text for text in fails if text) or "nothing here"
    against = ", ".join(holds) or "none of them"
    return f"- `{strategy}` holds against: {against}. It loses more under: {more}."


def _failures(attack: str, cells: dict[tuple[str, str], Cell]) -> str:
    """Return by how much an attack succeeds, where it does; "" if nowhere."""
    lost = [
        f"{np.mean(cell.lost):.1f} on {' '.join(setting)}"
        for setting, cell in cells.items()
        if not cell.holds
    ]
    return f"{attack} ({', '.join(lost)})" if lost else ""


def document(outcomes: Outcomes) -> str:
    """Return docs/robustness.md."""
    seeds = len({case.seed for case in outcomes})
    tables = "\n\n".join(table(outcomes, setting) for setting in settings(outcomes))
    verdicts = "\n".join(verdict(outcomes, strategy) for strategy in strategies(outcomes))
    return f"""# Under attack

Written by `python -m benchmarks.attack` (`make attack`); nothing here is typed by hand.

{PARTICIPATING} clients train, all of them in every round, and {HOSTILE} of them are hostile:

- **×−10** and **sign flip**: they train as told, and send −10 times and −1 times their update.
- **label flip** (Fang et al. 2020): they train as told, on train rows whose classes are reversed,
  y → C − 1 − y.
- **collusion** (Min-Sum, Shejwalkar and Houmansadr 2021): they know all honest updates of the
  round, and both send the same vector, as far against the honest updates' mean as it may lie with
  its squared distances to them no larger, in sum, than those of the honest update that is farthest
  from the others. This is the harder case: a pair that knows its own two updates alone has to guess
  the rest.

{NEW} new clients, which never train, then take five fine-tuning steps each. A cell's first line is
*points lost*: by how much their mean accuracy on held-out rows is below that of plain averaging
(`meta_fedavg`) without attack, seed by seed, as mean ± standard deviation over {seeds} seeds. It is
bold where the mean is at most {POINTS:g}; behind it stands in how many of the seeds the loss is.
The second line is the accuracy itself.

{tables}

*Holds against*: loses at most {POINTS:g} points, in the mean over seeds, wherever it was tried.

{verdicts}

`trimmed_mean` and `krum` are told how many are hostile (`trimmed_fraction=0.2`, `num_malicious=2`),
which a server seldom knows. Each of these rules takes what lies among the others for honest. The
more honest clients differ, the more of them it leaves out, and the more room it leaves to clients
who collude. That a rule holds here proves nothing of another attack, or of other data.

`{" ".join(SETTING)}`, otherwise the defaults, on {machine.facts()["cpu"]}.
"""
