"""Coulomb's law between fixed charges."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from rikiba.core import elements as periodic_table
from rikiba.core.pairs import Pairs
from rikiba.core.results import Results
from rikiba.core.system import System
from rikiba.electrostatics.ewald import Ewald, coulomb
from rikiba.electrostatics.exclusions import exclusion_energies
from rikiba.electrostatics.pme import ParticleMeshEwald
from rikiba.nn.double_buffers import DoubleBuffers

from .base import PositionProgram, Potential


class Coulomb(DoubleBuffers, Potential):
    """E = ½ k_e Σ_i Σ_j q_i q_j/r_ij over all periodic images, for charges that are given.

    Periodic structures by smooth particle-mesh Ewald (Essmann et al., doi:10.1063/1.470117) or by Ewald's own
    sum, molecules pair by pair; a batch may hold both. Added to short-range terms it completes the potentials
    of ionic crystals, glasses and molecules: kind = "sum" with `bks_short_range`, `buckingham` or
    `lennard_jones`. Charges act from wherever: there is no cutoff radius beyond which they do not.

    Args:
        charges: of each element, e.g. {"Na": 1.0, "Cl": -1.0}, or of each atom of a structure, in its order
            (a batch then holds replicas of it), e.
        elements: which the structure may have, where charges are given atom by atom.
        method: pme: on a mesh, for more than some hundred atoms or speed; ewald: wave by wave.
        cutoff: of the part that is summed pair by pair, Å; changes the speed, not the result.
        tolerance: relative size of what is left out.
        alpha: splitting parameter, 1/Å; from cutoff and tolerance if not given.
        order: of the mesh's splines, 4 to 8.
        spacing: largest distance of mesh points, Å; from the tolerance, and at most 1, if not given.
        mesh: points along each lattice vector; from the spacing if not given. Give it where the cell moves.
        dielectric: of what surrounds the periodic cells: 1 for vacuum; a conductor if not given.
        slab_axis: 0, 1 or 2: the lattice vector that crosses the vacuum of a slab.
        allow_charged: accept periodic cells with a net charge, on a uniform neutralising background.
        remove_net_force: take the mean off the mesh's forces; they then keep momentum, but are no longer
            exactly the derivatives of the energy.
        excluded_pairs: pairs of atoms of the structure that do not interact, e.g. [[0, 1], [0, 2]].
        excluded_factors: of each excluded pair, the part of its interaction that stays; 0 if not given.
    """

    learned = False
    uses_positions = True
    references = ("10.1063/1.470117", "10.1002/andp.19213690304")

    charge_table: Tensor
    excluded: Tensor
    kept: Tensor

    def __init__(
        self,
        *,
        charges: Mapping[str, float] | Sequence[float],
        elements: Sequence[str] | None = None,
        method: Literal["pme", "ewald"] = "pme",
        cutoff: float = 9.0,
        tolerance: float = 1e-5,
        alpha: float | None = None,
        order: int = 6,
        spacing: float | None = None,
        mesh: Sequence[int] | None = None,
        dielectric: float | None = None,
        slab_axis: int | None = None,
        allow_charged: bool = False,
        remove_net_force: bool = False,
        excluded_pairs: Sequence[Sequence[int]] | None = None,
        excluded_factors: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        self.by_element = isinstance(charges, Mapping)
        self.elements, values = _charges(charges, elements)
        self.cutoff = cutoff
        self.register_buffer("charge_table", torch.tensor(values, dtype=torch.float64))
        shared = {
            "cutoff": cutoff, "tolerance": tolerance, "alpha": alpha, "dielectric": dielectric,
            "slab_axis": slab_axis, "allow_charged": allow_charged,
        }  # fmt: skip
        self.summation: ParticleMeshEwald | Ewald
        if method == "pme":
            points = None if mesh is None else tuple(mesh)
            self.summation = ParticleMeshEwald(
                order=order, spacing=spacing, mesh=points, remove_net_force=remove_net_force, **shared  # type: ignore[arg-type]
            )  # fmt: skip
        elif method == "ewald":
            self.summation = Ewald(**shared)  # type: ignore[arg-type]
        else:
            raise ValueError(f"method is 'pme' or 'ewald'; given '{method}'.")
        excluded, kept = _exclusions(excluded_pairs, excluded_factors)
        self.register_buffer("excluded", excluded, persistent=False)
        self.register_buffer("kept", kept, persistent=False)

    @property
    def receptive_field(self) -> float:
        return math.inf

    def charges_of(self, system: System) -> Float[Tensor, "atoms"]:
        """The charge of every atom, e; raises ValueError where a structure does not fit them."""
        types = self.types(system)
        if self.by_element:
            return self.charge_table[types]
        n = len(self.charge_table)
        if bool((system.counts != n).any()):
            raise ValueError(
                f"Charges are given for a structure of {n} atoms; these have {system.counts.tolist()}."
            )
        return self.charge_table.repeat(system.n_systems)

    def forward(self, system: System, pairs: Pairs) -> Results:
        q = self.charges_of(system)
        molecules = ~system.pbc.any(1)
        if not bool(molecules.any()):
            energies = self.summation(system, pairs, q).total()
        elif bool(molecules.all()):
            energies = coulomb(system, q)
        else:
            energies = torch.zeros_like(q)
            for which in (molecules, ~molecules):
                part, own, atoms = _part(system, pairs, which)
                summed = coulomb(part, q[atoms]) if which is molecules else None
                each = self.summation(part, own, q[atoms]).total() if summed is None else summed
                energies = energies.index_add(0, atoms, each)
        return Results(energies=energies + self.exclusions(system, q))

    def exclusions(self, system: System, q: Float[Tensor, "atoms"]) -> Float[Tensor, "atoms"]:
        """What excluded pairs take away, eV."""
        if not len(self.excluded):
            return torch.zeros_like(q)
        counts = system.counts
        if int(self.excluded.max()) >= int(counts.min()):
            raise ValueError(
                f"Excluded pairs name atom {int(self.excluded.max())}; a structure has {int(counts.min())} "
                "atoms."
            )
        start = (counts.cumsum(0) - counts).repeat_interleave(len(self.excluded))
        pairs = self.excluded.repeat(system.n_systems, 1) + start[:, None]
        return exclusion_energies(system, pairs[:, 0], pairs[:, 1], q, self.kept.repeat(system.n_systems))

    def position_program(self) -> PositionProgram | None:
        """Compiled kernels for periodic structures on the CPU, with the mesh."""
        if not isinstance(self.summation, ParticleMeshEwald) or self.charge_table.device.type != "cpu":
            return None
        from .coulomb_program import ParticleMeshProgram

        return ParticleMeshProgram(self, self.summation)

    @classmethod
    def examples(cls) -> "list[Coulomb]":
        """Small instances for the conformance tests; the cutoff's jump is then below what they notice."""
        charges = {"Na": 0.9, "Cl": -0.9}
        tight = {"cutoff": 8.0, "tolerance": 3e-11, "order": 8}
        return [
            cls(charges=charges, allow_charged=True, **tight),  # type: ignore[arg-type]
            cls(charges=charges, method="ewald", allow_charged=True, tolerance=1e-11, cutoff=7.0),
        ]


