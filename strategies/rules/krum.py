"""Krum and multi-Krum (Blanchard et al. 2017): Flower's MultiKrum on updates."""

from dataclasses import dataclass

from flwr.serverapp.strategy import MultiKrum

from nufed.conf.schema import require
from nufed.strategies.rules.robust import Robust


@dataclass(frozen=True)
class Krum(Robust):
    """Average the updates that lie nearest to their n − f − 2 nearest neighbours.

    Colluding clients get in where honest ones differ: an update that lies no farther off than an
    honest one may still lead uphill, and has its twin for a neighbour (docs/robustness.md).
    """

    num_malicious: int
    """f, the hostile clients of a round that are withstood; n ≥ 2f + 3 updates are needed."""
    num_selected: int | None = None
    """How many updates are averaged. 1 is Krum proper, which follows one client a round; None is
    multi-Krum with n − f, which wastes no more clients than it must."""

    def __post_init__(self) -> None:
        f, selected = self.num_malicious, self.num_selected
        require(type(f) is int and f >= 0, "rule.num_malicious", f, "0 or more")
        valid = selected is None or (type(selected) is int and selected >= 1)
        allowed = "at least 1, or null: all but num_malicious"
        require(valid, "rule.num_selected", selected, allowed)

    @property
    def fewest(self) -> int:
        """2f + 3, or as many as are to be averaged."""
        return max(2 * self.num_malicious + 3, self.num_selected or 1)

    @property
    def why(self) -> str:
        """Name the keys that it follows from."""
        selected = "null" if self.num_selected is None else self.num_selected
        return f"2f + 3 with rule.num_malicious={self.num_malicious}, rule.num_selected={selected}"

    def flower(self, n: int) -> MultiKrum:
        """Return the Flower strategy of n updates."""
        selected = self.num_selected or n - self.num_malicious
        return MultiKrum(num_malicious_nodes=self.num_malicious, num_nodes_to_select=selected)
