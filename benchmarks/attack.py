"""How well robust rules keep training sound where 2 of 10 clients send −10 times their update.

    python -m benchmarks.attack     writes docs/robustness.md; takes a quarter of an hour

Ten clients train, all of them in every round; five new clients are measured after five steps of
fine-tuning. Each client is a SuperNode of its own, and a hostile one trains as it is told and then
turns its update round: with plain averaging, the model goes up the hill instead of down.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Iterable, Sequence
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks import machine, quiet
from client_app.app import make_app
from client_app.cohort import OneByOne, Trained
from client_app.messages import TrainInstruction
from client_app.meta_gradient import Params
from conf.compose import compose_config
from conf.schema import Config
from tasks.task import Task

PARTICIPATING, NEW, HOSTILE, FACTOR = 10, 5, 2, -10.0
MEAN, RULES = "meta_fedavg", ("trimmed_mean", "median", "krum")
PARTITIONS, DATASETS, SEEDS = ("iid", "dirichlet", "shards"), ("digits",), range(3)
POINTS = 3.0  # of accuracy, that a rule may cost
SETTING = ("rounds=60", "algorithm.alpha=0.1", "algorithm.beta=0.3", "algorithm.tau=2")
DOCUMENT = Path("docs/robustness.md")


class Hostile(OneByOne):
    """Trains as asked; the first two of the federation's clients turn their update round."""

    def train(self, params: Params, ask: TrainInstruction) -> Trained:
        """Train the one client of `ask`."""
        (client,) = ask.clients
        update, report = super().train(params, ask)
        if client < HOSTILE:
            update = {name: tensor * FACTOR for name, tensor in update.items()}
        return Trained(update, report)


def hostile(config: Config, task: Task) -> OneByOne:
    """Return the cohort of a federation under attack."""
    return Hostile(task)


def honest(config: Config, task: Task) -> OneByOne:
    """Return the cohort of a federation without."""
    return OneByOne(task)


class Case(NamedTuple):
    """What is trained, how, and whether under attack."""

    dataset: str
    partition: str
    strategy: str
    attacked: bool
    seed: int


class Outcome(NamedTuple):
    """The mean over new clients after five steps, at the end of a run."""

    accuracy: float
    loss: float


def run(case: Case, overrides: Sequence[str] = SETTING) -> Outcome:
    """Train one case to its end, in this process, and measure the new clients."""
    clients = PARTICIPATING + NEW
    new = list(range(PARTICIPATING, clients))
    config = compose_config(
        [
            f"dataset={case.dataset}",
            f"partition={case.partition}",
            f"partition.num_clients={clients}",
            f"strategy={case.strategy}",
            f"seed={case.seed}",
            f"clients_per_round={PARTICIPATING}",
            f"evaluation.new_clients={new}",
            "evaluation.every=1000000",  # at the start and at the end
            *overrides,
        ]
    )
    app = make_app(hostile if case.attacked else honest)
    with tempfile.TemporaryDirectory() as folder:
        quiet.train(config, Path(folder, "run"), app, supernodes=clients)
        curves = json.loads(Path(folder, "run", "summary.json").read_text())["new"]
    infinity = float("inf")  # which JSON does not know
    accuracy, loss = curves["accuracy"][-1], curves["loss"][-1]
    return Outcome(accuracy, infinity if loss is None else loss)


def cases(datasets: Iterable[str], partitions: Iterable[str], seeds: Iterable[int]) -> list[Case]:
    """Return every rule on every setting, without and under attack."""
    every = product(datasets, partitions, (MEAN, *RULES), (False, True), seeds)
    return [Case(*case) for case in every]


def loss_of_accuracy(outcomes: dict[Case, Outcome], case: Case) -> float:
    """Return how many points lower a case ends than plain averaging without attack, same seed."""
    clean = outcomes[case._replace(strategy=MEAN, attacked=False)]
    return 100 * (clean.accuracy - outcomes[case].accuracy)


def table(outcomes: dict[Case, Outcome]) -> str:
    """Return the outcomes as a Markdown table, a row for each setting and rule."""
    lines = [
        "| data, partition | strategy | accuracy, no attack | accuracy, attack | loss, attack "
        f"| points lost | within {POINTS:g} points |",
        "|---|---|---|---|---|---|---|",
    ]
    seeds = sorted({case.seed for case in outcomes})
    settings = dict.fromkeys((c.dataset, c.partition, c.strategy) for c in outcomes)
    for dataset, partition, strategy in settings:
        clean, attacked = (
            [Case(dataset, partition, strategy, attack, seed) for seed in seeds]
            for attack in (False, True)
        )
        lost = [loss_of_accuracy(outcomes, case) for case in attacked]
        within = "yes" if np.mean(lost) <= POINTS else "no"
        cells = (
            f"{dataset}, {partition}",
            strategy,
            _spread([outcomes[c].accuracy for c in clean], 3),
            _spread([outcomes[c].accuracy for c in attacked], 3),
            f"{np.mean([outcomes[c].loss for c in attacked]):.3g}",
            _spread(lost, 1),
            f"{within} ({sum(points <= POINTS for points in lost)} of {len(lost)} seeds)",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _spread(values: Sequence[float], digits: int) -> str:
    return f"{np.mean(values):.{digits}f} ± {np.std(values):.{digits}f}"


def document(outcomes: dict[Case, Outcome]) -> str:
    """Return docs/robustness.md."""
    seeds = len({case.seed for case in outcomes})
    processor = machine.facts()
    return f"""# Under attack

Written by `python -m benchmarks.attack` (`make attack`); nothing here is typed by hand.

{PARTICIPATING} clients train, all of them in every round, and {HOSTILE} of them send {FACTOR:g}
times their update. {NEW} new clients, which never train, then take five fine-tuning steps each;
their mean accuracy on held-out rows and their mean loss are shown, as mean ± standard deviation
over {seeds} seeds. *Points lost* is against plain averaging (`meta_fedavg`) without attack, seed by
seed. The rules have their default keys: `trimmed_fraction=0.2`, `num_malicious=2`.

`{" ".join(SETTING)}`, otherwise the defaults, on {processor["cpu"]}.

{table(outcomes)}
"""


def main(arguments: Sequence[str]) -> int:
    """Run all cases, print the table and write it down."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.attack", description=__doc__)
    parser.add_argument("--datasets", nargs="+", default=list(DATASETS))
    parser.add_argument("--partitions", nargs="+", default=list(PARTITIONS))
    parser.add_argument("--processes", type=int, default=2)
    given = parser.parse_args(arguments)
    every = cases(given.datasets, given.partitions, SEEDS)
    outcomes: dict[Case, Outcome] = {}
    with quiet.workers(given.processes) as workers:
        for case, outcome in zip(every, workers.map(run, every), strict=True):
            outcomes[case] = outcome
            print(*case, f"{outcome.accuracy:.3f} {outcome.loss:.3g}", flush=True)
    text = document(outcomes)
    print(text)
    (machine.ROOT / DOCUMENT).write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
