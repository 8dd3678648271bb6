"""All constraints of a batch at once: positions and velocities put back, degrees of freedom, rigid groups."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from itertools import accumulate
from typing import Any, final

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from rikiba.core.system import System
from rikiba.kernels.distance_constraints import distance_positions, distance_velocities
from rikiba.kernels.settle import settle_positions, settle_velocities

from .constraints.base import ConstraintError


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Constraints:
    """What a `State` must keep. Made by `State.constrained(…)`."""

    pairs: Int[Tensor, "pairs 2"]
    """Held distances, connected set after connected set."""
    lengths: Float[Tensor, "pairs"]
    starts: Int[Tensor, "sets_1"]
    """First pair of every connected set, and the number of pairs."""
    molecules: Int[Tensor, "molecules 3"]
    """Rigid three-site molecules, solved in closed form."""
    shapes: Float[Tensor, "molecules 2"]
    projectors: Float[Tensor, "allowed 3 3"]
    """Of every atom onto the directions in which it may move; of length 0 where none is restricted."""
    centred: Bool[Tensor, "systems"]
    """Whose moving atoms' centre of mass stands still."""
    group: Int[Tensor, "atoms"]
    """Connected atoms, or one that is on its own: what a barostat moves as a whole."""
    group_system: Int[Tensor, "groups"]
    taken: Int[Tensor, "systems"]
    """Degrees of freedom taken, those of fixed atoms not counted."""
    tolerance: float
    max_iterations: int

    @property
    def holds_nothing(self) -> bool:
        """True where nothing but fixed atoms was asked for: their inverse masses say it all."""
        held = len(self.pairs) + len(self.molecules) + len(self.projectors)
        return held == 0 and not bool(self.centred.any())

    @property
    def n_groups(self) -> Int[Tensor, "systems"]:
        """Groups of each system."""
        return torch.bincount(self.group_system, minlength=len(self.taken))

    def first_atoms(self) -> Int[Tensor, "groups"]:
        """First atom of each group."""
        n = len(self.group)
        first = self.group.new_full((len(self.group_system),), n)
        return first.scatter_reduce(0, self.group, torch.arange(n, device=first.device), "amin")

    def group_sum(self, per_atom: Float[Tensor, "atoms *rest"]) -> Float[Tensor, "groups *rest"]:
        """Sums over the atoms of each group."""
        out = per_atom.new_zeros((len(self.group_system), *per_atom.shape[1:]))
        return out.index_add(0, self.group, per_atom)

    def positions(
        self,
        moved: Float[Tensor, "atoms 3"],
        reference: Float[Tensor, "atoms 3"],
        masses: Float[Tensor, "atoms"],
        inverse_masses: Float[Tensor, "atoms"],
    ) -> Float[Tensor, "atoms 3"]:
        """Moved positions pulled back along the constraints' gradients at the reference.

        Raises ConstraintError where they cannot be reached.
        """
        if len(self.pairs):
            moved, failed = distance_positions(
                moved, reference, inverse_masses, self.projectors, self.pairs, self.lengths, self.starts,
                self.tolerance, self.max_iterations,
            )  # fmt: skip
            if failed >= 0:
                raise self._unreached(failed, moved)
        if len(self.molecules):
            moved, failed = settle_positions(moved, reference, masses, self.molecules, self.shapes)
            if failed >= 0:
                raise ConstraintError(
                    f"the molecule of atoms {self.molecules[failed].tolist()} has left its shape so far that "
                    f"it cannot be put back; is the timestep too long?"
                )
        return moved

    def velocities(
        self,
        velocities: Float[Tensor, "atoms 3"],
        positions: Float[Tensor, "atoms 3"],
        masses: Float[Tensor, "atoms"],
        inverse_masses: Float[Tensor, "atoms"],
        system_index: Int[Tensor, "atoms"],
    ) -> Float[Tensor, "atoms 3"]:
        """The nearest velocities, by kinetic energy, that change nothing that is held.

        Raises ConstraintError where they are not found.
        """
        v = velocities
        if len(self.projectors):
            v = (self.projectors * v[:, None, :]).sum(-1)
        if bool(self.centred.any()):
            v = v - self._centre_velocity(v, masses, inverse_masses, system_index)
        if len(self.pairs):
            v, failed = distance_velocities(
                v, positions, inverse_masses, self.projectors, self.pairs, self.lengths, self.starts,
                self.tolerance, self.max_iterations,
            )  # fmt: skip
            if failed >= 0:
                raise self._unreached(failed, v)
        if len(self.molecules):
            v, failed = settle_velocities(v, positions, masses, self.molecules)
            if failed >= 0:
                raise ConstraintError(
                    f"velocities of the molecule of atoms {self.molecules[failed].tolist()} are not finite."
                )
        return v

    def _centre_velocity(
        self, v: Tensor, masses: Tensor, inverse_masses: Tensor, system_index: Tensor
    ) -> Float[Tensor, "atoms 3"]:
        """P_i (Σ m P)⁻¹ Σ m v, added up in the same order whoever else is in the batch."""
        moving = torch.where(inverse_masses > 0, masses, 0.0)
        zero = v.new_zeros(len(self.centred), 3)
        momentum = zero.index_add(0, system_index, moving[:, None] * v)
        if len(self.projectors):
            inertia = v.new_zeros(len(self.centred), 3, 3)
            inertia = inertia.index_add(0, system_index, moving[:, None, None] * self.projectors)
            rate = (torch.linalg.pinv(inertia, hermitian=True) * momentum[:, None, :]).sum(-1)
        else:
            rate = momentum / zero[:, 0].index_add(0, system_index, moving).clamp(min=1e-300)[:, None]
        rate = torch.where(self.centred[:, None], rate, 0.0)[system_index]
        if len(self.projectors):
            return (self.projectors * rate[:, None, :]).sum(-1)
        return torch.where(inverse_masses[:, None] > 0, rate, 0.0)

    def _unreached(self, failed: int, rows: Tensor) -> ConstraintError:
        i, j = self.pairs[failed].tolist()
        if not bool(rows[[i, j]].isfinite().all()):
            return ConstraintError(f"positions or velocities of atoms {i} and {j} are not finite.")
        return ConstraintError(
            f"the distance of {float(self.lengths[failed]):.4f} Å between atoms {i} and {j} was not reached "
            f"within {self.max_iterations} iterations to a relative {self.tolerance:g}; is the timestep too "
            f"long? Otherwise allow more iterations, or a larger tolerance."
        )

    def errors(
        self, positions: Float[Tensor, "atoms 3"], velocities: Float[Tensor, "atoms 3"]
    ) -> tuple[float, float]:
        """Largest relative error of a held distance, and largest |r · v|/d of one, Å per unit of time."""
        pairs, lengths = self.all_pairs()
        if len(pairs) == 0:
            return 0.0, 0.0
        r = positions[pairs[:, 1]] - positions[pairs[:, 0]]
        v = velocities[pairs[:, 1]] - velocities[pairs[:, 0]]
        off = (r.norm(dim=1) / lengths - 1.0).abs().max()
        return float(off), float(((r * v).sum(1) / lengths).abs().max())

    def all_pairs(self) -> tuple[Int[Tensor, "all 2"], Float[Tensor, "all"]]:
        """Every held distance, those of rigid molecules included."""
        o, h, g = self.molecules.unbind(1)
        legs, base = self.shapes.unbind(1)
        pairs = torch.cat([self.pairs, *(torch.stack(p, 1) for p in ((o, h), (o, g), (h, g)))])
        return pairs, torch.cat([self.lengths, legs, legs, base])

    def select(self, system: System, which: Int[Tensor, "chosen"]) -> "Constraints":
        """Those of some of the systems, in the given order."""
        parts = [self._alone(system, int(k)) for k in which]
        counts = [int(n) for n in system.counts[which]]
        return joined(parts, counts) if parts else _nothing(self)

    def _alone(self, system: System, k: int) -> "Constraints":
        """Those of one system, by its own atoms' places."""
        rows, index = system.atom_rows(k), system.system_index
        mine = index[self.pairs[:, 0]] == k
        sizes = self.starts[1:] - self.starts[:-1]
        if len(sizes):
            sizes = sizes[index[self.pairs[self.starts[:-1], 0]] == k]
        molecules = index[self.molecules[:, 0]] == k
        group = self.group[rows]
        group = torch.unique(group, return_inverse=True)[1]
        return replace(
            self,
            pairs=self.pairs[mine] - rows.start,
            lengths=self.lengths[mine],
            starts=torch.cat([sizes.new_zeros(1), sizes.cumsum(0)]),
            molecules=self.molecules[molecules] - rows.start,
            shapes=self.shapes[molecules],
            projectors=self.projectors[rows] if len(self.projectors) else self.projectors,
            centred=self.centred[k : k + 1],
            group=group,
            group_system=group.new_zeros(int(group.max()) + 1 if len(group) else 0),
            taken=self.taken[k : k + 1],
        )

    def to(self, device: torch.device | str) -> "Constraints":
        """Move every tensor to a device."""
        moved: dict[str, Any] = {name: t.to(device) for name, t in _tensors(self).items()}
        return replace(self, **moved)

    def digest(self) -> str:
        """A short text that differs where what is held differs: what a restarted run must share."""
        parts = hashlib.sha256(f"{self.tolerance!r} {self.max_iterations}".encode())
        for name, value in _tensors(self).items():
            parts.update(f"{name} {tuple(value.shape)}".encode())
            parts.update(value.cpu().contiguous().numpy().tobytes())
        return parts.hexdigest()[:16]


