"""`nufed-certify`: figures that are the theory's, a picture, and one line for every mistake."""

import math
import os
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from nufed.cli.certificate import Certificate, certificate
from nufed.cli.certificate_text import sentences
from nufed.cli.certify import main, subject
from nufed.conf.compose import compose_config
from nufed.conf.errors import InputError
from nufed.tasks.datasets.quadratics import clients
from nufed.tasks.task import build
from nufed.theory import quadratics
from nufed.theory.estimate import Effort
from tests.helpers import RunResult

Train = Callable[..., RunResult]
SMALL = [
    *("dataset=quadratics", "dataset.num_clients=6", "evaluation.new_clients=[1]", "seed=0"),
    *("engine.precision=float64", "algorithm.nu=2", "algorithm.alpha=0.3", "clients_per_round=3"),
    *("algorithm.batch.support=2", "algorithm.batch.query=2", "algorithm.batch.hessian=2"),
]
PARTICIPATING = [0, 2, 3, 4, 5]


def certified(*overrides: str) -> Certificate:
    return certificate(compose_config([*SMALL, *overrides]), None, Effort())


def test_the_figures_of_quadratics_are_those_of_their_closed_forms() -> None:
    """Of the clients that participate, not of the new one."""
    of, c = (array[PARTICIPATING] for array in clients(6, 5, (0.05, 1.0), 1.0, seed=0))
    found = certified("rounds=50", "algorithm.beta=0.01", "algorithm.tau=3")
    (w,) = build(found.config).initial_params().values()
    start = w.numpy().flatten()
    losses = [quadratics.meta_loss(h, o, start, 0.3, 2) for h, o in zip(of, c, strict=True)]
    assert found.gap == pytest.approx(np.mean(losses))
    eigenvalues = np.linalg.eigvalsh(of)
    assert pytest.approx(eigenvalues.max()) == found.constants.L
    assert found.constants.negative == pytest.approx(-eigenvalues.min())
    assert found.constants.rho == pytest.approx(0, abs=1e-10)
    assert (found.rounds.clients, found.rounds.per_round, found.rounds.rounds) == (5, 3, 50)

    curved = eigenvalues * (1 - 0.3 * eigenvalues) ** 4  # of F: λ (1 − αλ)^{2ν}
    assert found.betas.safe * 3 * curved.max() <= 0.1 * (1 + 1e-9), "Λ bounds what there is"
    assert found.betas.safe < found.betas.admissible
    best, other = found.bound(found.best_beta), found.bound(found.betas.safe)
    assert best is not None
    assert other is not None
    assert best.total <= other.total


def said(of: Certificate) -> str:
    return "\n".join(sentences(of))


def test_it_says_in_words_where_the_steps_stand() -> None:
    bold = said(certified("algorithm.beta=10", "rounds=10000"))
    assert "β=10 is " in bold
    assert "times too large for any bound" in bold
    assert "t the best β=" in bold

    modest = certified("algorithm.beta=0.02", "rounds=10000")
    bound = modest.bound()
    assert bound is not None
    small = f"the mean of E‖∇F‖² over the rounds is at most {bound.total:.3g} at β=0.02."
    assert f"If the estimates hold, {small}" in said(modest)
    assert bound.total < bound.trivial
    assert "too large" not in said(modest)
    least = modest.rounds_for(1e-3)
    assert least is not None
    wanted = (
        f"If the estimates hold, {least.rounds:,} rounds with β={least.beta:.3g} bring the bound "
        "to 0.001."
    )
    assert wanted in sentences(modest, 1e-3)
    reached = modest.bound(least.beta, least.rounds)
    assert reached is not None
    assert 0.99e-3 < reached.total <= 1e-3
    biased = certified("algorithm.mode=first_order")
    assert any("the bias alone is above it" in line for line in sentences(biased, 1e-6))

    hasty = said(certified("algorithm.beta=1e-6", "rounds=1"))
    assert "the bound is vacuous" in hasty
    assert "What dominates: initial gap" in hasty
    assert "more rounds" in hasty


