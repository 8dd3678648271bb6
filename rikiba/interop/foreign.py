"""Other programs' files of weights: which reader knows one, and the potential it holds.

A reader joins by being a module of this folder with two functions: `recognises(file: ForeignFile) -> bool`,
and `read_file(*, path, …) -> Weights`, whose further arguments are what the file does not say. One that also
has `pretrained(…) -> Weights` and is called as the kind of potential gives that kind its published weights.
"""

import ast
import importlib
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch

from rikiba import config
from rikiba.core import registry
from rikiba.potentials.base import Potential

from .foreign_file import ForeignFile
from .mace_torch import Weights


@cache
def _functions() -> dict[str, frozenset[str]]:
    """Module → functions at its top level, from its text."""
    found = {}
    for file in sorted(Path(__file__).parent.glob("*.py")):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        found[file.stem] = frozenset(n.name for n in tree.body if isinstance(n, ast.FunctionDef))
    return found


def formats() -> tuple[str, ...]:
    """Names of the readers of files."""
    return tuple(name for name, has in _functions().items() if {"recognises", "read_file"} <= has)


def pretrained(kind: str) -> Callable[..., Weights] | None:
    """The function that finds published weights of this kind of potential; None where there is none."""
    if "pretrained" not in _functions().get(kind, ()) or kind not in registry.names("potentials"):
        return None
    return _module(kind).pretrained  # type: ignore[no-any-return]


def read_foreign(
    path: str | Path, *, format: str | None = None, options: Mapping[str, Any] | None = None
) -> Weights:
    """What a file holds, by the reader that recognises it, or the one of this name.

    Raises FileNotFoundError, and ValueError for a file that no reader or several know, that a reader refuses,
    and for options that it does not have.
    """
    file = ForeignFile(path)
    if format is not None and format not in formats():
        raise ValueError(f"There is no format '{format}'; known are {', '.join(formats())}.")
    found = [format] if format else [name for name in formats() if _module(name).recognises(file)]
    if not found and file.refused:
        raise ValueError(
            f"'{path}' holds Python objects, which are never loaded here. Save the model's state_dict() with "
            f"torch.save and convert that. (torch says: {file.refused.splitlines()[0]})"
        )
    if len(found) != 1:
        known = f"several readers know it ({', '.join(found)}); choose one" if found else "no reader knows it"
        raise ValueError(f"'{path}': {known}. Readers are {', '.join(formats())}.")
    table = dict(options or {}) | {"path": str(path)}
    try:
        weights: Weights = config.build(_module(found[0]).read_file, table, where=f"[{found[0]}]")
    except (KeyError, IndexError, AttributeError, RuntimeError) as error:
        raise ValueError(
            f"'{path}' cannot be read as {found[0]}: {type(error).__name__}: {_one_line(error)[:200]}"
        ) from error
    return weights


def build(weights: Weights, dtype: torch.dtype | None = None) -> Potential:
    """The potential of these arguments and tensors; in float32 unless said otherwise."""
    names = registry.names("potentials")
    kind = next((n for n in names if registry.class_name_matches(n, weights.class_name)), None)
    if kind is None:
        raise ValueError(f"There is no potential '{weights.class_name}'; known are {', '.join(names)}.")
    potential: Potential = registry.load("potentials", kind)(**weights.arguments)
    if dtype is not None:
        potential = potential.to(dtype)
    if weights.tensors:
        try:
            potential.load_state_dict(weights.tensors, strict=True)
        except RuntimeError as error:
            raise ValueError(f"The tensors do not fit {weights.class_name}: {_one_line(error)}") from error
    return potential


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _module(name: str) -> Any:
    return importlib.import_module(f"{__package__}.{name}")
