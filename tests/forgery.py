"""Texts with which a SuperNode tries to write records of its own into a run's log."""

import base64
import hashlib
import json
from collections.abc import Iterator

import numpy as np

from nufed.server_app.log_records import MARK, code

KEY = "f" * 64  # one of the forger's own
WRONG = b"another model"
CURVES = {
    "k": [0],
    "clients": 3,
    **{f"{m}{s}": [0.999] for m in ("loss", "accuracy") for s in ("", "_std", "_worst_decile")},
}
RECORDS = (
    {"summary": {"rounds": 999, "participating": CURVES}},
    {"start": {"size": [1, 0], "participating": 999, "new": 1, "folder": "/tmp/forged"}},
    {"row": {"round": 999, "train_loss": 1e-9, "participating": CURVES}},
    {"before": {"round": 998}},
    {"note": "forged"},
    {"model": {"bytes": len(WRONG), "sha256": hashlib.sha256(WRONG).hexdigest()}},
    {"part": base64.b64encode(WRONG).decode()},
    {"key": KEY},
    {"forged": None},
)
STARTS = (
    "",
    "\n",
    "\r\n",
    "\r",
    "\n\n",
    "\x1b[2K\r",
    "\u2028",
    "\x85",
    "50 %",
    "\x1b]0;forged\x07",
)
LONG = 60_000


def forgeries(number: int, seed: int = 0) -> Iterator[str]:
    """Yield texts, all different, that hold something like a record, or several."""
    random = np.random.default_rng(seed)
    for i in range(number):
        lines = [_record(random) for _ in range(random.integers(1, 4))]
        if i % 3 == 0:  # a key, and what it signs
            lines.insert(0, _signed({"n": 0, "key": KEY}))
        start = STARTS[random.integers(len(STARTS))]
        text = "".join(f"{start}{line}\n" for line in lines)
        yield f"forged {text}" + "x" * (LONG if i % 50 == 7 else 0) + str(i)


def _record(random: np.random.Generator) -> str:
    """Return a line that has a code of some kind, or none."""
    numbers = 0, 1, 2, int(random.integers(3, 30)), 10**9
    content = {"n": numbers[random.integers(len(numbers))]} | RECORDS[random.integers(len(RECORDS))]
    text = json.dumps(content)
    said = ("", "0" * 32 + " ", random.bytes(16).hex() + " ", "é" * 32 + " ", None)
    chosen = said[random.integers(len(said))]
    return _signed(content) if chosen is None else f"{MARK}{chosen}{text}"


def _signed(content: dict[str, object]) -> str:
    text = json.dumps(content)
    return f"{MARK}{code(KEY, text)} {text}"
