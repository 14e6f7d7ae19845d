"""What an opponent is given: a model, clients' rows, and what a round does with them."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

ARRAYS, SPEC = "arrays.npz", "spec.json"


@dataclass(frozen=True)
class Spec:
    """A round, as numbers."""

    layers: list[str]
    """Of the model in order: conv, linear, relu, pool (2 x 2) and flatten."""
    nu: int
    tau: int
    alpha: float
    beta: float
    batch: int
    exact: bool = False
    """Differentiate through the inner steps; else first-order."""
    lamda: float | None = None
    """Ditto's λ: a personal model is trained beside the shared one, and kept."""
    clip: float | None = None
    """The L2 norm that each client's update is clipped to."""
    noise: float = 0.0
    """The standard deviation of the noise on the sum of clipped updates, in clipping norms."""

    @property
    def gradients(self) -> int:
        """Gradients that a client computes in a round."""
        return self.tau * (self.nu + 1 + (self.lamda is not None))


@dataclass(frozen=True)
class Work:
    """A round, with its arrays."""

    spec: Spec
    params: list[NDArray[np.float32]]
    """Weight and bias of each layer that has them, shaped as torch has them."""
    x: NDArray[np.float32]
    y: NDArray[np.int64]
    """The clients' train rows, one client's after another's."""
    offset: NDArray[np.int64]
    """Where each client's rows begin, and where the last one's end."""
    drawn: NDArray[np.int64]
    """Rows of a round's batches, [clients, gradients, D], for those who do not draw themselves."""

    @property
    def clients(self) -> int:
        """Clients of a round."""
        return len(self.offset) - 1

    def rows(self, client: int) -> slice:
        """Return where a client's rows lie."""
        return slice(int(self.offset[client]), int(self.offset[client + 1]))

    def write(self, folder: Path) -> None:
        """Write both into a folder."""
        named = {f"p{i}": p for i, p in enumerate(self.params)}
        np.savez(folder / ARRAYS, x=self.x, y=self.y, offset=self.offset, drawn=self.drawn, **named)  # type: ignore[arg-type]
        (folder / SPEC).write_text(json.dumps(asdict(self.spec)))

    @classmethod
    def read(cls, folder: Path) -> "Work":
        """Read what `write` wrote."""
        held = np.load(folder / ARRAYS)
        params = [held[f"p{i}"] for i in range(len(held.files) - 4)]
        spec = Spec(**json.loads((folder / SPEC).read_text()))
        return cls(spec, params, held["x"], held["y"], held["offset"], held["drawn"])
