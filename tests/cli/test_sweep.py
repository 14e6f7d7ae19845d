"""Sweeps: jobs in processes side by side end as one after another, and say as much."""

import re

import pytest
import yaml
from safetensors.torch import load_file

from nufed.conf.compose import CONFIG_DIR
from nufed.server_app.report.words import LOWER
from tests.cli.in_process import TINY, Ended, sweeps
from tests.helpers import distance

SEEDS = ["-m", *TINY, "rounds=2", "seed=0,1", "algorithm.tau=0,2"]
COMMANDS = {
    "in turn": SEEDS,
    "side by side": [*SEEDS, "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"],
    "no plugin": ["-m", "seed=0,1", "hydra.launcher._target_=hydra_plugins.hydra_absent.x.Y"],
}


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Ended:
    return sweeps(COMMANDS, tmp_path_factory.mktemp("sweeps"))


def test_jobs_side_by_side_end_as_one_after_another(done: Ended) -> None:
    """The same models, bit by bit; the same table, complaints and exit status; readable lines."""
    (turn, one), (side, other) = done["in turn"], done["side by side"]
    assert (turn.status, side.status) == (2, 2)
    runs = sorted(path.parent.name for path in one.glob("*/summary.json"))
    assert len(runs) == 2
    assert runs == sorted(path.name for path in other.iterdir() if path.is_dir())
    for run in runs:
        models = [load_file(sweep / run / "model.safetensors") for sweep in (one, other)]
        assert distance(*models) == 0
    table = turn.out[turn.out.index(f"loss, {LOWER}; means of 2 seeds ") :]
    table = table.replace(str(one), str(other))
    assert side.out.endswith(table)
    assert sorted(side.err.splitlines()) == [
        f"[{job}] nufed: algorithm.tau=0: must be at least 1 and at most 100000" for job in (0, 2)
    ]
    lines = side.out[: -len(table)].splitlines()
    assert lines
    assert all(re.match(r"\[[0-3]\] ", line) for line in lines)
    said = [line.removeprefix("[1] ") for line in lines if line.startswith("[1] round ")]
    assert [line.split()[1] for line in said] == ["0/2", "1/2", "2/2"]


def test_a_plugin_that_is_missing_is_named(done: Ended) -> None:
    ended, _ = done["no plugin"]
    assert ended.status == 2
    assert ended.err == "nufed: hydra-absent: is not installed; pip install hydra-absent\n"


def test_our_options_are_those_that_plugins_have() -> None:
    """A plugin that is renamed would leave ours without a meaning."""
    from hydra.core.plugins import Plugins

    Plugins.instance()
    for file in ("sweeper/optuna.yaml", "launcher/joblib.yaml"):
        target = yaml.safe_load((CONFIG_DIR / "hydra" / file).read_text())["_target_"]
        assert target in Plugins.instance().class_name_to_class
