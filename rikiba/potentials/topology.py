"""Potentials of a fixed topology: n atoms in a stated order, of which every structure holds whole copies."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, final

import torch
from ase import Atoms
from jaxtyping import Bool, Float, Int
from torch import Tensor

from rikiba.core import elements as periodic_table
from rikiba.core.pairs import Pairs
from rikiba.core.results import Results
from rikiba.core.system import System
from rikiba.nn.double_buffers import DoubleBuffers

from .base import Potential


class TopologyError(ValueError):
    """A structure that is no whole number of copies of the topology, or tables that describe none."""


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Copies:
    """Where the copies of a topology lie in a System."""

    positions: Float[Tensor, "copies n 3"]
    cell: Float[Tensor, "copies 3 3"]
    to_fractions: Float[Tensor, "copies 3 3"]
    """Fractional coordinates along periodic axes are d @ to_fractions; zero along others."""
    half_width: Float[Tensor, "copies"]
    """Half the smallest distance of two parallel faces of the cell, Å; inf without periodic axes."""

    def images(self, difference: Float[Tensor, "copies terms 3"]) -> Float[Tensor, "copies terms 3"]:
        """The whole number of lattice vectors that brings a difference to its nearest image."""
        return -torch.round(difference.detach() @ self.to_fractions)

    def vectors(
        self, first: Int[Tensor, "terms"], second: Int[Tensor, "terms"]
    ) -> Float[Tensor, "copies terms 3"]:
        """r_second − r_first by nearest images, Å; atoms of one molecule may lie in different images.

        Raises TopologyError where one is as long as half the cell is wide: which image is bonded would be
        a guess.
        """
        d = self.positions[:, second] - self.positions[:, first]
        if bool(self.half_width.isinf().all()):
            return d
        d = d + self.images(d) @ self.cell
        limit = self.half_width[:, None]
        long = d.detach().square().sum(-1) >= limit * limit
        if bool(long.any()):
            copy, term = (int(x) for x in long.nonzero()[0])
            raise TopologyError(
                f"Atoms {int(first[term])} and {int(second[term])} of copy {copy} of the topology are "
                f"{float(d[copy, term].norm()):.3f} Å apart by nearest images, and half the cell is "
                f"{float(self.half_width[copy]):.3f} Å wide: which image is bonded cannot be told. Use a "
                f"larger cell; in dynamics this says that a molecule has been torn apart."
            )
        return d


def place(system: System, numbers: Int[Tensor, "n"]) -> Copies:
    """The copies of a topology of these atomic numbers.

    Raises TopologyError where a system is no whole number of copies in the topology's order.
    """
    n, counts = len(numbers), system.counts
    if bool((counts % n != 0).any()):
        k = int((counts % n).argmax())
        raise TopologyError(
            f"The topology has {n} atoms, and every structure must be whole copies of it; system {k} has "
            f"{int(counts[k])} atoms."
        )
    own = system.numbers.reshape(-1, n)
    wrong = own != numbers.to(own.device)
    if bool(wrong.any()):
        copy, atom = (int(x) for x in wrong.nonzero()[0])
        raise TopologyError(
            f"Atom {copy * n + atom} is {periodic_table.symbol(int(own[copy, atom]))}; the topology has "
            f"{periodic_table.symbol(int(numbers[atom]))} there (its atom {atom}). Bring the atoms into the "
            f"order of the topology."
        )
    index = system.system_index[::n]
    inverse = torch.zeros_like(system.cell)
    if bool(system.pbc.any()):
        inverse = torch.linalg.pinv(system.cell.detach() * system.pbc[:, :, None])
    widths = 1.0 / inverse.norm(dim=1)
    return Copies(
        positions=system.positions.reshape(-1, n, 3),
        cell=system.cell[index],
        to_fractions=inverse[index],
        half_width=0.5 * widths.amin(1)[index],
    )


def table_columns(
    name: str, table: Mapping[str, Any], n_atoms: int, per_term: int, columns: Sequence[str]
) -> tuple[Int[Tensor, "terms per_term"], dict[str, Float[Tensor, "terms"]]]:
    """(atoms, numbers by column) of a table of terms.

    Raises TopologyError for columns that are missing or not known, of different lengths, or not finite, and
    for atoms that the topology does not have or that a term names twice.
    """
    wanted = {"atoms", *columns}
    if set(table) != wanted:
        raise TopologyError(
            f"{name} is a table of {', '.join(['atoms', *columns])}; given are {', '.join(sorted(table))}."
        )
    atoms = torch.as_tensor(table["atoms"], dtype=torch.int64).reshape(-1, per_term)
    if bool((atoms < 0).any() or (atoms >= n_atoms).any()):
        raise TopologyError(f"{name} names atoms outside 0 … {n_atoms - 1}.")
    ordered = atoms.sort(1).values
    if per_term > 1 and bool((ordered[:, 1:] == ordered[:, :-1]).any()):
        raise TopologyError(f"{name}: a term names one atom twice.")
    values = {}
    for column in columns:
        value = torch.as_tensor(table[column], dtype=torch.float64)
        if len(value) != len(atoms) or not bool(value.isfinite().all()):
            raise TopologyError(
                f"{name}.{column} needs one finite number for each of {len(atoms)} terms; it has "
                f"{len(value)}."
            )
        values[column] = value
    return atoms, values


def bonded_pairs(n_atoms: int, bonds: Sequence[Sequence[int]], separation: int) -> list[tuple[int, int]]:
    """Pairs (a < b) whose shortest path of bonds is at most `separation` bonds long, sorted.

    With 3 these are what most force fields take out of the sum over pairs; those that are there with 3 and
    not with 2 are the 1–4 pairs.
    """
    near: list[set[int]] = [set() for _ in range(n_atoms)]
    for a, b in bonds:
        near[a].add(b)
        near[b].add(a)
    found = set()
    for start in range(n_atoms):
        seen, front = {start}, {start}
        for _ in range(separation):
            front = set().union(*(near[a] for a in front)) - seen
            seen |= front
        found |= {(start, b) for b in seen if b > start}
    return sorted(found)


class Exclusions:
    """Pairs of atoms of one copy that the sum over pairs leaves out, in their nearest image only.

    Args:
        pairs: each named once.
        n_atoms: of the topology.
    """

    def __init__(self, pairs: Int[Tensor, "excluded 2"], n_atoms: int) -> None:
        self.n = n_atoms
        i, j = pairs.T
        self._keys = torch.cat([i * n_atoms + j, j * n_atoms + i]).unique()

    def named(self, i: Int[Tensor, "pairs"], j: Int[Tensor, "pairs"]) -> Bool[Tensor, "pairs"]:
        """True where atoms i and j, of the whole System, are an excluded pair of one copy."""
        keys = self._keys.to(i.device)
        if len(keys) == 0:
            return torch.zeros_like(i, dtype=torch.bool)
        n = self.n
        key = (i % n) * n + j % n
        at = torch.searchsorted(keys, key).clamp_(max=len(keys) - 1)
        return (keys[at] == key) & (i // n == j // n)

    def mask(self, copies: Copies, pairs: Pairs) -> Bool[Tensor, "pairs"]:
        """True where a pair is excluded: of the named atoms, and their nearest image."""
        named = self.named(pairs.i, pairs.j)
        at = named.nonzero().flatten()
        i, j = pairs.i[at], pairs.j[at]
        copy = i // self.n
        d = (copies.positions[copy, j % self.n] - copies.positions[copy, i % self.n]).detach()
        nearest = -torch.round((d[:, None] @ copies.to_fractions[copy])[:, 0])
        named[at] = (pairs.shift[at] == nearest).all(1)
        return named


class TopologyPotential(DoubleBuffers, Potential):
    """A classical potential of n atoms in a stated order; a structure is any whole number of copies.

    The topology describes one molecule, or one system of many; copies lie one after another, in a batch, in
    a supercell or in one box. A subclass sets `elements`, `cutoff` and `numbers` by `set_atoms`, and
    gives `energy_terms`.
    """

    learned = False
    uses_positions = True
    fixed_topology: ClassVar[bool] = True

    numbers: Tensor
    rigid_pairs: Tensor
    rigid_lengths: Tensor

    def set_atoms(self, symbols: Sequence[str], rigid: Mapping[str, Any] | None = None) -> None:
        """Store the atoms in order, and which distances a rigid model keeps."""
        if not symbols:
            raise TopologyError("A topology needs at least one atom; symbols is empty.")
        self.elements = periodic_table.sorted_symbols(symbols)
        self.register_buffer("numbers", periodic_table.numbers_of(list(symbols)))
        table = {"atoms": [], "length": []} if rigid is None else rigid
        atoms, values = table_columns("rigid", table, len(symbols), 2, ("length",))
        if not bool((values["length"] > 0).all()):
            raise TopologyError("rigid.length must be positive.")
        self.register_buffer("rigid_pairs", atoms)
        self.register_buffer("rigid_lengths", values["length"])

    @property
    def n_atoms(self) -> int:
        """Atoms of the topology."""
        return len(self.numbers)

    def place(self, system: System) -> Copies:
        """The copies of the topology in a System; raises TopologyError where it is none."""
        self.types(system)
        return place(system, self.numbers)

    def rigid_distances(
        self, system: System
    ) -> tuple[Int[Tensor, "distances 2"], Float[Tensor, "distances"]]:
        """(pairs of atoms, lengths in Å) that a rigid model keeps, for every copy; energies assume them."""
        copies = self.place(system).positions.shape[0]
        first = torch.arange(copies, device=self.rigid_pairs.device)[:, None, None] * self.n_atoms
        return (first + self.rigid_pairs).reshape(-1, 2), self.rigid_lengths.repeat(copies)

    @abstractmethod
    def energy_terms(self, system: System, pairs: Pairs) -> dict[str, Float[Tensor, "atoms"]]:
        """Energies per atom term by term, eV."""

    def forward(self, system: System, pairs: Pairs) -> Results:
        energies = torch.zeros(system.n_atoms, dtype=torch.float64, device=system.positions.device)
        for part in self.energy_terms(system, pairs).values():
            energies = energies + part
        return Results(energies=energies)

    @abstractmethod
    def trial_structures(self) -> list[Atoms]:
        """Structures of this topology on which its checks are made."""