def _charges(
    given: Mapping[str, float] | Sequence[float], elements: Sequence[str] | None
) -> tuple[tuple[str, ...], list[float]]:
    """(elements, charges in the order of elements or of atoms)."""
    if isinstance(given, Mapping):
        if elements is not None and set(elements) != set(given):
            raise ValueError(f"Charges are given for {sorted(given)}, elements for {sorted(elements)}.")
        symbols = periodic_table.sorted_symbols(given)
        values = [float(given[s]) for s in symbols]
    else:
        if elements is None:
            raise ValueError("Charges of single atoms need `elements`: those that the structure may have.")
        symbols, values = periodic_table.sorted_symbols(elements), [float(x) for x in given]
    if not values or not np.isfinite(values).all():
        raise ValueError(f"charges must be finite numbers, at least one; given {given}.")
    return symbols, values


def _exclusions(
    pairs: Sequence[Sequence[int]] | None, factors: Sequence[float] | None
) -> tuple[Tensor, Tensor]:
    found = torch.tensor([list(p) for p in pairs or ()], dtype=torch.int64).reshape(-1, 2)
    if pairs is not None and any(len(p) != 2 or p[0] == p[1] or min(p) < 0 for p in pairs):
        raise ValueError("excluded_pairs are pairs of two different atoms, counted from 0.")
    if len({tuple(sorted(p)) for p in found.tolist()}) != len(found):
        raise ValueError("A pair is named twice in excluded_pairs.")
    if factors is not None and len(factors) != len(found):
        raise ValueError(f"{len(found)} excluded pairs but {len(factors)} factors.")
    kept = torch.zeros(len(found)).double() if factors is None else torch.tensor(list(factors)).double()
    return found, kept


def _part(system: System, pairs: Pairs, which: Tensor) -> tuple[System, Pairs, Tensor]:
    """Some of the systems, their pairs, and which atoms of the whole they have."""
    own = which[system.system_index]
    atoms = own.nonzero().flatten()
    keep = own[pairs.i].nonzero().flatten()
    place = own.cumsum(0) - 1
    given = None if pairs.given_vectors is None else pairs.given_vectors[keep]
    chosen = replace(
        pairs, i=place[pairs.i[keep]], j=place[pairs.j[keep]], shift=pairs.shift[keep], n_atoms=len(atoms),
        given_vectors=given,
    )  # fmt: skip
    return system[which.nonzero().flatten()], chosen, atoms
