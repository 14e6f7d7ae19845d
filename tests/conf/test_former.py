"""Run folders of older versions name what is NuFed's by other names."""

from collections.abc import Callable
from pathlib import Path

import pytest

from nufed.conf.compose import compose_config, find_config, of_run
from nufed.conf.convert import to_yaml
from nufed.conf.errors import InputError
from nufed.conf.schema import Config

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Return a function that writes a run's config.yaml as an older version did."""

    def write(config: Config, *now: str) -> Path:
        text = to_yaml(config).replace(" nufed.", " ")
        for name in now:
            text = text.replace(f" {name.removeprefix('nufed.')}\n", f" {name}\n")
        (tmp_path / "config.yaml").write_text(text)
        return tmp_path

    return write


ALL = ["dataset=own_labels", "model=mlp", "rule=krum", "engine=ray", "tracking=tensorboard"]


def test_all_that_is_ours_is_read_by_its_name_of_today(write: Write) -> None:
    config = compose_config(ALL)
    folder = write(config)
    assert "nufed." not in (folder / "config.yaml").read_text()
    assert of_run(folder, "run") == config


def test_code_of_ones_own_keeps_its_name_and_is_asked_about(write: Write) -> None:
    folder = write(compose_config(["model=custom", "model._target_=tasks.own.Net"]))
    assert find_config(folder, "run").config.model["_target_"] == "tasks.own.Net"
    with pytest.raises(InputError, match=r"its model._target_ is tasks\.own\.Net, .*trust="):
        of_run(folder, "run")


def test_in_a_run_of_today_the_same_name_is_the_persons_own(write: Write) -> None:
    config = compose_config(["model=custom", "model._target_=tasks.models.mlp"])
    folder = write(config, config.engine["launcher"])
    assert find_config(folder, "run").config.model["_target_"] == "tasks.models.mlp"


def test_nothing_that_is_typed_is_renamed() -> None:
    typed = compose_config(["model=custom", "model._target_=tasks.models.mlp"])
    assert typed.model["_target_"] == "tasks.models.mlp"
