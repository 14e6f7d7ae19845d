"""What `nufed-data` finds in a federated data set: its shape, its clients, and what is amiss."""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nufed.conf.schema import Config
from nufed.tasks.datasets.targets import one_hot
from nufed.tasks.labels import of_rare
from nufed.tasks.rows import Rows
from nufed.tasks.store import FederatedData
from nufed.tasks.task import build

BALANCED = "task.metrics=[accuracy,balanced_accuracy]"
FEW_ROWS = 4  # of a client: below, a test split says next to nothing
TEST_ROWS = 5  # that the median client should be measured on
FEW_CLIENTS = 5  # of which none can be spared to be new
MANY_CLASSES = 100
WIDE = 10.0  # a feature this many times as wide as another is badly scaled
FAR = 100.0  # values beyond it ask for tiny steps
FEW_VALUES = 20  # of targets that are whole numbers: classes, rather
BLOCK = 4096  # rows that are looked at in one go
NAMED = 5  # clients named, of those that something is said of
CHANCE = 10.0  # times as many pairs of rows as agree by chance: columns are not independent quite
LINEAR = {"model": "linear", "model.bias": "true"}


class Spread(NamedTuple):
    """Each feature's smallest and largest value, mean and standard deviation, [d] each."""

    low: NDArray[np.float64]
    high: NDArray[np.float64]
    mean: NDArray[np.float64]
    std: NDArray[np.float64]


@dataclass(frozen=True)
class Found:
    """A data set as it was found."""

    data: FederatedData
    own_split: bool
    """Whether it brings its own test rows."""

    @property
    def rows(self) -> NDArray[np.int64]:
        """Rows of each client, [n]."""
        return np.diff(self.data.partition.offset)

    @property
    def train(self) -> NDArray[np.int64]:
        """Train rows of each client, [n]."""
        return self.data.partition.train

    @property
    def classes(self) -> NDArray[np.int64] | None:
        """How many classes each client has, [n]; None of a regression."""
        if not self.data.classes:
            return None
        counts = list[int]()
        for rows in self._by_client():
            labels = np.unique(self.data.y[rows])
            counts.append(int((labels >= 0).sum()))
        return np.array(counts)

    def _by_client(self) -> Iterator[NDArray[np.int64]]:
        part = self.data.partition
        for start, end in zip(part.offset[:-1], part.offset[1:], strict=True):
            yield part.index[start:end]

    @property
    def owner(self) -> NDArray[np.int64]:
        """The client of each row of `data.partition.index`."""
        return np.repeat(np.arange(len(self.rows)), self.rows)

    @property
    def constant(self) -> bool:
        """Whether y is the same in every row."""
        return bool((self.data.y == self.data.y[0]).all())

    @property
    def count(self) -> str:
        """How many clients there are, in words."""
        return f"{len(self.rows):,} client{'s' * (len(self.rows) != 1)}"

    def called(self, clients: NDArray[np.int64]) -> str:
        """Name clients, of many the first few."""
        ids = self.data.partition.ids
        some = ", ".join(str(ids[client]) for client in clients[:NAMED].tolist())
        return some + (", …" if len(clients) > NAMED else "")


def found(rows: Rows, data: FederatedData, *, natural: bool) -> Found:
    """Return what there is to look at; `natural` clients are those that the data set brings."""
    return Found(data, natural and rows.test is not None)


def spread(x: NDArray[np.generic]) -> Spread:
    """Look at each feature of the rows x [N, …], block by block."""
    width = max(int(np.prod(x.shape[1:])), 1)
    low, high = np.full(width, np.inf), np.full(width, -np.inf)
    total, squares, shift = np.zeros(width), np.zeros(width), None
    with np.errstate(over="ignore", invalid="ignore"):  # squares beyond float64
        for start in range(0, len(x), BLOCK):
            block = np.asarray(x[start : start + BLOCK], np.float64).reshape(-1, width)
            shift = block[0] if shift is None else shift  # near the mean: squares keep their digits
            low, high = np.minimum(low, block.min(0)), np.maximum(high, block.max(0))
            total, squares = total + (block - shift).sum(0), squares + ((block - shift) ** 2).sum(0)
        mean = total / len(x)
        variance = squares / len(x) - mean**2
        std = np.sqrt(np.where(np.isnan(variance), np.inf, np.maximum(variance, 0)))
    return Spread(low, high, mean + (0 if shift is None else shift), np.where(low == high, 0, std))


def notes(of: Found, x: Spread) -> list[str]:
    """Return what is amiss and what to do about it; a line each."""
    return [*_of_features(of, x), *_of_targets(of), *_of_clients(of), *_of_duplicates(of)]


