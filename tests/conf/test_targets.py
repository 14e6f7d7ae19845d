"""Which code others may name."""

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from nufed.conf.compose import CONFIG_DIR, compose_config, from_run_config
from nufed.conf.convert import read_values, to_json
from nufed.conf.errors import InputError
from nufed.conf.plain import plain
from nufed.conf.targets import (
    foreign,
    is_known,
    modules_here,
    modules_of,
    require_allowed,
)

LIBRARIES = [
    *("torch.nn.Linear", "torch.nn.modules.linear.Linear", "torch.nn.GroupNorm"),
    *("torch.nn.functional.huber_loss", "torch.nn.functional.cross_entropy", "torch.nn.MSELoss"),
    *("torch.optim.Adam", "torch.optim.sgd.SGD", "torch.optim.Optimizer"),
    "flwr_datasets.partitioner.InnerDirichletPartitioner",
    *("torchmetrics.R2Score", "torchmetrics.classification.MulticlassF1Score"),
    *("torchmetrics.MeanAbsoluteError", "torchmetrics.functional.r2_score"),
    "torchmetrics.functional.classification.multiclass_f1_score",
]
NOT_MEANT = [
    *("subprocess.getoutput", "os.system", "builtins.eval", "importlib.import_module"),
    *("torch.utils.collect_env.run", "torch.load", "torch.hub.load", "torch.nn", "torch.optim"),
    "torch.nn.modules.module.sys.modules.os.system",
    "torch.nn.functional.torch.hub.load",
    "torch.nn.functional.importlib.import_module",
    "torch.nn.functional.boolean_dispatch",
    "torch.nn.functional.handle_torch_function",
    "torch.nn.functional._canonical_mask",
    "torch.nn.init.math",
    "torch.nn.init.math.sqrt",
    "torch.nn.Module.__init__.__globals__",
    "torch.nn.Linear.load_state_dict",
    "torch.nn.modules.module.register_module_forward_hook",
    "torch.nn.modules.module.OrderedDict",
    "torch.nn.parameter.Parameter",
    "torch.optim.lr_scheduler.warnings",
    "torch.optim.lr_scheduler.LambdaLR",
    "torch.optim.swa_utils.AveragedModel",
    "torch.optim.optimizer.functools.partial",
    "torchmetrics.metric.os.system",
    "torchmetrics.functional.text.bert_score",
    "torchmetrics.text.BERTScore",
    "torchmetrics.wrappers.LambdaInputTransformer",
    "flwr_datasets.partitioner.partitioner.ABC",
    "flwr_datasets.partitioner.dirichlet_partitioner.np",
    f"torch.nn.{'a.' * 5000}b",
    *(
        "nufed.tasks.datasets.own_labels.read",
        "nufed.tasks.datasets.npz.read",
        "nufed.strategies.rules.krum.Krum",
    ),
    *("nufed.cli.engines.ray.launch", "nufed.server_app.trackers.mlflow.MLflow"),
    "hydra.utils.get_method",
    "hydra.utils.instantiate",
    "nufed.cli.run.main",
    "nufed.cli.engines.ray.run_on_ray",
    "nufed.conf.files.write_whole",
    "nufed.tasks.store.home",
    "nufed.server_app.run_folder.save_model",
    "torch.nn.Linear ",
    "torch.nn.Linear\n",
    *("torch.nn.", ".torch.nn.Linear", "torch.nn..Linear", "torch.nnx.Linear", "", "mine.Net"),
]


@pytest.mark.parametrize("name", LIBRARIES)
def test_parts_of_libraries_may_be_named(name: str) -> None:
    assert is_known("model._target_", name)
    assert is_known("task.metrics.mine._target_", name)


@pytest.mark.parametrize("name", NOT_MEANT)
def test_nothing_else_may_be_by_any_way(name: str) -> None:
    assert not is_known("model._target_", name)


