"""How columns of a table become features: scikit-learn's transformers, once, as plain data."""

import logging
from collections.abc import Collection, Sequence
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nufed.conf.errors import InputError, alike
from nufed.tasks.ids import numbered
from nufed.tasks.table_columns import (
    BOOLEAN,
    DATE,
    EMPTY,
    NUMBER,
    OTHER,
    TEXT,
    Column,
    told,
    whole,
)
from nufed.tasks.table_files import Table
from nufed.tasks.table_transform import (
    FORMAT,
    Boolean,
    Counts,
    Description,
    LeftOut,
    Number,
    Target,
    Text,
    class_names,
    clients,
    feature_names,
    split,
)

FREQUENT = 5  # rows that a category is in, or it is among the others
MOST = 32  # categories of a column, the others together being one
MANY = 20  # rows from which it is no chance that no two numbers are alike
CLASSES, REAL = "classes", "real"

log = logging.getLogger("nufed")


class Groups(NamedTuple):
    """Columns by what is done to them."""

    numbers: Sequence[str]
    booleans: Sequence[str]
    indicated: Sequence[str]
    """Numbers and booleans that are missing somewhere."""
    texts: Sequence[str]


def fit(
    table: Table,
    *,
    client: str,
    target: str,
    test: str | None = None,
    drop: Collection[str] = (),
    task: str | None = None,
) -> Description:
    """Look at a table, and say what is to be made of it.

    Parameters
    ----------
    client, target, test
        Columns: whose a row is, what is to be found, which rows are for testing.
    drop
        Columns of which no feature is to be made.
    task
        ``classes`` or ``real``; None where the target itself tells.

    Raises
    ------
    InputError
        If there is no such column, or it cannot be used.
    """
    _require_columns(table, {"client": client, "target": target, "test": test}, drop)
    owner, held = clients(table, client), None if test is None else split(table, test)
    answers = told(table, target)
    if answers.kind not in (NUMBER, BOOLEAN, TEXT):
        raise InputError(f"{table.where}: target={target}: {_why_none(answers)}; name another")
    there = ~answers.missing
    train = there if held is None else there & ~held
    if not train.any():
        raise InputError(f"{table.where}: no row with {target!r} is for training")
    left = [LeftOut(name, "as you said (drop)") for name in drop]
    kept = dict[str, Column]()
    for name in table.columns:
        if name in (client, target, test, *drop):
            continue
        column = told(table, name)
        if column.kind in (NUMBER, BOOLEAN, TEXT):
            column = Column(column.kind, column.values[train])
        if why := _why_none(column) or _why_nothing(column):
            left.append(LeftOut(name, why))
        else:
            kept[name] = column
            if _counts_rows(column):
                log.warning(
                    "%s: column %r has a whole number of its own in every row, and is taken for a "
                    "quantity; if it is an id, say drop=[%s]",
                    *(table.where, name, name),
                )
    if not kept:
        raise InputError(
            f"{table.where}: no column is left to be a feature "
            f"({'; '.join(f'{each.name}: {each.why}' for each in left[:3])})"
        )
    numbers, booleans, texts = described(kept, table.where)
    counts = Counts(
        rows=int(there.sum()),
        fitted=int(train.sum()),
        clients=len(np.unique(owner[there])),
        without_target=int((~there).sum()),
    )
    return Description(
        FORMAT,
        client,
        _target(answers, target, task, there, train, table.where),
        test,
        numbers,
        booleans,
        texts,
        tuple(left),
        feature_names(numbers, booleans, texts),
        counts,
    )


def grouped(columns: dict[str, Column]) -> Groups:
    """Return which columns are treated alike."""
    kinds: dict[str, list[str]] = {NUMBER: [], BOOLEAN: [], TEXT: []}
    for name, column in columns.items():
        kinds[column.kind].append(name)
    plain = [*kinds[NUMBER], *kinds[BOOLEAN]]
    indicated = [name for name in plain if columns[name].missing.any()]
    return Groups(kinds[NUMBER], kinds[BOOLEAN], indicated, kinds[TEXT])


def transformer(groups: Groups) -> Any:
    """Return the `ColumnTransformer` that is meant, not fitted yet."""
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import MissingIndicator, SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    categories = OneHotEncoder(
        handle_unknown="infrequent_if_exist",
        min_frequency=FREQUENT,
        max_categories=MOST,
        sparse_output=False,
    )
    scaled = make_pipeline(SimpleImputer(strategy="median"), StandardScaler())
    return ColumnTransformer(
        [
            ("numbers", scaled, list(groups.numbers)),
            ("booleans", SimpleImputer(strategy="most_frequent"), list(groups.booleans)),
            ("missing", MissingIndicator(features="all"), list(groups.indicated)),
            ("texts", categories, list(groups.texts)),
        ],
        sparse_threshold=0,
    )


def frame(columns: dict[str, Column]) -> Any:
    """Return columns as scikit-learn takes them: a `pandas.DataFrame`, text as objects."""
    try:
        pd: Any = import_module("pandas")  # has no types unless they are installed besides
    except ImportError as error:
        raise InputError(
            "pandas is not installed, which tables take; pip install pandas"
        ) from error
    series = {
        name: pd.Series(each.values, dtype=object if each.kind == TEXT else float)
        for name, each in columns.items()
    }
    return pd.DataFrame(series)


