"""Inference of pair potentials and of sums by compiled kernels."""

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from rikiba.core.pairs import Pairs
from rikiba.core.system import System
from rikiba.kernels.pair_forms_cpu import FORMS, pair_sum

from .base import PositionProgram, Potential, Program
from .pair_sweep import Once, sweep

Answer = tuple[Float[Tensor, "atoms"], Float[Tensor, "pairs 3"]]


class PairProgram:
    """½ Σ_ij w_{Z_i Z_j}(r_ij) of one closed form, plus an energy per atom of each type.

    Args:
        potential: gives the types of atoms.
        form: a name in `rikiba.kernels.pair_forms_cpu.FORMS`.
        parameters: of the form, [types, types, n].
        ends: (start, stop, value, slope) of each pair of types; see `pair_sum`.
        one_body: eV per atom of each type.
    """

    def __init__(
        self,
        potential: Potential,
        *,
        form: str,
        parameters: Float[Tensor, "types types n"],
        ends: Float[Tensor, "types types 4"],
        one_body: Float[Tensor, "types"] | None = None,
    ) -> None:
        self._types = potential.types
        self._form = FORMS[form]
        self._parameters = parameters.detach().double().clone().contiguous().numpy()
        self._ends = ends.detach().double().clone().contiguous().numpy()
        self._one_body = None if one_body is None else one_body.detach().double().clone()
        self._once = Once()
        plain = bool((ends[..., 0] == ends[..., 1]).all()) and not bool(ends[..., 3].any())
        self._cut = form == "lennard_jones" and plain

    def __call__(self, system: System, pairs: Pairs, vectors: Float[Tensor, "pairs 3"]) -> Answer:
        """(energies per atom in eV, ∂E/∂r_ij in eV/Å), float64; pairs may reach beyond the cutoff."""
        types = self._types(system)
        energies = torch.zeros(len(types), dtype=torch.float64)
        if self._one_body is not None:
            energies = self._one_body[types]
        given = vectors.detach().to(torch.float64).contiguous()
        gradient = torch.zeros_like(given)
        pair_sum(
            self._form, given.numpy(), pairs.i.numpy(), pairs.j.numpy(), types.numpy(), self._parameters,
            self._ends, False, energies.numpy(), gradient.numpy(),
        )  # fmt: skip
        return energies, gradient

    def sweep(
        self, system: System, pairs: Pairs
    ) -> tuple[Float[Tensor, "atoms"], Float[Tensor, "atoms 3"], Float[Tensor, "systems 3 3"]]:
        """(energies per atom, forces, ∂E/∂ε before symmetrisation); pairs may reach beyond the cutoff."""
        types = self._types(system)
        known = types.numpy()
        start = torch.zeros(len(types), dtype=torch.float64)
        if self._one_body is not None:
            start = self._one_body[types]
        if self._cut:
            return self._swept(system, self._once(pairs), known, start)

        def block(vectors: Any, i: Any, j: Any, energies: Any, gradient: Any) -> None:
            pair_sum(
                self._form, vectors, i, j, known, self._parameters, self._ends, True, energies, gradient
            )  # fmt: skip

        energies, forces, outer = sweep(block, system, self._once(pairs), start)
        # each pair stands for both directions
        return energies, 2.0 * forces, 2.0 * outer

    def _swept(
        self, system: System, once: Pairs, types: np.ndarray, energies: Float[Tensor, "atoms"]
    ) -> tuple[Float[Tensor, "atoms"], Float[Tensor, "atoms 3"], Float[Tensor, "systems 3 3"]]:
        """Lennard-Jones that is cut or shifted: one kernel for all of it."""
        from rikiba.kernels.pair_sweep_cpu import lennard_jones_sweep

        positions, cell = (x.detach().contiguous().numpy() for x in (system.positions, system.cell))
        forces, virial = np.zeros_like(positions), np.zeros_like(cell)
        lennard_jones_sweep(
            positions, cell, system.system_index.numpy(), once.i.numpy(), once.j.numpy(), once.shift.numpy(),
            types, self._parameters, self._ends, energies.numpy(), forces, virial,
        )  # fmt: skip
        return energies, torch.from_numpy(forces), torch.from_numpy(virial)


class AutogradProgram:
    """A snapshot of a potential without compiled kernels, by automatic differentiation."""

    def __init__(self, potential: Potential) -> None:
        self._potential = copy.deepcopy(potential).requires_grad_(False)

    def __call__(self, system: System, pairs: Pairs, vectors: Float[Tensor, "pairs 3"]) -> Answer:
        """(energies per atom in eV, ∂E/∂r_ij in eV/Å), float64."""
        with torch.enable_grad():
            leaf = vectors.detach().requires_grad_()
            energies = self._potential(system, pairs.with_vectors(leaf)).need("energies")
            gradient = None
            if energies.requires_grad:
                (gradient,) = torch.autograd.grad(energies.sum(), leaf, allow_unused=True)
        if gradient is None:
            gradient = torch.zeros_like(leaf)
        return energies.detach().to(torch.float64), gradient.to(torch.float64)


