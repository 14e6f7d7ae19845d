"""How much work a SuperNode does at most, whatever a run or one of its messages asks for."""

from collections.abc import Mapping

from nufed.client_app.algorithm import algorithm_of
from nufed.client_app.messages import EvaluateInstruction, MalformedMessage, TrainInstruction
from nufed.conf.errors import InputError
from nufed.conf.schema import Config, require

LEAST = {"max-nu": 0, "max-tau": 1}
"""Keys of a node config that bound what any run asks of a SuperNode, and what they may be."""


def limits_of(node_config: Mapping[str, object]) -> tuple[tuple[str, object], ...]:
    """Return what whoever runs a SuperNode said of the steps that it takes at most."""
    return tuple((key, node_config[key]) for key in LEAST if key in node_config)


def require_allowed(config: Config, limits: Mapping[str, object]) -> None:
    """Raise unless a run's configuration keeps to the limits of a SuperNode.

    ``max-nu`` bounds fine-tuning steps wherever they are taken, in training and for personalization
    curves; ``max-tau`` local steps, and those of a model alone (see `require_few`).

    Raises
    ------
    InputError
        If it does not, or a limit is no whole number.
    """
    algorithm = algorithm_of(config.algorithm)
    steps = {
        "max-nu": {
            "algorithm.nu": algorithm.inner_steps,
            "evaluation.steps": config.evaluation.steps,
        },
        "max-tau": {"algorithm.tau": algorithm.tau},
    }
    for key, most in limits.items():
        least = LEAST[key]
        require(type(most) is int and most >= least, key, most, f"a whole number from {least} on")
        assert isinstance(most, int)
        for name, asked in steps[key].items():
            if asked > most:
                raise InputError(
                    f"{key}={most}: the run asks this SuperNode for {name}={asked}; lower that, "
                    f"or raise {key} in its --node-config"
                )


def require_few(steps: int, limits: Mapping[str, object]) -> None:
    """Raise a `MalformedMessage` if a model alone is trained longer than a SuperNode allows.

    ``max-tau`` bounds these steps too: they are as much work as local ones.
    """
    most = limits.get("max-tau")
    if isinstance(most, int) and steps > most:
        raise MalformedMessage(
            f"max-tau={most}: a model alone takes up to {steps} steps here; say baselines=none"
        )


def require_within(
    instruction: TrainInstruction | EvaluateInstruction, config: Config, rows: int
) -> None:
    """Raise unless an instruction asks for no more than the run's configuration says.

    How much a round of training is, that alone says; an instruction has no say in it.

    Parameters
    ----------
    rows
        The most train rows of a client: those of a batch that takes all.

    Raises
    ------
    MalformedMessage
        If it asks for more steps, larger batches, or what the configuration does not ask for.
    """
    if isinstance(instruction, TrainInstruction):
        if instruction.whole and config.diagnostics.every is None:
            raise MalformedMessage("whole=True, and diagnostics.every=null of the run")
        return
    said = config.evaluation
    _require("steps", instruction.steps, "evaluation.steps", said.steps)
    asked, most = (rows if size is None else size for size in (instruction.batch, said.batch))
    _require("batch", asked, "evaluation.batch", most)


def _require(name: str, asked: int, key: str, most: int) -> None:
    if asked > most:
        raise MalformedMessage(f"{name}={asked} is more than {key}={most} of the run")
