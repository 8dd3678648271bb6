"""Who sees whom: neighbour pairs in canonical order, and the finder that keeps them current.

Neighbour search itself is vesin's or, in calculators of compiled programs, a kernel's.
What is ours: batches, canonical order, the skin and its rebuild rule,
subsets by a shorter cutoff, triplets, and the hook through which a decomposed system exchanges features.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import isfinite
from typing import final

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from .system import System


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pairs:
    """A full list of pairs (both directions) with |r_ij| < cutoff, ordered by (i, j, shift).

    i is the centre and j the neighbour: r_ij = r_j + shift·cell − r_i. An atom is a neighbour of its own
    periodic images (shift ≠ 0), never of itself. The evaluated pairs are exactly r < cutoff, so a result
    does not depend on when the list was built.
    """

    i: Int[Tensor, "pairs"]
    j: Int[Tensor, "pairs"]
    shift: Int[Tensor, "pairs 3"]
    cutoff: float
    n_atoms: int
    given_vectors: Float[Tensor, "pairs 3"] | None = None
    """Pair vectors supplied by a calculator (the leaf that ∂E/∂r_ij is taken for)."""
    exchange: Callable[[Tensor], Tensor] | None = None
    """Set when a system is decomposed: fills ghosts' rows from their owners (and back, in reverse mode)."""

    def __len__(self) -> int:
        return self.i.shape[0]

    def vectors(self, system: System, dtype: torch.dtype | None = None) -> Float[Tensor, "pairs 3"]:
        """r_ij in Å, differentiable; the difference is taken in float64 and then cast to `dtype`."""
        r = self.given_vectors
        if r is None:
            r = pair_vectors(system.positions, system.cell, system.system_index, self.i, self.j, self.shift)
        return r if dtype is None else r.to(dtype)

    def with_vectors(self, vectors: Float[Tensor, "pairs 3"]) -> "Pairs":
        """The same pairs, whose `vectors` returns the given tensor."""
        return replace(self, given_vectors=vectors)

    def within(self, system: System, cutoff: float) -> tuple["Pairs", Int[Tensor, "subset"]]:
        """The pairs with r < cutoff, and their indices in this list; raises where cutoff > self.cutoff."""
        if cutoff > self.cutoff:
            raise ValueError(
                f"Pairs were found up to {self.cutoff} Å; a subset up to {cutoff} Å needs a larger list."
            )
        r = self.vectors(system)
        parent = torch.nonzero((r.detach() ** 2).sum(-1) < cutoff**2).flatten()
        given = None if self.given_vectors is None else self.given_vectors[parent]
        subset = replace(
            self,
            i=self.i[parent],
            j=self.j[parent],
            shift=self.shift[parent],
            cutoff=cutoff,
            given_vectors=given,
        )
        return subset, parent

    @property
    def row_start(self) -> Int[Tensor, "atoms_plus_1"]:
        """CSR offsets: the pairs of centre a are row_start[a] … row_start[a+1]−1."""
        counts = torch.bincount(self.i, minlength=self.n_atoms)
        return torch.cat([counts.new_zeros(1), counts.cumsum(0)])

    def transposed(self) -> tuple[Int[Tensor, "pairs"], Int[Tensor, "atoms_plus_1"]]:
        """(order, offsets): order[offsets[a]:offsets[a+1]] are the pairs whose neighbour is atom a."""
        order = torch.argsort(self.j, stable=True)
        counts = torch.bincount(self.j, minlength=self.n_atoms)
        return order, torch.cat([counts.new_zeros(1), counts.cumsum(0)])

    def reverse(self) -> Int[Tensor, "pairs"]:
        """Index of the opposite pair (j, i, −shift) of each pair.

        Raises ValueError where the list is not closed under reversal (ghost centres left out).
        """
        forward = torch.cat([self.i[:, None], self.j[:, None], self.shift], 1).cpu().numpy()
        backward = torch.cat([self.j[:, None], self.i[:, None], -self.shift], 1).cpu().numpy()
        order = np.lexsort(backward.T[::-1])
        if not np.array_equal(forward, backward[order]):
            raise ValueError("This pair list is not closed under reversal; 'reverse' needs both directions.")
        return torch.from_numpy(order).to(self.i.device)

    def triplets(self) -> tuple[Int[Tensor, "triplets"], Int[Tensor, "triplets"]]:
        """All ordered pairs of distinct pairs (ij, ik) with a common centre, as pair indices.

        Each unordered triplet appears twice; keep `a < b` for one of them.
        """
        counts = torch.bincount(self.i, minlength=self.n_atoms)
        start = self.row_start[:-1]
        per_pair = counts[self.i]
        first = torch.repeat_interleave(per_pair)
        offset = torch.arange(len(first), device=first.device) - (per_pair.cumsum(0) - per_pair)[first]
        second = start[self.i[first]] + offset
        keep = first != second
        return first[keep], second[keep]

    def sync(self, features: Tensor) -> Tensor:
        """Features of every atom as neighbours may read them: identity unless the system is decomposed.

        A message-passing layer reads neighbour features only through this call.
        """
        return features if self.exchange is None else self.exchange(features)

    def to(self, device: torch.device | str) -> "Pairs":
        given = None if self.given_vectors is None else self.given_vectors.to(device)
        return replace(
            self, i=self.i.to(device), j=self.j.to(device), shift=self.shift.to(device), given_vectors=given
        )

    @staticmethod
    def cat(parts: "list[Pairs]") -> "Pairs":
        """Concatenate lists of consecutive Systems, offsetting atom indices.

        Raises ValueError where there are none and where their cutoffs differ.
        """
        if len({p.cutoff for p in parts}) != 1:
            raise ValueError(f"Pairs.cat needs lists of one cutoff; given {[p.cutoff for p in parts]}.")
        offsets = np.cumsum([0] + [p.n_atoms for p in parts])
        return Pairs(
            i=torch.cat([p.i + int(o) for p, o in zip(parts, offsets[:-1], strict=True)]),
            j=torch.cat([p.j + int(o) for p, o in zip(parts, offsets[:-1], strict=True)]),
            shift=torch.cat([p.shift for p in parts]),
            cutoff=parts[0].cutoff,
            n_atoms=int(offsets[-1]),
        )


