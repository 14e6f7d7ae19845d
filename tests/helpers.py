"""Models, losses and readers that several tests need."""

import json
import os
import signal
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.func import functional_call

from nufed.client_app.algorithm import Batches, Trained, algorithm_of, local_update
from nufed.client_app.algorithms.meta_gradient import MetaGradient, WithHessian
from nufed.client_app.meta_gradient import LossFn, Params
from nufed.client_app.slots import ENTRY, RECORD, VERSIONS
from nufed.client_app.work import Measuring, Training
from nufed.conf.schema import Config

Row = dict[str, Any]


class RunResult(NamedTuple):
    """A run folder, read."""

    folder: Path
    rows: list[Row]
    summary: dict[str, Any]
    model: Params


def read_run(folder: Path) -> RunResult:
    """Read what a run left behind."""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    summary = json.loads((folder / "summary.json").read_text())
    return RunResult(folder, rows, summary, load_file(folder / "model.safetensors"))


def training(
    config: Config, clients: Sequence[int] = (), round: int = 1, **changes: Any
) -> Training:
    """Return a round of training by the algorithm of a configuration, with other fields of it."""
    weighting = config.strategy["weighting"]
    job = Training(algorithm_of(config.algorithm), round, config.seed, list(clients), weighting)
    return changed(job, **changes)


def measuring(config: Config, clients: Sequence[int] = (), **changes: Any) -> Measuring:
    """Return personalization curves by the algorithm of a configuration, with other fields."""
    algorithm, e = algorithm_of(config.algorithm), config.evaluation
    if "alpha" in changes:
        algorithm = algorithm.with_numbers({"alpha": changes.pop("alpha")})
    job = Measuring(algorithm, config.seed, list(clients), e.steps, e.batch)
    return replace(job, **changes)


def changed(job: Training, **changes: Any) -> Training:
    """Return the same work with other fields: its own, the algorithm's, or those of its batches."""
    algorithm = job.algorithm
    batch = {name: changes.pop(name) for name in ("support", "query", "hessian") if name in changes}
    own = {name: changes.pop(name) for name in [*changes] if hasattr(algorithm, name)}
    if batch:
        own["batch"] = replace(algorithm.batch, **batch)
    return replace(job.with_algorithm(**own), **changes)


def meta_steps(
    loss_fn: LossFn, params: Params, batches: Iterable[Batches], **fields: Any
) -> tuple[Params, Trained]:
    """Take local steps along the meta-gradient; return w_τ, and what came of it."""
    whole = WithHessian(support=None, query=None)
    given = {"name": "nufed", "nu": 1, "tau": 1, "batch": whole} | fields
    algorithm = MetaGradient(**given)
    trained = local_update(algorithm, partial(algorithm.step, loss_fn), params, {}, batches)
    return {name: p - trained.update[name] for name, p in params.items()}, trained


def random_quadratics(n: int, dimension: int, seed: int) -> tuple[NDArray[np.float64], ...]:
    """Return Hessians [n, d, d] with eigenvalues all over [0.05, 2], and optima [n, d]."""
    random = np.random.default_rng(seed)
    rotation = np.linalg.qr(random.normal(size=(n, dimension, dimension))).Q
    eigenvalues = random.uniform(0.05, 2.0, (n, dimension))
    hessians = np.einsum("nij,nj,nkj->nik", rotation, eigenvalues, rotation)
    return hessians, random.normal(size=(n, dimension))


def quadratic_loss(params: Params, hessian: Tensor, optimum: Tensor) -> Tensor:
    """f(w) = ½ (w − c)ᵀ H (w − c), for one client or, with a leading axis, a stack of them."""
    off = params["w"] - optimum
    return (off * (hessian @ off[..., None])[..., 0]).sum(-1) / 2


def network(module: nn.Module) -> tuple[LossFn, Params]:
    """Return the cross-entropy loss of a module, and its parameters, in float64."""
    module = module.double()

    def loss(params: Params, x: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(functional_call(module, params, (x,)), y)

    return loss, {name: p.detach() for name, p in module.named_parameters()}


def unrolled_meta_gradient(
    loss: LossFn,
    params: Params,
    support: tuple[Tensor, ...],
    query: tuple[Tensor, ...],
    alpha: float,
) -> Params:
    """∇F by plain autograd through the whole inner loop: the definition, with nothing clever."""
    leaves = {name: p.clone().requires_grad_() for name, p in params.items()}
    theta = leaves
    for step in range(len(support[0])):
        inner = loss(theta, *(tensor[step] for tensor in support))
        gradients = torch.autograd.grad(inner, list(theta.values()), create_graph=True)
        theta = {name: p - alpha * g for (name, p), g in zip(theta.items(), gradients, strict=True)}
    outer = torch.autograd.grad(loss(theta, *query), list(leaves.values()))
    return dict(zip(leaves, outer, strict=True))


def distance(a: Params, b: Params) -> float:
    """Return the largest difference between entries of two sets of parameters."""
    assert a.keys() == b.keys()
    return max(float((a[name] - b[name]).abs().max()) for name in a)


def cosine(a: Params, b: Params) -> float:
    """Return the cosine between two sets of parameters."""
    flat_a, flat_b = (torch.cat([p.flatten() for p in x.values()]) for x in (a, b))
    return float(F.cosine_similarity(flat_a, flat_b, dim=0))


def epsilon_of(releases: int, multiplier: float, delta: float) -> float:
    """Return ε of so many Gaussian releases of sensitivity 1, by the library beneath Flower's."""
    from dp_accounting import GaussianDpEvent
    from dp_accounting.rdp import RdpAccountant

    account = RdpAccountant()
    account.compose(GaussianDpEvent(multiplier), releases)
    return float(account.get_epsilon(delta))


def heed_interrupts() -> None:
    """Undo what a shell does to a job in its background, such as tests: that ignores SIGINT."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def require_data(folder: Path, remedy: str = "apt-get install dataset-fashion-mnist") -> None:
    """Skip the test where a data set is not installed; fail instead if REQUIRE_DATA=1."""
    if not folder.is_dir():
        give_up = pytest.fail if os.environ.get("REQUIRE_DATA") == "1" else pytest.skip
        give_up(f"{folder} is not there; {remedy}")


def versions_in(index: Path) -> NDArray[np.void]:
    """Return what an index of states says of each client: [clients, VERSIONS]."""
    content = index.read_bytes()
    content += b"\0" * (-len(content) % RECORD)
    return np.frombuffer(content, ENTRY).reshape(-1, VERSIONS).copy()
