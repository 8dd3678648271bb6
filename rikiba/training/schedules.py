"""How the learning rate falls: pure functions of progress and of the validation losses so far.

A schedule keeps no state, so a resumed run follows it exactly.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, final


class Schedule(Protocol):
    """Factor on the learning rate."""

    def __call__(self, fraction: float, losses: Sequence[float]) -> float:
        """`fraction` of the training done, 0 to 1; validation `losses` of the epochs so far."""
        ...


@final
@dataclass(frozen=True, kw_only=True)
class Constant:
    """factor = 1."""

    def __call__(self, fraction: float, losses: Sequence[float]) -> float:
        return 1.0


@final
@dataclass(frozen=True, kw_only=True)
class Exponential:
    """factor = final^t, t the fraction done."""

    final: float = 0.01

    def __call__(self, fraction: float, losses: Sequence[float]) -> float:
        return self.final**fraction


@final
@dataclass(frozen=True, kw_only=True)
class Cosine:
    """factor = final + (1 − final)(1 + cos πt)/2 (Loshchilov & Hutter, arXiv:1608.03983, eq. 5)."""

    final: float = 0.01

    def __call__(self, fraction: float, losses: Sequence[float]) -> float:
        return self.final + (1.0 - self.final) * 0.5 * (1.0 + math.cos(math.pi * fraction))


@final
@dataclass(frozen=True, kw_only=True)
class Plateau:
    """Multiply by `factor` whenever the validation loss has set no record for more than `patience` epochs."""

    factor: float = 0.8
    patience: int = 50

    def __call__(self, fraction: float, losses: Sequence[float]) -> float:
        scale, best, waited = 1.0, math.inf, 0
        for loss in losses:
            best, waited = (loss, 0) if loss < best else (best, waited + 1)
            if waited > self.patience:
                scale, waited = scale * self.factor, 0
        return scale


Kind = Literal["constant", "exponential", "cosine", "plateau"]


def schedule(kind: Kind, *, final: float, plateau_factor: float, plateau_patience: int) -> Schedule:
    """The schedule of a name. Raises ValueError for an unknown name or factors outside (0, 1]."""
    if not (0 < final <= 1 and 0 < plateau_factor < 1 and plateau_patience >= 0):
        raise ValueError(
            f"A schedule's final factor lies in (0, 1], its plateau factor in (0, 1), its patience at 0 or "
            f"more; given {final}, {plateau_factor}, {plateau_patience}."
        )
    if kind == "constant":
        return Constant()
    if kind == "exponential":
        return Exponential(final=final)
    if kind == "cosine":
        return Cosine(final=final)
    if kind == "plateau":
        return Plateau(factor=plateau_factor, patience=plateau_patience)
    raise ValueError(f"schedule is constant, exponential, cosine or plateau; given '{kind}'.")


def warm_up(step: int, warmup_steps: int) -> float:
    """Linear rise of the learning rate: (step + 1)/warmup_steps up to 1; step counts from 0."""
    return min(1.0, (step + 1) / warmup_steps) if warmup_steps > 0 else 1.0
