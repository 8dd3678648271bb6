"""Cells in motion: what barostats share."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from rikiba.core import units
from rikiba.core.results import Results

from .operators import Step, spread
from .state import State


def check_cell(state: State, name: str) -> None:
    """Raise ValueError where a system has no periodic cell to change, or atoms that are held in space."""
    if not bool(state.system.pbc.all()):
        k = int((~state.system.pbc.all(1)).nonzero()[0])
        raise ValueError(
            f"{name} needs a cell that is periodic along three axes; system {k} has pbc "
            f"{state.system.pbc[k].tolist()}. Use an ensemble of constant volume."
        )
    if not bool(state.unrestricted.all()):
        raise ValueError(
            f"{name} moves all atoms with the cell; fixed atoms, planes and lines cannot be kept where they "
            f"are. Of constraints it allows held distances (bonds, rigid_water, distances)."
        )
    if state.constraints is not None and bool(state.constraints.centred.any()):
        raise ValueError(
            f"{name} moves centres of mass with the cell: leave fixed_centre out. A total momentum of zero "
            f"stays zero without it."
        )


def internal_pressure(state: State, results: Results) -> Float[Tensor, "systems 3 3"]:
    """P = Σ m v ⊗ v/V − σ, eV/Å³; its trace/3 is the pressure of the moment.

    With held distances the sum runs over the centres of mass of connected atoms, and σ is that of moving
    these centres: the constraints' forces act within them and drop out. For rigid molecules the trace is that
    of the sum over atoms with the virial of the constraints' forces, at every moment; for connected atoms
    that move against each other (a methyl group whose C–H are held) on average.
    """
    held = state.constraints
    v, masses, owner = state.velocities, state.masses, None
    stress = results.need("stress").double()
    volume = state.system.volume[:, None, None]
    if held is not None:
        masses = held.group_sum(state.masses)
        v = held.group_sum(state.masses[:, None] * v) / masses[:, None]
        stress = stress + _within(state, results.need("forces")) / volume
        owner = held.group_system
    flow = masses[:, None, None] * v[:, :, None] * v[:, None, :]
    if owner is None:
        flow = state.system.total(flow)
    else:
        flow = flow.new_zeros(state.n_systems, 3, 3).index_add(0, owner, flow)
    return flow / volume - stress


def _within(state: State, forces: Float[Tensor, "atoms 3"]) -> Float[Tensor, "systems 3 3"]:
    """Σ (r − R) ⊗ f about the centres of mass R of connected atoms: the share of the virial that moving the
    centres alone does not feel."""
    arm = state.system.positions - on_atoms(state, state.system.positions)
    return state.system.total(arm[:, :, None] * forces[:, None, :])


def on_atoms(state: State, rows: Float[Tensor, "atoms 3"]) -> Float[Tensor, "atoms 3"]:
    """On each atom the mass-weighted mean over those connected with it of positions, velocities, forces/m."""
    held = state.constraints
    if held is None:
        return rows
    mean = held.group_sum(state.masses[:, None] * rows) / held.group_sum(state.masses)[:, None]
    return mean[held.group]


def translation_energy(state: State) -> Float[Tensor, "systems"]:
    """Kinetic energy of the centres of mass of connected atoms, eV; all of it without held distances."""
    if state.constraints is None:
        return state.kinetic_energy
    v = on_atoms(state, state.velocities)
    return state.system.total(0.5 * state.masses * (v * v).sum(-1))


def translation_dof(state: State) -> Int[Tensor, "systems"]:
    """Degrees of freedom of these centres."""
    if state.constraints is None:
        return state.dof
    return 3 * state.constraints.n_groups - state.dof_removed


def stretched(state: State, factor: Float[Tensor, "systems"]) -> State:
    """Cell and positions times a factor; connected atoms move as a whole, with their centre of mass."""
    each = spread(factor, state)[:, None]
    r = state.system.positions
    new = r * each if state.constraints is None else r + (each - 1.0) * on_atoms(state, r)
    return state.replace(
        system=state.system.replace(positions=new, cell=state.system.cell * factor[:, None, None])
    )


def scaled(state: State, factor: Float[Tensor, "systems"]) -> State:
    """As `stretched`, and velocities divided by the factor (those of centres of mass of connected atoms)."""
    each = spread(factor, state)[:, None]
    v = state.velocities
    new = v / each if state.constraints is None else v + (1.0 / each - 1.0) * on_atoms(state, v)
    return stretched(state, factor).with_velocities(new)


def deformed(
    state: State, gradient: Float[Tensor, "systems 3 3"], back: Float[Tensor, "systems 3 3"]
) -> State:
    """Cell and positions times a symmetric matrix, velocities times its inverse `back`; connected atoms move
    as a whole, with their centre of mass."""
    r, v = state.system.positions, state.velocities
    centre, speed = on_atoms(state, r), on_atoms(state, v)
    positions, velocities = times(gradient, centre, state), times(back, speed, state)
    if state.constraints is not None:
        positions, velocities = r + (positions - centre), v + (velocities - speed)
    system = state.system.replace(positions=positions, cell=state.system.cell @ gradient)
    return state.replace(system=system, velocities=velocities)


def times(matrix: Float[Tensor, "systems 3 3"], rows: Float[Tensor, "atoms 3"], state: State) -> Tensor:
    """Its system's matrix times each atom's vector; the same bits in any batch."""
    return (matrix[state.system.system_index] * rows[:, None, :]).sum(-1)


def left_stretch(
    start: Float[Tensor, "systems 3 3"], cell: Float[Tensor, "systems 3 3"]
) -> Float[Tensor, "systems 3 3"]:
    """The symmetric S of M = S R, where h = h₀ M and R is a rotation."""
    axes, stretches, _ = torch.linalg.svd(torch.linalg.solve(start, cell))
    whole: Tensor = (axes * stretches[:, None, :]) @ axes.transpose(1, 2)
    return whole


def unturned(state: State, start: Float[Tensor, "systems 3 3"]) -> tuple[State, Float[Tensor, "systems 3 3"]]:
    """The state turned so that its cell is a symmetric stretch of that at the start, and the turn R.

    Deformations without rotation, one after another, make a rotation together; it changes no energy and no
    distribution, but tensors that are given along fixed axes would refer to a crystal that has turned away.
    """
    # from singular vectors it is a rotation to rounding, however far the cell is stretched
    left, _, right = torch.linalg.svd(torch.linalg.solve(start, state.system.cell))
    turn = left @ right
    system = state.system.replace(
        positions=times(turn, state.system.positions, state),
        cell=state.system.cell @ turn.transpose(1, 2),
    )
    return state.replace(system=system, velocities=times(turn, state.velocities, state)), turn


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
