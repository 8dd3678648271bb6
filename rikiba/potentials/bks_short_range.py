"""The short-range part of the BKS potential of silica."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from .pair import PairPotential, Truncation, pair_tables

_PAIRS = ("Si-Si", "Si-O", "O-O")
A_EV = dict(zip(_PAIRS, (0.0, 18003.7572, 1388.7730), strict=True))
B_PER_A = dict(zip(_PAIRS, (1.0, 4.87318, 2.76000), strict=True))
C_EV_A6 = dict(zip(_PAIRS, (0.0, 133.5381, 175.0000), strict=True))
"""Table I of doi:10.1103/PhysRevLett.64.1955; Si-Si has no short-range part (its range is a place-holder)."""
EPSILON_EV = dict(zip(_PAIRS, (0.0, 3.097948e-3, 1.051050e-3), strict=True))
SIGMA = dict(zip(_PAIRS, (0.0, 1.313635, 1.779239), strict=True))
"""doi:10.1103/PhysRevE.63.011202."""


class BksShortRange(PairPotential):
    """v(r) = A e^{−b r} − C/r⁶ + 4ε[(σ/r)³⁰ − (σ/r)⁶] for Si-O and O-O: BKS silica **without its charges**.

    The model is complete only with the Coulomb energy of q_Si = 2.4 e, q_O = −1.2 e, which this class does
    not add: alone it does not hold silica together. Sources: B. W. H. van Beest, G. J. Kramer & R. A. van
    Santen, Phys. Rev. Lett. 64, 1955 (1990), doi:10.1103/PhysRevLett.64.1955; the 30-6 term, which keeps
    atoms from falling into the attraction at short range, is that of I. Saika-Voivod, F. Sciortino & P. H.
    Poole, Phys. Rev. E 63, 011202 (2000), doi:10.1103/PhysRevE.63.011202.

    Args:
        cutoff: pairs beyond this distance do not interact, Å.
        truncation: how the potential ends at the cutoff: smooth, cut, shift or force_shift.
        switch_from: where the smooth switch begins, Å; 0.8·cutoff if not given.
        core: add the 30-6 term; False for the potential as first published.
    """

    references = ("10.1103/PhysRevLett.64.1955", "10.1103/PhysRevE.63.011202")
    compiled_form = "buckingham_core"

    A: Tensor
    rho: Tensor
    C: Tensor
    epsilon: Tensor
    sigma: Tensor

    def __init__(
        self,
        *,
        cutoff: float = 5.5,
        truncation: Truncation = "smooth",
        switch_from: float | None = None,
        core: bool = True,
    ) -> None:
        super().__init__()
        self.set_truncation(cutoff, truncation, switch_from)
        parameters = {"A_eV": A_EV, "b": B_PER_A, "C": C_EV_A6, "epsilon": EPSILON_EV, "sigma": SIGMA}
        self.elements, tables = pair_tables(parameters)
        self.register_buffer("A", tables["A_eV"])
        self.register_buffer("rho", 1.0 / tables["b"])
        self.register_buffer("C", tables["C"])
        self.register_buffer("epsilon", tables["epsilon"] if core else torch.zeros_like(tables["epsilon"]))
        self.register_buffer("sigma", tables["sigma"])

    def form_parameters(self) -> Float[Tensor, "types types 5"]:
        """A (eV), ρ = 1/b (Å), C (eV·Å⁶), 4ε (eV) and σ (Å)."""
        return torch.stack([self.A, self.rho, self.C, 4.0 * self.epsilon, self.sigma], -1)

    def pair_energy(
        self, r: Float[Tensor, "*pairs"], ti: Int[Tensor, "*pairs"], tj: Int[Tensor, "*pairs"]
    ) -> Float[Tensor, "*pairs"]:
        s6 = (self.sigma[ti, tj] / r) ** 6
        core = 4.0 * self.epsilon[ti, tj] * (s6**5 - s6)
        return self.A[ti, tj] * torch.exp(-r / self.rho[ti, tj]) - self.C[ti, tj] / r**6 + core

    @classmethod
    def examples(cls) -> "list[BksShortRange]":
        """Small instances for the conformance tests."""
        return [cls()]
