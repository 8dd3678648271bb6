"""A cell that is strained at a constant rate, its atoms carried along."""

from typing import Any, Literal

import torch
from torch import Tensor

from rikiba.core import units

from .cell import check_cell, check_interval
from .operators import Memory, Operator, Step
from .state import State

Axis = Literal["x", "y", "z", "xy", "xz", "yz"]
AXES: dict[str, tuple[int, int]] = {
    "x": (0, 0),
    "y": (1, 1),
    "z": (2, 2),
    "xy": (0, 1),
    "xz": (0, 2),
    "yz": (1, 2),
}
"""Name → (direction of the displacement, coordinate that it is proportional to)."""


class Deformation(Operator):
    """Cell and positions follow an engineering strain e(t) = ė t along an axis, or a shear γ(t) = γ̇ t.

    Every `interval` steps h ← h F and r ← r F with F_ii = (1 + e(t+nΔt))/(1 + e(t)) for an axis, and
    F_ji = γ̇ nΔt (row vectors) for a shear 'ij', by which r_i grows with r_j. Velocities are those relative
    to the affine flow and stay as they are. It stands last in a word. Work is done on the system, so nothing
    is conserved.

    Args:
        axis: x, y or z is stretched (compressed where the rate is negative); xy, xz or yz is sheared.
        rate_per_ps: of the strain, 1/ps.
        interval: steps between moves of the cell; each costs one more evaluation.
    """

    def __init__(self, *, axis: Axis, rate_per_ps: float, interval: int = 10) -> None:
        if axis not in AXES:
            raise ValueError(f"axis must be one of {', '.join(AXES)}; given '{axis}'.")
        if not abs(rate_per_ps) < float("inf"):
            raise ValueError(f"rate_per_ps must be finite; given {rate_per_ps}.")
        self.axis, self.rate_per_ps, self.interval = axis, rate_per_ps, check_interval(interval)

    def init(self, state: State, step: Step) -> Memory:
        check_cell(state, "Deformation")
        return Memory({"strain": torch.zeros_like(state.time)})

    def apply(self, state: State, memory: Memory, dt: Tensor, step: Step) -> tuple[State, Memory]:
        if (step.number + 1) % self.interval:
            return state, memory
        old = memory.systems["strain"]
        new = old + self.rate_per_ps / units.picosecond * self.interval * dt
        if not bool((new > -1).all()) and len(self.axis) == 1:
            raise ArithmeticError(f"The cell would have no length left along {self.axis}.")
        i, j = AXES[self.axis]
        gradient = torch.eye(3, dtype=torch.float64, device=dt.device).repeat(state.n_systems, 1, 1)
        gradient[:, j, i] = (1.0 + new) / (1.0 + old) if i == j else new - old
        each = gradient[state.system.system_index]
        positions = (state.system.positions[:, :, None] * each).sum(1)
        cell = (state.system.cell[:, :, :, None] * gradient[:, None, :, :]).sum(2)
        moved = state.replace(system=state.system.replace(positions=positions, cell=cell))
        return moved, memory.with_systems(strain=new)

    def settings(self) -> dict[str, Any]:
        return {"axis": self.axis, "rate_per_ps": self.rate_per_ps, "interval": self.interval}
