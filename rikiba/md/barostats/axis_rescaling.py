"""Constant pressure on chosen axes of the cell, each moved by itself, by overdamped stochastic dynamics."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from rikiba.core import units

from ..cell import check_cell, check_interval, compressibility, internal_pressure, total_energy
from ..operators import Memory, Operator, Step
from ..state import State
from ..target import Value, pressure, temperature, time_constant


class AxisRescaling(Operator):
    """The lengths of a box along chosen axes follow a pressure; the others stay as they are.

    With ε_i = ln L_i:  dε_i = μ (V(P_ii − P₀) + k_B T) dt + √(2 k_B T μ) dW_i,  μ = β_T/(3 τ_P V₀) with the
    volume V₀ of the start; positions scale with L_i, velocities with 1/L_i. It samples exp(−(H + P₀V)/k_B T)
    with dL_i, relaxes without oscillating from any start, and its rate does not fall with the temperature, as
    that of a cell with inertia would. Use it with a thermostat; it stands last in a word, at the cost of one
    more evaluation for each move. The construction is that of stochastic cell rescaling (Bernetti & Bussi,
    doi:10.1063/5.0020514) with ε_i in place of √V; the noise is additive, so nothing depends on its reading.

    Args:
        pressure_GPa: P₀ on each of the axes; one for all systems, one for each, or a ramp.
        temperature_K: of the noise: that of the thermostat.
        axes: the axes that move, letters of xyz.
        time_constant_fs: τ_P, fs.
        compressibility_per_GPa: β_T of the material, roughly, 1/GPa; sets the rate only.
        interval: steps between moves.
    """

    needs = frozenset({"stress"})

    def __init__(
        self,
        *,
        pressure_GPa: Value,
        temperature_K: Value,
        axes: str = "xyz",
        time_constant_fs: float = 1000.0,
        compressibility_per_GPa: float = 0.1,
        interval: int = 10,
    ) -> None:
        if not axes or set(axes) - set("xyz") or len(set(axes)) < len(axes):
            raise ValueError(f"axes are letters of 'xyz', each once; given '{axes}'.")
        self.pressure, self.bath = pressure(pressure_GPa), temperature(temperature_K)
        self.tau = time_constant(time_constant_fs, "time_constant_fs")
        self.compressibility = compressibility(compressibility_per_GPa)
        self.axes, self.interval = "".join(sorted(axes)), check_interval(interval)

    def init(self, state: State, step: Step) -> Memory:
        check_cell(state, type(self).__name__)
        diagonal = torch.diag_embed(torch.diagonal(state.system.cell, dim1=1, dim2=2))
        if bool((state.system.cell - diagonal).abs().max() > 1e-8):
            raise ValueError("AxisRescaling needs cells of right angles along x, y and z.")
        return Memory({"exchanged": torch.zeros_like(state.time), "volume": state.system.volume})

    def apply(self, state: State, memory: Memory, dt: Tensor, step: Step) -> tuple[State, Memory]:
        if (step.number + 1) % self.interval:
            return state, memory
        thermal, target = self.bath.at(state), self.pressure.at(state)
        rate = self.compressibility * self.interval * dt / (3.0 * self.tau * memory.systems["volume"])
        moving = torch.tensor([float(a in self.axes) for a in "xyz"], dtype=torch.float64, device=dt.device)
        noise = torch.sqrt(2.0 * thermal * rate)[:, None] * step.noise_per_system(state, 3)
        before = self._drift(state, thermal, target, rate, step)
        change = moving * (before + noise)
        if not bool((change.abs() < 0.5).all()):
            k = int((~(change.abs() < 0.5)).any(1).nonzero()[0])
            raise ArithmeticError(
                f"The cell of system {k} would change by more than half in one move: the pressure is far "
                f"off, or time_constant_fs = {self.tau / units.femtosecond:g} is too short for it."
            )
        moved = _stretched(state, torch.exp(change))
        after = self._drift(moved, thermal, target, rate, step)
        energy, new_energy = (total_energy(s, step) for s in (state, moved))
        # −k_B T ln of the ratio of backward to forward probabilities, each with the density exp(−H/k_B T) ΠL
        backward, forward = ((moving * x) ** 2 for x in (change + after, change - before))
        width = torch.where(rate > 0, 4.0 * rate, 1.0)
        work = target * (moved.system.volume - state.system.volume) - thermal * change.sum(1)
        broken = new_energy - energy + work + (backward - forward).sum(1) / width
        exchanged = memory.systems["exchanged"] + new_energy - energy - broken
        return moved, memory.with_systems(exchanged=exchanged)

    def conserved(self, state: State, memory: Memory) -> Tensor:
        return -memory.systems["exchanged"]

    def settings(self) -> dict[str, Any]:
        return {
            "pressure_GPa": self.pressure.settings(),
            "temperature_K": self.bath.settings(),
            "axes": self.axes,
            "time_constant": self.tau,
            "compressibility": self.compressibility,
            "interval": self.interval,
        }

    def _drift(
        self, state: State, thermal: Tensor, target: Tensor, rate: Tensor, step: Step
    ) -> Float[Tensor, "systems 3"]:
        """Of ε in one move."""
        inside = internal_pressure(state, step.results(state, stress=True))
        excess = torch.diagonal(inside, dim1=1, dim2=2) - target[:, None]
        return rate[:, None] * (state.system.volume[:, None] * excess + thermal[:, None])


def _stretched(state: State, factor: Float[Tensor, "systems 3"]) -> State:
    """Positions and cell times a factor along each axis, velocities divided by it."""
    each = factor[state.system.system_index]
    system = state.system.replace(
        positions=state.system.positions * each, cell=state.system.cell * factor[:, None, :]
    )
    return state.replace(system=system, velocities=state.velocities / each)
