"""A configuration's text is read as data."""

import re
from pathlib import Path

import pytest

from nufed.conf.compose import compose_config, find_config, to_file
from nufed.conf.convert import read_config, to_json, to_yaml
from nufed.conf.errors import InputError
from nufed.conf.plain import dump, plain


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: &x [1]\nb: *x", "aliases and anchors are not read; write the value itself, line 1"),
        ("a: !!python/object/apply:os.system ['id']", "tags are not read, line 1"),
        ("a:\n  !!python/name:os.system", "tags are not read, line 2"),
        ("a: !!binary aWQ=", "tags are not read"),
        ("a: 1\nb: 2\na: 3", "the key 'a' comes twice"),
        ('{"a": 1, "a": 2}', "the key 'a' comes twice"),
        ("{a: " + "[" * 40, "nested more than 32 levels deep, line 1"),
        ('{"a":' * 100_000, "nested more than 32 levels deep"),
        ('{"a":' * 100 + "1" + "}" * 100, "nested more than 32 levels deep"),
        ("a: [" + "1," * 200_000 + "]", "more than 50,000 values, line 1"),
        ("- 1", "it holds no keys"),
        ("", "it holds no keys"),
        ("? [1, 2]\n: 3", "a key is no text"),
        ("a: b: c", "mapping values are not allowed here, line 1"),
        ("a: \x1b", "special characters are not allowed"),
        ("a: 1\n---\nb: 2", "another document"),
        ("a: " + "9" * 5000, "Exceeds the limit"),
    ],
)
def test_what_is_no_plain_data_is_refused_at_once(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        plain(text)


VALUES = {
    "texts": ["1e3", "1.e3", ".5e1", "2020-01-01", "null", "~", "on", "yes", "1:30", "=", "<<"],
    "more": [" lead", "a: b", "#x", "é\x1b\u202e", "two\nlines", "", "0x1f", "😀", "\ud800"],
    "interpolations": ["${oc.env:HOME}", "${", r"\${a}", "$${b}"],
    "numbers": [1e-5, 3, -0.5, float("inf"), 1e22],
    "others": {"a": None, "b": True, "c": {}, "d": []},
}


def test_what_is_written_is_read_as_the_same() -> None:
    assert plain(dump(VALUES)) == VALUES
    shared = [1]
    assert plain(dump({"a": shared, "b": shared})) == {"a": [1], "b": [1]}


def test_what_people_write_is_read_as_they_mean_it() -> None:
    assert plain("a: 1e-3\nb: .5\nc: 2020-01-01\nd: 1_000") == {
        "a": 0.001,
        "b": 0.5,
        "c": "2020-01-01",
        "d": 1000,
    }
    assert plain("a: 12:30:45\nb: -1:30.5\nc: .inf\nd: 0x1f") == {
        "a": "12:30:45",
        "b": "-1:30.5",
        "c": float("inf"),
        "d": 31,
    }
    assert plain('{"a": "\\ud83d\\ude00"}') == {"a": "😀"}  # JSON's way to write it


def test_a_number_of_base_sixty_is_a_text(tmp_path: Path) -> None:
    many = "1:" * 200_000 + "1"
    assert plain(f"a: {many}") == {"a": many}
    text = to_yaml(compose_config([])).replace("rounds: 50", f"rounds: {many}")
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(InputError, match="cannot be read \\(Value '1:1:1:") as caught:
        find_config(tmp_path, "run")
    assert len(str(caught.value)) < 1000


HOSTILE = "${oc.env:HOME}"


@pytest.mark.parametrize("text", [HOSTILE, "${cwd:}", "a${b", r"\${x}", "${", "${rounds}"])
def test_what_is_read_is_not_looked_up(text: str, tmp_path: Path) -> None:
    config = compose_config([])
    config.name, config.dataset["path"], config.model["hidden"] = text, f"/{text}.npz", [text]
    for read in (read_config(to_json(config)), read_config(to_yaml(config))):
        assert read == config
    (tmp_path / "config.yaml").write_text(to_file(config))
    assert find_config(tmp_path, "run").config == config


def test_a_text_in_the_place_of_a_number_is_named_as_it_stands() -> None:
    text = to_yaml(compose_config([])).replace("rounds: 50", "rounds: '${oc.env:HOME}'")
    with pytest.raises(ValueError, match=r"Value '\$\{oc.env:HOME\}' of type 'str'"):
        read_config(text)


def test_a_file_name_may_be_typed_with_it() -> None:
    (typed,) = (compose_config(["dataset=npz", r"dataset.path='/a\${b}.npz'"]).dataset["path"],)
    assert typed == "/a${b}.npz"


def test_a_bomb_of_a_config_is_refused(tmp_path: Path) -> None:
    levels = "\n".join(f"l{i}: &l{i} [{', '.join([f'*l{i - 1}'] * 9)}]" for i in range(1, 30))
    (tmp_path / "config.yaml").write_text(f"l0: &l0 [lol]\n{levels}\n")
    with pytest.raises(InputError, match=r"run: config.yaml cannot be read \(aliases and anchors"):
        find_config(tmp_path, "run")
    with (tmp_path / "config.yaml").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(InputError, match="too large"):
        find_config(tmp_path, "run")
