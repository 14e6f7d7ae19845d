"""Metrics by a short name are what scikit-learn calls so."""

import re

import numpy as np
import pytest
import torch
from sklearn import metrics as sklearn
from torch.nn.functional import softmax

from nufed.conf.compose import compose_config
from nufed.conf.errors import InputError
from nufed.conf.metric_names import KNOWN
from nufed.tasks.measures import lower_is_better, make_objective

REAL = "mae", "mse", "r2", "rmse"


def scores(names: list[str], outputs: torch.Tensor, y: torch.Tensor) -> dict[str, float]:
    config = compose_config([f"task.metrics=[{','.join(names)}]"]).task
    classes = not y.is_floating_point()
    width = outputs.shape[-1] if classes else 1
    of = make_objective(
        config, classes=classes, width=width, device=torch.device("cpu"), dtype=torch.float32
    )
    assert lower_is_better(config) & {*names} == {*names} & {"mae", "mse", "rmse"}
    return {name: float(value) for name, value in of.scores(outputs, y).items() if name in names}


def test_of_classes() -> None:
    torch.manual_seed(0)
    y, outputs = torch.randint(0, 3, (60,)).sort().values, torch.randn(60, 3)
    outputs[torch.arange(60), y] += 0.7
    said, p = outputs.argmax(1), softmax(outputs, 1).numpy()
    one_hot = np.eye(3)[y]
    wanted = {
        "accuracy": sklearn.accuracy_score(y, said),
        "auroc": sklearn.roc_auc_score(y, p, multi_class="ovr"),
        "average_precision": sklearn.average_precision_score(one_hot, p),
        "balanced_accuracy": sklearn.balanced_accuracy_score(y, said),
        "f1": sklearn.f1_score(y, said, average="macro"),
        "precision": sklearn.precision_score(y, said, average="macro"),
        "recall": sklearn.recall_score(y, said, average="macro"),
    }
    assert wanted.keys() | {*REAL} == KNOWN.keys()
    assert len({round(value, 3) for value in wanted.values()}) > 4
    assert scores([*wanted], outputs, y) == pytest.approx(wanted, abs=1e-5)


def test_of_reals() -> None:
    torch.manual_seed(0)
    y = torch.randn(50)
    outputs = y + torch.randn(50)
    wanted = {
        "mae": sklearn.mean_absolute_error(y, outputs),
        "mse": sklearn.mean_squared_error(y, outputs),
        "r2": sklearn.r2_score(y, outputs),
        "rmse": sklearn.root_mean_squared_error(y, outputs),
    }
    assert scores([*wanted], outputs[:, None], y[:, None]) == pytest.approx(wanted, abs=1e-5)


def test_one_is_a_list_of_one_and_what_is_written_out_stays() -> None:
    one = compose_config(["task.metrics=f1"]).task.metrics
    assert one == {"f1": "torchmetrics.classification.MulticlassF1Score"}
    own = compose_config(["task.metrics={f1: mine.f1}"]).task.metrics
    assert own == {"f1": "mine.f1"}
    with pytest.raises(InputError, match=r"^task.metrics=auc: no such name; .*\{name: package"):
        compose_config(["task.metrics=[f1,auc]"])


@pytest.mark.parametrize(
    ("asked", "classes", "told"),
    [
        ("accuracy", False, ".is_right: is of classes, and y holds real numbers; name another"),
        ("balanced_accuracy", False, ".balanced_accuracy: is of classes, and y holds real numbers"),
        ("mae", True, ".off_by: is of real numbers, and y holds classes; name another"),
        (
            "{f: {_target_: nufed.tasks.objective.balanced_accuracy, top_k: 3, "
            "higher_is_better: true}}",
            True,
            ".balanced_accuracy: has no top_k; leave it out",
        ),
    ],
)
def test_ours_are_of_their_targets_and_take_nothing_else(
    asked: str, classes: bool, told: str
) -> None:
    config = compose_config([f"task.metrics={asked}"]).task
    with pytest.raises(InputError, match=re.escape(told)):
        make_objective(
            config, classes=classes, width=3, device=torch.device("cpu"), dtype=torch.float32
        )
