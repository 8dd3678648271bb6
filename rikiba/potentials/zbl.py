"""Universal screened nuclear repulsion."""

from collections.abc import Sequence

from jaxtyping import Float, Int
from torch import Tensor

from rikiba.core import elements as periodic_table
from rikiba.nn.repulsion import zbl_pair_energy

from .pair import PairPotential


class Zbl(PairPotential):
    """v(r) = Z_i Z_j e²/(4πε₀ r) φ(r/a), switched off smoothly between `switch_from` and `cutoff`.

    Source: Ziegler, Biersack & Littmark, The Stopping and Range of Ions in Solids (Pergamon, 1985). Add it
    to a learned potential (kind = "sum") so that atoms cannot fuse where there are no data.

    Args:
        elements: chemical symbols it answers for.
        cutoff: the repulsion is exactly zero from here on, Å.
        switch_from: where the quintic switch begins, Å; 0.5·cutoff if not given.
    """

    Z: Tensor

    def __init__(
        self, *, elements: Sequence[str], cutoff: float = 2.0, switch_from: float | None = None
    ) -> None:
        super().__init__()
        self.set_truncation(cutoff, "smooth", 0.5 * cutoff if switch_from is None else switch_from)
        self.elements = periodic_table.sorted_symbols(elements)
        self.register_buffer("Z", periodic_table.numbers_of(self.elements))

    def pair_energy(
        self, r: Float[Tensor, "*pairs"], ti: Int[Tensor, "*pairs"], tj: Int[Tensor, "*pairs"]
    ) -> Float[Tensor, "*pairs"]:
        return zbl_pair_energy(r, self.Z[ti], self.Z[tj])

    @classmethod
    def examples(cls) -> "list[Zbl]":
        """Small instances for the conformance tests."""
        return [cls(elements=("O", "Si"), cutoff=3.0)]
