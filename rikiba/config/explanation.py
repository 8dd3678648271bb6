"""What exists and what it takes, as text for a person."""

import pkgutil
import textwrap
from importlib import import_module
from typing import Any

from rikiba.core import registry

from .building import table_of
from .files import to_toml
from .schema import Parameter, schema
from .values import ConfigError, describe, near

WIDTH = 100


def rooms() -> tuple[str, ...]:
    """Rooms whose files are names for a configuration: those with a contract in `base.py`, and sub-rooms."""
    package = import_module("rikiba")
    modules = list(pkgutil.walk_packages(package.__path__, "rikiba.", onerror=lambda name: None))
    contracts = {m.name.removesuffix(".base") for m in modules if m.name.endswith(".base")}
    nested = {m.name for m in modules if m.ispkg and m.name.count(".") > 1}
    found = {name.removeprefix("rikiba.") for name in contracts | nested}
    return tuple(sorted(room for room in found if registry.names(room)))


def find_room(name: str) -> str:
    """The room that a word means: 'potential', 'potentials', 'thermostat' → 'md.thermostats'."""
    known = rooms()
    forms = {name, f"{name}s", f"{name[:-1]}ies" if name.endswith("y") else name}
    for room in known:
        if room in forms or room.rsplit(".", 1)[-1] in forms:
            return room
    raise ConfigError(f"There is no room '{name}'; known are {', '.join(known)}.{near(name, known)}")


def listing(only: str | None = None) -> str:
    """Every room's names with the first sentence of each."""
    blocks = []
    for room in (find_room(only),) if only else rooms():
        names = registry.names(room)
        width = max(map(len, names))
        lines = [f"{room}:"]
        for name in names:
            text = registry.summary(registry.load(room, name))
            lines.append(f"  {name:<{width}}  {textwrap.shorten(text, WIDTH - width - 4, placeholder=' …')}")
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks) + "\n"


def explain(room: str, name: str) -> str:
    """A commented TOML table: summary, citations, and type, default and meaning of every key."""
    cls = registry.load(room, name)
    role = _role(room)
    lines = _comment(f"{getattr(cls, '__name__', name)}: {registry.summary(cls)}")
    references = getattr(cls, "references", ())
    if isinstance(references, (tuple, list)):
        lines += [f"# doi:{doi}" for doi in references]
    return _with_keys([*lines, f"[{role}]", f'kind = "{name}"'], cls, role)


def explain_table(role: str, cls: Any) -> str:
    """The same for a table without a `kind`, which one class reads, e.g. [simulation]."""
    return _with_keys([*_comment(registry.summary(cls)), f"[{role}]"], cls, role)


def _with_keys(lines: list[str], cls: Any, role: str) -> str:
    nested: list[str] = []
    for p in schema(cls):
        lines += ["", *_comment(_meaning(p)), *_assignment(p, role, nested)]
    return "\n".join(lines + nested) + "\n"


def _role(room: str) -> str:
    last = room.rsplit(".", 1)[-1]
    if last.endswith("ies"):
        return last[:-3] + "y"
    return last.removesuffix("s")


def _meaning(p: Parameter) -> str:
    text = p.text.rstrip(".") + ". " if p.text else ""
    return f"{text[:1].upper()}{text[1:]}({describe(p.hint)}{', required' if p.required else ''})"


def _assignment(p: Parameter, role: str, nested: list[str]) -> list[str]:
    if p.required:
        return [f"# {p.name} = …"]
    if p.default is None:
        return [f"# {p.name} is not set by default"]
    value = table_of(p.default)
    if isinstance(value, dict):
        nested += [
            "",
            *_comment(_meaning(p)),
            to_toml({role: {p.name: value}}).replace(f"[{role}]\n", "", 1).strip(),
        ]
        return [f"# {p.name} is the table [{role}.{p.name}] below"]
    return [to_toml({p.name: value}).strip()]


def _comment(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False)