def pair_vectors(
    positions: Float[Tensor, "atoms 3"],
    cell: Float[Tensor, "systems 3 3"],
    system_index: Int[Tensor, "atoms"],
    i: Int[Tensor, "pairs"],
    j: Int[Tensor, "pairs"],
    shift: Int[Tensor, "pairs 3"],
) -> Float[Tensor, "pairs 3"]:
    """r_ij = r_j + shift·cell − r_i in Å, differentiable in positions and cell."""
    difference = positions.index_select(0, j) - positions.index_select(0, i)
    if shift.shape[0] == 0 or not shift.any():
        return difference
    images = shift.to(positions.dtype)
    if cell.shape[0] == 1:
        return difference + images @ cell[0]
    return difference + torch.einsum("pa,pab->pb", images, cell[system_index[i]])


Listed = tuple[np.ndarray, np.ndarray, np.ndarray]
"""(i, j, shift) in the host's memory."""
Search = Callable[[np.ndarray, np.ndarray, np.ndarray, float], Listed]
"""(positions, cell, pbc, radius) → (i, j, shift) of one structure in canonical order; pairs within rounding
of the radius may be there or not. The cell's rows are independent along axes that are not periodic, too."""


def find_pairs(system: System, cutoff: float) -> Pairs:
    """All pairs with r < cutoff of every structure in a System, in canonical order.

    Any number of periodic images is enumerated, so cells smaller than twice the cutoff are right; triclinic
    cells and mixed periodicity likewise.
    """
    return _Candidates.build(system, cutoff, 0.0).pairs(system)


_ROUNDING = 1e-8
"""Å that the search reaches farther, so that its rounding decides about no pair: `pairs` does."""


