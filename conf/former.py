"""What run folders of older versions name, by its name of today."""

from typing import Any

from nufed.conf.plain import each_text
from nufed.conf.targets import ours

META_GRADIENT = "nufed.client_app.algorithms.meta_gradient.MetaGradient"


def as_named_now(values: dict[str, Any]) -> dict[str, Any]:
    """Return the configuration of a run with NuFed's own options as they are named now.

    What is `nufed.tasks.models.mlp` was `tasks.models.mlp`, and nobody had a tasks.py beside it. A
    run that names its engine as now is none of these, and its `tasks` are the person's own.
    """
    engine = values.get("engine")
    launcher = engine.get("launcher") if isinstance(engine, dict) else None
    if _now(launcher) not in ours():
        return values
    renamed: dict[str, Any] = each_text(values, lambda t: _now(t) if _now(t) in ours() else t)
    if isinstance(of := renamed.get("algorithm"), dict):  # there was one alone
        renamed["algorithm"] = {"_target_": META_GRADIENT, **of}
    return renamed


def _now(name: object) -> str:
    return f"nufed.{name}"
