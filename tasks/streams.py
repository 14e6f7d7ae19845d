"""Every stream of random numbers: one for each purpose, seed, client and round, and no two alike.

A stream follows from its key alone, so every engine sees the same draws, and evaluating more often
leaves training as it is. A key is always of the same eight 32-bit words, the purpose first: NumPy's
`SeedSequence` pads what is short with zeros and gives a large number more words than a small one,
so that keys of other lengths could coincide.
"""

import random as python_random
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum

import numpy as np
import torch
from numpy.typing import NDArray

DRAWS = 2
"""Raised when a key comes to be another: of one seed, other rows are test rows from then on."""


class Purpose(IntEnum):
    """What is drawn; a number is never given to another purpose."""

    TRAIN = 1
    """A client's batches of a round, and what its model draws there."""
    EVALUATE = 2
    """A client's batches of fine-tuning, the same in every round."""
    PROBE = 3
    """The rows by which a client's curvature is measured, and where Lanczos starts."""
    NEW_CLIENTS = 4
    SAMPLE = 5
    """A round's clients."""
    MEASURED = 6
    """The participating clients that are evaluated."""
    MEASURED_NEW = 7
    PROBED = 8
    """The clients whose curvature is measured."""
    ROWS = 9
    """In which order rows are given to a partitioner."""
    SPLIT = 10
    """Each client's test rows."""
    MODEL = 11
    """Initial parameters."""
    DATA = 12
    """The rows of a data set that is made here."""
    CONSTANTS = 13
    """The clients and rows on which the constants of the analysis are measured."""
    LANCZOS = 14
    """Where Lanczos starts for these."""
    AVAILABLE = 15
    """Which clients are there in a round."""
    CONFORMANCE = 16
    """Models and rows for code that is checked."""
    BASELINES = 17
    """The participating clients that are trained without federation."""
    FOLDS = 18
    """Which of a client's train rows are held out to choose its steps by, and batches meanwhile."""
    BASELINES_NEW = 19
    POOLED = 20
    """The batches of one model of all clients' rows."""


def key(purpose: Purpose, seed: int, client: int = 0, round: int = 0) -> NDArray[np.uint32]:
    """Return the words of a stream's key, [8]; seed, client and round from 0 to below 2^64.

    Raises
    ------
    ValueError
        For a number out of that range.
    """
    try:
        return np.array([purpose, seed, client, round], "<u8").view("<u4")
    except OverflowError as error:
        given = f"seed={seed}, client={client}, round={round}"
        raise ValueError(f"{given}: must be from 0 to below 2^64") from error


def stream(purpose: Purpose, seed: int, client: int = 0, round: int = 0) -> np.random.Generator:
    """Return the generator of a stream, at its start; arguments as of `key`."""
    return np.random.default_rng(key(purpose, seed, client, round))


def torch_seed(random: np.random.Generator) -> int:
    """Draw a seed for torch, of whose bits its generator on the CPU takes the lower 32 alone."""
    return int(random.integers(2**63))


def torch_stream(random: np.random.Generator) -> torch.Generator:
    """Return a generator of torch that follows from `random`."""
    return torch.Generator().manual_seed(torch_seed(random))


@contextmanager
def model_randomness(random: np.random.Generator) -> Iterator[None]:
    """Let what a model draws (dropout) follow from `random`, on every engine."""
    seed = torch_seed(random)
    with torch.random.fork_rng(devices=[]), _seeded_beside_torch(seed):
        torch.default_generator.manual_seed(seed)
        in_use = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
        if in_use or torch.backends.mps.is_available():
            torch.manual_seed(seed)  # takes a millisecond to note it for devices not yet in use
        yield


@contextmanager
def seeded(random: np.random.Generator) -> Iterator[None]:
    """Let what code of others draws from torch, NumPy or Python follow from `random`.

    Their global generators on the CPU are put back at the end. A third of a millisecond: for what
    is done once, such as making a module.
    """
    seed = torch_seed(random)
    with torch.random.fork_rng(devices=[]), _seeded_beside_torch(seed):
        torch.manual_seed(seed)
        yield


@contextmanager
def _seeded_beside_torch(seed: int) -> Iterator[None]:
    """Seed the global generators of NumPy and of Python, and put them back at the end."""
    numpy_state, python_state = np.random.get_state(), python_random.getstate()
    np.random.seed(seed % 2**32)
    python_random.seed(seed)
    try:
        yield
    finally:
        np.random.set_state(numpy_state)
        python_random.setstate(python_state)


def global_states() -> tuple[object, ...]:
    """Return where the global generators on the CPU are: of torch, NumPy and Python."""
    _, words, *rest = np.random.get_state()
    of_torch = torch.get_rng_state().numpy().tobytes()
    return of_torch, np.asarray(words).tobytes(), *rest, python_random.getstate()
