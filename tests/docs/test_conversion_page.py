"""The tables of docs/how-to/convert-models.md say what the readers of `rikiba convert` do."""

import ast
import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from rikiba.core import registry
from rikiba.interop import foreign

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "how-to" / "convert-models.md").read_text(encoding="utf-8")


def rows(page: str, first: str) -> Iterator[list[str]]:
    """Cells of the rows of the table with this heading of its second column."""
    inside = False
    for line in page.splitlines():
        cells = [c.strip() for c in line.strip("|").split("|")] if line.startswith("|") else []
        if cells[:2] == ["format", first]:
            inside = True
        elif not cells:
            inside = False
        elif inside and set(cells[0]) != {"-"}:
            yield cells


def quoted(cell: str) -> set[str]:
    return set(re.findall(r"`([^`]+)`", cell))


def source(name: str) -> str:
    return (ROOT / "rikiba" / "interop" / f"{name}.py").read_text(encoding="utf-8")


def endings(name: str) -> set[str]:
    """What a reader's `recognises` looks for in names of files."""
    tree = ast.parse(source(name))
    (function,) = [n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == "recognises"]
    calls = [n for n in ast.walk(function) if isinstance(n, ast.Call) and isinstance(n.func, ast.Attribute)]
    return {a.value for c in calls if c.func.attr == "named" for a in c.args if isinstance(a, ast.Constant)}  # type: ignore[attr-defined,misc]


def faults(page: str) -> list[str]:
    """Where the page and the code differ."""
    out = []
    read = {row[0].strip("`"): row for row in rows(page, "program")}
    if set(read) != set(foreign.formats()):
        out.append(f"formats {set(read) ^ set(foreign.formats())}")
    kinds = registry.names("potentials")
    for name in set(read) & set(foreign.formats()):
        _, _, files, families, needs, may = read[name]
        missing = endings(name) - quoted(files) - ({".yml"} if "`.yaml`" in files else set())
        out += [f"{name}: {missing}"] if missing else []
        reader = importlib.import_module(f"rikiba.interop.{name}").read_file
        known = {k: p for k, p in inspect.signature(reader).parameters.items() if k != "path"}
        required = {k for k, p in known.items() if p.default is p.empty}
        if quoted(needs) != required or quoted(may) != set(known) - required:
            out.append(f"{name}: keys {needs} {may}")
        for family in quoted(families):
            if not any(registry.class_name_matches(k, family) for k in kinds) or (
                f'"{family}"' not in source(name)
            ):
                out.append(f"{name}: {family}")
    for name, words, _ in (r for r in rows(page, "refused") if r[0].strip("`") in foreign.formats()):
        if words.strip('"') not in source(name.strip("`")):
            out.append(f"{name}: {words}")
    return out


def test_the_page_says_what_the_readers_do() -> None:
    assert len(list(rows(PAGE, "refused"))) > 15
    assert faults(PAGE) == []


@pytest.mark.parametrize(
    ("there", "instead"),
    [
        ("| `mlip` |", "| `mlop` |"),
        ("`.almtp`", "`.mtpx`"),
        ("`Mtp`", "`Mtq`"),
        ("| `modality` |", "| `modalities` |"),
        ("this model has batch norms", "this model has no norms"),
    ],
)
def test_what_has_changed_is_noticed(there: str, instead: str) -> None:
    """Negative control."""
    assert there in PAGE and faults(PAGE.replace(there, instead))
