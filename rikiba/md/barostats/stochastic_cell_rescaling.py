"""Stochastic cell rescaling."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from rikiba.core import units

from ..cell import check_cell, check_interval, compressibility, internal_pressure, scaled, total_energy
from ..operators import Memory, Operator, Step
from ..state import State
from ..target import Value, pressure, temperature, time_constant


class StochasticCellRescaling(Operator):
    """Volume moved by the excess of pressure and by noise, so that it samples constant pressure; isotropic.

    With λ = √V:  dλ = −(β_T λ/2τ_P)(P₀ − P − k_B T/2V) dt + √(k_B T β_T/2τ_P) dW; positions and cell scale
    with (V′/V)^{1/3}, velocities with its inverse (Bernetti & Bussi, doi:10.1063/5.0020514); atoms that
    constraints connect move as a whole. Of first order: it relaxes without oscillating, from any start. Use
    it with a thermostat; it stands last in a word, and moves the cell every `interval` steps, at the cost of
    one more evaluation then.

    β_T sets the rate only, not what is sampled, as long as a move is short beside the cell's relaxation: keep
    `interval` timesteps well below τ_P times the material's own compressibility at high frequency (a liquid's
    is less than β_T) over the one given, or volumes spread too far.

    With it K + U + P₀V − … is conserved in the sense of Bussi & Parrinello (doi:10.1103/PhysRevE.75.056707):
    what is added is −k_B T times the logarithm of the ratio by which a move breaks detailed balance, so that
    its drift measures the error of the timestep.

    Args:
        pressure_GPa: P₀; one for all systems, one for each, or a ramp.
        temperature_K: of the noise: that of the thermostat.
        time_constant_fs: τ_P, fs.
        compressibility_per_GPa: β_T, 1/GPa: 0.45 for liquids like water, 0.01 for metals and ceramics.
        interval: steps between moves.
    """

    needs = frozenset({"stress"})
    keeps_constraints = True

    def __init__(
        self,
        *,
        pressure_GPa: Value,
        temperature_K: Value,
        time_constant_fs: float = 1000.0,
        compressibility_per_GPa: float = 0.1,
        interval: int = 10,
    ) -> None:
        self.pressure, self.bath = pressure(pressure_GPa), temperature(temperature_K)
        self.tau = time_constant(time_constant_fs, "time_constant_fs")
        self.compressibility = compressibility(compressibility_per_GPa)
        self.interval = check_interval(interval)

    def init(self, state: State, step: Step) -> Memory:
        check_cell(state, type(self).__name__)
        return Memory({"exchanged": torch.zeros_like(state.time)})

    def apply(self, state: State, memory: Memory, dt: Tensor, step: Step) -> tuple[State, Memory]:
        if (step.number + 1) % self.interval:
            return state, memory
        thermal, target = self.bath.at(state), self.pressure.at(state)
        rate = 0.5 * self.compressibility * self.interval * dt / self.tau
        noise = step.noise_per_system(state, 1)[:, 0]
        before, energy = self._drift(state, thermal, target, rate, step), total_energy(state, step)
        root = torch.sqrt(state.system.volume)
        new = root + before + torch.sqrt(thermal * rate) * noise
        if not bool((new > 0).all()):
            k = int((~(new > 0)).nonzero()[0])
            raise ArithmeticError(
                f"The volume of system {k} would pass through zero in one move of the cell: the pressure is "
                f"far off, or time_constant_fs = {self.tau / units.femtosecond:g} is too short for it."
            )
        moved = scaled(state, (new / root) ** (2.0 / 3.0))
        after = self._drift(moved, thermal, target, rate, step)
        # −k_B T ln of the ratio of backward to forward probabilities, each with the density λ exp(−H/k_B T)
        gained = total_energy(moved, step) - energy
        width = torch.where(rate > 0, 2.0 * rate, 1.0)
        asymmetry = ((root - new - after) ** 2 - (new - root - before) ** 2) / width
        broken = gained + target * (new**2 - root**2) - thermal * torch.log(new / root) + asymmetry
        exchanged = memory.systems["exchanged"] + gained - broken
        return moved, memory.with_systems(exchanged=exchanged)

    def conserved(self, state: State, memory: Memory) -> Tensor:
        return -memory.systems["exchanged"]

    def settings(self) -> dict[str, Any]:
        return {
            "pressure_GPa": self.pressure.settings(),
            "temperature_K": self.bath.settings(),
            "time_constant": self.tau,
            "compressibility": self.compressibility,
            "interval": self.interval,
        }

    def _drift(
        self, state: State, thermal: Tensor, target: Tensor, rate: Tensor, step: Step
    ) -> Float[Tensor, "systems"]:
        """Of λ in one move."""
        volume = state.system.volume
        inside = internal_pressure(state, step.results(state, stress=True))
        excess = torch.diagonal(inside, dim1=1, dim2=2).mean(1) + 0.5 * thermal / volume - target
        return rate * torch.sqrt(volume) * excess
