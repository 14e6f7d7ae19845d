"""How much memory Arrow's tables take, as their files declare, before any is asked for."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from nufed.conf.errors import InputError
from nufed.conf.memory import require_room


def require_room_for_parquet(files: Iterable[Path | str], columns: int, where: str) -> None:
    """Raise unless there is memory for some columns of Parquet files, by their footers.

    At a byte a value at least: a file may say the same value a million times in a few bytes, and
    of lists not even their lengths stand there. What takes more all the same finds the memory
    limited; see `nufed.conf.memory.limited`.

    Raises
    ------
    InputError
        If there is not, or a footer counts what cannot be.
    """
    from pyarrow import parquet

    rows = 0
    for file in files:
        footer = parquet.read_metadata(file)
        # Of a column, Arrow ends the process where its part of the footer is damaged.
        parts = [footer.row_group(i).num_rows for i in range(footer.num_row_groups)]
        if min(parts, default=0) < 0 or sum(parts) != footer.num_rows:
            raise InputError(f"{where}: counts {footer.num_rows} rows, but {sum(parts)} in parts")
        rows += footer.num_rows
    require_room(rows * columns, where, f"its {rows:,} rows declare at least")


def require_room_for_text(column: Any, name: str, where: str) -> None:
    """Raise unless there is memory for a column of text [N] as an array, all as wide as the widest.

    A dictionary holds each text once, so that a short file may stand for very much of it.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    texts = column.dictionary if pa.types.is_dictionary(column.type) else column
    if pa.types.is_string(texts.type) or pa.types.is_large_string(texts.type):
        widest = pc.max(pc.binary_length(texts)).as_py() or 0
        require_room(4 * widest * len(column), where, f"column {name!r} takes")
