"""From constraints as a user names them to what holds in given structures."""

from collections.abc import Sequence
from dataclasses import replace
from typing import final

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from rikiba.core.system import System

from .constraint_set import Constraints
from .constraints.base import MAX_ITERATIONS, TOLERANCE, Constraint, ConstraintError, Parts

SAME_LENGTH = 1e-6
"""Å; two constraints may hold one pair if they agree to this."""


@final
class Bound:
    """Constraints of structures, with the positions and inverse masses that go with them.

    Args:
        system: the structures.
        masses: u.
        inverse_masses: 0 for atoms that are fixed already.
        constraints: what to hold.

    Raises ValueError where constraints contradict or repeat each other, or the structure is far from them.
    """

    def __init__(
        self,
        *,
        system: System,
        masses: Float[Tensor, "atoms"],
        inverse_masses: Float[Tensor, "atoms"],
        constraints: Sequence[Constraint],
    ) -> None:
        parts = [c.bind(system) for c in constraints]
        allowed = _allowed(parts, system.n_atoms)
        self.inverse_masses = inverse_masses
        if allowed is not None:
            moves = allowed.abs().sum((1, 2)) > 0
            self.inverse_masses = torch.where(moves, inverse_masses, 0.0)
            eye = torch.eye(3, dtype=torch.float64, device=masses.device)
            if bool(((allowed == eye).all(2).all(1) | ~moves).all()):
                allowed = None
        pairs, lengths, molecules, shapes = _collected(parts, system, self.inverse_masses)
        links = torch.cat([pairs, molecules[:, [0, 1]], molecules[:, [0, 2]]])
        group = _components(links, system.n_atoms)
        self.positions = _whole(system, torch.cat([pairs, _sides(molecules)]), group)
        lengths = torch.where(lengths.isnan(), _distance(self.positions, pairs), lengths)
        pairs, lengths, molecules, shapes = _settled_or_not(
            pairs, lengths, molecules, shapes, group, allowed, self.inverse_masses, masses
        )
        order = torch.argsort(group[pairs[:, 0]], stable=True)
        pairs, lengths = pairs[order], lengths[order]
        sizes = torch.unique_consecutive(group[pairs[:, 0]], return_counts=True)[1]
        first = system.counts.cumsum(0) - system.counts
        self.constraints = Constraints(
            pairs=pairs,
            lengths=lengths,
            starts=torch.cat([sizes.new_zeros(1), sizes.cumsum(0)]),
            molecules=molecules,
            shapes=shapes,
            projectors=masses.new_zeros(0, 3, 3) if allowed is None else allowed,
            centred=_centred(parts, system),
            group=group,
            group_system=_first_of(group, system.system_index),
            taken=torch.zeros_like(first),
            tolerance=min((p.tolerance for p in parts if p.pairs is not None), default=TOLERANCE),
            max_iterations=max(
                (p.max_iterations for p in parts if p.pairs is not None), default=MAX_ITERATIONS
            ),
        )
        self._pull(masses)
        self.constraints = replace(self.constraints, taken=self._taken(system, masses))

    def _pull(self, masses: Tensor) -> None:
        """Positions onto the constraints."""
        try:
            pulled = self.constraints.positions(self.positions, self.positions, masses, self.inverse_masses)
        except ConstraintError as error:
            raise ValueError(
                f"The structure is too far from its constraints at the start: {error}"
            ) from error
        self.positions = pulled

    def _taken(self, system: System, masses: Tensor) -> Int[Tensor, "systems"]:
        """Degrees of freedom that the constraints take from atoms that are not fixed."""
        held, free = self.constraints, self.inverse_masses > 0
        index = system.system_index
        taken = torch.zeros_like(held.taken)
        if len(held.projectors):
            rank = torch.diagonal(held.projectors, dim1=1, dim2=2).sum(1).round().long()
            taken = taken.index_add(0, index, torch.where(free, 3 - rank, 0))
        for s in range(len(held.starts) - 1):
            mine = held.pairs[int(held.starts[s]) : int(held.starts[s + 1])]
            self._check_rank(mine)
            taken[index[mine[0, 0]]] += len(mine)
        taken = taken.index_add(0, index[held.molecules[:, 0]], torch.full_like(held.molecules[:, 0], 3))
        if bool(held.centred.any()):
            taken = taken + self._centre_rank(index, masses) * held.centred
        return taken

    def _check_rank(self, pairs: Int[Tensor, "pairs 2"]) -> None:
        """Raise ValueError unless each pair of a connected set says something that the others do not."""
        projectors, inverse = self.constraints.projectors, self.inverse_masses
        atoms, local = torch.unique(pairs, return_inverse=True)
        untouched = len(projectors) == 0 and bool((inverse[atoms] > 0).all())
        if untouched and len(pairs) == len(atoms) - 1:
            return  # a tree of free atoms
        r = self.positions[pairs[:, 1]] - self.positions[pairs[:, 0]]
        r = r / r.norm(dim=1, keepdim=True)
        gradient = r.new_zeros(len(pairs), len(atoms), 3)
        rows = torch.arange(len(pairs), device=r.device)
        gradient[rows, local[:, 0]], gradient[rows, local[:, 1]] = -r, r
        if len(projectors):
            gradient = torch.einsum("nab,knb->kna", projectors[atoms], gradient)
        gradient = gradient * (inverse[atoms] > 0)[None, :, None]
        flat = gradient.reshape(len(pairs), -1)
        rank = int((torch.linalg.eigvalsh(flat @ flat.T) > 1e-8).sum())
        if rank < len(pairs):
            raise ValueError(
                f"The {len(pairs)} distances held between atoms {atoms.tolist()[:12]} say only {rank} "
                f"different things: leave out {len(pairs) - rank} that follow from the others. (Three "
                f"distances cannot hold a linear molecule; a rigid body of n > 3 atoms takes 3n − 6.)"
            )

    def _centre_rank(self, index: Tensor, masses: Tensor) -> Int[Tensor, "systems"]:
        """In how many directions the centre could move; raises ValueError where it cannot be held."""
        held = self.constraints
        free = self.inverse_masses > 0
        n = len(held.centred)
        if len(held.projectors) == 0:
            weight = masses.new_zeros(n).index_add(0, index, torch.where(free, masses, 0.0))
            rank = torch.where(weight > 0, 3, 0)
        else:
            share = torch.where(free, masses, 0.0)[:, None, None] * held.projectors
            inertia = masses.new_zeros(n, 3, 3).index_add(0, index, share)
            largest = torch.linalg.eigvalsh(inertia)
            rank = (largest > 1e-9 * largest[:, -1:].clamp(min=1e-300)).sum(1)
        pairs, _ = held.all_pairs()
        tied = ~free[pairs].all(1)
        if len(held.projectors):
            eye = torch.eye(3, dtype=torch.float64, device=index.device)
            tied |= ~(held.projectors == eye).all(2).all(1)[pairs].all(1)
        wrong = tied & held.centred[index[pairs[:, 0]]]
        if bool(wrong.any()):
            raise ValueError(
                f"fixed_centre cannot be held where held distances reach fixed or restricted atoms: atoms "
                f"{pairs[wrong][0].tolist()}. Leave fixed_centre out: what is fixed already holds the rest."
            )
        return rank


