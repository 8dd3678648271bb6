"""Constants that keep float64 whatever the precision of the parameters around them is."""

from collections.abc import Callable
from typing import Self

import torch
from torch import Tensor, nn


class DoubleBuffers(nn.Module):
    """A module whose own float64 buffers move between devices but are never rounded.

    `.to(torch.float32)` would otherwise change a published constant in its eighth digit, for good: casting
    back does not restore it, and a file would hold another constant than its recipe. Submodules follow
    their own rule.
    """

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        kept = {k: b for k, b in self._buffers.items() if b is not None and b.dtype == torch.float64}
        super()._apply(fn, recurse)
        for name, value in kept.items():
            moved = self._buffers[name]
            assert moved is not None
            self._buffers[name] = value.to(moved.device)
        return self
