"""Charges that minimise an energy: electronegativity, hardness and Coulomb's law."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from rikiba.core import units
from rikiba.core.pairs import Pairs
from rikiba.core.system import System
from rikiba.nn.cutoff import cosine, smoothstep

from .ewald import Ewald, interaction


def equilibrate(
    system: System,
    pairs: Pairs,
    electronegativity: Float[Tensor, "atoms"],
    hardness: Float[Tensor, "atoms"],
    widths: Float[Tensor, "atoms"] | None = None,
    total_charge: Float[Tensor, "systems"] | None = None,
    ewald: Ewald | None = None,
    matrices: Sequence[Tensor] | None = None,
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
        matrices: those of `coulomb_matrices`, where they are known already.

    Raises ValueError where a matrix is not positive on neutral charges (charges would run away), for a system
    periodic along one or two axes, and for a periodic one without `ewald`.
    """
    net = net_charges(system, total_charge)
    parts = []
    if matrices is None:
        matrices = coulomb_matrices(system, pairs, widths, ewald)
    for s, matrix in enumerate(matrices):
        rows = system.atom_rows(s)
        if len(matrix) == 0:
            continue
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


def coulomb_matrices(
    system: System, pairs: Pairs, widths: Float[Tensor, "atoms"] | None, ewald: Ewald | None
) -> list[Tensor]:
    """`coulomb_matrix` of every system."""
    return [coulomb_matrix(system, pairs, s, widths, ewald) for s in range(system.n_systems)]


def matrix_energies(
    system: System,
    matrices: Sequence[Tensor],
    charges: Float[Tensor, "atoms"],
    widths: Float[Tensor, "atoms"] | None = None,
) -> Float[Tensor, "atoms"]:
    """½ q_i (A q)_i of each atom, and with widths its own energy ½ k_e q_i²/(√π σ_i), eV."""
    q = charges.double()
    parts = [0.5 * q[rows] * (a @ q[rows]) for s, a in enumerate(matrices) for rows in (system.atom_rows(s),)]
    out = torch.cat(parts) if parts else torch.zeros_like(q)
    return out if widths is None else out + own_energies(q, widths)


def own_energies(charges: Float[Tensor, "atoms"], widths: Float[Tensor, "atoms"]) -> Float[Tensor, "atoms"]:
    """½ k_e q²/(√π σ) of Gaussian charges, eV."""
    return 0.5 * units.coulomb_constant / math.sqrt(math.pi) * charges * charges / widths


def screened_energies(
    system: System,
    pairs: Pairs,
    charges: Float[Tensor, "atoms"],
    widths: Float[Tensor, "atoms"],
    inner: float,
    outer: float,
    smooth: bool = True,
) -> Float[Tensor, "atoms"]:
    """What screening takes away, eV: −½ Σ_j k_e q_i q_j erf(r/√2γ)/r (1 − f(r)) − ½ k_e q_i²/(√π σ_i).

    f rises from 0 at `inner` to 1 at `outer` (Å): ½(1 − cos πx) as published, which is C¹, or with `smooth`
    the polynomial 6x⁵ − 15x⁴ + 10x³, C². Morawietz, Sharma & Behler, doi:10.1063/1.3682557; that a charge's
    own energy is taken away too is what n2p2 does. What is short-ranged can be learnt by other terms.
    Raises ValueError for pairs that end before `outer`.
    """
    if pairs.cutoff < outer:
        raise ValueError(f"Screening needs pairs up to {outer} Å; these end at {pairs.cutoff} Å.")
    near, _ = pairs.within(system, outer) if pairs.cutoff > outer else (pairs, None)
    q, i, j = charges.double(), near.i, near.j
    r = near.vectors(system).norm(dim=-1)
    x = ((r - inner) / (outer - inner)).clamp(min=0.0)
    missing = smoothstep(x, 2) if smooth else cosine(x)
    gamma = torch.sqrt(2.0 * (widths[i] ** 2 + widths[j] ** 2))
    each = 0.5 * units.coulomb_constant * q[i] * q[j] * torch.erf(r / gamma) / r * missing
    return -(torch.zeros_like(q).index_add(0, i, each) + own_energies(q, widths))


def net_charges(system: System, given: Float[Tensor, "systems"] | None = None) -> Float[Tensor, "systems"]:
    """The given total charges, those of the systems, or 0, e."""
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
