"""A personal model: a few fine-tuning steps from a trained one, on the rows of one client.

It takes config.yaml and model.safetensors of a run; not the data of the run, and no Flower.
"""

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from itertools import islice
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nufed.client_app.algorithm import Algorithm, algorithm_of
from nufed.client_app.client import support_of
from nufed.client_app.meta_gradient import Params
from nufed.client_app.work import new_state, task_for
from nufed.conf.compose import of_run
from nufed.conf.errors import InputError
from nufed.conf.files import is_there
from nufed.conf.schema import MOST_STEPS, Config, positive, require
from nufed.conf.targets import modules_of
from nufed.conf.words import path_of
from nufed.tasks.module_state import unchanged
from nufed.tasks.own_rows import own_rows
from nufed.tasks.rows import Rows
from nufed.tasks.sequences import embeds
from nufed.tasks.streams import DRAWS, Purpose, model_randomness, stream
from nufed.tasks.task import Task, federated
from nufed.tasks.trained import (
    MODEL,
    Sizes,
    apart,
    load_model,
    placed,
    read,
    require_held,
    to_bytes,
)

log = logging.getLogger("nufed")

AS_IN_RUN: Literal["run"] = "run"
MOST_ROWS = 100_000_000
"""Rows that all steps draw together: their numbers are held at once, at 8 bytes each."""


@dataclass(frozen=True)
class FineTuning:
    """How a model is fine-tuned."""

    steps: int
    alpha: float
    batch: int | None
    """Rows a step; None takes all train rows."""
    seed: int

    def __post_init__(self) -> None:
        allowed = f"from 0 to {MOST_STEPS}"
        require(0 <= self.steps <= MOST_STEPS, "steps", self.steps, allowed)
        number = isinstance(self.alpha, int | float)
        require(number and positive(self.alpha), "alpha", self.alpha, "above 0, such as 0.05")
        require(self.batch is None or self.batch >= 1, "batch", self.batch, "at least 1, or null")
        rows = self.steps * (self.batch or 0)
        require(
            rows <= MOST_ROWS, "batch", self.batch, f"fewer: {self.steps} steps draw {rows} rows"
        )


@dataclass(frozen=True)
class Personal:
    """A client's own model, and how good it became."""

    run: str
    """The run whose model it started from, as <name>/<time>."""
    how: FineTuning
    task: Task
    client: int
    """Its number in `task.data`."""
    params: Params
    curve: Mapping[str, list[float]]
    """Metric -> after k = 0 … steps, on the rows held out; empty where none are."""

    @property
    def train_rows(self) -> NDArray[np.int64]:
        """The rows that it was fine-tuned on, by number."""
        return self.task.data.partition.train_rows(self.client)

    @property
    def test_rows(self) -> NDArray[np.int64]:
        """The rows that were held out, by number."""
        return self.task.data.partition.test_rows(self.client)

    @property
    def module(self) -> nn.Module:
        """The module with its personal parameters, in eval mode, as one predicts with it."""
        self.task.module.load_state_dict(self.params, strict=False)
        return self.task.module.eval()

    def predict(self, x: NDArray[np.generic]) -> Tensor:
        """Return the outputs for rows x [N, …] as a client's file has them, pixels as uint8 too.

        Scores of the classes (`argmax(-1)` is the most likely one), or targets.
        """
        with torch.no_grad():
            rows = torch.from_numpy(np.asarray(x)).to(self.task.device)
            return self.task.predict(self.params, rows)

    def save(self, file: str | Path) -> None:
        """Write all that `module` consists of, as safetensors; the metadata say how it came about.

        Raises
        ------
        OSError
            If it cannot be written.
        """
        facts = {"run": self.run, **asdict(self.how), "nufed": _version()}
        Path(file).write_bytes(to_bytes(self.task, self.params, facts))


def personalize(
    checkpoint: str | Path,
    data: str | Path | Rows,
    *,
    client: int | str | None = None,
    steps: int | None = None,
    alpha: float | None = None,
    batch: int | Literal["run"] | None = AS_IN_RUN,
    test_fraction: float | None = None,
    device: str = "cpu",
    trust: str | Sequence[str] | None = None,
) -> Personal:
    """Fine-tune a run's model on a client's own rows; measure it after each step on others of them.

    Parameters
    ----------
    checkpoint
        A run folder, of which config.yaml and model.safetensors are needed; or its
        model.safetensors.
    data
        The client's .npz file with x, y and optionally test; or these rows.
    client
        Which client, by its id in the file, where that has several.
    steps
        Fine-tuning steps; None: the run's ν, or as many as it evaluates where ν is 0.
    alpha
        Step size; None: the run's α.
    batch
        Rows a step, None for all train rows; "run": as in the run's evaluation.
    test_fraction
        Part of the rows that is held out, 0 for none; None: the file's own split, else as in the
        run.
    device
        Where to compute.
    trust
        Modules that may be called where the run, not one of this person's own, names them.

    Returns
    -------
    Personal
        The model after the last step. No gradient was taken on a row that it was measured on.

    Raises
    ------
    InputError
        If the run, its model or the rows cannot be used, or a loss is not finite.
    """
    trusted = modules_of(trust)
    folder, config, trained, sizes = _trained(path_of(checkpoint), trusted)
    algorithm = algorithm_of(config.algorithm)
    how = FineTuning(
        (algorithm.inner_steps or config.evaluation.steps) if steps is None else steps,
        algorithm.alpha if alpha is None else alpha,
        config.evaluation.batch if batch == AS_IN_RUN else batch,
        config.seed,
    )
    mine, number = own_rows(data, client, sizes, config.partition, test_fraction)
    if client is not None and test_fraction is None and sizes.draws != DRAWS:
        log.warning(
            "checkpoint=%s: an older version held out other rows: if client %s trained it, then on "
            "some that it is measured on here",
            checkpoint,
            client,
        )
    if alpha is not None and algorithm.learns_alpha:
        raise InputError(
            f"alpha={alpha:g}: {algorithm.name} learned its step sizes of fine-tuning; leave it out"
        )
    if algorithm.stateful:
        log.warning(
            "checkpoint=%s: what clients of %s kept of their training is not read: this one begins "
            "as one that never trained",
            checkpoint,
            algorithm.name,
        )
    algorithm = algorithm.with_numbers({"alpha": how.alpha})
    task = task_for(algorithm, replace(config, device=device), data=mine)
    shared = _shared(trained, task, algorithm, checkpoint)
    params, curve = _fine_tune(task, algorithm, shared, number, how)
    return Personal(f"{config.name}/{folder.name}", how, task, number, params, curve)


