"""One array cut into parts by compiled functions, as NumPy cuts it."""

import numpy as np
import pytest
from numba.core.errors import TypingError

from rikiba.kernels.compiled import compiled
from rikiba.kernels.workspace_cpu import carved


@compiled
def _cut(space, sizes):  # type: ignore[no-untyped-def]
    return carved(space, sizes)


@pytest.mark.parametrize("sizes", [(4,), (2, 0, 3, 5), (1,) * 19])
def test_parts_lie_one_behind_the_other(sizes: tuple[int, ...]) -> None:
    space = np.arange(20.0)
    parts = _cut(space, sizes)
    assert len(parts) == len(sizes)
    for part, right, size in zip(parts, carved(space, sizes), sizes, strict=True):
        np.testing.assert_array_equal(part, right)
        assert len(part) == size and np.shares_memory(part, space) == (size > 0)
    assert parts[-1][-1] == sum(sizes) - 1.0
    parts[-1][-1] = -1.0  # parts are views: what is written to one stands in the whole
    assert space[sum(sizes) - 1] == -1.0


def test_sizes_are_a_tuple() -> None:
    with pytest.raises(TypingError):
        _cut(np.arange(20.0), np.array([2, 3]))
