"""`nufed-keys`: make what TLS and the authentication of SuperNodes need.

=====================================  ============================================
FOLDER/ca/ca.key                       the CA's key: only to sign with; keep it offline
FOLDER/public/ca.crt, node-<i>.pub     no secrets: everyone may have these
FOLDER/server/server.crt, server.key   for the SuperLink
FOLDER/nodes/node-<i>                  for SuperNode i, and for it alone
=====================================  ============================================
"""

import argparse
import ipaddress
import os
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from nufed.cli.command import Parser, count, fail
from nufed.conf.errors import InputError, reason

HOSTS = ("localhost", "127.0.0.1", "::1", "superlink")
CA_DAYS, SERVER_DAYS = 3650, 730
COMMAND = "nufed-keys"
EXAMPLES = """\
examples:
  nufed-keys keys --nodes 2                        everything, for two SuperNodes on this machine
  nufed-keys keys --nodes 2 --host server.example  for a SuperLink that others reach
  nufed-keys keys --node 2                         a SuperNode's own pair, made where it runs
"""

Key = ec.EllipticCurvePrivateKey
T = TypeVar("T")


@dataclass(frozen=True)
class Paths:
    """Where everything lies."""

    folder: Path

    @property
    def ca_key(self) -> Path:
        """The key that signs the server's certificate."""
        return self.folder / "ca" / "ca.key"

    @property
    def ca_certificate(self) -> Path:
        """The certificate that everyone trusts."""
        return self.folder / "public" / "ca.crt"

    @property
    def server_key(self) -> Path:
        """The SuperLink's key."""
        return self.folder / "server" / "server.key"

    @property
    def server_certificate(self) -> Path:
        """The SuperLink's certificate."""
        return self.folder / "server" / "server.crt"

    def node_key(self, node: int) -> Path:
        """Return where the private key of a SuperNode is."""
        return self.folder / "nodes" / f"node-{node}"

    def node_public(self, node: int) -> Path:
        """Return where the public key of a SuperNode is."""
        return self.folder / "public" / f"node-{node}.pub"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command; a mistake ends in one line on stderr and exit status 2."""
    given = _parser().parse_args(arguments)
    paths = Paths(given.folder)
    try:
        paths.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if given.node is None:
            make_authority(paths)
            make_server(paths, [*HOSTS, *given.host])
        for node in range(given.nodes) if given.node is None else [given.node]:
            make_node(paths, node)
    except InputError as error:
        fail(COMMAND, str(error))
    except OSError as error:
        fail(COMMAND, f"{error.filename or given.folder}: {error.strerror}; name another folder")


def make_authority(paths: Paths) -> None:
    """Make the CA's key and certificate, unless its certificate is there.

    Raises
    ------
    InputError
        If the key is there without its certificate.
    """
    if paths.ca_certificate.exists():
        return
    if paths.ca_key.exists():
        raise InputError(
            f"{paths.ca_key}: is there without {paths.ca_certificate}; bring that back, "
            "or begin anew in an empty folder"
        )
    key, name = _new_key(), _name("NuFed CA")
    builder = _certificate(name, name, key.public_key(), CA_DAYS)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_usage(key_cert_sign=True, crl_sign=True), critical=True)
    _write(paths.ca_key, _pem(key))
    _write(paths.ca_certificate, _signed(builder, key), secret=False)


def make_server(paths: Paths, hosts: Sequence[str]) -> None:
    """Make the SuperLink's key and certificate, unless they are there.

    Parameters
    ----------
    hosts
        Names and addresses that the SuperLink is reached by.

    Raises
    ------
    InputError
        If a certificate is there and not for all of `hosts`, or the CA's key is not.
    """
    certificate, key_file = paths.server_certificate, paths.server_key
    if certificate.exists() and key_file.exists():
        _require_hosts(certificate, hosts)
        return
    if not paths.ca_key.exists():
        raise InputError(f"{paths.ca_key}: is not there to sign {certificate} with; bring it back")
    ca_key = _read(paths.ca_key, lambda data: serialization.load_pem_private_key(data, None))
    authority = _read(paths.ca_certificate, x509.load_pem_x509_certificate)
    if not isinstance(ca_key, Key) or ca_key.public_key() != authority.public_key():
        raise InputError(f"{paths.ca_key}: is not the key of {paths.ca_certificate}")
    if not key_file.exists():
        _write(key_file, _pem(_new_key()))
    key = _read(key_file, lambda data: serialization.load_pem_private_key(data, None))
    if not isinstance(key, Key):
        raise InputError(f"{key_file}: is no elliptic-curve key; delete it to have one made")
    builder = _certificate(_name("SuperLink"), authority.subject, key.public_key(), SERVER_DAYS)
    names = x509.SubjectAlternativeName([_general_name(host) for host in dict.fromkeys(hosts)])
    server = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key())
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), True)
    builder = builder.add_extension(_usage(digital_signature=True), critical=True)
    for extension in (names, server, issuer):
        builder = builder.add_extension(extension, critical=False)
    _write(certificate, _signed(builder, ca_key), secret=False)


def make_node(paths: Paths, node: int) -> None:
    """Make the key pair of a SuperNode, unless its public key is there.

    The private key may have been moved to the SuperNode's machine: it is not made again.
    """
    public, private = paths.node_public(node), paths.node_key(node)
    if public.exists():
        return
    if not private.exists():
        _write(private, _pem(_new_key(), serialization.PrivateFormat.OpenSSH))
    key = _read(private, lambda data: serialization.load_ssh_private_key(data, None))
    if not isinstance(key, Key):
        raise InputError(f"{private}: is no elliptic-curve key, which Flower wants; delete it")
    text = key.public_key().public_bytes(
        serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    )
    _write(public, text + f" node-{node}\n".encode(), secret=False)


def _require_hosts(certificate: Path, hosts: Sequence[str]) -> None:
    """Raise unless a certificate is valid, and for all of `hosts`."""
    there = _read(certificate, x509.load_pem_x509_certificate)
    if there.not_valid_after_utc < datetime.now(UTC):
        raise InputError(
            f"{certificate}: expired on {there.not_valid_after_utc:%Y-%m-%d}; "
            "delete it to have one made"
        )
    names = list(there.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    for host in hosts:
        if _general_name(host) not in names:
            raise InputError(f"{certificate}: is not for {host}; delete it to have one made")


def _new_key() -> Key:
    return ec.generate_private_key(ec.SECP384R1())


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _general_name(host: str) -> x509.GeneralName:
    """Return a name or an address as a certificate has it."""
    with suppress(ValueError):
        return x509.IPAddress(ipaddress.ip_address(host))
    try:
        return x509.DNSName(host)
    except ValueError as error:
        raise InputError(f"--host={host}: {reason(error)}; give a host name or address") from error


def _certificate(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, days: int
) -> x509.CertificateBuilder:
    """Return a certificate yet to be signed, valid from an hour ago: clocks differ."""
    start = datetime.now(UTC) - timedelta(hours=1)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _usage(**uses: bool) -> x509.KeyUsage:
    """Return a key's uses: those given, and no others."""
    none = dict.fromkeys(
        (
            "digital_signature", "content_commitment", "key_encipherment", "data_encipherment",
            "key_agreement", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
        ),
        False,
    )  # fmt: skip
    return x509.KeyUsage(**(none | uses))


