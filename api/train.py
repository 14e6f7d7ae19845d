"""`nufed.train`: what `nufed` does on a command line, as a function."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nufed.api.data import data_words
from nufed.api.model import again, model_words
from nufed.api.showing import showing
from nufed.api.words import Overrides, words_of
from nufed.cli.failures import one_line
from nufed.cli.run import run, typed
from nufed.conf.compose import compose_run
from nufed.conf.errors import InputError, NuFedError
from nufed.conf.files import new_folder
from nufed.conf.objects import is_of_a_session
from nufed.conf.schema import Config
from nufed.conf.targets import foreign
from nufed.conf.words import path_of

if TYPE_CHECKING:
    from nufed.api.run import Run

DIR = "hydra.run.dir"


def train(
    *overrides: Overrides,
    model: object = None,
    data: object = None,
    folder: str | os.PathLike[str] | None = None,
    progress: bool = True,
    **values: Any,
) -> "Run":
    """Train as the command `nufed` does, and return the run.

    ``train("dataset=digits algorithm.nu=3", rounds=20)`` is ``nufed dataset=digits algorithm.nu=3
    rounds=20``: the same keys, values, files and errors, and for a seed the same result.

    Parameters
    ----------
    overrides
        ``key=value`` words as one would type them, one or several in a text; or mappings of keys
        to values, dotted or nested: ``{"algorithm.nu": 3}``, ``{"algorithm": {"nu": 3}}``.
    model
        A `torch.nn.Module`, whose copies train from what it holds; a class or function that makes
        one, which is given what its signature names of input_shape, num_outputs, num_tokens and
        places; a `functools.partial` of it; or an option, as model=… is on a command line.
    data
        Arrays ``(x, y, client)``, ``(x, y, client, test)`` or a mapping of these names, as
        `dataset=npz` takes them (they are kept under $NUFED_DATA); or a file.
    folder
        The run folder to be; by default a new one, runs/<name>/<time>.
    progress
        Whether to show how far it is. Warnings are told in any case.
    **values
        Keys and values: ``rounds=20``, ``algorithm={"nu": 3}``, ``resume=run``.

    Returns
    -------
    Run
        The run that has ended.

    Raises
    ------
    InputError
        If something given cannot be used; nothing has begun then.
    RunStopped
        If the run could not come to its end; what it has is in its folder.
    """
    os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")  # as the command has it
    with _in_one_line():
        words = words_of(overrides, values)
        words += _given("data", data, words, data_words)
        words += [] if folder is None else words_of([], {DIR: folder})
        config, place, words = _composed(words, model)
        _require_usable(config, folder)
        with showing(progress), _threads_kept(), _own_folder(config, place, words) as own:
            ended = run(config, own, words)
        from nufed.api.run import Run  # here, as no mistake should wait for it

        return Run(ended)


def _composed(words: list[str], model: object) -> tuple[Config, Path, list[str]]:
    """Return a configuration, the folder that it asks for, and what Hydra made it of."""
    for_hydra = typed(words)
    if model is not None and any(word.startswith("resume=") for word in words):
        config, place = compose_run(for_hydra)
        if config.resume is not None and again(path_of(config.resume).absolute(), model):
            return config, place, for_hydra
    for_hydra = typed([*words, *_given("model", model, words, model_words)])
    return *compose_run(for_hydra), for_hydra


def _given(
    name: str, value: object, words: Sequence[str], words_of: Callable[[object], list[str]]
) -> list[str]:
    """Return the words for an object, beside which none may say the same."""
    found = [] if value is None else words_of(value)
    keys = {word.partition("=")[0] for word in found if not word.startswith("+")}
    if beside := [word for word in words if word.lstrip("+").partition("=")[0] in keys]:
        raise InputError(f"{beside[0]}: is said beside {name}=…, which says it too; leave one out")
    return found


def _require_usable(config: Config, folder: object) -> None:
    """Raise an `InputError` for what cannot go together."""
    if config.resume is not None and folder is not None:
        raise InputError(
            f"folder={folder}: a run that is resumed goes on in its own folder; leave it out"
        )
    name, workers = config.engine["name"], config.engine.get("workers")
    if name == "batched" and workers is None:
        return
    where = f"engine={name}" if name != "batched" else f"engine.workers={workers}"
    for key, target in foreign(config).items():
        if is_of_a_session(target):
            raise InputError(
                f"{where}: computes in other processes, which do not have the {key.split('.')[0]} "
                "of this Python session; define it in a module (mine.py) and import it from there, "
                "or leave the engine out"
            )


@contextmanager
def _in_one_line() -> Iterator[None]:
    """Raise what the command tells in a line as an error that says this line."""
    try:
        yield
    except NuFedError:
        raise
    except Exception as error:
        line = one_line(error)
        if line is None:
            raise
        raise InputError(line) from None  # what Hydra says besides is of no use


@contextmanager
def _own_folder(config: Config, place: Path, words: Sequence[str]) -> Iterator[Path]:
    """Give the folder of a run to be, and take it away again if the run never begins."""
    if config.resume is not None:
        yield place
        return
    place = place.absolute()
    new = [path for path in (place, *place.parents) if not path.exists()]
    try:
        if not any(word.partition("=")[0] == DIR for word in words):
            place = new_folder(place)  # another may have begun in this very second
            new.insert(0, place)
    except OSError as error:
        raise InputError(
            f"{DIR}={place}: cannot be written ({error.strerror}); name another"
        ) from error
    try:
        yield place
    finally:
        for path in new:
            if path.is_dir() and not any(path.iterdir()):
                path.rmdir()


@contextmanager
def _threads_kept() -> Iterator[None]:
    """Leave torch the threads that it had: a run may take fewer."""
    import torch

    threads = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(threads)
