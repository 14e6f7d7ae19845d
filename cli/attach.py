"""`nufed attach`: follow a run of a SuperLink that was submitted from here, or from elsewhere."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from nufed.cli.command import carry_out, words_parser
from nufed.conf.errors import InputError, nearest
from nufed.conf.words import apart, for_hydra, path_of

COMMAND = "nufed attach"
WAY = "engine.superlink", "engine.root_certificates", "engine.insecure"
KEYS = *WAY, "out", "tracking", "callbacks", "progress", "trust"
ENGINE = "engine=deployment"
EPILOG = """\
keys:
  engine.superlink=PLACE          host:port, or a name in Flower's config.toml; run folders know it
  engine.root_certificates=FILE   with host:port: the CA's certificate, for TLS
  engine.insecure=true            plain text to another machine
  out=FOLDER                      a new run folder; by default runs/NAME/TIME, that of its submitter
  tracking=…, callbacks=…         as of a run; it ends where a callback asks for it
  progress=bar                    how it is shown: auto, bar, lines, none
  trust=MODULE                    whose code may be called where another's run names it

Ctrl-C leaves the run where it is, and says how to come back.

examples:
  nufed attach runs/digits-nufed/2026-01-01_12-00-00
  nufed attach 5242880107334905856 engine.superlink=127.0.0.1:8000
"""


class Given(NamedTuple):
    """What was typed."""

    run: str
    out: Path | None
    words: list[str]
    """Overrides besides."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command."""
    carry_out(_parser(), lambda given: _attach(read(given.words)), arguments)


def read(words: Sequence[str]) -> Given:
    """Return what is meant by the words that were typed.

    Raises
    ------
    InputError
        If a word cannot be used.
    """
    named, options = apart(words)
    if len(named) != 1:
        said = f"{named[1]}: is one too many" if named else "no run was named"
        raise InputError(f"{said}; name a run folder, or the id of a run, and key=value beside it")
    (run,), out, others = named, None, list[str]()
    for word in options:
        key, _, value = word.partition("=")
        if key == "out":
            out = path_of(value)
        elif key in KEYS or key.startswith(("tracking.", "callbacks.")):
            others.append(word)
        elif word != ENGINE:
            raise InputError(f"{key}: no such key; {nearest(key, KEYS)}")
    if out is not None and not run.isdecimal():
        raise InputError(f"out={out}: is for a run without a folder here; leave it out")
    return Given(run, out, for_hydra(others))


def _attach(given: Given) -> None:
    # Imported here, so that --help and a mistyped key answer at once.
    from nufed.cli.submitted import Submitted, followed
    from nufed.cli.watching import watch_anew, watch_folder

    if not given.run.isdecimal():
        watch_folder(path_of(given.run), given.words)
        return
    here = given.out or followed().get(given.run)
    known = Submitted.of(here) if here else None
    if here and known and known.run_id == given.run:
        watch_folder(here, given.words, f"run {given.run} has a folder here: {here}")
    else:
        watch_anew(given.run, given.out, given.words)


def _parser() -> argparse.ArgumentParser:
    return words_parser(
        COMMAND,
        "RUN [key=value …]",
        KEYS,
        "Follow a run of a SuperLink, here or from another machine: what was, what "
        "comes, and its\nrun folder, as if whoever submitted it had stayed. RUN is a run folder "
        "or a run's id.",
        EPILOG,
    )


if __name__ == "__main__":
    main()
