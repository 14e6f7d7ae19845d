"""Workers share a round's clients, and the round survives them."""

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nufed.cli.engines.batched import launch
from nufed.client_app.executor import OneByOne
from nufed.conf.compose import compose_config
from nufed.conf.convert import to_json
from nufed.conf.errors import InputError
from nufed.server_app.terminal import Terminal
from nufed.simulation import actors, workers
from nufed.simulation.actors import Actors
from nufed.simulation.batched import Batched
from nufed.simulation.workers import Workers
from tests.forked import LIMIT_S
from tests.helpers import distance, read_run
from tests.simulation.helpers import (
    Setting,
    assert_same_curves,
    assert_same_training,
    batched,
    evaluate_job,
    setting,
    train_job,
)

LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")


PARTICULAR = """
from torch import nn
from nufed.conf.errors import InputError

class Particular(nn.Sequential):
    \"\"\"Ends the run, as a person's mistake does, at 97 rows; 96 make no stack.\"\"\"

    def __init__(self, num_outputs):
        super().__init__(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, num_outputs))

    def forward(self, x):
        if len(x) == 97:
            raise InputError("algorithm.batch.query=97: too many rows; say 95")
        return super().forward(x) * (1.0 + 0.0 * x.sum().item() if len(x) == 96 else 1.0)
"""


@pytest.fixture(scope="module")
def of(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Setting]:
    """Build a task with a model of someone's own, which the workers find where we do."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "particular.py").write_text(PARTICULAR)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        patch.setenv("PYTHONPATH", str(folder), prepend=os.pathsep)
        model = ("model=custom", "model._target_=particular.Particular")
        yield setting("engine.precision=float64", "algorithm.nu=1", *model)


@pytest.fixture(scope="module")
def engine(of: Setting) -> Iterator[Batched]:
    """Start two workers once, and end Ray after all tests."""
    engine = batched(of, workers=2, chunk_size=2)
    yield engine
    engine.close()
    while workers._idle:
        workers._idle.pop()[1].end()


@pytest.fixture(scope="module")
def environment(of: Setting) -> Iterator[None]:
    """Start Ray in this process, without a worker, and end it after all tests."""
    kept = dict(os.environ)
    Actors().open(to_json(of.config), None, 0, 0, None)
    yield
    import ray

    ray.shutdown()
    os.environ.clear()
    os.environ.update(kept)


@pytest.fixture
def here(of: Setting, environment: None) -> Iterator[Callable[[int], Actors]]:
    """Return what starts so many workers, by a Ray of this process."""
    started: list[Actors] = []

    def start(count: int) -> Actors:
        started.append(Actors())
        started[-1].open(to_json(of.config), None, count, 0, None)
        return started[-1]

    yield start
    for some in started:
        some.close()


def workers_of(engine: Batched) -> Workers:
    assert engine._workers is not None
    return engine._workers


@pytest.mark.parametrize("weighting", ["uniform", "examples"])
def test_two_workers_train_as_one_process_does(
    of: Setting, engine: Batched, weighting: str
) -> None:
    """Whatever the chunk size of the one process; the reports' order too."""
    job = train_job(of, [6, 2, 0, 1, 4, 3, 5], weighting=weighting)
    shared = engine.train(of.params, job)
    assert shared.report.clients == job.clients
    for alone in (OneByOne(of.task), batched(of, chunk_size=2), batched(of, chunk_size=7)):
        assert_same_training(shared, alone.train(of.params, job), 1e-10)


def test_two_workers_measure_as_one_process_does(of: Setting, engine: Batched) -> None:
    expected = OneByOne(of.task).evaluate(of.params, evaluate_job(of))
    assert_same_curves(engine.evaluate(of.params, evaluate_job(of)), expected, 1e-10)


def test_fewer_clients_than_workers(of: Setting, engine: Batched) -> None:
    for clients in ([3], [2, 6]):
        expected = OneByOne(of.task).train(of.params, train_job(of, clients))
        assert_same_training(engine.train(of.params, train_job(of, clients)), expected, 1e-10)


def test_the_work_is_done_in_other_processes_and_counted(of: Setting, engine: Batched) -> None:
    pids = workers_of(engine).pids
    assert len({*pids, os.getpid()}) == 3
    started = time.process_time()
    trained = engine.train(of.params, train_job(of, tau=100))
    assert trained.report.cpu_s > time.process_time() - started


