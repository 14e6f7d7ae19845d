"""ε counts every release that may have been made, whatever dies when and wherever a run goes on."""

import json
import os
import resource
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path

import pytest
from flwr.app import ArrayRecord, Message, MetricRecord

from nufed.conf.compose import compose_config
from nufed.conf.convert import to_json
from nufed.conf.errors import CannotWrite, InputError, RunStopped
from nufed.server_app import carried, checkpoint
from nufed.server_app.releases import RELEASES, Ledger, opened
from nufed.server_app.resume import resumed_config
from nufed.server_app.tracking import Callback, Row, State
from nufed.strategies.meta_fedavg import MetaFedAvg
from nufed.strategies.privacy import Release
from tests import forked
from tests.helpers import RunResult, epsilon_of, read_run

Z, DELTA = 4.0, 1e-3
RUN = [
    *("dataset=quadratics", "dataset.num_clients=6", "clients_per_round=3", "algorithm.nu=1"),
    *("evaluation.every=100", "evaluation.steps=0", "algorithm.alpha=0.03", "algorithm.beta=0.1"),
    *("algorithm.tau=1", "privacy=central_dp", f"privacy.noise_multiplier={Z}", "tracking=none"),
    *("privacy.clipping_norm=1", f"privacy.delta={DELTA}", "rounds=12", "checkpoint.every=4"),
]
Train = Callable[..., RunResult]


def lines(folder: Path) -> list[Row]:
    return [json.loads(line) for line in (folder / RELEASES).read_text().splitlines()]


def a_release(round: int, asked: int = 3) -> Release:
    return Release(round, asked, 6, Z)


def go_on(folder: Path, *words: str) -> RunResult:
    """Go on with a run in this process."""
    from nufed.client_app.app import app as client_app
    from nufed.server_app.app import app as server_app
    from nufed.simulation.grid import run_in_process

    config = resumed_config(folder, compose_config(list(words)), list(words))
    run_config = {"config": to_json(config), "run-dir": str(folder), "report": False}
    run_in_process(server_app, client_app, run_config, 1)
    return read_run(folder)


def refused(folder: Path, *words: str) -> str:
    """Return the line in which a run does not go on; nothing in its folder changes."""
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    with pytest.raises(InputError) as caught:
        go_on(folder, *(words or ("rounds=9",)))
    assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before
    assert "\n" not in str(caught.value)
    return str(caught.value)


def killed(here: Path, words: list[str], releases: int) -> int:
    """Start a run, kill it once so many releases are written down; return how many there are."""
    run = forked.Started(["nufed", *words], here)
    file, until = here / "run" / RELEASES, time.monotonic() + forked.LIMIT_S
    while not file.exists() or file.read_bytes().count(b"\n") < releases:
        assert run.process.poll() is None, run.done()
        assert time.monotonic() < until
        time.sleep(0.005)
    run.process.kill()
    assert run.done().status == -signal.SIGKILL
    return len(lines(here / "run"))


def newest(run: Path) -> int:
    return max(int(file.name[:6]) for file in (run / "checkpoint").glob("*.safetensors"))


def test_a_run_killed_twice_counts_what_it_released_after_its_checkpoints(tmp_path: Path) -> None:
    """Every row's ε is that of all lines until then, and each resume begins with all of them."""
    run = tmp_path / "run"
    first = killed(tmp_path, [*RUN, "algorithm.tau=30", "hydra.run.dir=run"], releases=6)
    assert (newest(run), first >= 6) == (4, True)
    second = killed(tmp_path, ["resume=run"], releases=first + 2)
    done_before = newest(run)
    done = forked.run(["nufed", "resume=run"], tmp_path)
    assert done.status == 0, done.err
    ended, all_of_it = read_run(run), lines(run)
    assert len(all_of_it) == second + 12 - done_before > 12
    assert [each["round"] for each in all_of_it[:first]] == [*range(1, first + 1)]
    assert all_of_it[first]["round"] == 5
    for row in ended.rows[1:]:
        released = second + row["round"] - done_before
        if row["round"] > done_before:
            assert row["epsilon"] == pytest.approx(epsilon_of(released, Z, DELTA), rel=1e-9)
    for one, next in pairwise(ended.rows[1:]):
        assert next["epsilon"] > one["epsilon"]
    total = epsilon_of(len(all_of_it), Z, DELTA)
    assert ended.rows[-1]["epsilon"] == pytest.approx(total, rel=1e-9)
    assert ended.summary["epsilon"] == ended.rows[-1]["epsilon"]
    assert f"ε = {total:.3g} at δ = {DELTA:g}" in done.out
    assert f"ε = {total:.3g} at δ" in (run / "report.html").read_text()


