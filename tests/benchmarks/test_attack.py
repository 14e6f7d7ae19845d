"""The attacks that docs/robustness.md is about: what is sent, and what comes of it in short."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.attack.attacks import ATTACKS, HOSTILE, Attack, reversed_labels
from benchmarks.attack.cases import (
    MEAN,
    PARTICIPATING,
    RULES,
    SETTING,
    Case,
    Outcomes,
    recall,
    run,
    run_all,
)
from benchmarks.attack.federation import Federation
from benchmarks.attack.page import POINTS, Cell, loss_of_accuracy, table, verdict
from nufed.client_app.client import train
from nufed.client_app.executor import Trained
from nufed.client_app.meta_gradient import Params
from nufed.client_app.work import Training
from nufed.conf.compose import compose_config
from nufed.tasks.task import Task, build
from tests.helpers import training

SHORT = (*SETTING, "rounds=30")
CLEAN = Case("digits", "iid", MEAN, None, 0)
ROUND = 3


@pytest.fixture(scope="module")
def asked() -> tuple[Task, Training]:
    """Ten clients that differ, and what a server asks of them, client by client."""
    config = compose_config([*CLEAN._replace(partition="dirichlet").overrides, *SETTING])
    return build(config), training(config, round=ROUND)


def sent(asked: tuple[Task, Training], attack: Attack) -> list[Trained]:
    """Return what each client replies."""
    task, job = asked
    federation, params = Federation(task, attack, PARTICIPATING), task.initial_params()
    return [
        federation.train(params, replace(job, clients=[client])) for client in range(PARTICIPATING)
    ]


def honest(asked: tuple[Task, Training], client: int) -> Params:
    """Return the update of a client by itself."""
    task, job = asked
    return train(task, task.initial_params(), job, client).update


def flat(update: Params) -> torch.Tensor:
    """Return all entries, in float64."""
    return torch.cat([p.flatten() for p in update.values()]).double()


def assert_same(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    """Compare up to what the order of sums leaves in float32."""
    assert float((ours - theirs).norm() / theirs.norm()) < 1e-5


@pytest.mark.parametrize("attack", [None, *ATTACKS])
def test_all_but_the_hostile_clients_send_what_they_send_by_themselves(
    asked: tuple[Task, Training], attack: str | None
) -> None:
    first = 0 if attack is None else HOSTILE
    replies = sent(asked, Attack() if attack is None else ATTACKS[attack])
    for client in range(first, PARTICIPATING):
        assert_same(flat(replies[client].update), flat(honest(asked, client)))
        assert replies[client].report.clients == [client]


@pytest.mark.parametrize(("attack", "factor"), [("×−10", -10.0), ("sign flip", -1.0)])
def test_a_turned_update_is_a_multiple_of_the_honest_one(
    asked: tuple[Task, Training], attack: str, factor: float
) -> None:
    replies = sent(asked, ATTACKS[attack])
    for client in range(HOSTILE):
        assert_same(flat(replies[client].update), factor * flat(honest(asked, client)))


def test_a_flipped_label_gives_the_update_of_a_task_of_reversed_classes(
    asked: tuple[Task, Training],
) -> None:
    task, job = asked
    backwards = replace(task, data=replace(task.data, y=9 - np.asarray(task.data.y)))
    replies = sent(asked, ATTACKS["label flip"])
    for client in range(HOSTILE):
        assert_same(flat(replies[client].update), flat(honest((backwards, job), client)))
        assert float((flat(replies[client].update) - flat(honest(asked, client))).norm()) > 0.1


def test_the_hostile_clients_train_rows_are_reversed_and_no_others(
    asked: tuple[Task, Training],
) -> None:
    task, _ = asked
    part, before, after = task.data.partition, task.data.y, reversed_labels(task).data.y
    hostile = np.concatenate([part.train_rows(client) for client in range(HOSTILE)])
    others = np.setdiff1d(np.arange(len(before)), hostile)
    assert (after[hostile] == 9 - before[hostile]).all()
    assert (after[others] == before[others]).all()
    assert set(part.test_rows(0)) <= set(others)


def test_the_colluding_pair_is_as_far_off_as_the_farthest_honest_update(
    asked: tuple[Task, Training],
) -> None:
    replies = sent(asked, ATTACKS["collusion"])
    pair = [flat(reply.update) for reply in replies[:HOSTILE]]
    assert all(torch.equal(one, pair[0]) for one in pair)
    updates = torch.stack([flat(honest(asked, c)) for c in range(HOSTILE, PARTICIPATING)])
    mean = updates.mean(0)

    def distances(v: torch.Tensor) -> float:
        return float((v - updates).square().sum())

    farthest = max(map(distances, updates))
    gamma = ((farthest - distances(mean)) / len(updates)) ** 0.5
    assert_same(pair[0], mean - gamma * mean / mean.norm())
    assert distances(pair[0]) == pytest.approx(farthest, rel=1e-4)
    assert torch.cosine_similarity(pair[0], mean, dim=0) < -0.999  # uphill: these clients differ


def test_honest_updates_that_are_all_the_same_leave_no_room_for_collusion() -> None:
    same = {"w": torch.tensor([[5.0, 1.0]] * HOSTILE + [[3.0, 4.0]] * 8)}
    assert torch.equal(ATTACKS["collusion"].updates(same)["w"], torch.tensor([[3.0, 4.0]] * 10))


def test_two_honest_updates_leave_half_their_distance() -> None:
    """(5, ±1): the farthest sum of squares is 4, about the mean (5, 0) it is 2; so γ = 1."""
    updates = {"w": torch.tensor([[0.0, 0.0]] * HOSTILE + [[5.0, 1.0], [5.0, -1.0]])}
    pair = ATTACKS["collusion"].updates(updates)["w"][:HOSTILE]
    assert torch.allclose(pair, torch.tensor([[4.0, 0.0]] * HOSTILE))


@pytest.fixture(scope="module")
def outcomes() -> Outcomes:
    """Plain averaging clean; every rule under the oldest attack, and krum under all."""
    scaled = [CLEAN._replace(rule=name, attack="×−10") for name in (MEAN, *RULES)]
    krum = [CLEAN._replace(rule="krum", attack=attack) for attack in ATTACKS]
    return {case: run(case, SHORT) for case in dict.fromkeys((CLEAN, *scaled, *krum))}


@pytest.mark.parametrize(
    ("rule", "attack"),
    [*((rule, "×−10") for rule in RULES), *(("krum", a) for a in ATTACKS if a != "×−10")],
)
def test_new_clients_of_a_robust_rule_lose_three_points_at_most(
    outcomes: Outcomes, rule: str, attack: str
) -> None:
    case = CLEAN._replace(rule=rule, attack=attack)
    assert outcomes[case] > 0.75  # a class in ten by chance
    assert loss_of_accuracy(outcomes, case) <= POINTS


def test_plain_averaging_is_lost(outcomes: Outcomes) -> None:
    assert outcomes[CLEAN._replace(attack="×−10")] < 0.5 < outcomes[CLEAN]


@pytest.fixture
def two_seeds() -> Outcomes:
    """On iid one and four points lost, on shards one and two; 0.90 and 0.80 clean."""
    ends = {
        ("iid", MEAN, None): (0.9, 0.8),
        ("iid", MEAN, "sign flip"): (0.1, 0.3),
        ("iid", "krum", None): (0.9, 0.7),
        ("iid", "krum", "sign flip"): (0.89, 0.76),
        ("shards", MEAN, None): (0.9, 0.8),
        ("shards", MEAN, "sign flip"): (0.9, 0.8),
        ("shards", "krum", None): (0.9, 0.8),
        ("shards", "krum", "sign flip"): (0.89, 0.78),
    }
    return {
        Case("digits", partition, rule, attack, seed): accuracy
        for (partition, rule, attack), both in ends.items()
        for seed, accuracy in enumerate(both)
    }


def test_the_table_says_mean_spread_and_who_held(two_seeds: Outcomes) -> None:
    head, _, _, krum = table(two_seeds, ("digits", "iid")).splitlines()
    assert head == "| digits, iid | no attack | sign flip |"
    assert krum == (
        "| `krum` | 5.0 ± 5.0 (1 of 2)<br>0.800 ± 0.100 | **2.5 ± 1.5** (1 of 2)<br>0.825 ± 0.065 |"
    )


def test_the_verdict_names_what_holds_everywhere_and_what_fails_where(two_seeds: Outcomes) -> None:
    assert verdict(two_seeds, "krum") == (
        "- `krum` holds everywhere against: sign flip. It loses more under: no attack (5.0 on iid)."
    )
    assert verdict(two_seeds, MEAN) == (
        f"- `{MEAN}` holds everywhere against: none of them. "
        "It loses more under: sign flip (65.0 on iid)."
    )


@pytest.mark.parametrize(
    ("lost", "shown"),
    [
        (-0.04, "**0.0 ± 0.0** (1 of 1)"),
        (3.04, "**3.0 ± 0.0** (1 of 1)"),
        (3.06, "3.1 ± 0.0 (0 of 1)"),
    ],
)
def test_a_cell_is_bold_by_what_it_shows(lost: float, shown: str) -> None:
    assert str(Cell([0.5], [lost])) == f"{shown}<br>0.500 ± 0.000"


def test_a_case_that_was_run_is_not_run_again_unless_its_overrides_are_others(
    tmp_path: Path,
) -> None:
    file = tmp_path / "outcomes.jsonl"
    file.write_text(json.dumps([CLEAN, CLEAN.overrides, SETTING, 0.25]) + "\n")
    assert list(run_all([CLEAN], file, 1)) == [(CLEAN, 0.25)]
    file.write_text(json.dumps([CLEAN, CLEAN.overrides, SHORT, 0.25]) + "\n")
    assert recall(file) == {}
