"""An object for a process of its own; a module that is imported in no time."""

import logging
import os
import subprocess
import time

from nufed.conf.errors import InputError

log = logging.getLogger("nufed")


class Thing:
    """Does what may happen in a process."""

    def __init__(self) -> None:
        self.count = 0

    def add(self, number: int) -> tuple[int, int]:
        self.count += number
        return self.count, os.getpid()

    def warn(self, line: str) -> None:
        log.warning("%s", line)
        print(line)

    def refuse(self) -> None:
        raise InputError("count=7: too many")

    def lock(self) -> object:
        return log.handlers[0].lock

    def child(self) -> int:
        return subprocess.Popen(["sleep", "1000"]).pid

    def die(self) -> None:
        os._exit(3)

    def hang(self) -> None:
        time.sleep(1000)
