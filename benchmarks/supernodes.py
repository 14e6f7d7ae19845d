"""`python -m benchmarks.supernodes`: a round on SuperNodes, against a Flower app that does nothing.

Each message to a SuperNode starts a process, so most of a round is what that process imports. The
other app imports torch and sends the same arrays back; what is above its time is ours. Both run on
one SuperLink and four SuperNodes on loopback, one after the other, and again.
"""

import contextlib
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.child import nufed
from nufed.cli.superlink import connect
from nufed.conf.compose import compose_config
from nufed.conf.errors import RunStopped
from nufed.simulation.flower_command import (
    HOST,
    environment,
    free_ports,
    kill_all,
    start,
    wait_until_healthy,
)
from nufed.tasks.task import build

NODES = 4
ROUNDS = 4  # of a run; the first is left out: what is compiled or prepared once
TARGET = 1.2
OURS = [
    *(f"partition.num_clients={NODES}", f"clients_per_round={NODES}", f"rounds={ROUNDS}"),
    *("evaluation.every=1000", "evaluation.clients=1", "evaluation.new_clients=0"),
]
PYPROJECT = """
[project]
name = "nothing"
version = "0.1.0"

[tool.flwr.app]
publisher = "nufed"

[tool.flwr.app.components]
serverapp = "nothing.server:app"
clientapp = "nothing.client:app"

[tool.flwr.app.config]
out = ""
shapes = ""
"""
SERVER = """
import json
import time
from pathlib import Path

import torch
from flwr.app import ArrayRecord, Message, MessageType, RecordDict
from flwr.serverapp import ServerApp

app = ServerApp()


@app.main()
def main(grid, context):
    shapes = json.loads(context.run_config["shapes"])
    arrays = ArrayRecord({name: torch.zeros(shape) for name, shape in shapes.items()})
    while len(nodes := list(grid.get_node_ids())) < NODES:
        time.sleep(0.5)
    seconds = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        contents = [RecordDict({"arrays": arrays}) for _ in nodes]
        messages = [Message(c, n, MessageType.TRAIN) for c, n in zip(contents, nodes)]
        waiting = set(grid.push_messages(messages))
        while waiting:
            waiting -= {r.metadata.reply_to_message_id for r in grid.pull_messages(list(waiting))}
            time.sleep(0.1)
        seconds.append(time.perf_counter() - started)
    Path(context.run_config["out"]).write_text(json.dumps(seconds))
"""
CLIENT = """
import torch
from flwr.app import ArrayRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

app = ClientApp()


@app.train()
def train(message, context):
    arrays = ArrayRecord(message.content["arrays"].to_torch_state_dict())
    metrics = MetricRecord({"num-examples": 1})
    return Message(RecordDict({"arrays": arrays, "metrics": metrics}), reply_to=message)
"""


def main() -> None:
    """Measure, and print medians and their ratio."""
    repeats = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    ours, nothing = list[float](), list[float]()
    with tempfile.TemporaryDirectory(prefix="nufed-") as folder, _federation(Path(folder)) as at:
        for repeat in range(repeats):
            nothing += _nothing(Path(folder) / f"nothing{repeat}", at)[1:]
            ours += _ours(at)[1:]
            print(f"{repeat + 1} of {repeats}: {_medians(ours, nothing)}", flush=True)
    print(f"SuperNodes: {_medians(ours, nothing)}; target ≤ {TARGET}")


def _medians(ours: list[float], nothing: list[float]) -> str:
    mine, theirs = median(ours), median(nothing)
    return f"{mine:.2f} s/round, an app that does nothing {theirs:.2f}, ratio {mine / theirs:.2f}"


def _ours(superlink: str) -> list[float]:
    """Return the seconds of each round of training."""
    run = nufed([*OURS, "engine=deployment", f"engine.superlink={superlink}"])
    return [row["train_s"] for row in run.rows if row["round"] > 0]


def _nothing(folder: Path, superlink: str) -> list[float]:
    """Return the same of the app that does nothing, with as many parameters of the same shapes."""
    package = folder / "app" / "nothing"
    package.mkdir(parents=True)
    (folder / "app" / "pyproject.toml").write_text(PYPROJECT)
    (package / "__init__.py").touch()
    (package / "server.py").write_text(f"NODES, ROUNDS = {NODES}, {ROUNDS}\n{SERVER}")
    (package / "client.py").write_text(CLIENT)
    params = build(compose_config(OURS)).initial_params()
    shapes = json.dumps({name: list(p.shape) for name, p in params.items()})
    engine: dict[str, Any] = {"superlink": superlink, "insecure": False}
    link, out = connect(engine, folder), folder / "seconds.json"
    run_id = link.submit(folder / "app", {"out": str(out), "shapes": shapes})
    while not (status := link.status(run_id))[0].startswith("finished"):
        time.sleep(2)
    if not out.exists():
        raise RunStopped(f"the app that does nothing is {status[0]}: {status[1]}")
    seconds: list[float] = json.loads(out.read_text())
    return seconds


@contextlib.contextmanager
def _federation(folder: Path) -> Iterator[str]:
    """Run a SuperLink and the SuperNodes; yield its address."""
    home = folder / "home"
    home.mkdir()
    port, *ports = free_ports(1 + NODES)
    env = environment() | {
        "FLWR_HOME": str(home),
        "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.1",
        "OMP_NUM_THREADS": "1",
    }
    with (folder / "flower.log").open("ab") as log:
        command = ["flower-superlink", "--insecure", "--host", HOST, "--port", str(port)]
        command += ["--disable-runtime-dependency-installation"]
        wait_until_healthy(start(command, env, folder, log), port)
        for i, own in enumerate(ports):
            command = ["flower-supernode", "--insecure", "--superlink", f"{HOST}:{port}"]
            command += ["--port", str(own), "--node-config"]
            start([*command, f"partition-id={i} num-partitions={NODES}"], env, folder, log)
        try:
            yield f"{HOST}:{port}"
        finally:
            kill_all(home)


if __name__ == "__main__":
    main()
