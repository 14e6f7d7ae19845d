"""What a run writes as JSON, read again: somebody else may have written to its folder since.

Keys that are not known here are left as they are: a newer version may write more.
"""

from collections.abc import Iterable
from typing import Any

from nufed.conf.typed import Mistyped, typed
from nufed.server_app.amiss import CONSTANT, GAIN
from nufed.server_app.baselines import verdict
from nufed.server_app.tracking import Row
from nufed.strategies.curves import GROUPS, STATISTICS, UNDEFINED
from nufed.strategies.replies import LONGEST

Real = float | None  # JSON knows no NaN
TEST_ROWS = "test_rows"
"""Of a group in clients.json, where the server has the rows; the other columns are always there."""
COLUMNS = "client", "rows", TEST_ROWS
FAILURES = ("failures", "evaluation_failures")
KNOWN: dict[str, Any] = {
    "round": int,
    "attempts": int,
    "clients": int,
    "clipped": int,
    **dict.fromkeys(("train_s", "train_cpu_s", "train_loss", "update_norm"), Real),
    "meta_grad_norm": Real,
    **dict.fromkeys(("epsilon", "delta"), float),
    **dict.fromkeys(FAILURES, list[dict[str, Any]]),
    **dict.fromkeys((*GROUPS, "diagnostics"), dict[str, Any]),
    "probed": dict[str, float],
    "undefined": dict[str, list[str]],
    "metrics": dict[str, Real],
    "cost": dict[str, Any],
}
"""Of a row."""
COST: dict[str, Any] = {"gradients": float, "bytes_up": int, "bytes_down": int}
"""Of all rounds so far: gradients a drawn client took, per participating client; bytes sent to the
server and by it."""
SUMMARY: dict[str, Any] = {
    **dict.fromkeys(("rounds", "parameters", "trained_parameters", "seed"), int),
    **dict.fromkeys(("wall_s", "peak_rss_mb", "epsilon", "delta"), Real),
    **dict.fromkeys(("stopped", "stopped_early", "server_run_folder"), str),
    "git_commit": str | None,
    "clients": dict[str, int],
    "versions": dict[str, str | None],
    "lower_is_better": list[str],
    "resumable": bool,
    "best": dict[str, Real],
    "untrained": dict[str, dict[str, Any]],
    **dict.fromkeys(GROUPS, dict[str, Any]),
    "undefined": dict[str, list[str]],
    "baselines": dict[str, Any],
    **dict.fromkeys((GAIN, CONSTANT), dict[str, Real]),
}


def checked_rows(said: object) -> list[Row]:
    """Return rows if they are such as a run writes, each of a later round than the one before.

    Raises
    ------
    Mistyped
        If they are not.
    """
    rows: list[Row] = typed(said, list[dict[str, Any]], "rows")
    last, steps = -1, None
    spent: dict[str, Any] = dict.fromkeys(COST, 0)
    for row in rows:
        for key in row.keys() & KNOWN.keys():
            row[key] = typed(row[key], KNOWN[key], key)
        if "round" not in row:
            raise Mistyped("a row has no 'round'")
        if row["round"] <= last:
            raise Mistyped(f"round {row['round']} comes after round {last}")
        if ("epsilon" in row) != ("delta" in row):
            raise Mistyped("epsilon and delta do not stand together")
        last = row["round"]
        for key in FAILURES:
            _require_failures(row.get(key, []))
        for summary in (row[group] for group in GROUPS if group in row):
            _require_curves(summary)
            steps = summary["k"] if steps is None else steps
            if summary["k"] != steps:
                raise Mistyped(f"k is not the same in round {last} as before")
        _require_diagnostics(row.get("diagnostics", {}))
        _require_names(row.get("metrics", {}))
        if "cost" in row:
            spent = row["cost"] = _checked_cost(row["cost"], spent)
    return rows


