"""Compose a configuration outside Hydra's command line: in a Flower app, a notebook, a test."""

import shlex
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import open_dict

from nufed.conf.convert import read_config, read_values, to_config, to_yaml
from nufed.conf.errors import InputError, NuFedError, reason
from nufed.conf.files import read_text, require_no_links
from nufed.conf.former import as_named_now
from nufed.conf.importing import give_way, let_import, require_there
from nufed.conf.own import is_own, signed
from nufed.conf.plain import plain
from nufed.conf.schema import Config, register
from nufed.conf.targets import EVERYTHING, HOW_HERE, foreign, require_allowed
from nufed.conf.versions import HOME
from nufed.conf.words import for_hydra

CONFIG_DIR = Path(__file__).parent
CONFIG = "config.yaml"
"""In a run folder, the configuration of the run."""
LARGEST = 1 << 20
"""Bytes of it that are read; it has some three thousand."""


def compose_config(overrides: list[str]) -> Config:
    """Compose the YAML files of this folder with Hydra overrides such as ``algorithm.nu=5``."""
    with composing():
        return to_config(compose("config", for_hydra(overrides)))


def compose_run(overrides: list[str]) -> tuple[Config, Path]:
    """Compose, and return the folder of the run too: a relative path, unless it was said."""
    with composing():
        composed = compose("config", overrides, return_hydra_config=True)
        folder = Path(composed.hydra.run.dir)
        with open_dict(composed):
            del composed["hydra"]
        return to_config(composed), folder


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


def to_file(config: Config) -> str:
    """Return what config.yaml is to hold of a run that this person starts, or goes on with."""
    text = to_yaml(config)
    return signed(text) if foreign(config) else text


class Found(NamedTuple):
    """The configuration in a run folder."""

    config: Config
    own: bool
    """Whether this person's own run left it here, and nobody else."""

    def require_allowed(self, name: str, trust: Collection[str] = ()) -> None:
        """Raise an `InputError` if another's run names code that is not trusted; see `of_run`."""
        if not self.own:
            require_allowed(self.config, name, trust)


def of_run(folder: Path, name: str, trust: Collection[str] = ()) -> Config:
    """Return the configuration of a run, all of whose code may be called.

    Parameters
    ----------
    folder
        The run folder.
    name
        What a person called it, for the error.
    trust
        The modules that they trust, beside what anybody may name.

    Raises
    ------
    InputError
        If it is no run folder, its configuration cannot be read, or names other code, unless the
        person's own run did.
    """
    found = find_config(folder, name)
    found.require_allowed(name, trust)
    let_import(found.config)
    return found.config


def find_config(folder: Path, name: str) -> Found:
    """Read the configuration of a run, to be shown: it may name any code; arguments as of `of_run`.

    Raises
    ------
    InputError
        If it is no run folder, has links in it, or its configuration cannot be read.
    """
    file = folder / CONFIG
    if not folder.exists():
        raise InputError(f"{name}: is not there; name the folder of a run")
    if not file.exists():
        raise InputError(f"{name}: is not the folder of a run; it has no {CONFIG}")
    require_no_links((folder, folder / "checkpoint"))
    text = read_text(file, largest=LARGEST)
    return Found(theirs(text, f"{name}: {CONFIG}"), is_own(text))


def theirs(text: str, what: str) -> Config:
    """Return the configuration that a run says it has, checked; it may name any code.

    Parameters
    ----------
    what
        What the text is, for an error.

    Raises
    ------
    InputError
        If it cannot be read.
    """
    try:
        return replace(read_values(as_named_now(plain(text))), trust=None)
    except NuFedError:
        raise
    except Exception as error:  # whatever YAML or OmegaConf make of what may have been written to
        raise InputError(f"{what} cannot be read ({reason(error):.300})") from error


def from_run_config(run_config: Mapping[str, object], trust: Collection[str] = ()) -> Config:
    """Return the configuration that a Flower run carries, on the server and on clients alike.

    Parameters
    ----------
    run_config
        Flower's run config: ``config``, a composed configuration as `nufed.conf.convert.to_json`
        writes it; or, where that is empty, ``overrides``, Hydra overrides as one would type them.
    trust
        The modules that whoever runs this process trusts, beside what anybody may name.

    Raises
    ------
    InputError
        If either cannot be read, composes to no configuration that is possible, or names code that
        is not trusted here, or not there.
    """
    composed, overrides = (str(run_config.get(key) or "") for key in ("config", "overrides"))
    name, text = ("config", composed) if composed else ("overrides", overrides)
    where = f"run-config {name}"
    try:
        config = read_config(composed) if composed else _composed_elsewhere(overrides)
    except NuFedError:
        raise
    except Exception as error:  # whatever YAML, OmegaConf or Hydra make of a text from elsewhere
        raise InputError(f"{where}={text!r:.60}: {reason(error):.200}") from error
    require_allowed(config, where, trust, HOW_HERE)
    give_way(HOME)
    if EVERYTHING not in trust:
        require_there(config, where)
    return replace(config, trust=None)


def _composed_elsewhere(overrides: str) -> Config:
    """Compose overrides that somebody typed on another machine: of this one they learn nothing."""
    words = shlex.split(overrides)
    for each in OverridesParser.create().parse_overrides(words):
        line = str(each.input_line)
        if "${" in line:
            raise InputError(f"run-config overrides: {line}: write the value itself, not ${{…}}")
        if each.key_or_group.partition("/")[0].partition(".")[0] == "hydra" or ".." in line:
            raise InputError(f"run-config overrides: {line}: cannot be said from another machine")
    return compose_config(words)
