"""What a check found, and all that was found as a report."""

import io
from dataclasses import dataclass

WIDTH = 100  # of a printed report, wherever it is printed


@dataclass(frozen=True)
class Finding:
    """What one check found on one problem."""

    check: str
    where: str
    """The problem, and the number of inner steps."""
    passed: bool | None
    """None: not told, `says` says why."""
    measured: str
    expected: str
    says: str = ""
    """What is wrong and what to do about it."""
    figure: float | None = None
    """The number behind `measured`, where there is one."""

    @property
    def verdict(self) -> str:
        """In a word."""
        return {True: "pass", False: "FAIL", None: "not told"}[self.passed]


@dataclass(frozen=True)
class Report:
    """All that was found."""

    findings: tuple[Finding, ...]

    @property
    def passed(self) -> bool:
        """Whether no check failed, and each was told of one problem at least."""
        told = {each.check for each in self.findings if each.passed}
        return not self.failures and told == {each.check for each in self.findings}

    @property
    def failures(self) -> tuple[Finding, ...]:
        """Those that failed."""
        return tuple(each for each in self.findings if each.passed is False)

    def raise_for_failures(self) -> None:
        """Raise an `AssertionError` that is this report unless it passed: a test in one line."""
        if not self.passed:
            raise AssertionError(f"\n{self}")

    def __str__(self) -> str:
        """Return a table with a row a finding, and a sentence for each that did not pass."""
        from rich.box import SIMPLE
        from rich.table import Table

        from nufed.server_app.terminal import Terminal

        names = ("check", "on", "verdict", "measured", "expected")
        table = Table(*names, box=SIMPLE, padding=(0, 1, 0, 0), pad_edge=False)
        for each in self.findings:
            table.add_row(each.check, each.where, each.verdict, each.measured, each.expected)
        out = io.StringIO()
        terminal = Terminal(file=out, width=WIDTH)
        terminal.print(table)
        told = dict.fromkeys(  # the same of several problems is said once
            (each.check, each.verdict, each.says) for each in self.findings if each.says
        )
        for check, verdict, says in told:
            terminal.print(f"{check}, {verdict}: {says}")
        return "\n".join(line.rstrip() for line in out.getvalue().splitlines()).strip("\n")