def _allowed(parts: Sequence[Parts], n_atoms: int) -> Float[Tensor, "atoms 3 3"] | None:
    """Projectors onto what every constraint allows; None where none restricts."""
    given = [p.allowed for p in parts if p.allowed is not None]
    if not given:
        return None
    common = given[0]
    eye = torch.eye(3, dtype=torch.float64, device=common.device)
    for other in given[1:]:
        twice = (common != eye).any(2).any(1) & (other != eye).any(2).any(1)
        both = _intersection(common[twice], other[twice])
        common = common @ other
        common[twice] = both
    return common


def _intersection(a: Float[Tensor, "atoms 3 3"], b: Float[Tensor, "atoms 3 3"]) -> Tensor:
    """Projectors onto what two projectors have in common: eigenvalue 2 of their sum."""
    values, vectors = torch.linalg.eigh(a + b)
    both = (values > 2.0 - 1e-9).to(a)
    common: Tensor = (vectors * both[:, None, :]) @ vectors.transpose(1, 2)
    return common


def _centred(parts: Sequence[Parts], system: System) -> Bool[Tensor, "systems"]:
    centred = torch.zeros(system.n_systems, dtype=torch.bool, device=system.cell.device)
    for p in parts:
        if p.centred is not None:
            centred = centred | p.centred
    return centred


