"""Stress of single atoms, with the choice that it takes said aloud."""

from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from rikiba.core.pairs import Pairs, find_pairs
from rikiba.core.system import System
from rikiba.kernels.grouping import segment_sum
from rikiba.potentials.base import Potential

Partition = Literal["centre", "neighbour", "half", "energy"]


def atomic_virials(
    potential: Potential, system: System, *, partition: Partition = "half"
) -> Float[Tensor, "atoms 3 3"]:
    """W_a with Σ_a W_a = ∂E/∂ε, eV: what each atom has of the virial Σ_ij g_ij ⊗ r_ij, g_ij = ∂E/∂r_ij.

    No local stress is unique: only the sum is. Every `partition` gives g_ij ⊗ r_ij of each directed pair
    whole or in parts to atoms,

    - centre: to i, whose neighbourhood the vector r_ij belongs to;
    - neighbour: to j, on which the force −g_ij acts;
    - half: a half to each, LAMMPS's choice for pair potentials (doi:10.1063/1.3245303);
    - energy: to the atom whose energy changes, W_a = ∂ε_a/∂ε under a uniform strain, which follows how the
      potential divides its energy among atoms.

    For a pair potential all four agree; for others they differ, the more the less uniform the surroundings
    (centre and energy agree still where an atom's energy is a function of its own pairs only).
    The result is not symmetrised: for centre, neighbour and half its antisymmetric part is a torque that only
    the sum lacks.

    Raises:
        ValueError: for an unknown partition, and for a potential that depends on positions otherwise than
            through pair vectors (reciprocal space), whose virial belongs to no pairs.
    """
    if partition not in get_args(Partition):
        raise ValueError(f"partition must be one of {', '.join(get_args(Partition))}; given '{partition}'.")
    if potential.uses_positions:
        raise ValueError(
            f"{type(potential).__name__} depends on positions otherwise than through pairs, so its virial "
            f"cannot be divided among atoms; take its short-ranged part."
        )
    pairs = find_pairs(system, potential.cutoff)
    if partition == "energy":
        return _by_energy(potential, system, pairs)
    with torch.enable_grad():
        vectors = pairs.vectors(system).detach().requires_grad_()
        energies = potential(system, pairs.with_vectors(vectors)).need("energies")
        (gradient,) = torch.autograd.grad(energies.sum(), vectors)
    outer = (gradient[:, :, None] * vectors[:, None, :]).detach().double()
    weights = {"centre": (1.0, 0.0), "neighbour": (0.0, 1.0), "half": (0.5, 0.5)}[partition]
    parts = [
        weight * segment_sum(outer, index, system.n_atoms)
        for weight, index in zip(weights, (pairs.i, pairs.j), strict=True)
        if weight
    ]
    return torch.stack(parts).sum(0)


def _by_energy(potential: Potential, system: System, pairs: Pairs) -> Float[Tensor, "atoms 3 3"]:
    """∂ε_a/∂ε of every atom: reverse mode with a variable weight of each energy, differentiated once more."""
    with torch.enable_grad():
        strain = system.cell.new_zeros((3, 3)).requires_grad_()
        flat = pairs.vectors(system).detach()
        energies = potential(system, pairs.with_vectors(flat + flat @ strain.T)).need("energies")
        weights = torch.zeros_like(energies).requires_grad_()
        (weighted,) = torch.autograd.grad((weights * energies).sum(), strain, create_graph=True)
        columns = [
            torch.autograd.grad(weighted[a, b], weights, retain_graph=True)[0]
            for a in range(3)
            for b in range(3)
        ]
    return torch.stack(columns, -1).reshape(-1, 3, 3).detach().double()


def atomic_stress(
    potential: Potential,
    system: System,
    *,
    volumes: Float[Tensor, "atoms"] | None = None,
    partition: Partition = "half",
) -> Float[Tensor, "atoms 3 3"]:
    """σ_a = W_a/Ω_a in eV/Å³, symmetrised, without the momentum of the atoms; tension positive.

    Ω_a are the given volumes (of Voronoi cells, say) or V/N, with which the mean over atoms is the stress of
    the system. See `atomic_virials` for W_a and its `partition`.

    Raises ValueError as `atomic_virials` does, for volumes that are not positive, and where none are given
    and a system has no volume.
    """
    if volumes is None:
        if not bool(system.has_volume.all()):
            raise ValueError("A system without a volume has no V/N: give `volumes`, one for each atom in Å³.")
        volumes = (system.volume / system.counts)[system.system_index]
    if volumes.shape != (system.n_atoms,) or not bool((volumes > 0).all()):
        raise ValueError(f"volumes must be {system.n_atoms} positive numbers in Å³; given {volumes}.")
    virial = atomic_virials(potential, system, partition=partition)
    return 0.5 * (virial + virial.transpose(1, 2)) / volumes[:, None, None]