def cpu_ticks(pid: int) -> int:
    """Return the processor time that a process has used, in hundredths of a second."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def kill_at_work(pid: int, victim: int | None = None) -> threading.Thread:
    """Kill a process, or another, once it has worked for a tenth of a second from now on."""
    idle = cpu_ticks(pid)

    def wait_and_kill() -> None:
        while cpu_ticks(pid) < idle + 10:
            time.sleep(0.005)
        os.kill(victim or pid, signal.SIGKILL)

    thread = threading.Thread(target=wait_and_kill)
    thread.start()
    return thread


@LINUX
def test_a_worker_killed_in_the_middle_of_a_round_changes_nothing(
    of: Setting, engine: Batched, caplog: pytest.LogCaptureFixture
) -> None:
    """Its clients are trained anew by another, bit by bit as before; another takes its place."""
    workers, job = workers_of(engine), train_job(of, tau=150)
    undisturbed = engine.train(of.params, job)
    victim, other = workers.pids
    killer = kill_at_work(victim)
    disturbed = engine.train(of.params, job)
    killer.join()
    assert distance(disturbed.update, undisturbed.update) == 0.0
    assert disturbed.report.clients == undisturbed.report.clients
    assert disturbed.report.loss == undisturbed.report.loss
    assert disturbed.report.meta_grad_norm == undisturbed.report.meta_grad_norm
    assert disturbed.report.failed == []
    said = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert said == [f"worker {victim} died; its clients go to another"]
    wait_for_two(of, engine)
    assert workers.pids[0] not in (victim, other, os.getpid())
    assert workers.pids[1] == other
    assert cpu_ticks(workers.pids[0]) > 0  # it lives
    again = engine.train(of.params, job)
    assert distance(again.update, undisturbed.update) == 0.0


def wait_for_two(of: Setting, engine: Batched) -> None:
    """Wait until a worker has taken the place of one that died: the other goes on meanwhile."""
    until = time.monotonic() + LIMIT_S
    while len(workers_of(engine).pids) < 2:
        assert time.monotonic() < until
        engine.evaluate(of.params, evaluate_job(of))


def children(pid: int) -> dict[str, int]:
    """Return the processes that a process has started, by their names."""
    found = (int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
    return {Path(f"/proc/{child}/comm").read_text().strip(): child for child in found}


@LINUX
@pytest.mark.flower
def test_a_raylet_killed_in_the_middle_of_a_round_changes_nothing(
    of: Setting,
    engine: Batched,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Ray ends the process that it is used in; the round begins anew, and nothing else is said."""
    workers, job = workers_of(engine), train_job(of, tau=150)
    undisturbed = engine.train(of.params, job)
    assert workers._ray is not None
    driver = workers._ray.pid
    started, at_work = children(driver), kill_at_work(workers.pids[0], children(driver)["raylet"])
    disturbed = engine.train(of.params, job)
    at_work.join()
    assert distance(disturbed.update, undisturbed.update) == 0.0
    assert disturbed.report.clients == undisturbed.report.clients
    said = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert said[-1] == "Ray died (status 1); it is started again, and the round with it"
    assert all("its clients go to another" in line for line in said[:-1])
    assert capfd.readouterr() == ("", "")
    assert not [pid for pid in (driver, *started.values()) if Path(f"/proc/{pid}").exists()]
    again = engine.train(of.params, job)
    assert distance(again.update, undisturbed.update) == 0.0


@LINUX
def test_a_worker_killed_between_rounds_is_replaced_in_the_next(
    of: Setting, engine: Batched, caplog: pytest.LogCaptureFixture
) -> None:
    """Here the next round is an evaluation."""
    workers = workers_of(engine)
    expected = engine.evaluate(of.params, evaluate_job(of))
    victim = workers.pids[1]
    os.kill(victim, signal.SIGKILL)
    assert engine.evaluate(of.params, evaluate_job(of)) == expected
    wait_for_two(of, engine)
    assert workers.pids[1] != victim
    assert f"worker {victim} died" in caplog.text


def test_a_persons_mistake_found_by_a_worker_is_one_line(of: Setting, engine: Batched) -> None:
    with pytest.raises(InputError) as raised:
        engine.train(of.params, train_job(of, query=97))
    assert str(raised.value) == "algorithm.batch.query=97: too many rows; say 95"
    expected = OneByOne(of.task).train(of.params, train_job(of))
    assert_same_training(engine.train(of.params, train_job(of)), expected, 1e-10)


def test_what_workers_warn_of_is_heard_once(
    of: Setting, engine: Batched, caplog: pytest.LogCaptureFixture
) -> None:
    """Each of them finds for itself, in its first chunk, that no stack can be computed."""
    for round in (1, 2):
        job = train_job(of, query=96, round=round)
        expected = OneByOne(of.task).train(of.params, job)
        assert_same_training(engine.train(of.params, job), expected, 1e-10)
    said = [record.getMessage() for record in caplog.records if record.name == "nufed"]
    assert len(said) == 1
    assert said[0].startswith("clients go one by one: each by itself works, a stack does not")


