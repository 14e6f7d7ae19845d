"""Compose a configuration outside Hydra's command line: in a Flower app, a notebook, a test."""

import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from conf.errors import InputError, NuFedError, reason
from conf.files import read_text, require_no_links
from conf.schema import Config, read_config, register, to_config
from conf.words import for_hydra

CONFIG_DIR = Path(__file__).parent
CONFIG = "config.yaml"
"""In a run folder, the configuration of the run."""
LARGEST = 1 << 20
"""Bytes of it that are read; it has some three thousand."""


def compose_config(overrides: list[str]) -> Config:
    """Compose the YAML files of this folder with Hydra overrides such as ``algorithm.nu=5``."""
    with composing():
        return to_config(compose("config", for_hydra(overrides)))


@contextmanager
def composing() -> Iterator[None]:
    """Let Hydra's `compose` find the YAML files of this folder; leave Hydra as it was."""
    register()
    hydra = GlobalHydra.instance().hydra  # that of `nufed`, where it is the command
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
            yield
    finally:
        GlobalHydra.instance().hydra = hydra


def of_run(folder: Path, name: str) -> Config:
    """Return the configuration of a run.

    Parameters
    ----------
    folder
        The run folder.
    name
        What a person called it, for the error.

    Raises
    ------
    InputError
        If it is no run folder, or its configuration cannot be read.
    """
    file = folder / CONFIG
    if not folder.exists():
        raise InputError(f"{name}: is not there; name the folder of a run")
    if not file.exists():
        raise InputError(f"{name}: is not the folder of a run; it has no {CONFIG}")
    require_no_links((folder, folder / "checkpoint"))
    try:
        return read_config(read_text(file, largest=LARGEST))
    except NuFedError:
        raise
    except Exception as error:  # whatever YAML or OmegaConf make of a file that was written to
        raise InputError(f"{name}: {CONFIG} cannot be read ({reason(error)})") from error


def from_run_config(run_config: Mapping[str, object]) -> Config:
    """Return the configuration that a Flower run carries, on the server and on clients alike.

    Parameters
    ----------
    run_config
        Flower's run config: ``config``, a composed configuration as `conf.schema.to_json` writes
        it; or, where that is empty, ``overrides``, Hydra overrides as one would type them.

    Raises
    ------
    InputError
        If either cannot be read, or composes to no configuration that is possible.
    """
    composed, overrides = (str(run_config.get(key) or "") for key in ("config", "overrides"))
    name, text = ("config", composed) if composed else ("overrides", overrides)
    try:
        return read_config(composed) if composed else compose_config(shlex.split(overrides))
    except NuFedError:
        raise
    except Exception as error:  # whatever YAML, OmegaConf or Hydra make of a text from elsewhere
        raise InputError(f"run-config {name}={text!r:.60}: {reason(error):.200}") from error
