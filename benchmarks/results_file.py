"""benchmarks/results/<machine>.json: what was measured on one machine."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.outcome import Row


@dataclass(frozen=True)
class Results:
    """A machine's rows."""

    machine: str
    facts: dict[str, Any]
    rows: dict[str, Row]
    """Name of a workload -> its row."""


def read(path: Path) -> Results:
    """Read a machine's file."""
    content = json.loads(path.read_text())
    rows = {name: Row.from_json(row) for name, row in content["rows"].items()}
    return Results(path.stem, content["machine"], rows)


def read_all(folder: Path) -> list[Results]:
    """Read the files of all machines in a folder."""
    return [read(path) for path in sorted(folder.glob("*.json"))]


def keep(folder: Path, results: Results) -> Path:
    """Write rows into a machine's file; rows that it has of other workloads stay."""
    path = folder / f"{results.machine}.json"
    rows = read(path).rows if path.exists() else {}
    content = {
        "machine": results.facts,
        "rows": {name: row.to_json() for name, row in (rows | results.rows).items()},
    }
    folder.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".part")
    draft.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    os.replace(draft, path)
    return path