def test_what_the_theorem_does_not_cover_is_named() -> None:
    adam = "strategy.optimizer={_target_: torch.optim.Adam, _partial_: true, lr: 0.01}"
    assert "plain averaging" not in said(certified("algorithm.beta=0.01"))
    assert "this has strategy.clip_norm=usual" in said(certified()), "as β was chosen"
    assert "this has strategy.optimizer=…" in said(certified(adam, "algorithm.beta=0.01"))
    assert "rule=Median" in said(certified("rule=median"))
    assert "sampler=ByRows, schedule.beta" in said(certified("sampler=by_rows", "schedule=step"))
    reused = said(certified("algorithm.batch.hessian=null"))
    assert "one of each client" in reused
    assert "one of each client" not in said(certified())


def test_a_run_is_certified_at_all_it_measured_and_drawn(
    train: Train, capsys: pytest.CaptureFixture[str]
) -> None:
    run = train([*SMALL, "rounds=4", "diagnostics.every=2", "name=ours", "evaluation.every=9"])
    config, folder = subject([str(run.folder)])
    found = certificate(config, folder, Effort())
    diagnosed = [row["diagnostics"] for row in run.rows if "diagnostics" in row]
    assert found.measured == {
        0: diagnosed[0]["meta_grad_norm2"],
        2: diagnosed[1]["meta_grad_norm2"],
        4: diagnosed[2]["meta_grad_norm2"],
    }
    largest = max(each["estimates"]["B"]["value"] for each in diagnosed)
    assert largest <= found.constants.B

    capsys.readouterr()
    main([str(run.folder)])
    out = capsys.readouterr().out
    assert "conditional on them" in out
    assert "ours: ν=2" in out
    picture = ElementTree.parse(run.folder / "certificate.svg").getroot()
    assert picture.tag.endswith("svg")
    assert len(picture.findall(".//{*}path")) > 50, "curves, and letters as paths"


@pytest.mark.parametrize("kind", ["hard link", "FIFO"])
def test_the_picture_takes_the_place_of_what_is_there(
    kind: str, train: Train, tmp_path: Path
) -> None:
    run = train([*SMALL, "rounds=1", "diagnostics.every=1"])
    victim, picture = tmp_path / "victim", run.folder / "certificate.svg"
    victim.write_text("mine")
    if kind == "FIFO":
        os.mkfifo(picture)  # nobody reads from it: to open it would wait for ever
    else:
        os.link(victim, picture)
    main([str(run.folder)])
    assert victim.read_text() == "mine"
    assert ElementTree.parse(picture).getroot().tag.endswith("svg")


def test_a_run_without_diagnostics_is_certified_and_not_drawn(
    train: Train, capsys: pytest.CaptureFixture[str]
) -> None:
    run = train([*SMALL, "rounds=1"])
    assert subject([str(run.folder), "device=meta"])[0].device == "meta"
    main([str(run.folder)])
    assert "the initial model and the last, on 5 of 5 clients" in capsys.readouterr().out
    assert not (run.folder / "certificate.svg").exists()


def test_a_run_of_other_draws_is_not_certified(train: Train) -> None:
    """Of its seed, other rows are drawn now; an older version's file does not say how."""
    run = train([*SMALL, "rounds=1"])
    file = run.folder / "model.safetensors"
    save_file(load_file(file), file)
    with pytest.raises(InputError, match=rf"^{file}: an older version .* train it anew$"):
        certificate(*subject([str(run.folder)]), Effort())


