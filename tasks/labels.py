"""Which classes clients have: what saying one class always is right in, and how far they differ."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nufed.tasks.partitions import Partition

Array = NDArray[np.float64]
RARE = 0.8  # of the rows are of one class: of the others an accuracy says little
NAMED = 5  # rare classes


class Counts(NamedTuple):
    """How many rows of which class clients have, in order; pairs that do not occur are left out."""

    client: NDArray[np.int64]
    """[m]"""
    label: NDArray[np.int64]
    """[m]"""
    rows: NDArray[np.int64]
    """[m]"""
    total: NDArray[np.int64]
    """Rows of each client, [n]; of sequences, places that count."""
    classes: int

    @property
    def share(self) -> Array:
        """Of the client's rows, [m]."""
        return self.rows / self.total[self.client]

    @property
    def pooled(self) -> NDArray[np.int64]:
        """Rows of each class, [classes]."""
        return np.bincount(self.label, self.rows, self.classes).astype(np.int64)

    @property
    def held(self) -> NDArray[np.int64]:
        """How many classes each client has, [n]."""
        return np.bincount(self.client, minlength=len(self.total))

    def of(self, client: NDArray[np.int64], label: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return how many rows clients have of classes, [...]; 0 of those that do not occur."""
        keys, wanted = (
            c * self.classes + k for c, k in ((self.client, self.label), (client, label))
        )
        if not len(keys):
            return np.zeros(len(wanted), np.int64)
        place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        return np.where(keys[place] == wanted, self.rows[place], 0)


class Constant(NamedTuple):
    """What clients get who always say a class that is the most frequent of their train rows."""

    right: Array
    """Of each client's test rows, [n]; the mean of classes equally frequent; NaN where none is."""
    client: NDArray[np.int64]
    """[m], an entry for each of these classes."""
    each: Array
    """[m], what it is right in."""


def of_rare(y: NDArray[np.generic]) -> str | None:
    """Say of classes y [R] what an accuracy does not: that all but one are rare; None if not."""
    count = np.bincount(np.asarray(y, np.int64)[np.asarray(y) >= 0])
    share, most = count / max(count.sum(), 1), int(count.argmax()) if len(count) else 0
    if not len(count) or not RARE < share[most] < 1:
        return None
    rare = [k for k in np.argsort(share, kind="stable").tolist() if share[k] and k != most]
    which = ", ".join(f"{k}: {share[k]:.1%}" for k in rare[:NAMED]) + ", …" * (len(rare) > NAMED)
    return (
        f"to say class {most} always is right in {share[most]:.0%} of the rows, and an accuracy "
        f"says little of the rare classes ({which})"
    )


def counts(
    y: NDArray[np.generic], part: Partition, classes: int, *, train: bool = True, test: bool = True
) -> Counts:
    """Count the classes of clients, among their train rows, their test rows, or both.

    Parameters
    ----------
    y
        [N] classes, or [N, …] one at each place; −1 does not count.
    """
    size, n = np.diff(part.offset), len(part.train)
    owner = np.repeat(np.arange(n), size)
    held_out = np.arange(len(owner)) - part.offset[owner] >= part.train[owner]
    wanted = np.where(held_out, test, train)
    labels = np.asarray(y, np.int64)[part.index[wanted]].reshape(int(wanted.sum()), -1)
    owner = np.broadcast_to(owner[wanted, None], labels.shape)
    there = labels >= 0
    keys, count = np.unique(owner[there] * classes + labels[there], return_counts=True)
    client, label = keys // classes, keys % classes
    return Counts(client, label, count, np.bincount(client, count, n).astype(np.int64), classes)


def constant(train: Counts, test: Counts) -> Constant:
    """Return what each client gets who always says the most frequent class of its train rows."""
    n = len(train.total)
    most = np.zeros(n, np.int64)
    np.maximum.at(most, train.client, train.rows)
    usual = train.rows == most[train.client]
    client, label = train.client[usual], train.label[usual]
    with np.errstate(invalid="ignore"):
        each = test.of(client, label) / test.total[client]
        right = np.bincount(client, each, n) / np.bincount(client, minlength=n)
    return Constant(right, client, each)


def one_class(test: Counts, right: Array) -> NDArray[np.int64]:
    """Return the classes that to say always is right in just so much of each client's test rows.

    Parameters
    ----------
    right
        Of each client's test rows, [n]; NaN of clients that are not asked about.
    """
    asked = np.isfinite(right) & (test.total > 0)
    fits = asked[test.client] & np.isclose(test.share, right[test.client], rtol=0, atol=EXACT)
    none = asked & np.isclose(right, 0, rtol=0, atol=EXACT)
    without = none.sum() - np.bincount(test.label[none[test.client]], minlength=test.classes)
    found = np.bincount(test.label[fits], minlength=test.classes) + without
    return np.flatnonzero((found == asked.sum()) & asked.any())


EXACT = 1e-5
"""An accuracy is a mean in float32: those of two numbers of right rows are further apart."""


def total_variation(of: Counts, rows: NDArray[np.int64]) -> tuple[float, float]:
    """Return how far clients' labels are from those of all, and how far chance alone takes them.

    A mean over clients of the total variation ½ Σ_c |p_ic − p_c|; by chance, where each is dealt as
    many rows as it has out of all: its number of each class is hypergeometric, whose mean absolute
    deviation has a closed form (Diaconis and Zabell 1991).

    Parameters
    ----------
    rows
        [n] Rows of each client. One of several places is dealt as one, as if they were all alike:
        chance takes labels no further.
    """
    n, everything = of.total > 0, of.pooled
    p = everything / everything.sum()
    apart = np.abs(of.share - p[of.label]) - p[of.label]  # Σ_c p_c = 1 stands for what is not there
    distance = (1 + np.bincount(of.client, apart, len(of.total))) / 2
    size, times = np.unique(rows[n], return_counts=True)
    dealt = np.rint(p * rows[n].sum()).astype(np.int64)
    chance = [_deviation(min(int(k), int(dealt.sum())), dealt).sum() / (2 * k) for k in size]
    return float(distance[n].mean()), float(np.average(chance, weights=times))


def _deviation(drawn: int, of: NDArray[np.int64]) -> Array:
    """Return E|X − EX| of X hypergeometric: how many of each class are among rows drawn."""
    from scipy.special import gammaln  # without the rest of scipy.stats

    def log_choose(n: Array, k: Array) -> Array:
        found: Array = gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)
        return found

    every, k = float(of.sum()), of.astype(np.float64)
    above = np.floor(drawn * k / every) + 1  # the first value above the mean
    possible = (above <= np.minimum(drawn, k)) & (drawn - above <= every - k)
    m = np.where(possible, above, np.minimum(drawn, k))
    rest = np.maximum(drawn - m, 0)
    log_p = log_choose(k, m) + log_choose(np.maximum(every - k, rest), rest)
    log_p -= log_choose(np.array(every), np.array(float(drawn)))
    factor = 2 * m * (every - k - drawn + m) / every
    return np.where(possible, factor * np.exp(log_p), 0.0)


