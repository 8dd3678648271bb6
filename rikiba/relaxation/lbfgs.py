"""Limited-memory quasi-Newton minimisation."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from rikiba.calculators.base import Calculator
from rikiba.core.system import System
from rikiba.kernels.quasi_newton import inverse_hessian_product

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
            "pairs": _Pairs.none(x, n_systems, self.memory),
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
            pairs = pairs.with_pair(s, y, weight, forgets=rose)
            trust = torch.where(rose, 0.5 * trust, (1.5 * trust).clamp(max=self.max_move))
        direction = -inverse_hessian_product(
            gradient,
            pairs.steps,
            pairs.changes,
            pairs.weights,
            pairs.newest,
            pairs.count,
            inverse,
            row_system,
        )
        descends = dot(direction, gradient, row_system, n) < 0
        plain = -inverse[row_system][:, None] * gradient
        direction = torch.where(descends[row_system][:, None], direction, plain)
        return limited(direction, row_system, trust), {
            "pairs": pairs,
            "last": (x, gradient, objective),
            "inverse": inverse,
            "trust": trust,
        }

    def narrowed(self, memory: StepperMemory, systems: Tensor, rows: Tensor) -> StepperMemory:
        last = memory["last"]
        return {
            "pairs": memory["pairs"].narrowed(systems, rows),
            "last": None if last is None else (last[0][rows], last[1][rows], last[2][systems]),
            "inverse": memory["inverse"][systems],
            "trust": memory["trust"][systems],
        }


@dataclass(frozen=True, kw_only=True, eq=False)
class _Pairs:
    """The last pairs s = Δx, y = Δg, in a ring that one relaxation writes over."""

    steps: Float[Tensor, "memory rows 3"]
    changes: Float[Tensor, "memory rows 3"]
    weights: Float[Tensor, "memory systems"]
    """1/s·y; 0 leaves a pair out of a system."""
    newest: int
    count: int

    @classmethod
    def none(cls, x: Tensor, n_systems: int, memory: int) -> "_Pairs":
        ring = x.new_empty((memory, *x.shape))
        weights = x.new_zeros((memory, n_systems))
        return cls(steps=ring, changes=torch.empty_like(ring), weights=weights, newest=memory - 1, count=0)

    def with_pair(self, s: Tensor, y: Tensor, weight: Tensor, forgets: Tensor) -> "_Pairs":
        """One more, over the oldest where the ring is full; systems that forget leave out those before."""
        memory = len(self.steps)
        slot = (self.newest + 1) % memory
        self.weights[:, forgets] = 0.0
        self.steps[slot], self.changes[slot], self.weights[slot] = s, y, weight
        return replace(self, newest=slot, count=min(self.count + 1, memory))

    def narrowed(self, systems: Tensor, rows: Tensor) -> "_Pairs":
        """Those of some systems."""
        steps, changes = self.steps[:, rows], self.changes[:, rows]
        return replace(self, steps=steps, changes=changes, weights=self.weights[:, systems])
