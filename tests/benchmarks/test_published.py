"""Published settings: how others measure, by hand; the tables from their record; a run again."""

import json
import re
import shlex
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks.experiments import legacy_synthetic
from benchmarks.experiments.document import parts
from benchmarks.experiments.pages import published
from benchmarks.experiments.pages.published import (
    EARLY,
    HIDDEN,
    MODELS,
    SPLIT,
    TWO_STEPS,
    Method,
    on_its_clients,
    synthetic,
)
from benchmarks.experiments.plan import SEED, Job
from benchmarks.experiments.runs import Outcome, read, run_all
from benchmarks.quiet import train
from nufed.client_app.algorithm import algorithm_of
from nufed.client_app.meta_gradient import Params
from nufed.conf.compose import compose_config
from nufed.tasks.datasets.fashion_mnist import DEBIAN_PACKAGE
from nufed.tasks.task import Task, build
from tests.helpers import require_data

ROOT = Path(__file__).parents[2]
RECORD = json.loads(published.RECORD.read_text())
PAGES = [page.read_text() for page in (ROOT / "docs").glob("results*.md")]
(TEXT,) = [text for text in PAGES if "## Settings of published tables" in text]
SMALL = {
    "rounds": "2",
    "evaluation.every": "2",
    "clients_per_round": "3",
    "dataset.num_clients": "6",
    "dataset.sizes.mean": "1.0",
    "seed": "3",
}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Outcome]:
    """Run FedAvg and pFedMe on six clients; they end with a model each."""
    rows = [synthetic("[]")[0], synthetic("[]")[-1]]
    jobs = {method.name: method.jobs()[0].but(SMALL) for method in rows}
    made = run_all(jobs.values(), tmp_path_factory.mktemp("small"), 1, "small")
    return {name: made[job] for name, job in jobs.items()}


