"""What one client does."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nufed.client_app.from_run import personalize

__all__ = ["personalize"]


def __getattr__(name: str) -> object:
    """Import what is asked for, and no sooner: the algorithm itself needs torch alone."""
    if name == "personalize":
        from nufed.client_app.from_run import personalize

        return personalize
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