def targets(node: object) -> Iterator[str]:
    if isinstance(node, dict):
        yield from (node[key] for key in ("_target_", "launcher", "source") if key in node)
        for value in node.values():
            yield from targets(value)


def test_all_that_our_options_name_may_be() -> None:
    files = [file for file in CONFIG_DIR.glob("*/*.yaml") if file.parent.name != "hydra"]
    texts = {file: file.read_text() for file in files if file.stem != "none"}
    named = {(file.parent.name, name) for file in texts for name in targets(plain(texts[file]))}
    assert {("model", "nufed.tasks.models.cnn"), ("engine", "nufed.cli.engines.ray.launch")} < named
    places = {"optimizer": "strategy.optimizer._target_", "schedule": "schedule.beta._target_"}
    for group, name in named - {("model", "???")}:
        own = places.get(group, f"{group}._target_")
        keys = (own, "tracking.a._target_", "engine.launcher", "dataset.source")
        assert any(is_known(key, name) for key in keys), name


def test_a_tracker_of_ours_may_be_named_by_any_name_and_nowhere_else() -> None:
    ours = "nufed.server_app.trackers.mlflow.MLflow"
    assert is_known("tracking.second._target_", ours)
    elsewhere = ["tracking.a.b._target_", "tracking.a[0]._target_", "callbacks.a._target_"]
    assert not any(is_known(key, ours) for key in [*elsewhere, "model._target_"])
    assert not is_known("tracking.second._target_", "mine.Tracker")


@pytest.mark.parametrize("key", ["model", "model.hidden", "task.loss", "strategy.optimizer"])
def test_what_reads_data_sets_reads_none_elsewhere(key: str) -> None:
    """Its source would be called, whatever it names."""
    reader = {"_target_": "nufed.tasks.datasets.own_labels.read", "source": "pytest.main"}
    config = compose_config(["model=mlp"])
    values = asdict(config)
    *groups, last = key.split(".")
    place = values
    for group in groups:
        place = place[group]
    place[last] = reader
    assert foreign(read_values(values)) == {f"{key}._target_": reader["_target_"]}


def test_a_source_is_looked_at_whatever_the_data_set() -> None:
    values = asdict(compose_config(["dataset=digits"]))
    values["dataset"]["source"] = "this.d.get"
    assert foreign(read_values(values)) == {"dataset.source": "this.d.get"}
    values["dataset"]["source"] = "nufed.tasks.datasets.fashion_mnist.read"
    assert foreign(read_values(values)) == {}


def test_what_is_named_is_found_wherever_it_stands() -> None:
    config = compose_config(
        [
            *("model=custom", "model._target_=mine.Net", "+model.layers=[{_target_: mine.Layer}]"),
            "+model.deep={a: {b: [[{_target_: os.system, _args_: [id]}]]}}",
            *("task.loss=mine.loss", "task.metrics={gain: mine.gain, f: {_target_: mine.f}}"),
            "strategy.optimizer={_target_: mine.Adam, _partial_: true}",
            *(
                "partition.partitioner._target_=mine.Partitioner",
                "+tracking.mine._target_=mine.Tracker",
            ),
            "callbacks={mine: {_target_: mine.Callback}}",
            *("dataset=own_labels", "dataset.source=mine.read", "partition=shards"),
        ]
    )
    config.engine["launcher"] = "mine.launch"
    assert foreign(config) == {
        "model._target_": "mine.Net",
        "model.layers[0]._target_": "mine.Layer",
        "model.deep.a.b[0][0]._target_": "os.system",
        "task.loss": "mine.loss",
        "task.metrics.gain": "mine.gain",
        "task.metrics.f._target_": "mine.f",
        "strategy.optimizer._target_": "mine.Adam",
        "partition.partitioner._target_": "mine.Partitioner",
        "tracking.mine._target_": "mine.Tracker",
        "callbacks.mine._target_": "mine.Callback",
        "dataset.source": "mine.read",
        "engine.launcher": "mine.launch",
    }


def own(*overrides: str) -> list[str]:
    return ["model=custom", *(overrides or ("model._target_=mine.Net",))]


