"""Keys and certificates: what TLS and Flower make of them, and that nothing is ever overwritten."""

import datetime
import os
import ssl
import stat
import subprocess
import sys
import threading
from pathlib import Path
from socket import create_connection, create_server

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from nufed.cli.keys import main

SECRETS = {"ca/ca.key", "server/server.key", "nodes/node-0", "nodes/node-1"}
PUBLIC = {"public/ca.crt", "server/server.crt", "public/node-0.pub", "public/node-1.pub"}


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    main([str(tmp_path / "keys"), "--nodes=2", "--host=box.example", "--host=10.0.0.7"])
    return tmp_path / "keys"


def contents(folder: Path) -> dict[str, bytes]:
    files = (file for file in folder.rglob("*") if file.is_file())
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}


def line_of(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    """Run the command, which fails; return its one line."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        main([str(word) for word in words])
    out, err = capsys.readouterr()
    assert (stopped.value.code, out, err.count("\n")) == (2, "", 1)
    return err.strip()


def test_secrets_are_for_their_owner_alone(keys: Path) -> None:
    assert contents(keys).keys() == SECRETS | PUBLIC
    for name in SECRETS:
        assert stat.S_IMODE((keys / name).stat().st_mode) == 0o600
    for folder in (keys, *(keys / name for name in ("ca", "server", "nodes"))):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


@pytest.mark.parametrize(
    ("host", "holds"), [("box.example", True), ("10.0.0.7", True), ("superlink", True),
                        ("other.example", False), ("10.0.0.8", False)],
)  # fmt: skip
def test_a_tls_handshake_holds_for_the_hosts_named(keys: Path, host: str, holds: bool) -> None:
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(keys / "server/server.crt", keys / "server/server.key")
    client = ssl.create_default_context(cafile=keys / "public/ca.crt")
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    with create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve_once, args=(server, listener))
        thread.start()
        try:
            with create_connection(listener.getsockname()) as plain:
                if holds:
                    client.wrap_socket(plain, server_hostname=host).close()
                else:
                    with pytest.raises(ssl.SSLCertVerificationError, match="mismatch"):
                        client.wrap_socket(plain, server_hostname=host)
        finally:
            thread.join()


def serve_once(context: ssl.SSLContext, listener: object) -> None:
    connection, _ = listener.accept()  # type: ignore[attr-defined]
    try:
        context.wrap_socket(connection, server_side=True).close()
    except OSError:
        connection.close()


def test_a_nodes_keys_are_what_flower_wants(keys: Path) -> None:
    """As flower-supernode and `flwr supernode register` read them, on one of NIST's curves."""
    private = serialization.load_ssh_private_key((keys / "nodes/node-1").read_bytes(), None)
    public = serialization.load_ssh_public_key((keys / "public/node-1.pub").read_bytes())
    assert isinstance(private, ec.EllipticCurvePrivateKey)
    assert private.curve.name == "secp384r1"
    assert private.public_key() == public


def test_a_second_call_makes_what_is_missing_and_nothing_else(keys: Path) -> None:
    before = contents(keys)
    (keys / "ca/ca.key").unlink()  # taken offline
    (keys / "nodes/node-0").unlink()  # moved to its machine
    main([str(keys), "--nodes=3"])
    after = contents(keys)
    assert after.keys() - before.keys() == {"nodes/node-2", "public/node-2.pub"}
    assert before.keys() - after.keys() == {"ca/ca.key", "nodes/node-0"}
    assert all(after[name] == before[name] for name in after.keys() & before.keys())


def test_one_node_makes_its_own_key_on_its_own_machine(tmp_path: Path) -> None:
    main([str(tmp_path / "mine"), "--node=3"])
    assert contents(tmp_path / "mine").keys() == {"nodes/node-3", "public/node-3.pub"}


def test_a_new_certificate_is_signed_by_the_same_ca(keys: Path) -> None:
    before = contents(keys)
    (keys / "server/server.crt").unlink()
    main([str(keys), "--host=new.example"])
    after = contents(keys)
    assert {name for name in after if after[name] != before[name]} == {"server/server.crt"}
    ca = x509.load_pem_x509_certificate(after["public/ca.crt"])
    certificate = x509.load_pem_x509_certificate(after["server/server.crt"])
    certificate.verify_directly_issued_by(ca)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert "new.example" in names.get_values_for_type(x509.DNSName)
    left = certificate.not_valid_after_utc - datetime.datetime.now(datetime.UTC)
    assert 700 < left.days < 731


def test_what_cannot_be_done_is_said_in_a_line(
    keys: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "server.crt: is not for x.example; delete it" in line_of(
        capsys, keys, "--host=x.example"
    )
    assert "--nodes: many" in line_of(capsys, keys, "--nodes=many")
    assert "--host=ü" in line_of(capsys, keys, "--host=ü")
    (keys / "server/server.crt").unlink()
    (keys / "ca/ca.key").rename(keys / "kept")
    assert "ca.key: is not there to sign" in line_of(capsys, keys)
    (keys / "ca/ca.key").write_text("nonsense")
    assert "ca.key: cannot be read" in line_of(capsys, keys)
    (keys / "file").touch()
    assert "name another folder" in line_of(capsys, keys / "file")


def test_a_ca_that_lost_its_certificate_is_not_replaced(
    keys: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (keys / "public/ca.crt").unlink()
    before = contents(keys)
    assert "ca.key: is there without" in line_of(capsys, keys)
    assert contents(keys) == before


def test_the_command_is_installed(tmp_path: Path) -> None:
    command = Path(sys.executable).parent / "nufed-keys"
    subprocess.run([command, tmp_path / "k", "--nodes=1"], check=True, env={**os.environ})
    assert "nodes/node-0" in contents(tmp_path / "k")
