"""What names a file arrives as it was typed, by every way; a command that is printed says it."""

import os
import shlex
import subprocess
from pathlib import Path

import pytest
from hydra import compose
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from nufed.conf.command import overrides_of
from nufed.conf.compose import compose_config, composing
from nufed.conf.convert import read_config, to_json, to_yaml
from nufed.conf.text import printable
from nufed.conf.words import apart, command_line, for_hydra, path_of

NAMES = [
    *(
        "my data",
        "mine (1)",
        "a=b",
        "a,b",
        "données",
        "日本",
        "it's",
        'say "x"',
        "win\\path",
        "x\\",
    ),
    *("no#1", "c$x", "[v2]", "100%", "a:b", "~draft", "-x", "{}", "{a}", "${x}", "${seed}", "${"),
    *("a\\=b", " lead", "trail ", "123", "1e5", "true", "a&b;c|d", "*", "`b`", "a!b", "'q'"),
    *("\\${x}", "range(3)", "choice(a,b)", "seed=1", "a\tb", "x" * 200),
]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def read(word: str) -> object:
    """Return the value that Hydra and OmegaConf make of a word."""
    parsed = OverridesParser.create().parse_override(word)
    assert not parsed.is_sweep_override()
    config = OmegaConf.create({"seed": 7})
    OmegaConf.update(config, "value", parsed.value())
    return config.value


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("several", [False, True])
def test_the_name_of_a_file_that_is_there_is_no_grammar(name: str, several: bool) -> None:
    """In every key that names one, once or twice prepared; in one of the person's own code too."""
    Path(name).touch()
    for key in ("dataset.path", "++dataset.path", "resume", "engine.root_certificates"):
        word = f"{key}={name}"
        for _ in range(2):
            (word,) = for_hydra([word], several)
            assert read(word) == name
    Path(name).unlink()
    Path(name).mkdir()
    inside = f"{name}/new"
    (word,) = for_hydra([f"hydra.run.dir={inside}"], several)
    assert read(word) == inside
    assert apart([name, inside]) == (
        ([name, inside], []) if "=" not in name else ([name], [inside])
    )


@pytest.mark.parametrize("name", [n for n in NAMES if not {"'", '"', "\\", "$"} & set(n)])
def test_a_folder_that_is_not_there_yet_is_called_as_it_was_typed(name: str) -> None:
    if name.startswith("~"):
        name = f"out/{name}"
    (word,) = for_hydra([f"hydra.run.dir={name}"])
    assert read(word) == name


MEANT = {
    "quotes of the person's own": ("dataset.path='a b.npz'", "a b.npz"),
    "another key": ("hydra.run.dir=runs/${seed}", "runs/7"),
    "another key and more": ("hydra.run.dir=runs (1)/${seed}", "runs (1)/7"),
    "escapes": (r"hydra.run.dir=lr\=0.1", "lr=0.1"),
    "a file that is not there": ("dataset.path=absent (1).npz", "absent (1).npz"),
    "nothing": ("resume=null", None),
    "a number": ("dataset.path=2024", "2024"),
}


@pytest.mark.parametrize(("word", "meant"), MEANT.values(), ids=MEANT)
def test_what_hydra_offers_stays(word: str, meant: str | None) -> None:
    (prepared,) = for_hydra([word])
    assert read(prepared) == meant


def test_other_words_stay_as_they_are() -> None:
    words = ["--cfg", "job", "seed=0,1", "name={", "model.hidden=[7,(]", "--config-dir=my (1)"]
    Path("my (1)").mkdir()
    assert for_hydra(words) == words
    assert read(*for_hydra(["+model.weights=my (1)"])) == "my (1)"


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("[李雷]", ["李雷"]),
        ("[Zoë, a b ,5,-7]", ["Zoë", "a b", 5, -7]),
        ("[a=b,<b>,x/y]", ["a=b", "<b>", "x/y"]),
        ("['a,b',é,\"'q'\"]", ["a,b", "é", "'q'"]),
        ("[O'Brien,'it\\'s',é]", ["O'Brien", "it's", "é"]),
        ("[\u202eab,#1,f(1)]", ["\u202eab", "#1", "f(1)"]),
        ("['5',18446744073709551615,100000000000000000007]", ["5", 2**64 - 1, 10**20 + 7]),
        ("[]", []),
        ("0.2", 0.2),
    ],
)
def test_ids_are_read_as_they_stand(typed: str, meant: object) -> None:
    """In quotes, only where a comma or quotes stand in one."""
    (word,) = for_hydra([f"evaluation.new_clients={typed}"])
    assert OverridesParser.create().parse_override(word).value() == meant
    assert compose_config([word]).evaluation.new_clients == meant


