"""Samplers against the laws that they are named for; who is there when, and who is not."""

import json
from collections import Counter
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
from flwr.app import ConfigRecord
from scipy.stats import chi2

from nufed.conf.errors import InputError
from nufed.strategies.roster import Roster
from nufed.strategies.samplers.available import Available
from nufed.strategies.samplers.by_rows import ByRows
from nufed.strategies.samplers.sampler import Sampler
from nufed.strategies.samplers.trace import LARGEST, Trace
from nufed.strategies.samplers.uniform import Uniform
from nufed.tasks.partitions import Partition
from nufed.tasks.streams import Purpose, stream
from tests.strategies.helpers import Federation

UNLIKELY = 1e-6
ROUNDS = range(1, 6001)


def roster(rows: list[int], names: list[str] | None = None, claimed: int = 0) -> Roster:
    """Return that of clients with so many train rows, all present; the last may only claim them."""
    known = np.array(rows)
    known[len(rows) - claimed :] = 0
    offset = np.concatenate([[0], np.cumsum(rows)])
    of = Partition(np.arange(offset[-1]), offset, known, None if names is None else np.array(names))
    found = Roster(0, 0.0, of)
    found.participating, found.rows = [*range(len(rows))], dict(enumerate(rows))
    return found


def assert_law(counts: list[int], p: list[float]) -> None:
    """Fail if counts are too unlikely under the probabilities, by a chi-square."""
    wanted = np.array(p) * sum(counts)
    statistic = ((np.array(counts) - wanted) ** 2 / wanted).sum()
    assert statistic < chi2.isf(UNLIKELY, len(p) - 1), (counts, wanted)


def test_uniform_is_the_draw_that_a_round_always_had() -> None:
    """Bit for bit: an older run that is resumed asks the same clients."""
    of = roster([1] * 12)
    of.participating = [1, 2, 4, 5, 7, 8, 9, 11]
    for round in range(1, 20):
        chosen = stream(Purpose.SAMPLE, 0, round=round).choice(8, 3, replace=False)
        wanted = sorted(of.participating[i] for i in chosen)
        assert Uniform().sample(of, round, 3) == wanted
    assert Uniform().sample(of, 1, 99) == of.participating
    of.participating = [0, 1, 2, 3]
    assert Uniform().sample(of, 3, 2) == [1, 3]


def test_by_rows_draws_in_proportion_to_train_rows() -> None:
    """One of three; and two, one after another: P(a, b) = p_a p_b / (1 − p_a)."""
    rows = [10, 30, 60]
    of, p = roster(rows), np.array(rows) / 100
    one = Counter(ByRows().sample(of, round, 1)[0] for round in ROUNDS)
    assert_law([one[i] for i in range(3)], p.tolist())
    two = Counter(tuple(ByRows().sample(of, round, 2)) for round in ROUNDS)
    law = dict.fromkeys([(0, 1), (0, 2), (1, 2)], 0.0)
    for a, b in permutations(range(3), 2):
        law[min(a, b), max(a, b)] += p[a] * p[b] / (1 - p[a])
    assert_law([two[pair] for pair in law], list(law.values()))
    assert ByRows().sample(of, 1, 9) == [0, 1, 2]


def test_rows_that_a_client_alone_vouches_for_count_three_medians_at_most() -> None:
    of = roster([10, 10, 10, 10**9], claimed=4)
    drawn = Counter(ByRows().sample(of, round, 1)[0] for round in ROUNDS)
    assert_law([drawn[i] for i in range(4)], [1 / 6, 1 / 6, 1 / 6, 3 / 6])


def test_available_clients_are_there_by_their_probability() -> None:
    """Each by a draw of its own, whoever else is connected; uniform among those."""
    of, sampler = roster([1] * 4, ["amy", "bob", "cy", "di"]), Available({"amy": 0.25, "bob": 0})
    sampler.require(of)
    there = [sampler.sample(of, round, 4) for round in ROUNDS]
    amy = sum(0 in each for each in there)
    assert_law([amy, len(there) - amy], [0.25, 0.75])
    assert all(1 not in each and {2, 3} < {*each, 9} for each in there)
    one = Counter(sampler.sample(of, round, 1)[0] for round in ROUNDS)
    assert_law([one[i] for i in (0, 2, 3)], [1 / 12, 11 / 24, 11 / 24])
    of.participating = [0, 3]  # bob was never there, and cy's node has left
    assert [sampler.sample(of, round, 4) for round in ROUNDS] == [
        [i for i in each if i != 2] for each in there
    ]
    half = Available(0.5)
    counts = Counter(len(half.sample(roster([1] * 3), round, 3)) for round in ROUNDS)
    assert_law([counts[k] for k in range(4)], [1 / 8, 3 / 8, 3 / 8, 1 / 8])


TRACE = [(1, "amy"), (1, "bob"), (3, "cy"), (3, "amy")]
CSV = "round,client\n" + "".join(f"{round},{client}\n" for round, client in TRACE)
FILES = {
    "a.csv": CSV,
    "b.CSV": "\ufeff" + CSV.replace("\n", "\r\n").replace(",bob", ' , "bob"').replace(" ", ""),
    "c.csv": CSV.partition("\n")[2],
    "d.json": json.dumps(TRACE),
}


