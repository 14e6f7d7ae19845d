"""Krum and multi-Krum (Blanchard et al. 2017): Flower's MultiKrum on updates."""

from typing import Any

from flwr.serverapp.strategy import MultiKrum

from nufed.conf.schema import require
from nufed.strategies.robust import Robust


class Krum(Robust):
    """Average the updates that lie nearest to their n − f − 2 nearest neighbours.

    Colluding clients get in where honest ones differ: an update that lies no farther off than an
    honest one may still lead uphill, and has its twin for a neighbour (docs/robustness.md).

    Parameters
    ----------
    num_malicious
        f, the hostile clients of a round that are withstood; n ≥ 2f + 3 updates are needed.
    num_selected
        How many updates are averaged. 1 is Krum proper, which follows one client a round; None is
        multi-Krum with n − f, which wastes no more clients than it must.
    """

    def __init__(
        self, *args: Any, num_malicious: int, num_selected: int | None = None, **kwargs: Any
    ) -> None:
        f, selected = num_malicious, num_selected
        require(type(f) is int and f >= 0, "strategy.num_malicious", f, "0 or more")
        valid = selected is None or (type(selected) is int and selected >= 1)
        allowed = "at least 1, or null: all but num_malicious"
        require(valid, "strategy.num_selected", selected, allowed)

        def rule(n: int) -> MultiKrum:
            return MultiKrum(num_malicious_nodes=f, num_nodes_to_select=selected or n - f)

        super().__init__(
            *args,
            rule=rule,
            fewest=max(2 * f + 3, selected or 1),
            why=f"2f + 3 with strategy.num_malicious={f}, and strategy.num_selected={selected}",
            **kwargs,
        )
