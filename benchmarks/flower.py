"""Flower's own simulation engine on the same round."""

from benchmarks.child import ChildFailed, nufed
from benchmarks.machine import ROOT
from benchmarks.outcome import Line
from benchmarks.setting import Setting
from benchmarks.workload import Effort

SUPERNODES = 8


def flower_ray(setting: Setting, reference: Line, effort: Effort, *overrides: str) -> Line:
    """Return the same round on Flower's Ray engine: whole rounds, in processes of their own.

    Parameters
    ----------
    setting
        The work.
    reference
        What ratios are to.
    effort
        Is told what is being run.
    overrides
        Further ones.
    """
    name = f"Flower's Ray engine, {SUPERNODES} SuperNodes"
    effort.say(name)
    try:
        run = nufed(
            [
                *setting.overrides,
                *overrides,
                f"clients_per_round={len(setting.job.clients)}",
                "rounds=3",
                "engine=ray",
                f"engine.num_supernodes={SUPERNODES}",
                "evaluation.every=1000",
                "evaluation.clients=1",
                "evaluation.new_clients=0",
            ],
            # A model of benchmarks/ is found from any folder.
            environment={"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        )
    except ChildFailed as error:
        return Line(name, {}, note=f"failed: {error}")
    wall_s = run.round_s()
    figures = {
        "wall_s": wall_s,
        "cpu_s": run.round_cpu_s(),
        "speedup": reference.figures["wall_s"] / wall_s,
        "relative_time": wall_s / reference.figures["wall_s"],
    }
    return Line(name, figures, note="whole rounds, with server and messages, on all cores")
