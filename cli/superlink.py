"""A SuperLink, by Flower's command line: submit a run to it, read its log, ask for its end."""

import ipaddress
import json
import queue
import re
import socket
import ssl
import subprocess
import tempfile
import threading
import time
from collections.abc import Generator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, Any, NamedTuple, Self

from nufed.conf.errors import InputError, RunStopped, reason
from nufed.conf.schema import require
from nufed.conf.typed import Mistyped, typed
from nufed.conf.words import command_line, path_of
from nufed.simulation.flower_command import (
    environment,
    error_in,
    name_superlink,
    start,
    write_run_config,
)

NAME = "nufed"  # of a connection that was given as host:port
QUIET_S = 60.0  # without a line for so long, the SuperLink is asked whether it is still there
LOST_S = 60.0  # without an answer for so long, it is lost
RETRY_S = 2.0
PROBE_S = 5.0
UNKNOWN = "N/A"  # in an answer of Flower's
COMPLETED = "finished:completed"  # the status of a run


class Address(NamedTuple):
    """Where a SuperLink listens, and whose certificate it shows; None is plain text."""

    host: str
    port: int
    certificates: Path | None

    def trouble(self) -> str | None:
        """Try to speak with it; return what is wrong and the remedy, None if nothing is."""
        try:
            with socket.create_connection((self.host, self.port), PROBE_S) as sock:
                if self.certificates is None:
                    return _plain_trouble(sock)
                context = ssl.create_default_context(cafile=self.certificates)
                context.wrap_socket(sock, server_hostname=self.host).close()
        except ssl.SSLCertVerificationError as error:
            return (
                f"its certificate does not hold by engine.root_certificates={self.certificates} "
                f"({error.verify_message}); name its CA's certificate, and a host that it is for"
            )
        except ssl.SSLError:
            return "it does not speak TLS; leave engine.root_certificates out"
        except OSError as error:
            cause = error.strerror or type(error).__name__
            return f"no SuperLink answers there ({cause}); start one, or name another"
        return None


def _plain_trouble(sock: socket.socket) -> str | None:
    """Return what is wrong with the other end of a plain connection."""
    try:
        sock.sendall(b"GET /health HTTP/1.0\r\n\r\n")
        answer = sock.recv(5)
    except OSError:
        answer = b""
    if answer == b"HTTP/":
        return None
    return "it does not speak plain HTTP; for TLS say engine.root_certificates=ca.crt"


@dataclass(frozen=True)
class Listed:
    """A run that a SuperLink has, as it says."""

    run_id: str
    app: str
    status: str
    """Such as ``running``, or ``finished:completed``."""
    began: datetime | None
    """None of one that did not begin."""
    elapsed: float
    """Seconds since."""
    details: str
    """Of its end; empty where nothing is said."""

    def __post_init__(self) -> None:
        if not self.run_id.isdecimal():
            raise Mistyped("run-id is not a number")

    @classmethod
    def of(cls, said: object) -> Self:
        """Read it; raise a `Mistyped` if it is none."""
        run = typed(said, dict[str, Any], "a run")
        keys = "run-id", "fab-name", "status", "running-at", "status-details"
        run_id, app, status, began, details = (typed(run.get(key), str, key) for key in keys)
        when = None if began == UNKNOWN else datetime.fromisoformat(began)
        elapsed = typed(run.get("elapsed"), float, "elapsed")
        return cls(run_id, app, status, when, elapsed, "" if details == UNKNOWN else details)

    @property
    def over(self) -> bool:
        """Tell whether it has ended."""
        return self.status.startswith("finished")