def checked_summary(said: object) -> dict[str, Any]:
    """Return a summary if it is such as a run ends with; errors as of `checked_rows`."""
    summary: dict[str, Any] = typed(said, dict[str, Any], "summary")
    for key in summary.keys() & SUMMARY.keys():
        summary[key] = typed(summary[key], SUMMARY[key], key)
    for group in GROUPS:
        if group in summary:
            _require_curves(summary[group])
            if group in summary.get("untrained", {}):
                _require_curves(summary["untrained"][group])
    if "baselines" in summary:
        verdict.read(summary["baselines"])
    there = summary.get("clients")
    if there is not None and there.keys() != set(GROUPS):
        raise Mistyped("clients are not counted as participating and new")
    return summary


def checked_clients(said: object) -> dict[str, Any]:
    """Return the last evaluation, client by client, if it is one; errors as of `checked_rows`."""
    content: dict[str, Any] = typed(said, dict[str, Any], "clients")
    typed(content.get("round"), int, "round")
    names = content.get("names")
    if names is not None:
        for name in typed(names, list[Any], "names"):
            if type(name) not in (int, str):
                raise Mistyped("a name is neither text nor a whole number")
    for group in (group for group in GROUPS if group in content):
        of = typed(content[group], dict[str, list[Any]], group)
        clients = typed(of.get("client"), list[Any], "client")
        if not all(type(client) in (int, str) for client in clients):
            raise Mistyped("a client is neither text nor a whole number")
        known = range(len(names or []))
        if names is not None and not all(client in known for client in clients):
            raise Mistyped("a client has no name")
        curves = {key: typed(of[key], list[list[Real]], key) for key in of.keys() - set(COLUMNS)}
        columns = [typed(of.get("rows"), list[int | None], "rows"), *curves.values()]
        if TEST_ROWS in of:
            columns.append(tested := typed(of[TEST_ROWS], list[int], TEST_ROWS))
            if min(tested, default=1) < 1:
                raise Mistyped(f"{group}: a client was measured on {min(tested)} rows")
        points = {len(curve) for each in curves.values() for curve in each}
        if "loss" not in curves or any(len(each) != len(clients) for each in columns):
            raise Mistyped(f"{group}: there is not one entry for each client")
        if len(points) > 1 or 0 in points:
            raise Mistyped(f"{group}: curves differ in length")
    return content


def _require_curves(of: dict[str, Any]) -> None:
    """Raise unless a group's curves are statistics over k of each metric, the loss among them."""
    points = len(typed(of.get("k"), list[int], "k"))
    typed(of.get("clients"), int, "clients")
    metrics = [name for name in of if f"{name}_worst_decile" in of]
    if "loss" not in metrics or of["k"] != list(range(points)):
        raise Mistyped("curves have no loss, or k is not 0, 1, …")
    for name in (f"{metric}{end}" for metric in metrics for end in STATISTICS):
        if len(typed(of.get(name), list[Real], name)) != points:
            raise Mistyped(f"{name} has another number of steps than k")
    for name in (f"{metric}{UNDEFINED}" for metric in metrics):
        if len(typed(of.get(name, [0] * points), list[int], name)) != points:
            raise Mistyped(f"{name} has another number of steps than k")


def _require_failures(failures: Iterable[dict[str, Any]]) -> None:
    for failure in failures:
        typed(failure.get("reason"), str, "reason")
        typed(failure.get("client"), int | str | None, "client")


def _require_names(metrics: Iterable[str]) -> None:
    for name in metrics:
        if not name.isidentifier() or len(name) > LONGEST:
            raise Mistyped(f"{name!r:.40} of metrics is no identifier of at most {LONGEST} letters")


def _checked_cost(cost: dict[str, Any], before: dict[str, Any]) -> dict[str, Any]:
    """Return what was spent so far, which is no less than before."""
    found = {key: typed(cost.get(key), COST[key], f"{key} of cost") for key in COST}
    for key, value in found.items():
        if value < before[key]:
            raise Mistyped(f"{key} of cost falls from {before[key]} to {value}")
    return cost | found


def _require_diagnostics(found: dict[str, Any]) -> None:
    if found:
        typed(found.get("meta_grad_norm2", ""), Real, "meta_grad_norm2")
    estimates = typed(found.get("estimates", {}), dict[str, dict[str, Any]], "estimates")
    for name, each in estimates.items():
        typed(each.get("value"), Real, name)
        typed(each.get("errors"), dict[str, Real], "errors")
