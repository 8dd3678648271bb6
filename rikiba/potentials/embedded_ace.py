"""ACE with an embedding: energies that are a nonlinear function of two densities, each linear in B."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from rikiba.core import elements as periodic_table
from rikiba.core.pairs import Pairs
from rikiba.core.results import Results
from rikiba.core.system import System
from rikiba.descriptors.cluster_expansion import ClusterExpansion
from rikiba.nn.atomic_energies import AtomicEnergies
from rikiba.nn.cluster_radial import RadialKind

from .ace import ACE
from .base import Potential, Program, check_positive, seeded

Embedding = Literal["smooth", "shifted_scaled"]


class EmbeddedACE(Potential):
    """Atomic cluster expansion of several densities with a Finnis–Sinclair-like embedding.

    E_i = E0(Z_i) + F(ρ_i1, ρ_i2 …), ρ_ip = Σ_k c_{Z_i p k} B_ik/s_k, F = Σ_p w_p f(ρ_p, m_p), where f(ρ, m)
    follows sign(ρ)|ρ|^m away from ρ = 0 and f(ρ, 1) = ρ: with the defaults F = ρ1 + f(ρ2, ½). B are those of
    `rikiba.descriptors.cluster_expansion.ClusterExpansion` with trainable radial functions. Drautz,
    doi:10.1103/PhysRevB.99.014104; Lysogorskiy et al., doi:10.1038/s41524-021-00559-9; Bochkarev et al.,
    doi:10.1103/PhysRevMaterials.6.013804. A departure: near ρ = 0 f is ρ (1 + ρ²)^((m−1)/2), smooth
    everywhere; `embedding = "shifted_scaled"` is the form of their program, of which the second derivative
    jumps at ρ = 0.

    s_k is the root mean square of B_k over the training atoms, so that all coefficients are of one size to a
    gradient descent; 1 before `prepare`. `from_linear` starts from a fitted linear expansion.

    Args:
        elements: chemical symbols; kept in order of atomic number.
        cutoff: Å.
        order: largest number of neighbours in a product, ν; body order is ν + 1.
        total_degree: limit of Σ(n + l_weight·l) over the factors, n from 1, for all orders or for each.
        l_weight: weight of l in the degree.
        n_max: limit of n, one for all orders or one for each.
        l_max: limit of l, likewise.
        n_base: functions g_k that the radial functions R_nl = Σ_k c_nlk g_k combine.
        fs_parameters: w_1, m_1, w_2, m_2 …, a pair for each density.
        embedding: smooth or shifted_scaled.
        radial: agnesi, chebyshev_exponential, chebyshev_power or bessel.
        radial_scale: λ of the Chebyshev kinds.
        envelope: polynomial (C²) or cosine (C¹, as in the papers).
        envelope_power: power of the polynomial envelope.
        radii: Å, by element, for the Agnesi transform; covalent radii where not given.
        atomic_energies: energy of each isolated atom, eV; zero where not given.
        seed: of the coefficients.
    """

    references = (
        "10.1103/PhysRevB.99.014104",
        "10.1038/s41524-021-00559-9",
        "10.1103/PhysRevMaterials.6.013804",
    )

    def __init__(
        self,
        *,
        elements: Sequence[str],
        cutoff: float = 6.0,
        order: int = 4,
        total_degree: float | Sequence[float] | None = None,
        l_weight: float = 1.5,
        n_max: int | Sequence[int] | None = (8, 5, 3, 2),
        l_max: int | Sequence[int] | None = (0, 3, 3, 2),
        n_base: int = 8,
        fs_parameters: Sequence[float] = (1.0, 1.0, 1.0, 0.5),
        embedding: Embedding = "smooth",
        radial: RadialKind = "agnesi",
        radial_scale: float = 5.25,
        envelope: Literal["polynomial", "cosine"] = "polynomial",
        envelope_power: int = 2,
        radii: Mapping[str, float] | None = None,
        atomic_energies: Mapping[str, float] | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        check_positive(cutoff=cutoff)
        if embedding not in ("smooth", "shifted_scaled"):
            raise ValueError(f"embedding is 'smooth' or 'shifted_scaled'; given '{embedding}'.")
        if not fs_parameters or len(fs_parameters) % 2 or any(m <= 0 for m in fs_parameters[1::2]):
            raise ValueError(
                f"fs_parameters are w_1, m_1, w_2, m_2 …, exponents m > 0; given {list(fs_parameters)}."
            )
        self.elements, self.cutoff = periodic_table.sorted_symbols(elements), float(cutoff)
        self.descriptor = ClusterExpansion(
            elements=self.elements,
            cutoff=cutoff,
            order=order,
            total_degree=total_degree,
            l_weight=l_weight,
            n_max=n_max,
            l_max=l_max,
            mixed=True,
            n_base=n_base,
            radial=radial,
            radial_scale=radial_scale,
            envelope=envelope,
            envelope_power=envelope_power,
            radii=radii,
        )
        self.factors = tuple(float(w) for w in fs_parameters[::2])
        self.exponents = tuple(float(m) for m in fs_parameters[1::2])
        self.embedding = embedding
        self.atomic_energies = AtomicEnergies(self.elements, atomic_energies)
        n = self.descriptor.n_functions
        with seeded(seed):
            c = torch.randn((len(self.elements), len(self.factors), n))
        self.coefficients = nn.Parameter(0.1 * c / self.descriptor.smoothness(2.0).to(c))
        self.register_buffer("scale", torch.ones(n))

    scale: Tensor

    @classmethod
    def examples(cls) -> "list[EmbeddedACE]":
        """Small instances for the conformance tests."""
        both = ("O", "Si")
        return [
            cls(elements=both, cutoff=4.5, n_max=(4, 2, 2, 1), l_max=(0, 2, 1, 1), n_base=5),
            cls(elements=both, cutoff=4.0, order=2, n_max=(4, 2), l_max=(0, 2), n_base=4, seed=1,
                fs_parameters=(1.0, 1.0, 0.5, 0.75), radial="chebyshev_exponential"),
        ]  # fmt: skip

    @classmethod
    def from_linear(
        cls, linear: ACE, structures: Iterable[tuple[System, Pairs]], **options: object
    ) -> "EmbeddedACE":
        """An embedded expansion that equals a linear one, to be refined by gradient descent.

        ρ_1 is what is fitted, the other densities are zero; `structures` (with pairs within the cutoff) give
        the scale of the coefficients. `options` are further arguments (`fs_parameters`, `embedding` …).
        Float64, as the linear one. Raises ValueError unless w_1 = m_1 = 1.
        """
        taken = {k: v for k, v in linear.arguments.items() if k not in ("smoothness", "seed")}
        limits = {"n_max": linear.arguments.get("n_max"), "l_max": linear.arguments.get("l_max")}
        n_base = linear.descriptor.one.count[0]
        base = {"order": 3, "total_degree": 12.0, "cutoff": linear.cutoff, "n_base": n_base}
        new = cls(**base | taken | limits | options).double()  # type: ignore[arg-type]
        if new.factors[0] != 1.0 or new.exponents[0] != 1.0:
            raise ValueError("Only a first density with w = m = 1 can take the place of a linear expansion.")
        with torch.no_grad():
            new.coefficients.zero_()
            new.coefficients[:, 0] = linear.coefficients.view(len(linear.elements), -1)
            new.prepare(structures)
            new.coefficients.mul_(new.scale)
        return new

    def prepare(self, structures: Iterable[tuple[System, Pairs]]) -> None:
        """Take s_k from the training structures, unless it was set before."""
        if bool((self.scale != 1.0).any()):
            return
        total, atoms = torch.zeros(self.descriptor.n_functions, dtype=torch.float64), 0
        with torch.no_grad():
            for system, pairs in structures:
                types = self.types(system)
                vectors = pairs.vectors(system, self.dtype)
                b = self.descriptor(vectors, pairs.i, types[pairs.j], types).double()
                total, atoms = total.to(b) + (b**2).sum(0), atoms + len(b)
        rms = (total / max(atoms, 1)).sqrt()
        self.scale.copy_(torch.where(rms > 0, rms, torch.ones_like(rms)))

    def forward(self, system: System, pairs: Pairs) -> Results:
        types = self.types(system)
        vectors = pairs.vectors(system, self.dtype)
        products = self.descriptor.products(self.descriptor.sums(vectors, pairs.i, types[pairs.j], types))
        weights = self.product_coefficients()
        own = products.new_zeros(len(types))
        for p, (w, m) in enumerate(zip(self.factors, self.exponents, strict=True)):
            own = own + w * root((products * weights[types, p]).sum(-1), m, self.embedding)
        return Results(energies=self.atomic_energies(types) + own.double())

    def product_coefficients(self) -> Float[Tensor, "elements densities monomials"]:
        """Coefficients of the monomials in each density."""
        return self.descriptor.on_products(self.coefficients / self.scale.to(self.coefficients))

    def decayed_parameters(self) -> Iterable[str]:
        return ("coefficients",)

    def program(self) -> Program | None:
        """Energies and forces by compiled kernels, in float64 on the CPU."""
        if self.coefficients.device.type != "cpu":
            return None
        from .ace_program import CompiledACE

        return CompiledACE(
            self,
            self.product_coefficients().detach().double(),
            factors=self.factors,
            exponents=self.exponents,
            embedding=self.embedding,
        )


def root(rho: Float[Tensor, "*n"], exponent: float, form: str = "smooth") -> Float[Tensor, "*n"]:
    """f(ρ, m): a smooth, odd function that follows sign(ρ)|ρ|^m away from ρ = 0.

    smooth: ρ (1 + ρ²)^((m−1)/2).
    shifted_scaled: sign(ρ) ((|ρ| + x e^(−|ρ|))^m − z e^(−|ρ|)), x = m^(1/(1−m)) and z = m^(m/(1−m)), for
    which f(0) = 0: with m = ½ x = ¼ and z = ½.
    finnis_sinclair: sign(ρ) ((1 − g)|ρ|^m + w^(1−m) g |ρ|), g = exp(−(w|ρ|)³), w = 10⁶.
    """
    if exponent == 1.0:
        return rho
    if form == "smooth":
        return rho * (1.0 + rho * rho) ** (0.5 * (exponent - 1.0))
    sign = torch.where(rho < 0, -torch.ones_like(rho), torch.ones_like(rho))
    a = sign * rho
    if form == "finnis_sinclair":
        start, tiny = 1e6 ** (1.0 - exponent), a < 1e-10
        away = torch.where(tiny, torch.ones_like(a), a)
        g = torch.exp(-((1e6 * away) ** 3))
        return torch.where(tiny, start * rho, sign * ((1.0 - g) * away**exponent + start * g * away))
    x, z = exponent ** (1.0 / (1.0 - exponent)), exponent ** (exponent / (1.0 - exponent))
    e = torch.exp(-a)
    return sign * ((a + x * e) ** exponent - z * e)
