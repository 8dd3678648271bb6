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
    allowed: list[torch.Tensor] = []  # the k-th restriction of every structure: they touch different atoms
    centred = torch.zeros(len(frames), dtype=torch.bool)
    for k, atoms in enumerate(frames):
        parts = [_translated(constraint, atoms) for constraint in atoms.constraints]
        for turn, part in enumerate(p for p in parts if "allowed" in p):
            if turn == len(allowed):
                allowed.append(torch.eye(3, dtype=torch.float64).repeat(n, 1, 1))
            chosen = torch.as_tensor(np.asarray(part["chosen"], dtype=np.int64)) + first
            allowed[turn][chosen] = torch.from_numpy(part["allowed"])
        for part in (p for p in parts if "pairs" in p):
            lengths = torch.tensor(part["lengths"], dtype=torch.float64)
            found.append(Parts(pairs=torch.from_numpy(part["pairs"] + first), lengths=lengths))
        centred[k] = any("centred" in p for p in parts)
        first += len(atoms)
    found += [Parts(allowed=a) for a in allowed]
    return [*found, Parts(centred=centred)] if bool(centred.any()) else found


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
        f"The structure carries {type(constraint).__name__}, which is not read; known are {_READ}. "
        f"Remove it, or name what shall be held as constraints of the run."
    )


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
