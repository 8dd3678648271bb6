"""Constraints that ASE structures carry, in both directions."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from ase import Atoms

from rikiba.core.system import System

from .constraint_set import Constraints
from .constraints.base import Constraint, Parts

_READ = "FixAtoms, FixBondLength(s), FixedPlane, FixedLine, FixCartesian and FixCom"


def attached(frames: Atoms | Sequence[Atoms]) -> list[Constraint]:
    """What the structures' own constraints hold, for `State.constrained` of the same structures; [] for none.

    Raises ValueError for a kind that is not known, so that none is left out in silence.
    """
    frames = [frames] if isinstance(frames, Atoms) else list(frames)
    n, first = sum(map(len, frames)), 0
    found: list[Constraint] = []
    for k, atoms in enumerate(frames):
        for constraint in atoms.constraints:
            part = _translated(constraint, atoms)
            found.append(_placed(part, first, n, k, len(frames)))
        first += len(atoms)
    return found


def _translated(constraint: Any, atoms: Atoms) -> dict[str, Any]:
    """What one constraint holds, by the atoms of its structure."""
    from ase import constraints as known

    eye = np.eye(3)
    if type(constraint) is known.FixBondLengths:
        pairs = np.asarray(constraint.pairs, dtype=np.int64).reshape(-1, 2)
        lengths = constraint.bondlengths
        lengths = np.full(len(pairs), np.nan) if lengths is None else np.asarray(lengths, float)
        return {"pairs": pairs % len(atoms), "lengths": np.broadcast_to(lengths, len(pairs))}
    if type(constraint) is known.FixCom:
        return {"centred": True}
    if type(constraint) is known.FixAtoms:
        return {"chosen": constraint.get_indices(), "allowed": 0.0 * eye}
    if type(constraint) is known.FixedPlane:
        return {"chosen": constraint.index, "allowed": eye - np.outer(constraint.dir, constraint.dir)}
    if type(constraint) is known.FixedLine:
        return {"chosen": constraint.index, "allowed": np.outer(constraint.dir, constraint.dir)}
    if type(constraint) is known.FixCartesian:
        return {"chosen": constraint.index, "allowed": np.diag((~constraint.mask).astype(float))}
    raise ValueError(
        f"The structure carries {type(constraint).__name__}, which is not read; known are {_READ}. Remove it, "
        f"or name what shall be held as constraints of the run."
    )


def _placed(part: dict[str, Any], first: int, n_atoms: int, k: int, n_systems: int) -> Parts:
    """A structure's part within the batch."""
    if "pairs" in part:
        return Parts(
            pairs=torch.from_numpy(part["pairs"] + first), lengths=torch.tensor(part["lengths"], dtype=torch.float64)
        )
    if "centred" in part:
        return Parts(centred=torch.arange(n_systems) == k)
    allowed = torch.eye(3, dtype=torch.float64).repeat(n_atoms, 1, 1)
    chosen = torch.as_tensor(np.asarray(part["chosen"], dtype=np.int64)) + first
    allowed[chosen] = torch.from_numpy(part["allowed"])
    return Parts(allowed=allowed)


def as_ase(
    constraints: Constraints | None, inverse_masses: torch.Tensor, system: System, k: int
) -> list[Any]:
    """ASE's constraints of structure k."""
    from ase import constraints as known

    rows = system.atom_rows(k)
    still = (inverse_masses[rows] == 0).nonzero().flatten().tolist()
    found: list[Any] = [known.FixAtoms(still)] if still else []
    if constraints is None:
        return found
    if len(constraints.projectors):
        found += _lines_and_planes(constraints.projectors[rows].cpu(), set(still))
    pairs, lengths = constraints.all_pairs()
    mine = system.system_index[pairs[:, 0]] == k
    if bool(mine.any()):
        own = (pairs[mine] - rows.start).cpu().numpy()
        found.append(known.FixBondLengths(own, bondlengths=lengths[mine].cpu().numpy()))
    if bool(constraints.centred[k]):
        found.append(known.FixCom())
    return found


def _lines_and_planes(projectors: torch.Tensor, still: set[int]) -> list[Any]:
    from ase.constraints import FixedLine, FixedPlane

    found: list[Any] = []
    values, vectors = torch.linalg.eigh(projectors)
    for atom, (value, vector) in enumerate(zip(values, vectors, strict=True)):
        rank = round(float(value.sum()))
        if atom in still or rank not in (1, 2):
            continue
        axis = vector[:, 0] if rank == 2 else vector[:, 2]
        found.append((FixedPlane if rank == 2 else FixedLine)([atom], axis.numpy()))
    return found
