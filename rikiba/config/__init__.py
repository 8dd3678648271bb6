"""A constructor's signature is the schema of its table.

Tables are named by role, `kind` picks the class from a room, every other key is a parameter of that class's
constructor. Types, defaults and documentation come from the signature, its type hints and the docstring.
"""

from .building import build, build_kind, build_kinds, check_tables, pick, resolve_table, resolved, table_of
from .explanation import explain, explain_table, find_room, listing, rooms
from .files import apply_settings, read, to_toml, write
from .schema import Parameter, schema
from .values import ConfigError, Mistakes, convert, describe

__all__ = [
    "ConfigError",
    "Mistakes",
    "Parameter",
    "apply_settings",
    "build",
    "build_kind",
    "build_kinds",
    "check_tables",
    "convert",
    "describe",
    "explain",
    "explain_table",
    "find_room",
    "listing",
    "pick",
    "read",
    "resolve_table",
    "resolved",
    "rooms",
    "schema",
    "table_of",
    "to_toml",
    "write",
]
