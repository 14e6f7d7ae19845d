"""Each ν, exact and first-order, at equal rounds, at equal gradients and at equal bytes."""

from benchmarks.contest.contender import Contender, Setting
from benchmarks.contest.search import Axis

SETTINGS = {
    "own_labels": Setting("cost_own_labels", "Fashion-MNIST, few images, labels of a client's own"),
}
ADAM = (Axis("algorithm.alpha", "0.1"), Axis("strategy.optimizer.lr", "0.01"), Axis("strategy.clip_norm", "1.0", ("null", "1.0")))


def contenders(axes=ADAM, support="25"):
    def one(name, nu, mode="exact", *also, steps=None):
        return Contender(name, axes, (("algorithm.nu", nu), ("algorithm.mode", mode), *also), steps=steps)
    return [
        one("FedAvg + fine-tuning", "0"),
        one("ν=1, exact", "1"), one("ν=1, first-order", "1", "first_order"),
        one("ν=2, exact", "2"), one("ν=2, first-order", "2", "first_order"),
        one("ν=5, exact", "5"), one("ν=5, first-order", "5", "first_order"),
        one("ν=1, exact, one step of 25 rows", "1", "exact", ("algorithm.batch.support", support), steps=(1,)),
    ]