def intraclass(y: NDArray[np.generic], owner: NDArray[np.int64]) -> tuple[float, float, float]:
    """Return which share of the variance of y lies between clients, and two facts beside it.

    The intraclass correlation of a one-way analysis of variance, at least 0; for several targets of
    their sum, each in units of its standard deviation.

    Parameters
    ----------
    y
        [R] or [R, d] targets.
    owner
        [R] the client of each.

    Returns
    -------
    tuple
        The share; how likely chance alone is to give one as large, were clients alike; and the
        standard deviation within a client, in those units.
    """
    from scipy.special import fdtrc

    values = np.asarray(y, np.float64).reshape(len(y), -1)
    std = values.std(0)
    values = (values[:, std > 0] - values[:, std > 0].mean(0)) / std[std > 0]
    _, owner, size = np.unique(owner, return_inverse=True, return_counts=True)
    n, rows = len(size), len(values)
    if n < 2 or rows <= n or not std.any():
        return 0.0, 1.0, 1.0
    means = np.stack([np.bincount(owner, column, n) for column in values.T], 1) / size[:, None]
    between = float((size[:, None] * means**2).sum() / (n - 1))
    within = float(((values - means[owner]) ** 2).sum() / (rows - n))
    usual = (rows - (size**2).sum() / rows) / (n - 1)
    share = (between - within) / (between + (usual - 1) * within)
    p = float(fdtrc(n - 1, rows - n, between / within)) if within else 0.0
    return max(float(share), 0.0), p, float(np.sqrt(within / values.shape[1]))
