"""Checkpoints whose checksum is right, and whose content no run would have written."""

from typing import TYPE_CHECKING, Any

from torch import Tensor

from nufed.conf.errors import InputError
from nufed.conf.schema import Config
from nufed.conf.typed import Mistyped
from nufed.server_app.written import checked_rows
from nufed.strategies.privacy import CentralDP

if TYPE_CHECKING:
    from nufed.server_app.checkpoint import Checkpoint

OPTIMIZER, PRIVACY = "optimizer/", "privacy"
"""What the state of our strategies is of."""


def require_sound(saved: "Checkpoint", round: int) -> None:
    """Raise unless the parts of a checkpoint fit together; their types were looked at before.

    Parameters
    ----------
    round
        That its file is called by.

    Raises
    ------
    Mistyped
        If they do not.
    """
    if saved.state.round != round:
        raise Mistyped(f"it is of round {saved.state.round}, and called {round}")
    rows = checked_rows(list(saved.rows))
    if not rows or rows[-1]["round"] != round:
        raise Mistyped(f"its last row is not of round {round}")
    n, new = saved.num_clients, saved.new_clients
    if n < 1 or new != sorted({*new} & {*range(n)}) or len(new) >= n:
        raise Mistyped(f"new_clients are not some of the {n} clients, in order")
    if saved.wall_s < 0:
        raise Mistyped(f"wall_s is {saved.wall_s}")
    for key, value in saved.state.strategy.items():
        _require_state(key, value)


def _require_state(key: str, value: Any) -> None:
    """Raise unless it is a value that an optimizer keeps, or what privacy was spent."""
    if key == PRIVACY:
        if not isinstance(value, dict):
            raise Mistyped("its releases are no object")
        return
    if not key.startswith(OPTIMIZER):
        return  # of a strategy of one's own, which knows what it is
    finite = bool(value.isfinite().all()) if isinstance(value, Tensor) else True
    if not finite or not isinstance(value, Tensor | int | float | None):
        raise Mistyped(f"{key[:60]} is not finite, or no number")


def require_accounted(saved: "Checkpoint", config: Config, run: object) -> None:
    """Raise unless a private run has the releases that its rows tell of.

    Without them the budget would begin anew, and ε be told too low.

    Raises
    ------
    InputError
        If one is missing, or of other noise than the run's.
    """
    told = [row["epsilon"] for row in saved.rows if row.get("epsilon") is not None]
    state = saved.state.strategy.get(PRIVACY, {})
    if config.privacy.name == "none":
        if told or state:
            raise InputError(f"resume={run}: its checkpoint tells of a privacy that it has not")
        return
    spent = CentralDP(config.privacy)
    spent.restore(state)
    why = spent.differs(len(told), told[-1] if told else None, saved.num_clients)
    if why:
        raise InputError(f"resume={run}: the checkpoint's releases are not the run's: {why}")
