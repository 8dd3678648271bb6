"""Coulomb's law of fixed charges from positions to forces in compiled kernels."""

import torch
from torch import Tensor

from rikiba.core import units
from rikiba.core.pairs import Pairs
from rikiba.core.system import System
from rikiba.electrostatics.pme import ParticleMeshEwald
from rikiba.kernels import coulomb_cpu

from .coulomb import Coulomb
from .mesh_program import Answer, MeshSum, differentiated
from .pair_sweep import Once


class ParticleMeshProgram:
    """Particle-mesh Ewald of periodic structures; other structures and small terms by differentiation.

    Args:
        potential: gives the charges, and energies of structures that are not periodic.
        summation: cutoff, splitting and mesh.
    """

    def __init__(self, potential: Coulomb, summation: ParticleMeshEwald) -> None:
        self._potential, self._summation = potential, summation
        self._table = coulomb_cpu.erfc_table(summation.splitting * summation.cutoff)
        self._once = Once()
        self._mesh = MeshSum(summation)

    def sweep(self, system: System, pairs: Pairs) -> Answer:
        """(energies per atom, forces, ∂E/∂ε before symmetrisation); pairs may reach beyond the cutoff."""
        q = self._potential.charges_of(system)
        if not bool(system.pbc.any(1).all()):
            return differentiated(lambda s: self._potential(s, pairs).need("energies"), system)
        self._summation.check(system, pairs, q)
        energies, forces, virial = self._near(system, pairs, q)
        self._mesh.add(system, system.positions, q, energies, forces, virial)
        energies = energies + self._summation.self_interaction(q)
        small = len(self._potential.excluded) > 0
        if not small and not self._summation.has_boundary:
            return energies, forces, virial
        more = differentiated(
            lambda s: self._summation.boundary(s, q) + self._potential.exclusions(s, q), system
        )
        return energies + more[0], forces + more[1], virial + more[2]

    def _near(self, system: System, pairs: Pairs, q: Tensor) -> Answer:
        once = self._once(pairs)
        energies = torch.zeros(system.n_atoms, dtype=torch.float64)
        forces, virial = torch.zeros(system.n_atoms, 3).double(), torch.zeros(system.n_systems, 3, 3).double()
        coulomb_cpu.screened_pairs(
            system.positions.detach().contiguous().numpy(), system.cell.detach().contiguous().numpy(),
            system.system_index.numpy(), once.i.numpy(), once.j.numpy(), once.shift.numpy(), q.numpy(),
            self._summation.splitting, self._summation.cutoff, self._table,
            energies.numpy(), forces.numpy(), virial.numpy(),
        )  # fmt: skip
        k = units.coulomb_constant
        return energies * k, forces * k, virial * k