def test_a_line_a_release_in_their_order(train: Train) -> None:
    run = train(RUN)
    assert lines(run.folder) == [
        {"round": round, "asked": 3, "clients": 6, "noise_multiplier": Z} for round in range(1, 13)
    ]
    assert run.summary["epsilon"] == pytest.approx(epsilon_of(12, Z, DELTA), rel=1e-9)
    assert opened(run.folder, a_release(0)).releases == [a_release(i) for i in range(1, 13)]


def test_a_run_without_privacy_has_no_ledger(train: Train) -> None:
    run = train([word for word in RUN if "privacy" not in word])
    assert not (run.folder / RELEASES).exists()


def test_a_torn_last_line_is_one_release_and_is_mended(tmp_path: Path) -> None:
    """Wherever a power cut tore it, and with zeros that took its place."""
    ledger = Ledger(tmp_path, [])
    for round in (1, 2, 3):
        ledger.add(a_release(round))
    whole = (tmp_path / RELEASES).read_bytes()
    last = whole.rindex(b"\n", 0, -1) + 1
    ends = [whole[last:end] for end in range(last + 1, len(whole))]
    for end in [*ends, b"\0" * 70, b"\0" * 69 + b"\n", b"\xff\xfe", b"{}\n"]:
        (tmp_path / RELEASES).write_bytes(whole[:last] + end)
        found = opened(tmp_path, torn=a_release(9, asked=6))
        assert found.releases[:2] == ledger.releases[:2]
        assert found.releases[2:] == [a_release(3) if end == ends[-1] else a_release(9, asked=6)]
        assert lines(tmp_path) == [asdict(each) for each in found.releases]
        found.add(a_release(10))
        assert len(opened(tmp_path, a_release(0)).releases) == 4


def test_a_torn_line_counts_in_the_run(train: Train) -> None:
    run = train([*RUN, "rounds=3"]).folder
    with (run / RELEASES).open("ab") as file:
        file.write(b'{"round": 4, "as')
    ended = go_on(run, "rounds=5")
    assert ended.summary["epsilon"] == pytest.approx(epsilon_of(6, Z, DELTA), rel=1e-9)
    assert [each["round"] for each in lines(run)] == [1, 2, 3, 4, 4, 5]
    assert go_on(run, "rounds=6").rows[-1]["epsilon"] > ended.summary["epsilon"]


def test_what_was_released_after_the_checkpoint_counts_against_the_budget(train: Train) -> None:
    """Of a budget for eight releases, three are left by the checkpoint, and none by the ledger."""
    budget = (epsilon_of(8, Z, DELTA) + epsilon_of(9, Z, DELTA)) / 2
    run = train([*RUN, "rounds=5", f"privacy.max_epsilon={budget}"]).folder
    ledger = opened(run, a_release(0))
    for _ in range(2):  # resumed twice, and killed in round 6 each time
        ledger.add(a_release(6))
    with pytest.raises(RunStopped, match=r"^round 7: one more release would exceed"):
        go_on(run, "rounds=9")
    assert read_run(run).rows[-1]["epsilon"] == pytest.approx(epsilon_of(8, Z, DELTA), rel=1e-9)
    ledger = opened(run, a_release(0))
    ledger.add(a_release(7))
    with pytest.raises(RunStopped, match=r"^round 7: one more release would exceed"):
        go_on(run, "rounds=9")
    assert json.loads((run / "summary.json").read_text())["epsilon"] == pytest.approx(
        epsilon_of(9, Z, DELTA), rel=1e-9
    ), "the end says what no row could"
    assert len(lines(run)) == 9


def without(run: Path, some: slice) -> None:
    kept = (run / RELEASES).read_text().splitlines(keepends=True)
    del kept[some]
    (run / RELEASES).write_text("".join(kept))


def say(key: str, value: object) -> Callable[[Path], None]:
    """Change the second line."""

    def change(run: Path) -> None:
        told = lines(run)
        told[1][key] = value
        (run / RELEASES).write_text("".join(f"{json.dumps(each)}\n" for each in told))

    return change


def cut_metrics(run: Path) -> None:
    """Let a row tell of what is neither in the checkpoint nor in the ledger."""
    shutil.rmtree(run / "checkpoint")
    shutil.copytree(run.with_name("before"), run / "checkpoint")
    without(run, slice(4, 6))