def _sides(molecules: Int[Tensor, "molecules 3"]) -> Int[Tensor, "sides 2"]:
    return torch.cat([molecules[:, [0, 1]], molecules[:, [0, 2]], molecules[:, [1, 2]]])


def _distance(positions: Tensor, pairs: Tensor) -> Tensor:
    length: Tensor = (positions[pairs[:, 1]] - positions[pairs[:, 0]]).norm(dim=1)
    return length


def _collected(
    parts: Sequence[Parts], system: System, inverse_masses: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Pairs with lengths and molecules with shapes, each once, without what stands still anyway."""
    empty = system.numbers.new_zeros
    molecules = torch.cat([empty(0, 3), *(p.molecules for p in parts if p.molecules is not None)])
    shapes = torch.cat([system.positions.new_zeros(0, 2), *(p.shapes for p in parts if p.shapes is not None)])
    if len(torch.unique(molecules)) < molecules.numel():
        raise ValueError("An atom is in two rigid molecules; name rigid_water once.")
    moves = inverse_masses > 0
    some = moves[molecules].any(1)
    molecules, shapes = molecules[some], shapes[some]
    pairs = torch.cat([empty(0, 2), *(p.pairs for p in parts if p.pairs is not None)])
    lengths = torch.cat([system.positions.new_zeros(0), *(p.lengths for p in parts if p.lengths is not None)])
    if len(pairs) and not bool((pairs[:, 0] != pairs[:, 1]).all()):
        raise ValueError("A distance is held between two atoms; given an atom and itself.")
    if not bool((system.system_index[pairs[:, 0]] == system.system_index[pairs[:, 1]]).all()):
        raise ValueError("A distance is held between two atoms of one structure.")
    keep = moves[pairs].any(1) & ~_inside(pairs, molecules, system.n_atoms)
    pairs, lengths = pairs[keep].sort(1).values, lengths[keep]
    return (*_distinct(pairs, lengths, system.n_atoms), molecules, shapes)


def _inside(pairs: Tensor, molecules: Tensor, n_atoms: int) -> Bool[Tensor, "pairs"]:
    """Pairs within a rigid molecule."""
    owner = torch.full((n_atoms,), -1, dtype=torch.int64, device=pairs.device)
    owner[molecules] = torch.arange(len(molecules), device=pairs.device)[:, None].expand(-1, 3)
    return (owner[pairs[:, 0]] >= 0) & (owner[pairs[:, 0]] == owner[pairs[:, 1]])


def _distinct(pairs: Tensor, lengths: Tensor, n_atoms: int) -> tuple[Tensor, Tensor]:
    """Each pair once; raises ValueError where it is given two lengths."""
    key = pairs[:, 0] * n_atoms + pairs[:, 1]
    # a length that is given comes before one that is as at the start (NaN sorts last)
    by_length = torch.argsort(lengths, stable=True)
    order = by_length[torch.argsort(key[by_length], stable=True)]
    key, pairs, lengths = key[order], pairs[order], lengths[order]
    first = torch.ones_like(key, dtype=torch.bool)
    first[1:] = key[1:] != key[:-1]
    chosen = lengths[first][first.long().cumsum(0) - 1]
    clash = (lengths - chosen).abs() > SAME_LENGTH
    if bool(clash.any()):
        k = int(clash.nonzero()[0])
        raise ValueError(
            f"Atoms {pairs[k].tolist()} are to be {float(chosen[k]):g} and {float(lengths[k]):g} Å apart; "
            f"name the pair once."
        )
    return pairs[first], lengths[first]


def _components(links: Int[Tensor, "links 2"], n_atoms: int) -> Int[Tensor, "atoms"]:
    """Connected sets of atoms, numbered by their first atoms."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    i, j = links.cpu().numpy().T
    graph = coo_array(([1] * len(i), (i, j)), shape=(n_atoms, n_atoms))
    label = torch.from_numpy(connected_components(graph, directed=False)[1]).long().to(links.device)
    first = torch.full((n_atoms,), n_atoms, device=links.device).scatter_reduce(
        0, label, torch.arange(n_atoms, device=links.device), "amin"
    )
    group: Tensor = torch.unique(first[label], return_inverse=True)[1]
    return group


def _first_of(group: Tensor, system_index: Tensor) -> Int[Tensor, "groups"]:
    """The system of each group."""
    out = system_index.new_zeros(int(group.max()) + 1 if len(group) else 0)
    out[group] = system_index
    return out


def _whole(system: System, links: Int[Tensor, "links 2"], group: Int[Tensor, "atoms"]) -> Tensor:
    """Positions with connected atoms side by side: none is cut by the boundary of a cell.

    Raises ValueError where a connected set closes through the boundary, so that it has no end.
    """
    positions = system.positions
    if len(links) == 0:
        return positions
    near = _shortest(system, links)
    if float((near - (positions[links[:, 1]] - positions[links[:, 0]])).abs().max()) < 1e-9:
        return positions
    known = torch.zeros(system.n_atoms, dtype=torch.bool, device=links.device)
    first = torch.full((int(group.max()) + 1,), system.n_atoms, device=links.device).scatter_reduce(
        0, group, torch.arange(system.n_atoms, device=links.device), "amin"
    )
    known[first], placed = True, positions.clone()
    while True:
        forward = known[links[:, 0]] & ~known[links[:, 1]]
        backward = known[links[:, 1]] & ~known[links[:, 0]]
        if not bool((forward | backward).any()):
            break
        a, b = links[forward].unbind(1)
        placed[b] = placed[a] + near[forward]
        c, d = links[backward & ~known[links[:, 0]]].unbind(1)
        placed[c] = placed[d] - near[backward]
        known[b], known[c] = True, True
    off = (placed[links[:, 1]] - placed[links[:, 0]] - near).norm(dim=1)
    if bool((off > 1e-6).any()):
        pair = links[int(off.argmax())].tolist()
        raise ValueError(
            f"The connected set of held distances around atoms {pair} closes through the periodic boundary: "
            f"it has no end. Hold fewer of its distances (e.g. bonds to hydrogen only)."
        )
    # by whole lattice vectors only, so that rounding of sums along a chain does not enter
    shift = torch.linalg.solve(
        _filled(system)[system.system_index].transpose(1, 2), (placed - positions)[:, :, None]
    )[..., 0].round()
    back: Tensor = (shift[:, None, :] @ _filled(system)[system.system_index])[:, 0]
    return positions + back


def _filled(system: System) -> Float[Tensor, "systems 3 3"]:
    """Cells with unit vectors where there is no lattice vector."""
    empty = system.cell.abs().sum(2) == 0
    eye = torch.eye(3, dtype=torch.float64, device=system.cell.device)
    cell = torch.where(empty[:, :, None], eye, system.cell)
    flat = torch.linalg.det(cell).abs() < 1e-12
    return torch.where(flat[:, None, None], eye, cell)


def _shortest(system: System, links: Int[Tensor, "links 2"]) -> Float[Tensor, "links 3"]:
    """Vectors between linked atoms, by whole lattice vectors shorter where that is possible."""
    d = system.positions[links[:, 1]] - system.positions[links[:, 0]]
    index = system.system_index[links[:, 0]]
    cell, periodic = _filled(system)[index], system.pbc[index]
    share = torch.linalg.solve(cell.transpose(1, 2), d[:, :, None])[..., 0]
    wrapped = d - (torch.where(periodic, share.round(), 0.0)[:, None, :] @ cell)[:, 0]
    closer = wrapped.norm(dim=1) < d.norm(dim=1) - 1e-6
    return torch.where(closer[:, None], wrapped, d)


def _settled_or_not(
    pairs: Tensor,
    lengths: Tensor,
    molecules: Tensor,
    shapes: Tensor,
    group: Tensor,
    allowed: Tensor | None,
    inverse_masses: Tensor,
    masses: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Molecules that cannot be solved in closed form become three distances: tied to others, restricted,
    or with feet of different mass."""
    size = torch.bincount(group)[group[molecules[:, 0]]]
    alone = (size == 3) & (masses[molecules[:, 1]] == masses[molecules[:, 2]])
    alone &= (inverse_masses[molecules] > 0).all(1)
    if allowed is not None:
        eye = torch.eye(3, dtype=torch.float64, device=pairs.device)
        alone &= (allowed == eye).all(2).all(1)[molecules].all(1)
    tied = molecules[~alone]
    leg, base = shapes[~alone].unbind(1)
    more, long = _sides(tied), torch.cat([leg, leg, base])
    moves = (inverse_masses[more] > 0).any(1)
    pairs, lengths = torch.cat([pairs, more[moves]]), torch.cat([lengths, long[moves]])
    return pairs, lengths, molecules[alone], shapes[alone]
