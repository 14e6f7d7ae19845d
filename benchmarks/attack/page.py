"""docs/robustness.md, of the outcomes of all cases."""

from typing import NamedTuple

import numpy as np

from benchmarks import machine
from benchmarks.attack.attacks import HOSTILE
from benchmarks.attack.cases import MEAN, NEW, PARTICIPATING, SETTING, Case, Outcomes

POINTS = 3.0  # of accuracy, that a rule may cost


class Cell(NamedTuple):
    """One rule under one attack on one setting: a value for each seed."""

    accuracy: list[float]
    lost: list[float]
    """Points below plain averaging without attack, same seed."""

    @property
    def points(self) -> str:
        """The mean of the points lost."""
        return tenths(float(np.mean(self.lost)))

    @property
    def holds(self) -> bool:
        """Whether the mean of the points lost, as it is shown, is small."""
        return float(self.points) <= POINTS

    def __str__(self) -> str:
        held = sum(float(tenths(points)) <= POINTS for points in self.lost)
        lost = f"{self.points} ± {tenths(float(np.std(self.lost)))}"
        shown = f"**{lost}**" if self.holds else lost
        accuracy = f"{np.mean(self.accuracy):.3f} ± {np.std(self.accuracy):.3f}"
        return f"{shown} ({held} of {len(self.lost)})<br>{accuracy}"


def tenths(points: float) -> str:
    """Return points to a tenth, and none as 0.0, not as -0.0."""
    return f"{round(points, 1) + 0.0:.1f}"


def loss_of_accuracy(outcomes: Outcomes, case: Case) -> float:
    """Return how many points lower a case ends than plain averaging without attack, same seed."""
    return 100 * (outcomes[case._replace(rule=MEAN, attack=None)] - outcomes[case])


def cell(outcomes: Outcomes, setting: tuple[str, str], rule: str, attack: str | None) -> Cell:
    """Gather the seeds of one rule under one attack on a data set and partition."""
    seeds = sorted({case.seed for case in outcomes})
    of = [Case(*setting, rule, attack, seed) for seed in seeds]
    return Cell([outcomes[c] for c in of], [loss_of_accuracy(outcomes, c) for c in of])


def settings(outcomes: Outcomes) -> list[tuple[str, str]]:
    """Return the data sets and partitions, in the order of the cases."""
    return list(dict.fromkeys((case.dataset, case.partition) for case in outcomes))


def rules(outcomes: Outcomes) -> list[str]:
    """Return the rules, in the order of the cases."""
    return list(dict.fromkeys(case.rule for case in outcomes))


def attacks(outcomes: Outcomes) -> list[str | None]:
    """Return the attacks, in the order of the cases."""
    return list(dict.fromkeys(case.attack for case in outcomes))


def table(outcomes: Outcomes, setting: tuple[str, str]) -> str:
    """Return one setting's outcomes in Markdown: a row a rule, a column an attack."""
    columns = attacks(outcomes)
    lines = [
        f"| {', '.join(setting)} | {' | '.join(attack or 'no attack' for attack in columns)} |",
        "|---" * (len(columns) + 1) + "|",
    ]
    for rule in rules(outcomes):
        cells = (str(cell(outcomes, setting, rule, attack)) for attack in columns)
        lines.append(f"| `{rule}` | {' | '.join(cells)} |")
    return "\n".join(lines)


def verdict(outcomes: Outcomes, rule: str) -> str:
    """Return what a rule holds against, and where it does not."""
    where = settings(outcomes)
    lost = {
        attack: {_place(at, outcomes): cell(outcomes, at, rule, attack) for at in where}
        for attack in attacks(outcomes)
    }
    holds = [a for a, cells in lost.items() if a and all(c.holds for c in cells.values())]
    fails = [_failures(a or "no attack", cells) for a, cells in lost.items()]
    more = "; ".join(text for text in fails if text) or "nothing here"
    against = ", ".join(holds) or "none of them"
    return f"- `{rule}` holds everywhere against: {against}. It loses more under: {more}."


def _place(setting: tuple[str, str], outcomes: Outcomes) -> str:
    """Return what tells a setting apart: the partition, if all are of one data set."""
    one = len({case.dataset for case in outcomes}) == 1
    return setting[1] if one else ", ".join(setting)


def _failures(attack: str, cells: dict[str, Cell]) -> str:
    """Return by how much an attack succeeds, where it does; "" if nowhere."""
    lost = [f"{cell.points} on {place}" for place, cell in cells.items() if not cell.holds]
    return f"{attack} ({', '.join(lost)})" if lost else ""


def document(outcomes: Outcomes) -> str:
    """Return docs/robustness.md."""
    seeds = len({case.seed for case in outcomes})
    tables = "\n\n".join(table(outcomes, setting) for setting in settings(outcomes))
    verdicts = "\n".join(verdict(outcomes, rule) for rule in rules(outcomes))
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

{NEW} new clients, which never train, then take five fine-tuning steps each. *Points lost* is by how
much their mean accuracy on held-out rows is below that of plain averaging (`mean`) without
attack, seed by seed. A rule *holds everywhere* if it loses at most {POINTS:g}, to a tenth, in
the mean over {seeds} seeds, on each partition:

{verdicts}

Cells have the points lost, as mean ± standard deviation over seeds, bold where the mean is at most
{POINTS:g}, and in how many seeds the loss is; below, the accuracy.

{tables}

`trimmed_mean` and `krum` are told how many are hostile (`trimmed_fraction=0.2`, `num_malicious=2`),
which a server seldom knows. Each of these rules takes what lies among the others for honest. The
more honest clients differ, the more of them it may leave out, and the more room there may be for
clients who collude. That a rule holds here proves nothing of another attack, or of other data.

`{" ".join(SETTING)}`, otherwise the defaults, on {machine.facts()["cpu"]}.
"""
