"""What our commands have in common: how they start, and how they tell a person of a mistake."""

import argparse
import logging
import os
import re
import sys
import traceback
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, NoReturn

from nufed.conf.text import printable

EXIT_USER_ERROR, EXIT_INTERRUPTED, EXIT_TERMINATED = 2, 130, 143


def prepare() -> bool:
    """Set the process up; return whether a person wants tracebacks of their mistakes."""
    # Imported here: Hydra takes most of a second, and nufed-keys has no use for it.
    from nufed.conf.schema import register

    os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
    # Threads that have nothing to do sleep: where they spin, a busy machine takes twice the time.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    wants_traceback = os.environ.get("HYDRA_FULL_ERROR") == "1"
    os.environ["HYDRA_FULL_ERROR"] = "1"  # exceptions reach us, and we print one line of them
    register()
    sys.excepthook = _tell
    logging.getLogger("nufed").setLevel(logging.INFO)
    logging.getLogger("nufed").addHandler(Lines())
    return wants_traceback


def carry_out(
    parser: argparse.ArgumentParser,
    act: Callable[[argparse.Namespace], None],
    arguments: Sequence[str] | None,
) -> None:
    """Run a command; a person's mistake ends in one line on stderr and exit status 2.

    Parameters
    ----------
    parser
        Of its command line; its `prog` names the command.
    act
        What it does with what was typed.
    arguments
        What was typed; None: that of this process.
    """
    from nufed.cli.failures import one_line  # imported here, as nufed-keys starts at once

    wants_traceback = prepare()
    given = parser.parse_args(arguments)
    try:
        act(given)
    except KeyboardInterrupt as error:
        fail(parser.prog, str(error) or "interrupted", EXIT_INTERRUPTED)
    except Exception as error:
        line = one_line(error)
        if line is None or wants_traceback:
            raise
        fail(parser.prog, line)


def _tell(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print the traceback of a defect of ours; others may have written what the error says."""
    lines = "".join(traceback.format_exception(kind, error, trace))
    print(printable(lines, lines=True), end="", file=sys.stderr)


class Lines(logging.Handler):
    """Show what is logged as plain lines, above a progress bar where there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print to what the streams are now: a progress bar takes their place while it runs.

        A line that finds no room, where a file takes them on a full disk, is no reason to end.
        """
        stream = sys.stderr if record.levelno >= logging.WARNING else sys.stdout
        try:
            print(printable(record.getMessage()), file=stream)
        except BrokenPipeError:
            raise  # nobody reads on, which ends a command
        except OSError:
            pass


class Parser(argparse.ArgumentParser):
    """A parser of a command line that is told of in one line where it is wrong.

    Parameters
    ----------
    keys
        What may be typed as key=value, and may so be meant by an option that does not exist.
    """

    def __init__(self, *args: Any, keys: Sequence[str] = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.keys = keys

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse; a word with a leading dash that is no option may be a file's name."""
        words = sys.argv[1:] if args is None else list(args)
        for i, word in enumerate(words):
            known = word.partition("=")[0] in self._option_string_actions
            if word.startswith("-") and not known and os.path.lexists(word):
                words[i] = f"./{word}"
        return super().parse_known_args(words, namespace)

    def error(self, message: str) -> NoReturn:
        """End with one line instead of the usage and one line."""
        fail(self.prog, complaint(self, message, self.keys))


def words_parser(
    prog: str, usage: str, keys: Sequence[str], description: str, epilog: str
) -> Parser:
    """Return the parser of a command whose words are key=value, and what stands beside them."""
    parser = Parser(
        prog=prog,
        usage=f"{prog} [-h] {usage}",
        keys=keys,
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("words", nargs="*", metavar="key=value", help=argparse.SUPPRESS)
    return parser


def complaint(parser: argparse.ArgumentParser, message: str, keys: Sequence[str] = ()) -> str:
    """Return what a parser complains of in our words, with the nearest option."""
    from nufed.conf.errors import nearest  # imported here, as nufed-keys starts at once

    if found := re.fullmatch(r"unrecognized arguments: (\S+).*", message, re.DOTALL):
        options = [o for o in parser._option_string_actions if o.startswith("--")]
        typed = {f"--{key}": f"{key}=…" for key in keys}
        name, _, value = found[1].partition("=")
        if name.removeprefix("--") in keys:
            return f"{found[1]}: no such option; write {name.removeprefix('--')}={value or '…'}"
        return f"{found[1]}: no such option; {nearest(name, [*options, *typed], typed)}"
    if found := re.search(r"invalid choice: '(.*)' \(choose from (.*)\)", message):
        choices = re.findall(r"[^', ]+", found[2])
        return f"{found[1]}: no such choice; {nearest(found[1], choices)}"
    return message


def count(least: int) -> Callable[[str], int]:
    """Return what reads an argument that must be a whole number from `least` on."""

    def read(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text}: must be a whole number from {least} on")
        return int(text)

    return read


def fail(command: str, line: str, status: int = EXIT_USER_ERROR) -> NoReturn:
    """End a command in one line on stderr."""
    print(printable(f"{command}: {line}"), file=sys.stderr)
    sys.exit(status)
