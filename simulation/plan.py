"""How the clients of a round are worked through: what was chosen, said in words, kept on disk."""

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, NamedTuple

from nufed.tasks.store import home

PLANS = "plans.json"
VERSION = 2  # of what a plan holds and how it is found: those of another are not recalled


class Way(NamedTuple):
    """A way to work through clients."""

    chunk: int
    """Clients at once; 1 for one after another."""
    compiled: bool = False
    """Whether their local steps are compiled: one after another, as stacks of one."""


ONE_BY_ONE = Way(1)
SAVED = 0.3  # of the time of eager steps, that compiled ones save where they save anything
TRIAL_S = 120.0  # that a run must save before programs are tried: they take about a minute to make


class Plan(NamedTuple):
    """The quickest way that was tried, and what it was compared with."""

    chunk: int
    compiled: bool
    """As in `Way`."""
    threads: int
    """Threads of this process."""
    seconds: float
    """A client's share of the time of what was tried."""
    seconds_one_by_one: float
    """The same one by one, not compiled."""
    seconds_compiled: float | None
    """The least of compiled steps; None where none were tried."""
    untraceable: str | None = None
    """Why steps cannot be compiled."""

    @property
    def way(self) -> Way:
        """What was chosen."""
        return Way(self.chunk, self.compiled)


def describe(plan: Plan, done: str) -> Iterator[str]:
    """Say what was chosen, and why; and if steps were to be compiled and are not, that too."""
    how = "one by one" if plan.chunk == 1 else f"{plan.chunk} at once"
    how += ", compiled," if plan.compiled else ""
    threads = "1 thread" if plan.threads == 1 else f"{plan.threads} threads"
    if plan.way == ONE_BY_ONE:
        why = "in the trial, quicker than a stack"
    else:
        alone = "not compiled" if plan.chunk == 1 else "one by one"
        why = f"in the trial {_ms(plan.seconds)} each, {alone} {_ms(plan.seconds_one_by_one)}"
    yield f"clients are {done} {how} on {threads}: {why}"
    if plan.untraceable is not None:
        yield not_compiled(plan.untraceable)
    elif plan.seconds_compiled is not None and not plan.compiled:
        compiled, chosen = _ms(plan.seconds_compiled), _ms(plan.seconds)
        yield not_compiled(f"in the trial {compiled} each at best, {chosen} as it is")


def pays_to_compile(plan: Plan, steps: int) -> bool:
    """Tell whether a run of so many steps is worth a first trial of compiled ones."""
    known = plan.seconds_compiled is not None or plan.untraceable is not None
    return not known and SAVED * plan.seconds * steps > TRIAL_S


def not_compiled(why: str) -> str:
    """Say why steps are not compiled where they might be."""
    return f"steps are not compiled: {why}"


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:.2g} ms"


def key(*parts: Any) -> str:
    """Return a short digest of what a plan depends on."""
    return hashlib.sha256(json.dumps([VERSION, *parts], sort_keys=True).encode()).hexdigest()[:16]


def recall(name: str) -> Plan | None:
    """Return the plan kept under a key; None if there is none."""
    with suppress(OSError, ValueError, TypeError, KeyError):
        plan = Plan(*json.loads((home() / PLANS).read_text())[name])
        return plan if _possible(plan) else None
    return None


def _possible(plan: Plan) -> bool:
    """Tell whether a plan, read from a file, is one."""
    counts = (plan.chunk, plan.threads)
    seconds = (plan.seconds, plan.seconds_one_by_one, plan.seconds_compiled or 0.0)
    return (
        all(type(n) is int and n > 0 for n in counts)
        and all(type(s) in (int, float) for s in seconds)
        and type(plan.compiled) is bool
        and isinstance(plan.untraceable, str | None)
    )


def keep(name: str, plan: Plan) -> None:
    """Keep a plan, so that later runs need no trial and do the same as this one."""
    plans: Any = {}
    with suppress(OSError, ValueError):
        plans = json.loads((home() / PLANS).read_text())
    plans = {**plans, name: plan} if isinstance(plans, dict) else {name: plan}
    with suppress(OSError), tempfile.NamedTemporaryFile("w", dir=home(), delete=False) as draft:
        json.dump(plans, draft)
        draft.close()
        os.replace(draft.name, home() / PLANS)
