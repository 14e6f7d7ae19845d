"""What an experiment of conf/experiment/ runs: every combination of the axes that it sweeps."""

from dataclasses import dataclass
from functools import cache, cached_property
from itertools import product

from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser

from conf.compose import CONFIG_DIR, compose_config
from conf.schema import Config, register

NU, ALPHA, SEED = "algorithm.nu", "algorithm.alpha", "seed"


@dataclass(frozen=True)
class Job:
    """One run: an experiment, and what is chosen beside what its YAML file says."""

    experiment: str
    choices: tuple[tuple[str, str], ...]
    """Keys and values, in the order of the experiment's axes."""

    @property
    def overrides(self) -> list[str]:
        """The words with which `nufed` repeats the run."""
        return [f"experiment={self.experiment}", *(f"{key}={value}" for key, value in self.choices)]

    @property
    def command(self) -> str:
        """The command that repeats the run."""
        return " ".join(["nufed", "hydra.mode=RUN", *self.overrides])

    @cached_property
    def config(self) -> Config:
        """The composed configuration; to compose it takes a tenth of a second."""
        return compose_config(self.overrides)

    @property
    def folder(self) -> str:
        """A name for the run's folder that reads as what was chosen."""
        short = (f"{key.rsplit('.', 1)[-1]}={value}" for key, value in self.choices)
        return f"{self.experiment}/{','.join(short)}".replace("torch.optim.", "")

    def __getitem__(self, key: str) -> str:
        return dict(self.choices)[key]

    def but(self, **choices: str) -> "Job":
        """Return a job that differs in some choices; ``__`` stands for the dot in a key."""
        other = dict(self.choices) | {k.replace("__", "."): v for k, v in choices.items()}
        return Job(self.experiment, tuple(other.items()))


@cache
def axes(experiment: str) -> dict[str, list[str]]:
    """Return what an experiment sweeps: key -> values, as its hydra.sweeper.params say."""
    register()
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        composed = compose("config", [f"experiment={experiment}"], return_hydra_config=True)
    parse = OverridesParser.create().parse_override
    swept = [parse(f"{k}={v}") for k, v in (composed.hydra.sweeper.params or {}).items()]
    return {
        axis.get_key_element(): [str(value) for value in axis.sweep_string_iterator()]
        if axis.is_sweep_override()
        else [axis.get_value_element_as_str()]
        for axis in swept
    }


def jobs(experiment: str, **fixed: str) -> list[Job]:
    """Return the runs of an experiment, those where some axes have the value given.

    Parameters
    ----------
    fixed
        Values by key, where ``__`` stands for the dot.
    """
    given = {key.replace("__", "."): [value] for key, value in fixed.items()}
    swept = axes(experiment) | given
    return [Job(experiment, tuple(zip(swept, v, strict=True))) for v in product(*swept.values())]
