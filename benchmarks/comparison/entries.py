"""Who is compared, and on what."""

from dataclasses import replace

from benchmarks.contest.contender import TUNING_SEEDS, Contender, Setting
from benchmarks.contest.play import Entry
from benchmarks.contest.search import Axis
from benchmarks.experiments.plan import ALPHA, jobs
from nufed.conf.compose import CONFIG_DIR
from nufed.conf.schema import Config

BETA, LR = "algorithm.beta", "strategy.optimizer.lr"
STEPS = 5  # of fine-tuning, after which a method counts
BUDGET = 10
STRENGTHS = {
    "apfl": Axis("algorithm.mixing", "0.5", ("0.25", "0.5", "0.75")),
    "ditto": Axis("algorithm.lamda", "0.1"),
    "fedprox": Axis("algorithm.mu", "0.1"),
    "pfedme": Axis("algorithm.lamda", "10.0"),
    "reptile": Axis("algorithm.epsilon", "0.3", ("0.1", "0.3", "1.0")),
}
"""What a method has to tune beside its step sizes, within the same number of trials."""
STARTS = {
    "taste": ("0.1", "0.1"),
    "insteval": ("0.01", "0.03"),
    "synthetic": ("0.03", "0.03"),
    "sines": ("0.03", "0.03"),
}
"""α and β that every walk starts from."""
SETTINGS = {
    name: Setting(f"methods_{name}", title, metric, (STEPS,), BUDGET, TUNING_SEEDS[:1])
    for name, title, metric in (
        ("taste", "taste", "accuracy"),
        ("insteval", "InstEval, by student", "loss"),
        ("synthetic", "synthetic(0.5, 0.5)", "accuracy"),
        ("sines", "sine waves", "loss"),
    )
}
ALONE = 200  # fine-tuning steps of a client that trains from scratch, at most


def methods() -> list[str]:
    """Return the options of `algorithm`."""
    return sorted(file.stem for file in (CONFIG_DIR / "algorithm").glob("*.yaml"))


def entries(name: str) -> list[Entry]:
    """Return a data set's contenders: the methods, and what they have to be better than."""
    setting, (alpha, beta) = SETTINGS[name], STARTS[name]
    sizes = (Axis(ALPHA, alpha), Axis(BETA, beta))
    made = [_method(method, sizes) for method in methods()]
    run = jobs(setting.experiment)[0].config
    return [(setting, who) for who in (*made, alone(sizes), pooled(sizes, run))]


def _method(option: str, sizes: tuple[Axis, ...]) -> Contender:
    strength = STRENGTHS.get(option)
    axes = sizes if strength is None else (*sizes, strength)
    return Contender(option, axes, options=(f"algorithm={option}",))


def alone(sizes: tuple[Axis, ...]) -> Contender:
    """Return each client by itself: from the first model, as many steps as its rows ask for.

    Its one round trains nobody else: nothing is sent of `local_only`.
    """
    short = (
        ("clients_per_round", "1"),
        ("rounds", "1"),
        ("evaluation.every", "1"),
        ("evaluation.steps", str(ALONE)),
    )
    made = Contender("alone", sizes[:1], short, ("algorithm=local_only",))
    return replace(made, steps=tuple(range(ALONE + 1)))


def pooled(sizes: tuple[Axis, ...], run: Config) -> Contender:
    """Return one model of all train rows: every step takes the mean gradient of all clients.

    Its batch has rows of everyone, and it takes as many steps as a client would that is drawn in
    every round.
    """
    tau = run.algorithm["tau"]
    everyone = (
        ("rounds", str(tau * run.rounds)),
        ("evaluation.every", str(tau * run.evaluation.every)),
        ("fraction", "1.0"),
        ("algorithm.tau", "1"),
        ("strategy.weighting", "examples"),
    )
    return Contender("pooled", sizes, everyone, ("algorithm=fedavg",))
