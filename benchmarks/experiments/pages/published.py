"""Settings of published tables, run again, and measured both as there and as everywhere here."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file

from benchmarks.experiments.methods import Outcomes
from benchmarks.experiments.pages.page import table
from benchmarks.experiments.plan import ALPHA, MODE, NU, SEED, Job, axes, jobs
from benchmarks.experiments.runs import Outcome
from nufed.client_app.algorithm import Algorithm, algorithm_of, difference
from nufed.client_app.algorithms.pfedme import PFedMe
from nufed.client_app.leaves import plus
from nufed.client_app.meta_gradient import Batch, Params, adapt
from nufed.server_app.report.statistics import Array, interval, paired
from nufed.server_app.run_folder import MODEL
from nufed.tasks.task import Task, build

name = "published"
settings: tuple[str, ...] = ()
BETA, HIDDEN, LAMDA = "algorithm.beta", "model.hidden", "algorithm.lamda"
EARLY = 50  # rounds after which a run is recorded too, so that it can be repeated in seconds
RECORD = Path(__file__).with_name("published.json")
"""What the tables are made of, run by run."""

Personal = Callable[[Task, Any, Params, int], Params]
"""(task, algorithm, shared model, client) -> the client's model as others measure it."""


class Method(NamedTuple):
    """A row of a table."""

    name: str
    experiment: str
    choices: Mapping[str, str]
    theirs: Personal | None = None
    """What they measure beside the shared model."""

    def jobs(self) -> list[Job]:
        """Return its runs, one a seed."""
        return jobs(self.experiment, self.choices)

    def finals(self, outcomes: Outcomes, k: int) -> Array:
        """Return the accuracy at the end after k steps, mean over clients, [seeds]."""
        ends = [outcomes[job].final("participating", "accuracy", last=1) for job in self.jobs()]
        return np.array(ends)[:, k]


def stepped_on_test_rows(task: Task, algorithm: Algorithm, shared: Params, client: int) -> Params:
    """Return the model after a step of α on one batch of test rows and one of β on the next.

    Nothing measured on the same rows is a result: it is to show what another's figure is of.
    """
    rows = task.data.partition.test_rows(client)
    for start, size in ((0, algorithm.alpha), (rows_of(algorithm), algorithm.beta)):
        x, y = task.batch(rows[start : start + rows_of(algorithm)])
        shared = adapt(task.loss, shared, (x[None], y[None]), alpha=size)
    return shared


def after_a_round(task: Task, algorithm: PFedMe, shared: Params, client: int) -> Params:
    """Return θ at the end of a client's round of pFedMe, each batch's θ begun at the one before."""
    rows = task.data.partition.train_rows(client)
    w = theta = shared
    for batch in in_turn(task, rows, algorithm.tau, rows_of(algorithm)):
        for _ in range(algorithm.nu):
            _, theta = algorithm.nearer(task.loss, theta, w, batch)
        w = plus(w, difference(theta, w), algorithm.beta * algorithm.lamda)
    return theta


def in_turn(task: Task, rows: NDArray[np.int64], batches: int, size: int) -> list[Batch]:
    """Return batches as a loader gives them that does not shuffle, over and over."""
    return [task.batch(some) for some in np.resize(rows, (batches, size))]


def rows_of(algorithm: Algorithm) -> int:
    """Return the rows of a batch."""
    rows = algorithm.batch.support
    assert rows is not None
    return rows


def together(run: Outcome, personal: Personal | None = None) -> float:
    """Return the accuracy on all clients' test rows together: a client counts as it has rows."""
    task, algorithm = build(run.config), algorithm_of(run.config.algorithm)
    shared = task.load_state(load_file(run.folder / MODEL))
    right, rows = 0.0, 0
    for client in range(task.data.num_clients):
        x, y = task.batch(task.data.partition.test_rows(client))
        theta = shared if personal is None else personal(task, algorithm, shared, client)
        with torch.no_grad():
            right += float(task.metrics(theta, x, y)["accuracy"]) * len(y)
        rows += len(y)
    return right / rows


# Step sizes of its README, «Fine-tuned Parameters»: model -> those of each method.
MODELS = {
    "[]": ("multinomial logistic regression", "0.02", ("0.02", "0.002"), "20"),
    "[20]": ("a network 60-20-10", "0.03", ("0.01", "0.001"), "30"),
}
TWO_STEPS = "FedAvg, a step of α + β"


def synthetic(hidden: str) -> list[Method]:
    """Return the methods of pFedMe's table for one of its models."""
    _, step, (alpha, beta), lamda = MODELS[hidden]
    both = f"{float(alpha) + float(beta):g}"

    def descent(name: str, nu: str, a: str, b: str, theirs: Personal | None = None) -> Method:
        chosen = {HIDDEN: hidden, NU: nu, ALPHA: a, BETA: b}
        return Method(name, "published_synthetic", chosen, theirs)

    envelopes = {HIDDEN: hidden, LAMDA: lamda}
    return [
        descent("FedAvg", "0", step, step),
        descent("Per-FedAvg, first-order", "1", alpha, beta, stepped_on_test_rows),
        descent(TWO_STEPS, "0", alpha, both, stepped_on_test_rows),
        Method("pFedMe", "published_synthetic_pfedme", envelopes, after_a_round),
    ]


SPLIT = [
    Method("FedAvg + fine-tuning", "published_fallah_split", {NU: "0", MODE: "exact"}),
    Method("Per-FedAvg (FO)", "published_fallah_split", {NU: "1", MODE: "first_order"}),
    Method("Per-FedAvg (HF)", "published_fallah_split", {NU: "1", MODE: "hessian_free"}),
    Method("NuFed ν=5, first-order", "published_fallah_split", {NU: "5", MODE: "first_order"}),
    Method("NuFed ν=5, exact", "published_fallah_split", {NU: "5", MODE: "exact"}),
]


def methods() -> list[Method]:
    """Return all rows of all tables."""
    return [method for hidden in MODELS for method in synthetic(hidden)] + SPLIT


def runs(outcomes: Outcomes) -> list[Job]:
    """Return every method of every table."""
    return [job for method in methods() for job in method.jobs()]


stages = (runs,)


def record(outcomes: Outcomes) -> dict[str, Any]:
    """Return the accuracies of each run after 0 … K steps: early, and at its end."""
    found = {}
    for job in runs(outcomes):
        run = outcomes[job]
        curve = run.curve("participating", "accuracy").round(6)
        early = curve[run.rounds.index(EARLY)]
        found[job.folder] = {"early": early.tolist(), "end": curve[-1].tolist()}
    return {"early": EARLY, "runs": found}
