"""docs/results.md: what was found, first in a few lines, then section by section."""

import re

from benchmarks import machine
from benchmarks.contest.record import Record
from benchmarks.experiments.methods import GROUPS
from benchmarks.experiments.pages import (
    cost,
    heterogeneity,
    matrix,
    modes,
    published,
    quadratics,
    rows,
    sampling_law,
    steps,
)
from benchmarks.experiments.pages.page import Page, table

PAGES: tuple[Page, ...] = (
    cost,
    matrix,
    rows,
    heterogeneity,
    modes,
    sampling_law,
    quadratics,
    steps,
    published,
)
CLAIMED = 37.0  # percent fewer rounds, the figure to test

HEAD = """# Results

Written by `make experiments` from the run folders that it leaves in `runs/experiments/`, and from
the [records](../benchmarks/contest/records) of contests; nothing here is typed by hand but what
introduces the tables and the reading of them. `python -m benchmarks.experiments cost` makes one
section anew.

Test rows are held out of every client's rows, and no gradient is taken on them but where it is
said that others do; *new* clients never trained. Step sizes, unless they are a published table's or
are said to be nobody's, are chosen by rows held out of the *train* rows of participating clients,
on other draws of the federation, with as many trials for one method as for another. Every run of a
seed has the same clients, first model and sampled clients, so differences are taken seed by seed;
intervals are Student's t, 95%, over seeds. Figures are of the commit that a section names: another
may draw other clients, rows and first models from the same seed. A figure can be had again by

    nufed hydra.mode=RUN experiment=compare_own_labels algorithm.nu=5 algorithm.alpha=… seed=0
"""


# Written by hand: read the tables, and this again, when they change.
READING = """## What holds, where, and what does not

**At equal rounds, which are equal bytes, it holds where clients contradict each other and a
fine-tuning step sees few rows** (labels of a client's own, taste). No one model serves these
clients, and FedAvg, however well it is fine-tuned, ends 13 to 38 points behind Per-FedAvg. On
labels of a client's own, where curves are flat after 1,280 rounds, training for five steps gets to
95% of what training for one comes to in 80% fewer rounds, of new clients in 72%: more than the 37%
claimed by the whole interval. It is 9 to 11 points ahead at a quarter of the rounds, and 5 to 6 at
the end. On taste it is 38% and 48% fewer, and the intervals leave open whether that is the 37%; it
ends 5 points ahead, while most curves still rise a little.

**In gradients it saves little or nothing.** To that target exact ν = 5 takes 19% fewer on labels of
a client's own, of new clients none for certain, and on taste more than twice as many. At equal
gradients it is 2.5 to 4 points ahead on the first, and level on the second. What saves gradients
too, on the first, is ν = 2 and first-order ν = 5; and, on both, **ν = 1 with one step of five times
as many rows** in the place of five: 40% to 71% fewer rounds and gradients alike, to an end 1 to 2
points below that of ν = 5. Who may take one long step instead of five short ones has most of the
gain without looking further ahead than one.

**What looking ahead removes there is the noise of small batches.** With ten rows a step two of the
seven points are left, with all 38 none that an interval would show: one long step over all rows
is then as good a thing to train for as five. The theory has it so: with να fixed, the noise of the
inner batches falls as 1/ν, and one step that is long enough to adapt takes all of it at once.

**Where labels mean the same to all, little is gained.** On two classes a client exact ν = 5 ends
1.2 points above FedAvg with fine-tuning and 0.6 to 1.0 above ν = 1, for many times the gradients;
at equal gradients it is behind. On digits, Dirichlet(0.1), it is 4 to 6 points behind both at a
quarter of the rounds, and 1 to 3 behind FedAvg at the end. One long step of ν = 1 is no remedy on
either.

**On sine waves the gradient has to be exact.** With it any ν ≥ 1 has a fifth of FedAvg's loss or
less, and five steps ahead gain nothing over one; at equal gradients they cost. First-order, ν = 1
stays near FedAvg's loss, ν = 5 above it, and ν = 2 lost a seed.

**Milder skew looks better after 40 rounds, which may be speed.** At three and five classes a client
and at Dirichlet(0.5), ν = 5 is 1 to 4 points ahead of FedAvg. In the control, Dirichlet(1000),
where clients are alike and nothing should be gained, it is 3 points ahead after 40 rounds as well,
and level after 300. At one class there is nothing to gain, at Dirichlet(0.05) it is a point behind.

**Is what is trained for best at as many steps of testing?** On labels of a client's own, nearly:
ν = 2 and 3 lead after one to three steps, 5 after five and ten, and 10 never does. On the other two
settings no: at every number of steps ν = 0, 1 or 2 is as good as any, and ν = 5 and 10 are behind
where few steps are taken.

**More is not always more.** The curvature of F may grow as q^{2ν}, and it does: at the α that is
best for ν = 1 and without clipping, ν = 5 and 10 have 0.84 after five steps on two classes a
client, where ν = 1 has 0.94. `nufed-certify` shows it before a run; `strategy.clip_norm`, α about
1/(νL) or ν = 2 are the remedies.

**Modes.** On digits, where little is to be gained by any ν, first-order meta-gradients are as good
as exact ones at about half of the gradients or less. On labels of a client's own they end 2 to 5
points below them, and on sine waves they fail.
"""


