"""Text that others wrote, as it may be shown: a terminal obeys what it is sent."""

import unicodedata

JOINERS = "\u200c\u200d"
"""Of letters and emoji: they have no width, and do no harm."""
FORMATTED = "\n\t"


def printable(text: str, *, lines: bool = False) -> str:
    r"""Return a text with what steers a terminal, or hides in it, written out as ``\x1b``.

    That is control characters (C0, DEL and C1), marks that turn the direction of writing and other
    invisible ones, and halves of surrogate pairs, which cannot be encoded.

    Parameters
    ----------
    lines
        Whether line feeds and tabs stay as they are, in a text that is several lines.
    """
    if text.isprintable():
        return text
    return "".join(c if _is_shown(c, lines) else _written_out(c) for c in text)


def count(n: int, thing: str) -> str:
    """Return ``1 row`` or ``3 rows``."""
    return f"{n} {thing}{'' if n == 1 else 's'}"


def _is_shown(c: str, lines: bool) -> bool:
    if c.isprintable() or c in JOINERS:
        return True
    # What is left of Z are spaces of other widths; of C, what this Python does not know yet.
    return (lines and c in FORMATTED) or unicodedata.category(c) in ("Zs", "Cn", "Co")


def _written_out(c: str) -> str:
    number = ord(c)
    if short := {"\n": r"\n", "\r": r"\r", "\t": r"\t"}.get(c):
        return short
    if number < 0x100:
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"
