"""Whether support and query batches share rows by more than chance."""

import math

import torch

from nufed.conformance.findings import Finding
from nufed.conformance.implementation import Draw, Raised, theirs
from nufed.tasks.streams import Purpose, stream

ROWS, CALLS, CLASSES = 200, 50, 5
FALSE_ALARM = 1e-6
"""Bound on how probable it is that a test which goes by chance fails what is right."""


def drawn_apart(draw: Draw, seed: int) -> Finding:
    """Count the query rows that are support rows too, over many calls.

    Where both are drawn independently, as the analysis of the stochastic meta-gradient asks, each
    query row is a support row with probability s/n at most, for s different support rows of n. That
    as many or more are, of all calls together, has a probability of at most exp(−m KL(p̂ ‖ s/n))
    for m query rows (Chernoff; Hoeffding 1963 for rows that are drawn without repetition).

    A row is known by its one input, in whatever unit it comes back; there are as many rows of each
    class, for draws that take some of each.
    """
    x = torch.arange(ROWS, dtype=torch.float64)[:, None]
    shared = of = most = 0
    for call in range(CALLS):
        with theirs(int(stream(Purpose.CONFORMANCE, seed, client=6, round=call).integers(2**31))):
            support, query = draw(x.clone(), x[:, 0].long() % CLASSES)
            batches = [support] if isinstance(support[0], torch.Tensor) else list(support)
            inner = {float(row) for batch in batches for row in batch[0].flatten()}
            outer = [float(row) for row in query[0].flatten()]
        shared, of = shared + sum(row in inner for row in outer), of + len(outer)
        most = max(most, len(inner))
    if not of:
        raise Raised("drew no query rows")
    return _finding(shared / of, most / ROWS, of)


def _finding(share: float, by_chance: float, rows: int) -> Finding:
    where, measured = f"{ROWS} rows", f"{share:.1%} of query rows shared"
    expected = f"none, or by chance {by_chance:.1%}"
    if by_chance == 1:
        says = "the support batches take all rows, so that none is left for the query."
        return Finding("draws", where, None if share else True, measured, "none", says, share)
    if share <= by_chance or math.exp(-rows * _divergence(share, by_chance)) >= FALSE_ALARM:
        return Finding("draws", where, True, measured, expected, figure=share)
    says = (
        "query rows are support rows more often than if both were drawn independently: draw the "
        "query batch for itself, or from rows that are kept apart. (A right one fails with "
        f"probability below {FALSE_ALARM:.0e}.)"
    )
    return Finding("draws", where, False, measured, expected, says, share)


def _divergence(a: float, b: float) -> float:
    """Return KL(a ‖ b) of two Bernoulli distributions."""
    terms = ((a, b), (1 - a, 1 - b))
    return sum(p * math.log(p / q) for p, q in terms if p > 0)
