"""The opponents: how they are found and given work, and that they do the work they are timed for.

What runs one of them is marked `bench`: they are installed in an environment of their own.
"""

import subprocess
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from benchmarks import contenders
from benchmarks.contenders import NOT_INSTALLED, opponents
from benchmarks.machine import ROOT
from benchmarks.opponents.found import Opponent, found
from benchmarks.opponents.given import given as work_of
from benchmarks.opponents.jax_client import from_torch, to_torch
from benchmarks.opponents.process import OpponentFailed, Process, installed, python
from benchmarks.opponents.work import Work
from benchmarks.report import cells
from benchmarks.setting import Setting, setting
from nufed.client_app.algorithm import clipped, local_update
from nufed.client_app.algorithms.meta_gradient import MetaGradient
from nufed.client_app.meta_gradient import Params

CLIENTS, ROWS = 3, 5
OPPONENTS = {opponent.NEEDS: opponent for opponent in found()}
MLP = ("model=mlp", "model.hidden=[6]", "algorithm.alpha=0.1", "algorithm.beta=0.2")
META = ("algorithm=nufed", "algorithm.nu=2", "algorithm.tau=3", "algorithm.batch.support=5")
FEDAVG = ("algorithm=fedavg", "algorithm.tau=4", "algorithm.batch.support=5")
CASES: dict[str, tuple[Sequence[str], float | None]] = {
    "exact": ((*MLP, *META, "algorithm.mode=exact"), None),
    "first-order": ((*MLP, *META, "algorithm.mode=first_order"), None),
    "ditto": ((*MLP, "algorithm=ditto", "algorithm.lamda=0.7", "algorithm.tau=3"), None),
    "clipped": ((*MLP, *FEDAVG), 0.05),
    "convolutions": (
        ("model=custom", "model._target_=benchmarks.published.cnn", *FEDAVG, *MLP[2:]),
        None,
    ),
}
JAX = """
import sys
from pathlib import Path
import jax, numpy as np
from benchmarks.opponents import jax_client, jax_loop, jax_ways
from benchmarks.opponents.work import Work

folder = Path(sys.argv[1])
work, out = Work.read(folder), {}
params, key = jax.device_put(jax_client.from_torch(work.params)), jax.random.key(5)
held = jax_ways.hold(work)
rows = [jax_ways.drawn(work, held, key, i) for i in range(work.clients)]
for number, name in enumerate(jax_loop.ways(work)):
    states = jax_loop.states_of(work, params)
    total, states = jax_ways.WAYS[name](work, held)(params, states, key)
    for i, p in enumerate(jax_client.to_torch(total)):
        out[f"{number}-{i}"] = p / work.clients
    for i, p in enumerate(jax.tree.leaves(states)):
        out[f"{number}-state-{i}"] = p
np.savez(folder / "rows.npz", rows=np.stack(rows))
np.savez(folder / "out.npz", **out)
"""
TORCH = """
import importlib, sys
from pathlib import Path
import numpy as np
from benchmarks.opponents.work import Work

folder, made = Path(sys.argv[1]), []
opponent = importlib.import_module(sys.argv[2])
build = opponent.module
opponent.module = lambda work: made.append(build(work)) or made[-1]
work = Work.read(folder)
opponent.prepare(work)  # and carries out a round
after = [p.detach().numpy() for p in made[0].parameters()]
pairs = enumerate(zip(work.params, after))
np.savez(folder / "out.npz", **{f"0-{i}": before - now for i, (before, now) in pairs})
"""


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a data set of three clients of 20 rows of 3 x 8 x 8."""
    path: Path = tmp_path_factory.mktemp("images") / "images.npz"
    random = np.random.default_rng(1)
    np.savez(
        path,
        x=random.normal(size=(60, 3, 8, 8)).astype(np.float32),
        y=random.integers(0, 4, 60),
        client=np.repeat(np.arange(CLIENTS), 20),
    )
    return path


@pytest.fixture
def make(images: Path) -> Callable[[str], tuple[Setting, Work]]:
    """Return what makes a case's setting and work."""

    def made(case: str) -> tuple[Setting, Work]:
        overrides, clip = CASES[case]
        rows = f"algorithm.batch.query={ROWS}"
        made = setting(["dataset=npz", f"dataset.path={images}", *overrides, rows], CLIENTS)
        return made, work_of(made, clip=clip)

    return made


def ours(given: Setting, work: Work, rows: Sequence[NDArray[Any]]) -> tuple[Params, list[Params]]:
    """Return the mean update of NuFed's clients whose batches are of given rows, and their states.

    `rows` has for each client [τ, ν + 1, D].
    """
    algorithm, x, y = given.job.algorithm, torch.from_numpy(work.x), torch.from_numpy(work.y)
    step = partial(algorithm.step, given.task.loss)
    updates, states = [], []
    for of_client in rows:
        batches = []
        for at in torch.from_numpy(np.array(of_client)):
            batch = {"query": (x[at[-1]], y[at[-1]])}
            if isinstance(algorithm, MetaGradient):
                batch["support"] = (x[at[:-1]], y[at[:-1]])
            batches.append(batch)
        state = algorithm.state(given.params)
        done = local_update(algorithm, step, given.params, state, batches)
        update = done.update
        if work.spec.clip is not None:
            length = torch.cat([p.flatten() for p in update.values()]).norm()
            assert length > work.spec.clip, "or nothing is clipped"
            update = clipped(update, length, work.spec.clip)
        updates.append(update)
        states.append(done.state)
    mean = {n: torch.stack([u[n] for u in updates]).mean(0) for n in given.params}
    return mean, states