def test_more_workers_than_processors_are_refused(here: Callable[[int], Actors]) -> None:
    many = 1000
    with pytest.raises(InputError, match=rf"engine.workers={many}: Ray has \d+ CPUs; ask for \d+"):
        here(many)


class Holder:
    """Holds what it is given, as others in a cluster do."""

    def there(self) -> None:
        """Say that it is."""


@pytest.fixture
def held(environment: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """Hold all of Ray's processors; return what gives them back."""
    import ray

    holder = ray.remote(num_cpus=ray.cluster_resources()["CPU"])(Holder).remote()
    ray.get(holder.there.remote())
    monkeypatch.setattr(actors, "TELL_S", 0.1)
    yield lambda: ray.kill(holder)
    ray.kill(holder)


class OnWaiting(logging.Handler):
    """Carries something out when it is told that workers are waited for."""

    def __init__(self, act: Callable[[], None]) -> None:
        super().__init__(logging.WARNING)
        self.act, self.said = act, list[str]()

    def emit(self, record: logging.LogRecord) -> None:
        if not self.said:
            self.act()
        self.said.append(record.getMessage())


def test_workers_that_cannot_start_yet_are_told_of_and_waited_for(
    held: Callable[[], None], here: Callable[[int], Actors]
) -> None:
    """However long it takes: the processors are free when the first line was said, here."""
    handler = OnWaiting(held)
    actors.log.addHandler(handler)
    try:
        started = here(2)
    finally:
        actors.log.removeHandler(handler)
    assert handler.said[0] == (
        "engine.workers=2: 0 of 2 started; others hold the processors, or the machine is busy: "
        "waiting"
    )
    assert all(Path(f"/proc/{pid}").exists() for pid in started.pids)


def test_workers_that_never_start_are_given_up(
    held: Callable[[], None], here: Callable[[int], Actors], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And ask for nothing any more, once others give the processors back."""
    import ray

    monkeypatch.setattr(actors, "START_TIMEOUT_S", 0.3)
    with pytest.raises(InputError, match=r"workers=2: 0 of 2 started, and no other in"):
        here(2)
    held()
    total = ray.cluster_resources()["CPU"]
    wait_until(lambda: ray.available_resources().get("CPU", 0) == total)


def test_ray_that_gives_up_too_soon_is_started_again(
    here: Callable[[int], Actors], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own limit for its processes is 30 s, and its error no class of its own."""
    import ray

    real, calls = ray.init, list[object]()

    def init(address: str | None, **options: object) -> object:
        calls.append(address)
        if len(calls) == 1:
            raise Exception("The current node timed out during startup. This could happen because")
        return real(address, **options)

    monkeypatch.setattr(ray, "init", init)
    here(0)
    assert len(calls) == 2
    monkeypatch.setattr(ray, "init", lambda *_, **__: init_error())
    with pytest.raises(InputError, match=r"Ray did not start in 5 attempts; the machine is busy"):
        here(0)


def init_error() -> None:
    raise Exception("The current node timed out during startup.")


def wait_until(happened: Callable[[], bool]) -> None:
    """Wait for what a busy machine takes minutes for; fail if it does not come."""
    until = time.monotonic() + LIMIT_S
    while not happened():
        assert time.monotonic() < until
        time.sleep(0.1)


def test_a_run_gives_its_workers_back_for_the_next_of_a_sweep(
    engine: Batched, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the next would wait, for ever, for processors that nobody uses.

    It has the same Ray; a run with other modules has one of its own, and the first is ended.
    """
    workers_of(engine)
    engine.close()
    used = []
    data = [f"dataset.path={setting().config.dataset['path']}", "dataset.one_class=keep"]
    rounds = ["rounds=1", "clients_per_round=4", "evaluation.steps=1", "model.hidden=[16]"]
    rounds += ["baselines=none", "report=false"]
    config = compose_config(["dataset=npz", *data, *rounds, "engine.workers=2"])
    for run in "abc":
        if run == "c":
            monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
        launch(config, tmp_path / run, Terminal(quiet=True))
        assert len(read_run(tmp_path / run).rows) == 2
        ((_, ray),) = workers._idle
        used.append(ray)
    assert used[0] is used[1]
    assert used[0] is not used[2]
    assert not used[0].idle
    assert used[2].idle
