"""Does it pay: what clients have without federation. The page's lead has the sentence."""

from nufed.server_app.report.page import Section, Table
from nufed.server_app.report.record import Record
from nufed.server_app.report.words import direction, number
from nufed.strategies.curves import GROUPS


def pays(run: Record) -> Section | None:
    """Tell what clients have without federation, on the same rows."""
    beside = run.beside
    if beside is None or not beside.against:
        return None
    groups = [group for group in GROUPS if group in beside.means["personal"]]
    rows = [
        [beside.called(name), *(number(means[group], beside.metric) for group in groups)]
        for name, means in beside.means.items()
    ]
    which = direction(lower_is_better=beside.lower_is_better)
    caption = f"{beside.metric} on the same test rows, mean over clients; {which}"
    how = (
        "Alone, each client's model is trained on its own train rows, from the run's first model "
        f"(a linear one from zero): up to {beside.steps} steps of Adam, of the size and number "
        "that do best for sixty clients at most on a quarter of these rows, held out."
    )
    if "pooled" in beside.means:
        how += (
            " Pooled, one model sees the train rows of all clients, which federation leaves where "
            "they are: it says what that costs."
        )
    table = Table(("", *map(beside.head, groups)), rows, caption)
    return Section("Does it pay?", [how], tables=[table])
