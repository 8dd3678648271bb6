"""Numba compilation with the result cached on disk where a folder is writable."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import numba


@cache
def _say_uncached(reason: str) -> None:
    warnings.warn(
        f"Compiled kernels cannot be cached on disk ({reason}); they are compiled anew in each process. "
        "Set NUMBA_CACHE_DIR to a writable folder to avoid this.",
        RuntimeWarning,
        stacklevel=3,
    )


def compiled(function: Callable[..., Any]) -> Any:
    """`numba.njit` without fast-math (IEEE arithmetic), cached on disk if possible, releasing the GIL.

    Other compiled functions call it for the types of their arguments alone: Numba would make a version for
    every mixture of constants and variables among them, a dozen of one dense layer in one network.
    """
    try:
        return _of_types(numba.njit(cache=True, nogil=True)(function))
    except RuntimeError as error:  # no writable place for the cache
        _say_uncached(str(error))
        return _of_types(numba.njit(nogil=True)(function))


def _of_types(dispatcher: Any) -> Any:
    """The function with constants among a compiled caller's arguments taken for numbers of their types."""
    template = dispatcher.get_call_template

    def without_constants(args: Sequence[Any], keywords: Mapping[str, Any]) -> Any:
        plain = tuple(numba.types.unliteral(a) for a in args)
        return template(plain, {k: numba.types.unliteral(a) for k, a in keywords.items()})

    dispatcher.get_call_template = without_constants
    return dispatcher


def inlined(function: Callable[..., Any]) -> Any:
    """A part of compiled functions, copied into each: a call would count references to its arrays."""
    return numba.njit(inline="always", nogil=True)(function)
