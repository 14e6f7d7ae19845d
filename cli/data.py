"""`nufed-data check`: what is in one's own data, what is amiss, and how to train on it."""

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from nufed.cli.command import Parser, carry_out
from nufed.conf.compose import compose_config
from nufed.conf.errors import InputError
from nufed.conf.schema import Config
from nufed.conf.words import apart, command_line, for_hydra, for_shell, path_of, there, written
from nufed.tasks.private import NAME as PRIVATE

if TYPE_CHECKING:
    from rich.table import Table

    from nufed.cli.data_findings import Found, Spread

COMMAND = "nufed-data"
EXAMPLES = """\
examples:
  nufed-data check mine.npz
  nufed-data check mine.parquet dataset.features=[age,weight] dataset.target=ill
  nufed-data check photos/                             photos/client/class/image.png
  nufed-data check dataset=hf dataset.path=mine.csv dataset.features=[age] dataset.target=ill
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command."""
    carry_out(_parser(), lambda given: _check(overrides(given.what)), arguments)


def overrides(words: Sequence[str]) -> list[str]:
    """Return the overrides that are meant: of a file, those that name it and its kind.

    Raises
    ------
    InputError
        If several files are named, or one whose kind cannot be told.
    """
    files, rest = apart(words)
    rest = for_hydra(rest)
    if not files:
        return rest
    name, *others = files
    path, named = path_of(name), f"dataset.path={written(name)}"
    if others:
        raise InputError(f"{others[0]}: name one file or folder, beside key=value")
    if not there(path):
        raise InputError(f"{name}: no such file or folder; name your data")
    if any(word.startswith("dataset=") for word in rest):
        return [*rest, named]
    if path.is_dir():
        kind = "parquet" if next(path.rglob("*.parquet"), None) else "image_folder"
    else:
        kind = {".npz": "npz", ".parquet": "parquet"}.get(path.suffix, "")
    if not kind:
        raise InputError(
            f"{name}: is no .npz, .parquet or folder of images; for CSV or JSON say dataset=hf "
            f"{for_shell(named)} dataset.features=… dataset.target=…"
        )
    return [f"dataset={kind}", named, *rest]


def _check(words: list[str]) -> None:
    # Imported here, so that --help and a mistyped key answer at once.
    from nufed.cli.data_findings import advice, found, notes, spread
    from nufed.server_app.terminal import Terminal
    from nufed.tasks.store import load, load_rows
    from nufed.tasks.task import build, require_computable

    config = compose_config(words)
    if config.dataset["name"] == PRIVATE:
        raise InputError(
            f"dataset={PRIVATE}: the rows are with the clients; check a client's file by its name"
        )
    console = Terminal()

    def say(*lines: str) -> None:
        for line in lines:
            console.say(line)

    with console.status("reading"):
        rows, _ = load_rows(config.dataset)
        data = load(config.dataset, config.partition)
        require_computable(data, config)
        of, x = found(rows, data, natural=config.partition.partitioner is None), spread(rows.x)
        lost = data.partition.not_kept(config.partition.name)
        remarks = [*lost, *notes(of, x)]
    say(*_outline(of, x, config))
    console.print(_clients(of))
    say(*(f"! {remark}" for remark in remarks))
    given = {word.lstrip("+").partition("=")[0] for word in words}
    advised = advice(of, given, config.algorithm["batch"]["support"])
    words = [*words, *(f"{key}={value}" for key, value in advised.items())]
    command = command_line("nufed", words)
    with console.status("trying the model"):
        task = build(compose_config(words))
    say("", f"To train, with a model of {task.size}:", f"  {command}")
    say("Step sizes are chosen before the first round, unless you set them.")


def _outline(of: "Found", x: "Spread", config: Config) -> list[str]:
    """Return what x and y are, a line each."""
    import numpy as np

    data = of.data
    name = config.dataset.get("path") or config.dataset["name"]
    kind = "numbers"
    if data.x.dtype == np.uint8:
        kind = "pixels, divided by 255" + "; tokens would be int64" * (data.x.ndim == 2)
    elif data.x.dtype.kind in "iu":
        kind = "tokens for a model that takes integers, else numbers"
    lines = [
        f"{name}: {of.rows.sum():,} rows of {of.count}",
        f"x: {data.x.dtype} {list(data.x.shape[1:])} from {x.low.min():.4g} to {x.high.max():.4g}, "
        f"{kind}",
    ]
    if not data.classes:
        y = data.y
        lines.append(
            f"y: {data.num_outputs} regression target{'s' * (data.num_outputs > 1)} from "
            f"{y.min():.4g} to {y.max():.4g}, mean {y.mean():.4g}, standard deviation {y.std():.4g}"
        )
        return lines
    classes = np.asarray(data.y, np.int64)
    counted = classes[classes >= 0]
    shares = np.bincount(counted) / len(counted)
    places = "" if data.y.ndim == 1 else f" at each of {list(data.y.shape[1:])} places"
    own = f", a client's own most frequent one in {of.usual:.0%}" if data.y.ndim == 1 else ""
    lines.append(
        f"y: {data.num_outputs} classes{places}; to say {int(shares.argmax())} always is right in "
        f"{shares.max():.0%}{own}"
    )
    return lines


def _clients(of: "Found") -> "Table":
    """Return how much the clients have, as a table."""
    import numpy as np
    from rich.table import Table

    table = Table()
    for column in ("a client's", "least", "median", "most"):
        table.add_column(column, justify="left" if column == "a client's" else "right")
    columns = {"rows": of.rows, "train rows": of.train, "test rows": of.rows - of.train}
    if of.classes is not None:
        columns["classes"] = of.classes
    for label, values in columns.items():
        table.add_row(label, *(f"{f(values):g}" for f in (np.min, np.median, np.max)))
    return table


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog=COMMAND,
        description="Look at a data set before training on it.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="check")
    check = commands.add_parser(
        "check",
        help="say what is there, what is amiss, and how to train on it",
        description="Say what is in a data set, what is amiss, and how to train on it.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    check.prog = COMMAND
    check.add_argument(
        "what", nargs="+", help="an .npz or .parquet file, or a folder; and overrides, as nufed's"
    )
    return parser


if __name__ == "__main__":
    main()
