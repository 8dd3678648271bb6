"""What every Triton kernel here needs before it can start: plain tensors, block sizes, rows by index."""

from typing import Any, NamedTuple

import torch
import triton
from jaxtyping import Int
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary


def suits(*tensors: Tensor | None) -> bool:
    """Whether a kernel takes these: float32 or float64, of one dtype, not wrapped by a transform."""
    given = [t for t in tensors if t is not None]
    plain = not any(torch._C._functorch.is_functorch_wrapped_tensor(t) for t in given)
    floats = {t.dtype for t in given if t.dtype.is_floating_point}
    return plain and len(floats) == 1 and floats <= {torch.float32, torch.float64}


def power_of_two(n: int) -> int:
    """The smallest power of two that is at least n."""
    return 1 << max(n - 1, 0).bit_length()


def tile(n_fast: int, like: Tensor, *, largest: int = 128, elements: int = 1024) -> tuple[int, int]:
    """Block sizes (slow, fast) of a register tile whose fast axis has n_fast elements."""
    fast = min(power_of_two(n_fast), largest)
    budget = elements if like.dtype == torch.float32 else elements // 2
    return max(budget // fast, 1), fast


def warps(elements: int) -> int:
    """Warps of 32 threads for a tile of so many elements."""
    return max(1, min(8, elements // 256))


def start(kernel: Any, grid: tuple[int, ...], on: Tensor, *args: Any, **constants: Any) -> None:
    """Run a kernel on the device of `on`; nothing is done for an empty grid."""
    if min(grid) > 0:
        with torch.cuda.device_of(on):
            kernel[grid](*args, **constants)


def blocks(n: int, size: int) -> int:
    """How many blocks of that size hold n."""
    return triton.cdiv(n, size)


class Segments(NamedTuple):
    """Rows by their index: those of segment s are order[first[s]] … order[first[s + 1] − 1], in row order."""

    order: Int[Tensor, "rows"] | None
    """None where the rows are sorted already."""
    first: Int[Tensor, "segments_plus_1"]


_KNOWN: WeakTensorKeyDictionary = WeakTensorKeyDictionary()
"""index → (its version, number of segments, segments): a pair list is used by many launches of one step."""


def segments_of(index: Int[Tensor, "rows"], n: int) -> Segments:
    """The rows of every index 0 … n − 1. Remembered while the index tensor lives and is not written to."""
    if index.is_inference():  # nothing tells when such a tensor is written to
        return _segments(index, n)
    known = _KNOWN.get(index)
    if known is None or known[:2] != (index._version, n):
        known = (index._version, n, _segments(index, n))
        _KNOWN[index] = known
    return known[2]  # type: ignore[no-any-return]


def _segments(index: Tensor, n: int) -> Segments:
    order, ascending = None, index
    if not bool((index[1:] >= index[:-1]).all()):
        ascending, order = torch.sort(index, stable=True)
    first = torch.searchsorted(ascending, torch.arange(n + 1, device=index.device))
    return Segments(order, first)
