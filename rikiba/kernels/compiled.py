"""Numba compilation with the result cached on disk where a folder is writable."""

import warnings
from collections.abc import Callable
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
    """`numba.njit` without fast-math (IEEE arithmetic), cached on disk if possible, releasing the GIL."""
    try:
        return numba.njit(cache=True, nogil=True)(function)
    except RuntimeError as error:  # no writable place for the cache
        _say_uncached(str(error))
        return numba.njit(nogil=True)(function)


def inlined(function: Callable[..., Any]) -> Any:
    """A part of compiled functions, copied into each: a call would count references to its arrays."""
    return numba.njit(inline="always", nogil=True)(function)