class BlockProgram(AutogradProgram):
    """The same for a strictly local potential, some centres after others.

    ε_i reads the pairs of centre i and the elements at both ends alone, so that a block of centres is a
    structure of its own: their neighbours come along without pairs. What automatic differentiation keeps of
    a block is small enough to be had again and again from the same memory.

    Args:
        potential: with a receptive field of one cutoff, which reads no positions.
        block: pairs of a block, about.
    """

    def __init__(self, potential: Potential, *, block: int = 24_000) -> None:
        if potential.receptive_field > potential.cutoff or potential.uses_positions:
            raise ValueError(
                f"{type(potential).__name__} sees {potential.receptive_field} Å with a cutoff of "
                f"{potential.cutoff} Å; blocks need a potential that sees its neighbours alone."
            )
        super().__init__(potential)
        self._block = block

    def __call__(self, system: System, pairs: Pairs, vectors: Float[Tensor, "pairs 3"]) -> Answer:
        """(energies per atom in eV, ∂E/∂r_ij in eV/Å), float64; pairs are ordered by centre."""
        if len(pairs) <= 2 * self._block or pairs.exchange is not None:
            return super().__call__(system, pairs, vectors)
        start = pairs.row_start.numpy()
        energies = torch.empty(system.n_atoms, dtype=torch.float64)
        gradient = torch.empty((len(pairs), 3), dtype=torch.float64)
        place, first = torch.full((system.n_atoms,), -1), 0
        while first < system.n_atoms:
            last = int(np.searchsorted(start, start[first] + self._block, "right")) - 1
            last = max(first + 1, last)
            rows = slice(int(start[first]), int(start[last]))
            part, near = _block_of(system, pairs, vectors, (first, last), rows, place)
            found, slope = super().__call__(part, near, near.vectors(part))
            energies[first:last], gradient[rows] = found[: last - first], slope
            first = last
        return energies, gradient


def _block_of(
    system: System, pairs: Pairs, vectors: Tensor, centres: tuple[int, int], rows: slice, place: Tensor
) -> tuple[System, Pairs]:
    """Centres first … last − 1, then their other neighbours, and the pairs of the centres."""
    own = torch.arange(*centres)
    j = pairs.j[rows]
    others = torch.unique(j[(j < centres[0]) | (j >= centres[1])])
    atoms = torch.cat([own, others])
    place[atoms] = torch.arange(len(atoms))
    fields = ("positions", "numbers", "system_index", "magmoms", "tags", "owned")
    given = {name: getattr(system, name) for name in fields}
    part = system.replace(**{name: x[atoms] for name, x in given.items() if x is not None})
    near = replace(
        pairs,
        i=pairs.i[rows] - centres[0],
        j=place[j],
        shift=pairs.shift[rows],
        n_atoms=len(atoms),
        given_vectors=vectors[rows],
    )
    return part, near


class SumProgram:
    """Σ_k E_k, each term by its own program on the pairs within its own cutoff.

    Args:
        whole: gives the types of atoms.
        terms: (program, cutoff in Å); None where the program itself leaves out pairs beyond its cutoff.
    """

    def __init__(self, whole: Potential, terms: Sequence[tuple[Program, float | None]]) -> None:
        self._types = whole.types
        self._terms = list(terms)

    def __call__(self, system: System, pairs: Pairs, vectors: Float[Tensor, "pairs 3"]) -> Answer:
        """(energies per atom in eV, ∂E/∂r_ij in eV/Å), float64."""
        self._types(system)  # each element known to the sum
        energies = torch.zeros(system.n_atoms, dtype=torch.float64)
        gradient = torch.zeros((len(pairs), 3), dtype=torch.float64)
        for program, cutoff in self._terms:
            if cutoff is None or cutoff >= pairs.cutoff:
                part, slope = program(system, pairs, vectors)
                gradient += slope
            else:
                own, parent = pairs.with_vectors(vectors).within(system, cutoff)
                part, slope = program(system, own, vectors[parent])
                gradient.index_add_(0, parent, slope)
            energies += part
        return energies, gradient


class SweepSum:
    """Σ_k E_k from positions to forces: terms that sweep do, others run on the pairs within their cutoffs.

    Args:
        whole: gives the types of atoms.
        terms: (program, cutoff in Å).
    """

    def __init__(self, whole: Potential, terms: Sequence[tuple[Program | PositionProgram, float]]) -> None:
        self._types = whole.types
        self._terms = list(terms)

    def sweep(
        self, system: System, pairs: Pairs
    ) -> tuple[Float[Tensor, "atoms"], Float[Tensor, "atoms 3"], Float[Tensor, "systems 3 3"]]:
        """(energies per atom, forces, ∂E/∂ε before symmetrisation); pairs may reach beyond the cutoffs."""
        self._types(system)  # each element known to the sum
        energies = torch.zeros(system.n_atoms, dtype=torch.float64)
        forces, virial = torch.zeros_like(system.positions), torch.zeros_like(system.cell)
        for program, cutoff in self._terms:
            if isinstance(program, PositionProgram):
                part, own_forces, own_virial = program.sweep(system, pairs)
            else:
                part, own_forces, own_virial = _swept(program, system, pairs, cutoff)
            energies, forces, virial = energies + part, forces + own_forces, virial + own_virial
        return energies, forces, virial


def _swept(program: Program, system: System, pairs: Pairs, cutoff: float) -> tuple[Tensor, Tensor, Tensor]:
    from rikiba.kernels.pair_sweep_cpu import collect

    near, _ = pairs.within(system, cutoff)
    vectors = near.vectors(system).detach()
    energies, gradient = program(system, near, vectors)
    forces, virial = torch.zeros_like(system.positions), torch.zeros_like(system.cell)
    collect(
        vectors.contiguous().numpy(), gradient.contiguous().numpy(), near.i.numpy(), near.j.numpy(),
        system.system_index.numpy(), forces.numpy(), virial.numpy(),
    )  # fmt: skip
    return energies, forces, virial