def document(text: str, sections: dict[str, str], records: list[Record]) -> str:
    """Return the document with some sections anew; the others stay as they are in `text`.

    Parameters
    ----------
    sections
        Title of a page -> its section, without the title.
    records
        Of the contests, which what is said first is told from.
    """
    kept = parts(text) | sections
    written = [f"## {page.title}\n\n{kept[page.title]}" for page in PAGES if page.title in kept]
    return "\n".join([HEAD, verdict(records), READING, *written]).rstrip("\n") + "\n"


def dated(section: str) -> str:
    """Return a section after where, and of which commit, it was run."""
    about = machine.facts()
    where = f"Run on {about['cpu']}, {about['cores']} cores, at commit {machine.commit()}."
    return f"{where}\n\n{section}"


def parts(text: str) -> dict[str, str]:
    """Return the sections of a document by their titles."""
    _, *found = re.split(r"^## ", text, flags=re.MULTILINE)
    cut = (section.partition("\n") for section in found)
    return {title: body.strip("\n") + "\n" for title, _, body in cut}


def verdict(records: list[Record]) -> str:
    """Return what the claims come to on each setting."""
    lines = [[kept.title, group, *claims(kept, group)] for kept in records for group in GROUPS]
    head = [
        "setting",
        "clients",
        "gain at equal rounds and bytes",
        "at equal gradients",
        "at the end",
        "at the end, over FedAvg + fine-tuning",
        "% fewer rounds to 95%",
        f"≥ {CLAIMED:.0f}%?",
        "% fewer gradients to 95%",
    ]
    return f"""## What the claims come to

What NuFed with ν = 5 (exact) gains over Per-FedAvg (ν = 1, exact), each at its own best step
sizes, after {cost.STEPS} fine-tuning steps: in points of accuracy, or, of sine waves, in loss;
what *95%*, *equal* and *the end* are is said [below](#{anchor(cost.title)}). **Bold** where the
interval leaves zero out; *yes* and *no* where it leaves no doubt about the {CLAIMED:.0f}%, *open*
where it does. Each row is of one setting and ten seeds: what holds there need not hold elsewhere.

{table(head, lines)}
"""


def anchor(title: str) -> str:
    """Return what a title is linked by."""
    return re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")


def claims(kept: Record, group: str) -> list[str]:
    """Return what each claim comes to."""
    ours, plain = kept.line(cost.OURS), kept.line(cost.PLAIN)
    if broken := kept.broken(ours, group):
        return [broken, *["–"] * 6]
    gains = [cost.gained(kept, *pair) for pair in cost.compared(kept, ours, group)]
    gains.append(cost.gained(kept, *(line.end(group)[:, line.k] for line in (ours, plain))))
    rounds, gradients = (cost.saved(kept, ours, group, by) for by in ("rounds", "gradients"))
    if rounds is None or gradients is None:
        return [*gains, "not all seeds get there", "no", "–"]
    enough = said(rounds.percent.low >= CLAIMED, rounds.percent.high < CLAIMED)
    return [*gains, rounds.text(), enough, gradients.text()]


def said(yes: bool, no: bool) -> str:
    """Return the word for a decided or an open question."""
    return "**yes**" if yes else "no" if no else "open"
