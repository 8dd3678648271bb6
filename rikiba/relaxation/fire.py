"""Fast inertial relaxation engine."""

from collections.abc import Callable
from typing import ClassVar

import torch
from jaxtyping import Bool
from torch import Tensor

from rikiba.calculators.base import Calculator
from rikiba.core.system import System

from .cell import CellMode
from .minimise import Relaxed, StepperMemory, Thresholds, dot, limited, minimise

_WAIT, _GROW, _SHRINK, _MIX, _MIX_DECAY = 5, 1.1, 0.5, 0.1, 0.99  # the published values


class Fire:
    """FIRE: damped dynamics steered along the force; each system of a batch has its own timestep and mixing.

    While P = F·v > 0, v ← (1−α) v + α |v| F/|F| and, after five such steps, Δt grows by 1.1 and α shrinks by
    0.99; where P ≤ 0, v ← 0, Δt is halved and α set back to 0.1. Unit masses. (Bitzek, Koskinen, Gähler,
    Moseler & Gumbsch, doi:10.1103/PhysRevLett.97.170201.)

    Args:
        fmax_eV_per_A: largest force on an atom at the end, eV/Å.
        max_steps: steps before giving up (which the result says).
        cell: fixed, full (six strain components) or hydrostatic (the volume).
        pressure_GPa: external pressure where the cell may change.
        smax_GPa: largest stress component at the end where the cell may change.
        timestep: first timestep, Å·√(u/eV), with masses of 1 u.
        max_timestep: longest timestep, same unit.
        max_move: longest displacement of an atom in one step, Å.
    """

    references: ClassVar[tuple[str, ...]] = ("10.1103/PhysRevLett.97.170201",)

    def __init__(
        self,
        *,
        fmax_eV_per_A: float = 0.01,
        max_steps: int = 1000,
        cell: CellMode = "fixed",
        pressure_GPa: float = 0.0,
        smax_GPa: float = 0.05,
        timestep: float = 0.1,
        max_timestep: float = 1.0,
        max_move: float = 0.2,
    ) -> None:
        self.thresholds = Thresholds(
            fmax_eV_per_A=fmax_eV_per_A,
            smax_GPa=smax_GPa,
            max_steps=max_steps,
            cell=cell,
            pressure_GPa=pressure_GPa,
        )
        if not 0 < timestep <= max_timestep or not max_move > 0:
            raise ValueError(
                f"0 < timestep ≤ max_timestep and max_move > 0 are needed; given {timestep}, {max_timestep}, "
                f"{max_move}."
            )
        self.timestep, self.max_timestep, self.max_move = timestep, max_timestep, max_move

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
            method="FIRE",
            references=self.references,
        )

    def start(self, x: Tensor, n_systems: int) -> StepperMemory:
        one = x.new_ones(n_systems)
        return {
            "v": torch.zeros_like(x),
            "dt": self.timestep * one,
            "mix": _MIX * one,
            "uphill_free": 0 * one,
        }

    def step(
        self, x: Tensor, gradient: Tensor, objective: Tensor, row_system: Tensor, memory: StepperMemory
    ) -> tuple[Tensor, StepperMemory]:
        n, force, v = len(objective), -gradient, memory["v"]
        dt, mix, count = memory["dt"], memory["mix"], memory["uphill_free"]
        power = dot(force, v, row_system, n)
        downhill, moving = power > 0, dot(v, v, row_system, n) > 0
        ratio = torch.sqrt(dot(v, v, row_system, n) / dot(force, force, row_system, n).clamp(min=1e-300))
        steered = (1.0 - mix)[row_system][:, None] * v + (mix * ratio)[row_system][:, None] * force
        v = torch.where(downhill[row_system][:, None], steered, 0.0)
        grows, stops = downhill & (count > _WAIT), ~downhill & moving
        new_dt = torch.where(grows, (dt * _GROW).clamp(max=self.max_timestep), dt)
        new_dt = torch.where(stops, dt * _SHRINK, new_dt)
        new_mix = torch.where(grows, mix * _MIX_DECAY, torch.where(stops, _MIX, mix))
        v = v + new_dt[row_system][:, None] * force
        move = limited(new_dt[row_system][:, None] * v, row_system, torch.full_like(dt, self.max_move))
        count = torch.where(downhill, count + 1, 0.0)
        return move, {"v": v, "dt": new_dt, "mix": new_mix, "uphill_free": count}

    def narrowed(self, memory: StepperMemory, systems: Tensor, rows: Tensor) -> StepperMemory:
        return {name: value[rows if name == "v" else systems] for name, value in memory.items()}
