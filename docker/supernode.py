"""Start a SuperNode on a partition that no other container of this machine hosts.

A partition is taken by locking a file in a volume that the containers share. The kernel drops the
lock when the container ends, however it ends, so that its successor, or a spare, takes over.

    NUFED_SUPERLINK    host:port of the SuperLink
    NUFED_NODES        SuperNodes on this machine
    NUFED_PARTITIONS   SuperNodes on all machines; by default those on this one
    NUFED_FIRST        the first partition of this machine; by default 0
    NUFED_NODE_CONFIG  more of Flower's node config, such as data-path="/data/mine.npz"
    NUFED_JOB          what to tell people to type next
    NUFED_KEYS         a folder that nufed-keys made; by default no TLS, no keys
"""

import fcntl
import os
import sys
import time
from pathlib import Path

LOCKS = Path("/partitions")


def claim(partitions: range) -> int:
    """Wait for a free partition, and keep it for as long as this process lives."""
    files = {i: os.open(LOCKS / str(i), os.O_CREAT | os.O_RDWR, 0o600) for i in partitions}
    told = False
    while True:
        for partition, file in files.items():
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            os.set_inheritable(file, True)  # the lock outlives exec
            return partition
        if not told:
            print(f"partitions {partitions} are all hosted; waiting as a spare", flush=True)
            told = True
        time.sleep(1)


def command(partition: int, partitions: int, superlink: str, keys: str, more: str) -> list[str]:
    """Return Flower's command for this partition."""
    config = f"partition-id={partition} num-partitions={partitions} {more}".strip()
    secure = ["--root-certificates", f"{keys}/public/ca.crt"]
    secure += ["--auth-supernode-private-key", f"{keys}/nodes/node-{partition}"]
    trust = secure if keys else ["--insecure"]
    return ["flower-supernode", *trust, "--superlink", superlink, "--node-config", config]


def main() -> None:
    """Become the SuperNode."""
    env = os.environ
    try:
        here, first = int(env.get("NUFED_NODES") or 1), int(env.get("NUFED_FIRST") or 0)
        partitions = int(env.get("NUFED_PARTITIONS") or first + here)
    except ValueError as error:
        sys.exit(f"NUFED_NODES, NUFED_FIRST and NUFED_PARTITIONS must be whole numbers ({error})")
    if not 0 <= first < first + here <= partitions:
        sys.exit(
            f"NUFED_PARTITIONS={partitions}: too few for NUFED_NODES={here} "
            f"from NUFED_FIRST={first} on"
        )
    superlink = env.get("NUFED_SUPERLINK") or "superlink:8000"
    partition = claim(range(first, first + here))
    print(f"hosting partition {partition} of {partitions}", flush=True)
    if job := env.get("NUFED_JOB"):
        print(f"once all are up, this trains on them: {job}", flush=True)
    keys, more = env.get("NUFED_KEYS") or "", env.get("NUFED_NODE_CONFIG") or ""
    line = command(partition, partitions, superlink, keys, more)
    os.execvp(line[0], line)


if __name__ == "__main__":
    main()
