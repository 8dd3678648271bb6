"""Tables into objects, and objects back into tables with every default filled in."""

import dataclasses
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Any

from rikiba.core import registry

from .files import to_toml
from .schema import Parameter, schema, takes_any_key
from .values import ConfigError, Mistakes, article, convert, describe, near, shown


def build(
    cls: Any, table: Mapping[str, Any], *, where: str = "[table]", computed: Mapping[str, Any] | None = None
) -> Any:
    """An object of `cls` (or the answer of a function) from the keys of a table.

    `computed` values serve parameters that the signature has and the table does not give. A key `kind` names
    the class and is no argument. Raises ConfigError for a wrong or missing key, a value of the wrong type, or
    what the constructor itself refuses.
    """
    arguments = _arguments(cls, table, where, computed or {})
    try:
        return cls(**arguments)
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError(f"{where}: {error}") from error


def build_kind(
    room: str,
    table: Mapping[str, Any],
    *,
    where: str = "[table]",
    default: str | None = None,
    computed: Mapping[str, Any] | None = None,
) -> Any:
    """An object of the class that the table's `kind` names in a room ('potentials', 'reference' …)."""
    return build(pick(room, table, where=where, default=default), table, where=where, computed=computed)


def pick(room: str, table: Mapping[str, Any], *, where: str = "[table]", default: str | None = None) -> Any:
    """The class that the table's `kind` names in a room. Raises ConfigError where it names none."""
    if not isinstance(table, Mapping):
        raise ConfigError(f"{where} must be a table; given {shown(table)}.")
    kind = table.get("kind", default)
    if kind is None:
        raise ConfigError(f"{where} has no 'kind'; known are {', '.join(registry.names(room))}.")
    if not isinstance(kind, str):
        raise ConfigError(f"{where} kind must be a string; given {shown(kind)}.")
    try:
        return registry.load(room, kind)
    except registry.UnknownName as error:
        raise ConfigError(f"{where}: {error}") from error


def build_kinds(
    room: str, content: Any, *, role: str, computed: Mapping[str, Any] | None = None
) -> tuple[Any, ...]:
    """One object for each table [[role]], of the class its `kind` names; a single table is a list of one.

    Raises ConfigError with the mistakes of all of them.
    """
    listed = [content] if isinstance(content, Mapping) else content
    if not isinstance(listed, (list, tuple)):
        raise ConfigError(f"[[{role}]] is a table with a kind, once for each; given {shown(content)}.")
    mistakes = Mistakes()
    found = [
        mistakes.among(build_kind, room, table, where=f"[[{role}]] {k + 1}", computed=computed)
        for k, table in enumerate(listed)
    ]
    mistakes.check()
    return tuple(found)


def check_tables(config: Mapping[str, Any], allowed: Sequence[str]) -> None:
    """Raise ConfigError for top-level tables and keys that nothing reads."""
    wrong = [
        f"There is no table [{name}]; known are {', '.join(allowed)}.{near(name, allowed)}"
        for name in config
        if name not in allowed
    ]
    if wrong:
        raise ConfigError(*wrong)


