"""docs/data.md: its numbers are those of the data, line by line, as far as they are here."""

import importlib.util
import re
import shlex
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from nufed.conf.compose import compose_config
from nufed.conf.schema import Config
from nufed.tasks.datasets import fashion_mnist, rdatasets, shakespeare
from nufed.tasks.task import FederatedData, federated
from tests.helpers import require_data

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/data.md").read_text()
YOURS = {"npz", "parquet", "image_folder", "hf", "private"}  # of docs/own-data.md
ALSO = {"insteval": "dataset.by=lecturer", "chem97": "dataset.by=authority"}
"""By data set, what the second number of a cell is of."""
PACKAGES = {"insteval": "rdatasets", "chem97": "rdatasets", "shakespeare": shakespeare.PACKAGE}
"""By data set, what is installed with `make`, and imported by that name."""
UNSAID = "°"


class Line(NamedTuple):
    """A line of the table."""

    names: list[str]
    clients: str
    rows: str
    classes: str
    network: str

    @property
    def asserted(self) -> bool:
        """Whether the page does not say that its numbers are others'."""
        return UNSAID not in self.clients + self.rows


def lines() -> list[Line]:
    """Return the lines of the table."""
    _, rest = PAGE.split("\n| `dataset=` | clients |", maxsplit=1)
    _, _, *rows = rest.partition("\n\n")[0].splitlines()
    cells = [row.strip("| ").split(" | ") for row in rows]
    return [Line(re.findall(r"`(\w+)`", c[0]), *c[1:4], c[6]) for c in cells]


LINES = {", ".join(line.names): line for line in lines()}


def numbers(cell: str) -> list[int]:
    """Return the number before each « or » of a cell."""
    found = (re.match(r"[\d,]*\d", part) for part in cell.split(", or "))
    return [int(number[0].replace(",", "")) for number in found if number]


def composed(line: Line) -> list[Config]:
    """Return the configuration of each number of a line."""
    (name,) = line.names
    if "`partition`" in line.clients:  # any that makes clients: this one takes no time
        return [compose_config([f"dataset={name}", "partition=iid", "partition.num_clients=20"])]
    many = [[], [ALSO[name]]] if name in ALSO else [[]]
    return [compose_config([f"dataset={name}", *words]) for words in many]


def given(config: Config) -> FederatedData:
    """Return the data of a configuration; skip, or fail, where they are not installed."""
    if "fashion_mnist" in (config.dataset["name"], *str(config.dataset.get("source")).split(".")):
        require_data(fashion_mnist.DEBIAN_PACKAGE)
    require_package(config.dataset["name"])
    return federated(config)


def require_package(name: str) -> None:
    """Skip, or fail, where the package of a data set is not installed."""
    if name in PACKAGES and importlib.util.find_spec(PACKAGES[name]) is None:
        require_data(Path(PACKAGES[name]), "make install")


def sizes(data: FederatedData) -> NDArray[np.int64]:
    """Return the rows of each client, [n]."""
    return np.diff(data.partition.offset)


def test_every_data_set_that_comes_along_has_a_line() -> None:
    every = {file.stem for file in (ROOT / "conf/dataset").glob("*.yaml")}
    told = [name for line in LINES.values() for name in line.names]
    assert sorted(told) == sorted(every - YOURS)


def test_only_what_has_to_be_fetched_is_left_to_its_publishers() -> None:
    """A line that a test could assert has no mark that says that none does."""
    for name, line in LINES.items():
        fetched = "`dataset.path`" in line.network and "Debian" not in line.network
        assert line.asserted != fetched, name


@pytest.mark.parametrize("name", [name for name, line in LINES.items() if line.asserted])
def test_the_numbers_of_a_line_are_those_of_the_data(name: str) -> None:
    """Clients, and rows that they hold; classes; and from how many rows to how many one has."""
    line = LINES[name]
    every = composed(line)
    clients = numbers(line.clients) or [20]
    for config, n, rows in zip(every, clients, numbers(line.rows), strict=True):
        data = given(config)
        assert (data.num_clients, sizes(data).sum()) == (n, rows)
        assert data.classes != ("regression" in line.classes)
        if data.classes:
            assert data.num_outputs == int(re.findall(r"\d+", line.classes)[-1])
        if between := re.search(r"from (\d+) a client|(\d+) to (\d+) a role", line.rows):
            bounds = {int(number) for number in between.groups() if number}
            assert bounds <= {sizes(data).min(), sizes(data).max()}


def said(pattern: str) -> list[int]:
    """Return the numbers of a place of the page, whose lines are of any length."""
    found = re.search(pattern.replace(" ", r"\s+").replace("#", r"([\d,]*\d)"), PAGE)
    assert found, pattern
    return [int(number.replace(",", "")) for number in found.groups()]


def test_the_sizes_of_clients_like_those_of_pfedme() -> None:
    (command,) = (line for line in PAGE.splitlines() if "sizes.least=250" in line)
    data = federated(compose_config(shlex.split(command)[1:]))
    has = [sizes(data).min(), sizes(data).max(), sizes(data).sum()]
    assert said("seed 0 clients have # to # rows, # in all") == has


def left_out(name: str, by: str) -> list[int]:
    """Return how many clients a table loses to `least`, of how many, and rows likewise."""
    require_package(name)
    columns = {"insteval": ("lme4", "InstEval"), "chem97": ("mlmRev", "Chem97")}
    column = rdatasets._table(*columns[name], (by,))[by]
    _, every = np.unique(column, return_counts=True)
    kept = sizes(federated(compose_config([f"dataset={name}"])))
    assert sorted(kept) == sorted(every[every >= 10])
    return [len(every) - len(kept), len(every), every.sum() - kept.sum(), every.sum()]


def test_students_that_are_left_out() -> None:
    assert said("left out .*: # of #, with # of # ratings") == left_out("insteval", "s")


def test_schools_that_are_left_out() -> None:
    assert said("half of them: # of #, with # of # pupils") == left_out("chem97", "school")
    kept = sizes(federated(compose_config(["dataset=chem97", "dataset.least=2"])))
    of_one = said("all but the # schools of one")
    assert of_one == [31_022 - kept.sum()] == [2410 - len(kept)]


def test_roles_that_are_left_out() -> None:
    require_package("shakespeare")
    said_by = np.array([len(s) for _, s in shakespeare._roles(shakespeare._texts(None, ""))])
    few = said_by < 2000
    there, left = said("there are #, of which # are left out")
    assert (there, left) == (len(said_by), few.sum())
    assert said("`dataset.least`.: # of # in all") == [said_by[few].sum(), said_by.sum()]
