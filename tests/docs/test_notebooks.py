"""docs/notebooks/: each in a kernel, from its first cell to its last, with fewer rounds."""

import re
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from tests.docs.pages import ROOT

pytestmark = pytest.mark.docs

FOLDER = ROOT / "docs/notebooks"
NAMES = "digits-to-a-personal-model", "fedprox-against-nufed"
FEWER = {
    "rounds=20": 'rounds=2, tracking="none"',
    "rounds=60": 'rounds=1, tracking="none"',
    "(0, 1, 2)": "(0,)",
    '"dataset": "sines"': '"dataset": "sines", "dataset.num_clients": 20',
}
OWN = """\
from torch import nn

class Net(nn.Sequential):
    def __init__(self, input_shape, num_outputs):
        super().__init__(nn.Flatten(), nn.Linear(64, num_outputs))

own = nufed.train(model=Net, rounds=1, tracking='none', progress=False)
print(own.config.model, type(own.model).__name__)"""


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Any]]:
    """Return what the cells of each notebook showed, and those that are tried besides.

    In one kernel, which imports torch once; the names of a notebook are gone before the next.
    """
    here = tmp_path_factory.mktemp("reader")
    parts = {name: read(name) for name in NAMES}
    parts["own"] = ["import nufed", 'nufed.train("algorithm.nuu=3")', OWN]
    book = nbformat.v4.new_notebook()
    for cells in parts.values():
        book.cells += [nbformat.v4.new_code_cell(cell) for cell in (*cells, "%reset -f")]
    for cell in book.cells[-3:]:
        cell.metadata["tags"] = ["raises-exception"]
    client = NotebookClient(book, timeout=600, resources={"metadata": {"path": str(here)}})
    with pytest.MonkeyPatch.context() as patch:
        for variable in ("IPYTHONDIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR"):
            patch.setenv(variable, str(here / "jupyter"))
        client.execute()
    left = iter(book.cells)
    found = {name: [next(left).outputs for _ in (*cells, "")] for name, cells in parts.items()}
    assert (here / "sevens-and-eights.safetensors").is_file()
    return found


def read(name: str) -> list[str]:
    """Return the code of a notebook's cells, with fewer rounds."""
    book = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    code = "\0".join(cell.source for cell in book.cells if cell.cell_type == "code")
    for whole, fewer in FEWER.items():
        code = code.replace(whole, fewer)
    return code.split("\0")


def said(shown: list[Any], stream: str = "stdout") -> str:
    return "".join(each.text for each in shown if each.get("name") == stream)


def html(shown: list[Any]) -> list[str]:
    return [each.data["text/html"] for each in shown if "text/html" in each.get("data", {})]


def test_digits_to_a_personal_model(shown: dict[str, list[Any]]) -> None:
    first, curve, worst, newcomer, used, report, _ = shown[NAMES[0]]
    assert "digits: 40 participating and 10 new clients" in said(first)
    assert "round 1/2" not in said(first), "a bar tells of rounds, not lines"
    (bar,) = html(first)
    assert bar.startswith('<progress value="2" max="2"></progress>')
    assert re.search(r"round 2/2  loss .* accuracy of new clients", bar)
    assert "Warning" not in said(first, "stderr")
    assert len(html(curve)) == len(html(worst)) == 1
    assert [each for each in curve if "image/png" in each.get("data", {})]
    assert newcomer[0].data["text/plain"].count(",") == 5
    assert "further images; Sequential(" in said(used)
    assert html(report)[0].startswith('<iframe srcdoc="&lt;!')


def test_fedprox_against_nufed(shown: dict[str, list[Any]]) -> None:
    compared, table, curves, report, _ = shown[NAMES[1]]
    assert "over the first" in compared[-1].data["text/plain"]
    assert html(table)[0].count("<tr") == 1 + 4, "two methods, two kinds of clients"
    assert [each for each in curves if "image/png" in each.get("data", {})]
    assert len(html(report)) == 1


def test_a_mistake_is_one_line_and_a_class_of_the_notebook_trains(
    shown: dict[str, list[Any]],
) -> None:
    _, wrong, own, _ = shown["own"]
    line = "InputError: algorithm.nuu: no such key; did you mean algorithm.nu?"
    assert wrong[0].traceback == [line]
    assert said(own) == "{'_target_': '__main__.Net'} Net\n"


@pytest.mark.parametrize("name", NAMES)
def test_what_is_kept_is_the_code_alone(name: str) -> None:
    text = (FOLDER / f"{name}.ipynb").read_text()
    book = nbformat.reads(text, as_version=4)
    nbformat.validate(book)
    code = [cell for cell in book.cells if cell.cell_type == "code"]
    assert [cell for cell in code if cell.outputs or cell.execution_count] == []
    for link in re.findall(r"\]\((?!http)([^)]+)\)", text):
        assert (FOLDER / link).is_file()


def test_there_are_no_others() -> None:
    assert {file.stem for file in FOLDER.iterdir()} == {*NAMES}
