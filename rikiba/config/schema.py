"""What a constructor takes, read from its signature, type hints and docstrings."""

import ast
import dataclasses
import inspect
import re
import textwrap
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, final

REQUIRED: Any = inspect.Parameter.empty
"""Default of a parameter that has none."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One constructor argument."""

    name: str
    hint: Any
    """Type annotation; `typing.Any` where there is none."""
    default: Any
    """`REQUIRED` where there is none."""
    text: str
    """Documentation; empty where there is none."""

    @property
    def required(self) -> bool:
        return self.default is REQUIRED


def schema(cls: Callable[..., Any]) -> tuple[Parameter, ...]:
    """Arguments of a class's constructor, or of a function, in the order of its signature."""
    function = _constructor(cls)
    if function is None:
        return ()
    hints = _hints(function)
    texts = documentation(cls)
    factories = _default_factories(cls)
    found = []
    for name, p in inspect.signature(function).parameters.items():
        if name == "self" or p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD):
            continue
        default = factories[name]() if name in factories else p.default
        hint = hints.get(name, Any)
        found.append(Parameter(name=name, hint=hint, default=default, text=texts.get(name, "")))
    return tuple(found)


def takes_any_key(cls: Callable[..., Any]) -> bool:
    """True where the constructor has `**keywords`."""
    function = _constructor(cls)
    if function is None:
        return False
    return any(p.kind is p.VAR_KEYWORD for p in inspect.signature(function).parameters.values())


def documentation(cls: Callable[..., Any]) -> dict[str, str]:
    """Argument → text, from `Args:` in the docstrings and from strings below the fields of a dataclass."""
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__ if isinstance(cls, type) else (cls,)):
        if base is object:
            continue
        if dataclasses.is_dataclass(base):
            found |= _field_texts(base)
        found |= _args_section(vars(base).get("__doc__") if isinstance(base, type) else base.__doc__)
        if isinstance(base, type) and "__init__" in vars(base):
            found |= _args_section(vars(base)["__init__"].__doc__)
    return found


def _constructor(cls: Callable[..., Any]) -> Callable[..., Any] | None:
    if not isinstance(cls, type):
        return cls
    function: Callable[..., Any] = cls.__init__  # type: ignore[misc]
    return None if function is object.__init__ else function


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    """Type hints; those of a third party that only a type checker can resolve stay text, so unchecked."""
    try:
        return typing.get_type_hints(function)
    except NameError:
        return dict(getattr(function, "__annotations__", {}))


def _default_factories(cls: Any) -> dict[str, Callable[[], Any]]:
    if not dataclasses.is_dataclass(cls):
        return {}
    return {
        f.name: f.default_factory
        for f in dataclasses.fields(cls)
        if f.default_factory is not dataclasses.MISSING
    }


def _args_section(doc: str | None) -> dict[str, str]:
    """`name: text` entries below `Args:`; continuation lines are indented further."""
    if not doc:
        return {}
    lines = inspect.cleandoc(doc).splitlines()
    starts = [k for k, line in enumerate(lines) if line.strip() == "Args:"]
    if not starts:
        return {}
    found: dict[str, str] = {}
    current, indent = "", None
    for line in lines[starts[0] + 1 :]:
        if not line.strip():
            continue
        depth = len(line) - len(line.lstrip())
        if depth == 0:
            break
        indent = depth if indent is None else indent
        entry = re.match(r"\s*\**([A-Za-z_]\w*)(?:\s*\([^)]*\))?:\s*(.*)", line) if depth == indent else None
        if entry:
            current = entry[1]
            found[current] = entry[2].strip()
        elif current:
            found[current] = f"{found[current]} {line.strip()}".strip()
    return found


def _field_texts(cls: type) -> dict[str, str]:
    """Strings below the fields of a dataclass, from its source; none where the source cannot be read."""
    try:
        body = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0]
    except (OSError, TypeError, SyntaxError):
        return {}
    assert isinstance(body, ast.ClassDef)
    found: dict[str, str] = {}
    for field, below in zip(body.body, body.body[1:], strict=False):
        if not (isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)):
            continue
        if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
            found[field.target.id] = " ".join(str(below.value.value).split())
    return found
