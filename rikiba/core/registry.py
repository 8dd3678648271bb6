"""What exists, found by looking: a room's files are its names.

`potentials/mace.py` holds class `MACE` and is called `mace` in a configuration and on the command line. No
decorator and no table: a file with a class of its own name is registered. Third parties add names by an
entry point in the group `rikiba.<room>`; anything else is reachable as `package.module:Class`.
"""

import ast
import difflib
import importlib
import importlib.util
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any


class UnknownName(ValueError):
    """A name that no file, entry point or import path answers to."""


def class_name_matches(file_name: str, class_name: str) -> bool:
    """True where the class is the file's own: equal but for case and underscores."""
    return class_name.lower() == file_name.replace("_", "").lower()


@cache
def _own_classes(room: str) -> dict[str, tuple[str, str]]:
    """name → (module, class), read from the files of a room without importing them."""
    spec = importlib.util.find_spec(f"rikiba.{room}")
    found: dict[str, tuple[str, str]] = {}
    for folder in (spec.submodule_search_locations or []) if spec else []:
        for file in sorted(Path(folder).glob("*.py")):
            tree = ast.parse(file.read_text(encoding="utf-8"))
            for node in tree.body:
                if isinstance(node, ast.ClassDef) and class_name_matches(file.stem, node.name):
                    found[file.stem] = (f"rikiba.{room}.{file.stem}", node.name)
    return found


def names(room: str) -> tuple[str, ...]:
    """Every name in a room ('potentials', 'md.thermostats', 'properties', 'reference' …), sorted."""
    third_party = {e.name for e in entry_points(group=f"rikiba.{room}")}
    return tuple(sorted(third_party | set(_own_classes(room))))


def load(room: str, name: str) -> Any:
    """The class that a name stands for.

    Raises UnknownName, with the closest names, where nothing answers to it.
    """
    if ":" in name:
        module, _, attribute = name.partition(":")
        try:
            return getattr(importlib.import_module(module), attribute)
        except (ImportError, AttributeError) as error:
            raise UnknownName(f"'{name}' cannot be imported: {error}.") from error
    own = _own_classes(room)
    if name in own:
        module, attribute = own[name]
        return getattr(importlib.import_module(module), attribute)
    for entry in entry_points(group=f"rikiba.{room}"):
        if entry.name == name:
            return entry.load()
    known = names(room)
    near = difflib.get_close_matches(name, known, n=1)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    raise UnknownName(
        f"There is no '{name}' in {room}; known are {', '.join(known)}, or write package.module:Class.{hint}"
    )


def name_of(room: str, cls: type) -> str:
    """The name that loads this class: the file's name, or package.module:Class."""
    for name, (module, attribute) in _own_classes(room).items():
        if cls.__module__ == module and cls.__name__ == attribute:
            return name
    return f"{cls.__module__}:{cls.__qualname__}"


def summary(cls: Any) -> str:
    """First sentence of a class's docstring."""
    text = (cls.__doc__ or "").strip().split("\n\n")[0]
    return " ".join(text.split())
