"""A reference engine as a term of a sum: what a cheaper method gives, for a network to correct."""

import math
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any, final

import torch
from ase import Atoms
from jaxtyping import Float
from torch import Tensor

from rikiba import config
from rikiba.core import elements as periodic_table
from rikiba.core.pairs import Pairs
from rikiba.core.results import Results
from rikiba.core.system import System
from rikiba.reference.base import Failure, Reference
from rikiba.reference.cache import Cached, content_key
from rikiba.reference.isolated_atoms import ground_state_multiplicity, isolated_atoms

from .base import Potential

_REMEMBERED_ATOMS = 1_000_000
Answer = tuple[Float[Tensor, "systems"], Float[Tensor, "atoms 3"], Float[Tensor, "systems 3 3"]]
"""Energies in eV, forces in eV/Å, ∂E/∂ε in eV (NaN of a periodic structure whose engine gives no stress)."""


class ReferenceBaseline(Potential):
    """E = E_engine(structure) − Σ_a E_engine(atom a alone): the baseline of Δ-learning.

    A sum of a learned potential and this one is trained on labels of a better method: what is left to learn
    is the difference of two methods, smaller and smoother than either energy (Ramakrishnan, Dral, Rupp, von
    Lilienfeld 2015, doi:10.1021/acs.jctc.5b00099). As single atoms have no energy here, the E0 of the learned
    term are those of the better method.

    Each structure is computed once, alone, and remembered (about a million atoms), so that epochs of training
    cost nothing further. An answer costs what the engine takes. Energies belong to whole structures: those of
    single atoms are equal shares. Derivatives end with forces and stress; a second derivative raises
    RuntimeError. Raises ValueError with the engine's reason where it has no answer for a structure. An engine
    without stress leaves the stress of the sum NaN.

    Args:
        elements: symbols that structures may have.
        reference: the engine as a table with its `kind`, e.g. {kind = "tblite", method = "GFN1-xTB"} or
            {kind = "ase_any", calculator = "package.module:Class", level_of_theory = "…"}.
        isolated: energy of each single atom from the engine, eV; it is asked if they are not given.
        cache: folder that keeps answers for other processes and later runs; in memory only if not given.
    """

    learned = False
    uses_positions = True
    additive = False  # an engine's charges may flow between molecules far apart
    references = ("10.1021/acs.jctc.5b00099",)

    def __init__(
        self,
        *,
        elements: Sequence[str],
        reference: Mapping[str, Any],
        isolated: Mapping[str, float] | None = None,
        cache: str | None = None,
    ) -> None:
        super().__init__()
        self.elements = periodic_table.sorted_symbols(elements)
        self.cutoff = 0.0
        self.reference: Reference = config.build_kind("reference", reference, where="reference")
        own = tuple(getattr(self.reference, "references", ()))
        self._cache = cache
        missing = sorted(set(self.elements) - set(isolated)) if isolated is not None else []
        if missing:
            raise ValueError(f"isolated has no energy of {', '.join(missing)}; give all, or none.")
        self._memory = _Memory()
        if isolated is not None:
            self._memory.isolated = {s: float(e) for s, e in isolated.items()}
        self.references = (*type(self).references, *own)  # type: ignore[misc]

    @property
    def receptive_field(self) -> float:
        return math.inf

    @property
    def isolated(self) -> dict[str, float]:
        """Energy of each single atom from the engine, eV."""
        if self._memory.isolated is None:
            self._memory.isolated = isolated_atoms(self._labels, self.elements)
        return self._memory.isolated

    @property
    def _labels(self) -> Reference:
        """The engine, with what is on disk before it."""
        if self._cache is None:
            return self.reference
        return Cached(reference=self.reference, folder=self._cache)

    def forward(self, system: System, pairs: Pairs) -> Results:
        self.types(system)
        energy, forces, virial = self.answers(system)
        energy = _Differentiated.apply(system.positions, system.cell, energy, forces, virial, system)
        return Results(energies=shared_out(energy, system))

    def answers(self, system: System) -> Answer:
        """The engine's answers, those to new structures after one another; no graph."""
        frames = [_stripped(atoms) for atoms in system.to_ase()]
        keys = [content_key(atoms, "") for atoms in frames]
        found = {key: self._memory.answers[key] for key in keys if key in self._memory.answers}
        for k, (key, atoms) in enumerate(zip(keys, frames, strict=True)):
            if key not in found:
                found[key] = self._asked(atoms, f"structure {k} of {len(frames)}")
                self._memory.keep(key, found[key])
        device = system.positions.device
        energy, forces, virial = (
            torch.cat(part).to(device) for part in zip(*(found[key] for key in keys), strict=True)
        )
        return energy, forces, virial

    def _asked(self, atoms: Atoms, where: str) -> Answer:
        """Of the engine, relative to single atoms."""
        virial = torch.full((1, 3, 3), torch.nan, dtype=torch.float64)
        if _is_lone(atoms):
            return torch.zeros(1).double(), torch.zeros(1, 3).double(), torch.zeros_like(virial)
        (answer,) = self._labels.label([atoms])
        if isinstance(answer, Failure):
            raise ValueError(
                f"{self.reference.level_of_theory}, the baseline of this potential, gives no answer for "
                f"{atoms.get_chemical_formula()} ({where}): {answer.reason}."
            )
        energy = float(answer.get_potential_energy()) - sum(self.isolated[s] for s in answer.symbols)
        forces = torch.from_numpy(answer.get_forces(apply_constraint=False).copy())
        if "stress" in answer.calc.results:
            virial[0] = torch.from_numpy(answer.get_stress(voigt=False)) * answer.get_volume()
        elif not answer.pbc.any():
            virial[0] = -torch.from_numpy(answer.positions).T @ forces
        return torch.tensor([energy], dtype=torch.float64), forces.double(), virial

    def position_program(self) -> "EngineProgram":
        """The engine's own forces, with no graph."""
        return EngineProgram(self)

    @classmethod
    def examples(cls) -> "list[ReferenceBaseline]":
        """Small instances for the conformance tests."""
        smooth = {"epsilon": 0.05, "r0": 2.0, "rho0": 5.0, "rcut1": 1.6, "rcut2": 2.3}
        engine = {
            "kind": "ase_any", "calculator": "ase.calculators.morse:MorsePotential", "arguments": smooth,
            "level_of_theory": "Morse", "min_distance_ratio": None, "max_force": None,
        }  # fmt: skip
        return [cls(elements=("O", "Si"), reference=engine)]


