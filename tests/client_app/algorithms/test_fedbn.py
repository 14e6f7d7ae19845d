"""FedBN: norm layers and their statistics stay, against torch's own BatchNorm in a plain loop."""

import copy
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from nufed.client_app.algorithm import local_update
from nufed.client_app.algorithms.fedbn import FedBN
from nufed.conf.errors import InputError
from nufed.tasks.statistics import statistics, tracked
from tests.client_app.algorithms.two_layers import KEYS, SIZES, TIGHT
from tests.helpers import distance, network

FEDBN = FedBN(**KEYS, batch=SIZES)
NORM = ["1.weight", "1.bias", "1.running_mean", "1.running_var"]


def normalized() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 2)).double()


def rows(number: int, seed: int, shift: float = 0.0) -> tuple[Tensor, Tensor]:
    """Return batches of 6 rows."""
    random = torch.Generator().manual_seed(seed)
    x = shift + torch.randn(number, 6, 3, dtype=torch.float64, generator=random)
    return x, torch.randint(2, (number, 6), generator=random)


def trained(module: nn.Module, x: Tensor, y: Tensor, rate: float) -> list[float]:
    """Train a module by torch alone; return the norms of its gradients."""
    norms = []
    for one, target in zip(x, y, strict=True):
        module.zero_grad()
        nn.functional.cross_entropy(module(one), target).backward()
        norms.append(float(nn.utils.clip_grad_norm_(module.parameters(), torch.inf)))
        with torch.no_grad():
            for p in module.parameters():
                p -= rate * p.grad
    return norms


def test_two_rounds_of_two_steps() -> None:
    """The client's layer and its statistics go on from its own; all else from the server's."""
    theirs = normalized()
    loss, model = network(tracked(copy.deepcopy(theirs)))
    shared, state = FEDBN.shared(model), FEDBN.state(model)
    assert list(state) == NORM
    assert list(shared) == ["0.weight", "0.bias", "3.weight", "3.bias"]
    for round in (0, 1):
        x, y = rows(2, seed=round)
        given = local_update(
            FEDBN, partial(FEDBN.step, loss), shared, state,
            [{"query": batch} for batch in zip(x, y, strict=True)],
        )  # fmt: skip
        assert given.norm.tolist() == pytest.approx(trained(theirs, x, y, 0.2), abs=TIGHT)
        after = theirs.state_dict()
        assert distance(given.state, {name: after[name] for name in NORM}) < TIGHT
        ended = {name: p - given.update[name] for name, p in shared.items()}
        assert distance(ended, {name: after[name] for name in shared}) < TIGHT
        # What the server answers is another client's doing.
        state = given.state
        shared = {name: 0.5 * p for name, p in ended.items()}
        theirs.load_state_dict(after | shared)
    assert min(float((state[name] - model[name]).abs().max()) for name in statistics(state)) > 0.05


def test_a_personal_model_is_measured_with_statistics_that_followed_it() -> None:
    theirs = normalized()
    module = tracked(copy.deepcopy(theirs))
    loss, model = network(module)
    x, y = rows(3, seed=4, shift=2.0)
    *_, last = FEDBN.personal(loss, FEDBN.shared(model), FEDBN.state(model), (x[:2], y[:2]))
    trained(theirs, x[:2], y[:2], 0.3)
    with torch.no_grad():
        predicted = functional_call(module.eval(), last, (x[2],))
        assert float((predicted - theirs.eval()(x[2])).abs().max()) < TIGHT


def test_each_client_is_best_served_by_its_own_layer() -> None:
    """The paper's case, a shift of features: with the other's statistics the model is lost."""
    module = tracked(normalized())
    loss, model = network(module)
    shared, states, data = FEDBN.shared(model), [FEDBN.state(model)] * 2, []
    for shift in (-3.0, 3.0):
        x, _ = rows(20, seed=5, shift=shift)
        data.append((x, (x[..., 0] > shift).long()))
    for _ in range(10):
        ends = [
            local_update(
                FEDBN, partial(FEDBN.step, loss), shared, state,
                [{"query": batch} for batch in zip(*of, strict=True)],
            )
            for state, of in zip(states, data, strict=True)
        ]  # fmt: skip
        states = [end.state for end in ends]
        shared = {n: p - sum(end.update[n] for end in ends) / 2 for n, p in shared.items()}
    module.eval()
    own, others = (
        [
            float(loss(FEDBN.model(shared, state), x.flatten(0, 1), y.flatten()))
            for state, (x, y) in zip(each, data, strict=True)
        ]
        for each in (states, states[::-1])
    )
    assert max(own) < 0.4
    assert min(others) > 0.6  # log 2 is to know nothing


@pytest.mark.parametrize(
    ("module", "kept"),
    [
        (nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2)), ["1.weight", "1.bias"]),
        (nn.Sequential(nn.Linear(2, 2), nn.LayerNorm((2, 2))), ["1.weight", "1.bias"]),
        (nn.Sequential(nn.Conv2d(2, 4, 1), nn.GroupNorm(2, 4)), ["1.weight", "1.bias"]),
        (nn.Sequential(nn.Linear(2, 2), nn.RMSNorm(2)), ["1.weight"]),
        (nn.Sequential(nn.Embedding(3, 2), nn.LayerNorm(2, bias=False)), ["1.weight"]),
        (
            nn.Sequential(nn.Linear(2, 2), tracked(nn.BatchNorm1d(2, affine=False))),
            ["1.running_mean", "1.running_var"],
        ),
        (nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2).eval()), ["1.weight", "1.bias"]),
    ],
)
def test_norm_layers_are_known_by_their_shapes(module: nn.Module, kept: list[str]) -> None:
    assert FEDBN.kept(dict(module.named_parameters())) == kept


def test_layers_that_are_named_and_what_is_refused() -> None:
    model = dict(normalized().named_parameters())
    named = FedBN(**KEYS, batch=SIZES, norms=("3", 1))
    assert named.kept(model) == ["1.weight", "1.bias", "3.weight", "3.bias"]
    with pytest.raises(InputError, match=r"algorithm\.norms: .*no layer 2 .*some of 0, 1, 3"):
        FedBN(**KEYS, batch=SIZES, norms=("2",)).kept(model)
    plain = dict(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)).named_parameters())
    with pytest.raises(InputError, match=r"no layer of the model would stay .*algorithm=fedavg"):
        FEDBN.kept(plain)
    with pytest.raises(InputError, match="all layers of the model would stay"):
        FedBN(**KEYS, batch=SIZES, norms=("0", "1")).kept(plain)
