"""Pairs of charges in one molecule that do not interact, or only in part."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from rikiba.core import units
from rikiba.core.system import System


def exclusion_energies(
    system: System,
    first: Int[Tensor, "excluded"],
    second: Int[Tensor, "excluded"],
    charges: Float[Tensor, "atoms"],
    kept: Float[Tensor, "excluded"] | None = None,
) -> Float[Tensor, "atoms"]:
    """−(1 − f) k_e q_i q_j/r, eV, half to each atom: takes pairs out of a Coulomb sum of all.

    r is the distance of the nearest images along periodic axes; each pair is named once; f (`kept`) is the
    part of its interaction that stays, 0 if not given. The sum may be Ewald's, the mesh's or a molecule's:
    all count the full 1/r of a pair. Raises ValueError for a pair farther apart than half the cell's least
    width, whose nearest image is not certain, and for an atom paired with itself or another system's.
    """
    index = system.system_index
    if bool((first == second).any()) or bool((index[first] != index[second]).any()):
        raise ValueError("An excluded pair is of two different atoms of one system.")
    d = system.positions[second] - system.positions[first]
    periodic = system.pbc.any(1)
    if bool(periodic.any()):
        identity = torch.eye(3, dtype=d.dtype, device=d.device)
        # where an axis has no vector, rounding is undone by pbc
        filled = system.cell + torch.diag_embed((system.cell.abs().sum(-1) == 0).double())
        inverse = torch.linalg.inv(torch.where(periodic[:, None, None], filled, identity).detach())
        turns = (
            torch.einsum("pa,pab->pb", d.detach(), inverse[index[first]]).round() * system.pbc[index[first]]
        )
        d = d - torch.einsum("pa,pab->pb", turns, system.cell[index[first]])
        widths = torch.where(system.pbc, 1.0 / inverse.norm(dim=1), torch.inf).amin(1)
        far = d.detach().norm(dim=-1) > 0.5 * widths[index[first]]
        if bool(far.any()):
            k = int(far.nonzero()[0])
            apart, width = float(d[k].detach().norm()), float(widths[index[first[k]]])
            raise ValueError(
                f"Excluded atoms {int(first[k])} and {int(second[k])} are {apart:.3g} Å apart, more than "
                f"half the cell's least width, {width:.3g} Å: which images are meant is not "
                "certain. Use a larger cell."
            )
    share = -0.5 * units.coulomb_constant * charges[first] * charges[second] / d.norm(dim=-1)
    if kept is not None:
        share = share * (1.0 - kept)
    return torch.zeros_like(charges).index_add(0, first, share).index_add(0, second, share)
