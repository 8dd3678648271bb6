"""The modified Tersoff potential of Kumagai and coworkers."""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from .bond_order import BondOrderPotential, Taper
from .many_body import triplet_tables

NAMES = (
    "A_eV", "B_eV", "lambda1_per_A", "lambda2_per_A", "alpha_per_A", "beta", "eta", "n", "m",
    "c1", "c2", "c3", "c4", "c5", "cos_theta0", "R", "D",
)  # fmt: skip

SILICON = {
    "A_eV": 3281.5905, "B_eV": 121.00047, "lambda1_per_A": 3.2300135, "lambda2_per_A": 1.3457970,
    "alpha_per_A": 2.3890327, "beta": 1.0, "eta": 1.0, "n": 0.5 / 0.53298909, "m": 1.0,
    "c1": 0.20173476, "c2": 730418.72, "c3": 1e6, "c4": 1.0, "c5": 26.0, "cos_theta0": -0.365,
    "R": 3.0, "D": 0.3,
}  # fmt: skip
"""Table 1 of doi:10.1016/j.commatsci.2006.07.013; 1/2n is its δ."""

SETS = {"silicon": {"Si-Si-Si": SILICON}}


class TersoffMod(BondOrderPotential):
    """Tersoff's potential with a better angular function: elastic constants and melting of silicon.

    As `tersoff`, with b_ij = [1 + (β ζ_ij)^η]^{−1/2n}, λ₃ called α, and
    g(θ) = c₁ + c₂ x²/(c₃ + x²) [1 + c₄ exp(−c₅ x²)], x = cos θ − cos θ₀.

    Source: T. Kumagai, S. Izumi, S. Hara & S. Sakai, Comput. Mater. Sci. 39, 457 (2007),
    doi:10.1016/j.commatsci.2006.07.013, eqs. 1–8; there 1/2n is δ.

    Args:
        parameters: "silicon"; or a table by centre, bonded and further neighbour of A_eV, B_eV,
            lambda1_per_A, lambda2_per_A, alpha_per_A, beta, eta, n, m, c1, c2, c3, c4, c5, cos_theta0, R, D,
            for every triplet of elements in every order.
        taper: how f_C falls from R − D to R + D: smooth, the published one, or sine, that of Tersoff.
    """

    references = ("10.1016/j.commatsci.2006.07.013", "10.1103/PhysRevB.51.4889")
    angular_form = 1

    def __init__(
        self, *, parameters: str | Mapping[str, Mapping[str, float]] = "silicon", taper: Taper = "smooth"
    ) -> None:
        super().__init__()
        if isinstance(parameters, str):
            if parameters not in SETS:
                raise ValueError(
                    f"There are no published parameters '{parameters}' here; known are {', '.join(SETS)}. "
                    f"Give a table of values otherwise."
                )
            parameters = SETS[parameters]
        self.elements, tables = triplet_tables(parameters, NAMES, symmetric=False)
        if bool((tables["c3"] <= 0).any()):
            raise ValueError("c3 must be positive.")
        angular = ("c1", "c2", "c3", "c4", "c5", "cos_theta0")
        self.set_parameters(tables | {"lambda3_per_A": tables["alpha_per_A"]}, angular, taper)

    def angular(self, cosine: Float[Tensor, "*n"], parameters: Float[Tensor, "*n 6"]) -> Float[Tensor, "*n"]:
        c1, c2, c3, c4, c5, cosine0 = parameters.unbind(-1)
        x2 = (cosine - cosine0) ** 2
        return c1 + c2 * x2 / (c3 + x2) * (1.0 + c4 * torch.exp(-c5 * x2))

    @classmethod
    def examples(cls) -> "list[TersoffMod]":
        """Small instances for the conformance tests."""
        return [cls()]