MISTAKES = {
    "key": (["algorithm.nuu=2"], "algorithm.nuu: no such key; did you mean algorithm.nu"),
    "option": (["dataset=fashion"], "dataset=fashion: no such option"),
    "value": (["algorithm.nu=-1"], "algorithm.nu=-1: must be 0 or more"),
    "folder": (["nowhere"], "nowhere: is not there; name the folder of a run"),
    "both": (
        ["nowhere", "rounds=3"],
        "nowhere: give one run folder, with device=… and",
    ),
    "epsilon": (["--epsilon=-1"], "-1: must be a number above 0"),
    "argument": (["--clients=1"], "1: must be a whole number from 2 on"),
    "data": (
        [f"dataset.{key}" for key in ("input_shape=[5]", "num_outputs=2", "num_clients=3")]
        + ["dataset=private"],
        "dataset=private: the rows are with the clients",
    ),
    "steps": (
        [*SMALL, "algorithm.alpha=1e38", "algorithm.beta=0.1", "algorithm.nu=9"],
        "algorithm.alpha=1e+38",
    ),
}


@pytest.mark.parametrize(("words", "line"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_ends_in_one_line(
    words: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(words)
    out, err = capsys.readouterr()
    assert stopped.value.code == 2
    assert err.startswith("nufed-certify: ")
    assert line in err
    assert err.count("\n") == 1
    assert out.strip() == ""


DAMAGES = {
    "config.yaml": ("rounds: [", "config.yaml cannot be read"),
    "metrics.jsonl": ("{\n", "metrics.jsonl: cannot be read"),
    "model.safetensors": ("ab", "model.safetensors: cannot be read"),
}


@pytest.mark.parametrize(("name", "damage", "line"), [(n, *d) for n, d in DAMAGES.items()])
def test_a_damaged_run_ends_in_one_line(
    name: str, damage: str, line: str, train: Train, capsys: pytest.CaptureFixture[str]
) -> None:
    run = train([*SMALL, "rounds=1"])
    (run.folder / name).write_text(damage)
    capsys.readouterr()
    test_a_mistake_ends_in_one_line([str(run.folder)], line, capsys)


def test_a_picture_that_cannot_be_written_ends_in_one_line(
    train: Train, capsys: pytest.CaptureFixture[str]
) -> None:
    run = train([*SMALL, "rounds=1", "diagnostics.every=1"])
    picture = run.folder / "certificate.svg"
    picture.mkdir()
    with pytest.raises(SystemExit) as stopped:
        main([str(run.folder)])
    assert stopped.value.code == 2
    line = capsys.readouterr().err
    assert line == f"nufed-certify: {picture}: cannot be written (Is a directory); copy the run\n"


def test_a_line_that_is_being_written_is_not_read(train: Train) -> None:
    run = train([*SMALL, "rounds=2", "diagnostics.every=1"])
    with (run.folder / "metrics.jsonl").open("a") as file:
        file.write('{"round": 3, "diagn')
    assert set(certificate(*subject([str(run.folder)]), Effort()).measured) == {0, 1, 2}


def test_dropout_has_no_part_in_what_is_measured() -> None:
    """Two certificates of one seed are one."""
    model = "model._target_=tests.theory.test_estimate.Dropping"
    found = [
        certificate(compose_config(["model=custom", model, "rounds=1"]), None, Effort(4, 8))
        for _ in range(2)
    ]
    assert found[0].gap == found[1].gap
    assert found[0].estimates == found[1].estimates


def test_help_has_examples_that_can_be_typed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["--help"])
    assert stopped.value.code == 0
    text = capsys.readouterr().out
    lines = [line.split("  ")[0].split() for line in text.partition("examples:")[2].split("\n  ")]
    typed = [words[1:] for words in lines if words[:1] == ["nufed-certify"]]
    assert len(typed) == 4
    for words in typed[:3]:
        config, folder = subject([word for word in words if "=" in word])
        assert folder is None
        assert config.rounds > 0
    assert Path(typed[3][0]).parts[0] == "runs"


def test_fewer_clients_leave_an_error_that_is_shown() -> None:
    config = compose_config([*SMALL, "dataset.num_clients=40", "evaluation.new_clients=0"])
    found = certificate(config, None, Effort(clients=8)).estimates
    assert (found.clients, found.all_clients) == (8, 40)
    assert 0 < found.of["gamma_G"].error < math.inf
