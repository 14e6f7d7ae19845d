"""What can be hoped for of a federated data set: what its rows tell, and what could be gained."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nufed.cli.data_findings import MANY_CLASSES, TEST_ROWS, Found, Spread
from nufed.server_app.report.statistics import interval
from nufed.tasks.labels import constant, counts, intraclass, total_variation

Z = 1.96  # standard deviations within which 95% lie
FEATURES, COLUMNS, CLIENTS = 256, 20, 1000  # of more, evenly spread ones are looked at
OWN = 0.1  # of how x goes with y: below, clients are called alike
LITTLE = 0.02  # of labels that lie elsewhere: below, clients are called alike however sure that is
FAR = 0.1  # and above, far apart
UNLIKELY = 0.01


def hopes(of: Found, x: Spread) -> list[str]:
    """Return what can be hoped for, a line each; the last is the verdict."""
    lines = [*_of_measuring(of), *_of_classes(of)] if of.data.classes else [*_of_targets(of)]
    return [*lines, *_of_differences(of, x)]


def half_width(rows: float) -> float:
    """Return half of Wilson's 95% interval of an accuracy of one half, where it is widest."""
    return float(Z / 2 / np.sqrt(rows + Z**2))


def _of_measuring(of: Found) -> Iterator[str]:
    """Say how far test rows tell accuracies."""
    test = of.rows - of.train
    measured, median = test[test > 0], int(np.median(test))
    if not median:
        return
    mean = Z / 2 * np.sqrt((1 / measured).sum()) / len(measured)
    all_of_them = f", and those of all clients their mean to ±{mean:.2f}" if len(test) > 1 else ""
    yield (
        f"{median} test rows, as the median client has, tell its accuracy to "
        f"±{half_width(median):.2f} (95%){all_of_them}"
    )
    few = np.flatnonzero((test > 0) & (test < TEST_ROWS))
    if len(few):
        most = int(test[few].max())
        yield (
            f"{len(few)} of {len(test)} clients have fewer than {TEST_ROWS} test rows "
            f"({of.called(few)}), which tell theirs to ±{half_width(most):.2f} at best: nothing, "
            "client by client"
        )


def _of_classes(of: Found) -> Iterator[str]:
    """Say what a constant gets, and which clients lack classes."""
    y, part, n = of.data.y, of.data.partition, of.data.num_outputs
    train, test = counts(y, part, n, test=False), counts(y, part, n, train=False)
    right = constant(train, test).right
    if np.isfinite(right).any():
        yield (
            "to say the most frequent class of its train rows always gets a client an accuracy of "
            f"{np.nanmean(right):.2f}, the mean over clients"
        )
    if y.ndim > 1 or n > MANY_CLASSES:
        return
    used = int((counts(y, part, n).pooled > 0).sum())
    lacking = [
        (kind, np.flatnonzero((each.held < used) & (each.total > 0)))
        for kind, each in (("train", train), ("test", test))
    ]
    said = [
        f"{len(who)} of {len(part.train)} clients lack a class among their {kind} rows "
        f"({of.called(who)})"
        for kind, who in lacking
        if len(who)
    ]
    if said:
        yield "; ".join(said)
    unseen = train.of(test.client, test.label) == 0
    if unseen.any():
        who = of.called(np.unique(test.client[unseen]))
        yield (
            f"{test.rows[unseen].sum()} of {test.total.sum()} test rows are of classes that their "
            f"client's train rows lack ({who}), which its fine-tuning never sees"
        )


def _of_targets(of: Found) -> Iterator[str]:
    """Say how far targets spread, in all and within clients."""
    y = np.asarray(of.data.y, np.float64).reshape(len(of.data.y), -1)
    _, _, within = intraclass(y[of.data.partition.index], of.owner)
    if len(of.rows) > 1 and y.std() > 0:
        scale = f"y has standard deviation {y.std():.3g}" if y.shape[1] == 1 else "y"
        yield (
            f"{scale}; within a client it is {within:.0%} of that, which is what a model that "
            "knows each client's mean alone is off by"
        )


def _of_differences(of: Found, x: Spread) -> Iterator[str]:
    """Say how different clients are, and what that promises."""
    if len(of.rows) < 2 or of.constant:
        return
    labels, apart = _labels(of) if of.data.classes else _targets(of)
    own = _own(of, x)
    if own is not None and own > OWN:
        yield f"{labels}; {own:.0%} of how x goes with y is a client's own: personal models may pay"
    elif apart:
        yield f"{labels}: personal models may pay" + (" a little" if apart <= FAR else "")
    elif own is None:
        yield (
            f"{labels}: one shared model may do as well, unless the same x asks for another y at "
            "each client, which cannot be told from here"
        )
    else:
        yield (
            f"{labels}, and x goes with y alike, as far as straight lines tell: one shared model "
            "may do as well"
        )


