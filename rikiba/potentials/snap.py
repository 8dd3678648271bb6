"""SNAP and quadratic SNAP: energies linear or quadratic in bispectrum components."""

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from rikiba.core import elements as periodic_table
from rikiba.core.pairs import Pairs
from rikiba.core.results import Results
from rikiba.core.system import System
from rikiba.descriptors.bispectrum import Bispectrum
from rikiba.nn.atomic_energies import AtomicEnergies

from .base import Design, LinearPotential, Program, check_positive, seeded


class Snap(LinearPotential):
    """Spectral neighbour analysis potential.

    E_i = E0 + β0 + Σ_k β_k B_k + ½ Σ_kl α_kl B_k B_l with the bispectrum components B of atom i (see
    `rikiba.descriptors.bispectrum.Bispectrum`) and coefficients of its element; α = 0 unless `quadratic`.
    Thompson, Swiler, Trott, Foiles & Tucker, doi:10.1016/j.jcp.2014.12.018, section 2.2; quadratic: Wood &
    Thompson, doi:10.1063/1.5017641. Departures from the papers by default: the envelope is the C²
    polynomial (theirs: `envelope = "cosine"`, C¹), and the components of an isolated atom are subtracted.

    `coefficients` holds for each element β0, β_1 … β_n and, if quadratic, the upper triangle of α by rows, of
    which the diagonal counts half in the sum above: the order of LAMMPS.

    Args:
        elements: chemical symbols; kept in order of atomic number.
        cutoff: Å, for two atoms of radius ½; a pair's is cutoff · (R_i + R_j).
        twojmax: twice the largest angular momentum: 14, 30, 55 components for 4, 6, 8.
        quadratic: also products of two components.
        radii: radius R by element; ½ where not given.
        weights: weight of a neighbour by element; 1 where not given.
        angle_fraction: fraction of π that the angle θ0 reaches at the cutoff.
        r_min: distance at which θ0 is zero, Å.
        envelope: polynomial (C²), cosine (the papers' own, C¹) or none (a jump).
        envelope_power: power of the polynomial envelope.
        subtract_isolated: components are those of the environment minus those of an isolated atom.
        normalised: divide B_{j1 j2 j} by 2j + 1.
        explicit_elements: a density per element of the neighbours and components of each three of them.
        all_self: with explicit elements, an atom counts in the density of every element.
        atomic_energies: energy of each isolated atom, eV; zero where not given.
        seed: of the coefficients before they are fitted.
    """

    references = ("10.1016/j.jcp.2014.12.018", "10.1063/1.5017641")

    def __init__(
        self,
        *,
        elements: Sequence[str],
        cutoff: float = 4.7,
        twojmax: int = 6,
        quadratic: bool = False,
        radii: Mapping[str, float] | None = None,
        weights: Mapping[str, float] | None = None,
        angle_fraction: float = 0.99363,
        r_min: float = 0.0,
        envelope: Literal["polynomial", "cosine", "none"] = "polynomial",
        envelope_power: int = 6,
        subtract_isolated: bool = True,
        normalised: bool = False,
        explicit_elements: bool = False,
        all_self: bool = False,
        atomic_energies: Mapping[str, float] | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        check_positive(cutoff=cutoff)
        self.elements = periodic_table.sorted_symbols(elements)
        self.descriptor = Bispectrum(
            elements=self.elements,
            cutoff=cutoff,
            twojmax=twojmax,
            radii=radii,
            weights=weights,
            angle_fraction=angle_fraction,
            r_min=r_min,
            envelope=envelope,
            envelope_power=envelope_power,
            subtract_isolated=subtract_isolated,
            normalised=normalised,
            explicit_elements=explicit_elements,
            all_self=all_self,
        )
        self.cutoff = float(self.descriptor.reach.max())
        self.quadratic = quadratic
        self.atomic_energies = AtomicEnergies(self.elements, atomic_energies)
        n = self.descriptor.n_components
        self.n_products = n * (n + 1) // 2 if quadratic else 0
        with seeded(seed):
            c = torch.randn((len(self.elements), 1 + n + self.n_products), dtype=torch.float64)
        c[:, 1 : 1 + n] *= 1e-2
        c[:, 1 + n :] *= 1e-5
        self.coefficients = nn.Parameter(c.flatten())

    @classmethod
    def examples(cls) -> "list[Snap]":
        """Small instances for the conformance tests."""
        both = ("O", "Si")
        return [
            cls(elements=both, cutoff=4.0, twojmax=4, weights={"O": 0.6, "Si": 1.0}),
            cls(elements=both, cutoff=4.0, twojmax=2, quadratic=True, radii={"O": 0.45, "Si": 0.5}),
            cls(elements=both, cutoff=3.8, twojmax=3, explicit_elements=True, normalised=True, seed=1),
        ]

    def forward(self, system: System, pairs: Pairs) -> Results:
        types = self.types(system)
        vectors = pairs.vectors(system, self.dtype)
        # in this order, so that coincident atoms give NaN
        b = self.descriptor(vectors, pairs.i, types[pairs.j], types)
        constant, linear, quadratic = self.parts(self.coefficients)
        own = constant[types] + (linear[types] * b).sum(-1)
        if self.quadratic:
            own = own + 0.5 * (torch.einsum("nk,nkl->nl", b, quadratic[types]) * b).sum(-1)
        return Results(energies=self.atomic_energies(types) + own.double())

    def parts(self, coefficients: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """β0 [elements], β [elements, components], α [elements or none, components, components]."""
        n = self.descriptor.n_components
        c = coefficients.view(len(self.elements), -1)
        if not self.quadratic:
            return c[:, 0], c[:, 1 : n + 1], c.new_zeros((0, n, n))
        row, column = torch.triu_indices(n, n)
        alpha = c.new_zeros((len(c), n, n))
        alpha[:, row, column] = c[:, n + 1 :]
        twice = torch.diag_embed(alpha.diagonal(dim1=1, dim2=2))
        return c[:, 0], c[:, 1 : n + 1], alpha + alpha.transpose(1, 2) - twice

    def program(self) -> Program:
        """Energies and forces by compiled kernels, in float64."""
        from .snap_program import CompiledSnap

        return CompiledSnap(self)

    def design(self, system: System, pairs: Pairs, *, forces: bool, stress: bool) -> Design:
        from .snap_program import design

        return design(self, system, pairs, forces=forces, stress=stress)
