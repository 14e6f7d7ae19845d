"""Where code of a person's own is found: their client_app.py and tasks.py, and not ours.

NuFed is imported as `nufed` alone, so that no name of theirs is taken. But a checkout holds its
parts as folders, and is at times on the import path itself.
"""

import os
import sys
from importlib.util import find_spec
from pathlib import Path

from nufed.conf.errors import InputError
from nufed.conf.schema import Config
from nufed.conf.targets import foreign


def let_import(config: Config) -> None:
    """Let code of the person's own be imported from where they are, if a configuration names any.

    Else nothing is imported from there: it may be a folder that somebody else filled.
    """
    if foreign(config) and os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # last, so that it hides no library


def give_way(home: Path) -> None:
    """Let a tasks.py of theirs be found before the folder tasks/ of a checkout.

    Flower puts an app's folder first on the import path, also where the app is a checkout. It stays
    before any other NuFed, for the processes that take their import path from this one.
    """
    ours = str(home)
    if ours not in sys.path or not (home / "tasks").is_dir():
        return
    sys.path.remove(ours)
    others = (i for i, folder in enumerate(sys.path) if Path(folder, "nufed").is_dir())
    sys.path.insert(next(others, len(sys.path)), ours)


def require_there(config: Config, where: str) -> None:
    """Raise an `InputError` if a module of their own that a run names is not on this machine.

    Parameters
    ----------
    where
        What a person calls where the configuration comes from.
    """
    for key, name in foreign(config).items():
        module = name.partition(".")[0]
        if module not in sys.modules and find_spec(module) is None:
            raise InputError(
                f"{where}: there is no module {module} here, which its {key} names; put it on the "
                "PYTHONPATH of this SuperLink or SuperNode"
            )
