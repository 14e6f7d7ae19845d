"""`nufed-adapt`: personal models, from a trained one and clients' own rows, where they are."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import MISSING, OmegaConf

from nufed.cli.command import carry_out, words_parser
from nufed.conf.errors import InputError, nearest
from nufed.conf.words import escaped, path_of

if TYPE_CHECKING:
    from nufed.server_app.terminal import Terminal

COMMAND = "nufed-adapt"
FILE, FOLDER = "personal.safetensors", "personal"
AUTO = "auto"
WHICH = "all", "participating", "new"
FORMATS = ".onnx", ".pt2"
EPILOG = """\
keys:
  checkpoint=RUN       a run folder (config.yaml and model.safetensors are enough), or its model
  data=FILE            the clients' own rows: x, y, and optionally test (held out) and client; or,
                       where nufed-data prepare made the run's, a .csv, .tsv or .parquet table of
                       the same columns; without it, the run's own data, with the rows held out
                       that were in training
  client=ID            which client, where there are several
  clients=all          a model for each; of the run's own data also participating, or new
  steps=N              fine-tuning steps; by default chosen for each client, 0 among them, on rows
                       held out of those to fine-tune on
  alpha=A, batch=D     step size, and rows a step (null: all); by default the run's
  test_fraction=P      part of the rows to hold out and measure on; 0 takes all to fine-tune on
  device=cpu           where to compute
  trust=MODULE         whose code may be called where another's run names it, as its model
  out=PLACE            a folder, or a file.safetensors; by default personal.safetensors here, and
                       the folder personal for all clients
  export=onnx          or pt2, or onnx,pt2: beside it, for any number of rows

examples:
  nufed-adapt checkpoint=runs/digits-nufed/2026-01-01_12-00-00 data=mine.npz
  nufed-adapt checkpoint=model.safetensors data=mine.npz steps=10 alpha=0.01
  nufed-adapt checkpoint=run data=mine.npz client=7 export=onnx out=clients/7
  nufed-adapt checkpoint=run data=mine.npz clients=all out=clients
"""


@dataclass
class Request:
    """What may be typed; what is not is as in the run."""

    checkpoint: str = MISSING
    data: str | None = None
    client: str | None = None
    clients: str | None = None
    steps: str = AUTO
    alpha: float | None = None
    batch: int | None = MISSING
    test_fraction: float | None = None
    device: str = "cpu"
    out: str | None = None
    export: str = ""
    trust: str = MISSING


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command."""
    carry_out(_parser(), lambda given: _adapt(request(given.words)), arguments)


def request(words: Sequence[str]) -> dict[str, Any]:
    """Read key=value words; of keys that are not typed, only those with a default are there.

    Raises
    ------
    InputError, OmegaConfBaseException
        For a word that is no key=value, an unknown or missing key, or a value of the wrong type.
    """
    known = [field.name for field in fields(Request)]
    typed = OmegaConf.structured(Request)
    for word in words:
        key, sign, value = word.partition("=")
        if not sign:
            raise InputError(f"{word}: write key=value, as in checkpoint=runs/… data=mine.npz")
        if key not in known:
            raise InputError(f"{key}: no such key; {nearest(key, known)}")
        if value != "null":
            typed[key] = escaped(value)
        elif key == "batch":  # null takes all rows; of the others it means the default
            typed[key] = None
    if not OmegaConf.select(typed, "checkpoint", default=""):
        raise InputError("checkpoint: has no value; give one as checkpoint=…")
    found = {str(key): typed[key] for key in typed if not OmegaConf.is_missing(typed, str(key))}
    return found | {"steps": _steps(found["steps"]), "clients": _clients(found)}


def _steps(text: str) -> int | str:
    if text == AUTO:
        return text
    try:
        return int(text)
    except ValueError as error:
        raise InputError(f"steps={text}: must be an integer, or {AUTO}") from error


