"""An object in a process of its own, so that what ends that process ends nothing else.

Ray ends the process that uses it, from within, once its raylet or its GCS is gone, and prints to
its terminal; neither is to be had otherwise. That process has no terminal, and what it warns of
is said here.
"""

import atexit
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from importlib import import_module
from multiprocessing.connection import Connection
from typing import Any

END_S = 10.0
"""Seconds in which the process ends once it is told to, else it is killed."""
PROGRAM = (
    "import sys; sys.path[:] = {path!r}; from nufed.simulation.apart import serve; serve({fd})"
)

log = logging.getLogger("nufed")


class Gone(Exception):
    """The process has ended."""


class Apart:
    """An object of another process, whose methods are called here.

    Parameters
    ----------
    made_by
        ``module:name`` of what makes the object, of no arguments.
    """

    def __init__(self, made_by: str) -> None:
        here, there = socket.socketpair()
        program = PROGRAM.format(path=sys.path, fd=there.fileno())
        self._owner = os.getpid()
        self._process = subprocess.Popen(
            [sys.executable, "-c", program, made_by],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=[there.fileno()],
            start_new_session=True,  # Ctrl-C is for us to handle
        )
        there.close()
        self._link = Connection(here.detach())
        self._asked = False
        atexit.register(self.end)

    @property
    def pid(self) -> int:
        """The process."""
        return self._process.pid

    @property
    def idle(self) -> bool:
        """Whether it lives, is ours and not at work: a fork of this process has none."""
        return self._owner == os.getpid() and not self._asked and self._process.poll() is None

    def call(self, method: str, *arguments: Any) -> Any:
        """Call a method, and return or raise what it does.

        Raises
        ------
        Gone
            If the process ended; nothing that it started is left.
        """
        self._asked = True
        try:
            self._link.send((method, arguments))
            while (answer := self._link.recv())[0] == "said":
                log.log(*answer[1:])
        except (EOFError, OSError) as error:
            self.end(0)
            raise Gone(_how(self._process.returncode)) from error
        self._asked = False
        if answer[0] == "raised":
            raise answer[1]
        return answer[1]

    def end(self, patience_s: float = END_S) -> None:
        """End the process, and all that it started on this machine."""
        self._link.close()
        atexit.unregister(self.end)
        if self._owner != os.getpid():
            return
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(patience_s if not self._asked else 0)
        with suppress(ProcessLookupError, PermissionError):  # nobody is left
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


def _how(status: int) -> str:
    return f"signal {-status}" if status < 0 else f"status {status}"


def serve(descriptor: int) -> None:
    """Be the other process: make the object, and do what is asked until nobody can ask."""
    os.set_inheritable(descriptor, False)  # else the end of the link would outlive this process
    link, lock = Connection(descriptor), threading.Lock()

    def say(*answer: Any) -> None:
        with lock:
            link.send(answer)

    handler = logging.Handler(logging.INFO)
    handler.emit = lambda record: say(  # type: ignore[method-assign]
        "said", record.levelno, "%s", record.getMessage()
    )
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    threading.Thread(target=_end_with, args=[os.getppid()], daemon=True).start()
    module, _, name = sys.argv[1].partition(":")
    served: Any = None
    while True:
        try:
            method, arguments = link.recv()
        except (EOFError, OSError):
            return
        try:
            served = served or getattr(import_module(module), name)()
            answer = "done", getattr(served, method)(*arguments)
        except Exception as error:
            answer = "raised", error
        try:
            say(*answer)
        except (AttributeError, TypeError) as error:  # no pickle
            say("raised", RuntimeError(f"{type(answer[1]).__name__}: {answer[1]} ({error})"))


def _end_with(parent: int) -> None:
    """End this process once its parent has, whatever it is busy with."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(0)
