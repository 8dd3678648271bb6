"""Energies of bonds, angles, torsions and impropers of a topology.

Force constants are second derivatives: a harmonic term is ½ k (x − x₀)². AMBER's and CHARMM's files hold
K = k/2; GROMACS' and OpenMM's hold k. Those of GROMOS' bonds and angles are as its files have them
(doi:10.1002/jcc.20090).
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, final

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from rikiba.nn.double_buffers import DoubleBuffers

from .topology import Copies, TopologyError, table_columns

_SINGULAR = 1e-8
"""Sine of an angle below which three atoms count as collinear."""

Vectors = Float[Tensor, "copies terms 3"]
Values = Float[Tensor, "copies terms"]


def angle(a: Vectors, b: Vectors) -> Values:
    """θ between two vectors, rad, exact to rounding near 0 and π: atan2(|a × b|, a·b)."""
    return torch.atan2(torch.linalg.cross(a, b).norm(dim=-1), (a * b).sum(-1))


def torsion(a: Vectors, b: Vectors, c: Vectors) -> Values:
    """φ of successive bonds a, b, c in (−π, π], rad; 0 is cis, positive clockwise seen along b (IUPAC)."""
    first, second = torch.linalg.cross(a, b), torch.linalg.cross(b, c)
    return torch.atan2(b.norm(dim=-1) * (a * second).sum(-1), (first * second).sum(-1))


def _sine(a: Vectors, b: Vectors) -> Values:
    return torch.linalg.cross(a, b).norm(dim=-1) / (a.norm(dim=-1) * b.norm(dim=-1))


def _refuse(bad: Tensor, atoms: Int[Tensor, "terms k"], what: str) -> None:
    if bool(bad.any()):
        copy, term = (int(x) for x in bad.nonzero()[0])
        named = "-".join(str(int(a)) for a in atoms[term])
        raise ValueError(
            f"Atoms {named} of copy {copy} of the topology {what}: the forces have no limit there. Displace "
            f"an atom a little, or leave the term out."
        )


class AtomTerms(DoubleBuffers):
    """Terms of which each is of a few atoms of the topology."""

    atoms: Tensor
    n: int
    """Atoms of the topology."""

    def vectors(self, copies: Copies, *pairs: tuple[int, int]) -> list[Vectors]:
        """Nearest-image vectors between the k-th and l-th atom of each term."""
        return [copies.vectors(self.atoms[:, k], self.atoms[:, m]) for k, m in pairs]

    def shared(self, values: Values) -> Float[Tensor, "copies n"]:
        """Each term's energy in equal parts on its atoms."""
        per_term = self.atoms.shape[1]
        part = (values / per_term)[:, :, None].expand(-1, -1, per_term).flatten(1)
        return values.new_zeros(values.shape[0], self.n).index_add(1, self.atoms.reshape(-1), part)


class Terms(AtomTerms):
    """One kind of term: which atoms, and its parameters as buffers named like the columns of its table."""

    def __init__(self, name: str, table: Mapping[str, Any], n_atoms: int, form: "Form") -> None:
        super().__init__()
        atoms, values = table_columns(name, table, n_atoms, form.n_atoms, form.columns)
        self.register_buffer("atoms", atoms)
        for column, value in values.items():
            self.register_buffer(column, value)
        self.n = n_atoms


Energy = Callable[[Any, Copies], Values]


@final
@dataclass(frozen=True, slots=True)
class Form:
    """Atoms of a term, columns of its table, and its energy."""

    n_atoms: int
    columns: tuple[str, ...]
    energy: Energy


def harmonic_bond(t: Any, copies: Copies) -> Values:
    """½ k (r − r₀)²."""
    (r,) = t.vectors(copies, (0, 1))
    return 0.5 * t.force_constant_eV_per_A2 * (r.norm(dim=-1) - t.length) ** 2


def morse_bond(t: Any, copies: Copies) -> Values:
    """D (1 − exp(−α (r − r₀)))², doi:10.1103/PhysRev.34.57: 0 at rest, D when torn apart."""
    (r,) = t.vectors(copies, (0, 1))
    return t.depth_eV * (1.0 - torch.exp(-t.alpha_per_A * (r.norm(dim=-1) - t.length))) ** 2


def quartic_bond(t: Any, copies: Copies) -> Values:
    """¼ k (r² − r₀²)², GROMOS' form, which takes no square root."""
    (r,) = t.vectors(copies, (0, 1))
    return 0.25 * t.force_constant_eV_per_A4 * ((r * r).sum(-1) - t.length**2) ** 2


