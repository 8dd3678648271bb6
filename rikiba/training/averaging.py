"""Exponential moving average of parameters, which smooths the noise of small batches."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import final

import torch
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn


@final
class Average:
    """θ̄ ← d_t θ̄ + (1 − d_t) θ with d_t = min(decay, (1 + t)/(10 + t)), t = 1, 2, … the updates done.

    The rising d_t is the warm-up: it keeps the initial, random parameters from weighing on short runs, so no
    further debiasing is applied. A decay of None keeps θ̄ = θ.

    Args:
        parameters: what is averaged.
        decay: limit of d_t, in [0, 1), or None.
    """

    def __init__(self, parameters: Sequence[Tensor], decay: float | None) -> None:
        if decay is not None and not 0.0 <= decay < 1.0:
            raise ValueError(f"ema_decay lies in [0, 1), or is none; given {decay}.")
        self.parameters = list(parameters)
        self.decay = decay
        self.values: list[Tensor] = []
        self.restart()

    def restart(self) -> None:
        """Begin anew from the parameters' present values."""
        self.updates = 0
        self.values = [] if self.decay is None else [p.detach().clone() for p in self.parameters]

    @torch.no_grad()
    def update(self) -> None:
        """Take the parameters' present values in."""
        self.updates += 1
        if self.decay is not None and self.values:
            decay = min(self.decay, (1.0 + self.updates) / (10.0 + self.updates))
            get_ema_multi_avg_fn(decay)(self.values, [p.detach() for p in self.parameters], self.updates)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Inside the block the parameters hold their averages."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def _swap(self) -> None:
        for k, value in enumerate(self.values):
            p = self.parameters[k]
            p.data, self.values[k] = value, p.data
