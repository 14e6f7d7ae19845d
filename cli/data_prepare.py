"""`nufed-data prepare`: a table of text, gaps and different scales as rows to train on."""

import os
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nufed.conf.errors import InputError, nearest
from nufed.conf.words import apart, command_line, path_of, written

if TYPE_CHECKING:
    from nufed.server_app.terminal import Terminal
    from nufed.tasks.rows import Rows
    from nufed.tasks.table_transform import Description, Prepared

OF_NEW = ("client", "target", "test", "drop", "task")
"""Keys that say what a description says already."""
KEYS = (*OF_NEW, "like", "out", "overwrite")
TASKS = ("classes", "real")
NAMED = 5  # clients and columns of which something is said
EXAMPLES = """\
examples:
  nufed-data prepare visits.csv client=ward target=result                 visits.npz, visits.json
  nufed-data prepare visits.csv client=ward target=result test=held_out drop=[name,phone]
  nufed-data prepare visits.parquet client=ward target=stars task=real out=stars.npz
  nufed-data prepare visits.csv client=ward target=result drop=[id] overwrite=true   once more
  nufed-data prepare new.csv like=visits.json out=new.npz                 the same of other rows
"""


@dataclass(frozen=True)
class Request:
    """What may be typed."""

    table: str
    out: Path
    client: str = ""
    target: str = ""
    test: str | None = None
    drop: tuple[str, ...] = ()
    task: str | None = None
    like: str | None = None
    overwrite: bool = False


def request(words: Sequence[str]) -> Request:
    """Read the words of a command: a table, and key=value.

    Raises
    ------
    InputError
        For an unknown, missing or repeated key, or a value that it cannot have.
    """
    files, others = apart(words)
    given = dict[str, str]()
    for word in others:
        key, _, value = word.partition("=")
        if key not in KEYS:
            raise InputError(f"{key}: no such key; {nearest(key, KEYS)}")
        if key in given or not value:
            said = "comes twice; give it once" if key in given else "has no value"
            raise InputError(f"{key}: {said}")
        given[key] = value
    if len(files) != 1:
        raise InputError(
            f"{files[1]}: name one table, beside key=value" if files else "name a table, a CSV file"
        )
    (table,) = files
    for key in OF_NEW:
        if "like" in given and key in given:
            raise InputError(f"{key}={given[key]}: {given['like']} says it already; leave it out")
    for key in ("client", "target"):
        if "like" not in given and key not in given:
            raise InputError(f"{key}: has no value; name its column as {key}=…")
    if given.get("task") not in (None, *TASKS):
        raise InputError(f"task={given['task']}: must be {' | '.join(TASKS)}")
    overwrite = given.pop("overwrite", "false")
    if overwrite not in ("true", "false"):
        raise InputError(f"overwrite={overwrite}: must be true | false")
    out = path_of(given.pop("out", f"{path_of(table).stem}.npz"))
    if out.suffix != ".npz":
        raise InputError(f"out={out}: must end in .npz")
    drop = re.sub(r"^\[(.*)\]$", r"\1", given.pop("drop", ""), flags=re.DOTALL)
    names = tuple(dict.fromkeys(name.strip() for name in drop.split(",") if name.strip()))
    return Request(table, out, drop=names, overwrite=overwrite == "true", **given)


def prepare(words: Sequence[str]) -> None:
    """Prepare a table, and say what became of it and how to train on it."""
    asked = request(words)
    # Imported here, so that --help and a mistyped key answer at once.
    from nufed.cli.data_prepare_text import columns_table, outline
    from nufed.conf.compose import compose_config
    from nufed.server_app.terminal import Terminal
    from nufed.tasks.partitions import partition
    from nufed.tasks.table_files import read_table
    from nufed.tasks.table_fit import fit
    from nufed.tasks.table_transform import apply, read_description

    description, console = asked.out.with_suffix(".json"), Terminal()
    _require_free([asked.out, *([description] if asked.like is None else [])], asked.overwrite)
    with console.status("reading"):
        known = None if asked.like is None else read_description(asked.like)
        table = read_table(asked.table)
    with console.status("preparing"):
        of = known or fit(
            table,
            client=asked.client,
            target=asked.target,
            test=asked.test,
            drop=asked.drop,
            task=asked.task,
        )
        prepared = apply(of, table, asked.like or str(description))
        if known is None:  # or what is written could not be trained on
            named = f"dataset.path={written(asked.out)}"
            partition(prepared.rows, compose_config(["dataset=npz", named]).partition)
    _write(prepared.rows, asked.out, {} if known else {description: of.text()})
    for line in outline(of, prepared, table, asked.like):
        console.say(line)
    console.print(columns_table(of, prepared))
    if known is None:
        _of_training(console, of, prepared, asked.out, description)
    else:
        _of_others(console, prepared, asked.out)