def _signed(builder: x509.CertificateBuilder, key: Key) -> bytes:
    return builder.sign(key, hashes.SHA384()).public_bytes(serialization.Encoding.PEM)


def _pem(key: Key, form: serialization.PrivateFormat = serialization.PrivateFormat.PKCS8) -> bytes:
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())


def _read(path: Path, load: Callable[[bytes], T]) -> T:
    """Load a key or certificate from a file."""
    try:
        return load(path.read_bytes())
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise InputError(f"{path}: cannot be read ({reason(error)}); bring it back") from error


def _write(path: Path, data: bytes, secret: bool = True) -> None:
    """Write a new file, whole or not at all; never over one that is there."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent) as draft:  # its mode is 0600
        draft.write(data)
        draft.flush()
        if not secret:
            os.fchmod(draft.fileno(), 0o644)
        os.link(draft.name, path)
    print(path)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog=COMMAND,
        description="Make a CA, the SuperLink's certificate, and keys of SuperNodes. "
        "What is there already is kept; a second call makes what is missing.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", type=Path, help="where they go")
    parser.add_argument("--nodes", type=count(0), default=0, help="so many SuperNodes")
    parser.add_argument("--node", type=count(0), help="only the key pair of this one, from 0 on")
    parser.add_argument(
        "--host", action="append", default=[], help="a name or address of the SuperLink; repeatable"
    )
    return parser


if __name__ == "__main__":
    main()
