"""What was chosen."""

from functools import cache

from nufed.conf.command import differing_keys
from nufed.conf.compose import compose_config
from nufed.conf.convert import to_yaml
from nufed.conf.schema import Config
from nufed.server_app.report.page import Section, Table
from nufed.server_app.report.record import Record
from nufed.server_app.report.words import shown


def configuration(run: Record) -> Section:
    """List what was chosen."""
    usual = differing_keys(run.config, _defaults())
    rows = [
        (key, shown(ours), shown(theirs))
        for key, (ours, theirs) in usual.items()
        if not any(other.startswith(f"{key}.") for other in usual)  # an empty group, filled
    ]
    table = Table(("key", "this run", "default"), rows, words=3)
    probe = [f"A probe of the task chose {' and '.join(run.probed)}."] if run.probed else []
    return Section(
        "Configuration",
        probe if rows else ["All as it is by default."],
        tables=[table] if rows else [],
        folded=[("All of it", to_yaml(run.config))],
    )


@cache
def _defaults() -> Config:
    """Return the configuration of `nufed` without a word."""
    return compose_config([])
