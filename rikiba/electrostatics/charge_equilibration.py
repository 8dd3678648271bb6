"""Charges that minimise an energy: electronegativity, hardness and Coulomb's law."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from rikiba.core import units
from rikiba.core.pairs import Pairs
from rikiba.core.system import System

from .ewald import Ewald, interaction


def equilibrate(
    system: System,
    pairs: Pairs,
    electronegativity: Float[Tensor, "atoms"],
    hardness: Float[Tensor, "atoms"],
    widths: Float[Tensor, "atoms"] | None = None,
    total_charge: Float[Tensor, "systems"] | None = None,
    ewald: Ewald | None = None,
) -> Float[Tensor, "atoms"]:
    """Charges q of the least Σ χ_i q_i + ½ Σ J_i q_i² + E_Coulomb(q) at Σ q = Q in every system.

    With widths the charges are Gaussian and ½ k_e q²/(√π σ) of each is added, so that
    [A 1; 1ᵀ 0][q; λ] = [−χ; Q], A_ii = J_i + k_e/(√π σ_i) (Rappé & Goddard, doi:10.1021/j100161a070; Ko et
    al., doi:10.1038/s41467-020-20427-2). Differentiable twice: the gradient costs one more solution. Periodic
    along all axes or along none.

    Args:
        system: the structures.
        pairs: up to the cutoff of `ewald`; not read for molecules.
        electronegativity: χ, V (eV/e).
        hardness: J, V/e (eV/e²).
        widths: σ of Gaussian charges, Å.
        total_charge: Q, e; that of the system, or 0, if not given.
        ewald: the summation, for periodic systems.

    Raises ValueError where a matrix is not positive on neutral charges (charges would run away), for a system
    periodic along one or two axes, and for a periodic one without `ewald`.
    """
    net = _net_charges(system, total_charge)
    parts = []
    for s in range(system.n_systems):
        rows = system.atom_rows(s)
        matrix = coulomb_matrix(system, pairs, s, widths, ewald)
        diagonal = hardness[rows].double()
        if widths is not None:
            diagonal = diagonal + units.coulomb_constant / (math.sqrt(math.pi) * widths[rows])
        matrix = matrix + torch.diag(diagonal)
        _check_stable(matrix.detach(), s)
        n = len(diagonal)
        bordered = torch.cat([matrix, matrix.new_ones(n, 1)], 1)
        last = torch.cat([matrix.new_ones(1, n), matrix.new_zeros(1, 1)], 1)
        right = torch.cat([-electronegativity[rows].double(), net[s : s + 1]])
        parts.append(torch.linalg.solve(torch.cat([bordered, last]), right)[:n])
    return torch.cat(parts) if parts else electronegativity.double()


def coulomb_matrix(
    system: System, pairs: Pairs, s: int, widths: Float[Tensor, "atoms"] | None, ewald: Ewald | None
) -> Float[Tensor, "atoms atoms"]:
    """A of system s with E_Coulomb = ½ qᵀ A q, eV/e²; a charged cell has its uniform background."""
    rows = system.atom_rows(s)
    own = None if widths is None else widths[rows]
    if not bool(system.pbc[s].any()):
        return interaction(system.positions[rows], own)
    if not bool(system.pbc[s].all()) or ewald is None:
        raise ValueError(
            "Charges are equilibrated in molecules, and, with `ewald` given, in systems periodic along three "
            "axes."
        )
    if pairs.cutoff < ewald.cutoff:
        raise ValueError(
            f"The Coulomb matrix needs pairs up to {ewald.cutoff} Å; these end at {pairs.cutoff} Å."
        )
    near = pairs if pairs.cutoff == ewald.cutoff else pairs.within(system, ewald.cutoff)[0]
    mine = (near.i >= rows.start) & (near.i < rows.stop)
    i, j = near.i[mine], near.j[mine]
    r = near.vectors(system)[mine].norm(dim=-1)
    value = torch.erfc(ewald.splitting * r) / r
    if widths is not None:
        gamma = torch.sqrt(widths[i] ** 2 + widths[j] ** 2)
        value = value - torch.erfc(r / (math.sqrt(2.0) * gamma)) / r
    n = rows.stop - rows.start
    flat = (i - rows.start) * n + (j - rows.start)
    near_part = r.new_zeros(n * n).index_add(0, flat, units.coulomb_constant * value).reshape(n, n)
    k, weight = ewald.waves(system.cell[s])
    phase = system.positions[rows] @ k.T
    cosine, sine = torch.cos(phase), torch.sin(phase)
    far = (cosine * weight) @ cosine.T + (sine * weight) @ sine.T
    a, volume = ewald.splitting, torch.linalg.det(system.cell[s]).abs()
    uniform = -units.coulomb_constant * math.pi / (a * a * volume)
    alone = (
        -2.0
        * units.coulomb_constant
        * a
        / math.sqrt(math.pi)
        * torch.eye(n, dtype=far.dtype, device=far.device)
    )
    return near_part + far + alone + uniform


def _net_charges(system: System, given: Tensor | None) -> Tensor:
    if given is not None:
        return given.double()
    if system.charge is not None:
        return system.charge.double()
    return torch.zeros(system.n_systems, dtype=torch.float64, device=system.positions.device)


def _check_stable(matrix: Float[Tensor, "atoms atoms"], s: int) -> None:
    """Raise ValueError unless the energy has a least value among charges of one sum."""
    n = len(matrix)
    mean = torch.eye(n, dtype=matrix.dtype, device=matrix.device) - 1.0 / n
    lowest = torch.linalg.eigvalsh(mean @ matrix @ mean + torch.ones_like(matrix))[0]
    if n > 1 and not float(lowest) > 0:
        raise ValueError(
            f"The charges of system {s} run away: the least curvature of its energy is {float(lowest):.3g} "
            f"eV/e². Hardness is too small for atoms this close, or two atoms coincide."
        )
