"""Updates that are clipped, left out or wanted each by itself: in stacks as one by one."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from nufed.client_app.algorithm import norm
from nufed.client_app.executor import OneByOne
from nufed.client_app.work import Training
from tests.helpers import distance
from tests.simulation.helpers import Setting, batched, setting, train_job

CLIENTS = 7
TOO_FAR, WILD = 4, 2
"""Whose update is very long; whose loss is not finite."""


@pytest.fixture(scope="module")
def of(tmp_path_factory: pytest.TempPathFactory) -> Setting:
    random = np.random.default_rng(3)
    file = Path(tmp_path_factory.mktemp("rows")) / "rows.npz"
    client = np.repeat(np.arange(CLIENTS), [30, 12, 20, 40, 25, 9, 16])
    x = random.normal(size=(len(client), 6)) * np.where(client == TOO_FAR, 60, 1)[:, None]
    x[client == WILD] *= 1e200
    np.savez(file, x=x, y=random.integers(0, 3, len(client)), client=client)
    data = ["dataset=npz", f"dataset.path={file}", "model=logistic", "engine.precision=float64"]
    return setting(*data, "algorithm=fedavg", "algorithm.alpha=0.1", "algorithm.beta=0.5")


def updates(of: Setting, job: Training) -> dict[int, dict[str, torch.Tensor]]:
    """Return each client's update, from the plain loop."""
    made = {c: OneByOne(of.task).train(of.params, replace(job, clients=[c])) for c in job.clients}
    return {c: one.update for c, one in made.items() if one.report.clients}


@pytest.mark.parametrize("weighting", ["uniform", "examples"])
def test_clipped_in_a_stack_is_clipped_client_by_client(of: Setting, weighting: str) -> None:
    plain = train_job(of, weighting=weighting)
    each = updates(of, plain)
    lengths = {client: float(norm(update)) for client, update in each.items()}
    assert sorted(lengths, key=lengths.__getitem__)[-1] == TOO_FAR
    clip, most = float(np.median([*lengths.values()])), lengths[TOO_FAR] / 2
    job = replace(plain, clip_norm=clip, max_norm=most)
    rows = of.task.data.partition.train
    kept = [client for client in each if client != TOO_FAR]
    weight = {c: float(rows[c]) if weighting == "examples" else 1.0 for c in kept}
    wanted = {
        name: sum(weight[c] * min(1, clip / lengths[c]) * each[c][name] for c in kept)
        / sum(weight.values())
        for name in of.params
    }
    for executor in (OneByOne(of.task), *(batched(of, chunk_size=k) for k in (2, 3, 7))):
        update, report = executor.train(of.params, job)
        assert distance(update, wanted) < 1e-10
        assert report.clients == kept
        assert report.lengths == pytest.approx([lengths[c] for c in kept], rel=1e-10)
        assert (report.diverged, report.too_long) == ([WILD], [TOO_FAR])
        assert report.too_long_by == pytest.approx([lengths[TOO_FAR]], rel=1e-10)


@pytest.mark.parametrize("clip", [None, 0.3])
def test_each_update_comes_by_itself_in_the_order_of_the_report(
    of: Setting, clip: float | None
) -> None:
    job = replace(train_job(of), each=True, clip_norm=clip)
    alone = updates(of, replace(job, each=False))
    for executor in (OneByOne(of.task), *(batched(of, chunk_size=k) for k in (2, 3, 7))):
        update, report = executor.train(of.params, job)
        assert report.clients == [c for c in range(CLIENTS) if c != WILD]
        assert report.diverged == [WILD]
        for i, client in enumerate(report.clients):
            one = {name: p[i] for name, p in update.items()}
            assert distance(one, alone[client]) < 1e-10
            if clip is not None:
                assert float(norm(one)) == pytest.approx(min(clip, report.lengths[i]), rel=1e-12)
