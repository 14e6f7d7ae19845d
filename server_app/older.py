"""Runs of older versions, in whose files clients go by number: here they get their ids."""

import json
from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path

from conf.schema import Config
from server_app.checkpoint import Checkpoint
from server_app.run_folder import CLIENTS, load
from server_app.tracking import Row
from tasks.ids import ClientIds

FAILURES = ("failures", "evaluation_failures")


def ended_by_number(folder: Path) -> bool:
    """Tell whether a run that has ended has clients by number, and ids beside them."""
    file = folder / CLIENTS
    return file.is_file() and "names" in load(file, lambda each: json.loads(each.read_text()))


def with_ids(config: Config, ids: ClientIds) -> Config:
    """Return a configuration whose list of new clients, taken for numbers, says their ids."""
    new = config.evaluation.new_clients
    if not isinstance(new, list):
        return config
    known = range(ids.n)
    called = [ids[each] if type(each) is int and each in known else each for each in new]
    return replace(config, evaluation=replace(config.evaluation, new_clients=called))


def by_id(saved: Checkpoint, config: Config, ids: ClientIds) -> tuple[Checkpoint, Config]:
    """Return the checkpoint that a run goes on from, and what it goes on with, by ids."""
    if saved.by_id:
        return saved, config
    config = with_ids(config, ids)
    rows = _rows_with_ids(saved.rows, ids)
    return replace(saved, config=asdict(config), rows=rows, by_id=True), config


def _rows_with_ids(rows: Iterable[Row], ids: ClientIds) -> tuple[Row, ...]:
    """Return the rows of metrics.jsonl with the ids of those whose replies were dropped."""

    def called(row: Row) -> Row:
        return row | {
            key: [
                each if each["client"] is None else each | {"client": ids[each["client"]]}
                for each in row[key]
            ]
            for key in FAILURES
            if key in row
        }

    return tuple(map(called, rows))
