"""A local step: what is right passes everything, and each fault is called by its name."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from nufed.conf.errors import InputError
from nufed.conformance import Report, check
from tests.conformance import right, wrong

RIGHT = {
    "functional": (right.functional, "exact"),
    "modules": (right.modules, "exact"),
    "trainer": (right.first_order, "first_order"),
    "hessian_free": (right.hessian_free, "hessian_free"),
}


def failed(report: Report) -> set[str]:
    return {each.check for each in report.failures}


def told(report: Report, name: str, where: str) -> tuple[bool | None, str]:
    ((passed, measured),) = (
        (each.passed, each.measured)
        for each in report.findings
        if (each.check, each.where) == (name, where)
    )
    return passed, measured


@pytest.mark.parametrize("name", RIGHT)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("same_support", [False, True])
def test_what_is_right_passes_everything(name: str, dtype: torch.dtype, same_support: bool) -> None:
    step, mode = RIGHT[name]
    for seed in range(3):
        report = check(
            step, mode=mode, nu=(1, 2, 4), dtype=dtype, same_support=same_support, seed=seed
        )
        assert all(each.passed for each in report.findings), str(report)
        assert len(report.findings) == 3 * 4 + 5


@pytest.mark.parametrize("name", RIGHT)
def test_what_is_called_by_another_name_fails_for_that_alone(name: str) -> None:
    step, mode = RIGHT[name]
    for other in {"exact", "first_order", "hessian_free"} - {mode}:
        report = check(step, mode=other)
        # Exact is as Hessian-free should be, and on quadratics both are the same.
        assert failed(report) == (
            set() if (mode, other) == ("exact", "hessian_free") else {"gradient"}
        )
        assert told(report, "inner steps", "network, ν=3")[0]


def test_data_that_is_written_to_is_first_order() -> None:
    """And told to be: on quadratics M^ν H (w − c) where M^{2ν} H (w − c) is expected."""
    report = check(wrong.by_data)
    assert failed(report) == {"gradient"}
    assert len(report.failures) == 4
    for each in report.failures:
        assert each.measured.startswith("first-order: cosine 0.")
        assert "param.data" in each.says
        assert each.figure > 0.2
    assert check(wrong.by_data, mode="first_order").passed


@pytest.mark.parametrize(
    ("step", "name", "measured"),
    [
        (wrong.on(wrong.one_step_more), "inner steps", "4"),
        (wrong.on(wrong.one_step_less), "inner steps", "2"),
        (wrong.on(wrong.query_of_support), "batches", "support, then support batch 3"),
        (wrong.on(wrong.all_rows), "batches", "support, then support and query"),
        (wrong.on(wrong.inner_on_query), "batches", "query, then query"),
        (wrong.on(wrong.first_batch_alone), "batches", "support batch 1 alone, then query"),
        (wrong.on(wrong.swapped), "batches", "query for support batch 1, then support batch 1"),
        (wrong.sized(inner=0.01), "alpha", "α/2: the same step"),
        (wrong.sized(outer=0.01), "beta", "β: no effect"),
        (wrong.by(torch.optim.SGD, weight_decay=0.1), "gradient", "neither: cosine"),
        (wrong.by(torch.optim.Adam), "gradient", "neither: cosine"),
        (wrong.reptile, "gradient", "neither: cosine"),
        (wrong.forward_order, "gradient", "neither: cosine"),
        (wrong.nothing, "step sizes", "no parameter changes"),
    ],
)  # fmt: skip
def test_a_fault_fails_its_own_check(step, name: str, measured: str) -> None:
    report = check(step)
    assert failed(report) == {name}
    assert told(report, name, "network, ν=3")[1].startswith(measured)


def test_hessian_free_is_near_and_not_a_hundredth_off() -> None:
    """Right differences are off by a thousandth of the Hessian term at most, float32 among them."""
    for off in (wrong.longer(right.hessian_free, 1.01), wrong.longer(right.functional, 0.99)):
        assert failed(check(off, mode="hessian_free")) == {"gradient"}

    def longer_inside(model, loss_fn, support, query, alpha, beta):
        right.hessian_free(model, loss_fn, support, query, 1.01 * alpha, beta)

    assert failed(check(longer_inside, mode="hessian_free")) == {"gradient"}


def test_a_step_that_refuses_beta_0_is_looked_at_all_the_same() -> None:
    report = check(right.refusing_zero)
    assert report.passed, str(report)

    def not_restored(model, loss_fn, support, query, alpha, beta):
        assert beta > 0
        wrong.not_restored(model, loss_fn, support, query, alpha, beta)

    assert failed(check(not_restored)) == {"w restored"}


def test_a_frozen_parameter_that_moves_is_named() -> None:
    def step(model, loss_fn, support, query, alpha, beta):
        trained_alone(model, loss_fn, support, query, alpha, beta)
        with torch.no_grad():
            model.first.weight.add_(0.1 * beta)

    report = check(step, model=Net, rows=images(), loss_fn=F.cross_entropy, alpha=0.05)
    assert "moved 'first.weight', which is frozen" in str(report)


def test_the_step_that_ignores_beta_is_known_by_its_direction() -> None:
    """As exact, in length and all it would not be."""
    report = check(wrong.sized(outer=0.01))
    assert told(report, "gradient", "network, ν=3") == (True, "exact")
    assert told(report, "gradient", "quadratic, ν=3") == (True, "exact")
    assert told(report, "w restored", "network, ν=3")[0] is None


def test_w_that_is_not_restored_is_told_apart_from_the_gradient() -> None:
    report = check(wrong.not_restored)
    assert failed(report) == {"w restored"}
    (finding,) = report.failures
    assert finding.figure > 0.1, "‖θ^ν − w‖∞"
    assert told(report, "gradient", "quadratic, ν=3") == (True, "exact")


def test_w_that_is_restored_by_arithmetic_is_restored_but_for_rounding() -> None:
    """(w + θ) − θ."""

    def step(model, loss_fn, support, query, alpha, beta):
        theta, g = wrong.exact(model, loss_fn, support, query, alpha)
        with torch.no_grad():
            for name, p in model.named_parameters():
                p.add_(theta[name]).sub_(theta[name] + beta * g[name])

    report = check(step)
    assert report.passed, str(report)
    assert told(report, "w restored", "network, ν=3")[1] == "β = 0: at w, but for rounding"


@pytest.mark.parametrize("local", [wrong.stale, wrong.from_theta])
def test_local_steps_start_where_the_last_one_ended(local) -> None:
    report = check(local=local)
    assert failed(report) == {"local steps"}
    assert ("starts from w again" in report.failures[0].says) == (local is wrong.stale)


def test_gradients_that_add_up() -> None:
    """Seen from the second step, or client, on."""
    assert failed(check(wrong.adding_up)) == {"local steps", "clients apart"}


@pytest.mark.parametrize("step", [right.functional, right.modules])
def test_a_loop_over_local_steps_that_is_right(step) -> None:
    def local(model, loss_fn, batches, alpha, beta):
        for support, query in batches:
            step(model, loss_fn, support, query, alpha, beta)

    assert check(local=local).passed


@pytest.mark.parametrize(
    ("alpha", "says"), [(1e-10, "Give another alpha."), (1e200, "Give a smaller alpha.")]
)
def test_step_sizes_that_tell_nothing_are_not_taken_for_a_pass(alpha: float, says: str) -> None:
    report = check(wrong.by_data, alpha=alpha)
    gradients = [each for each in report.findings if each.check == "gradient"]
    assert {each.passed for each in gradients} == {None}
    assert any(each.says.endswith(says) for each in gradients)
    assert not report.passed


def test_what_the_code_raises_is_a_finding() -> None:
    def step(model, loss_fn, support, query, alpha, beta):
        if len(support) > 1:
            raise NotImplementedError("one inner step [only]")
        right.functional(model, loss_fn, support, query, alpha, beta)

    report = check(step)
    assert {each.measured for each in report.failures} == {"nothing to look at"}
    assert {each.where for each in report.failures} == {"network, ν=3", "quadratic, ν=3"}
    assert "NotImplementedError: one inner step [only]" in str(report)
    assert check(step, nu=[1]).passed


def test_parameters_that_are_gone() -> None:
    def step(model, loss_fn, support, query, alpha, beta):
        for part in model.modules():
            part._parameters.clear()

    assert "left no parameter 'weight' of the same shape" in str(check(step))


class Net(nn.Module):
    """A convolution whose first layer is frozen, with a norm that keeps statistics."""

    def __init__(self, activation=nn.Tanh):
        super().__init__()
        self.first = nn.Conv2d(1, 3, 3).requires_grad_(False)
        self.norm, self.activation = nn.BatchNorm2d(3), activation()
        self.head = nn.Linear(3 * 4 * 4, 5)

    def forward(self, x):
        return self.head(self.activation(self.norm(self.first(x))).flatten(1))


def images() -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(0)
    return (
        torch.randn(120, 1, 6, 6, generator=random),
        torch.randint(5, (120,), generator=random),
    )


def trained_alone(model, loss_fn, support, query, alpha, beta):
    """Exact, where some parameters are frozen."""
    trained = [p for p in model.parameters() if p.requires_grad]
    learner = right.clone(model)
    for x, y in support:
        named = [(n, p) for n, p in learner.named_parameters() if "first" not in n]
        slope = torch.autograd.grad(
            loss_fn(learner(x), y), [p for _, p in named], create_graph=True
        )
        for (name, p), g in zip(named, slope, strict=True):
            place, _, last = name.rpartition(".")
            learner.get_submodule(place)._parameters[last] = p - alpha * g
    slope = torch.autograd.grad(loss_fn(learner(query[0]), query[1]), trained)
    with torch.no_grad():
        for p, g in zip(trained, slope, strict=True):
            p -= beta * g


@pytest.mark.parametrize("activation", [nn.Tanh, nn.ReLU])
def test_a_model_of_ones_own(activation) -> None:
    given = {"model": lambda: Net(activation), "rows": images(), "loss_fn": F.cross_entropy}
    report = check(trained_alone, alpha=0.05, evaluate=right.of_loss, **given)
    assert all(each.passed for each in report.findings), str(report)
    assert {each.where for each in report.findings} == {"your model, ν=1", "your model, ν=3"}
    assert told(report, "gradient", "your model, ν=3")[1] == "exact, also by differences"
    leaking = check(evaluate=wrong.tuned_on_test(right.of_loss), alpha=0.05, **given)
    assert failed(leaking) == {"test rows"}


def test_an_implementation_without_torch() -> None:
    random = torch.Generator().manual_seed(0)
    rows = torch.randn(80, 3, generator=random), torch.randn(80, 1, generator=random)
    given = {"model": lambda: nn.Linear(3, 1), "rows": rows, "alpha": 0.1}
    report = check(right.in_numpy, loss_fn=F.mse_loss, **given)
    # Quadratics have no bias, which it does not know.
    assert {each.where for each in report.failures} == {"quadratic, ν=1", "quadratic, ν=3"}
    assert {each.measured for each in report.failures} == {"nothing to look at"}
    assert check(right.in_numpy, loss_fn=lambda *pair: F.mse_loss(*pair), **given).passed


def test_a_loss_of_ones_own_is_used_throughout() -> None:
    def hard_wired(model, loss_fn, support, query, alpha, beta):
        right.functional(model, F.cross_entropy, support, query, alpha, beta)

    report = check(hard_wired, loss_fn=F.cross_entropy)
    assert report.passed
    assert not any("quadratic" in each.where for each in report.findings)
    assert check(right.functional, loss_fn=F.mse_loss).passed


def test_global_random_numbers_are_left_as_they_are() -> None:
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    check(right.functional, evaluate=right.of_all, draw=lambda x, y: ((x, y), (x, y)))
    assert torch.equal(torch.rand(2), expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "give a step, local, evaluate or draw"),
        ({"step": right.functional, "mode": "maml"}, "mode='maml': choose one of exact"),
        ({"step": right.functional, "nu": (0, 1)}, "numbers of inner steps from 1"),
        ({"step": right.functional, "alpha": 0}, "alpha=0: give a step size above 0"),
        ({"step": right.functional, "model": Net}, "model, rows: give both"),
        ({"step": right.functional, "dtype": torch.float16}, "dtype=torch.float16"),
        (
            {"step": right.functional, "model": Net, "rows": tuple(t[:7] for t in images())},
            "rows: 7 of x and 7 of y; give as many of each, and at least 8 for nu=3",
        ),
        (
            {
                "step": right.functional,
                "model": lambda: nn.Sequential(Net(), nn.Dropout()),
                "rows": images(),
            },
            "model: draws random numbers",
        ),
    ],
)
def test_what_cannot_be_used_is_refused(options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message.replace("(", r"\(")):
        check(**options)
