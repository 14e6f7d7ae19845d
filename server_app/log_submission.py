"""What was submitted, which a run's log begins with: with it, one follows the run from anywhere."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Self

from nufed.conf.errors import reason
from nufed.conf.typed import Mistyped, made, parsed
from nufed.server_app.log_files import BrokenStream, Facts, LogFile
from nufed.server_app.log_records import KEY, RecordReader

SUBMISSION = "submission"
LARGEST = 2 << 20
"""Bytes of it that are read; it is little more than a config.yaml."""


@dataclass(frozen=True)
class Submission:
    """A run as it was submitted."""

    config: str
    """The configuration, as a text that `nufed.conf.compose.theirs` reads."""
    run_dir: str
    """The name of its folder on the server's side."""

    def to_bytes(self) -> bytes:
        """Return it as it travels."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def of(cls, lines: Iterable[str]) -> Self | None:
        """Return what was submitted, of the lines of a run's log from its beginning.

        None if they end before, or some are missing: the log may be read again.

        Raises
        ------
        BrokenStream
            If the log says something else, as that of a run of an older version.
        """
        records, file, number = RecordReader(), None, 0
        for line in lines:
            try:
                record = records.read(line)
                if record is None or record.number < number:
                    continue
                if record.number > number:
                    return None
                number += 1
                if record.kind == KEY:
                    continue
                if record.kind == SUBMISSION and file is None:
                    file = LogFile(SUBMISSION, made(Facts, record.value))
                    if file.facts.bytes > LARGEST:
                        raise Mistyped(f"has {file.facts.bytes:,} bytes, at most {LARGEST:,}")
                elif record.kind == "part" and file is not None:
                    file.take(record.value)
                else:
                    raise Mistyped(f"is {record.kind!r:.40}, where what was submitted is to be")
                if file is not None and len(file.data) == file.facts.bytes:
                    file.require_whole()
                    return made(cls, parsed(file.data.decode()))
            except ValueError as error:
                raise BrokenStream(f"record {number} of the run's log: {reason(error)}") from error
        return None
