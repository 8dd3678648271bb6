"""TOML files in and out, and settings from the command line."""

import copy
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from .values import ConfigError, shown


def read(path: str | Path) -> dict[str, Any]:
    """The tables of a TOML file. Raises ConfigError where it is no TOML, FileNotFoundError for no file."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no configuration file '{path}'.")
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"'{path}' is not valid TOML: {error}.") from error


def apply_settings(config: Mapping[str, Any], settings: Iterable[str]) -> dict[str, Any]:
    """A copy of the configuration with `table.key=value` settings put in.

    The value is TOML; a bare word is a string. Keys are dotted; a number picks from an array of tables
    (`potential.0.channels=16`). Raises ConfigError for a setting that does not fit.
    """
    changed = copy.deepcopy(dict(config))
    for setting in settings:
        path, equals, text = setting.partition("=")
        keys = [k.strip() for k in path.split(".")]
        if not equals or not all(keys):
            raise ConfigError(f"--set takes table.key=value; given '{setting}'.")
        _put(changed, keys, _value(text.strip(), setting), setting)
    return changed


def to_toml(config: Mapping[str, Any]) -> str:
    """TOML text of plain tables; None is left out."""
    import tomli_w

    return tomli_w.dumps(_without_none(config))


def write(config: Mapping[str, Any], path: str | Path) -> Path:
    """Write plain tables as a TOML file."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(to_toml(config), encoding="utf-8")
    return path


def _value(text: str, setting: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError as error:
        if re.fullmatch(r"[\w./:+~-]+", text):
            return text
        raise ConfigError(f"--set {setting}: the value is not valid TOML: {error}.") from error


def _put(tree: Any, keys: list[str], value: Any, setting: str) -> None:
    for depth, key in enumerate(keys):
        last = depth == len(keys) - 1
        where = ".".join(keys[:depth]) or "the file"
        if isinstance(tree, list):
            if not key.isdigit() or int(key) >= len(tree):
                raise ConfigError(
                    f"--set {setting}: {where} is a list of {len(tree)}; pick one by its number, "
                    f"0 to {len(tree) - 1}, e.g. {where}.0.{'.'.join(keys[depth:])}."
                )
            slot: Any = int(key)
        elif isinstance(tree, dict):
            slot = key
            if not last:
                tree.setdefault(key, {})
        else:
            raise ConfigError(f"--set {setting}: {where} is {shown(tree)}, not a table.")
        if last:
            tree[slot] = value
        else:
            tree = tree[slot]


def _without_none(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _without_none(v) for k, v in value.items() if v is not None}
    if isinstance(value, (list, tuple)):
        return [_without_none(v) for v in value]
    return value
