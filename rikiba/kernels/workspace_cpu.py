"""One array for all of a sweep's intermediate results, cut into parts inside compiled functions.

A sweep says the sizes of its parts once, as a tuple: their sum is what its caller allocates, and `carved` are
the parts.
"""

import numpy as np
from numba.core import types
from numba.extending import overload

from .compiled import compiled


def carved(space: np.ndarray, sizes: tuple[int, ...]) -> tuple[np.ndarray, ...]:
    """Neighbouring parts of a flat array, from its beginning on, one for each size."""
    ends = np.cumsum(sizes)
    return tuple(space[end - size : end] for size, end in zip(sizes, ends, strict=True))


@overload(carved)
def _carved(space, sizes):  # type: ignore[no-untyped-def]
    """Some parts and then the rest: the length of a tuple is known only while a function is compiled.

    Five at a time, as each length that is met is a function to compile.
    """
    if not isinstance(sizes, types.BaseTuple):
        return None
    if len(sizes) == 1:
        return lambda space, sizes: (space[: sizes[0]],)
    if len(sizes) < 6:
        return lambda space, sizes: (space[: sizes[0]], *carved(space[sizes[0] :], sizes[1:]))

    def five(space, sizes):  # type: ignore[no-untyped-def]
        a = sizes[0]
        b = a + sizes[1]
        c = b + sizes[2]
        d = c + sizes[3]
        e = d + sizes[4]
        first = (space[:a], space[a:b], space[b:c], space[c:d], space[d:e])
        return (*first, *carved(space[e:], sizes[5:]))

    return five


@compiled
def widest_hidden(net):  # type: ignore[no-untyped-def]
    """Width of the widest hidden layer of a `dense_cpu.Network`; 0 where there is none."""
    widest = 0
    for w in net.widths[1:-1]:
        widest = max(widest, w)
    return widest