def harmonic_angle(t: Any, copies: Copies) -> Values:
    """½ k (θ − θ₀)², θ at the middle atom. Collinear atoms are at rest or refused, if θ₀ is not 180°."""
    a, b = t.vectors(copies, (1, 0), (1, 2))
    rest = torch.deg2rad(t.angle_deg)
    theta = angle(a, b)
    if theta.requires_grad:
        off = (theta - rest).abs().detach() > 1e-6
        _refuse((_sine(a, b).detach() < _SINGULAR) & off & (t.force_constant_eV_per_rad2 != 0), t.atoms,
                "are collinear and the angle's rest value is not 180°")  # fmt: skip
    return 0.5 * t.force_constant_eV_per_rad2 * (theta - rest) ** 2


def cosine_angle(t: Any, copies: Copies) -> Values:
    """½ k (cos θ − cos θ₀)², GROMOS' form, smooth where atoms are collinear."""
    a, b = t.vectors(copies, (1, 0), (1, 2))
    cosine = (a * b).sum(-1) / (a.norm(dim=-1) * b.norm(dim=-1))
    return 0.5 * t.force_constant_eV * (cosine - torch.cos(torch.deg2rad(t.angle_deg))) ** 2


def _dihedral(t: Any, copies: Copies, weight: Tensor) -> Values:
    a, b, c = t.vectors(copies, (0, 1), (1, 2), (2, 3))
    if a.requires_grad:
        least = torch.minimum(_sine(a, b), _sine(b, c)).detach()
        _refuse((least < _SINGULAR) & (weight != 0), t.atoms, "have three in a row of a torsion collinear")
    return torsion(a, b, c)


def periodic_torsion(t: Any, copies: Copies) -> Values:
    """V [1 + cos(nφ − γ)]; AMBER's files hold V as it is here (its papers Vₙ/2). Impropers likewise."""
    phi = _dihedral(t, copies, t.amplitude_eV)
    return t.amplitude_eV * (1.0 + torch.cos(t.periodicity * phi - torch.deg2rad(t.phase_deg)))


RB = tuple(f"c{k}_eV" for k in range(6))


def ryckaert_bellemans(t: Any, copies: Copies) -> Values:
    """Σ_k C_k cosᵏψ, ψ = φ − 180°, k = 0 … 5 (doi:10.1016/0009-2614(75)85513-8)."""
    coefficients = torch.stack([getattr(t, c) for c in RB])
    x = -torch.cos(_dihedral(t, copies, coefficients[1:].abs().amax(0)))
    total = coefficients[5].expand_as(x)
    for k in range(4, -1, -1):
        total = total * x + coefficients[k]
    return total


def harmonic_improper(t: Any, copies: Copies) -> Values:
    """½ k (φ − φ₀)², φ − φ₀ taken in (−180°, 180°]."""
    off = _dihedral(t, copies, t.force_constant_eV_per_rad2) - torch.deg2rad(t.angle_deg)
    off = off - 2.0 * math.pi * torch.round(off.detach() / (2.0 * math.pi))
    return 0.5 * t.force_constant_eV_per_rad2 * off**2


_STIFFNESS = ("force_constant_eV_per_A2", "length")
QUARTIC = ("force_constant_eV_per_A4", "length")
FORMS: Mapping[str, Form] = {
    "bonds": Form(2, _STIFFNESS, harmonic_bond),
    "morse_bonds": Form(2, ("depth_eV", "alpha_per_A", "length"), morse_bond),
    "quartic_bonds": Form(2, QUARTIC, quartic_bond),
    "angles": Form(3, ("force_constant_eV_per_rad2", "angle_deg"), harmonic_angle),
    "cosine_angles": Form(3, ("force_constant_eV", "angle_deg"), cosine_angle),
    "urey_bradley": Form(2, _STIFFNESS, harmonic_bond),
    "torsions": Form(4, ("amplitude_eV", "periodicity", "phase_deg"), periodic_torsion),
    "ryckaert_bellemans": Form(4, RB, ryckaert_bellemans),
    "impropers": Form(4, ("force_constant_eV_per_rad2", "angle_deg"), harmonic_improper),
}
"""Name of the constructor's table → form of its terms."""