def _clients(found: dict[str, Any]) -> str | None:
    which: str | None = found["clients"]
    if which is not None and which not in WHICH:
        raise InputError(
            f"clients={which}: must be {' | '.join(WHICH)}; one is named as client={which}"
        )
    if which is not None and found["client"] is not None:
        raise InputError(
            f"clients={which}: and client={found['client']} besides; leave one of them out"
        )
    return which


def _adapt(typed: dict[str, Any]) -> None:
    # Imported here, so that --help and a mistyped key answer at once.
    from nufed.client_app.export import require_available
    from nufed.server_app.terminal import Terminal

    out, forms = typed.pop("out"), list(dict.fromkeys(filter(None, typed.pop("export").split(","))))
    for form in forms:
        require_available(form)
    which, console = typed.pop("clients"), Terminal()
    if which is None:
        _one(console, typed, targets(FILE if out is None else out, forms))
    else:
        _all(console, typed, which, FOLDER if out is None else out, forms)


def _one(console: "Terminal", typed: dict[str, Any], files: list[Path]) -> None:
    """Make the personal model of one client."""
    from nufed.cli.adapt_files import write
    from nufed.cli.adapt_text import curve_table, heading, sentence
    from nufed.client_app.from_run import personalize

    with console.status("fine-tuning"):
        personal = personalize(**typed)
    require_free(files)  # now: of two mistakes, that in what is read is the one to mend
    _say_units(console, personal.task.data.table)
    for line in heading(personal, typed["data"] or "the run's own data"):
        console.say(line)
    if personal.curve:
        console.print(curve_table(personal))
    console.say(sentence(personal))
    with console.status("writing"):
        lines = write(personal, files)
    for line in lines:
        console.say(line)


def _all(
    console: "Terminal", typed: dict[str, Any], which: str, out: str, forms: Sequence[str]
) -> None:
    """Make those of all clients."""
    from nufed.cli.adapt_all import members, place_of, progress, write_all
    from nufed.cli.adapt_all_text import heading, report, table
    from nufed.client_app.from_run import fine_tuner

    del typed["client"]
    with console.status("reading"):
        tuner = fine_tuner(**typed)
        clients = members(tuner, which, of_run=typed["data"] is None)
    place = place_of(out)
    _say_units(console, tuner.task.data.table)
    for line in heading(tuner, len(clients), typed["data"] or "the run's own data"):
        console.say(line)
    with progress(console, len(clients)) as advance:
        outcome = write_all(tuner, clients, place, forms, advance)
    console.print(table(outcome))
    for line in report(outcome, place):
        console.say(line)


def _say_units(console: "Terminal", table: str | None) -> None:
    """Say what a table's real target is scaled by, in which loss and metrics are."""
    if table is None:
        return
    from nufed.tasks.table_words import in_units

    if (line := in_units(table)) is not None:
        console.say(line)


def targets(out: str, forms: Sequence[str]) -> list[Path]:
    """Return the files to write: the personal model, then its exports beside it.

    Raises
    ------
    InputError
        If `out` is named as an export.
    """
    place = path_of(out).absolute()
    if place.suffix in FORMATS:
        raise InputError(
            f"out={out}: names the personal model; write {Path(out).with_suffix('.safetensors')}, "
            f"and export={place.suffix[1:]} goes beside it"
        )
    file = place if place.suffix == ".safetensors" and not place.is_dir() else place / FILE
    return [file, *(file.with_suffix(f".{form}") for form in dict.fromkeys(forms))]


def require_free(files: Sequence[Path]) -> None:
    """Raise an `InputError` if one of the files is there already."""
    for each in files:
        if each.exists():
            raise InputError(f"{each}: is there already; delete it, or name another as out=…")


def _parser() -> argparse.ArgumentParser:
    return words_parser(
        COMMAND,
        "checkpoint=RUN [data=FILE] [key=value …]",
        [field.name for field in fields(Request)],
        "Fine-tune a run's model on a client's own rows, here, by as many steps as "
        "serve it,\nand show how good it is on rows held out. Neither the run's data nor Flower is "
        "needed.",
        EPILOG,
    )


if __name__ == "__main__":
    main()