class SuperLink:
    """A SuperLink that runs already.

    Parameters
    ----------
    name
        As the person gave it.
    connection
        As Flower's configuration has it.
    address
        Where it is, if that was given; else Flower's configuration knows.
    env
        The environment of Flower's programs.
    scratch
        A folder for files on the way.
    """

    def __init__(
        self,
        name: str,
        connection: str,
        address: Address | None,
        env: Mapping[str, str],
        scratch: Path,
    ) -> None:
        self.name, self._connection, self._address = name, connection, address
        self._env, self._scratch = env, scratch

    def submit(self, app: Path, run_config: Mapping[str, str | bool]) -> str:
        """Start a run of the app; return its id.

        Raises
        ------
        InputError
            If the SuperLink cannot be reached, or refuses.
        KeyboardInterrupt
            Not before `flwr` has ended, and a run that it started was stopped.
        """
        file = write_run_config(self._scratch / "run.toml", run_config)
        command = ["run", str(app), self._connection, "--run-config", str(file)]
        try:
            with ThreadPoolExecutor(1) as thread:
                answer = thread.submit(self._ask, command)
                try:
                    return str(answer.result()["run-id"])
                except KeyboardInterrupt:
                    self.stop(str(answer.result()["run-id"]))  # else it would run for nobody
                    raise
        except RunStopped as error:
            raise self._unreachable(error) from error

    def runs(self) -> list[Listed]:
        """Return the runs that it knows, the newest first.

        Raises
        ------
        InputError
            If the SuperLink cannot be reached.
        """
        try:
            return [Listed.of(run) for run in self._ask(["ls", self._connection])["runs"]]
        except RunStopped as error:
            raise self._unreachable(error) from error
        except (KeyError, TypeError, ValueError) as error:
            line = f"engine.superlink={self.name}: says what no SuperLink does ({reason(error)})"
            raise InputError(line) from error

    def find(self, run_id: str) -> Listed | None:
        """Return a run; None if the SuperLink knows no such run; errors as of `runs`."""
        return next((run for run in self.runs() if run.run_id == run_id), None)

    def how_to_stop(self, run_id: str) -> str | None:
        """Return Flower's command that stops a run; None where it has no name for this one."""
        return None if self._address else command_line("flwr", ["stop", run_id, self._connection])

    def status(self, run_id: str) -> tuple[str, str]:
        """Return the status of a run, such as ``finished:completed``, and its details.

        Raises
        ------
        RunStopped
            If the SuperLink does not answer for a minute, or knows no such run.
        """
        until = time.monotonic() + LOST_S
        while True:
            try:
                (run,) = self._ask(["ls", self._connection, "--run-id", run_id])["runs"]
                return run["status"], run["status-details"]
            except RunStopped as error:
                if time.monotonic() > until:
                    raise RunStopped(
                        f"engine.superlink={self.name}: does not answer for run {run_id} ({error})"
                    ) from error
            time.sleep(RETRY_S)

    def stop(self, run_id: str) -> None:
        """Stop a run.

        Raises
        ------
        RunStopped
            If that fails.
        """
        self._ask(["stop", run_id, self._connection])

    def log(self, run_id: str) -> Generator[str, None, None]:
        """Yield the lines of a run's log from its beginning, until it ends or breaks off."""
        command = ["flwr", "log", run_id, self._connection, "--stream"]
        with tempfile.TemporaryFile() as errors:
            process = start(command, self._env, self._scratch, subprocess.PIPE, errors)
            lines: queue.Queue[bytes] = queue.Queue()
            assert process.stdout is not None
            threading.Thread(target=_pump, args=(process.stdout, lines), daemon=True).start()
            try:
                while line := self._next(lines, run_id):
                    yield line.decode(errors="replace")
            finally:
                process.kill()
                process.wait()

    def _next(self, lines: "queue.Queue[bytes]", run_id: str) -> bytes:
        """Return the next line, empty at the end; ask after the run where none comes for long."""
        while True:
            try:
                return lines.get(timeout=QUIET_S)
            except queue.Empty:
                if self.status(run_id)[0].startswith("finished"):
                    return b""

    def _unreachable(self, error: RunStopped) -> InputError:
        """Return what to say where nothing was done yet."""
        trouble = self._address.trouble() if self._address else None
        return InputError(f"engine.superlink={self.name}: {trouble or error}")

    def _ask(self, command: list[str]) -> dict[str, Any]:
        """Run `flwr` with an answer in JSON.

        Raises
        ------
        RunStopped
            With what Flower says, if it fails.
        """
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            words = ["flwr", *command, "--format", "json"]
            process = start(words, self._env, self._scratch, out, err)
            try:
                process.wait()
            finally:
                process.kill()
                process.wait()
            answer, complaint = _text(out), _text(err)
        try:
            answered: dict[str, Any] = json.loads(answer)
        except ValueError as error:
            raise RunStopped(error_in(complaint) or f"flwr {command[0]} failed") from error
        if not answered.get("success", True):
            raise RunStopped(_flowers_words(str(answered.get("error-message", ""))))
        return answered