class TorsionMaps(AtomTerms):
    """CMAP: energies of two torsions of five atoms in a row, interpolated on maps of N × N values.

    Interpolated by the periodic cubic spline, as CHARMM and OpenMM do (doi:10.1002/jcc.20065); map[a][b]
    stands at φ = −180° + 360° a/N, ψ = −180° + 360° b/N.
    """

    spline: Tensor

    def __init__(self, table: Mapping[str, Any], n_atoms: int) -> None:
        super().__init__()
        if "grids_eV" not in table:
            raise TopologyError("cmaps is a table of atoms, map and grids_eV.")
        rest = {k: v for k, v in table.items() if k != "grids_eV"}
        atoms, values = table_columns("cmaps", rest, n_atoms, 5, ("map",))
        grids = torch.as_tensor(table["grids_eV"], dtype=torch.float64)
        if grids.dim() != 3 or grids.shape[1] != grids.shape[2] or grids.shape[1] < 4:
            raise TopologyError(
                f"cmaps.grids_eV is [maps, N, N] with N at least 4; it is {list(grids.shape)}. Maps of "
                f"different sizes are not supported."
            )
        self.which = values["map"].long().tolist()
        if not all(0 <= m < len(grids) for m in self.which):
            raise TopologyError(f"cmaps.map must be 0 … {len(grids) - 1}.")
        n = grids.shape[1]
        wave = (4.0 + 2.0 * torch.cos(2.0 * math.pi * torch.arange(n, dtype=torch.float64) / n)) / 6.0
        spline = torch.fft.ifft2(torch.fft.fft2(grids) / (wave[:, None] * wave[None, :])).real
        self.register_buffer("atoms", atoms)
        self.register_buffer("spline", spline.contiguous())
        self.n = n_atoms

    def energy(self, copies: Copies) -> Values:
        """Σ_ab c_ab B(φ) B(ψ) of cubic B-splines."""
        v = self.vectors(copies, (0, 1), (1, 2), (2, 3), (3, 4))
        sines = torch.stack([_sine(a, b).detach() for a, b in pairwise(v)])
        if v[0].requires_grad:
            _refuse(sines.amin(0) < _SINGULAR, self.atoms, "have three in a row of a torsion collinear")
        first, wa = self._weights(torsion(*v[:3]))
        second, wb = self._weights(torsion(*v[1:]))
        which = torch.tensor(self.which, device=first.device)[None, :, None, None]
        values = self.spline[which, first[..., :, None], second[..., None, :]]
        return torch.einsum("cta,ctb,ctab->ct", wa, wb, values)

    def _weights(self, phi: Values) -> tuple[Int[Tensor, "copies terms 4"], Float[Tensor, "copies terms 4"]]:
        """Indices and values of the four B-splines that are not zero at φ."""
        n = self.spline.shape[1]
        x = (phi / (2.0 * math.pi) + 0.5) * n
        cell = torch.floor(x.detach())
        u = x - cell
        weights = torch.stack(
            [(1 - u) ** 3, 3 * u**3 - 6 * u**2 + 4, -3 * u**3 + 3 * u**2 + 3 * u + 1, u**3], -1
        )
        index = cell.long()[..., None] + torch.arange(-1, 3, device=phi.device)
        return index % n, weights / 6.0


class BondedTerms(nn.Module):
    """All bonded terms of a topology, from the tables of `MolecularMechanics`.

    Args:
        tables: name in `FORMS`, or cmaps, → table; None for none.
        n_atoms: of the topology.
    """

    def __init__(self, tables: Mapping[str, Mapping[str, Any] | None], n_atoms: int) -> None:
        super().__init__()
        given = {name: table for name, table in tables.items() if table is not None}
        maps = given.pop("cmaps", None)
        self.kinds = nn.ModuleDict({k: Terms(k, t, n_atoms, FORMS[k]) for k, t in given.items()})
        self.maps = None if maps is None else TorsionMaps(maps, n_atoms)

    def forward(self, copies: Copies) -> dict[str, Float[Tensor, "atoms"]]:
        """Energies per atom of each kind of term, eV; a term's energy is shared equally by its atoms."""
        found = {}
        for name, terms in self.kinds.items():
            assert isinstance(terms, Terms)
            found[name] = terms.shared(FORMS[name].energy(terms, copies)).reshape(-1)
        if self.maps is not None:
            found["cmaps"] = self.maps.shared(self.maps.energy(copies)).reshape(-1)
        return found
