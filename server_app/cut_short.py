"""The end of a run whose process was killed, put in order by whoever followed it."""

from pathlib import Path
from typing import Any

from nufed.conf.errors import CannotWrite, InputError
from nufed.conf.words import command_line
from nufed.server_app import checkpoint
from nufed.server_app.run_folder import METRICS, MODEL, RunFolder, save_model, whole_rows
from nufed.server_app.tracking import RunInfo, evaluated
from nufed.strategies.curves import GROUPS


def cut_short(folder: Path, run: RunInfo, why: str) -> str:
    """Write a summary that says why the run ended, and the model of its last checkpoint.

    Parameters
    ----------
    folder
        The run folder.
    run
        With its task, whose model it is.
    why
        What is known of the end.

    Returns
    -------
    The line to end with: why, and how to go on.
    """
    rows = whole_rows(folder / METRICS) if (folder / METRICS).exists() else []
    if not rows:
        return f"{why}; no round was completed"
    curves = next((row for row in reversed(rows) if evaluated(row)), {})
    summary: dict[str, Any] = {
        "rounds": rows[-1]["round"],
        "clients": {"participating": run.participating, "new": run.new},
        "parameters": sum(run.size),
        "trained_parameters": run.size.trained,
        "seed": run.config.seed,
        **{group: curves[group] for group in GROUPS if group in curves},
    }
    summary |= _resumable(folder, run, why)
    RunFolder(folder).on_end(summary)
    return str(summary["stopped"])


def _resumable(folder: Path, run: RunInfo, why: str) -> dict[str, Any]:
    """Return whether and how to go on, with the last checkpoint's model written."""
    try:
        saved = checkpoint.read(folder)
    except InputError:
        every = run.config.checkpoint.every or "null"
        none = f"{why}; there is no checkpoint yet (checkpoint.every={every}): start the run anew"
        return {"stopped": none, "resumable": False}
    where = f"the model of round {saved.state.round} is in {folder}"
    try:
        assert run.task is not None
        save_model(folder / MODEL, run.task, saved.state.params)
    except CannotWrite as error:
        where = f"the model is in its checkpoint alone: {error}"
    on = command_line("nufed", resume=folder)
    return {"stopped": f"{why}; {where}; go on with: {on}", "resumable": True}