@final
class EngineProgram:
    """A baseline from positions to forces."""

    def __init__(self, potential: ReferenceBaseline) -> None:
        self._potential = potential

    def sweep(self, system: System, pairs: Pairs) -> tuple[Tensor, Tensor, Tensor]:
        """(energies per atom, forces, ∂E/∂ε)."""
        self._potential.types(system)
        energy, forces, virial = self._potential.answers(system)
        return shared_out(energy, system), forces, virial


def shared_out(energy: Float[Tensor, "systems"], system: System) -> Float[Tensor, "atoms"]:
    """The energy of each structure in equal parts over its atoms."""
    return (energy / system.counts)[system.system_index]


class _Differentiated(torch.autograd.Function):
    """Energies with the derivatives that an engine gave: ∂E/∂r = −F, ∂E/∂h from hᵀ ∂E/∂h = ∂E/∂ε + rᵀF."""

    @staticmethod
    def forward(
        ctx: Any,
        positions: Tensor,
        cell: Tensor,
        energy: Tensor,
        forces: Tensor,
        virial: Tensor,
        system: System,
    ) -> Tensor:
        ctx.system = system
        ctx.save_for_backward(positions, cell, forces, virial)
        return energy.clone()

    @staticmethod
    def backward(ctx: Any, by_energy: Tensor) -> tuple[Tensor | None, ...]:
        positions, cell, forces, virial = ctx.saved_tensors
        system = ctx.system
        moments = positions.detach()[:, :, None] * forces[:, None, :]
        whole = virial + torch.zeros_like(virial).index_add_(0, system.system_index, moments)
        spanned = system.has_volume[:, None, None]
        frame = torch.where(spanned, cell.detach(), torch.eye(3, dtype=cell.dtype, device=cell.device))
        by_cell = torch.where(spanned, torch.linalg.solve(frame.transpose(1, 2), whole), 0.0)
        by_positions, by_cell = _Last.apply(positions, cell, -forces, by_cell)
        shares = by_energy[system.system_index, None]
        return by_positions * shares, by_cell * by_energy[:, None, None], None, None, None, None


class _Last(torch.autograd.Function):
    """First derivatives as they are; what would differentiate them again is told that it cannot."""

    @staticmethod
    def forward(
        ctx: Any, positions: Tensor, cell: Tensor, by_positions: Tensor, by_cell: Tensor
    ) -> tuple[Tensor, Tensor]:
        return by_positions.clone(), by_cell.clone()

    @staticmethod
    def backward(ctx: Any, *_: Tensor) -> None:
        raise RuntimeError(
            "A baseline from a reference engine has forces but no second derivatives; take differences of "
            "its forces."
        )


def _is_lone(atoms: Atoms) -> bool:
    """A neutral atom by itself, of which no other multiplicity than its ground state's is asked."""
    if len(atoms) != 1 or atoms.pbc.any() or atoms.info.get("charge", 0.0) != 0.0:
        return False
    ground = ground_state_multiplicity(atoms[0].symbol)
    return int(atoms.info.get("spin", ground)) == ground


def _stripped(atoms: Atoms) -> Atoms:
    """Without what an engine does not read, such as a group's name."""
    atoms.info = {k: v for k, v in atoms.info.items() if k in ("charge", "spin")}
    return atoms


class _Memory:
    """Answers by the content of the structure, one for all copies of a potential in a process."""

    def __init__(self) -> None:
        self.answers: OrderedDict[str, Answer] = OrderedDict()
        self.isolated: dict[str, float] | None = None

    def __deepcopy__(self, memo: Any) -> "_Memory":
        return self

    def keep(self, key: str, answer: Answer) -> None:
        """And forget the oldest beyond what is remembered."""
        self.answers[key] = answer
        atoms = sum(len(forces) for _, forces, _ in self.answers.values())
        while atoms > _REMEMBERED_ATOMS and len(self.answers) > 1:
            _, (_, forces, _) = self.answers.popitem(last=False)
            atoms -= len(forces)
