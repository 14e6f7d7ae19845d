"""What `nufed-data` shows of a data set first: what x and y are, and how much clients have."""

import numpy as np
from rich.table import Table

from nufed.cli.data_findings import Found, Spread


def outline(of: Found, x: Spread, name: str) -> list[str]:
    """Return what the rows of a data set, called so, are: a line each."""
    data = of.data
    kind = "numbers"
    if data.x.dtype == np.uint8:
        kind = "pixels, divided by 255" + "; tokens would be int64" * (data.x.ndim == 2)
    elif data.x.dtype.kind in "iu":
        kind = "tokens for a model that takes integers, else numbers"
    lines = [
        f"{name}: {of.rows.sum():,} rows of {of.count}",
        f"x: {data.x.dtype} {list(data.x.shape[1:])} from {x.low.min():.4g} to {x.high.max():.4g}, "
        f"{kind}",
    ]
    if not data.classes:
        y = data.y
        lines.append(
            f"y: {data.num_outputs} regression target{'s' * (data.num_outputs > 1)} from "
            f"{y.min():.4g} to {y.max():.4g}, mean {y.mean():.4g}, standard deviation {y.std():.4g}"
        )
        return lines
    classes = np.asarray(data.y, np.int64)
    counted = classes[classes >= 0]
    shares = np.bincount(counted) / len(counted)
    places = "" if data.y.ndim == 1 else f" at each of {list(data.y.shape[1:])} places"
    lines.append(
        f"y: {data.num_outputs} classes{places}; to say {int(shares.argmax())} always is right in "
        f"{shares.max():.0%}"
    )
    return lines


def clients_table(of: Found) -> Table:
    """Return how much the clients have."""
    table = Table()
    for column in ("a client's", "least", "median", "most"):
        table.add_column(column, justify="left" if column == "a client's" else "right")
    columns = {"rows": of.rows, "train rows": of.train, "test rows": of.rows - of.train}
    if of.classes is not None:
        columns["classes"] = of.classes
    for label, values in columns.items():
        table.add_row(label, *(f"{f(values):g}" for f in (np.min, np.median, np.max)))
    return table
