"""Constant pressure by an extended system: the cell as a particle, with Nosé–Hoover chains."""

from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from rikiba.calculators.base import NonFiniteError
from rikiba.kernels.nose_hoover_chain import SUZUKI_YOSHIDA, nose_hoover_chain, nose_hoover_velocities

from ..cell import (
    check_cell,
    internal_pressure,
    on_atoms,
    times,
    translation_dof,
    translation_energy,
    unturned,
)
from ..load import Stress, load
from ..operators import Freedom, Memory, Operator, Step, spread
from ..state import State
from ..target import Value, temperature, time_constant

CELL_FREEDOM = {"isotropic": 1, "orthogonal": 3, "full": 6}
"""What of the cell may move → how many numbers describe it."""


class MartynaTobiasKlein(Operator):
    """A whole step at constant pressure and temperature: deterministic, reversible, of second order.

    dr/dt = v + v_g r,  dh/dt = v_g h,  dv/dt = F/m − (v_g + tr v_g/N_f) v − v₁v,
    W dv_g/dt = V(P − P₀) + 2K/N_f − W v_g v₁′  (traces of it where the cell stays isotropic),
    with a chain of thermostats on the atoms and one on the cell; W = (N_f + 3) k_B T τ_P², a third of it
    where the cell may change shape (Martyna, Tobias & Klein, doi:10.1063/1.467468; the factorisation is that
    of Tuckerman et al., doi:10.1088/0305-4470/39/19/S18). v_g is symmetric; the rotation that a cell of any
    shape still gathers, of second order in its strain, is taken out of positions, velocities and cell after
    every move, so that the cell stays a symmetric stretch of that at the start. With K + U it conserves
    ½W tr v_g² (½W v_ε² where isotropic) + P₀V + the chains' energies. A word by itself.

    Under a stress σ the pressure P₀ is −tr σ/3, V₀ Mᵀ(σ + P₀)M joins what moves the cell and
    −V₀ tr((σ + P₀)E) what is conserved: Parrinello & Rahman's ensemble of constant thermodynamic tension
    (doi:10.1063/1.328693) about the reference cell h₀, with h = h₀M, E = ½(M Mᵀ − 1) and V₀ = det h₀. The
    mean stress in it is σ as far as the mean cell is h₀; `reference_interval` brings the one to the other.

    Atoms that constraints connect follow the cell as a whole: v_g acts on their centres of mass, whose
    kinetic energy, number of degrees of freedom and pressure then stand for K, N_f and P in what moves the
    cell, and motion within them is that of RATTLE.

    Args:
        temperature_K: bath temperature; without thermostat it sets the cell's inertia only.
        pressure_GPa: P₀, hydrostatic; one for all systems, one for each, or a ramp.
        stress_GPa: σ in its place: a symmetric tensor (three rows), positive where it pulls, for all systems,
            for each, or a ramp; with orthogonal cells its diagonal, with full ones any.
        cell: isotropic; orthogonal: each lattice vector's length; full: shape as well (Parrinello–Rahman).
        time_constant_fs: τ of the atoms' chain, fs.
        pressure_time_constant_fs: τ_P, of the cell and of its chain, fs.
        thermostat: False for constant enthalpy (NPH).
        links: length of both chains.
        reference_interval: steps after which the mean cell since the last time becomes the reference cell of
            stress_GPa, with the work it takes kept out of what is conserved; 0 leaves that of the start.
    """

    needs = frozenset({"forces", "stress"})
    keeps_constraints = True

    def __init__(
        self,
        *,
        temperature_K: Value,
        pressure_GPa: Value | None = None,
        stress_GPa: Stress | None = None,
        cell: Literal["isotropic", "orthogonal", "full"] = "isotropic",
        time_constant_fs: float = 100.0,
        pressure_time_constant_fs: float = 1000.0,
        thermostat: bool = True,
        links: int = 3,
        reference_interval: int = 0,
    ) -> None:
        self.bath = temperature(temperature_K)
        if cell not in CELL_FREEDOM:
            raise ValueError(f"cell must be one of {', '.join(CELL_FREEDOM)}; given '{cell}'.")
        if links < 1:
            raise ValueError(f"links must be at least 1; given {links}.")
        self.load = load(pressure_GPa, stress_GPa, reference_interval=reference_interval, directions=cell)
        self.cell, self.thermostat, self.links = cell, thermostat, links
        self.tau = time_constant(time_constant_fs, "time_constant_fs")
        self.cell_tau = time_constant(pressure_time_constant_fs, "pressure_time_constant_fs")
        self._freedom = Freedom()
        self.factors = torch.tensor(SUZUKI_YOSHIDA[3], dtype=torch.float64)

    @classmethod
    def examples(cls) -> "list[MartynaTobiasKlein]":
        """Under a pressure and under a stress with shear, its reference cell renewed."""
        pulled = ((1.0, 0.5, 0.0), (0.5, 0.0, 0.0), (0.0, 0.0, -2.0))
        return [
            cls(temperature_K=300.0, pressure_GPa=0.0),
            cls(temperature_K=300.0, stress_GPa=pulled, cell="full", reference_interval=2),
        ]

    def init(self, state: State, step: Step) -> Memory:
        check_cell(state, type(self).__name__)
        thermal = self.bath.at(state)
        if not bool((thermal > 0).all()):
            raise ValueError("temperature_K must be positive: it sets the inertia of the cell.")
        inertia = (translation_dof(state).double() + 3.0) * thermal * self.cell_tau**2
        zero = inertia.new_zeros(state.n_systems, self.links)
        chains = {f"{who}_{what}": zero.clone() for who in ("atoms", "cell") for what in ("x", "v")}
        inertia = inertia if self.cell == "isotropic" else inertia / 3.0
        kept = {
            "strain_rate": torch.zeros_like(state.system.cell),
            "inertia": inertia,
            **self.load.init(state),
        }
        if self.cell == "full":
            kept["start"] = state.system.cell
        return Memory({**kept, **chains})

    def apply(self, state: State, memory: Memory, dt: Tensor, step: Step) -> tuple[State, Memory]:
        half = 0.5 * dt
        state, memory = self._chains(state, memory, half)
        memory = self._push_cell(state, memory, half, step)
        state = self._kick(state, memory, half, step)
        state, memory = self._drift(state, memory, dt)
        state = self._kick(state, memory, half, step)
        memory = self._push_cell(state, memory, half, step)
        state, memory = self._chains(state, memory, half)
        return state, self.load.renew(state, memory, step.number + 1)

    def conserved(self, state: State, memory: Memory) -> Tensor:
        energy = 0.5 * self._twice_cell_energy(memory) + self.load.energy(state, memory)
        if self.thermostat:
            for who in ("atoms", "cell"):
                x, v = memory.systems[f"{who}_x"], memory.systems[f"{who}_v"]
                dof, thermal, masses = self._chain(who, state)
                energy = energy + 0.5 * (masses * v * v).sum(1) + thermal * (dof * x[:, 0] + x[:, 1:].sum(1))
        return energy

    def settings(self) -> dict[str, Any]:
        return {
            **self.load.settings(),
            "temperature_K": self.bath.settings(),
            "cell": self.cell,
            "time_constants": [self.tau, self.cell_tau],
            "thermostat": self.thermostat,
            "links": self.links,
        }

    def _chain(self, who: str, state: State) -> tuple[Tensor, Tensor, Tensor]:
        """(degrees of freedom, k_B T, masses of the links) of a chain."""
        thermal = self.bath.at(state)
        atoms = who == "atoms"
        dof = self._freedom.of(state) if atoms else torch.full_like(thermal, CELL_FREEDOM[self.cell])
        masses = (thermal * (self.tau if atoms else self.cell_tau) ** 2)[:, None].repeat(1, self.links)
        masses[:, 0] *= dof
        return dof, thermal, masses

    def _chains(self, state: State, memory: Memory, half: Tensor) -> tuple[State, Memory]:
        """The chains' half steps: velocities of cell and atoms scaled."""
        if not self.thermostat:
            return state, memory
        kept, factors = memory.systems, self.factors.to(half.device)
        dof, thermal, masses = self._chain("cell", state)
        cell_x, cell_v, scale = nose_hoover_chain(
            kept["cell_x"], kept["cell_v"], masses, self._twice_cell_energy(memory), dof, thermal, half,
            factors,
        )  # fmt: skip
        dof, thermal, masses = self._chain("atoms", state)
        x, v, velocities = nose_hoover_velocities(
            kept["atoms_x"], kept["atoms_v"], masses, dof, thermal, half, factors,
            state.velocities, state.masses, state.system.system_index,
        )  # fmt: skip
        rate = kept["strain_rate"] * scale[:, None, None]
        changed = {"cell_x": cell_x, "cell_v": cell_v, "atoms_x": x, "atoms_v": v, "strain_rate": rate}
        return state.with_velocities(velocities), memory.with_systems(**changed)

    def _push_cell(self, state: State, memory: Memory, half: Tensor, step: Step) -> Memory:
        """v_g ← v_g + Δt/2 (V(P − P₀) + 2K/N_f)/W, of what the cell may do."""
        eye = torch.eye(3, dtype=torch.float64, device=half.device)
        inside = internal_pressure(state, step.results(state, stress=True))
        share = 2.0 * translation_energy(state) / translation_dof(state).clamp(min=1)
        force = state.system.volume[:, None, None] * inside + self.load.pull(state, memory)
        force = force + share[:, None, None] * eye
        if self.cell == "isotropic":
            force = torch.diagonal(force, dim1=1, dim2=2).sum(1)[:, None, None] * eye
        elif self.cell == "orthogonal":
            force = force * eye
        else:
            force = 0.5 * (force + force.transpose(1, 2))
        rate = memory.systems["strain_rate"]
        return memory.with_systems(
            strain_rate=rate + (half / memory.systems["inertia"])[:, None, None] * force
        )

    def _twice_cell_energy(self, memory: Memory) -> Float[Tensor, "systems"]:
        rate = memory.systems["strain_rate"]
        square = rate[:, 0, 0] ** 2 if self.cell == "isotropic" else (rate * rate).sum((1, 2))
        return memory.systems["inertia"] * square

    def _kick(self, state: State, memory: Memory, half: Tensor, step: Step) -> State:
        """Velocities under F/m − (v_g + tr v_g/N_f) v, solved exactly."""
        rate = memory.systems["strain_rate"]
        trace = torch.diagonal(rate, dim1=1, dim2=2).sum(1) / translation_dof(state).clamp(min=1)
        eye = torch.eye(3, dtype=torch.float64, device=half.device)
        decay, response = self._propagators(-(rate + trace[:, None, None] * eye), half)
        pull = step.results(state, stress=True).need("forces") * state.inverse_masses[:, None]
        v = on_atoms(state, state.velocities)
        moving = times(decay, v, state) + times(response, on_atoms(state, pull), state)
        if state.constraints is None:
            return state.with_velocities(moving)
        inner = pull - on_atoms(state, pull)
        kicked = state.velocities + (moving - v) + spread(half, state)[:, None] * inner
        return state.with_velocities(kicked).tangent()

    def _drift(self, state: State, memory: Memory, dt: Tensor) -> tuple[State, Memory]:
        """Positions under v + v_g r and the cell under v_g h, solved exactly; then what has turned is turned
        back."""
        stretch, response = self._propagators(memory.systems["strain_rate"], dt)
        r, v = state.system.positions, state.velocities
        centre, speed = on_atoms(state, r), on_atoms(state, v)
        positions = times(stretch, centre, state) + times(response, speed, state)
        if state.constraints is not None:
            positions = positions + (r - centre) + spread(dt, state)[:, None] * (v - speed)
        cell = state.system.cell @ stretch
        moved = state.replace(system=state.system.replace(positions=positions, cell=cell))
        if state.constraints is not None:
            moved = moved.pulled_back(state, dt).tangent()
        if self.cell != "full":
            return moved, memory
        moved, turn = unturned(moved, memory.systems["start"])
        rate = turn @ memory.systems["strain_rate"] @ turn.transpose(1, 2)
        return moved, memory.with_systems(strain_rate=0.5 * (rate + rate.transpose(1, 2)))

    def _propagators(
        self, rate: Float[Tensor, "systems 3 3"], time: Float[Tensor, "systems"]
    ) -> tuple[Float[Tensor, "systems 3 3"], Float[Tensor, "systems 3 3"]]:
        """exp(A t) and ∫₀ᵗ exp(A s) ds = t exp(A t/2) sinh(A t/2)/(A t/2) of symmetric matrices."""
        if not bool(rate.sum().isfinite()):
            raise NonFiniteError("the rate at which the cell changes is not finite.")
        if self.cell == "full":
            values, vectors = torch.linalg.eigh(rate)
        else:
            values, vectors = torch.diagonal(rate, dim1=1, dim2=2), None
        x = 0.5 * values * time[:, None]
        small = x.abs() < 1e-4
        safe = torch.where(small, 1.0, x)
        ratio = torch.where(small, 1.0 + x * x / 6.0, torch.sinh(safe) / safe)
        whole, response = torch.exp(2.0 * x), time[:, None] * torch.exp(x) * ratio
        if vectors is None:
            return torch.diag_embed(whole), torch.diag_embed(response)
        back = vectors.transpose(1, 2)
        return (vectors * whole[:, None, :]) @ back, (vectors * response[:, None, :]) @ back
