"""Moment tensor potentials: energies linear in contractions of moment tensors."""

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from rikiba.core import elements as periodic_table
from rikiba.core.pairs import Pairs
from rikiba.core.results import Results
from rikiba.core.system import System
from rikiba.descriptors.moments import ChebyshevFunctions, MomentContractions
from rikiba.nn.atomic_energies import AtomicEnergies

from .base import Design, LinearPotential, Program, check_positive, seeded


class Mtp(LinearPotential):
    """Moment tensor potential.

    E_i = E0 + ζ_{z_i} + Σ_α ξ_α B_α, B_α all contractions up to a level of the moments
    M_{μ,ν}(i) = Σ_j f_μ(r_ij; z_i, z_j) r̂_ij^{⊗ν}, f_μ = Σ_β c^β_{μ z_i z_j} Q_β (see
    `rikiba.descriptors.moments`). Shapeev, doi:10.1137/15M1054183; several elements: Gubaev, Podryabinkin,
    Hart & Shapeev, doi:10.1016/j.commatsci.2018.09.031; basis: Novikov et al., doi:10.1088/2632-2153/abc9fe.
    Departures by default: the envelope (r_c − r)³, C², (theirs: `envelope_power = 2`, C¹) and unit vectors,
    as in the authors' program (their equations: `normalised = False`).

    `coefficients` holds ζ of each element, then ξ, found by least squares for given c; `radial_coefficients`
    [centre, neighbour, μ, β] holds c, on which energies do not depend linearly.

    Args:
        elements: chemical symbols; kept in order of atomic number.
        cutoff: Å.
        level: largest Σ (2 + 4μ + ν) of a basis function; even, 2 to 28.
        n_radial: number of Chebyshev polynomials in each radial function.
        r_min: distance at which their argument is −1, Å; about the shortest in the data.
        envelope_power: p of the envelope (r_c − r)^p: 3 (C²) or more, 2 (the papers' own, C¹).
        max_moments: largest number of moments in a basis function, 4 in the published potentials; none does
            not limit it.
        normalised: moments of unit vectors; otherwise of vectors.
        scaling: factor of the Chebyshev functions, Å^−p; none is (cutoff − r_min)^−p.
        atomic_energies: energy of each isolated atom, eV; zero where not given.
        seed: of the coefficients before they are fitted.
    """

    references = ("10.1137/15M1054183", "10.1016/j.commatsci.2018.09.031", "10.1088/2632-2153/abc9fe")

    def __init__(
        self,
        *,
        elements: Sequence[str],
        cutoff: float = 5.0,
        level: int = 16,
        n_radial: int = 8,
        r_min: float = 2.0,
        envelope_power: int = 3,
        max_moments: int | None = 4,
        normalised: bool = True,
        scaling: float | None = None,
        atomic_energies: Mapping[str, float] | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        check_positive(cutoff=cutoff)
        if envelope_power < 2:
            raise ValueError(
                f"envelope_power must be at least 2 for continuous forces; given {envelope_power}."
            )
        self.elements = periodic_table.sorted_symbols(elements)
        self.cutoff = cutoff
        self.radial = ChebyshevFunctions(
            n=n_radial, cutoff=cutoff, r_min=r_min, power=envelope_power, scaling=scaling
        )
        self.descriptor = MomentContractions(level=level, max_moments=max_moments, normalised=normalised)
        self.atomic_energies = AtomicEnergies(self.elements, atomic_energies)
        n, n_mu = len(self.elements), self.descriptor.n_radial_functions
        with seeded(seed):
            c = 0.1 * torch.randn((n, n, n_mu, n_radial), dtype=torch.float64)
            xi = 1e-2 * torch.randn(self.descriptor.n_functions, dtype=torch.float64)
        # f_μ starts near the μ-th polynomial, so that no two are alike
        for mu in range(n_mu):
            c[:, :, mu, mu % n_radial] += 0.5
        self.radial_coefficients = nn.Parameter(c)
        self.coefficients = nn.Parameter(torch.cat([xi.new_zeros(n), xi]))

    @classmethod
    def examples(cls) -> "list[Mtp]":
        """Small instances for the conformance tests."""
        both = ("O", "Si")
        return [
            cls(elements=both, cutoff=4.0, level=8, n_radial=4, r_min=1.5),
            cls(elements=both, cutoff=3.8, level=6, n_radial=3, r_min=1.0, normalised=False, seed=1),
        ]

    def forward(self, system: System, pairs: Pairs) -> Results:
        types = self.types(system)
        n = len(self.elements)
        vectors = pairs.vectors(system, self.dtype)
        q = self.radial(vectors.norm(dim=-1))
        f = torch.einsum("pb,pmb->pm", q, self.radial_coefficients[types[pairs.i], types[pairs.j]])
        b = self.descriptor(vectors, f, pairs.i, len(types))
        own = self.coefficients[:n][types] + b @ self.coefficients[n:]
        return Results(energies=self.atomic_energies(types) + own.double())

    def program(self) -> Program:
        """Energies and forces by compiled kernels, in float64."""
        from .mtp_program import CompiledMtp

        return CompiledMtp(self)

    def design(self, system: System, pairs: Pairs, *, forces: bool, stress: bool) -> Design:
        from .mtp_program import CompiledMtp

        return CompiledMtp(self).design(system, pairs, forces=forces, stress=stress)
