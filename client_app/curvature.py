"""How curved a client's loss is at a model, from a few of its rows: step sizes are chosen by it."""

import math
from collections.abc import Collection, Sequence
from functools import partial
from statistics import median_low
from typing import NamedTuple

import torch
from torch import Tensor

from nufed.client_app import figures, sampling
from nufed.client_app.lanczos import lanczos
from nufed.client_app.messages import ProbeInstruction, ProbeReport
from nufed.client_app.meta_gradient import Params, central_difference, hessian_vector_product
from nufed.conf.errors import NuFedError
from nufed.tasks.streams import Purpose, stream, torch_stream
from nufed.tasks.task import Task

ROWS, PRODUCTS = 32, 8  # a second for a convolutional network, an instant for a small one
FACTOR = 10
"""Times the median beyond which a client is an outlier: honest ones were within 6 of it."""
DELTA = 1e-2  # along directions of length 1: below, float32 gradients differ by their rounding


class Curvature(NamedTuple):
    """The ends of the spectra of one or several Hessians, which lie in [−l, L]."""

    largest: float
    """L, the largest |λ|."""
    negative: float
    """l, 0 where nothing negative was found."""
    unknown: str = ""
    """Why nothing is known of them."""

    @property
    def known(self) -> bool:
        """Whether there is any, and it is finite."""
        return 0 < self.largest < math.inf


def widest(found: Collection[Curvature], unknown: str) -> Curvature:
    """Return what holds for all of several clients; of none NaN, and why it is `unknown`."""
    if not found:
        return Curvature(math.nan, math.nan, unknown)
    return Curvature(max(each.largest for each in found), max(each.negative for each in found))


def outliers(said: Sequence[Curvature]) -> list[int]:
    """Return which of several clients, by place, say that theirs is far above what is usual.

    That is more than `FACTOR` times the lower median of L; or of l, where it is above L's median
    too: l is often 0. Of less than three clients nobody can tell.
    """
    if len(said) < 3:
        return []
    usual = median_low(each.largest for each in said)
    negative = max(usual, FACTOR * median_low(each.negative for each in said))
    return [
        i
        for i, each in enumerate(said)
        if each.largest > FACTOR * usual or each.negative > negative
    ]


def curvature(task: Task, params: Params, client: int, seed: int) -> Curvature:
    """Return the curvature of a client's loss, on at most `ROWS` of its train rows, by Lanczos.

    Parameters
    ----------
    task
        Data, model and loss; dropout and bfloat16 are left out.
    params
        The model w.
    seed
        Draws the rows, and where Lanczos starts.

    Returns
    -------
    Curvature
        Lower estimates of L and l; NaN where the Hessian is not finite. Where the loss has no
        second derivative, Hessian-vector products are differences of gradients.
    """
    random = stream(Purpose.PROBE, seed, client)
    rows = task.data.partition.train_rows(client)
    rows = rows[sampling.draw(random, (), min(ROWS, len(rows)), len(rows))]
    start = torch_stream(random)
    with task.measuring() as plain:
        w = {name: p.to(plain.device, plain.dtype) for name, p in params.items()}
        batch = plain.batch(rows)

        hvp = hessian_vector_product
        if plain.derivatives.missing is not None:  # by gradients alone, then
            hvp = partial(central_difference, delta=DELTA)

        def product(v: Tensor) -> Tensor:
            return _flat(hvp(plain.loss, w, batch, _like(w, v[0])))[None]

        found = lanczos(product, _flat(w)[None], PRODUCTS, start)
    lowest = float(found.lowest)
    return Curvature(float(found.norm), lowest if math.isnan(lowest) else max(-lowest, 0.0))


def probe(task: Task, params: Params, instruction: ProbeInstruction) -> ProbeReport:
    """Measure the clients asked for; one that raises does not stop the others."""
    report = ProbeReport([], [], [], [], [])
    for client in instruction.clients:
        try:
            found = curvature(task, params, client, instruction.seed)
        except NuFedError:
            raise
        except Exception as error:
            report.failed.append(client)
            report.reasons.append(f"{type(error).__name__}: {error}")
            continue
        if found.largest <= figures.MOST:
            report.clients.append(client)
            report.largest.append(found.largest)
            report.negative.append(found.negative)
        else:
            report.failed.append(client)
            report.reasons.append("the curvature of its loss is not finite; scale x and y down")
    return report


def _flat(params: Params) -> Tensor:
    """Return parameters as one vector [P]."""
    return torch.cat([p.flatten() for p in params.values()])


def _like(params: Params, flat: Tensor) -> Params:
    """Return a vector [P] as parameters."""
    parts = torch.split(flat, [p.numel() for p in params.values()])
    return {name: v.view_as(p) for (name, p), v in zip(params.items(), parts, strict=True)}
