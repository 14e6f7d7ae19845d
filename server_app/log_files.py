"""Files that travel by a run's log in parts: each is whole, and what was sent, or is none."""

import base64
import hashlib
from dataclasses import dataclass, field

from nufed.conf.errors import NuFedError
from nufed.conf.typed import typed


class BrokenStream(NuFedError):
    """The records of a log do not make up a run folder; the text says why."""


@dataclass(frozen=True)
class Facts:
    """What a file must be."""

    bytes: int
    sha256: str


@dataclass
class LogFile:
    """A file, as far as it has come."""

    name: str
    facts: Facts
    data: bytearray = field(default_factory=bytearray)

    def take(self, text: object) -> None:
        """Add a part.

        Raises
        ------
        BrokenStream
            If it is none, or one too many.
        """
        try:
            self.data += base64.b64decode(typed(text, str, "a part"), validate=True)
        except ValueError as error:
            raise BrokenStream(f"{self.name} in the run's log is damaged ({error})") from error
        if len(self.data) > self.facts.bytes:
            raise BrokenStream(f"{self.name} in the run's log is longer than it was to be")

    def require_whole(self) -> None:
        """Raise a `BrokenStream` unless this is what was sent."""
        digest = hashlib.sha256(self.data).hexdigest()
        if len(self.data) != self.facts.bytes or digest != self.facts.sha256:
            raise BrokenStream(
                f"{self.name} in the run's log has {len(self.data)} of {self.facts.bytes} bytes "
                "or another checksum than the one that was sent"
            )
