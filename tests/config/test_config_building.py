"""Tables into objects and the messages of those that cannot be built."""

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from rikiba import config
from rikiba.config import ConfigError
from rikiba.potentials.lennard_jones import LennardJones
from rikiba.potentials.sum import Sum


class Network:
    """A thing with every type of argument. And a second sentence.

    Args:
        channels: width of
            every layer.
        rate: learning rate.
        kind_of: which.
        box: edge lengths, Å.
        masses: by element.
        label: a name, if any.
        path: where.
    """

    def __init__(
        self,
        *,
        channels: int,
        rate: float = 0.01,
        kind_of: Literal["a", "bee"] = "a",
        box: tuple[float, float, float] = (1.0, 1.0, 1.0),
        masses: Mapping[str, float] | None = None,
        label: str | None = None,
        path: Path = Path("x"),
        steps: int | list[int] = 3,
        flag: bool = False,
        anything: Any = 0,
    ) -> None:
        if channels < 1:
            raise ValueError(f"channels must be at least 1; given {channels}.")
        self.given = {k: v for k, v in locals().items() if k != "self"}


@dataclass(frozen=True, kw_only=True)
class Choices:
    """Numerical choices."""

    strain: float = 0.01
    """Largest strain."""
    points: int = 7
    sizes: tuple[int, ...] = field(default_factory=lambda: (1, 2))


class Nested:
    """Holds others."""

    def __init__(self, *, choices: Choices = Choices(), terms: Sequence[Choices] = ()) -> None:
        self.choices, self.terms = choices, terms


