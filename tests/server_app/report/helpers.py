"""Pages, read as a reader would: their text, tables and figures; and runs to make them of."""

import json
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np

from tests.helpers import RunResult

SMALL = [
    *("dataset=quadratics", "dataset.num_clients=5", "dataset.seed=0", "dataset.dimension=3"),
    *("algorithm.nu=1", "algorithm.batch.support=null", "algorithm.batch.query=null"),
    *("evaluation.steps=2", "evaluation.every=1", "rounds=2", "clients_per_round=2"),
]


def labelled(folder: Path, clients: int = 12, loud: int | None = None) -> list[str]:
    """Write rows of two classes, and return overrides that run them; one client may be loud."""
    random = np.random.default_rng(0)
    client = np.repeat(np.arange(clients), 24)
    tilt = random.normal(size=(clients, 4))[client]
    x = random.normal(size=(24 * clients, 4)).astype(np.float32)
    y = ((x * tilt).sum(1) > 0).astype(int)
    if loud is not None:
        x[client == loud] *= 1e4
    file = folder / "rows.npz"
    np.savez(file, x=x, y=y, client=client)
    return [
        *("dataset=npz", f"dataset.path={file}", "model=logistic", "rounds=4", "algorithm.nu=1"),
        *("evaluation.every=2", "evaluation.steps=3", "clients_per_round=4", "algorithm.tau=1"),
    ]


@dataclass
class Page(HTMLParser):
    """What is on a page."""

    text: str = ""
    source: str = ""
    tables: list[list[list[str]]] = field(default_factory=list)
    tags: list[tuple[str, dict[str, str | None]]] = field(default_factory=list)
    _open: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "wbr"):
            self._open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag, f"</{tag}> closes something else"

    def handle_data(self, data: str) -> None:
        if "style" in self._open:
            return
        self.text += data
        if self._open and self._open[-1] in ("td", "th"):
            self.tables[-1][-1][-1] += data

    def figures(self) -> list[str]:
        """Return what the figures say to who cannot see them."""
        return [str(found["aria-label"]) for tag, found in self.tags if tag == "svg"]

    def table(self, head: str) -> list[list[str]]:
        """Return the rows of the one table whose head begins so."""
        (found,) = [rows for rows in self.tables if " ".join(rows[0]).startswith(head)]
        return found[1:]


def spend(run: RunResult, **of_a_round: float) -> None:
    """Have a run's rows tell of metrics and costs: so much in each round after the first row.

    The metric ``drift`` is one through the number of the round.
    """
    for row in run.rows[1:]:
        n = row["round"]
        row["cost"] = {key: n * value for key, value in of_a_round.items()}
        row["metrics"] = {"drift": 1 / n, "gap": None}
    lines = "".join(json.dumps(row) + "\n" for row in run.rows)
    (run.folder / "metrics.jsonl").write_text(lines)


def without_figures(said: Any) -> Any:
    """Return JSON of a run with null for every figure that may be: where it is not finite."""
    if isinstance(said, dict):
        return {
            key: value if key in ("probed", "lower_is_better", "cost") else without_figures(value)
            for key, value in said.items()
        }
    if isinstance(said, list):
        return [without_figures(each) for each in said]
    return None if isinstance(said, float) else said


def forget_figures(folder: Path) -> None:
    """Have a run folder as one whose figures all are not finite."""
    for name in ("metrics.jsonl", "summary.json", "clients.json"):
        lines = (folder / name).read_text().splitlines() if name.endswith("l") else None
        texts = [(folder / name).read_text()] if lines is None else lines
        bare = [json.dumps(without_figures(json.loads(text))) for text in texts]
        (folder / name).write_text("\n".join(bare) + "\n")


def read_page(file: Path) -> Page:
    """Read a page; every element in it is closed where it should be."""
    page = Page(source=file.read_text())
    page.feed(page.source)
    page.close()
    assert page._open == []
    return page
