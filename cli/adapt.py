"""`nufed-adapt`: a client's personal model, from a trained one and its own rows, where they are."""

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import MISSING, OmegaConf

from nufed.cli.command import Parser, carry_out
from nufed.conf.errors import InputError, nearest
from nufed.conf.words import escaped, path_of

if TYPE_CHECKING:
    from nufed.client_app.personal import Personal

COMMAND = "nufed-adapt"
FILE = "personal.safetensors"
FORMATS = ".onnx", ".pt2"
EPILOG = """\
keys:
  checkpoint=RUN       a run folder (config.yaml and model.safetensors are enough), or its model
  data=FILE            the client's own rows: x, y, and optionally test (held out) and client
  client=ID            which client, where the file has several
  steps=N              fine-tuning steps; by default the run's ν
  alpha=A, batch=D     step size, and rows a step (null: all); by default the run's
  test_fraction=P      part of the rows to hold out and measure on; 0 takes all to fine-tune on
  device=cpu           where to compute
  trust=MODULE         whose code may be called where another's run names it, as its model
  out=PLACE            a folder, or a file.safetensors; by default personal.safetensors here
  export=onnx          or pt2, or onnx,pt2: beside it, for any number of rows

examples:
  nufed-adapt checkpoint=runs/digits-nufed/2026-01-01_12-00-00 data=mine.npz
  nufed-adapt checkpoint=model.safetensors data=mine.npz steps=10 alpha=0.01
  nufed-adapt checkpoint=run data=mine.npz client=7 export=onnx out=clients/7
"""


@dataclass
class Request:
    """What may be typed; what is not is as in the run."""

    checkpoint: str = MISSING
    data: str = MISSING
    client: str | None = None
    steps: int | None = None
    alpha: float | None = None
    batch: int | None = MISSING
    test_fraction: float | None = None
    device: str = "cpu"
    out: str = FILE
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
    for key in ("checkpoint", "data"):
        if not OmegaConf.select(typed, key, default=""):
            raise InputError(f"{key}: has no value; give one as {key}=…")
    return {str(key): typed[key] for key in typed if not OmegaConf.is_missing(typed, str(key))}


def _adapt(typed: dict[str, Any]) -> None:
    # Imported here, so that --help and a mistyped key answer at once.
    from nufed.client_app.export import require_available
    from nufed.client_app.personal import personalize
    from nufed.server_app.terminal import Terminal

    out, forms = typed.pop("out"), list(filter(None, typed.pop("export").split(",")))
    for form in forms:
        require_available(form)
    files = targets(out, forms)
    console = Terminal()
    with console.status("fine-tuning"):
        personal = personalize(**typed)
    require_free(files)  # now: of two mistakes, that in what is read is the one to mend
    _show(console, personal, typed["data"])
    with console.status("writing"):
        lines = write(personal, files)
    for line in lines:
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


def write(personal: "Personal", files: Sequence[Path]) -> list[str]:
    """Write all of the files, or none; return what to say of them.

    Raises
    ------
    InputError
        If they cannot be written, or an export is not the same model.
    """
    from nufed.client_app.export import export

    file, *exports = files
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".nufed-", dir=file.parent) as drafts:
            personal.save(Path(drafts) / file.name)
            off = [export(personal, Path(drafts) / each.name) for each in exports]
            for each in files:
                (Path(drafts) / each.name).rename(each)
    except OSError as error:
        raise InputError(
            f"{file.parent}: cannot be written ({error.strerror}); name another folder as out=…"
        ) from error
    said = [
        f"exported: {each}; its outputs differ by {by:.1g} at most"
        for each, by in zip(exports, off, strict=True)
    ]
    return [f"personal model: {file}", *said]


def _show(console: "Any", personal: "Personal", data: str) -> None:
    """Print what was done, and the curve."""
    from nufed.cli.adapt_text import curve_table, heading, sentence

    for line in heading(personal, data):
        console.say(line)
    if personal.curve:
        console.print(curve_table(personal))
    console.say(sentence(personal))


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog=COMMAND,
        usage=f"{COMMAND} [-h] checkpoint=RUN data=FILE [key=value …]",
        keys=[field.name for field in fields(Request)],
        description="Fine-tune a run's model on a client's own rows, here, and show how good it is "
        "after\neach step on rows held out. Neither the run's data nor Flower is needed.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("words", nargs="*", metavar="key=value", help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    main()