def joined(parts: Sequence[Constraints], counts: Sequence[int]) -> Constraints:
    """Constraints of single systems as those of a batch; `counts` are their numbers of atoms."""
    first = [0, *accumulate(counts)]
    groups = [0, *accumulate(len(p.group_system) for p in parts)]
    pairs = [0, *accumulate(len(p.pairs) for p in parts)]
    return replace(
        parts[0],
        pairs=torch.cat([p.pairs + n for p, n in zip(parts, first, strict=False)]),
        lengths=torch.cat([p.lengths for p in parts]),
        starts=torch.cat(
            [parts[0].starts[:1], *(p.starts[1:] + n for p, n in zip(parts, pairs, strict=False))]
        ),
        molecules=torch.cat([p.molecules + n for p, n in zip(parts, first, strict=False)]),
        shapes=torch.cat([p.shapes for p in parts]),
        projectors=torch.cat([p.projectors for p in parts]),
        centred=torch.cat([p.centred for p in parts]),
        group=torch.cat([p.group + n for p, n in zip(parts, groups, strict=False)]),
        group_system=torch.cat([p.group_system + k for k, p in enumerate(parts)]),
        taken=torch.cat([p.taken for p in parts]),
    )


def _tensors(held: Constraints) -> dict[str, Tensor]:
    values = {f.name: getattr(held, f.name) for f in fields(held)}
    return {name: v for name, v in values.items() if isinstance(v, Tensor)}


def _nothing(like: Constraints) -> Constraints:
    """Constraints on no system at all."""
    empty: dict[str, Any] = {name: t[:0] for name, t in _tensors(like).items()}
    return replace(like, **{**empty, "starts": like.starts[:1]})
