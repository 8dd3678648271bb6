"""The Morse potential."""

from collections.abc import Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor

from .pair import PairPotential, Truncation, pair_tables


class Morse(PairPotential):
    """v(r) = D[e^{−2α(r−r₀)} − 2 e^{−α(r−r₀)}], with minimum −D at r₀.

    Source: P. M. Morse, Phys. Rev. 34, 57 (1929), doi:10.1103/PhysRev.34.57, eq. 4.

    Args:
        depth_eV: D of each pair of elements, e.g. {"Cu-Cu": 0.34}, eV.
        alpha_per_A: inverse width α of each pair, 1/Å.
        distance: r₀ of each pair, Å.
        cutoff: pairs beyond this distance do not interact, Å.
        truncation: how the potential ends at the cutoff: smooth, cut, shift or force_shift.
        switch_from: where the smooth switch begins, Å; 0.8·cutoff if not given.
    """

    references = ("10.1103/PhysRev.34.57",)
    compiled_form = "morse"

    depth: Tensor
    alpha: Tensor
    distance: Tensor

    def __init__(
        self,
        *,
        depth_eV: Mapping[str, float],
        alpha_per_A: Mapping[str, float],
        distance: Mapping[str, float],
        cutoff: float,
        truncation: Truncation = "smooth",
        switch_from: float | None = None,
    ) -> None:
        super().__init__()
        self.set_truncation(cutoff, truncation, switch_from)
        self.elements, tables = pair_tables(
            {"depth_eV": depth_eV, "alpha_per_A": alpha_per_A, "distance": distance}
        )
        self.register_buffer("depth", tables["depth_eV"])
        self.register_buffer("alpha", tables["alpha_per_A"])
        self.register_buffer("distance", tables["distance"])

    def form_parameters(self) -> Float[Tensor, "types types 3"]:
        """D (eV), α (1/Å) and r₀ (Å)."""
        return torch.stack([self.depth, self.alpha, self.distance], -1)

    def pair_energy(
        self, r: Float[Tensor, "*pairs"], ti: Int[Tensor, "*pairs"], tj: Int[Tensor, "*pairs"]
    ) -> Float[Tensor, "*pairs"]:
        x = torch.exp(-self.alpha[ti, tj] * (r - self.distance[ti, tj]))
        return self.depth[ti, tj] * (x * x - 2.0 * x)

    @classmethod
    def examples(cls) -> "list[Morse]":
        """Small instances for the conformance tests."""
        pairs = ("Si-Si", "Si-O", "O-O")
        return [
            cls(
                depth_eV=dict(zip(pairs, (0.3, 0.5, 0.1), strict=True)),
                alpha_per_A=dict(zip(pairs, (1.4, 1.8, 1.6), strict=True)),
                distance=dict(zip(pairs, (2.4, 1.6, 2.0), strict=True)),
                cutoff=5.0,
            )
        ]
