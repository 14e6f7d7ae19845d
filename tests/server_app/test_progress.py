"""What a run prints at its end."""

from server_app.progress import curve_table
from server_app.terminal import Terminal


def curves(n: int, end: float) -> dict[str, object]:
    values = [end * k / (n - 1) for k in range(n)]
    names = ("accuracy", "accuracy_std", "accuracy_worst_decile", "loss", "loss_worst_decile")
    return {"k": list(range(n)), "clients": 9, **dict.fromkeys(names, values)}


def printed(summary: dict[str, object]) -> list[list[str]]:
    console = Terminal(width=80, force_terminal=False)
    with console.capture() as found:
        console.print(curve_table(summary))
    lines = found.get().splitlines()
    return [[cell.strip() for cell in line.strip("┃│").split("│")] for line in lines if "│" in line]


def test_many_steps_are_thinned_to_what_a_terminal_holds() -> None:
    rows = printed({"participating": curves(51, 1.0), "rounds": 5})
    assert rows[0][0] == "participating (9), mean"
    assert rows[0][1:] == ["0.000", "0.020", "0.060", "0.140", "0.380", "1.000"]


def test_what_training_did_stands_below() -> None:
    summary = {"new": curves(3, 1.0), "untrained": {"new": curves(3, 0.5)}, "rounds": 5}
    assert printed(summary)[-1] == ["untrained, mean", "0.000", "0.250", "0.500"]
    assert printed(summary | {"rounds": 0})[-1][0] == "worst tenth", "it is the same"
