"""Let the batched engine try its stacks anew, whatever it found on another day."""

from collections.abc import Iterator
from contextlib import contextmanager

from nufed.simulation import plan
from nufed.tasks.store import home


@contextmanager
def fresh_plans() -> Iterator[None]:
    """Keep the engine's plans in a file of their own while inside, and none afterwards."""
    usual, plan.PLANS = plan.PLANS, "plans-benchmarks.json"
    kept = home() / plan.PLANS
    kept.unlink(missing_ok=True)
    try:
        yield
    finally:
        kept.unlink(missing_ok=True)
        plan.PLANS = usual
