"""The house stands: imports go one way, and what must be said twice says the same."""

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FLOORS = (
    {"benchmarks"},
    {"api"},
    {"cli"},
    {"conformance"},
    {"server_app"},
    {"strategies", "simulation", "theory"},
    {"client_app"},
    {"tasks"},
    {"conf"},
)
PARTS = {package for packages in FLOORS for package in packages} - {"benchmarks"}
FLOOR = {package: level for level, packages in enumerate(FLOORS) for package in packages}
FILES = [file for package in sorted(FLOOR) for file in sorted((ROOT / package).rglob("*.py"))]


def imports(file: Path) -> Iterator[str]:
    """Yield the modules that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield node.module or ""


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.relative_to(ROOT).as_posix())
def test_imports_go_down(file: Path) -> None:
    own = file.relative_to(ROOT).parts[0]
    for module in imports(file):
        assert module.split(".")[0] not in PARTS, f"{module} is nufed.{module}"
        package = module.removeprefix("nufed.").split(".")[0]
        if package in FLOOR and package != own:
            assert FLOOR[package] > FLOOR[own], f"{own} imports {module}"


def test_every_part_of_the_package_is_named_wherever_it_has_to_be() -> None:
    packages = {
        ".".join(("nufed", *file.parent.relative_to(ROOT).parts))
        for part in PARTS
        for file in (ROOT / part).rglob("__init__.py")
    }
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    assert set(setuptools["packages"]) == packages | {"nufed"}
    assert setuptools["package-dir"] == {f"nufed.{part}": part for part in PARTS}
    links = {link.name: link.resolve() for link in (ROOT / ".links/nufed").iterdir()}
    own = {part: ROOT / part for part in PARTS} | {"__init__.py": ROOT / "nufed/__init__.py"}
    assert links == own


def test_the_algorithm_needs_torch_alone() -> None:
    found = {module.split(".")[0] for module in imports(ROOT / "client_app/meta_gradient.py")}
    assert found == {"torch", "collections", "functools", "itertools", "typing"}


def test_flowers_private_api_is_in_one_file() -> None:
    public = {"flwr.app", "flwr.clientapp", "flwr.serverapp", "flwr.serverapp.strategy"}
    private = {
        file.relative_to(ROOT).as_posix()
        for file in FILES
        for module in imports(file)
        if module.split(".")[0] == "flwr" and module not in public
    }
    assert private == {"simulation/flower_host.py"}


def test_torchvision_is_imported_where_files_are_read_alone() -> None:
    found = {f.name for f in FILES if any(m.split(".")[0] == "torchvision" for m in imports(f))}
    assert found == {"sources.py"}


def test_random_numbers_come_from_one_place() -> None:
    """But those of a federation that others drew, which only their generator draws again."""
    made = re.compile(r"default_rng|SeedSequence|RandomState|manual_seed|Generator\(")
    found = [file.relative_to(ROOT).as_posix() for file in FILES if made.search(file.read_text())]
    assert found == ["benchmarks/experiments/legacy_synthetic.py", "tasks/streams.py"]


def test_the_bundled_app_is_the_checkouts_own() -> None:
    bundled = tomllib.loads((ROOT / "conf/flower_app.toml").read_text())
    own = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert bundled["tool"]["flwr"] == own["tool"]["flwr"]
    for key in ("name", "version"):
        assert bundled["project"][key] == own["project"][key]


def test_nothing_that_is_printed_is_markup() -> None:
    """What a client, a person or a path says in brackets is shown, and ends no run."""
    ours = [file for file in FILES if ROOT / "benchmarks" not in file.parents]
    made = [file.name for file in ours if re.search(r"\bConsole\(", file.read_text())]
    assert made == []
