"""From typing `nufed` to the end of round 1."""

from statistics import median

from benchmarks.child import imports_s, nufed
from benchmarks.outcome import Line, Target
from benchmarks.workload import Effort, Workload

OVERRIDES = ("rounds=1",)


def start_up(effort: Effort, repeats: int) -> list[Line]:
    """Run the embedded default for a round, its data prepared by a first run."""
    effort.say("preparing the data")
    nufed(OVERRIDES)
    runs = []
    for repeat in range(repeats):
        effort.say(f"nufed rounds=1, {repeat + 1} of {repeats}")
        runs.append(nufed(OVERRIDES))
    effort.say("nufed rounds=1, imports")
    figures = {
        "start_s": median(run.first_round_s for run in runs),
        "cpu_s": median(run.cpu_s for run in runs),
        "imports_s": imports_s(OVERRIDES),
        "rss_gb": max(run.peak_rss_gb for run in runs),
    }
    targets = [Target("start_s", "≤", 14.0), Target("imports_s", "≤", 11.0)]
    note = "imports as python -X importtime counts them, in a run of their own"
    return [Line("nufed rounds=1", figures, targets, note)]


WORKLOADS = (
    Workload("start-up", "typing nufed to the end of round 1, digits", 3, start_up, threads=None),
)
