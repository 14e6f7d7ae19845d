"""The cases: every rule on every setting, without attack and under each; run, and kept."""

import json
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import as_completed
from itertools import product
from pathlib import Path
from typing import NamedTuple

from benchmarks import quiet
from benchmarks.attack.attacks import ATTACKS, Attack
from benchmarks.attack.federation import Federation
from nufed.client_app.app import make_app
from nufed.conf.compose import compose_config
from nufed.conf.schema import Config
from nufed.tasks.task import Task

PARTICIPATING, NEW = 10, 5
MEAN, RULES = "mean", ("trimmed_mean", "median", "krum")
PARTITIONS, DATASETS, SEEDS = ("iid", "dirichlet", "shards"), ("digits",), range(3)
SETTING = ("rounds=60", "algorithm.alpha=0.1", "algorithm.beta=0.3", "algorithm.tau=2")


class Case(NamedTuple):
    """What is trained, how, and under which of the attacks."""

    dataset: str
    partition: str
    rule: str
    attack: str | None
    seed: int

    @property
    def overrides(self) -> list[str]:
        """What of the configuration is the case's own."""
        clients = PARTICIPATING + NEW
        return [
            f"dataset={self.dataset}",
            f"partition={self.partition}",
            f"partition.num_clients={clients}",
            f"rule={self.rule}",
            f"seed={self.seed}",
            f"clients_per_round={PARTICIPATING}",
            f"evaluation.new_clients={list(range(PARTICIPATING, clients))}",
            "evaluation.every=1000000",  # at the start and at the end
        ]


Outcomes = dict[Case, float]
"""The mean accuracy of new clients after their fine-tuning steps, at the end of a run."""


def cases(datasets: Iterable[str], partitions: Iterable[str], seeds: Iterable[int]) -> list[Case]:
    """Return every rule on every setting, without and under each attack."""
    every = product(datasets, partitions, (MEAN, *RULES), (None, *ATTACKS), seeds)
    return [Case(*case) for case in every]


def run(case: Case, overrides: Sequence[str] = SETTING) -> float:
    """Train one case to its end, in this process, and return the new clients' accuracy."""
    attack = Attack() if case.attack is None else ATTACKS[case.attack]

    def federation(config: Config, task: Task) -> Federation:
        return Federation(task, attack, PARTICIPATING)

    config = compose_config(["baselines=none", *case.overrides, *overrides])
    with tempfile.TemporaryDirectory() as folder:
        ended = Path(folder, "run")
        quiet.train(config, ended, make_app(federation), supernodes=PARTICIPATING + NEW)
        new = json.loads((ended / "summary.json").read_text())["new"]
    return float(new["accuracy"][-1])


def run_all(wanted: Sequence[Case], file: Path, processes: int) -> Iterator[tuple[Case, float]]:
    """Yield the cases as they end; those that `file` has already come first, and are not run."""
    there = recall(file)
    yield from ((case, there[case]) for case in wanted if case in there)
    file.parent.mkdir(parents=True, exist_ok=True)
    with quiet.workers(processes) as workers:
        runs = {workers.submit(run, case): case for case in wanted if case not in there}
        for ended in as_completed(runs):
            case, accuracy = runs[ended], ended.result()
            with file.open("a") as kept:
                print(json.dumps([case, case.overrides, SETTING, accuracy]), file=kept)
            yield case, accuracy


def recall(file: Path) -> Outcomes:
    """Return the cases that were run with the overrides that they have now."""
    kept = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    return {
        Case(*case): accuracy
        for case, own, setting, accuracy in kept
        if own == Case(*case).overrides and setting == list(SETTING)
    }