def test_what_is_not_trusted_is_refused_in_a_line_that_says_how_to() -> None:
    config = compose_config(own())
    line = r"checkpoint=r: its model._target_ is mine.Net, code that is not NuFed's; .*trust=mine$"
    with pytest.raises(InputError, match=line):
        require_allowed(config, "checkpoint=r")
    with pytest.raises(InputError, match="trust=mine"):
        require_allowed(config, "checkpoint=r", ["min", "mine.Ne", "mine.Net.a", "other"])
    for trust in ("mine", "mine.Net", "*"):
        require_allowed(config, "checkpoint=r", [trust])
    two = compose_config([*own(), "+tracking.other._target_=other.sub.Tracker"])
    with pytest.raises(InputError, match=r"model._target_ is .* and .* trust=\[mine,other.sub\]$"):
        require_allowed(two, "checkpoint=r")
    require_allowed(two, "checkpoint=r", modules_of("[mine,other]"))


def test_nobody_is_advised_to_trust_what_runs_commands() -> None:
    config = compose_config(own("model._target_=subprocess.getoutput", "+model.cmd=id"))
    with pytest.raises(InputError, match=r"\.getoutput, which no run has a use for") as e:
        require_allowed(config, "checkpoint=r")
    assert "trust" not in str(e.value)


def test_how_modules_are_named() -> None:
    assert modules_of(None) == modules_of("") == modules_of([]) == ()
    assert modules_of("mine") == ("mine",)
    assert (
        modules_of("mine,other.sub") == modules_of(["mine", "other.sub"]) == ("mine", "other.sub")
    )
    for wrong in (7, [7], "../mine", "mine.py/x", "m;id"):
        with pytest.raises(InputError, match="trust="):
            modules_of(wrong)


def test_a_server_is_trusted_as_far_as_the_node_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delenv("NUFED_TRUST", raising=False)
    sent = {"config": to_json(compose_config(own()))}
    line = "run-config config: its model._target_ is mine.Net.* sets NUFED_TRUST=mine"
    with pytest.raises(InputError, match=line):
        from_run_config(sent, modules_here({}))
    typed = {"overrides": "model=custom model._target_=mine.Net"}
    with pytest.raises(InputError, match=r"overrides: its model._target_ is mine\.Net"):
        from_run_config(typed, modules_here({}))
    assert from_run_config(sent, modules_here({"trust": "mine"})).model["_target_"] == "mine.Net"
    monkeypatch.setenv("NUFED_TRUST", "other,mine")
    assert from_run_config(sent, modules_here({})).model["_target_"] == "mine.Net"


def test_who_sends_a_configuration_cannot_trust_for_others() -> None:
    sent = read_values({**asdict(compose_config(own())), "trust": ["mine"]})
    with pytest.raises(InputError, match=r"mine\.Net"):
        from_run_config({"config": to_json(sent)})


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ("name='${oc.env:HOME}'", "write the value itself"),
        ("dataset.name=${oc.env:HOME}", "write the value itself"),
        ("hydra.searchpath=[file:///etc]", "from another machine"),
        ("hydra/launcher=basic", "from another machine"),
        ("dataset=../../etc/secret", "from another machine"),
    ],
)
def test_overrides_from_elsewhere_look_up_nothing_here(overrides: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        from_run_config({"overrides": overrides})


def test_what_runs_by_default_is_looked_up_and_not_imported() -> None:
    """Seconds of imports, in every process of a federation, for classes that are not called."""
    program = (
        "import sys; from nufed.conf.compose import CONFIG_DIR, compose_config\n"
        "from nufed.conf.targets import foreign\n"
        "for file in (CONFIG_DIR / 'partition').glob('*.yaml'):\n"
        "    assert foreign(compose_config([f'partition={file.stem}'])) == {}\n"
        "print({'flwr_datasets', 'datasets', 'sklearn', 'scipy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "set()\n", done.stderr
