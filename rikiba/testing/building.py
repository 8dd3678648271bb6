"""Small instances of any registered class, and what to require of its constructor."""

import inspect
import re
from typing import Any

ELEMENTS = ("O", "Si")
"""Elements of generic examples."""

_COMPUTED: dict[str, Any] = {
    "elements": ELEMENTS,
    "atomic_energies": {"O": -2.0, "Si": -3.5},
    "avg_num_neighbors": 8.0,
    "scale": 0.8,
    "shift": 0.1,
    "temperature_K": 300.0,
    "pressure_GPa": 0.0,
}
"""Values for required arguments that have the same meaning in every class."""


def examples_of(cls: type) -> list[Any]:
    """Small instances: those of its classmethod `examples()`, else one built from its signature.

    Raises TypeError where a required argument has no usual meaning and there is no `examples()`.
    """
    own = getattr(cls, "examples", None)
    if own is not None:
        found = list(own())
        assert found, f"{cls.__name__}.examples() is empty."
        return found
    given: dict[str, Any] = {}
    for name, p in inspect.signature(cls).parameters.items():
        if p.default is not inspect.Parameter.empty or p.kind in (p.VAR_KEYWORD, p.VAR_POSITIONAL):
            continue
        if name not in _COMPUTED:
            raise TypeError(
                f"{cls.__name__} needs '{name}', which cannot be guessed. Give it a classmethod "
                f"`examples()` that returns a list of small instances."
            )
        given[name] = _COMPUTED[name]
    return [cls(**given)]


def check_constructor(cls: type) -> None:
    """Keyword-only, typed, and each argument documented as `name: text` under `Args:`."""
    parameters = {
        n: p
        for n, p in inspect.signature(cls).parameters.items()
        if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)
    }
    positional = [n for n, p in parameters.items() if p.kind is not p.KEYWORD_ONLY]
    assert not positional, f"{cls.__name__}: {', '.join(positional)} must be keyword-only."
    untyped = [n for n, p in parameters.items() if p.annotation is inspect.Parameter.empty]
    assert not untyped, (
        f"{cls.__name__}: {', '.join(untyped)} have no type hint; the signature is the schema."
    )
    text = f"{cls.__doc__ or ''}\n{cls.__init__.__doc__ or ''}"  # type: ignore[misc]
    assert (cls.__doc__ or "").strip(), f"{cls.__name__} has no docstring."
    silent = [n for n in parameters if not re.search(rf"^\s*{re.escape(n)}:\s+\S", text, re.MULTILINE)]
    assert not silent, f"{cls.__name__}: {', '.join(silent)} are not described under 'Args:'."