def _of_features(of: Found, x: Spread) -> Iterator[str]:
    if of.data.x.dtype.kind != "f" or of.data.x.ndim > 2:
        return  # the pixels of an image, or a signal over time, have one scale
    constant = np.flatnonzero(x.std == 0)
    if len(constant):
        which = ", ".join(map(str, constant[:NAMED])) + (", …" if len(constant) > NAMED else "")
        yield f"{len(constant)} of {len(x.std)} features are constant ({which}); drop them"
    if of.data.x.ndim == of.data.y.ndim + 1 == 2:
        answers = np.flatnonzero((np.asarray(of.data.x) == of.data.y[:, None]).all(0))
        for feature in answers.tolist():
            yield f"feature {feature} is y, which tells the model what it is to find; drop it"
    varied = np.flatnonzero(x.std > 0)
    if len(varied) == 0:
        return
    narrow, wide = (int(varied[f(x.std[varied])]) for f in (np.argmin, np.argmax))
    large = int(np.argmax(np.maximum(-x.low, x.high)))
    standardise = "standardise: subtract each one's mean, divide by its standard deviation"
    if x.std[wide] > WIDE * x.std[narrow]:
        yield (
            f"feature {wide} varies {x.std[wide] / x.std[narrow]:.2g} times as much as feature "
            f"{narrow} (standard deviations {x.std[wide]:.3g}, {x.std[narrow]:.3g}), and one step "
            f"size has to suit both; {standardise}"
        )
    elif max(-x.low[large], x.high[large]) > FAR:
        yield (
            f"feature {large} runs from {x.low[large]:.3g} to {x.high[large]:.3g}, which asks for "
            f"tiny step sizes; {standardise}"
        )


def _of_targets(of: Found) -> Iterator[str]:
    y: NDArray[Any] = of.data.y
    if not of.data.classes:
        std, mean = (float(f(np.asarray(y, np.float64))) for f in (np.std, np.mean))
        values = np.unique(y)
        if one_hot(y):
            yield f"y is one-hot; for classes, give integers [N], y.argmax({y.ndim - 1})"
        elif 1 < len(values) <= FEW_VALUES and (values == values.round()).all():
            from_0 = "" if values[0] >= 0 else " from 0"
            yield (
                f"y are {len(values)} whole numbers as reals; for classes, make it integers{from_0}"
            )
        if std == 0:
            yield f"y is {mean:.3g} in every row; there is nothing to learn"
        elif std > FAR or abs(mean) > FAR * std:
            yield (
                f"y has mean {mean:.3g} and standard deviation {std:.3g}; subtract the one and "
                "divide by the other"
            )
        return
    counted = y[y >= 0] if y.ndim > 1 else y
    used, n = np.unique(counted), of.data.num_outputs
    if n > MANY_CLASSES and y.ndim == 1 and len(used) > len(y) / 10:
        yield f"y has {len(used)} classes in {len(y)} rows; for a regression, make it real numbers"
    elif len(used) < n:
        unused = np.setdiff1d(np.arange(n), used)
        which = ", ".join(map(str, unused[:NAMED])) + (", …" if len(unused) > NAMED else "")
        yield f"{len(unused)} of {n} classes never occur ({which}); number them without gaps"
    if line := of_rare(counted):
        yield f"{line}; a run shows balanced accuracy, of private rows by {BALANCED}"


def _of_clients(of: Found) -> Iterator[str]:
    small = np.flatnonzero(of.rows < FEW_ROWS)
    if len(small):
        yield (
            f"{len(small)} of {len(of.rows)} clients have fewer than {FEW_ROWS} rows "
            f"({of.called(small)}), too few to learn from and be measured on; drop or merge them"
        )
    unmeasured = np.flatnonzero((of.rows == of.train) & (of.rows >= FEW_ROWS))
    if len(unmeasured):
        yield (
            f"{len(unmeasured)} of {len(of.rows)} clients have no test row "
            f"({of.called(unmeasured)}) and will not be measured; mark some of theirs in test"
        )


def _of_duplicates(of: Found) -> Iterator[str]:
    """Say how many rows are there twice: measured on what was trained on, or at two clients.

    With the same y, that is: of a table of few columns, many rows have the same x by themselves.
    And not of coarse columns, whose rows agree as often by chance.
    """
    keys = _Keys(*(_numbered(each) for each in _hashes(of)))
    owner = of.owner
    tested = np.arange(len(keys.all)) - of.data.partition.offset[owner] >= of.train[owner]
    width = int(keys.all.max()) + 1
    trained = np.unique((owner * width + keys.all)[~tested])
    leaked = np.isin((owner * width + keys.all)[tested], trained)
    if leaked.any() and keys.told(lambda which: _within(which, owner, tested)):
        yield (
            f"{leaked.sum()} of {tested.sum()} test rows, x and y, are among the same client's "
            "train rows too; drop duplicates, or they are measured on what they were trained on"
        )
    holders = np.bincount(np.unique(np.stack([keys.all, owner]), axis=1)[0], minlength=width)
    shared = holders[keys.all] > 1
    if shared.any() and keys.told(lambda which: _across(which, owner)):
        yield (
            f"{shared.sum()} of {len(keys.all)} rows, x and y, are with several clients; new "
            "clients are then not quite new"
        )


