"""What a minimiser may move: the atoms alone, or atoms and cell together."""

from typing import Literal, Protocol, final, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from rikiba.core import units
from rikiba.core.results import Results
from rikiba.core.system import System

CellMode = Literal["fixed", "full", "hydrostatic"]


@runtime_checkable
class Coordinates(Protocol):
    """Generalised coordinates of a batch: rows of three numbers, each row belonging to one system."""

    start: Float[Tensor, "rows 3"]
    row_system: Int[Tensor, "rows"]
    needs_stress: bool

    def narrowed(self, systems: Bool[Tensor, "systems"]) -> "Coordinates":
        """The coordinates of some of the systems; their rows stay in order."""
        ...

    def system(self, x: Float[Tensor, "rows 3"]) -> System:
        """The structures at x."""
        ...

    def objective(self, system: System, results: Results) -> Float[Tensor, "systems"]:
        """What is minimised, eV."""
        ...

    def gradient(
        self, x: Float[Tensor, "rows 3"], system: System, results: Results
    ) -> Float[Tensor, "rows 3"]:
        """Its derivative with respect to x."""
        ...

    def residual_stress(self, system: System, results: Results) -> Float[Tensor, "systems"]:
        """Largest component of the stress that the cell could still relax, GPa; 0 for a fixed cell."""
        ...


def residual_force(
    results: Results, system: System, fixed: Bool[Tensor, "atoms"]
) -> Float[Tensor, "systems"]:
    """Length of the largest force on an atom that is free to move, eV/Å."""
    length = torch.where(fixed, 0.0, results.need("forces").double().norm(dim=-1))
    largest = length.new_zeros(system.n_systems)
    return largest.scatter_reduce(0, system.system_index, length, "amax")


@final
class FixedCell:
    """The positions of the atoms that are free."""

    needs_stress = False

    def __init__(self, system: System, fixed: Bool[Tensor, "atoms"]) -> None:
        self.start = system.positions
        self.row_system = system.system_index
        self._system = system
        self._fixed = fixed

    def narrowed(self, systems: Tensor) -> "FixedCell":
        return FixedCell(self._system[systems], self._fixed[systems[self._system.system_index]])

    def system(self, x: Tensor) -> System:
        return self._system.replace(positions=x)

    def objective(self, system: System, results: Results) -> Tensor:
        return results.need("energy").double()

    def gradient(self, x: Tensor, system: System, results: Results) -> Tensor:
        return torch.where(self._fixed[:, None], 0.0, -results.need("forces").double())

    def residual_stress(self, system: System, results: Results) -> Tensor:
        return torch.zeros_like(results.need("energy").double())


@final
class VariableCell:
    """Positions u in the undeformed cell and a symmetric logarithmic strain S: r = u e^S, cell = cell₀ e^S.

    The enthalpy H = E + P V is minimised. With F = e^S, ∂H/∂u = −f Fᵀ and ∂H/∂F = V F⁻ᵀ (σ + P); the step
    from F to S is the exact derivative of the matrix exponential. A symmetric S cannot turn the cell. Strain
    is scaled by √N (V/N)^(1/3), which makes it as stiff as the positions. Fixed atoms keep their fractional
    coordinates. After Tadmor et al., doi:10.1103/PhysRevB.59.235 (cell strain as coordinates).

    Args:
        system: the structures; periodic along three axes.
        fixed: atoms that do not move.
        mode: "full" relaxes six strain components, "hydrostatic" the volume only.
        pressure_GPa: external pressure of each system, GPa.

    Raises ValueError for a system that is not periodic along three axes.
    """

    needs_stress = True

    def __init__(
        self,
        system: System,
        fixed: Bool[Tensor, "atoms"],
        mode: Literal["full", "hydrostatic"],
        pressure_GPa: Float[Tensor, "systems"],
    ) -> None:
        if not bool(system.pbc.all()):
            k = int((~system.pbc.all(1)).nonzero()[0])
            raise ValueError(
                f"A cell is relaxed along three periodic axes; system {k} has pbc {system.pbc[k].tolist()}. "
                f"Use cell = 'fixed'."
            )
        n = system.n_systems
        self._system, self._fixed, self._mode = system, fixed, mode
        self._pressure_GPa = pressure_GPa
        self._pressure = (pressure_GPa * units.gigapascal)[:, None, None]
        self._scale = (system.counts.double().sqrt() * (system.volume / system.counts) ** (1 / 3))[
            :, None, None
        ]
        strain = system.positions.new_zeros((3 * n, 3))
        self.start = torch.cat([system.positions, strain])
        owner = torch.repeat_interleave(torch.arange(n, device=strain.device), 3)
        self.row_system = torch.cat([system.system_index, owner])

    def narrowed(self, systems: Tensor) -> "VariableCell":
        fixed = self._fixed[systems[self._system.system_index]]
        return VariableCell(self._system[systems], fixed, self._mode, self._pressure_GPa[systems])

    def _deformation(self, strain_rows: Tensor) -> Tensor:
        s = strain_rows.reshape(-1, 3, 3) / self._scale
        s = 0.5 * (s + s.transpose(1, 2))
        if self._mode == "hydrostatic":
            trace = torch.diagonal(s, dim1=1, dim2=2).sum(1) / 3.0
            s = trace[:, None, None] * torch.eye(3, dtype=s.dtype, device=s.device)
        return torch.linalg.matrix_exp(s)

    def system(self, x: Tensor) -> System:
        n = self._system.n_atoms
        f = self._deformation(x[n:])
        positions = torch.einsum("ab,abc->ac", x[:n], f[self._system.system_index])
        return self._system.replace(positions=positions, cell=self._system.cell @ f)

    def objective(self, system: System, results: Results) -> Tensor:
        return results.need("energy").double() + self._pressure[:, 0, 0] * system.volume

    def _total_stress(self, results: Results) -> Tensor:
        stress = results.need("stress").double()
        return stress + self._pressure * torch.eye(3, dtype=stress.dtype, device=stress.device)

    def gradient(self, x: Tensor, system: System, results: Results) -> Tensor:
        n = self._system.n_atoms
        with torch.enable_grad():
            rows = x[n:].detach().requires_grad_()
            f = self._deformation(rows)
            by_f = system.volume[:, None, None] * torch.linalg.solve(
                f.detach().transpose(1, 2), self._total_stress(results)
            )
            (by_strain,) = torch.autograd.grad(f, rows, by_f)
        back = f.detach().transpose(1, 2)[self._system.system_index]
        by_position = -torch.einsum("ab,abc->ac", results.need("forces").double(), back)
        return torch.cat([torch.where(self._fixed[:, None], 0.0, by_position), by_strain])

    def residual_stress(self, system: System, results: Results) -> Tensor:
        total = self._total_stress(results) / units.gigapascal
        if self._mode == "hydrostatic":
            return torch.diagonal(total, dim1=1, dim2=2).mean(1).abs()
        return total.abs().amax((1, 2))
