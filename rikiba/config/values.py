"""From what TOML holds to what a type hint asks for, or an error that says what was given and allowed."""

import collections.abc
import difflib
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, Union

NONE = "none"
"""How a file says None, which TOML cannot."""

MakeObject = Callable[[type, Mapping[str, Any], str], Any]
"""(class of the hint, table, where) → object."""


class ConfigError(ValueError):
    """A configuration that cannot be built: of each mistake says where, what was given, what is allowed."""

    def __init__(self, *mistakes: str) -> None:
        self.mistakes = tuple(dict.fromkeys(mistakes))
        super().__init__(*self.mistakes)

    def __str__(self) -> str:
        if len(self.mistakes) == 1:
            return self.mistakes[0]
        return "\n- ".join([f"{len(self.mistakes)} mistakes:", *self.mistakes])


class Mistakes:
    """Mistakes of a configuration, gathered part by part so that all are reported at once."""

    def __init__(self) -> None:
        self._found: list[str] = []
        self._errors: list[Exception] = []

    def among(self, make: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        """What `make` gives; None where it finds mistakes, which `check` will report."""
        try:
            return make(*arguments, **named)
        except (ValueError, FileNotFoundError) as error:
            self._errors.append(error)
            self.add(*(error.mistakes if isinstance(error, ConfigError) else (_words(error),)))
            return None

    def add(self, *mistakes: str) -> None:
        """Mistakes found otherwise."""
        self._found += mistakes

    def check(self) -> None:
        """Raise ConfigError with all that were found, if any were; a single error of any kind as it is."""
        if len(self._found) == 1 and self._errors:
            raise self._errors[0]
        if self._found:
            raise ConfigError(*self._found)


def _words(error: Exception) -> str:
    if isinstance(error, FileNotFoundError) and error.filename is not None:
        return f"There is no file '{error.filename}'."
    return str(error)


class _MismatchError(Exception):
    """A value is not of the type of its hint."""


_SEQUENCES = (list, tuple, set, frozenset, collections.abc.Sequence, collections.abc.Iterable)
_MAPPINGS = (dict, collections.abc.Mapping)
_PLAIN = {int: "integer", float: "number", str: "string", bool: "true or false", Path: "path"}


def convert(value: Any, hint: Any, where: str, make: MakeObject | None = None) -> Any:
    """The value as its type hint asks for it.

    An integer serves as a number, a list as a tuple, a table as an object of the hint's class (by `make`),
    the string "none" as None where None is allowed. Raises ConfigError for anything else.
    """
    try:
        return _convert(value, hint, where, make)
    except _MismatchError:
        raise ConfigError(f"{where} must be {article(describe(hint))}; given {shown(value)}.") from None


def _convert(value: Any, hint: Any, where: str, make: MakeObject | None) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any or isinstance(hint, (str, typing.TypeVar)):
        return value
    if origin is typing.Annotated or origin in (typing.Final, typing.ClassVar):
        return _convert(value, arguments[0], where, make)
    if origin in (Union, types.UnionType):
        return _one_of(value, arguments, where, make)
    if origin is Literal:
        return _literal(value, arguments, where)
    if origin in _SEQUENCES or hint in _SEQUENCES:
        return _sequence(value, origin or hint, arguments, where, make)
    if origin in _MAPPINGS or hint in _MAPPINGS:
        return _mapping(value, arguments, where, make)
    if hint is None or hint is type(None):
        if value is None or value == NONE:
            return None
        raise _MismatchError
    return _scalar(value, hint, where, make)


def _scalar(value: Any, hint: Any, where: str, make: MakeObject | None) -> Any:
    if hint is Path and isinstance(value, str):
        return Path(value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint in (int, float) and isinstance(value, bool):
        raise _MismatchError
    if not isinstance(hint, type):
        return value
    if isinstance(value, Mapping) and hint not in _PLAIN and make is not None:
        return make(hint, value, where)
    if getattr(hint, "_is_protocol", False) and not isinstance(value, (str, int, float, list)):
        return value
    if not isinstance(value, hint):
        raise _MismatchError
    return value


def _one_of(value: Any, hints: tuple[Any, ...], where: str, make: MakeObject | None) -> Any:
    if type(None) in hints and value == NONE and str not in hints:
        return None
    exact = [h for h in hints if isinstance(h, type) and type(value) is h]
    failures = []
    for hint in [*exact, *hints]:
        try:
            return _convert(value, hint, where, make)
        except _MismatchError:
            continue
        except ConfigError as error:
            failures.append(error)
    if failures:
        raise failures[0]
    raise _MismatchError


def _literal(value: Any, allowed: tuple[Any, ...], where: str) -> Any:
    for option in allowed:
        if value == option and type(value) is type(option):
            return value
    if value == NONE and None in allowed:
        return None
    raise ConfigError(
        f"{where} must be {describe(Literal[allowed])}; given {shown(value)}.{near(value, allowed)}"
    )


def _sequence(
    value: Any, origin: Any, arguments: tuple[Any, ...], where: str, make: MakeObject | None
) -> Any:
    if isinstance(value, (str, Mapping)) or not isinstance(value, collections.abc.Iterable):
        raise _MismatchError
    items = list(value)
    if origin is tuple and arguments and arguments[-1] is not Ellipsis:
        if len(items) != len(arguments):
            raise ConfigError(
                f"{where} must hold {len(arguments)} values; given {len(items)}: {shown(value)}."
            )
        hints = list(arguments)
    else:
        hints = [arguments[0] if arguments else Any] * len(items)
    converted = [
        convert(v, h, f"{where}[{k}]", make) for k, (v, h) in enumerate(zip(items, hints, strict=True))
    ]
    if origin in (list, set, frozenset):
        return origin(converted)
    return tuple(converted)


def _mapping(value: Any, arguments: tuple[Any, ...], where: str, make: MakeObject | None) -> dict[Any, Any]:
    if not isinstance(value, Mapping):
        raise _MismatchError
    key_hint, value_hint = arguments or (Any, Any)
    return {_key(k, key_hint): convert(v, value_hint, f"{where}.{k}", make) for k, v in value.items()}


def _key(key: Any, hint: Any) -> Any:
    if hint is int and isinstance(key, str):  # TOML keys are always strings
        try:
            return int(key)
        except ValueError:
            raise _MismatchError from None
    return key


def describe(hint: Any) -> str:
    """A type hint in words: 'number', 'list of strings', "one of 'a', 'b'"."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any or isinstance(hint, (str, typing.TypeVar)):
        return "anything"
    if hint in _PLAIN:
        return _PLAIN[hint]
    if hint is None or hint is type(None):
        return f'"{NONE}"'
    if origin is typing.Annotated:
        return describe(arguments[0])
    if origin in (Union, types.UnionType):
        return " or ".join(describe(h) for h in arguments)
    if origin is Literal:
        return "one of " + ", ".join(repr(a) for a in arguments)
    if origin in _MAPPINGS or hint in _MAPPINGS:
        return f"table of {_plural(describe(arguments[1]))} by name" if arguments else "table"
    if origin in _SEQUENCES or hint in _SEQUENCES:
        return _describe_sequence(origin, arguments)
    name = getattr(hint, "__name__", str(hint))
    return f"{name} table" if isinstance(hint, type) else name


def _describe_sequence(origin: Any, arguments: tuple[Any, ...]) -> str:
    if not arguments:
        return "list"
    if origin is tuple and arguments[-1] is not Ellipsis:
        if len(set(arguments)) == 1:
            return f"list of {len(arguments)} {_plural(describe(arguments[0]))}"
        return f"list ({', '.join(describe(a) for a in arguments)})"
    return f"list of {_plural(describe(arguments[0]))}"


def _plural(words: str) -> str:
    return words + "s" if words.isalpha() or words.endswith(" table") else f"({words})"


def article(words: str) -> str:
    """'a number', 'an integer'; nothing before 'one of', 'true', quotes and 'anything'."""
    if words.startswith(("one of", "true", '"', "anything")):
        return words
    return f"an {words}" if words[0].lower() in "aeiou" else f"a {words}"


def shown(value: Any) -> str:
    """A value as a file would write it, cut to one line."""
    text = " ".join(_inline(value).split())
    return text if len(text) <= 80 else text[:79] + "…"


def _inline(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{k} = {_inline(v)}" for k, v in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_inline, value)) + "]"
    return repr(value)


def near(given: Any, allowed: Iterable[Any]) -> str:
    """ " Did you mean 'x'?" where something allowed is close to what was given, else nothing."""
    close = difflib.get_close_matches(str(given), [str(a) for a in allowed], n=1)
    return f" Did you mean '{close[0]}'?" if close else ""
