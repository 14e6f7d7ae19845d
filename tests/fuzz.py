"""What the fuzz tests share: how many cases, and where a report is in a message."""

from flwr.app import RecordDict
from hypothesis import HealthCheck, Phase, settings

from client_app.messages import EVALUATION, REPORT

FUZZ = settings(
    max_examples=500,
    derandomize=True,
    deadline=None,
    database=None,
    phases=[Phase.generate],  # shrinking takes minutes, where a case fails
    suppress_health_check=list(HealthCheck),
)


def report_in(content: RecordDict) -> str:
    """Return the name of the record that holds what is asked, or answered."""
    return EVALUATION if EVALUATION in content else REPORT
