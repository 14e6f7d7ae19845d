"""NuFed: meta federated learning for any number of fine-tuning steps.

`train`, `prepare`, `load` and `compare` are the commands from Python, `meta_gradient`, `adapt` and
`personalization_curve` the mathematics; each is imported when it is first asked for.

Its parts are packages of their own: `nufed.client_app`, `nufed.strategies`, … Where they are
installed they lie in this folder; in a checkout, or a Flower app made of one, beside it.
"""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nufed.api.comparison import Comparison as Comparison
    from nufed.api.comparison import compare as compare
    from nufed.api.prepare import prepare as prepare
    from nufed.api.run import Run as Run
    from nufed.api.run import load as load
    from nufed.api.train import train as train
    from nufed.client_app.from_run import personalize as personalize
    from nufed.client_app.meta_gradient import adapt as adapt
    from nufed.client_app.meta_gradient import meta_gradient as meta_gradient
    from nufed.client_app.personal import Personal as Personal
    from nufed.client_app.personalization import personalization_curve as personalization_curve
    from nufed.conf.errors import CallbackFailed as CallbackFailed
    from nufed.conf.errors import CannotWrite as CannotWrite
    from nufed.conf.errors import Diverged as Diverged
    from nufed.conf.errors import InputError as InputError
    from nufed.conf.errors import NuFedError as NuFedError
    from nufed.conf.errors import RunStopped as RunStopped
    from nufed.conf.errors import TooFewReplies as TooFewReplies
    from nufed.conf.errors import WorkersLost as WorkersLost

_here = Path(__file__).parent
if not (_here / "client_app").exists():
    __path__.append(str(_here.parent))

_HOMES = {
    "api.comparison": ("Comparison", "compare"),
    "api.prepare": ("prepare",),
    "api.run": ("Run", "load"),
    "api.train": ("train",),
    "client_app.meta_gradient": ("adapt", "meta_gradient"),
    "client_app.from_run": ("personalize",),
    "client_app.personal": ("Personal",),
    "client_app.personalization": ("personalization_curve",),
    "conf.errors": (
        *("CallbackFailed", "CannotWrite", "Diverged", "InputError", "NuFedError", "RunStopped"),
        *("TooFewReplies", "WorkersLost"),
    ),
}
__all__ = sorted(name for names in _HOMES.values() for name in names)


def __getattr__(name: str) -> object:
    """Import what is asked for, and no sooner: torch takes seconds."""
    for module, names in _HOMES.items():
        if name in names:
            globals()[name] = found = getattr(import_module(f"nufed.{module}"), name)
            return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
