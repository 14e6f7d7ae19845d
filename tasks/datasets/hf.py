"""Any data set of Hugging Face `datasets`: on the hub, or in a file or folder here."""

import glob
from typing import Any

from nufed.conf.errors import InputError, reason
from nufed.conf.memory import limited
from nufed.conf.words import path_of
from nufed.tasks.datasets.sources import opened, readable, require_regular_files
from nufed.tasks.ids import WHOLE
from nufed.tasks.rows import Rows

NAME = "hf"
FORMATS = {".csv": "csv", ".json": "json", ".jsonl": "json", ".parquet": "parquet"}
SAVED = ("dataset_info.json", "dataset_dict.json")  # what `save_to_disk` leaves in a folder


def read(
    path: str | None,
    features: str | list[str],
    target: str,
    client: str | None = None,
    test: str | None = None,
    split: str | None = None,
    subset: str | None = None,
    size: int | list[int] | None = None,
    one_class: str = "refuse",
) -> Rows:
    """Read and check the columns of a data set.

    Parameters
    ----------
    path
        Its name on the hub, such as ``ylecun/mnist``; or a folder as `save_to_disk` wrote it, a
        folder of files that `load_dataset` knows, or a CSV, JSON or Parquet file.
    features
        The columns of x: one of images or lists, or several of numbers.
    target
        The column of y; text is taken for the names of classes.
    client
        The column that says whose a row is; None leaves that to `partition`.
    test
        The column of booleans that says which rows are for testing; None draws them.
    split
        Such as ``train``; None takes all, together.
    subset
        Of a data set on the hub that has several.
    size
        Height and width that images are scaled to, or one number for both.
    one_class
        ``refuse`` or ``keep`` clients whose rows are all of one class.

    Raises
    ------
    InputError
        If it cannot be found or reached, for a missing column, or what `checks.checked` refuses.
    """
    from nufed.tasks.datasets.columns import rows_of

    if not path:
        raise InputError("dataset.path: has no value; name a data set of the hub, or a folder")
    where = f"dataset.path={path}"
    with limited():
        table = _table(_load(path, subset, split, client, where), where)
    return rows_of(
        table,
        features=features,
        target=target,
        client=client,
        test=test,
        size=size,
        one_class=one_class,
        where=where,
    )


def _load(path: str, subset: str | None, split: str | None, client: str | None, where: str) -> Any:
    """Return the data set, with all of its splits joined if none is named."""
    import datasets

    datasets.disable_progress_bars()
    given = path_of(path)
    if given.is_dir():
        require_regular_files(given, where)
    elif given.exists():
        opened(given, where).close()
    saved = any((given / name).is_file() for name in SAVED)
    if given.is_dir() and not saved and glob.has_magic(str(given)):
        raise InputError(
            f"{where}: has one of * ? [ ] in its name, by which `datasets` would find other files; "
            "rename it"
        )
    try:
        if saved:
            loaded = datasets.load_from_disk(str(given))
        elif given.suffix in FORMATS and given.is_file():
            kind = FORMATS[given.suffix]
            options = _as_written(client) if kind == "csv" else {}
            loaded = datasets.load_dataset(kind, data_files=glob.escape(str(given)), **options)
        elif given.is_dir():
            csv = hasattr(datasets.load_dataset_builder(str(given), subset).config, "converters")
            options = _as_written(client) if csv else {}
            loaded = datasets.load_dataset(str(given), subset, **options)
        else:
            loaded = datasets.load_dataset(str(given) if given.exists() else path, subset)
    except Exception as error:  # of the hub's client, the network or a reader: of many kinds
        raise InputError(
            f"{where}: cannot be loaded ({reason(error):.200}); without a network, name a folder "
            "that datasets.save_to_disk wrote"
        ) from error
    if not isinstance(loaded, dict):
        if split is not None:
            raise InputError(f"dataset.split={split}: {path} has no splits; leave it null")
        return loaded
    if split is not None and split not in loaded:
        raise InputError(f"dataset.split={split}: {path} has {', '.join(loaded)}; name one of them")
    return loaded[split] if split else datasets.concatenate_datasets([*loaded.values()])


def _as_written(client: str | None) -> dict[str, Any]:
    """Return options by which the ids in a CSV are what is written: 007 is no 7, NA is a name."""
    return {} if client is None else {"converters": {client: _id}}


def _id(entry: str) -> bytes:
    """Return an entry as it is; blanks beside a number are not of it.

    As bytes: texts such as NA are empty entries to pandas, whatever made them.
    """
    number = entry.strip()
    return (number if WHOLE.fullmatch(number) else entry).encode()


def _table(dataset: Any, where: str) -> Any:
    """Return the data set as an Arrow table; images as the bytes of their files."""
    return readable(lambda: dataset.with_format("arrow")[:], where, "cannot be read")
