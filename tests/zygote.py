"""The process of which programs are forks: `python tests/zygote.py FOLDER SESSION`.

It imports what the programs of NuFed and Flower need of other people's, seconds of work, and none
of NuFed's own modules: each program finds those for itself, such as a Flower app in its bundle.
FOLDER gets what looks like `.venv`; its programs hand their arguments, folder, environment and
streams over to this process, pass signals on, and end as the fork of it that does the work. It ends
with the process SESSION. See tests/forked.py.
"""

import atexit
import contextlib
import gc
import importlib
import marshal
import os
import selectors
import shutil
import signal
import socket
import sys
import threading
from collections.abc import Callable
from importlib.metadata import EntryPoint, distribution
from pathlib import Path
from typing import NoReturn

PROGRAM = """\
#!{python} -IS
import _signal as signal, _socket as socket, marshal, posix, sys

HEEDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
ignored = [int(s) for s in HEEDED if signal.getsignal(s) == signal.SIG_IGN]
link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
link.connect({socket!r})
environment = {{key.decode(errors="surrogateescape"): value.decode(errors="surrogateescape")
               for key, value in posix.environ.items()}}
asked = marshal.dumps((sys.argv, posix.getcwd(), environment, ignored))
streams = b"".join(fd.to_bytes(4, sys.byteorder) for fd in range(3))
link.sendmsg([len(asked).to_bytes(8, "big")], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, streams)])
while asked:
    asked = asked[link.send(asked):]
pid = int.from_bytes(link.recv(8), "big")
for s in HEEDED:
    if s not in ignored:
        signal.signal(s, lambda number, _: posix.kill(pid, number))
status = int.from_bytes(link.recv(8), "big", signed=True)
if status < 0:
    signal.signal(-status, signal.SIG_DFL) if -status != signal.SIGKILL else None
    posix.kill(posix.getpid(), -status)
posix._exit(status)
"""

LIBRARIES = [
    *("torch", "torch._dynamo", "torch.utils.tensorboard", "safetensors.torch", "numpy.random"),
    *("hydra.experimental.callback", "hydra.core.override_parser.overrides_parser"),
    *("hydra._internal.core_plugins.basic_launcher", "hydra._internal.core_plugins.basic_sweeper"),
    *("matplotlib.pyplot", "matplotlib.backends.backend_agg", "tensorboard.summary.writer"),
    *("sklearn.datasets", "flwr_datasets.partitioner", "scipy.stats", "jinja2", "sqlalchemy.orm"),
    *("flwr.app", "flwr.serverapp", "flwr.clientapp", "uvicorn", "fastapi"),
]


def programs() -> dict[str, EntryPoint]:
    """Return what can be started: NuFed's programs and Flower's."""
    found = (each for name in ("nufed", "flwr") for each in distribution(name).entry_points)
    return {each.name: each for each in found if each.group == "console_scripts"}


def lay_out(folder: Path) -> None:
    """Make what looks like the virtual environment that we run in."""
    there = Path(sys.prefix)
    for name in ("lib", "pyvenv.cfg"):
        (folder / name).symlink_to(there / name)
    (folder / "bin").mkdir()
    for program in (there / "bin").iterdir():
        (folder / "bin" / program.name).symlink_to(program)
    for name in programs():
        file = folder / "bin" / name
        file.unlink()
        file.write_text(PROGRAM.format(python=sys.executable, socket=str(folder / "socket")))
        file.chmod(0o755)