def described(
    columns: dict[str, Column], where: str
) -> tuple[tuple[Number, ...], tuple[Boolean, ...], tuple[Text, ...]]:
    """Fit the transformer to train rows, and return what it found as plain data."""
    groups = grouped(columns)
    with np.errstate(over="ignore", invalid="ignore"):  # told below
        fitted = transformer(groups).fit(frame(columns)).named_transformers_
    numbers, booleans, texts = list[Number](), list[Boolean](), list[Text]()
    if groups.numbers:
        imputer, scaler = (step for _, step in fitted["numbers"].steps)
        found = zip(imputer.statistics_, scaler.mean_, scaler.scale_, scaler.var_, strict=True)
        for name, values in zip(groups.numbers, found, strict=True):
            fill, mean, scale, variance = map(float, values)
            _require_finite(name, (fill, mean, variance), where)
            numbers.append(Number(name, fill, mean, scale, name in groups.indicated))
    if groups.booleans:
        for name, fill in zip(groups.booleans, fitted["booleans"].statistics_, strict=True):
            booleans.append(Boolean(name, float(fill), name in groups.indicated))
    if groups.texts:
        encoder = fitted["texts"]
        each = (groups.texts, encoder.categories_, encoder.infrequent_categories_)
        for name, categories, rare in zip(*each, strict=True):
            others = set() if rare is None else set(rare.tolist())
            kept = tuple(text for text in categories.tolist() if text not in others)
            texts.append(Text(name, kept, rare is not None))
    return tuple(numbers), tuple(booleans), tuple(texts)


def _require_finite(name: str, values: tuple[float, ...], where: str) -> None:
    if not np.isfinite(values).all():
        raise InputError(
            f"{where}: column {name!r} has numbers too large to square; scale it down, or say "
            f"drop=[{name}]"
        )


def _require_columns(table: Table, named: dict[str, str | None], drop: Collection[str]) -> None:
    """Raise an `InputError` unless columns that are named are there, each for one purpose."""
    purposes = dict[str, str]()
    for key, name in [*named.items(), *(("drop", each) for each in drop)]:
        if name is None:
            continue
        if name not in table.columns:
            close = " or ".join(alike(name, list(table.columns)))
            hint = f"did you mean {close}?" if close else _found(table)
            raise InputError(f"{key}={name}: {table.where} has no such column; {hint}")
        if name in purposes:
            raise InputError(f"{key}={name}: is {purposes[name]}={name} too; name another")
        purposes[name] = key


def _found(table: Table) -> str:
    names = list(table.columns)
    return f"found: {', '.join(names[:20])}{', …' * (len(names) > 20)}"


def _why_none(column: Column) -> str:
    """Return why no feature can be made of a column of such a kind."""
    return {
        DATE: "holds dates; give numbers, such as days since one",
        EMPTY: "holds no value",
        OTHER: f"is of type {column.type}, neither numbers nor text",
    }.get(column.kind, "")


def _why_nothing(column: Column) -> str:
    """Return why what there is in train rows tells nothing."""
    missing = column.missing
    there = column.values[~missing]
    if not len(there):
        return "holds no value in train rows"
    if column.kind != TEXT:
        low = there.min()
        constant = not missing.any() and low == there.max()
        return f"is {whole(low)} in every train row" if constant else ""
    counts = np.unique(there, return_counts=True)[1]
    if len(counts) == 1 and not missing.any():
        return f"is {there[0]!r:.40} in every train row"
    if len(counts) == len(there) > 1:
        return f"holds {len(there):,} texts, no two of them alike: ids or prose"
    if counts.max() < FREQUENT and not (len(counts) == 1 and missing.any()):
        return f"holds {len(counts):,} texts, none of them in {FREQUENT} train rows: ids or prose"
    return ""


def _counts_rows(column: Column) -> bool:
    """Tell whether numbers may be ids: whole, and no two of them alike."""
    values = column.values
    if column.kind != NUMBER or len(values) < MANY or column.missing.any():
        return False
    return bool((values == np.rint(values)).all()) and len(np.unique(values)) == len(values)


def _target(
    column: Column,
    name: str,
    task: str | None,
    there: NDArray[np.bool_],
    train: NDArray[np.bool_],
    where: str,
) -> Target:
    """Return what the target is: classes of all rows, or a scale of train rows."""
    values = column.values[there]
    wholes = column.kind == NUMBER and bool((values == np.rint(values)).all())
    if task is None:
        few = len(np.unique(values)) <= 2 if column.kind == NUMBER else True
        if wholes and not few:
            raise InputError(
                f"{where}: target={name}: holds {len(np.unique(values))} whole numbers; say "
                f"task={CLASSES}, or task={REAL} where more is more"
            )
        task = CLASSES if column.kind != NUMBER or wholes else REAL
    if task == REAL:
        if column.kind != NUMBER:
            raise InputError(f"task={REAL}: target={name} of {where} holds {column.kind}s")
        fitted = column.values[train]
        mean, scale = float(fitted.mean()), float(fitted.std())
        if scale == 0:
            raise InputError(f"{where}: target={name}: is {whole(mean)} in every train row")
        _require_finite(name, (mean, scale), where)
        return Target(name, column.kind, None, mean, scale)
    if column.kind == NUMBER and not wholes:
        raise InputError(f"task={CLASSES}: target={name} of {where} holds fractions")
    if column.kind == TEXT:
        names = numbered(np.array(list(set(values.tolist()))))[0].tolist()
    else:
        some = Column(column.kind, np.unique(values))
        names = class_names(some).tolist()
    if len(names) < 2:
        raise InputError(f"{where}: target={name}: is {names[0]!r:.40} in every row")
    return Target(name, column.kind, tuple(names))
