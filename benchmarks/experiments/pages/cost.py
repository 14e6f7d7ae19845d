"""Each ν, exact and first-order, at equal rounds, at equal gradients and at equal bytes."""

from benchmarks.contest.contender import Contender, Setting
from benchmarks.contest.search import Axis
from benchmarks.experiments.methods import TITLES
from benchmarks.experiments.plan import ALPHA, MODE, NU

SUPPORT = "algorithm.batch.support"
CLIP = Axis("strategy.clip_norm", "1.0", ("null", "1.0"))
ADAM = (Axis(ALPHA, "0.1"), Axis("strategy.optimizer.lr", "0.01"), CLIP)
SGD = (Axis(ALPHA, "0.1"), Axis("algorithm.beta", "0.1"), Axis("strategy.clip_norm", "null", ("null", "1.0")))


def contenders(axes: tuple[Axis, ...], rows: str | None = None) -> list[Contender]:
    """Return FedAvg, and each ν in both modes; with as many rows a step, one long step."""

    def one(name: str, nu: str, mode: str, *also: tuple[str, str], **more) -> Contender:
        return Contender(name, axes, ((NU, nu), (MODE, mode), *also), **more)

    both = [
        one(f"ν = {nu}, {mode.replace('_', '-')}", nu, mode)
        for nu in ("1", "2", "5")
        for mode in ("exact", "first_order")
    ]
    longer = [] if rows is None else [one(f"ν = 1, exact, one step of {rows} rows", "1", "exact", (SUPPORT, rows), steps=(1,))]
    return [one("FedAvg + fine-tuning", "0", "exact"), *both, *longer]


SETTINGS = {
    "own_labels": (Setting("cost_own_labels", TITLES["own_labels"]), contenders(ADAM, "25")),
    "taste": (Setting("cost_taste", "taste: images that each person likes or not"), contenders(ADAM, "15")),
    "sines": (Setting("cost_sines", "sine waves", "loss"), contenders((Axis(ALPHA, "0.03"), *ADAM[1:]))),
    "digits_dirichlet": (Setting("cost_digits_dirichlet", TITLES["digits_dirichlet"]), contenders(SGD)),
}
