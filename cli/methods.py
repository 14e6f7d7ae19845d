"""docs/methods.md: the algorithms that come with NuFed, with what each sends, keeps and computes.

    python -m nufed.cli.methods    writes the page (make docs)

The figures are those of a small network; nothing in the table is typed by hand.
"""

import math

from torch import nn

from nufed.client_app.algorithm import Algorithm, algorithm_of
from nufed.client_app.meta_gradient import Params
from nufed.client_app.work import new_state
from nufed.conf.compose import CONFIG_DIR, compose_config
from nufed.conf.reference import heading
from nufed.tasks.task import Task, build

PAGE = CONFIG_DIR.parent / "docs" / "methods.md"
GROUP = "algorithm"
INTRODUCTION = """\
# Methods

Written by `make docs`: the [algorithms](../client_app/algorithms) that `algorithm=…` takes, each
of them one file, with the update of its paper and where it differs from it. Any of them runs on
every engine, with every rule, sampler, schedule and server optimizer that
[configuration.md](configuration.md) lists; one of your own is [one file
more](extending.md#an-algorithm).

Figures are those of the options as they stand, for a network of one hidden layer of 100 and a
norm. *Sent* is what a drawn client gets from the server, and sends back, a round; *kept* is what
it keeps until it is drawn again; both in sizes of the model. *Gradients* are those of a batch a
local step, a Hessian-vector product counted as two. Every row of `metrics.jsonl` has, as `cost`,
the gradients per participating client and the bytes both ways so far, so that methods can be
compared at equal rounds, at equal gradients and at equal bytes.
"""


class Network(nn.Sequential):
    """A hidden layer of 100 with a norm: a body, norm layers and a head."""

    def __init__(self, input_shape: tuple[int, ...], num_outputs: int) -> None:
        hidden = nn.Linear(math.prod(input_shape), 100), nn.LayerNorm(100), nn.ReLU()
        super().__init__(nn.Flatten(), *hidden, nn.Linear(100, num_outputs))


def page() -> str:
    """Return the text of docs/methods.md."""
    rows = [f"| {' | '.join(_row(name))} |" for name in names()]
    table = [
        "| `algorithm=` | what it is | sent | kept | gradients |",
        "|---|---|---|---|---|",
        *rows,
    ]
    return f"{INTRODUCTION}\n" + "\n".join(table) + "\n"


def names() -> list[str]:
    """Return the options of the group."""
    return sorted(file.stem for file in (CONFIG_DIR / GROUP).glob("*.yaml"))


def _row(name: str) -> list[str]:
    """Return what the table says of an algorithm."""
    network = ("model=custom", f"model._target_={__name__}.Network")
    steps = ("algorithm.alpha=0.1", "algorithm.beta=0.1")
    config = compose_config([f"{GROUP}={name}", *steps, *network])
    algorithm, task = algorithm_of(config.algorithm), build(config)
    shared = algorithm.shared(task.initial_params())
    what = heading(CONFIG_DIR / GROUP / f"{name}.yaml").replace("|", "\\|")
    sizes = (_sizes(task, part) for part in (shared, _kept(task, algorithm, shared)))
    return [f"`{name}`", what, *sizes, str(algorithm.gradients)]


def _kept(task: Task, algorithm: Algorithm, shared: Params) -> Params:
    return new_state(task, algorithm, shared) if algorithm.stateful else {}


def _sizes(task: Task, part: Params) -> str:
    """Return how many times the model a part of it, or something beside it, is."""
    whole = sum(p.numel() for p in task.initial_params().values())
    return f"{sum(p.numel() for p in part.values()) / whole:.3g}"


if __name__ == "__main__":
    from nufed.cli import methods  # by its name, at which the network is found

    PAGE.write_text(methods.page())