def resolve_table(
    cls: Any, table: Mapping[str, Any], *, where: str = "[table]", computed: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The table with computed values and every default, as TOML can hold it; checked like `build`."""
    given = _arguments(cls, table, where, computed or {})
    full: dict[str, Any] = {"kind": table["kind"]} if "kind" in table else {}
    for p in schema(cls):
        value = given.get(p.name, p.default)
        full[p.name] = "none" if value is None and p.default is not None else table_of(value)
    full |= {k: table_of(v) for k, v in given.items() if k not in full}
    return {k: v for k, v in full.items() if v is not None}


def resolved(
    config: Mapping[str, Any],
    rooms: Mapping[str, Any],
    *,
    computed: Mapping[str, Mapping[str, Any]] | None = None,
) -> str:
    """The whole configuration as TOML text with every default written out.

    Args:
        config: tables by role.
        rooms: role → room whose `kind` picks the class ('potentials'), or the class itself. A role may be a
            dotted path with wildcards ('model.*.potential'); below one that ends in `.*` the table's own
            name is its kind where it gives none.
        computed: role → values that the data gave.
    """
    return to_toml(_filled(config, "", rooms, computed or {}))


def _filled(
    value: Any, path: str, rooms: Mapping[str, Any], computed: Mapping[str, Mapping[str, Any]]
) -> Any:
    """A table with the defaults of every table below it that a role names."""
    role = next((r for r in rooms if path and fnmatchcase(path, r)), None)
    if role is not None and isinstance(value, list):
        return [
            _filled_one(t, f"[[{path}]] {k + 1}", role, rooms, computed.get(path))
            for k, t in enumerate(value)
        ]
    if role is not None:
        return _filled_one(value, f"[{path}]", role, rooms, computed.get(path))
    if isinstance(value, Mapping):
        return {k: _filled(v, f"{path}.{k}" if path else k, rooms, computed) for k, v in value.items()}
    return table_of(value)


def _filled_one(
    table: Mapping[str, Any],
    where: str,
    role: str,
    rooms: Mapping[str, Any],
    computed: Mapping[str, Any] | None,
) -> dict[str, Any]:
    cls = rooms[role]
    if isinstance(cls, str):
        name = where.strip("[]").rsplit(".", 1)[-1] if role.endswith(".*") else None
        cls = pick(cls, table, where=where, default=name)
    return resolve_table(cls, table, where=where, computed=computed)


def table_of(value: Any) -> Any:
    """What TOML can hold of a value: numbers, strings, lists, tables; objects become tables of arguments."""
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {str(k): table_of(v) for k, v in value.items() if v is not None}
    if isinstance(value, (list, tuple, set, frozenset)):
        items = sorted(value) if isinstance(value, (set, frozenset)) else value
        return [table_of(v) for v in items]
    if hasattr(value, "tolist"):
        return table_of(value.tolist())
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        arguments = {f.name: getattr(value, f.name) for f in dataclasses.fields(value) if f.init}
        return _kind(value) | table_of(arguments)
    if isinstance(getattr(value, "arguments", None), Mapping):
        return _kind(value) | table_of(value.arguments)
    return str(value)


def _arguments(cls: Any, table: Mapping[str, Any], where: str, computed: Mapping[str, Any]) -> dict[str, Any]:
    if not isinstance(table, Mapping):
        raise ConfigError(f"{where} must be a table; given {shown(table)}.")
    known = {p.name: p for p in schema(cls)}
    keys = {k: v for k, v in table.items() if k != "kind" or k in known}
    arguments = {k: v for k, v in computed.items() if k in known and k not in keys}
    free, mistakes = takes_any_key(cls), Mistakes()
    wrong = [] if free else [key for key in keys if key not in known]
    mistakes.add(*(_wrong_key(key, list(known), cls, where) for key in wrong))
    for key, value in keys.items():
        if key not in wrong:
            hint = known[key].hint if key in known else Any
            make = partial(_make, computed=computed)
            arguments[key] = mistakes.among(convert, value, hint, f"{where} {key}", make)
    missing = [p for p in known.values() if p.required and p.name not in arguments]
    if missing:
        mistakes.add(_missing(missing, cls, where))
    mistakes.check()
    return arguments


def _make(hint: type, table: Mapping[str, Any], where: str, computed: Mapping[str, Any]) -> Any:
    """An object from a nested table: of the class its `kind` names, or of the hint's class itself.

    Computed values serve the parts of a whole (the terms of a sum) as they serve the whole.
    """
    room = room_of(hint)
    if "kind" not in table:
        if _abstract(hint):
            known = f"; known are {', '.join(registry.names(room))}" if room else ""
            raise ConfigError(f"{where} needs a 'kind' that names {article(hint.__name__)}{known}.")
        return build(hint, table, where=where, computed=computed)
    if room is None:
        raise ConfigError(f"{where} is {article(hint.__name__)}, which has no kinds; leave 'kind' out.")
    cls = pick(room, table, where=where)
    if isinstance(cls, type) and not getattr(hint, "_is_protocol", False) and not issubclass(cls, hint):
        raise ConfigError(
            f"{where} kind '{table['kind']}' is {article(cls.__name__)}, not {article(hint.__name__)}."
        )
    return build(cls, table, where=where, computed=computed)


def room_of(cls: type) -> str | None:
    """The room that a class stands in: 'potentials' for a class of rikiba/potentials/x.py."""
    parts = cls.__module__.split(".")
    return ".".join(parts[1:-1]) if parts[0] == "rikiba" and len(parts) > 2 else None


def _abstract(cls: type) -> bool:
    return bool(getattr(cls, "__abstractmethods__", None)) or bool(getattr(cls, "_is_protocol", False))


def _kind(value: Any) -> dict[str, Any]:
    room = room_of(type(value))
    name = registry.name_of(room, type(value)) if room else ""
    return {"kind": name} if name and (room is None or name in registry.names(room)) else {}


def _wrong_key(key: str, known: list[str], cls: Any, where: str) -> str:
    allowed = ", ".join(known) if known else "none"
    return f"{where} has no key '{key}' for {cls.__name__}.{near(key, known)} Allowed keys: {allowed}."


def _missing(missing: Sequence[Parameter], cls: Any, where: str) -> str:
    wanted = "; ".join(
        f"'{p.name}' ({describe(p.hint)}{': ' + p.text.rstrip('.') if p.text else ''})" for p in missing
    )
    return f"{where} lacks {wanted}, which {cls.__name__} needs."