@pytest.mark.parametrize("name", FILES)
def test_a_trace_says_who_is_there_and_begins_again(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(FILES[name].encode())
    of, sampler = roster([1] * 4, ["amy", "bob", "cy", "di"]), Trace(str(tmp_path / name))
    sampler.require(of)
    sampled = [sampler.sample(of, round, 4) for round in range(1, 8)]
    assert sampled == [[0, 1], [], [0, 2], [0, 1], [], [0, 2], [0, 1]]
    (tmp_path / name).unlink()  # read once, and before the first round
    one = Counter(sampler.sample(of, round, 1)[0] for round in range(1, 6000, 3))
    assert_law([one[0], one[1]], [0.5, 0.5])
    of.participating = [1, 2, 3]
    assert sampler.sample(of, 3, 4) == [2]


UNUSABLE = {
    "a.csv": ("1,0\n1\n", "line 2: has 1 columns, not round,client"),
    "b.csv": ("0,0\n", "line 1: 0 is no round, which is from 1 on"),
    "c.csv": ("1,0\nround,client\n", "line 2: round is no round"),
    "d.csv": ("1,0\n2,7\n", "line 2: client 7 is not among 0 … 3"),
    "e.csv": ('1,"0\n', "unexpected end of data"),
    "f.csv": ("\n", "has no entry; say who is there when"),
    "g.json": ("{}", "is no list of [round, client]"),
    "h.json": ("[[1, 0], [1]]", "entry 2: is no [round, client]"),
    "i.json": ("[[true, 0]]", "entry 1: True is no round"),
    "j.json": ("[[1, [0]]]", "entry 1: client [0] is not among 0 … 3"),
    "k.json": ("[[1, 0]", "Expecting"),
    "l.json": ("[" * 100_000, "nested too deep"),
    "m.csv": (f"1,{'9' * 200_000}", "field larger than field limit"),
    "n.csv": ("1,\x1b[31m" + "x" * 500, "line 1: client "),
    "o.csv": ("1,0\n" * (LARGEST // 4 + 1), "which is too large"),
    "p.csv": (None, "cannot be read (No such file or directory)"),
    "q.txt": ("1,0\n", "must be a file of .csv or .json"),
}


@pytest.mark.parametrize("name", UNUSABLE)
def test_a_file_that_is_no_trace_is_named_in_one_line(tmp_path: Path, name: str) -> None:
    content, words = UNUSABLE[name]
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(InputError) as caught:
        Trace(str(tmp_path / name)).require(roster([1] * 4))
    line = str(caught.value)
    assert line.startswith(f"sampler.path={tmp_path / name}: ")
    assert words in line
    assert line.isprintable()
    assert len(line) < 300 + len(str(tmp_path))


@pytest.mark.parametrize(
    ("p", "words"),
    [
        (0, "sampler.p=0: must be above 0 and at most 1, or {client id: probability, …}"),
        (1.5, "sampler.p=1.5: must be above 0"),
        (True, "sampler.p=True: must be above 0"),
        ("half", "sampler.p=half: must be above 0"),
        ({"amy": 2}, "sampler.p: that of client amy=2: must be from 0 to 1"),
        ({"any": 0.5}, "sampler.p: client any is not among amy, bob; did you mean amy?"),
    ],
)
def test_probabilities_that_cannot_be_are_named_in_one_line(p: object, words: str) -> None:
    with pytest.raises(InputError) as caught:
        Available(p).require(roster([1] * 2, ["amy", "bob"]))  # type: ignore[arg-type]
    assert str(caught.value).startswith(words)


@pytest.mark.parametrize("sampler", [Uniform(), ByRows(), Available(0.5), Trace("a.csv")])
def test_a_draw_that_every_client_can_repeat_amplifies_nothing(sampler: Sampler) -> None:
    assert sampler.amplifies is False


def test_a_strategy_refuses_what_does_not_fit_its_clients_before_the_first_round() -> None:
    with pytest.raises(InputError, match=r"^sampler.p: client amy is not among 0 … 11$"):
        Federation(sampler=Available({"amy": 0.5}))


def test_a_round_without_anybody_is_skipped_and_says_so(tmp_path: Path) -> None:
    """No message, no step of the server; too few for the rule or min_replies are nobody."""
    there = Federation().roster.participating[:3]
    lines = [*(f"2,{client}\n" for client in there), f"4,{there[0]}\n"]
    (tmp_path / "t.csv").write_text("".join(lines))
    federation = Federation(sampler=Trace(str(tmp_path / "t.csv")), min_replies=2)
    said = [
        "round 1: none of 9 participating clients is available; skipped, the model stays as it is",
        "",
        "round 3: none of 9 participating clients is available; skipped, the model stays as it is",
        "round 4: 1 of 9 participating clients is available, 2 are needed; skipped, the model "
        "stays as it is",
    ]
    for k in range(1, 5):
        arrays, metrics = federation.round(k=k)
        assert federation.strategy.skipped == said[k - 1]
        assert metrics["clients"] == (len(there) if k == 2 else 0)
        moved = any(
            (array.numpy() != federation.arrays[name].numpy()).any()
            for name, array in arrays.items()
        )
        assert moved == (k == 2)
        assert bool(federation.sent) == (k == 2)


def test_too_few_participating_clients_are_no_reason_to_skip() -> None:
    """More may come: the round is repeated, as ever."""
    federation = Federation(min_replies=6)
    federation.roster.participating = federation.roster.participating[:5]
    list(federation.strategy.configure_train(1, federation.arrays, ConfigRecord(), federation.grid))
    assert federation.strategy.skipped == ""