class _Candidates:
    """Pairs within cutoff + skin, with the configuration that they were found for."""

    def __init__(self, listed: Listed, system: System, cutoff: float, skin: float) -> None:
        positions, cell = system.positions.detach(), system.cell.detach()
        self.listed, self.cutoff, self.skin = listed, cutoff, skin
        self.positions, self.cell = (positions.clone(), cell.clone()) if skin else (positions, cell)
        self._tensors: tuple[Tensor, ...] | None = None

    @staticmethod
    def build(system: System, cutoff: float, skin: float, search: Search | None = None) -> "_Candidates":
        points, cells, pbc = (x.detach().cpu().numpy() for x in (system.positions, system.cell, system.pbc))
        # a sum is finite or tells too much; then every number is looked at
        if not (isfinite(points.sum()) and isfinite(cells.sum())) and not (
            np.isfinite(points).all() and np.isfinite(cells).all()
        ):
            raise ValueError("Neighbours were asked for of atoms whose positions or cell are not finite.")
        radius, search = cutoff + skin + _ROUNDING, search or _by_vesin
        if system.n_systems == 1:
            return _Candidates(_search(points, cells[0], pbc[0], radius, search), system, cutoff, skin)
        parts, offset = [], 0
        for k, n in enumerate(system.counts.tolist()):
            i, j, shift = _search(points[offset : offset + n], cells[k], pbc[k], radius, search)
            parts.append((i + offset, j + offset, shift))
            offset += n
        i, j, shift = (np.concatenate(p) for p in zip(*(parts or [_NONE]), strict=True))
        return _Candidates((i, j, shift), system, cutoff, skin)

    def tensors(self) -> tuple[Tensor, ...]:
        """(i, j, shift) where the structure is."""
        if self._tensors is None:
            self._tensors = tuple(torch.from_numpy(x).to(self.positions.device) for x in self.listed)
        return self._tensors

    def pairs(self, system: System) -> Pairs:
        i, j, shift = self.tensors()
        with torch.no_grad():
            r = pair_vectors(system.positions, system.cell, system.system_index, i, j, shift)
            near = (r * r).sum(-1) < self.cutoff**2
        if not bool(near.all()):
            keep = torch.nonzero(near).flatten()
            i, j, shift = i[keep], j[keep], shift[keep]
        return Pairs(i=i, j=j, shift=shift, cutoff=self.cutoff, n_atoms=system.n_atoms)

    def all(self) -> Pairs:
        i, j, shift = self.tensors()
        reach = self.cutoff + self.skin
        return Pairs(i=i, j=j, shift=shift, cutoff=reach, n_atoms=len(self.positions))

    def still_good(self, system: System) -> bool:
        """True while no pair can have come within the cutoff unseen.

        With F the deformation from the cell of the build and u the raw (never minimum-image) displacement
        that remains after F, the distance of a pair can have shrunk by at most
        2 max|u| + (cutoff + skin)·max(0, 1 − σ_min(F)), which must not exceed the skin.
        """
        positions, cell = system.positions.detach(), system.cell.detach()
        if positions.shape != self.positions.shape or cell.shape != self.cell.shape or len(positions) == 0:
            return False
        if torch.equal(cell, self.cell):
            return _farthest_squared(positions, self.positions) <= (self.skin / 2.0) ** 2
        volume = torch.linalg.det(self.cell).abs()
        if bool((volume < 1e-12).any()):
            return False
        deformation = torch.linalg.solve(self.cell, cell)
        moved = positions - torch.einsum("ab,abc->ac", self.positions, deformation[system.system_index])
        shrink = (1.0 - torch.linalg.svdvals(deformation)[:, -1]).clamp(min=0.0).max()
        margin = 2.0 * (moved**2).sum(-1).max().sqrt() + (self.cutoff + self.skin) * shrink
        return bool(margin <= self.skin)


def _farthest_squared(a: Tensor, b: Tensor) -> float:
    """Largest |a − b|² of all rows, Å²; NaN where a number is."""
    if a.device.type != "cpu":
        return float(((a - b) ** 2).sum(-1).max())
    d = a.numpy() - b.numpy()  # a third of what torch takes for the few numbers of an MD step
    return float(np.einsum("ak,ak->a", d, d).max())


_CUBE = np.eye(3)
_NONE = (np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros((0, 3), np.int64))