def _labels(of: Found) -> tuple[str, float]:
    """Say how far labels differ; return by how much more than chance, 0 where that may be chance.

    The distance of one client has a standard deviation of about √(π/2 − 1) times its mean where it
    is of two classes that are both frequent, as a half-normal has, and less where it is of more. Of
    the mean over n clients, three of these /√n are taken for chance.
    """
    found = counts(of.data.y, of.data.partition, of.data.num_outputs)
    distance, chance = total_variation(found, of.rows)
    noise = 3 * np.sqrt((np.pi / 2 - 1) / len(of.rows)) * chance
    apart = distance - chance if distance - chance > max(noise, LITTLE) else 0.0
    how = "no more than" if not apart else "far more than" if apart > FAR else "a little more than"
    return (
        f"labels differ between clients {how} by chance ({distance:.2f}, by chance {chance:.2f})",
        apart,
    )


def _targets(of: Found) -> tuple[str, float]:
    """Say how far targets differ, as `_labels`: by which share of their variance."""
    share, p, _ = intraclass(np.asarray(of.data.y)[of.data.partition.index], of.owner)
    apart = share if share > LITTLE and p < UNLIKELY else 0.0
    figures = f"({share:.0%} of its variance)"
    return f"y differs between clients {_how(apart)} by chance {figures}", apart


def _how(apart: float) -> str:
    return "no more than" if not apart else "far more than" if apart > FAR else "a little more than"


class _Halves(NamedTuple):
    """Covariances of x with y in two halves of clients' rows, [clients, features · columns]."""

    one: NDArray[np.float64]
    other: NDArray[np.float64]


def _own(of: Found, x: Spread) -> float | None:
    """Return which part of how x goes with y is each client's own; None where that is not seen.

    With A_i and B_i the covariances in two halves of client i's rows, whose errors are independent:
    Σ_i (A_i − Ā)·(B_i − B̄)/(n − 1) has the variance between clients for its mean, and
    Σ_i A_i·B_i/n that with what they have in common.
    """
    halves = _halves(of, x)
    if halves is None or len(halves.one) < 2:
        return None
    n = len(halves.one)
    whole = (halves.one * halves.other).sum(1)
    apart = ((halves.one - halves.one.mean(0)) * (halves.other - halves.other.mean(0))).sum(1)
    between = interval(apart * n / (n - 1))
    if interval(whole).low <= 0 and between.low <= 0:
        return None
    return min(between.mean / float(whole.mean()), 1.0) if between.low > 0 else 0.0


def _halves(of: Found, x: Spread) -> _Halves | None:
    """Return covariances in even and odd rows of clients; None where x or y are no numbers."""
    y = _columns(of)
    varied = np.flatnonzero((x.std > 0) & np.isfinite(x.std))
    if (
        y is None
        or not len(varied)
        or not (of.data.x.dtype.kind == "f" or of.data.x.dtype == np.uint8)
    ):
        return None
    some = varied[_evenly(len(varied), FEATURES)]
    part, found = of.data.partition, list[list[NDArray[np.float64]]]()
    large = np.flatnonzero(of.rows >= 4)
    for client in large[_evenly(len(large), CLIENTS)].tolist():
        rows = part.index[part.offset[client] : part.offset[client + 1]]
        of_x = np.asarray(of.data.x[rows], np.float64).reshape(len(rows), -1)[:, some]
        of_x = (of_x - x.mean[some]) / x.std[some]
        found.append([_covariance(of_x[half::2], y[rows[half::2]]) for half in (0, 1)])
    return _Halves(*(np.stack(each) for each in zip(*found, strict=True))) if found else None


def _columns(of: Found) -> NDArray[np.float64] | None:
    """Return y as numbers [N, d]: classes as yes or no, of many the most frequent."""
    y: NDArray[Any] = np.asarray(of.data.y)
    if of.data.classes and y.ndim == 1:
        frequent = np.argsort(-np.bincount(y), kind="stable")[:COLUMNS]
        return np.asarray(y[:, None] == frequent, np.float64)
    if of.data.classes and (of.data.num_outputs > 2 or y.min() < 0):
        return None
    y = y.reshape(len(y), -1).astype(np.float64)
    return y[:, _evenly(y.shape[1], COLUMNS)]


def _covariance(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    found: NDArray[np.float64] = (x - x.mean(0)).T @ (y - y.mean(0)) / (len(x) - 1)
    return found.ravel()


def _evenly(n: int, most: int) -> NDArray[np.int64]:
    """Return all places of n, or so many that are evenly spread."""
    return np.unique(np.linspace(0, n - 1, min(n, most)).astype(np.int64)) if n else np.arange(0)
