"""From a run to personal models: what it learned, for the rows of any client.

It takes config.yaml and model.safetensors of a run, and no Flower; the run's data only where no
others are given.
"""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from torch import nn

from nufed.client_app.algorithm import Algorithm, algorithm_of
from nufed.client_app.fine_tuner import FineTuner
from nufed.client_app.meta_gradient import Params
from nufed.client_app.personal import FineTuning, Personal
from nufed.client_app.work import task_for
from nufed.conf.compose import of_run
from nufed.conf.errors import InputError
from nufed.conf.files import is_there
from nufed.conf.schema import MOST_STEPS, Config
from nufed.conf.targets import modules_of
from nufed.conf.words import path_of
from nufed.tasks.measures import lower_is_better
from nufed.tasks.own_rows import named, number_of, own_rows, require_fits
from nufed.tasks.sequences import embeds
from nufed.tasks.store import FederatedData
from nufed.tasks.streams import DRAWS
from nufed.tasks.task import Task, federated
from nufed.tasks.trained import (
    MODEL,
    Sizes,
    apart,
    load_model,
    placed,
    read,
    require_held,
)

log = logging.getLogger("nufed")

AS_IN_RUN: Literal["run"] = "run"
AUTO: Literal["auto"] = "auto"
WIDER = 2
"""Of the run's ν, up to how many steps are tried where they are chosen."""


def personalize(
    checkpoint: str | Path,
    data: Any = None,
    *,
    client: int | str | None = None,
    steps: int | Literal["auto"] = AUTO,
    alpha: float | None = None,
    batch: int | Literal["run"] | None = AS_IN_RUN,
    test_fraction: float | None = None,
    device: str = "cpu",
    trust: str | Sequence[str] | None = None,
) -> Personal:
    """Fine-tune a run's model on a client's own rows; measure it after each step on others of them.

    Parameters
    ----------
    client
        Which client, by its id in the data, where these have several.
    checkpoint, data, steps, alpha, batch, test_fraction, device, trust
        As of `fine_tuner`.

    Returns
    -------
    Personal
        The model after the steps taken. No gradient was taken on a row that it was measured on, and
        none of these chose how many steps there are.

    Raises
    ------
    InputError
        If the run, its model or the rows cannot be used, or a loss is not finite.
    """
    tuner = fine_tuner(
        checkpoint,
        data,
        steps=steps,
        alpha=alpha,
        batch=batch,
        test_fraction=test_fraction,
        device=device,
        trust=trust,
    )
    where = f"checkpoint={checkpoint}" if data is None else named(data)
    return tuner.personal(number_of(client, tuner.ids, where))


def fine_tuner(
    checkpoint: str | Path,
    data: Any = None,
    *,
    steps: int | Literal["auto"] = AUTO,
    alpha: float | None = None,
    batch: int | Literal["run"] | None = AS_IN_RUN,
    test_fraction: float | None = None,
    device: str = "cpu",
    trust: str | Sequence[str] | None = None,
) -> FineTuner:
    """Return what makes personal models of a run's model, for the clients of some data.

    Parameters
    ----------
    checkpoint
        A run folder, of which config.yaml and model.safetensors are needed; or its
        model.safetensors.
    data
        An .npz file with x, y and optionally client and test; or these, as `Rows`; or, where the
        run's rows were made of one, a table: a file, or such as a `pandas.DataFrame`. None: the
        run's own data, with the rows held out that were in training.
    steps
        Fine-tuning steps. "auto" chooses them for each client by its train rows, of 0 to twice the
        run's ν, or the steps that it evaluates where ν is 0: see `nufed.client_app.choice`.
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

    Raises
    ------
    InputError
        If the run, its model or the rows cannot be used.
    """
    trusted = modules_of(trust)
    folder, config, trained, sizes = _trained(path_of(checkpoint), trusted)
    algorithm = algorithm_of(config.algorithm)
    usual = algorithm.inner_steps or config.evaluation.steps
    most = min(max(WIDER * usual, 1), MOST_STEPS)
    how = FineTuning(
        most if steps == AUTO else steps,
        algorithm.alpha if alpha is None else alpha,
        config.evaluation.batch if batch == AS_IN_RUN else batch,
        config.seed,
    )
    if data is None:
        mine = _of_run(config, sizes, test_fraction, f"checkpoint={checkpoint}")
    else:
        mine = own_rows(data, sizes, config.partition, test_fraction)
    if mine.num_clients > 1 and test_fraction is None and sizes.draws != DRAWS:
        log.warning(
            "checkpoint=%s: an older version held out other rows: a client that trained it is "
            "measured here on some that it was trained on",
            checkpoint,
        )
    if alpha is not None and algorithm.learns_alpha:
        raise InputError(
            f"alpha={alpha:g}: {algorithm.name} learned its step sizes of fine-tuning; leave it out"
        )
    if algorithm.stateful:
        log.warning(
            "checkpoint=%s: what clients of %s kept of their training is not read: they begin "
            "as one that never trained",
            checkpoint,
            algorithm.name,
        )
    algorithm = algorithm.with_numbers({"alpha": how.alpha})
    config = replace(config, device=device)
    task = task_for(algorithm, config, data=mine)
    shared = _shared(trained, task, algorithm, checkpoint)
    name = f"{config.name}/{folder.name}"
    lower = lower_is_better(config.task)
    return FineTuner(name, config, how, usual, steps == AUTO, task, algorithm, shared, lower)


def trained_module(
    checkpoint: str | Path, *, device: str = "cpu", trust: str | Sequence[str] | None = None
) -> nn.Module:
    """Return a run's trained model, with its buffers, in eval mode; arguments as of `fine_tuner`.

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


def _of_run(config: Config, sizes: Sizes, test_fraction: float | None, named: str) -> FederatedData:
    """Return the run's own data, if they are here and for its model."""
    if test_fraction is not None:
        raise InputError(
            f"test_fraction={test_fraction}: the run's own data are split as in training; leave it "
            "out, or give data=FILE"
        )
    mine = federated(config)
    if not mine.rows_here:
        raise InputError(f"{named}: the rows of its clients are with them; give some, as data=FILE")
    require_fits(mine, sizes, named)
    return mine


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
