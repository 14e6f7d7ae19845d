"""Where a run may leave its folder: what another machine says of it is kept within the server's."""

from pathlib import Path

import pytest
from flwr.app import Context, RecordDict

from nufed.conf.compose import compose_config
from nufed.conf.errors import InputError
from nufed.server_app.run_dir import run_dir
from nufed.simulation.flower_host import SERVER_NODE_ID


@pytest.mark.parametrize(
    ("words", "named", "key"),
    [
        ([], "../x", "run-dir=../x"),
        ([], "/tmp/x", "run-dir=/tmp/x"),
        ([], "a/../../x", "run-dir=a/../../x"),
        ([], "inner/../x", "run-dir=inner/../x"),
        ([], "link/x", "run-dir=link/x"),
        ([], ".", "run-dir=."),
        ([], "loop/x", "run-dir=loop/x"),
        ([], "a\0b", "run-dir=a\\x00b"),
        (["name=../x"], "", "name=../x"),
        (["name=/tmp/x"], "", "name=/tmp/x"),
        (["resume=../x"], "", "resume=../x"),
        (["resume=/tmp/x"], "", "resume=/tmp/x"),
    ],
)
def test_what_is_submitted_leads_nowhere_but_into_the_servers_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], named: str, key: str
) -> None:
    """Refused in a line that does not say where that is; nothing is made anywhere."""
    (runs := tmp_path / "runs").mkdir()
    (runs / "link").symlink_to(tmp_path)
    (runs / "loop").symlink_to(runs / "loop")
    monkeypatch.setenv("NUFED_RUNS", str(runs))
    before = sorted(tmp_path.rglob("*"))
    with (
        pytest.raises(InputError) as caught,
        run_dir(compose_config(words), submitted(named)),
    ):
        pass
    assert str(caught.value).startswith(f"{key}: leads out of ")
    assert str(tmp_path) not in str(caught.value)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("words", "named", "folder"),
    [
        ([], "digits/now-1f", "digits/now-1f"),
        (["resume=digits/old"], "", "digits/old"),
        (["resume={}/digits/old"], "", "digits/old"),
        (["resume=digits/old"], "digits/now", "digits/now"),
    ],
)
def test_what_is_submitted_lies_among_the_servers_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], named: str, folder: str
) -> None:
    monkeypatch.setenv("NUFED_RUNS", str(tmp_path))
    config = compose_config([word.format(tmp_path) for word in words])
    with run_dir(config, submitted(named)) as found:
        assert found == tmp_path / folder


def submitted(named: str) -> Context:
    """Return the context of a ServerApp on a SuperLink."""
    return Context(1, SERVER_NODE_ID, {}, RecordDict(), {"run-dir": named})