class Client(NamedTuple):
    """What a client's model is made of, and the same model as a module of torch."""

    task: Task
    algorithm: Any
    shared: Params
    module: nn.Linear

    def batch(self, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        x, y = (np.asarray(a)[rows] for a in (self.task.data.x, self.task.data.y))
        return torch.from_numpy(x), torch.from_numpy(y)


@pytest.fixture
def client(small: dict[str, Outcome], request: pytest.FixtureRequest) -> Client:
    run = small[request.param]
    task = build(run.config)
    shared = task.initial_params()
    module = nn.Linear(60, 10)
    with torch.no_grad():
        for own, given in zip(module.parameters(), shared.values(), strict=True):
            own.copy_(given)
    return Client(task, algorithm_of(run.config.algorithm), shared, module)


@pytest.mark.parametrize("client", ["FedAvg"], indirect=True)
def test_others_step_on_the_rows_that_they_measure(client: Client) -> None:
    """A step on the first twenty test rows and one on those that follow, as SGD of torch does."""
    task, algorithm, shared, module = client
    rows = task.data.partition.test_rows(2)
    assert 20 < len(rows) < 40, "the second batch is what is left"
    for some, size in ((rows[:20], 0.3), (rows[20:], 0.1)):
        module.zero_grad()
        x, y = client.batch(some)
        nn.functional.cross_entropy(module(x), y).backward()
        torch.optim.SGD(module.parameters(), lr=size).step()
    found = published.stepped_on_test_rows(0.3, 0.1)(task, algorithm, shared, 2)
    for own, given in zip(module.parameters(), found.values(), strict=True):
        torch.testing.assert_close(given, own.detach())


@pytest.mark.parametrize("client", ["pFedMe"], indirect=True)
def test_the_personal_model_of_others_has_a_round_behind_it(client: Client) -> None:
    """Twenty batches in their order, five steps on each towards its own optimum near w."""
    task, algorithm, shared, module = client
    rows = np.resize(task.data.partition.train_rows(1), (algorithm.tau, 20))
    w = [p.detach().clone() for p in module.parameters()]
    for some in rows:
        x, y = client.batch(some)
        for _ in range(algorithm.nu):
            module.zero_grad()
            nn.functional.cross_entropy(module(x), y).backward()
            with torch.no_grad():
                for p, held in zip(module.parameters(), w, strict=True):
                    assert p.grad is not None
                    p -= algorithm.alpha * (p.grad + algorithm.lamda * (p - held))
        moved = zip(w, module.parameters(), strict=True)
        w = [a - algorithm.beta * algorithm.lamda * (a - p.detach()) for a, p in moved]
    found = published.after_a_round(task, algorithm, shared, 1)
    for own, given in zip(module.parameters(), found.values(), strict=True):
        torch.testing.assert_close(given, own.detach(), rtol=1e-4, atol=1e-5)


def test_together_clients_count_as_they_have_rows(small: dict[str, Outcome]) -> None:
    run = small["FedAvg"]
    written = json.loads((run.folder / "clients.json").read_text())["participating"]
    of = build(run.config).data.partition
    rows = np.array([len(of.test_rows(client)) for client in written["client"]])
    each = np.array(written["accuracy"])[:, 0]
    assert published.together(run) == pytest.approx(rows @ each / rows.sum(), abs=1e-4)
    assert published.together(run) != pytest.approx(each.mean(), abs=1e-3)


def recorded(method: Method, when: str) -> NDArray[np.float64]:
    """Return the accuracies of a method's runs, [seeds, K + 1]."""
    return np.array([RECORD["runs"][job.folder][when] for job in method.jobs()])


def test_the_tables_are_those_of_the_record() -> None:
    for method in [row for hidden in MODELS for row in synthetic(hidden)] + SPLIT:
        cells = " | ".join(published.in_percent(recorded(method, "end")[:, k]) for k in (0, 1, 5))
        assert cells in TEXT, method.name


def again(job: Job, folder: Path) -> Outcome:
    """Run a job from scratch in this process: to start another takes as long as most of them."""
    if job.experiment == "published_fallah_split":
        require_data(DEBIAN_PACKAGE)
    train(job.config, folder)
    return read(job, folder)


def reached(run: Outcome) -> NDArray[np.float64]:
    """Return the accuracies at a run's last evaluation, [K + 1]."""
    last: NDArray[np.float64] = run.curve("participating", "accuracy")[-1]
    return last


def as_recorded(job: Job, when: str) -> Any:
    """Return what equals the accuracies of a job, to what rounding makes of them elsewhere."""
    return pytest.approx(np.array(RECORD["runs"][job.folder][when]), abs=0.002)


def called(method: Method) -> str:
    """Return a name of a row that no other table has."""
    table = "its_clients" if "dataset.seed" in method.choices else method.experiment
    return f"{table}{method.choices.get(HIDDEN, '')} {method.name}"


@pytest.mark.parametrize("method", published.methods(), ids=called)
def test_the_first_rounds_of_every_row_are_found_again(method: Method, tmp_path: Path) -> None:
    """Fifty, from scratch, of one seed."""
    job = method.jobs()[-1]
    run = again(job.but({"rounds": str(EARLY)}), tmp_path / "run")
    assert reached(run) == as_recorded(job, "early")


def cells(title: str, name: str) -> list[str]:
    """Return the cells of the first row of that name after some words of the page."""
    _, after = TEXT.split(title)
    _, row = after.split(f"\n| {name} | ", maxsplit=1)
    return row.partition(" |\n")[0].split(" | ")


def test_a_row_of_the_very_clients_is_found_again(tmp_path: Path) -> None:
    """After all rounds: as recorded, and as printed of all rows together, measured both ways."""
    method = on_its_clients("[]")[2]
    (job,) = method.jobs()
    run = again(job, tmp_path / "run")
    assert reached(run) == as_recorded(job, "end")
    shared, there, *_ = map(float, cells("**On the very clients of that table**", TWO_STEPS))
    assert 100 * published.together(run) == pytest.approx(shared, abs=0.2)
    assert 100 * published.together(run, method.theirs) == pytest.approx(there, abs=0.2)


def test_a_row_of_the_network_is_found_again(tmp_path: Path) -> None:
    """After all rounds of a seed: as recorded, and within the intervals of all seeds together."""
    method = synthetic("[20]")[2]
    job = method.jobs()[-1]
    run = again(job, tmp_path / "run")
    assert reached(run) == as_recorded(job, "end")
    *_, shared, there, _ = cells("**A network 60-20-10**", TWO_STEPS)
    for cell, personal in ((shared, None), (there, method.theirs)):
        _, low, high = map(float, re.findall(r"[\d.]+", cell))
        assert low < 100 * published.together(run, personal) < high


def test_a_row_of_the_split_is_found_again(tmp_path: Path) -> None:
    """After all rounds of a seed, as recorded."""
    job = SPLIT[0].jobs()[-1]
    assert reached(again(job, tmp_path / "run")) == as_recorded(job, "end")


def test_the_words_are_written_anew_around_the_tables() -> None:
    """Without a run; what was run where, and the tables, stay as they are."""
    kept = parts(TEXT)[published.title]
    made = published.anew(kept)
    assert published.anew(made) == made
    for lines in (r"^Run on .*", r"^\|.*"):
        found = re.findall(lines, kept, re.MULTILINE)
        assert found
        assert re.findall(lines, made, re.MULTILINE) == found


@pytest.mark.parametrize("method", published.methods(), ids=called)
def test_the_command_of_a_row_repeats_its_runs(method: Method) -> None:
    """It stands below the table, and what it composes is what was run, of each seed."""
    assert method.command in published.anew(parts(TEXT)[published.title]).splitlines()
    nufed, many, *words = shlex.split(method.command)
    (seeds,) = (word for word in words if word.startswith("seed="))
    assert (nufed, many) == ("nufed", "-m")
    assert seeds == f"seed={','.join(job[SEED] for job in method.jobs())}"
    first = ["seed=0" if word == seeds else word for word in words]
    assert compose_config(["baselines=none", *first]) == method.jobs()[0].config


def test_the_clients_of_others_are_drawn_as_numpy_of_old_draws_them() -> None:
    """Sizes, means and the first client's first row, asked for in the order of their generator."""
    given = on_its_clients("[]")[0].jobs()[0].config.dataset
    rows = legacy_synthetic.read(
        **{k: v for k, v in given.items() if k not in ("_target_", "name")}
    )
    random = np.random.RandomState(0)
    size = (random.lognormal(4, 2, 100).astype(int) + 50) * 5
    u, centre = random.normal(0, 0.5, 100), random.normal(0, 0.5, 100)
    v = [random.normal(b, 1, 60) for b in centre]
    w, b = random.normal(u[0], 1, (60, 10)), random.normal(u[0], 1, 10)
    x = random.multivariate_normal(v[0], np.diag(np.arange(1.0, 61) ** -1.2), size[0])
    assert rows.client is not None
    assert np.bincount(rows.client).tolist() == size.tolist()
    assert (len(rows.y), size.min(), size.max()) == (205795, 250, 25810)
    assert (rows.x[: size[0]] == x.astype(np.float32)).all()
    assert (rows.y[: size[0]] == np.argmax(x @ w + b, axis=1)).all()
