"""`nufed-data`: check what is in one's own data, and how to train on it; prepare a table for it."""

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from nufed.cli.command import Parser, carry_out
from nufed.cli.data_prepare import EXAMPLES as OF_PREPARE
from nufed.cli.data_prepare import prepare
from nufed.conf.compose import compose_config
from nufed.conf.errors import InputError
from nufed.conf.schema import Config
from nufed.conf.words import apart, command_line, for_hydra, for_shell, path_of, there, written
from nufed.tasks.private import NAME as PRIVATE

if TYPE_CHECKING:
    from nufed.cli.data_findings import Found
    from nufed.server_app.terminal import Terminal
    from nufed.tasks.task import Task

COMMAND = "nufed-data"
EXAMPLES = """\
examples:
  nufed-data check mine.npz
  nufed-data check mine.parquet dataset.features=[age,weight] dataset.target=ill
  nufed-data check photos/                             photos/client/class/image.png
  nufed-data check dataset=hf dataset.path=mine.csv dataset.features=[age] dataset.target=ill
  nufed-data check dataset=private mine.npz            a SuperNode's own; what the server is told
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command."""
    carry_out(_parser(), lambda given: given.act(given.what), arguments)


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
            f"{name}: is no .npz, .parquet or folder of images; a table with text and gaps is for "
            f"{COMMAND} prepare; for CSV or JSON of numbers say dataset=hf {for_shell(named)} "
            "dataset.features=… dataset.target=…"
        )
    return [f"dataset={kind}", named, *rest]


def _check(given: Sequence[str]) -> None:
    """Check what is named, and say how to train on it."""
    # Imported here, and below, so that --help and a mistyped key answer at once.
    from nufed.server_app.terminal import Terminal

    if f"dataset={PRIVATE}" in given:
        _check_own(given)
        return
    words, console = overrides(given), Terminal()
    config = compose_config(words)
    words += _advised(_look(config, config.dataset, console), words, config)
    task = _tried(words, console)
    console.say("")
    console.say(f"To train, with a model of {task.size}:")
    console.say(f"  {command_line('nufed', words)}")
    console.say("Step sizes are chosen before the first round, unless you set them.")


def _check_own(given: Sequence[str]) -> None:
    """Check a SuperNode's own file, and say what the run on it has to be told."""
    import numpy as np

    from nufed.server_app.terminal import Terminal
    from nufed.tasks.private import Local, described, own_file
    from nufed.tasks.store import load_rows
    from nufed.tasks.task import federated

    files, words = apart(given)
    words, console = for_hydra(words), Terminal()
    if len(files) != 1:
        raise InputError(
            f"dataset={PRIVATE}: the rows are with the clients; name one SuperNode's file beside it"
        )
    one_class = "keep" if "dataset.one_class=keep" in words else "refuse"
    with console.status("reading"):
        rows, _ = load_rows(own_file({"one_class": one_class}, files[0]))
    assert rows.client is not None
    here = len(np.unique(rows.client))
    words = _with({"engine": "deployment"}, words)
    words = _with({f"dataset.{k}": v for k, v in described(rows.x, rows.y).items()}, words)
    elsewhere = {"engine.superlink": "localhost:0", "dataset.num_clients": here}
    config = compose_config(_with(elsewhere, words))
    federated(config, Local(files[0], 0, 1))  # or what was said does not fit the file
    of = _look(config, own_file(config.dataset, files[0]), console)
    words += [word for word in _advised(of, words, config) if not word.startswith("evaluation.")]
    task = _tried(_with(elsewhere, words), console)
    unknown = {"engine.superlink": "SERVER:PORT", "dataset.num_clients": "N"}
    stands = [f"{key}={value}" for key, value in unknown.items() if key not in _keys(words)]
    console.say("")
    console.say(f"For the run, whose server sees no rows, with a model of {task.size}:")
    console.say(f"  {command_line('nufed', [*words, *stands])}")
    if "dataset.num_clients" not in _keys(words):
        console.say(f"N is how many clients all SuperNodes have together, {here} of them here.")


def _with(values: dict[str, Any], words: Sequence[str]) -> list[str]:
    """Return overrides and, of those that are not among them, values."""
    more = {key: value for key, value in values.items() if key not in _keys(words)}
    return [*words, *(f"{key}={written(value)}" for key, value in more.items())]


def _keys(words: Sequence[str]) -> set[str]:
    return {word.lstrip("+").partition("=")[0] for word in words}


def _look(config: Config, dataset: dict[str, Any], console: "Terminal") -> "Found":
    """Show what is in a data set; return it."""
    from nufed.cli.data_findings import found, notes, spread
    from nufed.cli.data_hopes import hopes
    from nufed.cli.data_text import clients_table, outline
    from nufed.tasks.store import load, load_rows
    from nufed.tasks.task import require_computable

    with console.status("reading"):
        rows, _ = load_rows(dataset)
        data = load(dataset, config.partition)
        require_computable(data, config)
        of, x = found(rows, data, natural=config.partition.partitioner is None), spread(rows.x)
        remarks = [*data.partition.not_kept(config.partition.name), *notes(of, x)]
        hoped = hopes(of, x)
    for line in outline(of, x, dataset.get("path") or dataset["name"]):
        console.say(line)
    console.print(clients_table(of))
    for remark in remarks:
        console.say(f"! {remark}")
    console.say("What can be hoped for:")
    for line in hoped:
        console.say(f"  {line}")
    return of


def _advised(of: "Found", words: Sequence[str], config: Config) -> list[str]:
    """Return overrides that suit the data, beside those that are given."""
    from nufed.cli.data_findings import advised

    return advised(of, _keys(words), config)


def _tried(words: Sequence[str], console: "Terminal") -> "Task":
    """Return the task that a command would have."""
    from nufed.tasks.task import build

    with console.status("trying the model"):
        return build(compose_config([*words]))


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog=COMMAND,
        description="Look at a data set before training on it; prepare a table for training.",
        epilog=EXAMPLES + OF_PREPARE.partition("\n")[2],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="check | prepare")
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
    check.set_defaults(act=_check)
    table = commands.add_parser(
        "prepare",
        help="make of a table, with text and gaps, rows to train on",
        description="Make of a table, with text, gaps and different scales, rows to train on.",
        epilog=OF_PREPARE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    table.prog = COMMAND
    table.add_argument(
        "what",
        nargs="+",
        help="a .csv, .tsv or .parquet file; and client=COLUMN target=COLUMN, or like=FILE.json; "
        "besides test=COLUMN, drop=[COLUMN,…], task=classes|real, out=FILE.npz",
    )
    table.set_defaults(act=prepare)
    return parser


if __name__ == "__main__":
    main()