def test_a_column_of_any_script_is_a_name() -> None:
    words = for_hydra(["dataset.target=Größe", "dataset.features=[Länge,(mm)]"])
    assert words == ['dataset.target="Größe"', 'dataset.features=["Länge","(mm)"]']
    assert for_hydra(["evaluation.new_clients=[é],[ann]"]) == ['evaluation.new_clients=["é"],[ann]']


def test_several_files_are_several_values_and_a_comma_in_a_name_is_none() -> None:
    def values(word: str) -> list[object]:
        parsed = OverridesParser.create().parse_override(*for_hydra([word], several=True))
        return [read(f"dataset.path={each}") for each in parsed.sweep_string_iterator()]

    for name in ("a.npz", "b (1).npz", "c.npz"):
        Path(name).touch()
    assert values("dataset.path=a.npz,c.npz") == ["a.npz", "c.npz"]
    assert values("dataset.path=a.npz,b (1).npz") == ["a.npz", "b (1).npz"]
    assert values("dataset.path='x (1).npz',a.npz") == ["x (1).npz", "a.npz"]
    assert for_hydra(["dataset.path=a.npz,c.npz"]) == ["dataset.path=a.npz,c.npz"], "takes -m"
    Path("a.npz,c.npz").touch()
    assert read(*for_hydra(["dataset.path=a.npz,c.npz"], several=True)) == "a.npz,c.npz"


def test_a_home_is_one_unless_a_file_is_called_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/of mine")
    assert path_of("~/x") == Path("/home/of mine/x")
    assert path_of("~no-such-user/x") == Path("~no-such-user/x")
    assert read(*for_hydra(["hydra.run.dir=~/runs/a"])) == "/home/of mine/runs/a"
    Path("~").mkdir()
    assert path_of("~") == Path("~")


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12))
@settings(max_examples=300, deadline=None, derandomize=True)
def test_a_command_that_is_printed_says_what_it_was_made_of(text: str) -> None:
    """In one line, whatever is in it: bash reads it back."""
    line = command_line("nufed", resume=text)
    assert printable(line) == line
    program, word = in_bash(line)
    assert program == "nufed"
    assert read(word) == text


def in_bash(line: str) -> list[str]:
    """Return the words that bash makes of a line, as Python gets them."""
    script = os.fsencode(f"printf '%s\\0' {line}")
    done = subprocess.run(
        ["bash", "-c", script], capture_output=True, check=True, env={"LC_ALL": "C.UTF-8"}
    )
    return list(map(os.fsdecode, done.stdout.split(b"\0")[:-1]))


def test_a_name_of_bytes_that_are_no_text_can_be_pasted() -> None:
    name = os.fsdecode(b"a\xff\n'\t.npz")
    line = command_line("nufed-report", [name])
    assert line == r"nufed-report $'a\xff\n\'\t.npz'"
    assert in_bash(line) == ["nufed-report", name]


def test_a_command_stays_plain_where_it_can() -> None:
    assert command_line("nufed", resume="/runs/é/a-1") == "nufed 'resume=\"/runs/é/a-1\"'"
    assert command_line("nufed", resume="/runs/a-1.b") == "nufed resume=/runs/a-1.b"
    assert command_line("nufed-report", ["my runs/a"]) == "nufed-report 'my runs/a'"


@pytest.mark.parametrize("name", ["a ${seed}, (1)=\"'é.npz", "${", "~x\\", "null"])
def test_a_configuration_keeps_a_name_wherever_it_travels(name: str, here: Path) -> None:
    """As JSON to other processes, as YAML into the run folder, as a command in the report."""
    file = here / name
    file.touch()
    config = compose_config(["dataset=npz", f"dataset.path={file}", f"resume={file}"])
    assert config.dataset["path"] == config.resume == str(file)
    assert read_config(to_json(config)) == read_config(to_yaml(config)) == config
    words = overrides_of(config)
    assert words is not None
    _, *typed = shlex.split(command_line("nufed", words, resume=file))
    with composing():
        assert compose("config", typed).dataset.path == str(file)
    assert compose_config(typed) == config
