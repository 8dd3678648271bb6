"""Stochastic rescaling of lengths and shape of a cell, under a pressure or a stress tensor."""

from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from rikiba.core import units

from ..cell import (
    check_cell,
    check_interval,
    compressibility,
    deformed,
    internal_pressure,
    total_energy,
    unturned,
)
from ..load import Stress, load
from ..operators import Memory, Operator, Step
from ..state import State
from ..target import Value, temperature, time_constant


class AnisotropicCellRescaling(Operator):
    """The whole cell moved by what pulls it and by noise, overdamped, so that it samples constant stress.

    Every `interval` steps h ← h exp(A) with the symmetric A = μ(V(P − P₀) + k_B T) Δt + √(2 k_B T μ Δt) ξ,
    μ = β_T/(3 τ_P V₀); ξ is symmetric with independent normal numbers, those off the diagonal of variance ½.
    Positions follow with exp(A), velocities with exp(−A); atoms that constraints connect move as a whole.
    What the cell has turned is turned back. Under a stress σ the pull gains V₀ Mᵀ(σ + P₀)M, P₀ = −tr σ/3, of
    the reference cell h₀ with h = h₀M: the ensemble exp(−(K + U + P₀V − V₀ tr((σ + P₀)E))/k_B T) with
    E = ½(M Mᵀ − 1) (Parrinello & Rahman, doi:10.1063/1.328693).

    It relaxes without oscillating, from any start. Use it with a thermostat; it stands last in a word, at the
    cost of one more evaluation for each move. What is conserved counts by how much moves break detailed
    balance (Bussi & Parrinello, doi:10.1103/PhysRevE.75.056707), so that its drift measures the error of the
    timestep; moves must be short beside the cell's relaxation, as with `stochastic_cell_rescaling`.

    The scheme is that of Del Tatto et al. (doi:10.3390/app12031139). Departures: the mobility is that of the
    volume V₀ at the start, which leaves what is sampled as it is and makes the noise additive in A; A is the
    exponent of the move rather than its increment; and no noise is drawn for rotations.

    Args:
        temperature_K: of the noise: that of the thermostat.
        pressure_GPa: P₀, hydrostatic; one for all systems, one for each, or a ramp.
        stress_GPa: σ in its place: a symmetric tensor (three rows), positive where it pulls, for all systems,
            for each, or a ramp; with orthogonal cells its diagonal, with full ones any.
        cell: orthogonal: stretches along x, y and z; full: shape as well.
        time_constant_fs: τ_P, fs.
        compressibility_per_GPa: β_T of the material, roughly, 1/GPa; sets the rate only.
        interval: steps between moves.
        reference_interval: steps, a multiple of `interval`, after which the mean cell since the last time
            becomes the reference cell of stress_GPa, with the work it takes kept out of what is conserved; 0
            leaves that of the start.
    """

    needs = frozenset({"stress"})
    keeps_constraints = True

    def __init__(
        self,
        *,
        temperature_K: Value,
        pressure_GPa: Value | None = None,
        stress_GPa: Stress | None = None,
        cell: Literal["orthogonal", "full"] = "full",
        time_constant_fs: float = 1000.0,
        compressibility_per_GPa: float = 0.1,
        interval: int = 10,
        reference_interval: int = 0,
    ) -> None:
        if cell not in ("orthogonal", "full"):
            raise ValueError(f"cell must be 'orthogonal' or 'full'; given '{cell}'.")
        self.interval = check_interval(interval)
        if reference_interval % self.interval:
            raise ValueError(
                f"reference_interval is a multiple of interval = {interval}; given {reference_interval}."
            )
        renewal = reference_interval // self.interval
        self.load = load(pressure_GPa, stress_GPa, reference_interval=renewal, directions=cell)
        self.bath, self.full = temperature(temperature_K), cell == "full"
        self.tau = time_constant(time_constant_fs, "time_constant_fs")
        self.compressibility = compressibility(compressibility_per_GPa)

    @classmethod
    def examples(cls) -> "list[AnisotropicCellRescaling]":
        """Under a pressure on three lengths, and under a stress with shear, its reference cell renewed."""
        pulled = ((1.0, 0.5, 0.0), (0.5, 0.0, 0.0), (0.0, 0.0, -2.0))
        return [
            cls(temperature_K=300.0, pressure_GPa=0.0, cell="orthogonal", interval=1),
            cls(temperature_K=300.0, stress_GPa=pulled, interval=2, reference_interval=4),
        ]

    def init(self, state: State, step: Step) -> Memory:
        check_cell(state, type(self).__name__)
        kept = {"exchanged": torch.zeros_like(state.time), "volume": state.system.volume}
        if self.full:
            kept["start"] = state.system.cell
        return Memory({**kept, **self.load.init(state)})

    def apply(self, state: State, memory: Memory, dt: Tensor, step: Step) -> tuple[State, Memory]:
        if (step.number + 1) % self.interval:
            return state, memory
        thermal = self.bath.at(state)
        rate = self.compressibility * self.interval * dt / (3.0 * self.tau * memory.systems["volume"])
        noise = torch.sqrt(2.0 * thermal * rate)[:, None, None] * _symmetric(step.noise_per_system(state, 6))
        before = self._drift(state, memory, thermal, rate, step)
        change = before + self.allowed(noise)
        self._check(change)
        moved = deformed(state, *self._exponentials(change))
        after = self._drift(moved, memory, thermal, rate, step)
        exchanged = memory.systems["exchanged"] + self._exchange(
            (state, moved), memory, (change, before, after), thermal, rate, step
        )
        if self.full:
            moved, _ = unturned(moved, memory.systems["start"])
        memory = self.load.renew(moved, memory, (step.number + 1) // self.interval)
        return moved, memory.with_systems(exchanged=exchanged)

    def conserved(self, state: State, memory: Memory) -> Tensor:
        return -memory.systems["exchanged"]

    def settings(self) -> dict[str, Any]:
        return {
            **self.load.settings(),
            "temperature_K": self.bath.settings(),
            "cell": "full" if self.full else "orthogonal",
            "time_constant": self.tau,
            "compressibility": self.compressibility,
            "interval": self.interval,
        }

    def allowed(self, change: Float[Tensor, "systems 3 3"]) -> Float[Tensor, "systems 3 3"]:
        """What of a symmetric matrix may move the cell."""
        if self.full:
            return change
        return torch.diag_embed(torch.diagonal(change, dim1=1, dim2=2))

    def _drift(
        self, state: State, memory: Memory, thermal: Tensor, rate: Tensor, step: Step
    ) -> Float[Tensor, "systems 3 3"]:
        """Of A in one move."""
        eye = torch.eye(3, dtype=torch.float64, device=thermal.device)
        inside = internal_pressure(state, step.results(state, stress=True))
        force = state.system.volume[:, None, None] * inside + self.load.pull(state, memory)
        force = 0.5 * (force + force.transpose(1, 2)) + thermal[:, None, None] * eye
        return rate[:, None, None] * self.allowed(force)

    def _exchange(
        self,
        states: tuple[State, State],
        memory: Memory,
        moves: tuple[Tensor, Tensor, Tensor],
        thermal: Tensor,
        rate: Tensor,
        step: Step,
    ) -> Float[Tensor, "systems"]:
        """Energy gained, less −k_B T ln of the ratio of backward to forward probabilities, each with the
        density V exp(−(H + load)/k_B T) over what exp(A) leaves invariant."""
        change, before, after = moves
        energy, loaded = (
            [f(s) for s in states]
            for f in (lambda s: total_energy(s, step), lambda s: self.load.energy(s, memory))
        )
        gained, grown = energy[1] - energy[0], torch.diagonal(change, dim1=1, dim2=2).sum(1)
        backward, forward = ((x * x).sum((1, 2)) for x in (change + after, change - before))
        width = torch.where(rate > 0, 4.0 * rate, 1.0)
        return gained - (gained + loaded[1] - loaded[0] - thermal * grown + (backward - forward) / width)

    def _exponentials(
        self, change: Float[Tensor, "systems 3 3"]
    ) -> tuple[Float[Tensor, "systems 3 3"], Float[Tensor, "systems 3 3"]]:
        """exp(A) and exp(−A)."""
        if not self.full:
            values = torch.diagonal(change, dim1=1, dim2=2)
            return torch.diag_embed(torch.exp(values)), torch.diag_embed(torch.exp(-values))
        values, axes = torch.linalg.eigh(change)
        there, back = ((axes * torch.exp(x)[:, None, :]) @ axes.transpose(1, 2) for x in (values, -values))
        return there, back

    def _check(self, change: Float[Tensor, "systems 3 3"]) -> None:
        """Raise ArithmeticError where one move would change a cell by more than half."""
        fits = change.abs().amax((1, 2)) < 0.5
        if not bool(fits.all()):
            raise ArithmeticError(
                f"The cell of system {int((~fits).nonzero()[0])} would change by more than half in one move: "
                f"the pressure or stress is far off, or time_constant_fs = {self.tau / units.femtosecond:g} "
                f"is too short for it."
            )


def _symmetric(numbers: Float[Tensor, "systems 6"]) -> Float[Tensor, "systems 3 3"]:
    """Independent normal numbers as a symmetric matrix; those off the diagonal with half the variance."""
    off = 0.5**0.5 * numbers[:, 3:]
    x, y, z = numbers[:, 0], numbers[:, 1], numbers[:, 2]
    yz, xz, xy = off[:, 0], off[:, 1], off[:, 2]
    return torch.stack([x, xy, xz, xy, y, yz, xz, yz, z], 1).reshape(-1, 3, 3)
