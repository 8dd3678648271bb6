"""Coulomb's law of fixed charges from positions to forces in compiled kernels."""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from rikiba.core import units
from rikiba.core.pairs import Pairs
from rikiba.core.system import System
from rikiba.electrostatics.pme import ParticleMeshEwald, Shape, wave_numbers
from rikiba.kernels import coulomb_cpu, particle_mesh_cpu

from .coulomb import Coulomb
from .pair_sweep import Once

Answer = tuple[Float[Tensor, "atoms"], Float[Tensor, "atoms 3"], Float[Tensor, "systems 3 3"]]


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
        self._influence: list[tuple[Tensor, Tensor]] = []

    def sweep(self, system: System, pairs: Pairs) -> Answer:
        """(energies per atom, forces, ∂E/∂ε before symmetrisation); pairs may reach beyond the cutoff."""
        q = self._potential.charges_of(system)
        if not bool(system.pbc.any(1).all()):
            return _differentiated(lambda s: self._potential(s, pairs).need("energies"), system)
        self._summation.check(system, pairs, q)
        energies, forces, virial = self._near(system, pairs, q)
        for s in range(system.n_systems):
            self._mesh(system, s, q, energies, forces, virial)
        energies = energies + self._summation.self_interaction(q)
        small = len(self._potential.excluded) > 0
        if not small and not self._summation.has_boundary:
            return energies, forces, virial
        more = _differentiated(
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

    def _mesh(
        self, system: System, s: int, q: Tensor, energies: Tensor, forces: Tensor, virial: Tensor
    ) -> None:
        """Add the reciprocal part of one system."""
        rows, cell, order = system.atom_rows(s), system.cell[s].detach(), self._summation.order
        shape = self._summation.shape(cell)
        inverse = torch.linalg.inv(cell)
        steps = (inverse * torch.tensor(shape)).contiguous()
        u, own = (system.positions[rows].detach() @ steps).numpy(), q[rows].numpy()
        padded = np.zeros((*shape[:2], shape[2] + particle_mesh_cpu.LANES))
        particle_mesh_cpu.spread_values(u, own, order, padded)
        mesh = np.empty(shape)
        particle_mesh_cpu.fold(padded, mesh)
        waves = torch.fft.rfftn(torch.from_numpy(mesh))
        n0, n1, _ = (n.ravel() for n in wave_numbers(shape))
        coulomb_cpu.convolve(
            waves.numpy(), self._of_cell(s, cell, shape).numpy(), n0, n1, shape[2],
            inverse.contiguous().numpy(), self._summation.splitting, virial[s].numpy(),
        )  # fmt: skip
        potential = torch.fft.irfftn(waves, s=shape, norm="forward")
        particle_mesh_cpu.unfold(potential.numpy(), padded)
        values, slopes = np.empty(len(u)), np.empty((len(u), 3))
        particle_mesh_cpu.gather_slopes(u, padded, order, values, slopes)
        coulomb_cpu.mesh_forces(
            own, values, slopes, steps.numpy(), self._summation.remove_net_force,
            energies[rows].numpy(), forces[rows].numpy(),
        )  # fmt: skip

    def _of_cell(self, s: int, cell: Tensor, shape: Shape) -> Tensor:
        """The influence function; kept while the cell stays."""
        while len(self._influence) <= s:
            self._influence.append((torch.zeros(3, 3).double(), torch.empty(0)))
        if not torch.equal(self._influence[s][0], cell):
            self._influence[s] = (cell.clone(), self._summation.influence(cell, shape).contiguous())
        return self._influence[s][1]


def _differentiated(energies: Callable[[System], Tensor], system: System) -> Answer:
    """Energies, forces and ∂E/∂ε of a function of a system by automatic differentiation."""
    with torch.enable_grad():
        positions = system.positions.detach().requires_grad_()
        strain = torch.zeros_like(system.cell).requires_grad_()
        deformation = torch.eye(3, dtype=strain.dtype) + strain
        strained = system.replace(
            positions=torch.einsum("ab,abc->ac", positions, deformation[system.system_index]),
            cell=system.cell.detach() @ deformation,
        )
        found = energies(strained)
        gradient, virial = torch.autograd.grad(found.sum(), (positions, strain), allow_unused=True)
    empty = gradient is None
    forces = torch.zeros_like(positions) if empty else -gradient
    return found.detach(), forces.detach(), torch.zeros_like(strain).detach() if virial is None else virial