def trained_module(
    checkpoint: str | Path, *, device: str = "cpu", trust: str | Sequence[str] | None = None
) -> nn.Module:
    """Return a run's trained model, with its buffers, in eval mode; arguments as of `personalize`.

    Raises
    ------
    InputError
        If the run or its model cannot be used.
    """
    _, config, trained, sizes = _trained(path_of(checkpoint), modules_of(trust))
    algorithm = algorithm_of(config.algorithm)
    task = task_for(algorithm, replace(config, device=device), data=sizes.outline())
    params = load_model(task, apart(trained)[0], f"checkpoint={checkpoint}: {MODEL}")
    task.module.load_state_dict(params, strict=False)
    return task.module.eval()


def _trained(checkpoint: Path, trusted: Sequence[str]) -> tuple[Path, Config, Params, Sizes]:
    """Read a run: its folder, its configuration, its model and the sizes that this is for."""
    named = f"checkpoint={checkpoint}"
    if not checkpoint.exists():
        raise InputError(f"{named}: is not there; name the folder of a run")
    is_file = checkpoint.is_file()
    folder = (checkpoint.parent if is_file else checkpoint).absolute()
    config = of_run(folder, named, trusted)
    file = checkpoint if is_file else checkpoint / MODEL
    if not is_there(file, links=is_file):
        raise InputError(f"{named}: has no {MODEL}; the run has not ended yet")
    params, sizes = read(file)
    if sizes is None:  # an older version wrote it
        try:
            sizes = replace(Sizes.of(federated(config)), draws=1)
        except InputError as error:
            raise InputError(
                f"{named}: an older version wrote its {MODEL}, so its data are needed ({error})"
            ) from error
    of_tokens = embeds(config.model.get("_target_"))
    require_held(sizes, apart(params)[0], embeds=of_tokens, name=f"{named}: {MODEL}")
    return folder, config, params, sizes


def _shared(trained: Params, task: Task, algorithm: Algorithm, checkpoint: str | Path) -> Params:
    """Return what the run shares, as the task takes it."""
    name = f"checkpoint={checkpoint}: {MODEL}"
    held, also = apart(trained)
    model = load_model(task, held, name)
    like = algorithm.shared(task.initial_params())
    return placed({n: (model | also)[n] for n in like if n in model or n in also}, like, name)


def _fine_tune(
    task: Task, algorithm: Algorithm, shared: Params, client: int, how: FineTuning
) -> tuple[Params, dict[str, list[float]]]:
    """Return the model after the last step, and the metrics after each; as clients evaluate."""
    split = task.data.partition
    test = split.test_rows(client)
    held_out = task.batch(test) if len(test) else None
    random = stream(Purpose.EVALUATE, how.seed, client)
    support, each = support_of(task, algorithm, client, random, how.steps, how.batch)
    curve: dict[str, list[float]] = {}
    params = shared
    state = new_state(task, algorithm, shared)
    with model_randomness(random), unchanged(task.module), torch.no_grad():
        models = algorithm.personal(task.loss, shared, state, support)
        for k, params in enumerate(islice(models, 0, None, each)):
            measured = {} if held_out is None else task.metrics(params, *held_out)
            for name, value in measured.items():
                curve.setdefault(name, []).append(float(value))
            loss = [values[-1] for name, values in curve.items() if name == "loss"]
            _require_finite(params, loss, k, how.alpha)  # another metric may not exist: it is NaN
    return params, curve


def _require_finite(params: Params, metrics: list[float], k: int, alpha: float) -> None:
    """Raise if a step led nowhere."""
    if all(map(math.isfinite, metrics)) and all(p.isfinite().all() for p in params.values()):
        return
    if k == 0:
        raise InputError(
            "data: the trained model's loss on the rows held out is not finite; scale x as the run "
            "had it"
        )
    raise InputError(
        f"alpha={alpha:g}: the model or its loss is not finite after step {k}; "
        f"try alpha={alpha / 10:g}"
    )


def _version() -> str:
    """Return NuFed's version, if it is installed as a package."""
    try:
        return version("nufed")
    except PackageNotFoundError:
        return "unknown"