FORGED: dict[str, tuple[Callable[[Path], None], str]] = {
    "deleted": (
        lambda run: (run / RELEASES).unlink(),
        "is not there (an older version wrote none)",
    ),
    "emptied": (lambda run: without(run, slice(0, 9)), "it has 0 releases, and the checkpoint 6"),
    "cut": (lambda run: without(run, slice(5, 6)), "it has 5 releases, and the checkpoint 6"),
    "one in its midst": (say("asked", 2), "its first 6 releases are not those of the checkpoint"),
    "more noise": (say("noise_multiplier", 9.0), "round 2 is not of this run's noise and clients"),
    "other clients": (say("clients", 7), "round 2 is not of this run's noise and clients"),
    "too many asked": (say("asked", 7), "in round 2, 7 of 6 clients were asked"),
    "nobody asked": (say("asked", 0), "in round 2, 0 of 6 clients were asked"),
    "no number": (say("asked", "3"), "line 2 is no release (asked is '3', not a whole number)"),
    "a key": (say("more", 1), "line 2 is no release (has an unknown 'more')"),
    "rows tell of more": (cut_metrics, "it has 4 releases, and metrics.jsonl tells of 6"),
}


@pytest.mark.parametrize(("change", "words"), FORGED.values(), ids=FORGED.keys())
def test_a_ledger_with_too_little_is_refused(
    train: Train, tmp_path: Path, change: Callable[[Path], None], words: str
) -> None:
    run = train([*RUN, "rounds=4"]).folder
    shutil.copytree(run / "checkpoint", run.with_name("before"))
    go_on(run, "rounds=6")
    change(run)
    line = refused(run)
    assert line.startswith(f"{run / RELEASES}: ")
    assert words in line


def test_what_is_no_regular_file_is_refused(train: Train, tmp_path: Path) -> None:
    run = train([*RUN, "rounds=2"]).folder
    (run / RELEASES).rename(tmp_path / "elsewhere")
    (run / RELEASES).symlink_to(tmp_path / "elsewhere")
    assert "releases.jsonl: is a symbolic link" in refused(run)


def test_a_new_run_does_not_go_on_with_anothers_releases(train: Train, tmp_path: Path) -> None:
    (tmp_path / "run1").mkdir()
    Ledger(tmp_path / "run1", []).add(a_release(1))
    with pytest.raises(InputError, match=r"releases\.jsonl: is of another run; name another"):
        train(RUN)
    assert [each.name for each in (tmp_path / "run1").iterdir()] == [RELEASES]


class Harm(Callback):
    """Does harm once the row of round 3 is written."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_round(self, row: Row, state: State) -> None:
        if row["round"] == 3:
            self.harm()

    def harm(self) -> None:
        raise NotImplementedError


class FullDisk(Harm):
    """Ten bytes are left of it for the ledger."""

    def harm(self) -> None:
        room = (self.folder / RELEASES).stat().st_size + 10
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, resource.RLIM_INFINITY))


class Gone(Harm):
    def harm(self) -> None:
        self.folder.rename(self.folder.with_name("moved"))
        self.folder.touch()


class Deleted(Harm):
    def harm(self) -> None:
        (self.folder / RELEASES).unlink()


class CutOff(MetaFedAvg):
    """Ctrl-C while round 4's model, which was released, is on its way."""

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        made = super().aggregate_train(server_round, replies)
        if server_round == 4:
            raise KeyboardInterrupt
        return made


@pytest.fixture(autouse=True)
def _as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Undo the limit; let temporary files lie where the test sees them."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    limits, before = resource.getrlimit(resource.RLIMIT_FSIZE), signal.getsignal(signal.SIGXFSZ)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    signal.signal(signal.SIGXFSZ, before)


def harmed(train: Train, harm: type[Harm], *more: str) -> str:
    """Return the line in which such a run ends, before round 4's release is made."""
    with pytest.raises(CannotWrite) as caught:
        train([*RUN, *more, f"+tracking.mine._target_={__name__}.{harm.__name__}"])
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_cannot_be_written_down_is_not_released(train: Train, tmp_path: Path) -> None:
    """Nothing of it is left in the ledger; with room again, the run goes on and counts twelve."""
    line, run = harmed(train, FullDisk, "checkpoint.every=3"), tmp_path / "run1"
    assert line.startswith(f"{run / RELEASES}: cannot be written (File too large); ")
    assert len(lines(run)) == 3
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    ended = go_on(run, "tracking=none")
    assert [each["round"] for each in lines(run)] == [*range(1, 13)]
    assert ended.summary["epsilon"] == pytest.approx(epsilon_of(12, Z, DELTA), rel=1e-9)


