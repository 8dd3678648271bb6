"""The Buckingham (exp-6) potential."""

from collections.abc import Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor

from .pair import PairPotential, Truncation, pair_tables


class Buckingham(PairPotential):
    """v(r) = A e^{−r/ρ} − C/r⁶.

    Source: R. A. Buckingham, Proc. R. Soc. A 168, 264 (1938), doi:10.1098/rspa.1938.0173. With C > 0 it
    falls to −∞ at short range, inside the barrier; add a `zbl` term (kind = "sum") where atoms may meet.

    Args:
        A_eV: repulsion strength of each pair of elements, e.g. {"Si-O": 18003.76, "O-O": 1388.77}, eV.
        rho: repulsion range ρ of each pair, Å.
        C_eV_A6: dispersion coefficient of each pair, eV·Å⁶.
        cutoff: pairs beyond this distance do not interact, Å.
        truncation: how the potential ends at the cutoff: smooth, cut, shift or force_shift.
        switch_from: where the smooth switch begins, Å; 0.8·cutoff if not given.
    """

    references = ("10.1098/rspa.1938.0173",)
    compiled_form = "buckingham"

    A: Tensor
    rho: Tensor
    C: Tensor

    def __init__(
        self,
        *,
        A_eV: Mapping[str, float],
        rho: Mapping[str, float],
        C_eV_A6: Mapping[str, float],
        cutoff: float,
        truncation: Truncation = "smooth",
        switch_from: float | None = None,
    ) -> None:
        super().__init__()
        self.set_truncation(cutoff, truncation, switch_from)
        self.elements, tables = pair_tables({"A_eV": A_eV, "rho": rho, "C_eV_A6": C_eV_A6})
        if bool((tables["rho"] <= 0).any()):
            raise ValueError(f"rho must be positive; given {dict(rho)}.")
        self.register_buffer("A", tables["A_eV"])
        self.register_buffer("rho", tables["rho"])
        self.register_buffer("C", tables["C_eV_A6"])

    def form_parameters(self) -> Float[Tensor, "types types 3"]:
        """A (eV), ρ (Å) and C (eV·Å⁶)."""
        return torch.stack([self.A, self.rho, self.C], -1)

    def pair_energy(
        self, r: Float[Tensor, "*pairs"], ti: Int[Tensor, "*pairs"], tj: Int[Tensor, "*pairs"]
    ) -> Float[Tensor, "*pairs"]:
        return self.A[ti, tj] * torch.exp(-r / self.rho[ti, tj]) - self.C[ti, tj] / r**6

    @classmethod
    def examples(cls) -> "list[Buckingham]":
        """Small instances for the conformance tests."""
        pairs = ("Si-Si", "Si-O", "O-O")
        return [
            cls(
                A_eV=dict(zip(pairs, (1500.0, 18003.7572, 1388.7730), strict=True)),
                rho=dict(zip(pairs, (0.3, 0.205205, 0.362319), strict=True)),
                C_eV_A6=dict(zip(pairs, (0.0, 133.5381, 175.0), strict=True)),
                cutoff=5.5,
            )
        ]
