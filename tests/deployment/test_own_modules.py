"""Modules of the submitter's own on SuperNodes: found by their names, or missed in one line.

All of them lie where the SuperLink and node 0 look; node 1 lacks one, and both lack another.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from safetensors.torch import load_file

from tests import own_files
from tests.deployment.harness import Federation
from tests.forked import Done

pytestmark = pytest.mark.deployment

TRUST = {"NUFED_TRUST": "tasks,client_app,servers,absent"}


class Site(Federation):
    """A federation that trusts these modules."""

    def environment(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        return super().environment({**TRUST, **(extra or {})})


@pytest.fixture(scope="module")
def federation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    folder = tmp_path_factory.mktemp("own")
    federation = Site(folder / "federation")
    try:
        for name in ("whole", "partly"):
            own_files.lay_out(folder / name)
        (folder / "partly/client_app.py").unlink()
        own_files.lay_out(federation.code)
        (federation.code / "servers.py").write_text(own_files.NET)
        for i, name in enumerate(("whole", "partly")):
            own = f"partition-id={i} num-partitions=2"
            federation.start_node(name, own, env={"PYTHONPATH": str(folder / name)})
        yield federation
    finally:
        federation.close()


def submitted(federation: Federation, target: str, folder: Path) -> Done:
    """Train a model on the server's rows, which every node may read."""
    data = f"dataset.path={federation.code / 'rows.npz'}"
    words = [*own_files.RUN, data, f"model._target_={target}", "server.join_timeout=20"]
    return federation.nufed(*words, f"hydra.run.dir={folder / 'run'}", cwd=folder)


MISSED = (
    "run-config config: there is no module {module} here, which its model._target_ names; put it "
    "on the PYTHONPATH of this SuperLink or SuperNode"
)


def test_a_server_without_the_module_says_so(federation: Federation, tmp_path: Path) -> None:
    done = submitted(federation, "absent.Net", tmp_path)
    assert done.status == 2
    assert "Traceback" not in done.out + done.err
    (line,) = [each for each in done.err.splitlines() if "absent" in each]
    assert MISSED.format(module="absent") in line


def test_a_supernode_without_it_is_named_and_left_out(
    federation: Federation, tmp_path: Path
) -> None:
    done = submitted(federation, "client_app.Net", tmp_path)
    assert done.status == 0, done.out + done.err
    keys = {"client_app.weight", "client_app.bias"}
    assert set(load_file(tmp_path / "run/model.safetensors")) == keys
    said = (done.out + done.err).splitlines()
    (line,) = [each for each in said if " is left out: " in each]
    assert MISSED.format(module="client_app") in line
    assert "2 of 4 clients are there; going on" in "\n".join(said)


def test_where_no_supernode_has_it_the_run_ends_in_lines_that_say_so(
    federation: Federation, tmp_path: Path
) -> None:
    done = submitted(federation, "servers.Net", tmp_path)
    assert done.status == 2
    assert "Traceback" not in done.out + done.err
    lines = [each for each in (done.out + done.err).splitlines() if " is left out: " in each]
    assert len(lines) == 2
    assert all(MISSED.format(module="servers") in each for each in lines)
    assert "no client to train with came within 20 s" in done.err
