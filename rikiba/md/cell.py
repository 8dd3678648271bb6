"""Cells in motion: what barostats share."""

from jaxtyping import Float
from torch import Tensor

from rikiba.core import units
from rikiba.core.results import Results

from .operators import Step, spread
from .state import State


def check_cell(state: State, name: str) -> None:
    """Raise ValueError where a system has no periodic cell to change, or atoms that are fixed in space."""
    if not bool(state.system.pbc.all()):
        k = int((~state.system.pbc.all(1)).nonzero()[0])
        raise ValueError(
            f"{name} needs a cell that is periodic along three axes; system {k} has pbc "
            f"{state.system.pbc[k].tolist()}. Use an ensemble of constant volume."
        )
    if bool((state.inverse_masses == 0).any()):
        raise ValueError(f"{name} moves all atoms with the cell; fixed atoms cannot be kept where they are.")


def internal_pressure(state: State, results: Results) -> Float[Tensor, "systems 3 3"]:
    """P = Σ m v ⊗ v/V − σ, eV/Å³; its trace/3 is the pressure of the moment."""
    v = state.velocities
    flow = state.system.total(state.masses[:, None, None] * v[:, :, None] * v[:, None, :])
    return flow / state.system.volume[:, None, None] - results.need("stress").double()


def scaled(state: State, factor: Float[Tensor, "systems"]) -> State:
    """Positions and cell times a factor, velocities divided by it."""
    each = spread(factor, state)[:, None]
    system = state.system.replace(
        positions=state.system.positions * each, cell=state.system.cell * factor[:, None, None]
    )
    return state.replace(system=system, velocities=state.velocities / each)


def total_energy(state: State, step: Step) -> Float[Tensor, "systems"]:
    """Potential and kinetic energy, eV; the stress is evaluated with it."""
    return step.results(state, stress=True).need("energy").double() + state.kinetic_energy


def compressibility(value_per_GPa: float) -> float:
    """Å³/eV of a compressibility in 1/GPa; raises ValueError unless it is positive."""
    if not 0.0 < value_per_GPa < float("inf"):
        raise ValueError(f"compressibility_per_GPa must be positive; given {value_per_GPa}.")
    return value_per_GPa / units.gigapascal


def check_interval(interval: int) -> int:
    """Steps between moves of the cell; raises ValueError unless at least 1."""
    if interval < 1:
        raise ValueError(f"interval is at least 1 step; given {interval}.")
    return interval
