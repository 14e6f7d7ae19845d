"""The commands as they are installed: one may interrupt them while they are still being imported.

From there on, each ends as its own `main` has it.
"""

import os
import signal
import sys
from collections.abc import Callable
from importlib import import_module
from types import FrameType

COMMANDS = "attach", "ls"  # other words are Hydra's


def nufed() -> None:
    """Run an experiment, or a sweep; or watch one."""
    command = next((word for word in sys.argv[1:] if "=" not in word), "")
    if command in COMMANDS:  # also where a container has said key=value before
        sys.argv.remove(command)
    _main(f"nufed.cli.{command if command in COMMANDS else 'run'}")()


def adapt() -> None:
    """Make a client's personal model."""
    _main("nufed.cli.adapt")()


def certify() -> None:
    """Measure the constants of the theory."""
    _main("nufed.cli.certify")()


def report() -> None:
    """Make a report, or compare runs."""
    _main("nufed.cli.report")()


def keys() -> None:
    """Make keys and certificates."""
    _main("nufed.cli.keys")()


def data() -> None:
    """Look at a data set."""
    _main("nufed.cli.data")()


def _main(module: str) -> Callable[[], None]:
    """Import what a command needs, which takes a second; return its main function."""
    if sys.argv[1:] == ["--version"]:
        return _tell_versions
    before = signal.getsignal(signal.SIGINT)
    if before is not signal.default_int_handler:  # a job in the background, which ignores it
        main: Callable[[], None] = import_module(module).main
        return main
    signal.signal(signal.SIGINT, _interrupted)
    main = import_module(module).main
    signal.signal(signal.SIGINT, before)
    return main


def _tell_versions() -> None:
    from nufed.conf.versions import line

    print(line())


def _interrupted(_signal: int, _frame: FrameType | None) -> None:
    """End at once: an exception in the midst of an import may be taken for another."""
    os.write(2, f"{os.path.basename(sys.argv[0])}: interrupted\n".encode())
    os._exit(130)