def test_the_ledger_goes_where_the_run_can_be_resumed(train: Train, tmp_path: Path) -> None:
    line = harmed(train, Gone)
    (place,) = (tmp_path / "temporary").iterdir()
    assert line == (
        f"{tmp_path}/run1/releases.jsonl: cannot be written (Not a directory); "
        f"the model of round 3 is in {place}; go on with: nufed resume={place}"
    )
    assert lines(place) == lines(tmp_path / "moved")
    ended = go_on(place, "tracking=none")
    assert [each["round"] for each in lines(place)] == [*range(1, 13)]
    assert ended.summary["epsilon"] == pytest.approx(epsilon_of(12, Z, DELTA), rel=1e-9)


def test_a_ledger_that_is_deleted_under_a_run_is_not_begun_anew(
    train: Train, tmp_path: Path
) -> None:
    line, run = harmed(train, Deleted), tmp_path / "run1"
    assert f"{run / RELEASES}: cannot be written (No such file or directory)" in line
    assert "is not there (an older version wrote none)" in refused(run, "tracking=none")


def test_the_end_counts_a_release_that_no_row_tells_of(train: Train, tmp_path: Path) -> None:
    """So does the report, and so do the rows of the run that goes on."""
    with pytest.raises(KeyboardInterrupt):
        train([*RUN, f"strategy._target_={__name__}.{CutOff.__name__}"], report=True)
    run, spent = tmp_path / "run1", epsilon_of(4, Z, DELTA)
    summary = json.loads((run / "summary.json").read_text())
    assert (summary["rounds"], len(lines(run))) == (3, 4)
    assert summary["epsilon"] == pytest.approx(spent, rel=1e-9)
    assert f"ε = {spent:.3g} at δ" in (run / "report.html").read_text()


def test_a_run_that_a_server_may_have_gone_on_with_is_not_resumed_without_its_releases(
    train: Train,
) -> None:
    run = train([*RUN, "rounds=2"]).folder
    (run / "submitted.json").write_text("{}")
    line = refused(run)
    assert line.startswith(f"{run / 'submitted.json'}: says that a server went on with this run")
    assert "add engine=deployment" in line
    (run / "submitted.json").unlink()
    assert go_on(run, "rounds=3").summary["rounds"] == 3


def test_releases_travel_with_the_checkpoint_and_those_of_a_server_stay(
    train: Train, tmp_path: Path
) -> None:
    """Submitted once more after a kill: the server had two more from the first time."""
    run, app, there = train([*RUN, "rounds=2"]).folder, tmp_path / "app", tmp_path / "there"
    app.mkdir()
    Ledger(run, opened(run, a_release(0)).releases).add(a_release(3))
    carried.carry(run, app)
    carried.unload(app, there)
    assert lines(there) == lines(run)
    ledger = opened(there, a_release(0))
    for round in (3, 4):
        ledger.add(a_release(round))
    carried.unload(app, there)
    assert [each["round"] for each in lines(there)] == [1, 2, 3, 3, 4]
    assert checkpoint.read(there).state.round == 2
    shutil.copy(run / "config.yaml", there)
    ended = go_on(there, "rounds=5")
    assert ended.summary["epsilon"] == pytest.approx(epsilon_of(8, Z, DELTA), rel=1e-9)
    with checkpoint.alone(there), pytest.raises(InputError, match="going on in another process"):
        carried.unload(app, there)


def test_a_release_is_on_the_disk_before_it_is_made(tmp_path: Path) -> None:
    """The order of the calls to the kernel: write, fsync of the file, fsync of its folder."""
    calls, real = list[tuple[str, str]](), {"write": os.write, "fsync": os.fsync}

    def noted(name: str) -> Callable[..., object]:
        def call(descriptor: int, *rest: object) -> object:
            calls.append((name, os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}"))))
            return real[name](descriptor, *rest)  # type: ignore[operator]

        return call

    with pytest.MonkeyPatch.context() as patch:
        for name in real:
            patch.setattr(os, name, noted(name))
        ledger = Ledger(tmp_path, [])
        ledger.add(a_release(1))
        ledger.add(a_release(2))
    added = [("write", RELEASES), ("fsync", RELEASES)]
    assert calls == [*added, ("fsync", tmp_path.name), *added]
