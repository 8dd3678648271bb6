"""What Ewald sums share: the near part over pairs, self-energies, background, dipole and slab terms."""

import math
import warnings
from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from rikiba.core import units
from rikiba.core.pairs import Pairs
from rikiba.core.system import System


class ChargedCellWarning(UserWarning):
    """A periodic cell with a net charge got a uniform background of the opposite one."""


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Terms:
    """Energies of each atom, eV: E_i = ½ q_i φ_i term by term."""

    real: Float[Tensor, "atoms"]
    reciprocal: Float[Tensor, "atoms"]
    self_interaction: Float[Tensor, "atoms"]
    background: Float[Tensor, "atoms"]
    surface: Float[Tensor, "atoms"]
    slab: Float[Tensor, "atoms"]

    def total(self) -> Float[Tensor, "atoms"]:
        """The sum of all terms."""
        out = self.real
        for field in fields(self)[1:]:
            out = out + getattr(self, field.name)
        return out


@dataclass(frozen=True, kw_only=True)
class EwaldSplitting(ABC):
    """1/r = erfc(αr)/r + erf(αr)/r: the first summed over pairs, the second as a subclass does.

    Args:
        cutoff: r_c of the pairs, Å.
        tolerance: exp(−α² r_c²), the size of what is left out relative to what is kept.
        alpha: splitting parameter α, 1/Å; from cutoff and tolerance if not given.
        dielectric: ε_s of the surrounding medium: 1 for vacuum; none for a conductor.
        slab_axis: 0, 1 or 2: the lattice vector that crosses the vacuum of a slab; adds the slab term.
        allow_charged: accept cells with a net charge Q, neutralised by a uniform background.
    """

    cutoff: float = 8.0
    tolerance: float = 1e-8
    alpha: float | None = None
    dielectric: float | None = None
    slab_axis: int | None = None
    allow_charged: bool = False

    def __post_init__(self) -> None:
        self._require_positive("cutoff", "alpha", "dielectric")
        if not 0.0 < self.tolerance < 0.1:
            raise ValueError(f"tolerance must be between 0 and 0.1; given {self.tolerance}.")
        if self.slab_axis not in (None, 0, 1, 2):
            raise ValueError(f"slab_axis is 0, 1 or 2, or none; given {self.slab_axis}.")
        if self.slab_axis is not None and self.dielectric is not None:
            raise ValueError(
                "slab_axis and dielectric are two answers to what surrounds the cells; given both "
                f"({self.slab_axis} and {self.dielectric})."
            )

    def _require_positive(self, *names: str) -> None:
        for name in names:
            value = getattr(self, name)
            if value is not None and not 0.0 < value < math.inf:
                raise ValueError(f"{name} must be a positive number; given {value}.")

    @property
    def splitting(self) -> float:
        """α, 1/Å: erfc(α r_c) is about exp(−α² r_c²)."""
        return math.sqrt(-math.log(self.tolerance)) / self.cutoff if self.alpha is None else self.alpha

    @abstractmethod
    def reciprocal(self, system: System, q: Float[Tensor, "atoms"]) -> Float[Tensor, "atoms"]:
        """½ q_i times the smooth part's potential, self-interaction included, eV."""

    def __call__(
        self,
        system: System,
        pairs: Pairs,
        charges: Float[Tensor, "atoms"],
        widths: Float[Tensor, "atoms"] | None = None,
    ) -> Terms:
        """Energies of charges in e; of Gaussian charges exp(−r²/2σ²) where `widths` σ (Å) are given.

        A Gaussian's own energy, k_e q²/(2√π σ), is not among the terms (nor is a point's).
        Raises ValueError for systems without three periodic axes (two for a slab), pairs that end before the
        cutoff, net charges without `allow_charged`, and a slab without the room it needs.
        """
        self.check(system, pairs, charges)
        q = charges.double()
        zero = torch.zeros_like(q)
        return Terms(
            real=self._real(system, pairs, q, widths),
            reciprocal=self.reciprocal(system, q),
            self_interaction=self.self_interaction(q),
            background=self.background(system, q) if self.allow_charged else zero,
            surface=zero if self.dielectric is None else self._surface(system, q),
            slab=zero if self.slab_axis is None else self._slab(system, q),
        )

    def check(self, system: System, pairs: Pairs, charges: Float[Tensor, "atoms"]) -> None:
        """Raise ValueError for what cannot be summed."""
        if pairs.cutoff < self.cutoff:
            raise ValueError(f"Ewald needs pairs up to {self.cutoff} Å; these end at {pairs.cutoff} Å.")
        needed = [axis for axis in range(3) if axis != self.slab_axis]
        if not bool(system.pbc[:, needed].all()):
            raise ValueError(
                "Ewald summation needs structures that are periodic along three axes (along two for a slab, "
                "whose third is named by slab_axis); for molecules use `coulomb`."
            )
        if not bool(system.has_volume.all()):
            k = int((~system.has_volume).nonzero()[0])
            raise ValueError(f"Ewald summation needs a cell with a volume; system {k} has none.")
        if self.slab_axis is not None:
            self._check_slab(system)
        net = system.total(charges.detach().double())
        if not bool((net.abs() < 1e-6).all()):
            k = int(net.abs().argmax())
            if not self.allow_charged:
                raise ValueError(
                    f"System {k} has a net charge of {float(net[k]):.6g} e, whose periodic energy is "
                    f"infinite. Set allow_charged = true for a uniform neutralising background."
                )
            if self.dielectric is not None:
                raise ValueError(
                    f"System {k} has a net charge of {float(net[k]):.6g} e: its dipole depends on the "
                    f"origin, so a dielectric of {self.dielectric} around it has no meaning. Leave it out."
                )
            warnings.warn(
                f"System {k} has a net charge of {float(net[k]):.6g} e; its energy is that with a uniform "
                f"neutralising background.",
                ChargedCellWarning,
                stacklevel=4,
            )

    def _real(self, system: System, pairs: Pairs, q: Tensor, widths: Tensor | None) -> Tensor:
        near, _ = pairs.within(system, self.cutoff) if pairs.cutoff > self.cutoff else (pairs, None)
        r = near.vectors(system).norm(dim=-1)
        kernel = torch.erfc(self.splitting * r) / r
        if widths is not None:
            gamma = torch.sqrt(widths[near.i] ** 2 + widths[near.j] ** 2)
            kernel = kernel - torch.erfc(r / (math.sqrt(2.0) * gamma)) / r
        each = 0.5 * units.coulomb_constant * q[near.i] * q[near.j] * kernel
        return torch.zeros_like(q).index_add(0, near.i, each)

    def self_interaction(self, q: Float[Tensor, "atoms"]) -> Float[Tensor, "atoms"]:
        """−k_e α/√π q_i², which the reciprocal part holds too much."""
        return -units.coulomb_constant * self.splitting / math.sqrt(math.pi) * q * q

    def background(self, system: System, q: Float[Tensor, "atoms"]) -> Float[Tensor, "atoms"]:
        """−k_e π q_i Q/(2Vα²)."""
        spread_charge = -units.coulomb_constant * math.pi / (2.0 * self.splitting**2)
        return (spread_charge * system.total(q) / system.volume)[system.system_index] * q

    @property
    def has_boundary(self) -> bool:
        """Whether there are terms of what surrounds the cells, or of a net charge."""
        return self.dielectric is not None or self.slab_axis is not None or self.allow_charged

    def boundary(self, system: System, q: Float[Tensor, "atoms"]) -> Float[Tensor, "atoms"]:
        """Background, dipole and slab terms that were asked for, eV."""
        out = torch.zeros_like(q)
        if self.allow_charged:
            out = out + self.background(system, q)
        if self.dielectric is not None:
            out = out + self._surface(system, q)
        if self.slab_axis is not None:
            out = out + self._slab(system, q)
        return out

    def _surface(self, system: System, q: Tensor) -> Tensor:
        """½ q_i r_i · M 4π/((2ε_s + 1)V)."""
        assert self.dielectric is not None
        moment = system.total(q[:, None] * system.positions)
        factor = 2.0 * math.pi * units.coulomb_constant / ((2.0 * self.dielectric + 1.0) * system.volume)
        index = system.system_index
        return factor[index] * q * (system.positions * moment[index]).sum(1)

    def _heights(self, system: System) -> tuple[Float[Tensor, "atoms"], Float[Tensor, "systems"]]:
        """z of each atom and of the cell along the slab's normal, Å."""
        assert self.slab_axis is not None
        first, second = (system.cell[:, axis] for axis in range(3) if axis != self.slab_axis)
        normal = torch.linalg.cross(first, second)
        normal = normal / normal.norm(dim=-1, keepdim=True)
        length = (system.cell[:, self.slab_axis] * normal).sum(-1).abs()
        return (system.positions * normal[system.system_index]).sum(-1), length

    def _check_slab(self, system: System) -> None:
        with torch.no_grad():
            z, length = self._heights(system)
        for s in range(system.n_systems):
            rows = system.atom_rows(s)
            if rows.start == rows.stop:
                continue
            room = float(length[s]) - float(z[rows].max() - z[rows].min())
            isolated = not bool(system.pbc[s, self.slab_axis])
            if room < (self.cutoff if isolated else 0.0):
                raise ValueError(
                    f"Slab {s} leaves {room:.3g} Å of vacuum along lattice vector {self.slab_axis}; needed "
                    f"are {self.cutoff if isolated else 0.0} Å, for accuracy as much as the cell is wide. "
                    "Make it longer, or unwrap a slab that crosses its boundary."
                )

    def _slab(self, system: System, q: Tensor) -> Tensor:
        """(2π k_e/V) q_i [z_i M_z − ½(z_i² Q + Σ q z²) − Q L_z²/12].

        It sums to (2π k_e/V)(M_z² − Q Σ q z² − Q² L_z²/12): Yeh & Berkowitz, doi:10.1063/1.479595,
        and for charged slabs Ballenegger, Arnold & Cerdà, doi:10.1063/1.3216473.
        """
        z, length = self._heights(system)
        index = system.system_index
        net, first, second = (system.total(q * z**n) for n in range(3))
        inner = z * first[index] - 0.5 * (z * z * net[index] + second[index])
        inner = inner - (net * length**2 / 12.0)[index]
        return (2.0 * math.pi * units.coulomb_constant / system.volume)[index] * q * inner
