"""What compiled programs with charges share: the mesh of one system, and terms by differentiation."""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from rikiba.core.system import System
from rikiba.electrostatics.pme import ParticleMeshEwald, Shape, wave_numbers
from rikiba.kernels import coulomb_cpu, particle_mesh_cpu

Answer = tuple[Float[Tensor, "atoms"], Float[Tensor, "atoms 3"], Float[Tensor, "systems 3 3"]]


class MeshSum:
    """The reciprocal part of particle-mesh Ewald in compiled kernels; the influence function is kept.

    Args:
        summation: splitting and mesh.
    """

    def __init__(self, summation: ParticleMeshEwald) -> None:
        self._summation = summation
        self._influence: list[tuple[Tensor, Tensor]] = []

    def add(
        self,
        system: System,
        places: Float[Tensor, "atoms 3"],
        q: Float[Tensor, "atoms"],
        energies: Float[Tensor, "atoms"],
        forces: Float[Tensor, "atoms 3"],
        virial: Float[Tensor, "systems 3 3"],
    ) -> None:
        """Add energies, forces and ∂E/∂ε of charges at `places` in the cells of a System, eV and eV/Å."""
        for s in range(system.n_systems):
            rows = system.atom_rows(s)
            self._one(s, system.cell[s].detach(), places[rows], q[rows], energies[rows], forces[rows], virial)

    def _one(
        self,
        s: int,
        cell: Tensor,
        places: Tensor,
        q: Tensor,
        energies: Tensor,
        forces: Tensor,
        virial: Tensor,
    ) -> None:
        order, shape = self._summation.order, self._summation.shape(cell)
        inverse = torch.linalg.inv(cell)
        steps = (inverse * torch.tensor(shape)).contiguous()
        u, own = (places.detach() @ steps).numpy(), q.numpy()
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
            energies.numpy(), forces.numpy(),
        )  # fmt: skip

    def _of_cell(self, s: int, cell: Tensor, shape: Shape) -> Tensor:
        """The influence function; kept while the cell stays."""
        while len(self._influence) <= s:
            self._influence.append((torch.zeros(3, 3).double(), torch.empty(0)))
        if not torch.equal(self._influence[s][0], cell):
            self._influence[s] = (cell.clone(), self._summation.influence(cell, shape).contiguous())
        return self._influence[s][1]


def differentiated(energies: Callable[[System], Tensor], system: System) -> Answer:
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
