"""Screened nuclear repulsion of two atoms: the universal form and the one that MACE adds."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from rikiba.core import units
from rikiba.kernels.grouping import segment_sum

_COEFFICIENTS = (0.1818, 0.5099, 0.2802, 0.02817)
_EXPONENTS = (3.2, 0.9423, 0.4029, 0.2016)


class _Form(NamedTuple):
    """Constants of a screened repulsion."""

    prefactor: float
    exponent: float
    screening: tuple[tuple[float, ...], tuple[float, ...]]
    """Coefficients and exponents."""


MACE_ZBL = _Form(0.4543, 0.3, (_COEFFICIENTS, (3.2, 0.9423, 0.4028, 0.2016)))
"""Of `mace_zbl_pair_energy`."""
LAMMPS_ZBL = _Form(
    0.4685 / 0.529, 0.23, ((0.18175, 0.50986, 0.28022, 0.02817), (3.1998, 0.94229, 0.4029, 0.20162))
)
"""Of `lammps_zbl_pair_energy`, its length in units of 0.529 Å."""


def zbl_screening(
    x: Float[Tensor, "*pairs"], exponents: tuple[float, float, float, float] = _EXPONENTS
) -> Float[Tensor, "*pairs"]:
    """φ(x) = 0.1818 e^(−3.2x) + 0.5099 e^(−0.9423x) + 0.2802 e^(−0.4029x) + 0.02817 e^(−0.2016x), x = r/a.

    Ziegler, Biersack, Littmark, The Stopping and Range of Ions in Solids (1985), eq. 2-57 f.; the published
    coefficients add up to 1.00007.
    """
    parts = [c * torch.exp(-e * x) for c, e in zip(_COEFFICIENTS, exponents, strict=True)]
    return parts[0] + parts[1] + parts[2] + parts[3]


def zbl_pair_energy(
    r: Float[Tensor, "*pairs"], z_i: Int[Tensor, "*pairs"], z_j: Int[Tensor, "*pairs"]
) -> Float[Tensor, "*pairs"]:
    """Universal screened repulsion V = Z_i Z_j e²/(4πε₀ r) φ(r/a), a = 0.8854 a₀/(Z_i^0.23 + Z_j^0.23).

    r in Å, Z atomic numbers, V in eV per pair (counted once), no cutoff.
    Source: Ziegler, Biersack, Littmark, The Stopping and Range of Ions in Solids (1985).
    """
    zi, zj = z_i.to(r.dtype), z_j.to(r.dtype)
    length = 0.8854 * units.bohr / (zi**0.23 + zj**0.23)
    return units.coulomb_constant * zi * zj / r * zbl_screening(r / length)


def mace_zbl_pair_energy(
    r: Float[Tensor, "*pairs"],
    z_i: Int[Tensor, "*pairs"],
    z_j: Int[Tensor, "*pairs"],
    radii_sum: Float[Tensor, "*pairs"],
    *,
    power: int,
    prefactor: float = MACE_ZBL.prefactor,
    exponent: float = MACE_ZBL.exponent,
) -> Float[Tensor, "*pairs"]:
    """MACE's pair repulsion V·f, f the polynomial envelope of that power that ends at R_i + R_j.

    Same form as `zbl_pair_energy` with a = prefactor·0.529/(Z_i^exponent + Z_j^exponent), which is about half
    the universal length, third screening exponent 0.4028 and e²/(4πε₀) = 14.3996 eV Å, as MACE's published
    models were trained
    (Batatia et al., arXiv:2401.00096; constants of mace-torch 0.3). r and radii_sum (covalent radii) in Å,
    eV per pair (counted once); zero from R_i + R_j on.
    """
    from .cutoff import polynomial

    zi, zj = z_i.to(r.dtype), z_j.to(r.dtype)
    length = prefactor * 0.529 / (zi**exponent + zj**exponent)
    bare = 14.3996 * zi * zj / r * zbl_screening(r / length, (3.2, 0.9423, 0.4028, 0.2016))
    return bare * polynomial(r / radii_sum, power)


def lammps_zbl_pair_energy(
    r: Float[Tensor, "*pairs"], z_i: Int[Tensor, "*pairs"], z_j: Int[Tensor, "*pairs"]
) -> Float[Tensor, "*pairs"]:
    """`zbl_pair_energy` with the constants of LAMMPS's pair style zbl, which nequip shares.

    φ(x) = 0.18175 e^(−3.1998x) + 0.50986 e^(−0.94229x) + 0.28022 e^(−0.4029x) + 0.02817 e^(−0.20162x),
    a = 0.4685 Å/(Z_i^0.23 + Z_j^0.23), e²/(4πε₀) = 14.399645 eV Å. r in Å, eV per pair (counted once), no
    cutoff.
    """
    zi, zj = z_i.to(r.dtype), z_j.to(r.dtype)
    return 14.399645 * zi * zj / r * lammps_zbl_screening(r, zi, zj)


def lammps_zbl_screening(
    r: Float[Tensor, "*pairs"], z_i: Float[Tensor, "*pairs"], z_j: Float[Tensor, "*pairs"]
) -> Float[Tensor, "*pairs"]:
    """φ(r/a) of `lammps_zbl_pair_energy`."""
    x = r * (z_i**0.23 + z_j**0.23) / 0.4685
    parts = [c * torch.exp(-e * x) for c, e in zip(*LAMMPS_ZBL.screening, strict=True)]
    return parts[0] + parts[1] + parts[2] + parts[3]


def zbl_switch(
    z_i: Float[Tensor, "*pairs"],
    z_j: Float[Tensor, "*pairs"],
    end: Float[Tensor, "*pairs"],
    width: Float[Tensor, "*pairs"],
) -> tuple[Float[Tensor, "*pairs"], Float[Tensor, "*pairs"], Float[Tensor, "*pairs"]]:
    """c_0, c_3, c_4 of S(r) = c_0 + c_3 t³ + c_4 t⁴ with t = max(0, r − end + width), per e²Z_iZ_j/(4πε₀).

    With them φ(r/a)/r + S has no value, slope or curvature at `end`: the switch of LAMMPS's pair style zbl,
    with its constants (see `lammps_zbl_pair_energy`).
    """
    coefficients, exponents = LAMMPS_ZBL.screening
    inverse = (z_i**LAMMPS_ZBL.exponent + z_j**LAMMPS_ZBL.exponent) / 0.4685
    value = slope = curvature = torch.zeros_like(end)
    for c, e in zip(coefficients, exponents, strict=True):
        term, k = c * torch.exp(-e * inverse * end) / end, e * inverse
        value = value + term
        slope = slope - term * (k + 1.0 / end)
        curvature = curvature + term * (k * k + 2.0 * k / end + 2.0 / end**2)
    third = (width * curvature - 3.0 * slope) / (3.0 * width**2)
    fourth = (2.0 * slope - width * curvature) / (4.0 * width**3)
    return 0.5 * width * slope - value - width**2 / 12.0 * curvature, third, fourth


def lammps_zbl_by_atom(
    r: Float[Tensor, "pairs"],
    i: Int[Tensor, "pairs"],
    j: Int[Tensor, "pairs"],
    numbers: Int[Tensor, "atoms"],
    envelope: Float[Tensor, "pairs"],
) -> Float[Tensor, "atoms"]:
    """½ Σ_j V(r_ij) f_ij of each centre i, V of `lammps_zbl_pair_energy`, eV; pairs in both directions."""
    v = lammps_zbl_pair_energy(r, numbers[i], numbers[j]) * envelope
    return segment_sum(0.5 * v, i, len(numbers))