def connect(engine: Mapping[str, Any], scratch: Path) -> SuperLink:
    """Return the SuperLink that the `engine` group of a configuration names.

    Raises
    ------
    InputError
        For a value that cannot be used. Nothing is sent yet.
    """
    name, certificates, insecure = (
        engine.get(key) for key in ("superlink", "root_certificates", "insecure")
    )
    wanted = "the name of a connection in Flower's config.toml, or host:port"
    require(isinstance(name, str) and bool(name.strip()), "engine.superlink", name, wanted)
    require(type(insecure) is bool, "engine.insecure", insecure, "true or false")
    env = environment() | {"PYTHONUNBUFFERED": "1"}
    if ":" not in str(name):
        if certificates is not None or insecure:
            raise InputError(
                f"engine.superlink={name}: is a name, for which Flower's config.toml says how to "
                "connect; leave engine.root_certificates and engine.insecure out"
            )
        return SuperLink(str(name), str(name), None, env, scratch)
    address = _address(str(name), certificates, bool(insecure))
    (scratch / "home").mkdir()
    how: dict[str, str | bool] = (
        {"insecure": True}
        if address.certificates is None
        else {"root_certificates": str(address.certificates)}
    )
    name_superlink(scratch / "home", NAME, address=str(name), **how)
    env |= {"FLWR_HOME": str(scratch / "home")}
    return SuperLink(str(name), NAME, address, env, scratch)


def _address(name: str, certificates: object, insecure: bool) -> Address:
    """Read host:port, and allow plain text on loopback, or where it is asked for."""
    match = re.fullmatch(r"(\[[0-9a-fA-F:]+\]|[^:/\s]+):(\d{1,5})", name)
    if match is None:
        raise InputError(f"engine.superlink={name}: must be host:port, such as 127.0.0.1:8000")
    host, port = match[1].strip("[]"), int(match[2])
    if certificates is None:
        if not insecure and not _is_loopback(host):
            raise InputError(
                f"engine.superlink={name}: is another machine; name its CA's certificate by "
                "engine.root_certificates=ca.crt, or send all in plain text by engine.insecure=true"
            )
        return Address(host, port, None)
    if insecure:
        raise InputError(
            "engine.insecure=true: means plain text, engine.root_certificates TLS; give one of them"
        )
    file = path_of(str(certificates)).absolute()
    try:
        ssl.create_default_context(cafile=file)
    except OSError as error:  # ssl.SSLError is one
        cause = error.strerror if isinstance(error, FileNotFoundError) else "no PEM certificate"
        raise InputError(
            f"engine.root_certificates={certificates}: cannot be read ({cause}); "
            "name the certificate of the CA that signed the SuperLink's"
        ) from error
    return Address(host, port, file)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _flowers_words(message: str) -> str:
    """Return an error of `flwr` as one line, without what it said before."""
    lines = [line.strip() for line in message.splitlines()]
    return " ".join(line for line in lines if line and not line.startswith("Using SuperLink:"))


def _pump(stream: IO[bytes], lines: "queue.Queue[bytes]") -> None:
    """Put the lines of a stream into a queue, and an empty one at its end."""
    for line in stream:
        lines.put(line)
    lines.put(b"")


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode(errors="replace")
