"""What the algorithm itself measured."""

from nufed.server_app.report import run_figures as draw
from nufed.server_app.report.page import Section
from nufed.server_app.report.record import Record


def algorithm(run: Record) -> Section | None:
    """Draw the algorithm's own metrics, by round."""
    names = run.metric_names
    if not names:
        return None
    others = names[draw.CHARTS :]
    text = [f"And {len(others)} more, in metrics.jsonl."] if others else []
    return Section("Metrics of the algorithm", text, figures=draw.of_algorithm(run))