def _require_free(files: Sequence[Path], overwrite: bool) -> None:
    """Raise an `InputError` for what is there already, unless it may be replaced."""
    there = [file for file in files if file.exists() or file.is_symlink()]
    for file in there:
        if overwrite and not file.is_file():
            raise InputError(f"{file}: is no file, and is not replaced; name another as out=…")
    if there and not overwrite:
        names, verb = ", ".join(map(str, there)), "are" if len(there) > 1 else "is"
        raise InputError(
            f"{names}: {verb} there already; say overwrite=true, or name another as out=…"
        )


def _write(rows: "Rows", out: Path, texts: dict[Path, str]) -> None:
    """Write rows, and texts beside them, in place of what is there; or nothing."""
    import numpy as np

    arrays: dict[str, Any] = {k: v for k, v in rows._asdict().items() if v is not None}
    folder = out.parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".nufed-", dir=folder) as drafts:
            np.savez(Path(drafts) / out.name, **arrays)
            for file, text in texts.items():
                (Path(drafts) / file.name).write_text(text)
            _take_places(Path(drafts), (*texts, out))
    except OSError as error:
        raise InputError(
            f"{folder}: cannot be written ({error.strerror}); name another file as out=…"
        ) from error


def _take_places(drafts: Path, files: Sequence[Path]) -> None:
    """Move drafts to where they belong, all of them: if one cannot, what was there comes back."""
    former = {file: drafts / f"former-{file.name}" for file in files if os.path.lexists(file)}
    taken = list[Path]()
    try:
        for file in files:
            taken.append(file)
            if file in former:
                file.rename(former[file])
            (drafts / file.name).rename(file)
    except OSError:
        for file in taken:
            if file in former and former[file].exists():
                former[file].replace(file)
            elif file not in former:
                file.unlink(missing_ok=True)
        raise


def _of_training(
    console: "Terminal", of: "Description", prepared: "Prepared", out: Path, description: Path
) -> None:
    """Say what statistics saw, and how to train."""
    if of.test is None:
        scale = " and the target's scale" * (of.target.classes is None)
        console.say(
            f"! medians, means, scales, categories{scale} are of all rows, those among them that "
            "will be tested on; name a test column to have them of train rows alone"
        )
    if one_class := _of_one_class(prepared.rows):
        n, some = len(one_class), ", ".join(one_class[:NAMED])
        console.say(
            f"! {n} client{'s have' if n > 1 else ' has'} one class only ({some}"
            f"{', …' * (n > NAMED)}), and the command keeps {'them' if n > 1 else 'it'}"
        )
    more = ["dataset.one_class=keep"] * bool(one_class)
    words = ["dataset=npz", f"dataset.path={written(out)}", *more]
    with console.status("looking for what suits"):
        words += _advised(words, of.test is not None)
    console.say(f"Written: {out}, and {description}, by which like=… does the same to other rows.")
    console.say("To look at it, and to train:")
    console.say(f"  {command_line('nufed-data', ['check', str(out), *more])}")
    console.say(f"  {command_line('nufed', words)}")


def _of_others(console: "Terminal", prepared: "Prepared", out: Path) -> None:
    """Say what rows are for that were prepared as others were."""
    import numpy as np

    client = prepared.rows.client
    several = client is not None and len(np.unique(client)) > 1
    more = ["dataset.one_class=keep"] * bool(client is not None and _of_one_class(prepared.rows))
    words = ["checkpoint=RUN", f"data={out}", *(["clients=all"] if several else [])]
    console.say(f"Written: {out}")
    console.say("For personal models of a run's, or as a SuperNode's own rows (dataset=private):")
    console.say(f"  {command_line('nufed-adapt', words)}")
    console.say(f"  {command_line('nufed-data', ['check', 'dataset=private', *more, str(out)])}")


def _of_one_class(rows: "Rows") -> list[str]:
    """Return which clients have one class in all of their rows."""
    import numpy as np

    from nufed.tasks.ids import numbered

    assert rows.client is not None
    if rows.y.dtype != np.int64:
        return []
    ids, owner = numbered(rows.client)
    pairs = np.unique(np.stack([owner, rows.y]), axis=1)
    return [str(each) for each in ids[np.bincount(pairs[0]) == 1]]


def _advised(words: Sequence[str], own_split: bool) -> list[str]:
    """Return overrides that suit the data, as `nufed-data check` has them."""
    from nufed.cli.data_findings import Found, advised
    from nufed.conf.compose import compose_config
    from nufed.tasks.store import load

    config = compose_config([*words])
    of = Found(load(config.dataset, config.partition), own_split)
    return advised(of, {"dataset"}, config)