class Zygote:
    """Programs that run, and the sockets of those who started them."""

    def __init__(self, listener: socket.socket, session: int) -> None:
        self.listener, self.session = listener, session
        self.selector = selectors.DefaultSelector()
        self.selector.register(listener, selectors.EVENT_READ)
        self.wake, wakened = socket.socketpair()
        for each in (self.wake, wakened):
            each.setblocking(False)
        self.selector.register(self.wake, selectors.EVENT_READ)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wakened.fileno(), warn_on_full_buffer=False)
        self.running: dict[int, socket.socket] = {}  # by process
        self.wakened = wakened

    def serve(self) -> Callable[[], object] | None:
        """Return in each fork with what it is to do, and here, with None, at the session's end."""
        while _alive(self.session):
            for key, _ in self.selector.select(timeout=1):
                if key.fileobj is self.wake:
                    with contextlib.suppress(BlockingIOError):
                        while self.wake.recv(4096):
                            pass
                    self._bury()
                elif key.fileobj is self.listener:
                    if work := self._start(self.listener.accept()[0]):
                        return work
                elif key.data in self.running:  # who started it is gone
                    self._kill(key.data)
        for pid in list(self.running):
            self._kill(pid)
        return None

    def _start(self, link: socket.socket) -> Callable[[], object] | None:
        """Fork; return what to do in the new process, None in ours."""
        size, streams, _, _ = socket.recv_fds(link, 8, 3)
        with link.makefile("rb") as incoming:
            asked = incoming.read(int.from_bytes(size, "big"))
        if len(streams) < 3 or not asked:  # killed while it asked
            link.close()
            return None
        if pid := os.fork():
            for fd in streams:
                os.close(fd)
            self.running[pid] = link
            self.selector.register(link, selectors.EVENT_READ, pid)
            with contextlib.suppress(OSError):
                link.sendall(pid.to_bytes(8, "big"))
            return None
        self.selector.close()
        signal.set_wakeup_fd(-1)
        for each in (self.listener, self.wake, self.wakened, link, *self.running.values()):
            each.close()
        return _become(*marshal.loads(asked), streams)

    def _bury(self) -> None:
        """Tell of those that ended."""
        while self.running:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            code, link = os.waitstatus_to_exitcode(status), self.running.pop(pid)
            with contextlib.suppress(KeyError):  # where we killed it
                self.selector.unregister(link)
            with contextlib.suppress(OSError):
                link.sendall(code.to_bytes(8, "big", signed=True))
            link.close()

    def _kill(self, pid: int) -> None:
        """Kill a program and what it started in its session; it is buried as others are."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
        with contextlib.suppress(KeyError):
            self.selector.unregister(self.running[pid])


def _become(
    argv: list[str], cwd: str, env: dict[str, str], ignored: list[int], streams: list[int]
) -> Callable[[], object]:
    """Make this process the one that was asked for; return its program."""
    os.setsid()
    for stream, fd in enumerate(streams):
        os.dup2(fd, stream)
        os.close(fd)
    os.chdir(cwd)
    program = Path(argv[0])
    path = f"{program.parent}{os.pathsep}{env.get('PATH', os.defpath)}"  # what it starts: forks too
    os.environ.clear()
    os.environ.update(env | {"PATH": path})
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in ignored:
        signal.signal(number, signal.SIG_IGN)
    at_once = bool(env.get("PYTHONUNBUFFERED"))
    sys.stdout.reconfigure(line_buffering=os.isatty(1), write_through=at_once)  # type: ignore[union-attr]
    sys.argv, sys.executable = argv, str(program.parent / "python")
    sys.path[:0] = [str(program.parent), *filter(None, env.get("PYTHONPATH", "").split(os.pathsep))]
    work: Callable[[], object] = programs()[program.name].load()
    return work


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _carry_out(work: Callable[[], object]) -> NoReturn:
    """End as an interpreter does, but for the seconds of taking apart what was imported."""
    status: object = 1
    try:
        status = work()
    except SystemExit as end:
        status = end.code
    except BaseException:
        sys.excepthook(*sys.exc_info())
    if not isinstance(status, int | None):
        print(status, file=sys.stderr)
        status = 1
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status or 0)


def main(folder: Path, session: int) -> None:
    """Import, say so, and serve."""
    del sys.path[0]  # tests/
    for name in LIBRARIES:
        importlib.import_module(name)
    for program in programs().values():
        if program.module.startswith("flwr.") and program.name != "flwr-simulation":  # that has Ray
            program.load()
    lay_out(folder)
    gc.collect()
    gc.freeze()  # else each fork would copy what it does not change
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "socket"))
        listener.listen(64)
        print("ready", flush=True)
        work = Zygote(listener, session).serve()
    if work is not None:
        _carry_out(work)
    shutil.rmtree(folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
