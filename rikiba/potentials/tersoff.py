"""The Tersoff potential."""

from collections.abc import Mapping

from jaxtyping import Float
from torch import Tensor

from .bond_order import BondOrderPotential, Taper
from .many_body import triplet_tables

NAMES = (
    "A_eV", "B_eV", "lambda1_per_A", "lambda2_per_A", "lambda3_per_A", "beta", "n", "m",
    "c", "d", "cos_theta0", "gamma", "R", "D",
)  # fmt: skip

SILICON_B = {
    "A_eV": 3264.7, "B_eV": 95.373, "lambda1_per_A": 3.2394, "lambda2_per_A": 1.3258, "lambda3_per_A": 1.3258,
    "beta": 0.33675, "n": 22.956, "m": 3.0, "c": 4.8381, "d": 2.0417, "cos_theta0": 0.0, "gamma": 1.0,
    "R": 3.0, "D": 0.2,
}  # fmt: skip
"""Si(B), Table I of doi:10.1103/PhysRevB.37.6991."""
SILICON_C = {
    "A_eV": 1830.8, "B_eV": 471.18, "lambda1_per_A": 2.4799, "lambda2_per_A": 1.7322, "lambda3_per_A": 1.7322,
    "beta": 1.0999e-6, "n": 0.78734, "m": 3.0, "c": 1.0039e5, "d": 16.218, "cos_theta0": -0.59826,
    "gamma": 1.0, "R": 2.85, "D": 0.15,
}  # fmt: skip
"""Si(C), Table I of doi:10.1103/PhysRevB.38.9902."""

SETS = {"silicon_B": {"Si-Si-Si": SILICON_B}, "silicon_C": {"Si-Si-Si": SILICON_C}}
_SOURCES = {"silicon_B": "10.1103/PhysRevB.37.6991", "silicon_C": "10.1103/PhysRevB.38.9902"}


class Tersoff(BondOrderPotential):
    """Bond-order potential for covalent solids.

    E = ½ Σ_i Σ_{j≠i} f_C(r_ij) [A e^{−λ₁ r_ij} − b_ij B e^{−λ₂ r_ij}], b_ij = [1 + (β ζ_ij)^n]^{−1/2n},
    ζ_ij = Σ_{k≠i,j} f_C(r_ik) g(θ_jik) exp{[λ₃(r_ij − r_ik)]^m},
    g(θ) = γ {1 + c²/d² − c²/[d² + (cos θ − cos θ₀)²]}.

    Source: J. Tersoff, Phys. Rev. B 37, 6991 (1988), doi:10.1103/PhysRevB.37.6991, eqs. 2–4; several elements
    as in LAMMPS' `pair_style tersoff`: an entry i-j-j holds what belongs to the bond, i-j-k its R, D, m, λ₃,
    γ, c, d and θ₀ for k beside it.

    Args:
        parameters: "silicon_B" (the 1988 surface-oriented set), "silicon_C" (the elastic-constants set); or a
            table by centre, bonded and further neighbour like {"Si-Si-Si" = {A_eV = 3264.7, B_eV = 95.373,
            lambda1_per_A = 3.2394, lambda2_per_A = 1.3258, lambda3_per_A = 1.3258, beta = 0.33675,
            n = 22.956, m = 3.0, c = 4.8381, d = 2.0417, cos_theta0 = 0.0, gamma = 1.0, R = 3.0, D = 0.2}},
            for every triplet of elements in every order.
        taper: how f_C falls from R − D to R + D: smooth, three times differentiable (Murty & Atwater), or
            sine, the published one, whose second derivative jumps.
    """

    references: tuple[str, ...] = ("10.1103/PhysRevB.37.6991",)  # type: ignore[misc]
    angular_form = 0

    def __init__(
        self, *, parameters: str | Mapping[str, Mapping[str, float]] = "silicon_C", taper: Taper = "smooth"
    ) -> None:
        super().__init__()
        if isinstance(parameters, str):
            if parameters not in SETS:
                raise ValueError(
                    f"There are no published parameters '{parameters}' here; known are {', '.join(SETS)}. "
                    f"Give a table of values otherwise."
                )
            self.references = tuple(dict.fromkeys((*self.references, _SOURCES[parameters])))
            parameters = SETS[parameters]
        if taper == "smooth":
            self.references = (*self.references, "10.1103/PhysRevB.51.4889")
        self.elements, tables = triplet_tables(parameters, NAMES, symmetric=False)
        if bool((tables["d"] == 0).any()):
            raise ValueError("d must not be zero.")
        self.set_parameters(tables | {"eta": tables["n"]}, ("c", "d", "cos_theta0", "gamma"), taper)

    def angular(self, cosine: Float[Tensor, "*n"], parameters: Float[Tensor, "*n 4"]) -> Float[Tensor, "*n"]:
        c, d, cosine0, gamma = parameters.unbind(-1)
        x2 = (cosine - cosine0) ** 2
        # the published 1 + c²/d² − c²/(d² + x²) loses digits where c ≫ d
        return gamma * (1.0 + (c / d) ** 2 * x2 / (d**2 + x2))

    @classmethod
    def examples(cls) -> "list[Tersoff]":
        """Small instances for the conformance tests."""
        triplets = [f"{a}-{b}-{c}" for a in ("Si", "O") for b in ("Si", "O") for c in ("Si", "O")]
        short = SILICON_C | {"lambda3_per_A": 0.4, "m": 1.0, "R": 2.3, "beta": 2e-6}
        two = {t: SILICON_C if t.endswith("Si-Si") else short for t in triplets}
        return [cls(), cls(parameters="silicon_B"), cls(parameters=two)]
