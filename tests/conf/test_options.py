"""Every option of every group: it composes, its targets exist, and it does what it is named for."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hydra.utils import get_object
from omegaconf import OmegaConf

from nufed.conf.compose import CONFIG_DIR, compose_config
from nufed.conf.convert import read_config, to_json

FILES = [f for f in sorted(CONFIG_DIR.glob("*/*.yaml")) if f.parent.name != "hydra"]
NEEDED = {
    **{name: ["dataset.path=mine"] for name in ("npz", "parquet", "image_folder", "celeba", "hf")},
    "trace": ["sampler.path=mine.csv"],
    "private": ["dataset.input_shape=[4]", "dataset.num_outputs=2", "dataset.num_clients=3"],
    "custom": ["model._target_=nufed.tasks.models.mlp"],
    "deployment": ["engine.superlink=127.0.0.1:8000"],
}
NOT_INSTALLED = ("mlflow", "trackio", "wandb")
"""Trackers whose packages `make test-trackers` alone installs."""


def override(file: Path) -> str:
    """Return the override that chooses the option of a file."""
    return f"{file.parent.name}={file.stem}"


def targets(node: object) -> Iterator[str]:
    """Yield every name that Hydra, or an engine's launcher, is to find."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key in ("_target_", "launcher") and value != "???":
                yield value
            else:
                yield from targets(value)


def test_all_groups_of_the_design_are_there() -> None:
    """An empty list of files would let every test below pass."""
    groups = {file.parent.name for file in FILES}
    wanted = {"algorithm", "dataset", "partition", "model", "strategy", "engine", "evaluation"}
    wanted |= {"rule", "sampler", "optimizer", "schedule"}
    assert wanted <= groups
    assert {f.stem for f in FILES if f.parent.name == "algorithm"} >= {
        "fedavg",
        "per_fedavg",
        "nufed",
    }


@pytest.mark.parametrize("file", FILES, ids=override)
def test_every_option_composes_and_travels(file: Path) -> None:
    """With nothing missing, and its own values in the place of the default option's."""
    config = compose_config([override(file), *NEEDED.get(file.stem, [])])
    assert read_config(to_json(config)) == config
    own = OmegaConf.to_container(OmegaConf.load(file))
    assert isinstance(own, dict)
    group = file.parent.name
    own = own.get(group, own)
    composed = OmegaConf.to_container(OmegaConf.structured(config))
    assert isinstance(composed, dict)
    if group == "tracking":  # each option under its name
        assert list(composed[group]) == [file.stem] * (file.stem != "none")
        composed = {group: composed[group].get(file.stem)}
    for key, value in own.items():
        if (
            group != "experiment"
            and not isinstance(value, dict)
            and "$" not in str(value)
            and value != "???"
        ):
            settled = key == "clip_norm" and value == "auto"
            assert composed[group][key] == ("usual" if settled else value)


@pytest.mark.parametrize(
    ("typed", "found"),
    [
        ([], "usual"),
        (["algorithm.beta=0.1"], None),
        (["privacy=central_dp"], None),
        (["strategy.clip_norm=2"], 2),
        (["strategy.clip_norm=2", "algorithm.beta=0.1"], 2),
    ],
)
def test_updates_are_clipped_to_their_usual_norm_where_beta_is_chosen(
    typed: list[str], found: object
) -> None:
    config = compose_config(typed)
    assert config.strategy["clip_norm"] == found
    assert read_config(to_json(config)) == config


@pytest.mark.parametrize(
    "file",
    [pytest.param(f, marks=pytest.mark.trackers if f.stem in NOT_INSTALLED else ()) for f in FILES],
    ids=override,
)
def test_every_target_exists(file: Path) -> None:
    """A renamed function would show only when somebody chose the option."""
    for target in targets(OmegaConf.to_container(OmegaConf.load(file))):
        assert callable(get_object(target))


@pytest.mark.parametrize(("name", "nu"), [("fedavg", 0), ("per_fedavg", 1), ("nufed", 5)])
def test_algorithms_differ_in_nu_alone(name: str, nu: int) -> None:
    """Else `-m algorithm=fedavg,per_fedavg,nufed` would compare something besides."""
    chosen = compose_config([f"algorithm={name}"]).algorithm
    assert chosen["nu"] == nu
    other = compose_config([f"algorithm.nu={nu}"]).algorithm
    assert chosen == other | {"name": name}


@pytest.mark.parametrize(
    ("dataset", "partition"),
    [("npz", "natural"), ("quadratics", "natural"), ("private", "natural")],
)
def test_data_sets_with_clients_of_their_own_keep_them(dataset: str, partition: str) -> None:
    """Unless one says otherwise, which must still be possible."""
    chosen = [f"dataset={dataset}", *NEEDED.get(dataset, [])]
    assert compose_config(chosen).partition.name == "natural"
    assert compose_config([*chosen, "partition=iid"]).partition.name == "iid"


def test_the_partition_follows_the_seed_unless_it_has_its_own() -> None:
    assert compose_config(["seed=4"]).partition.seed == 4
    config = compose_config(["seed=4", "partition.seed=9"])
    assert config.partition.seed == config.partition.partitioner["seed"] == 9
