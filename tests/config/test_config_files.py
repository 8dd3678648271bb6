"""TOML in and out, and `--set`."""

import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rikiba import config
from rikiba.config import ConfigError

BASE = {"potential": [{"kind": "mace", "channels": 8}, {"kind": "zbl"}], "md": {"steps": 10}}


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("md.steps=20", 20),
        ("md.timestep_fs = 0.5", 0.5),
        ("md.kind=langevin", "langevin"),
        ('md.name="a b"', "a b"),
        ("md.path=../data/x.xyz", "../data/x.xyz"),
        ("md.on=true", True),
        ("md.list=[1, 2]", [1, 2]),
        ("md.table={a = 1}", {"a": 1}),
    ],
)
def test_a_setting_is_put_in(setting: str, expected: Any) -> None:
    changed = config.apply_settings(BASE, [setting])
    assert changed["md"][setting.partition("=")[0].strip().split(".")[1]] == expected
    assert BASE["md"] == {"steps": 10}


def test_settings_reach_lists_and_new_tables() -> None:
    changed = config.apply_settings(BASE, ["potential.0.channels=16", "new.deep.key=1"])
    assert changed["potential"][0]["channels"] == 16 and BASE["potential"][0]["channels"] == 8
    assert changed["new"] == {"deep": {"key": 1}}


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("md.steps", "takes table.key=value"),
        ("=3", "takes table.key=value"),
        (
            "potential.channels=16",
            r"potential is a list of 2; pick one by its number.*potential\.0\.channels",
        ),
        ("potential.2.channels=16", "is a list of 2"),
        ("md.steps.x=1", "md.steps is 10, not a table"),
        ("md.steps=[1", "not valid TOML"),
    ],
)
def test_a_setting_that_does_not_fit_is_refused(setting: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        config.apply_settings(BASE, [setting])


def test_bad_toml_and_missing_file(tmp_path: Path) -> None:
    bad = tmp_path / "bad.toml"
    bad.write_text("[data]\ntrain = \n")
    with pytest.raises(ConfigError, match=r"bad\.toml' is not valid TOML: .*line 2"):
        config.read(bad)
    with pytest.raises(FileNotFoundError, match="no configuration file"):
        config.read(tmp_path / "absent.toml")


_leaf = st.one_of(
    st.integers(-(2**60), 2**60), st.booleans(), st.text(max_size=8), st.floats(allow_nan=False)
)
_tree = st.recursive(
    _leaf, lambda t: st.lists(t, max_size=3) | st.dictionaries(st.text(max_size=5), t, max_size=3)
)


@given(st.dictionaries(st.text(max_size=5), _tree, max_size=4))
def test_what_is_written_is_read_back(tables: dict[str, Any]) -> None:
    assert tomllib.loads(config.to_toml(tables)) == tables
