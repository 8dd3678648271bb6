"""ACE: energies linear in the invariants of the atomic cluster expansion."""

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from rikiba.core import elements as periodic_table
from rikiba.core.pairs import Pairs
from rikiba.core.results import Results
from rikiba.core.system import System
from rikiba.descriptors.cluster_expansion import ClusterExpansion
from rikiba.nn.atomic_energies import AtomicEnergies
from rikiba.nn.cluster_radial import RadialKind

from .base import Design, LinearPotential, Program, check_positive, seeded


class ACE(LinearPotential):
    """Linear atomic cluster expansion.

    E_i = E0(Z_i) + Σ_k c_{Z_i k} B_ik with the invariants B of up to ν neighbours at once (see
    `rikiba.descriptors.cluster_expansion.ClusterExpansion`). Drautz, doi:10.1103/PhysRevB.99.014104;
    size limits by total degree, the transform of distance and the smoothness prior as in Witt et al.,
    doi:10.1063/5.0158783. Coefficients are fitted by least squares, with the regulariser λ Σ Γ_k² c_k²,
    Γ_k = 1 + Σ_t (n_t^p + (w l_t)^p).

    Args:
        elements: chemical symbols; kept in order of atomic number.
        cutoff: Å.
        order: largest number of neighbours in a product, ν; body order is ν + 1.
        total_degree: limit of Σ(n + l_weight·l) over the factors, n from 1, for all orders or for each.
        l_weight: weight w of l in the degree and the prior.
        n_max: limit of n, one for all orders or one for each.
        l_max: limit of l, likewise.
        radial: agnesi, chebyshev_exponential, chebyshev_power or bessel.
        radial_scale: λ of the Chebyshev kinds.
        envelope: polynomial (C²) or cosine (C¹, as in the first papers).
        envelope_power: power of the polynomial envelope.
        radii: Å, by element, for the Agnesi transform; covalent radii where not given.
        smoothness: exponent p of the prior; 0 weighs all functions of an order alike.
        atomic_energies: energy of each isolated atom, eV; zero where not given.
        seed: of the coefficients before they are fitted.
    """

    references = (
        "10.1103/PhysRevB.99.014104",
        "10.1016/j.jcp.2022.110946",
        "10.1063/5.0158783",
    )

    def __init__(
        self,
        *,
        elements: Sequence[str],
        cutoff: float = 5.5,
        order: int = 3,
        total_degree: float | Sequence[float] | None = 12.0,
        l_weight: float = 1.5,
        n_max: int | Sequence[int] | None = None,
        l_max: int | Sequence[int] | None = None,
        radial: RadialKind = "agnesi",
        radial_scale: float = 5.25,
        envelope: Literal["polynomial", "cosine"] = "polynomial",
        envelope_power: int = 2,
        radii: Mapping[str, float] | None = None,
        smoothness: float = 2.0,
        atomic_energies: Mapping[str, float] | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        check_positive(cutoff=cutoff)
        self.elements, self.cutoff = periodic_table.sorted_symbols(elements), float(cutoff)
        self.descriptor = ClusterExpansion(
            elements=self.elements,
            cutoff=cutoff,
            order=order,
            total_degree=total_degree,
            l_weight=l_weight,
            n_max=n_max,
            l_max=l_max,
            radial=radial,
            radial_scale=radial_scale,
            envelope=envelope,
            envelope_power=envelope_power,
            radii=radii,
        )
        self.smoothness = smoothness
        self.atomic_energies = AtomicEnergies(self.elements, atomic_energies)
        with seeded(seed):
            c = torch.randn((len(self.elements), self.descriptor.n_functions), dtype=torch.float64)
        self.coefficients = nn.Parameter((0.1 * c / self.descriptor.smoothness(2.0)).flatten())

    @classmethod
    def examples(cls) -> "list[ACE]":
        """Small instances for the conformance tests."""
        both = ("O", "Si")
        return [
            cls(elements=both, cutoff=4.5, order=4, total_degree=(8, 7, 6.5, 7)),
            cls(elements=both, cutoff=4.0, order=2, total_degree=None, n_max=(6, 3), l_max=(0, 3), seed=1,
                radial="chebyshev_power", radial_scale=4.0),
        ]  # fmt: skip

    def forward(self, system: System, pairs: Pairs) -> Results:
        types = self.types(system)
        vectors = pairs.vectors(system, self.dtype)
        products = self.descriptor.products(self.descriptor.sums(vectors, pairs.i, types[pairs.j], types))
        own = (products * self.product_coefficients()[types]).sum(-1)
        return Results(energies=self.atomic_energies(types) + own.double())

    def product_coefficients(self) -> Tensor:
        """Coefficients of the monomials [elements, monomials]."""
        return self.descriptor.on_products(self.coefficients.view(len(self.elements), -1))

    def prior(self) -> Tensor:
        return self.descriptor.smoothness(self.smoothness).repeat(len(self.elements))

    def program(self) -> Program | None:
        """Energies and forces by compiled kernels, in float64 on the CPU."""
        if self.coefficients.device.type != "cpu":
            return None
        from .ace_program import CompiledACE

        weights = self.product_coefficients().detach().double()[:, None]
        return CompiledACE(self, weights, factors=(1.0,), exponents=(1.0,))

    def design(self, system: System, pairs: Pairs, *, forces: bool, stress: bool) -> Design:
        from .ace_program import design

        return design(self, system, pairs, forces=forces, stress=stress)
