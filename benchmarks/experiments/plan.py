"""What an experiment of conf/experiment/ runs: every combination of the axes that it sweeps."""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cache, cached_property
from itertools import product

from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from nufed.conf.compose import CONFIG_DIR
from nufed.conf.convert import to_config
from nufed.conf.schema import Config, register

NU, ALPHA, MODE, SEED = "algorithm.nu", "algorithm.alpha", "algorithm.mode", "seed"


@dataclass(frozen=True)
class Job:
    """One run: an experiment, and what is chosen beside what its YAML file says."""

    experiment: str
    choices: tuple[tuple[str, str], ...]
    """Keys and values, in the order of the experiment's axes."""
    options: tuple[str, ...] = ()
    """Options of groups that are not the experiment's own, such as ``algorithm=ditto``."""

    @property
    def overrides(self) -> list[str]:
        """The words with which `nufed` repeats the run."""
        chosen = (f"{key}={value}" for key, value in self.choices)
        return [f"experiment={self.experiment}", *self.options, *chosen]

    @property
    def command(self) -> str:
        """The command that repeats the run."""
        return " ".join(["nufed", "hydra.mode=RUN", *self.overrides])

    @cached_property
    def config(self) -> Config:
        """The configuration that the command composes."""
        made = deepcopy(_composed(self.experiment, self.options))
        parse = OverridesParser.create().parse_override
        for key, value in self.choices:
            OmegaConf.update(made, key, parse(f"{key}={value}").value())
        return to_config(made)

    @property
    def folder(self) -> str:
        """A name for the run's folder that reads as what was chosen."""
        chosen = (f"{key.rsplit('.', 1)[-1]}={value}" for key, value in self.choices)
        short = (*self.options, *chosen)
        return f"{self.experiment}/{','.join(short)}".replace("torch.optim.", "")

    def __getitem__(self, key: str) -> str:
        return dict(self.choices)[key]

    def but(self, choices: Mapping[str, str]) -> "Job":
        """Return a job that differs in some choices."""
        return replace(self, choices=tuple((dict(self.choices) | dict(choices)).items()))


@cache
def _composed(experiment: str, options: tuple[str, ...] = (), *, hydra: bool = False) -> DictConfig:
    """Compose an experiment once: it takes a tenth of a second, and has a hundred runs."""
    register()
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        words = [f"experiment={experiment}", "baselines=none", *options]  # they have their own
        return compose("config", words, return_hydra_config=hydra)


@cache
def axes(experiment: str) -> dict[str, list[str]]:
    """Return what an experiment sweeps: key -> values, as its hydra.sweeper.params say."""
    params = _composed(experiment, hydra=True).hydra.sweeper.params or {}
    parse = OverridesParser.create().parse_override
    swept = [parse(f"{key}={values}") for key, values in params.items()]
    return {
        axis.get_key_element(): [str(value) for value in axis.sweep_string_iterator()]
        if axis.is_sweep_override()
        else [axis.get_value_element_as_str()]
        for axis in swept
    }


def jobs(experiment: str, fixed: Mapping[str, str] | None = None) -> list[Job]:
    """Return the runs of an experiment, with the values given for some keys, swept or not."""
    swept = axes(experiment) | {key: [value] for key, value in (fixed or {}).items()}
    return [Job(experiment, tuple(zip(swept, v, strict=True))) for v in product(*swept.values())]
