"""Whole rounds under other rules than the mean: clipped, private, against hostile clients."""

from benchmarks.measure import Contender, interleaved, medians
from benchmarks.outcome import Line, Target
from benchmarks.setting import FASHION, MLP, PER_FEDAVG, setting
from benchmarks.whole_round import next_round
from benchmarks.workload import Effort, Workload

CLIENTS = 50
MEAN = "mean"
RULES = {
    MEAN: ((), None),
    "clipped": (("strategy.clip_norm=0.5",), 1.15),
    "central_dp": (("privacy=central_dp", "privacy.clipping_norm=0.5"), 1.15),
    "krum": (("rule=krum", "rule.num_malicious=5"), 1.5),
    "median": (("rule=median",), 1.5),
    "trimmed mean": (("rule=trimmed_mean",), 1.5),
}
"""Name -> overrides, and how many times as long as the mean a round may take."""
OVERRIDES = (*FASHION, f"partition.num_clients={CLIENTS}", *MLP, *PER_FEDAVG)


def rules(effort: Effort, repeats: int) -> list[Line]:
    """Measure rounds of all clients through server, grid and messages, in this process."""
    given = setting(OVERRIDES, CLIENTS)
    eager = "rounds=1000", "engine.compile=false"
    contenders = [
        Contender(name, next_round(given, *eager, *said)) for name, (said, _) in RULES.items()
    ]
    for contender in contenders:
        effort.say(f"{contender.name}: warming up")
        contender.run()
    samples = interleaved(contenders, repeats, say=effort.say)
    return [
        Line(
            name,
            medians(samples, name, MEAN),
            [] if most is None else [Target("relative_time", "≤", most)],
        )
        for name, (_, most) in RULES.items()
    ]


WORKLOADS = (
    Workload(
        "rules",
        "MLP 784-100-10, first-order, ν=1, τ=24, batch 40, whole rounds of 50 clients",
        5,
        rules,
    ),
)