def run(program: str, folder: Path, *arguments: str) -> dict[str, NDArray[Any]]:
    """Run a program beside an opponent; return what it wrote."""
    command = [python(), "-c", program, str(folder), *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return dict(np.load(folder / "out.npz"))


def needs(name: str) -> Opponent:
    """Return an opponent, where it is installed."""
    opponent = OPPONENTS[name]
    if not installed(opponent):
        pytest.skip(f"{name} is not installed: make test-bench")
    return opponent


@pytest.mark.bench
@pytest.mark.parametrize("case", CASES)
def test_jax_computes_what_we_do_each_way(
    make: Callable[[str], tuple[Setting, Work]], case: str, tmp_path: Path
) -> None:
    needs("jax")
    given, work = make(case)
    work.write(tmp_path)
    out = run(JAX, tmp_path)
    update, states = ours(given, work, list(np.load(tmp_path / "rows.npz")["rows"]))
    ways = {name.split("-")[0] for name in out}
    assert len(ways) == (2 if case == "convolutions" else 5)
    for way in ways:
        for i, p in enumerate(update.values()):
            np.testing.assert_allclose(out[f"{way}-{i}"], p.numpy(), rtol=1e-4, atol=2e-6)
        if case == "ditto":
            for client, state in enumerate(states):
                pairs = from_torch([p.numpy() for p in state.values()])
                leaves = [leaf for pair in pairs for leaf in pair]
                for i, leaf in enumerate(leaves):
                    theirs = out[f"{way}-state-{i}"][client]
                    np.testing.assert_allclose(theirs, leaf, rtol=1e-4, atol=2e-6)


@pytest.mark.bench
@pytest.mark.parametrize("name", ["pfl", "blazefl"])
@pytest.mark.parametrize("case", ["convolutions", "clipped"])
def test_other_engines_compute_what_our_fedavg_does(
    make: Callable[[str], tuple[Setting, Work]], case: str, name: str, tmp_path: Path
) -> None:
    opponent = needs(name)
    given, work = make(case)
    if opponent.lacks(work) is not None:
        pytest.skip(f"{name}: {opponent.lacks(work)}")
    work.write(tmp_path)
    out = run(TORCH, tmp_path, opponent.__name__)
    update, _ = ours(given, work, list(work.drawn[:, :, None]))
    for i, p in enumerate(update.values()):
        np.testing.assert_allclose(out[f"0-{i}"], p.numpy(), rtol=1e-4, atol=2e-6)


@pytest.mark.bench
@pytest.mark.parametrize("name", OPPONENTS)
def test_an_opponent_answers_with_the_seconds_it_took(
    make: Callable[[str], tuple[Setting, Work]], name: str
) -> None:
    opponent = needs(name)
    with Process(opponent, make("convolutions")[1]) as process:
        assert process.about.startswith(f"{name} ")
        assert all(0 < process.round() < 60 for _ in range(2))


def test_they_are_found_by_their_folder() -> None:
    assert OPPONENTS.keys() == {"jax", "pfl", "blazefl"}


def test_one_that_is_not_installed_says_so_in_the_table(
    make: Callable[[str], tuple[Setting, Work]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contenders, "installed", lambda opponent: False)
    given, work = make("ditto")
    with opponents(work, given, lambda _: None, {"JAX, jitted": []}) as (trainers, missing):
        assert trainers == []
    assert [line.contender for line in missing] == ["JAX, jitted"], "the others have no Ditto"
    assert cells(missing[0])[1] == NOT_INSTALLED


def test_one_that_fails_says_why(make: Callable[[str], tuple[Setting, Work]]) -> None:
    opponent = cast(Opponent, SimpleNamespace(__name__="benchmarks.opponents.nobody"))
    with pytest.raises(OpponentFailed, match="nobody"):
        Process(opponent, make("exact")[1])


def test_work_is_read_as_written(
    make: Callable[[str], tuple[Setting, Work]], tmp_path: Path
) -> None:
    _, work = make("exact")
    work.write(tmp_path)
    again = Work.read(tmp_path)
    assert again.spec == work.spec
    for ours, theirs in zip([*work.params, work.x], [*again.params, again.x], strict=True):
        assert (ours == theirs).all()


def test_what_is_given_is_what_the_setting_says(
    make: Callable[[str], tuple[Setting, Work]],
) -> None:
    given, work = make("exact")
    assert work.spec.layers == ["flatten", "linear", "relu", "linear"]
    assert (work.spec.nu, work.spec.tau, work.spec.exact, work.spec.gradients) == (2, 3, True, 9)
    part = given.task.data.partition
    for client in range(CLIENTS):
        x, y = given.task.batch(part.train_rows(client))
        assert (work.x[work.rows(client)] == x.numpy()).all()
        assert (work.y[work.rows(client)] == y.numpy()).all()
        drawn = work.drawn[client]
        assert drawn.shape == (9, ROWS)
        assert drawn.min() >= work.offset[client]
        assert drawn.max() < work.offset[client + 1]


def test_parameters_come_back_from_jax_as_they_were(
    make: Callable[[str], tuple[Setting, Work]],
) -> None:
    for case in ("exact", "convolutions"):
        _, work = make(case)
        for before, after in zip(work.params, to_torch(from_torch(work.params)), strict=True):
            assert (before == after).all()
