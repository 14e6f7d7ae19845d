"""What names a SuperLink is taken as it is meant, or refused before anything is sent."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from nufed.cli.submitted import Submitted
from nufed.cli.superlink import connect
from nufed.conf.errors import InputError
from nufed.simulation.flower_command import COLOURS, environment

LOCAL = "127.0.0.1:8000"
CERTIFICATE = "engine.root_certificates"


def engine(superlink: Any, root_certificates: Any = None, insecure: Any = False) -> dict[str, Any]:
    return {"superlink": superlink, "root_certificates": root_certificates, "insecure": insecure}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (engine(None), ["engine.superlink=None: must be", "host:port"]),
        (engine("10.0.0.1:80000000"), ["engine.superlink=10.0.0.1:80000000: must be host:port"]),
        (engine("http://10.0.0.1:8000"), ["must be host:port"]),
        (engine("10.0.0.1:8000"), ["is another machine", CERTIFICATE, "engine.insecure=true"]),
        (engine("[2001:db8::1]:8000"), ["is another machine"]),
        (engine("localhost.example.com:8000"), ["is another machine"]),
        (engine(LOCAL, insecure="yes"), ["engine.insecure=yes: must be true or false"]),
        (engine(LOCAL, "absent.crt"), [f"{CERTIFICATE}=absent.crt: ", "No such file"]),
        (engine(LOCAL, __file__), [f"{CERTIFICATE}={__file__}: ", "no PEM certificate"]),
        (engine(LOCAL, "ca.crt", insecure=True), ["engine.insecure=true", "give one of them"]),
        (engine("prod", "ca.crt"), ["engine.superlink=prod: is a name", f"leave {CERTIFICATE}"]),
        (engine("prod", insecure=True), ["engine.superlink=prod: is a name"]),
    ],
)
def test_what_cannot_be_is_refused(tmp_path: Path, given: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(InputError) as caught:
        connect(given, tmp_path)
    assert [word for word in words if word not in str(caught.value)] == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "given",
    [engine(LOCAL), engine("localhost:1"), engine("[::1]:8000"), engine("10.0.0.1:1", None, True)],
)
def test_plain_text_is_for_loopback_or_on_demand(tmp_path: Path, given: dict[str, Any]) -> None:
    assert connect(given, tmp_path).name == given["superlink"]
    assert "insecure = true" in (tmp_path / "home" / "config.toml").read_text()


def test_a_name_is_left_to_flowers_own_configuration(tmp_path: Path) -> None:
    assert connect(engine("prod"), tmp_path).name == "prod"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "said",
    [
        "{}",
        "[]",
        '{"superlink": "a:1", "run_id": "--help", "run_dir": "x"}',
        '{"superlink": "a:1", "run_id": 7, "run_dir": "x"}',
        '{"superlink": "a:1", "run_id": "7"}',
        '{"superlink": "a:1", "run_id": "7", "run_dir": "x", "more": ""}',
    ],
)
def test_what_was_submitted_is_read_as_it_is_written_or_not_at_all(
    tmp_path: Path, said: str
) -> None:
    """Its run's id becomes a word of a command."""
    assert Submitted.of(tmp_path) is None
    submitted = Submitted("a:1", "7", "digits/now")
    submitted.note_down(tmp_path)
    assert Submitted.of(tmp_path) == submitted
    (tmp_path / "submitted.json").write_text(said)
    with pytest.raises(InputError, match=r"submitted\.json: cannot be read; delete it$"):
        Submitted.of(tmp_path)


def test_flowers_answers_have_no_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked for in the environment, as in many a CI: they would be no JSON."""
    for name in COLOURS:
        monkeypatch.setenv(name, "1")
    words = [sys.executable, "-c", "from rich import print_json as p; p(data={'success': True})"]
    said = subprocess.run(words, env=environment(), capture_output=True, check=True).stdout
    assert json.loads(said) == {"success": True}
