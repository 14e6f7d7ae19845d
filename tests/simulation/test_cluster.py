"""A Ray cluster of two machines on loopback, set up as docs/engines.md says; one is lost."""

import logging
import os
import re
import shlex
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from nufed.simulation import workers
from nufed.simulation.workers import Workers
from tests import forked
from tests.docs.pages import sections
from tests.forked import LIMIT_S, Started
from tests.helpers import distance, read_run
from tests.simulation.helpers import batched, evaluate_job, setting, train_job
from tests.simulation.machines import Cluster, Machine
from tests.simulation.test_engines import assert_same
from tests.simulation.test_workers import cpu_ticks

pytestmark = [
    pytest.mark.flower,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc"),
]
SECOND, THIRD, OTHER = "127.0.0.2", "127.0.0.3", "127.0.0.4"


def page(cluster: Cluster) -> Iterator[list[str]]:
    """Yield what docs/engines.md has people type for a cluster, where this one is."""
    section = sections("engines.md")["Several machines"]
    for block in re.findall(r"```sh\n(.*?)```", section, re.DOTALL):
        here = block.replace("10.0.0.1:6379", cluster.address)
        here = here.replace("--port=6379", f"--port={cluster.address.rpartition(':')[2]}")
        for line in here.replace("10.0.0.1", "127.0.0.1").splitlines():
            yield shlex.split(line, comments=True)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Start the first machine, as the page says; what uses it here has its token."""
    cluster = Cluster()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in cluster.environment.items():
            patch.setenv(name, value)
        try:
            (head,) = (words for words in page(cluster) if "--head" in words)
            cluster.type_in(head)
            yield cluster
        finally:
            cluster.close()


def kill_at_work(machine: Machine, ready: Callable[[], bool]) -> threading.Thread:
    """Kill a machine in the middle of a round: once its worker has worked for a tenth of a second.

    From when `ready` on.
    """

    def wait_and_kill() -> None:
        until = time.monotonic() + LIMIT_S
        while not ready():
            assert time.monotonic() < until
            time.sleep(0.01)
        worker = machine.worker()
        idle = cpu_ticks(worker)
        while cpu_ticks(worker) < idle + 10:
            assert time.monotonic() < until
            time.sleep(0.005)
        machine.kill()

    thread = threading.Thread(target=wait_and_kill, daemon=True)
    thread.start()
    return thread


def test_a_machine_lost_in_the_middle_of_a_run_leaves_the_same_model(
    cluster: Cluster, tmp_path: Path
) -> None:
    """Set up and typed as on the page; one line says so, and the run goes on by itself."""
    (join,) = (words for words in page(cluster) if f"--address={cluster.address}" in words)
    (typed,) = (words for words in page(cluster) if words[0] == "nufed")
    calm, lost = tmp_path / "calm", tmp_path / "lost"
    plain = [word for word in typed if "ray_address" not in word]
    done = forked.run([*plain, f"hydra.run.dir={calm}"], tmp_path)
    assert done.status == 0, done.err
    second = cluster.type_in([*join, f"--node-ip-address={SECOND}"])
    run = Started([*typed, f"hydra.run.dir={lost}"], tmp_path)
    rows = lost / "metrics.jsonl"

    def in_round_two() -> bool:
        assert run.process.poll() is None, run.done()
        return rows.exists() and rows.read_text().count("\n") == 2

    killer = kill_at_work(second, in_round_two)
    done = run.done()
    killer.join(60.0)
    assert not killer.is_alive(), "nobody was killed"
    assert done.status == 0, done.err
    assert_same(read_run(lost), read_run(calm))
    said = [line for line in (done.out + done.err).splitlines() if " lost" in line]
    assert said == [
        f"machine {SECOND} is lost; its clients go to others: 1 of 2 workers are left until one "
        "joins the cluster in its place"
    ]


def test_a_lost_machine_changes_no_bit_and_another_takes_its_place(
    cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    of, second = setting("engine.precision=float64", "algorithm.nu=1"), cluster.join(SECOND)
    engine = batched(of, workers=2, chunk_size=2, ray_address=cluster.address)
    try:
        job = train_job(of, tau=150)
        undisturbed = engine.train(of.params, job)
        killer = kill_at_work(second, lambda: True)
        disturbed = engine.train(of.params, job)
        killer.join(60.0)
        assert distance(disturbed.update, undisturbed.update) == 0.0
        assert disturbed.report.clients == undisturbed.report.clients
        assert disturbed.report.loss == undisturbed.report.loss
        levels = [each for each in caplog.records if each.levelno >= logging.WARNING]
        (said,) = (each.getMessage() for each in levels)
        assert said.startswith(f"machine {SECOND} is lost; its clients go to others: 1 of 2")
        left = engine._workers
        assert isinstance(left, Workers)
        assert len(left.pids) == 1
        third = cluster.join(THIRD)
        until = time.monotonic() + LIMIT_S
        while len(left.pids) < 2:
            assert time.monotonic() < until
            engine.evaluate(of.params, evaluate_job(of))
        assert third.worker() in left.pids
        again = engine.train(of.params, job)
        assert distance(again.update, undisturbed.update) == 0.0
    finally:
        engine.close()
        while workers._idle:
            workers._idle.pop()[1].end()
    third.kill()


def test_a_machine_without_the_data_is_named_in_one_line(cluster: Cluster, tmp_path: Path) -> None:
    """One path, which is another file on each machine; then one with other rows, too."""
    machine = cluster.join(OTHER)
    for has in (tmp_path, cluster.machines[0].folder):
        write_rows(has / "mine.npz", seed=0)
    own = ["dataset=npz", "dataset.path=/proc/self/cwd/mine.npz", "rounds=1", "clients_per_round=3"]
    words = ["nufed", *own, f"engine.ray_address={cluster.address}", "engine.workers=2"]
    begins = f"nufed: engine.ray_address={cluster.address}: machine {OTHER} cannot do the work: "
    ends = "; give each machine NuFed, the data and your own modules, where this one has them"
    for run, why in (("none", "mine.npz"), ("others", "its data are not those of the run (digest")):
        if run == "others":
            write_rows(machine.folder / "mine.npz", seed=1)
        done = forked.run([*words, f"hydra.run.dir={tmp_path / run}"], tmp_path)
        assert done.status == 2, done.out + done.err
        (*_, line) = done.err.splitlines()
        assert "Traceback" not in done.err
        assert line.startswith(begins), done.err
        assert line.endswith(ends)
        assert why in line
    machine.kill()


def write_rows(file: Path, seed: int) -> None:
    """Write a small data set of four clients."""
    random = np.random.default_rng(seed)
    x, client = random.normal(size=(120, 4)).astype(np.float32), np.repeat(np.arange(4), 30)
    np.savez(file, x=x, y=random.integers(2, size=120), client=client)


def test_a_cluster_that_runs_is_used_by_none_that_does_not_name_it(
    cluster: Cluster, tmp_path: Path
) -> None:
    """Nor by one without its token, which is told so in a line."""
    words = ["nufed", "rounds=1", "clients_per_round=4", "engine.workers=1", "baselines=none"]
    there = os.environ | {"RAY_ADDRESS": cluster.address}
    done = forked.run([*words, "engine.workers=2", "hydra.run.dir=alone"], tmp_path, there)
    assert done.status == 0, done.err
    stranger = os.environ | {"RAY_AUTH_TOKEN": "0" * 64}
    named = f"engine.ray_address={cluster.address}"
    done = forked.run([*words, named, "hydra.run.dir=stranger"], tmp_path, stranger)
    assert done.status == 2, done.err
    assert "Traceback" not in done.err
    (*_, line) = done.err.splitlines()
    assert line.startswith(f"nufed: {named}: "), done.err


def test_the_page_makes_a_token(cluster: Cluster, tmp_path: Path) -> None:
    (make,) = (words for words in page(cluster) if words[:2] == ["ray", "get-auth-token"])
    env = {name: value for name, value in os.environ.items() if name != "RAY_AUTH_TOKEN"}
    done = forked.run(make, tmp_path, env | {"HOME": str(tmp_path)})
    assert done.status == 0, done.err
    assert (tmp_path / ".ray" / "auth_token").read_text().strip() in done.out
