"""What a round's train reports come to: who counts, who does not, and means of their figures."""

from collections import defaultdict

import numpy as np

from nufed.client_app.messages import TrainReport
from nufed.strategies.replies import Failure, too_long

METRICS = "metrics"
"""Under which the means of what an algorithm shows stand in a round's row."""


class Tally:
    """Reports of a round, added one by one.

    Parameters
    ----------
    clip_norm, max_norm
        L2 norms to which, and above which, clients were asked to clip, or leave out, an update.

    Attributes
    ----------
    clients
        Those whose update counts.
    afresh
        Those that should have had a state, and had none.
    lengths
        L2 norms of updates before they were clipped, where they are.
    """

    def __init__(self, clip_norm: float | None, max_norm: float | None) -> None:
        self._clip_norm, self._max_norm = clip_norm, max_norm
        self.clients, self.afresh = list[int](), list[int]()
        self._losses, self._norms, self._cpu_s, self._clipped = list[float](), list[float](), 0.0, 0
        self._columns = defaultdict[str, list[float]](list)
        self.lengths = list[float]()

    def add(self, report: TrainReport) -> list[Failure]:
        """Take one more report; return the clients that it says cannot be used."""
        self.clients += report.clients
        self.afresh += report.afresh
        self._losses += report.loss
        self._norms += report.meta_grad_norm
        self._cpu_s += report.cpu_s
        self.lengths += report.lengths
        if self._clip_norm is not None:
            self._clipped += sum(length > self._clip_norm for length in report.lengths)
        for name, values in report.columns().items():
            self._columns[name] += values
        left_out = zip(report.too_long, report.too_long_by, strict=True)
        return [
            *(
                Failure(client, f"not finite from local step {step} on", step)
                for client, step in zip(report.diverged, report.diverged_at, strict=True)
            ),
            *(
                Failure(client, too_long(length, self._max_norm), too_long=True)
                for client, length in left_out
            ),
            *map(Failure, report.failed, report.reasons),
        ]

    def row(self) -> dict[str, float]:
        """Return what the round's row says of its clients; there must be some."""
        clipped = {} if self._clip_norm is None else {"clipped": self._clipped}
        return {
            "clients": len(self.clients),
            **clipped,
            "train_loss": float(np.mean(self._losses)),
            "meta_grad_norm": float(np.mean(self._norms)),
            "train_cpu_s": self._cpu_s,
            **{f"{METRICS}.{name}": float(np.mean(v)) for name, v in self._columns.items()},
        }