def test_values_arrive_as_the_hints_ask() -> None:
    table = {
        "channels": 8,
        "rate": 1,
        "box": [1, 2, 3],
        "masses": {"H": 1},
        "path": "a/b",
        "steps": [1, 2],
        "flag": True,
    }
    given = config.build(Network, table).given
    assert given["rate"] == 1.0 and isinstance(given["rate"], float)
    assert given["box"] == (1.0, 2.0, 3.0) and all(isinstance(v, float) for v in given["box"])
    assert given["masses"] == {"H": 1.0} and isinstance(given["masses"]["H"], float)
    assert given["path"] == Path("a/b") and given["steps"] == [1, 2] and given["flag"] is True
    assert given["label"] is None


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (
            {"chanels": 8},
            r"\[net\] has no key 'chanels' for Network\. Did you mean 'channels'\?.*channels, rate, kind_of",
        ),
        ({}, r"\[net\] lacks 'channels' \(integer: width of every layer\), which Network needs"),
        ({"channels": "8"}, r'channels must be an integer; given "8"'),
        ({"channels": True}, r"channels must be an integer; given true"),
        ({"channels": 8.0}, r"channels must be an integer; given 8\.0"),
        ({"channels": 8, "rate": False}, r"rate must be a number; given false"),
        ({"channels": 8, "flag": 1}, r"flag must be true or false; given 1"),
        (
            {"channels": 8, "kind_of": "bea"},
            r"kind_of must be one of 'a', 'bee'; given \"bea\"\. Did you mean 'bee'",
        ),
        ({"channels": 8, "box": [1, 2]}, r"box must hold 3 values; given 2: \[1, 2\]"),
        ({"channels": 8, "box": 1.0}, r"box must be a list of 3 numbers; given 1\.0"),
        ({"channels": 8, "box": [1, 2, "c"]}, r'box\[2\] must be a number; given "c"'),
        ({"channels": 8, "masses": {"H": "x"}}, r'masses\.H must be a number; given "x"'),
        ({"channels": 8, "steps": "many"}, r'steps must be an integer or list of integers; given "many"'),
        ({"channels": 0}, r"\[net\]: channels must be at least 1; given 0"),
    ],
)
def test_what_is_wrong_is_said(table: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        config.build(Network, table, where="[net]")


def test_none_can_be_written_where_it_is_allowed() -> None:
    assert config.build(Network, {"channels": 1, "masses": "none"}).given["masses"] is None
    with pytest.raises(ConfigError):
        config.build(Network, {"channels": 1, "rate": "none"})


def test_computed_values_fill_what_the_table_leaves_and_only_what_exists() -> None:
    computed = {"channels": 5, "rate": 0.5, "unknown": 1}
    given = config.build(Network, {"rate": 0.25}, computed=computed).given
    assert (given["channels"], given["rate"]) == (5, 0.25)
    with pytest.raises(ConfigError, match="unknown"):
        config.build(Network, {"channels": 1, "unknown": 1})


def test_nested_tables_become_objects() -> None:
    built = config.build(Nested, {"choices": {"strain": 1}, "terms": [{"points": 3}, {}]})
    assert built.choices == Choices(strain=1.0)
    assert built.terms == (Choices(points=3), Choices())
    with pytest.raises(ConfigError, match=r"\[n\] terms\[1\] has no key 'pionts' for Choices.*'points'"):
        config.build(Nested, {"terms": [{}, {"pionts": 3}]}, where="[n]")


def test_kinds_of_potentials_nest() -> None:
    argon = {"kind": "lennard_jones", "epsilon_eV": {"Ar": 0.0104}, "sigma": {"Ar": 3.4}, "cutoff": 8}
    total = config.build_kind("potentials", {"kind": "sum", "terms": [argon, argon]}, where="[potential]")
    assert isinstance(total, Sum) and all(isinstance(t, LennardJones) for t in total.terms)
    assert total.cutoff == 8.0
    written = config.table_of(total)
    assert written["kind"] == "sum" and written["terms"][0]["kind"] == "lennard_jones"
    again = config.build_kind("potentials", tomllib.loads(config.to_toml(written)))
    assert config.table_of(again) == written
    with pytest.raises(
        ConfigError, match=r"terms\[0\] needs a 'kind' that names a Potential; known are .*lennard_jones"
    ):
        config.build_kind("potentials", {"kind": "sum", "terms": [{"cutoff": 3.0}]})
    with pytest.raises(ConfigError, match=r"is a Choices, not a Potential"):
        kind = f"{__name__}:Choices"
        config.build_kind("potentials", {"kind": "sum", "terms": [{"kind": kind}]})


def test_unknown_kind_and_missing_kind() -> None:
    with pytest.raises(
        ConfigError, match=r"\[potential\]: There is no 'lenard_jones'.*Did you mean 'lennard_jones'"
    ):
        config.build_kind("potentials", {"kind": "lenard_jones"}, where="[potential]")
    with pytest.raises(ConfigError, match=r"\[potential\] has no 'kind'; known are"):
        config.build_kind("potentials", {}, where="[potential]")
    with pytest.raises(ConfigError, match=r"no table \[potental\].*Did you mean 'potential'"):
        config.check_tables({"potental": {}}, ["potential", "data"])


def test_resolved_holds_every_default_and_builds_the_same() -> None:
    tables = {"net": {"channels": 4}, "free": {"x": 1, "y": None}, "choice": [{"points": 3}, {}]}
    text = config.resolved(tables, {"net": Network, "choice": Choices}, computed={"net": {"rate": 0.5}})
    back = tomllib.loads(text)
    assert back["net"]["channels"] == 4 and back["net"]["rate"] == 0.5 and back["net"]["kind_of"] == "a"
    assert back["free"] == {"x": 1}
    assert back["choice"] == [
        {"strain": 0.01, "points": 3, "sizes": [1, 2]},
        {"strain": 0.01, "points": 7, "sizes": [1, 2]},
    ]
    first = config.build(Network, {"channels": 4, "rate": 0.5}).given
    assert config.build(Network, back["net"]).given == first
    with pytest.raises(ConfigError, match="chanels"):
        config.resolved({"net": {"chanels": 4}}, {"net": Network})


def test_resolved_finds_tables_below_tables() -> None:
    given = {
        "model": {"a": {"members": 2, "potential": {"channels": 3}}},
        "property": {"zbl": {"elements": ["H"]}},
    }
    rooms = {"model.*.potential": Network, "property.*": "potentials"}
    back = tomllib.loads(config.resolved(given, rooms))
    assert back["model"]["a"]["members"] == 2 and back["model"]["a"]["potential"]["rate"] == 0.01
    assert back["property"]["zbl"]["elements"] == ["H"] and "cutoff" in back["property"]["zbl"]
    with pytest.raises(ConfigError, match=r"\[model\.b\.potential\] has no key 'x'"):
        config.resolved({"model": {"b": {"potential": {"x": 1}}}}, rooms)


def test_documentation_of_arguments_and_fields() -> None:
    found = {p.name: p for p in config.schema(Network)}
    assert found["channels"].text == "width of every layer." and found["channels"].required
    assert found["steps"].text == "" and not found["rate"].required
    fields = {p.name: p for p in config.schema(Choices)}
    assert fields["strain"].text == "Largest strain." and fields["sizes"].default == (1, 2)


def test_explanation_is_a_table_that_builds() -> None:
    text = config.explain("potentials", "lennard_jones")
    table = tomllib.loads(text)["potential"]
    assert table["kind"] == "lennard_jones" and table["truncation"] == "smooth"
    for p in config.schema(LennardJones):
        assert re.search(rf"\b{p.name}\b", text), p.name
        assert p.text.split()[0].lower() in text.lower()
    assert "doi:10.1098/rspa.1924.0082" in text
    given = {"epsilon_eV": {"Ar": 0.01}, "sigma": {"Ar": 3.4}, "cutoff": 8.0}
    assert isinstance(config.build_kind("potentials", table | given), LennardJones)


def test_explanation_of_nested_defaults_is_toml() -> None:
    text = config.explain("potentials", f"{__name__}:Nested")
    assert tomllib.loads(text)["potential"]["choices"] == {"strain": 0.01, "points": 7, "sizes": [1, 2]}


def test_every_registered_class_is_documented() -> None:
    """Each argument of each class of each room has a text, and each explanation is valid TOML."""
    from rikiba.core import registry

    missing = []
    for room in config.rooms():
        for name in registry.names(room):
            tomllib.loads(config.explain(room, name))
            missing += [
                f"{room}/{name}: {p.name}" for p in config.schema(registry.load(room, name)) if not p.text
            ]
    assert not missing


def test_rooms_by_singular_and_wrong_name() -> None:
    assert config.find_room("potential") == config.find_room("potentials") == "potentials"
    with pytest.raises(ConfigError, match="Did you mean 'potentials'"):
        config.find_room("potentails")