def _search(points: np.ndarray, cell: np.ndarray, pbc: np.ndarray, radius: float, search: Search) -> Listed:
    """Candidates of one structure, sorted by (i, j, shift)."""
    periodic = pbc.any()
    if len(points) == 0 or radius <= _ROUNDING or (len(points) == 1 and not periodic):
        return _NONE
    return search(points, _completed(cell, pbc, points) if periodic else _CUBE, pbc, radius)


def _by_vesin(points: np.ndarray, cell: np.ndarray, pbc: np.ndarray, radius: float) -> Listed:
    """The search of vesin; between few atoms without images all distances at once."""
    if not pbc.any() and len(points) <= 64:
        d = points[None, :, :] - points[:, None, :]
        near = np.einsum("abx,abx->ab", d, d) < radius * radius
        np.fill_diagonal(near, False)
        i, j = np.nonzero(near)
        return i, j, np.zeros((len(i), 3), np.int64)
    from vesin import NeighborList

    finder = NeighborList(cutoff=float(radius), full_list=True, n_threads=1)
    i, j, shift = finder.compute(points, cell, [bool(p) for p in pbc], "ijS")
    i, j, shift = i.astype(np.int64), j.astype(np.int64), shift.astype(np.int64)
    order = np.lexsort((shift[:, 2], shift[:, 1], shift[:, 0], j, i))
    return i[order], j[order], shift[order]


def _completed(cell: np.ndarray, pbc: np.ndarray, points: np.ndarray) -> np.ndarray:
    """The cell with each non-periodic axis replaced by a vector normal to the periodic ones."""
    if pbc.all():
        return cell
    box = np.where(pbc[:, None], cell, 0.0)
    normal = [v for v in np.linalg.svd(box)[2][int(pbc.sum()) :]]
    extent = float(np.ptp(points, axis=0).max()) + 1.0
    for axis in np.flatnonzero(~pbc):
        box[axis] = normal.pop() * extent
    return box


class PairFinder:
    """Keeps a pair list current as atoms and cells move, rebuilding only when it must.

    Args:
        cutoff: pairs are those with r < cutoff, Å.
        skin: extra radius searched, Å; 0 searches at every call. The result does not depend on it.
        search: what finds candidates; vesin where none is given.

    Attributes `n_calls` and `n_builds` count its work.
    """

    def __init__(self, cutoff: float, skin: float = 0.0, search: Search | None = None) -> None:
        if not cutoff >= 0 or not skin >= 0:
            raise ValueError(f"cutoff and skin are lengths in Å, at least 0; given {cutoff} and {skin}.")
        self.cutoff = cutoff
        self.skin = skin
        self.search = search
        self.n_calls = 0
        self.n_builds = 0
        self._candidates: _Candidates | None = None
        self._key: tuple[Tensor, Tensor] | None = None

    def __call__(self, system: System) -> Pairs:
        """Pairs of the current configuration, exactly r < cutoff, in canonical order."""
        self._follow(system)
        return self._current().pairs(system)

    def candidates(self, system: System) -> Pairs:
        """Pairs among which all with r < cutoff are, in canonical order: the list as it was last searched."""
        self._follow(system)
        return self._current().all()

    def listed(self, system: System) -> Listed:
        """(i, j, shift) of the same candidates in the host's memory."""
        self._follow(system)
        return self._current().listed

    def _follow(self, system: System) -> None:
        """Search again where pairs may have been missed."""
        self.n_calls += 1
        if self.cutoff == 0.0 or not self._same_structure(system) or not self._current().still_good(system):
            self.n_builds += 1
            self._candidates = _Candidates.build(system, self.cutoff, self.skin, self.search)
            self._key = (system.system_index, system.pbc.clone()) if self.skin else None

    def reset(self) -> None:
        """Forget the list, so that the next call searches."""
        self._candidates = None

    def _current(self) -> _Candidates:
        assert self._candidates is not None
        return self._candidates

    def _same_structure(self, system: System) -> bool:
        if self._candidates is None or self._key is None or self.skin == 0.0:
            return False
        index, pbc = self._key
        same_index = index is system.system_index or torch.equal(index, system.system_index)
        return same_index and torch.equal(pbc, system.pbc)
