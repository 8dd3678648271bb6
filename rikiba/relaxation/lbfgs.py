"""Limited-memory quasi-Newton minimisation."""

from collections.abc import Callable
from typing import ClassVar

import torch
from jaxtyping import Bool
from torch import Tensor

from rikiba.calculators.base import Calculator
from rikiba.core.system import System

from .cell import CellMode
from .minimise import Relaxed, StepperMemory, Thresholds, dot, limited, minimise


class Lbfgs:
    """L-BFGS without line search; every system of a batch has its own history, curvature and trust length.

    The direction is that of the two-loop recursion over the last `memory` pairs s = Δx, y = Δg (Nocedal &
    Wright, Numerical Optimization, algorithm 7.4; Liu & Nocedal, doi:10.1007/BF01589116). Pairs without
    positive curvature are left out. Where the energy rises, a system forgets its history and its longest
    move is halved; it grows back as the energy falls. (The trust length is ours; the paper uses a line
    search, which would cost force calls of the whole batch.)

    Args:
        fmax_eV_per_A: largest force on an atom at the end, eV/Å.
        max_steps: steps before giving up (which the result says).
        cell: fixed, full (six strain components) or hydrostatic (the volume).
        pressure_GPa: external pressure where the cell may change.
        smax_GPa: largest stress component at the end where the cell may change.
        memory: pairs remembered.
        first_curvature: assumed until one is known, eV/Å².
        max_move: longest displacement of an atom in one step, Å.
    """

    references: ClassVar[tuple[str, ...]] = ("10.1007/BF01589116",)

    def __init__(
        self,
        *,
        fmax_eV_per_A: float = 0.01,
        max_steps: int = 500,
        cell: CellMode = "fixed",
        pressure_GPa: float = 0.0,
        smax_GPa: float = 0.05,
        memory: int = 30,
        first_curvature: float = 50.0,
        max_move: float = 0.2,
    ) -> None:
        self.thresholds = Thresholds(
            fmax_eV_per_A=fmax_eV_per_A,
            smax_GPa=smax_GPa,
            max_steps=max_steps,
            cell=cell,
            pressure_GPa=pressure_GPa,
        )
        if memory < 1 or not first_curvature > 0 or not max_move > 0:
            raise ValueError(
                f"memory ≥ 1, first_curvature > 0 and max_move > 0 are needed; given {memory}, "
                f"{first_curvature}, {max_move}."
            )
        self.memory, self.first_curvature, self.max_move = memory, first_curvature, max_move

    def relax(
        self,
        calculator: Calculator,
        system: System,
        *,
        fixed: Bool[Tensor, "atoms"] | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Relaxed:
        """Relax every system of a batch; see `minimise`."""
        return minimise(
            calculator,
            system,
            self,
            self.thresholds,
            fixed=fixed,
            progress=progress,
            method="L-BFGS",
            references=self.references,
        )

    def start(self, x: Tensor, n_systems: int) -> StepperMemory:
        one = x.new_ones(n_systems)
        return {
            "pairs": (),
            "last": None,
            "inverse": one / self.first_curvature,
            "trust": self.max_move * one,
        }

    def step(
        self, x: Tensor, gradient: Tensor, objective: Tensor, row_system: Tensor, memory: StepperMemory
    ) -> tuple[Tensor, StepperMemory]:
        n = len(objective)
        pairs, inverse, trust = memory["pairs"], memory["inverse"], memory["trust"]
        if memory["last"] is not None:
            old_x, old_gradient, old_objective = memory["last"]
            s, y = x - old_x, gradient - old_gradient
            sy, yy = dot(s, y, row_system, n), dot(y, y, row_system, n)
            useful = sy > 1e-10 * torch.sqrt(yy * dot(s, s, row_system, n))
            inverse = torch.where(useful, sy / yy.clamp(min=1e-300), inverse)
            weight = torch.where(useful, 1.0 / torch.where(useful, sy, 1.0), 0.0)
            rows = torch.bincount(row_system, minlength=n)
            rose = objective > old_objective + 1e-6 * rows
            pairs = tuple((a, b, torch.where(rose, 0.0, w)) for a, b, w in pairs)
            pairs = (*pairs, (s, y, weight))[-self.memory :]
            trust = torch.where(rose, 0.5 * trust, (1.5 * trust).clamp(max=self.max_move))
        direction = _two_loops(gradient, pairs, inverse, row_system)
        descends = dot(direction, gradient, row_system, n) < 0
        plain = -inverse[row_system][:, None] * gradient
        direction = torch.where(descends[row_system][:, None], direction, plain)
        return limited(direction, row_system, trust), {
            "pairs": pairs,
            "last": (x, gradient, objective),
            "inverse": inverse,
            "trust": trust,
        }


def _two_loops(
    gradient: Tensor, pairs: tuple[tuple[Tensor, Tensor, Tensor], ...], inverse: Tensor, row_system: Tensor
) -> Tensor:
    """−H g, H the inverse Hessian described by pairs (s, y, 1/s·y); a weight of 0 leaves a pair out."""
    n = len(inverse)
    q, alphas = gradient, []
    for s, y, weight in reversed(pairs):
        alpha = weight * dot(s, q, row_system, n)
        q = q - alpha[row_system][:, None] * y
        alphas.append(alpha)
    q = inverse[row_system][:, None] * q
    for (s, y, weight), alpha in zip(pairs, reversed(alphas), strict=True):
        beta = weight * dot(y, q, row_system, n)
        q = q + (alpha - beta)[row_system][:, None] * s
    return -q
