"""What a SuperNode says of itself by its node config: which clients it hosts, and its own data."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import Context

from nufed.client_app.algorithm import Algorithm
from nufed.client_app.messages import MalformedMessage, Memory
from nufed.client_app.meta_gradient import Params
from nufed.client_app.states import Held, StateFolder, States
from nufed.conf.errors import InputError
from nufed.conf.targets import typed_here
from nufed.conf.words import path_of
from nufed.tasks.private import NAME, Local
from nufed.tasks.store import home
from nufed.tasks.task import Task

STATES = "states"
"""The folder of what clients keep between rounds."""
EXAMPLE = "--node-config 'partition-id=0 num-partitions=4'"
EXAMPLE_OF_OWN = f'{EXAMPLE[:-1]} data-path="/data/mine.npz"\''


def place(node_config: Mapping[str, Any]) -> tuple[int, int]:
    """Return the first client that a SuperNode hosts, and the stride to its others.

    Raises
    ------
    InputError
        If ``partition-id`` or ``num-partitions`` is missing or impossible.
    """
    stride = _whole(node_config, "num-partitions")
    if stride < 1:
        raise InputError(f"num-partitions={stride}: must be at least 1; say {EXAMPLE}")
    first = _whole(node_config, "partition-id")
    if not 0 <= first < stride:
        raise InputError(
            f"partition-id={first}: must be from 0 to {stride - 1}, below num-partitions={stride}"
        )
    return first, stride


def own_data(node_config: Mapping[str, Any], dataset: str) -> Local | None:
    """Return the SuperNode's own file where the run is on private data, else None.

    Raises
    ------
    InputError
        If the run wants private data and there are none here, or the reverse.
    """
    path = node_config.get("data-path")
    if dataset != NAME:
        if path is not None:
            raise InputError(
                f"data-path={path}: this SuperNode has data of its own, the run wants "
                f"dataset={dataset}; say dataset={NAME}, or start it without data-path"
            )
        return None
    if path is None:
        raise InputError(
            f"data-path: not in this SuperNode's node config, and the run says dataset={NAME}; "
            f"start it with {EXAMPLE_OF_OWN}, for engine=deployment"
        )
    if not isinstance(path, str) or not path.strip():
        raise InputError(f"data-path={path}: must be a path in quotes; say {EXAMPLE_OF_OWN}")
    return Local(path, *place(node_config))


def hosted(node_config: Mapping[str, Any], task: Task) -> range:
    """Return the clients of a SuperNode: partition-id, then every num-partitions-th with rows."""
    first, stride = place(node_config)
    train = task.data.partition.train[first::stride]
    return range(first, task.data.num_clients, stride)[: np.count_nonzero(train)]


def states_for(
    algorithm: Algorithm, memory: Memory | None, context: Context, like: Params
) -> States:
    """Return where this SuperNode keeps its clients' states of a run.

    Beside the run's other files where all is one process; else in the folder that its node config
    names as ``state-path``, or in `$NUFED_DATA`. All are `like` that of a client never drawn.

    Raises
    ------
    MalformedMessage
        If its clients keep states, and the message does not say which.
    """
    if not algorithm.stateful:
        return Held()
    if memory is None:
        raise MalformedMessage(f"no 'memory' record, which algorithm={algorithm.name} needs")
    if typed_here(context.node_config):
        folder = Path(str(context.run_config["run-dir"])) / STATES
    else:
        given = context.node_config.get("state-path")
        folder = (home() / STATES if given is None else path_of(str(given))) / memory.run
    return StateFolder(folder, like, memory.session, memory.since, memory.saved)


def _whole(node_config: Mapping[str, Any], key: str) -> int:
    if key not in node_config:
        raise InputError(f"{key}: not in this SuperNode's node config; say {EXAMPLE}")
    value = node_config[key]
    if type(value) is not int:
        raise InputError(f"{key}={value!r}: must be a whole number; say {EXAMPLE}")
    return value
