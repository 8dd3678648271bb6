"""Universal screened nuclear repulsion."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from rikiba.core import elements as periodic_table
from rikiba.core import units
from rikiba.nn.repulsion import zbl_pair_energy

from .base import check_positive
from .pair import PairPotential, quintic_switch


class Zbl(PairPotential):
    """v(r) = Z_i Z_j e²/(4πε₀ r) φ(r/a), switched off smoothly between `switch_from` and `cutoff`.

    Source: Ziegler, Biersack & Littmark, The Stopping and Range of Ions in Solids (Pergamon, 1985). Add it
    to a learned potential (kind = "sum") so that atoms cannot fuse where there are no data.

    Args:
        elements: chemical symbols it answers for.
        cutoff: the repulsion is exactly zero from here on, Å.
        switch_from: where the quintic switch begins, Å; 0.5·cutoff if not given.
        covalent_fraction: if given, a pair's repulsion ends at this fraction of the sum of its covalent
            radii (where that is shorter than `cutoff`) and the switch begins at half of that; 0.9 stays
            below every bond.
    """

    compiled_form = "zbl"

    reach: Tensor

    Z: Tensor

    def __init__(
        self,
        *,
        elements: Sequence[str],
        cutoff: float = 2.0,
        switch_from: float | None = None,
        covalent_fraction: float | None = None,
    ) -> None:
        super().__init__()
        self.set_truncation(cutoff, "smooth", 0.5 * cutoff if switch_from is None else switch_from)
        self.elements = periodic_table.sorted_symbols(elements)
        numbers = periodic_table.numbers_of(self.elements)
        self.register_buffer("Z", numbers)
        n = len(numbers)
        self.register_buffer("reach", torch.full((n, n), float(cutoff), dtype=torch.float64))
        self.covalent_fraction = covalent_fraction
        if covalent_fraction is not None:
            check_positive(covalent_fraction=covalent_fraction)
            if switch_from is not None:
                raise ValueError("Give switch_from or covalent_fraction, not both.")
            radii = periodic_table.covalent_radius(numbers)
            sums = covalent_fraction * (radii[:, None] + radii[None, :])
            self.reach = sums.clamp(max=cutoff)

    def form_parameters(self) -> Float[Tensor, "types types 2"]:
        """Z_i Z_j e²/(4πε₀) (eV·Å) and 1/a (1/Å)."""
        z = self.Z.double()
        charge = units.coulomb_constant * z[:, None] * z[None, :]
        inverse = (z[:, None] ** 0.23 + z[None, :] ** 0.23) / (0.8854 * units.bohr)
        return torch.stack([charge, inverse], -1)

    def switch_ends(self) -> tuple[Float[Tensor, "types types"], Float[Tensor, "types types"]]:
        """Where the smooth switch begins and ends for each pair of types, Å."""
        if self.covalent_fraction is None:
            return super().switch_ends()
        return 0.5 * self.reach.double(), self.reach.double()

    def pair_energy(
        self, r: Float[Tensor, "*pairs"], ti: Int[Tensor, "*pairs"], tj: Int[Tensor, "*pairs"]
    ) -> Float[Tensor, "*pairs"]:
        return zbl_pair_energy(r, self.Z[ti], self.Z[tj])

    def truncated(
        self, r: Float[Tensor, "*pairs"], ti: Int[Tensor, "*pairs"], tj: Int[Tensor, "*pairs"]
    ) -> Float[Tensor, "*pairs"]:
        if self.covalent_fraction is None:
            return super().truncated(r, ti, tj)
        # the switch depends on r/reach only, so that each pair of elements has its own end
        return self.pair_energy(r, ti, tj) * quintic_switch(r / self.reach[ti, tj].to(r.dtype), 0.5, 1.0)

    @classmethod
    def examples(cls) -> "list[Zbl]":
        """Small instances for the conformance tests."""
        return [cls(elements=("O", "Si"), cutoff=3.0), cls(elements=("O", "Si"), covalent_fraction=1.0)]
