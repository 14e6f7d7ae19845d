"""Is it trained? What a run's own figures say of it, in the terminal and in its report."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nufed.conf.schema import Config
from nufed.conf.text import count
from nufed.server_app.report.statistics import Interval, interval, rounds_to_tell
from nufed.server_app.report.words import number
from nufed.server_app.tracking import Row
from nufed.strategies.curves import GROUPS, Evaluation, missing, rises, shown, undefined
from nufed.tasks.labels import EXACT, RARE, constant, counts, one_class
from nufed.tasks.objective import LOWER_IS_BETTER
from nufed.tasks.possible import SHARE, Limits, limits
from nufed.tasks.task import Task

Array = NDArray[np.float64]
GAIN, CONSTANT = "gain", "constant"
"""Keys of a summary: what `of_clients` found."""
NOISE = 1 / 50  # of where a curve ends: a whole way that is less may be noise
MANY = 2  # clients from which on an interval over them is one
CLEAR = 2.0  # standard errors: beyond, a difference is none of chance
CLIP = 1  # what to clip updates to, where no number is set


class Rising(NamedTuple):
    """A curve that had not come to its end by the last round."""

    falls: bool
    """Whether less of the metric is better."""
    rounds: int
    """About how many in all would show its end."""

    def __str__(self) -> str:
        verb = "falling" if self.falls else "rising"
        return f"Still {verb} at the last round: rounds={self.rounds} or more would tell"


def still_rising(
    rows: Sequence[Row], summary: Mapping[str, Any], *, lower_is_better: bool
) -> Rising | None:
    """Tell whether a run that came to its end was not trained to its end; None if it was.

    By the metric that is shown, at the last step, a mean over all clients that were measured.
    """
    if not summary or "stopped" in summary or "stopped_early" in summary:
        return None
    rounds, curve = _course([row for row in rows if _present(row)])
    if not rounds or not np.isfinite(curve).all():
        return None
    curve = -curve if lower_is_better else curve
    found = rounds_to_tell(rounds, curve)
    if found is None or curve[-1] - curve[0] <= NOISE * abs(curve[-1]):
        return None
    return Rising(lower_is_better, found)


def _course(rows: Sequence[Row]) -> tuple[list[int], Array]:
    """Return the rounds of rows, and what all their clients had after the last step."""
    return [row["round"] for row in rows], np.array([_mean(row, -1) for row in rows])


def _mean(of: Mapping[str, Any], k: int, metric: str | None = None) -> float:
    """Return a metric, else that which is shown, after k steps, over all for whom it exists."""
    groups = [of[group] for group in _present(of)]
    metric = metric or shown(groups[0])
    known = [int(each["clients"]) - missing(each, metric, k) for each in groups]
    values = [each.get(metric, [None] * len(each["k"]))[k] for each in groups]
    some = [(n, np.nan if v is None else v) for n, v in zip(known, values, strict=True) if n]
    return float(np.average([v for _, v in some], weights=[n for n, _ in some])) if some else np.nan


def of_clients(task: Task, measured: Evaluation, *, stateful: bool) -> dict[str, Any]:
    """Return what the last evaluation, client by client, says for a summary to keep.

    Parameters
    ----------
    measured
        Of clients by their numbers.
    stateful
        Whether clients that trained keep models of their own, which fine-tuning need not change.

    Returns
    -------
    dict
        ``gain``: by how much the metric that is shown grows from k = 0 to the last step, a mean
        over clients with its 95% interval. ``constant``, where the server has the rows of a
        classification: the accuracy of always saying a client's own most frequent class; by how
        much models are ahead of it at the last step, as an interval; and of how many clients the
        accuracy is just that, or that of one class for all.
    """
    groups = measured.groups
    fresh = [groups[g] for g in GROUPS if g in groups and not (stateful and g == GROUPS[0])]
    found: dict[str, Any] = {}
    metric = next((m for members in groups.values() for m in members.curves if m != "loss"), "loss")
    gains = [_gains(members.curves, metric) for members in fresh]
    if gains and len(each := np.concatenate(gains)) >= MANY:
        share = metric == "accuracy" and task.objective.metrics is None
        most = SHARE.of_differences if share else Limits()
        found[GAIN] = interval(each).within(most)._asdict() | {"clients": len(each)}
    asked = task.classification and task.data.rows_here and task.objective.metrics is None
    if asked and metric == "accuracy":
        found[CONSTANT] = _constant(task, groups)
    return {key: value for key, value in found.items() if value}


def _gains(curves: Mapping[str, Array], metric: str) -> Array:
    """Return what each client gains by fine-tuning, [clients] where that exists."""
    values, loss = curves[metric], curves["loss"]
    there = ~undefined(values, loss)[:, [0, -1]].any(1) & np.isfinite(values[:, [0, -1]]).all(1)
    gained: Array = (values[:, -1] - values[:, 0])[there]
    return gained


def _constant(task: Task, groups: Mapping[str, Any]) -> dict[str, float]:
    data = task.data
    right = np.full(data.num_clients, np.nan)
    for members in groups.values():
        right[members.clients] = members.curves["accuracy"][:, -1]
    parts = ({"test": False}, {"train": False})
    train, test = (counts(data.y, data.partition, data.num_outputs, **kind) for kind in parts)
    usual = constant(train, test)
    asked = np.isfinite(right) & np.isfinite(usual.right)
    if not asked.any():
        return {}
    at = np.isclose(usual.each, right[usual.client], rtol=0, atol=EXACT)
    own = np.bincount(usual.client[at], minlength=len(right))[asked] > 0
    ahead = interval((right - usual.right)[asked]).within(SHARE.of_differences)
    found = {"accuracy": float(usual.right[asked].mean()), "of": int(asked.sum())}
    if np.isfinite(ahead.low):
        found |= {"low": ahead.low, "high": ahead.high}
    same = one_class(test, np.where(asked, right, np.nan))
    if len(same) and right[asked].any():
        return found | {"clients": int(asked.sum()), "class": int(same[0])}
    return found | {"clients": int(own.sum())}


def alarms(
    summary: Mapping[str, Any],
    config: Config,
    probed: Collection[str] = (),
    rising: Rising | None = None,
) -> list[str]:
    """Return what is amiss with a run that came to its end, and what to do about it; a line each.

    Parameters
    ----------
    summary
        As summary.json has it; of an older run without what `of_clients` found.
    probed
        The step sizes that nobody set. Of the others a person has thought, and is asked to change
        one only where it is plainly what is amiss.
    rising
        As `still_rising` found: no other number of rounds is named.
    """
    if "stopped" in summary or not summary.get("rounds") or not _present(summary):
        return []
    constant = [*_of_constant(summary, config, probed, rising)]
    return [*constant[:1], *_of_gain(summary, config, probed), *constant[1:]]


def still_pays(
    summary: Mapping[str, Any], config: Config, probed: Collection[str] = ()
) -> str | None:
    """Say that more steps of fine-tuning would pay; None where it is not known to gain at all.

    Parameters
    ----------
    summary, probed
        As of `alarms`; or an evaluated row of a run that has no summary.
    """
    if not (groups := _present(summary)) or [*_of_gain(summary, config, probed)]:
        return None
    curves = summary[groups[0]]
    metric, k = shown(curves), curves["k"][-1]
    if not rises(curves[metric], lower_is_better=_falls(summary, metric)):
        return None
    larger = ", or a larger algorithm.alpha" if "alpha" in probed else ""
    return f"Fine-tuning still pays at k={k}: try evaluation.steps={2 * k}{larger}."


def _falls(summary: Mapping[str, Any], metric: str) -> bool:
    return metric in summary.get("lower_is_better", LOWER_IS_BETTER)


def _of_constant(
    summary: Mapping[str, Any], config: Config, probed: Collection[str], rising: Rising | None
) -> Iterator[str]:
    """Say that models say one class, or are no better than if they did."""
    found = summary.get(CONSTANT, {})
    known = [found.get(name) for name in ("accuracy", "clients", "of")]
    now = _mean(summary, -1)
    if None in known or not 0 < known[0] < 1 or not np.isfinite(now):
        return
    accuracy, clients, of = known
    if clients >= of:
        which = found.get("class")
        what = "its own most frequent class" if which is None else f"class {which:.0f}"
        said = (
            f"The models say one class: each of {of:.0f} clients has just the accuracy of always "
            f"saying {what} ({number(now, 'accuracy')} in the mean)"
        )
    elif (low := found.get("low")) is not None and low <= 0:
        ahead = Interval(now - accuracy, low, found.get("high") or 0.0)
        worse = "worse than" if ahead.high < 0 else "not seen to be better than"
        said = (
            f"The models are {worse} a constant: always saying a client's most frequent class has "
            f"accuracy {number(accuracy, 'accuracy')}, they have {number(now, 'accuracy')} "
            f"({ahead.text(3)})"
        )
    else:
        return
    yield f"{said}; {_to_move(summary, config, probed, rising)}."
    if accuracy > RARE:
        said = "try task.metrics=balanced_accuracy"
        if all("balanced_accuracy" in summary[group] for group in _present(summary)):
            balanced = number(_mean(summary, -1, "balanced_accuracy"), "accuracy")
            said = f"balanced accuracy is {balanced}"
        yield f"Accuracy says little of classes so rare: {said}."


def _to_move(
    summary: Mapping[str, Any], config: Config, probed: Collection[str], rising: Rising | None
) -> str:
    """Say how to get away from a model that says nothing, by what nobody has set yet."""
    beta, free = config.algorithm.get("beta"), "beta" in probed
    if rising is None and _has_grown(summary):
        clipped = isinstance(config.strategy.get("clip_norm"), int | float)
        ways = [_step("beta", beta, "smaller")] if free else []
        ways += [] if clipped else [f"strategy.clip_norm={CLIP}"]
        return f"their loss has grown: try {', or '.join(ways) or 'fewer rounds'}"
    more = rising.rounds if rising is not None else 2 * int(summary["rounds"])
    return ", or ".join([f"try rounds={more}", *([_step("beta", beta, "larger")] if free else [])])


def _has_grown(summary: Mapping[str, Any]) -> bool:
    """Tell whether training left all clients, after the last step, with more loss than it found.

    By more than noise over clients: the two means as of independent ones, which says less than
    their paired differences would. A loss that is not finite any more has grown.
    """
    untrained = summary.get("untrained", {})
    groups = [group for group in _present(summary) if group in untrained]
    found = [(untrained[group], summary[group]) for group in groups]
    points = [(_point(before, "loss"), _point(after, "loss")) for before, after in found]
    if any(np.isfinite(before) and not np.isfinite(after) for before, after in points):
        return True
    clients = np.array([int(after["clients"]) for _, after in found], np.float64)
    spread = [[_point(each, "loss_std") ** 2 for each in both] for both in found]
    if not len(clients) or clients.min() < MANY:
        return False
    share = clients / clients.sum()
    error = np.sqrt((share**2 * np.sum(spread, axis=1) / (clients - 1)).sum())
    grown = float((share * (np.array(points) @ [-1, 1])).sum())
    return bool(grown > CLEAR * error)  # of a spread that is not known, False


def _point(curves: Mapping[str, Any], name: str) -> float:
    """Return what a group has after the last step; NaN where that is not known, or not finite."""
    value = curves.get(name, [None])[-1]
    return np.nan if value is None else float(value)


def _step(name: str, size: object, change: str) -> str:
    """Say which step size to change, and what it is now: the shape of a loss says by how much."""
    now = f" (it is {size:.2g})" if isinstance(size, int | float) else ""
    return f"a {change} algorithm.{name}{now}"


def _of_gain(summary: Mapping[str, Any], config: Config, probed: Collection[str]) -> Iterator[str]:
    """Say that fine-tuning changes nothing, or no more than noise might, or does harm."""
    group = summary[_present(summary)[0]]
    metric, k = shown(group), group["k"][-1]
    if not k:
        return
    start, end = (number(_mean(summary, k), metric) for k in (0, -1))
    alpha, found = config.algorithm.get("alpha"), summary.get(GAIN, {})
    values = [found.get(name) for name in ("mean", "low", "high", "clients")]
    nothing = (
        f"Fine-tuning changes nothing: {metric} is {end} after 0 and after {count(k, 'step')}; try "
        f"{_step('alpha', alpha, 'larger')}."
    )
    if None in values:  # of an older run, or of one client
        if start == end:
            yield nothing
        return
    mean, low, high, clients = values
    if mean == low == high == 0:
        yield nothing
        return
    better = Interval(mean, low, high)
    if _falls(summary, metric):
        better = Interval(-mean, -high, -low)
    better = better.within(limits(config.task, metric).of_differences)
    said = f"{_signed(better, metric)} {metric} in {count(k, 'step')}, over {clients:.0f} clients"
    if better.high < 0:
        yield f"Fine-tuning makes models worse: {said}; try {_step('alpha', alpha, 'smaller')}."
    elif better.low <= 0:
        larger = f"{_step('alpha', alpha, 'larger')}, or " if "alpha" in probed else ""
        yield (
            f"Fine-tuning gains no more than noise may: {said}; try {larger}one shared model, "
            "where nufed-data check finds clients alike."
        )


def _signed(gain: Interval, metric: str) -> str:
    """Return a gain, more of which is better, with its 95% interval."""
    if metric == "accuracy":
        return gain.text(3)
    return f"{gain.mean:+.3g} [{gain.low:+.3g}, {gain.high:+.3g}]".replace("-", "−")


def _present(of: Mapping[str, Any]) -> list[str]:
    return [group for group in GROUPS if group in of]