class _Keys(NamedTuple):
    """Of each row a number, the same where rows agree: in all, or in either half of its columns."""

    all: NDArray[np.int64]
    first: NDArray[np.int64]
    second: NDArray[np.int64]

    def told(self, pairs: Callable[[NDArray[np.int64]], float]) -> bool:
        """Tell whether far more pairs of rows agree than by chance.

        By chance two rows agree in all as often as in one half, times as often as in the other. Who
        was copied agrees in all wherever in a half.

        Parameters
        ----------
        pairs
            How many pairs of rows agree, among those that are compared.
        """
        compared = pairs(np.zeros_like(self.all))
        by_chance = pairs(self.first) * pairs(self.second) / compared
        return pairs(self.all) > CHANCE * by_chance


def _hashes(of: Found) -> Iterator[NDArray[np.int64]]:
    """Hash rows x and y in all, then the first half of their columns, then the other with y."""
    x, y, rows = of.data.x, of.data.y, of.data.partition.index
    half = -(-int(np.prod(x.shape[1:])) // 2)
    for some, also in ((slice(None), True), (slice(half), False), (slice(half, None), True)):
        parts = (
            np.asarray(x[row]).reshape(-1)[some].tobytes() + also * np.asarray(y[row]).tobytes()
            for row in rows
        )
        yield np.fromiter(map(hash, parts), np.int64, len(rows))


def _numbered(keys: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.unique(keys, return_inverse=True)[1].astype(np.int64)


def _across(which: NDArray[np.int64], owner: NDArray[np.int64]) -> float:
    """Count the pairs of rows of two clients that agree."""
    each = np.unique(np.stack([which, owner]), axis=1, return_counts=True)[1]
    return (_squares(np.bincount(which)) - _squares(each)) / 2


def _within(which: NDArray[np.int64], owner: NDArray[np.int64], tested: NDArray[np.bool_]) -> float:
    """Count the pairs of a train and a test row of one client that agree."""
    _, place = np.unique(np.stack([which, owner]), axis=1, return_inverse=True)
    place = place.reshape(-1)
    test, train = (
        np.bincount(place[some], minlength=place.max() + 1) for some in (tested, ~tested)
    )
    return float((test.astype(np.float64) * train).sum())


def _squares(counts: NDArray[np.int64]) -> float:
    return float((counts.astype(np.float64) ** 2).sum())


def plain(of: Found) -> bool:
    """Tell whether rows are plain columns of numbers, as of a table, with one target or class."""
    return of.data.x.dtype.kind == "f" and of.data.x.ndim == 2 and of.data.y.ndim == 1


def advised(of: Found, given: Collection[str], config: Config) -> list[str]:
    """Return overrides that suit the data, beside the keys that are `given` in a configuration."""
    chosen = any(key.split(".")[0] == "model" for key in given) or not plain(of)
    parameters = 0 if chosen else build(config, data=of.data).size.trained
    found = advice(of, given, config.algorithm["batch"]["support"], parameters)
    return [f"{key}={value}" for key, value in found.items()]


def advice(
    of: Found, given: Collection[str], support: int | None, parameters: int = 0
) -> dict[str, str]:
    """Return keys and values that suit the data, where the defaults do not and none is `given`.

    Parameters
    ----------
    parameters
        Of the default model; 0 where another was chosen. One that has more than the median client
        has numbers to fit, rows times outputs, is more than fine-tuning can tell: a linear one is
        advised for `plain` rows.
    """
    advised = dict[str, str]()
    y, shape = of.data.y, of.data.x.shape[1:]
    sequence = of.data.num_tokens is not None or len(shape) == 2
    if of.data.classes and y.ndim > 1 and sequence and y.shape[1:] == shape[:1]:
        advised["model"] = "transformer"  # of places that are not those of x, any model has as many
    elif of.data.x.dtype == np.uint8 and len(shape) in (2, 3) and min(shape[-2:]) >= 20:
        advised["model"] = "cnn"
    elif plain(of) and parameters > np.median(of.rows) * of.data.num_outputs:
        advised |= {"model": "logistic"} if of.data.classes else LINEAR
    train, median = of.train, float(np.median(of.rows))
    test = float(np.median(of.rows - of.train))
    split_is_given = of.own_split or "partition.test_fraction" in given
    if not split_is_given and test < TEST_ROWS and median >= 2:
        part = round(min(TEST_ROWS / median, 0.5), 2)
        advised["partition.test_fraction"] = f"{part:g}"
        train = np.maximum(np.rint(of.rows * (1 - part)), 1)
    if len(of.rows) < FEW_CLIENTS:
        advised["evaluation.new_clients"] = "0"
    usual = train[of.rows >= FEW_ROWS] if (of.rows >= FEW_ROWS).any() else train
    small = max(int(np.percentile(usual, 10)), 1)
    if support is not None and small < support:
        advised["algorithm.batch.support"] = advised["algorithm.batch.query"] = str(small)
    return {key: value for key, value in advised.items() if key not in given}
