"""Weak coupling to a bath, for equilibration."""

import warnings
from typing import Any

import torch
from torch import Tensor

from ..operators import Memory, Operator, Step, spread
from ..state import State
from ..target import Value, temperature, time_constant


class EquilibrationOnlyWarning(UserWarning):
    """A method that reaches a temperature or pressure but samples no ensemble."""


class Berendsen(Operator):
    """Velocities scaled so that the temperature relaxes: dK/dt = (K̄ − K)/τ. For equilibration only.

    It suppresses the fluctuations of the kinetic energy, samples no known ensemble and can cool internal
    motion in favour of the whole's (the flying ice cube); it warns of that when it is made. `csvr` costs the
    same and is right. Source: Berendsen et al., doi:10.1063/1.448118, solved exactly within a step.

    Args:
        temperature_K: bath temperature; one for all systems, one for each, or a ramp.
        time_constant_fs: τ of the kinetic energy, fs.
    """

    def __init__(self, *, temperature_K: Value, time_constant_fs: float = 100.0) -> None:
        warnings.warn(
            "The Berendsen thermostat samples no ensemble: use it to reach a temperature, then csvr, "
            "nose_hoover or langevin.",
            EquilibrationOnlyWarning,
            stacklevel=2,
        )
        self.bath = temperature(temperature_K)
        self.tau = time_constant(time_constant_fs, "time_constant_fs")

    def init(self, state: State, step: Step) -> Memory:
        return Memory({"heat": torch.zeros_like(state.time)})

    def apply(self, state: State, memory: Memory, dt: Tensor, step: Step) -> tuple[State, Memory]:
        kinetic = state.kinetic_energy
        wanted = 0.5 * state.dof.double() * self.bath.at(state)
        new = wanted + (kinetic - wanted) * torch.exp(-dt / self.tau)
        moving = kinetic > 0
        scale = torch.where(moving, torch.sqrt(new / torch.where(moving, kinetic, 1.0)), 1.0)
        moved = state.with_velocities(state.velocities * spread(scale, state)[:, None])
        heat = memory.systems["heat"] + torch.where(moving, new - kinetic, 0.0)
        return moved, memory.with_systems(heat=heat)

    def conserved(self, state: State, memory: Memory) -> Tensor:
        return -memory.systems["heat"]

    def settings(self) -> dict[str, Any]:
        return {"temperature_K": self.bath.settings(), "time_constant": self.tau}
