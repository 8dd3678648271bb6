"""Deep Potential with the smooth embedding of two-body environments (DeepPot-SE, `se_e2_a`)."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

import torch
from jaxtyping import Int
from torch import Tensor

from rikiba.core import elements as periodic_table
from rikiba.core.pairs import Pairs
from rikiba.core.results import Results
from rikiba.core.system import System
from rikiba.descriptors.deeppot import SmoothEnvironment, Switch
from rikiba.kernels.grouping import group_by_type
from rikiba.nn.atomic_energies import AtomicEnergies
from rikiba.nn.residual import ResidualNetworks

from .base import Potential, Program, check_positive, seeded, tabulated_program

Activation = Literal["tanh", "silu", "softplus", "sigmoid"]
_MOST_SPLINED = 4
"""Types up to which a spline for every pair of them is cheaper than the networks at every pair."""


class DeepPotential(Potential):
    """E = Σ_i [E0(Z_i) + shift + scale·(F_{Z_i}(D_i) − F_{Z_i}(D_alone))].

    D_i is the smooth descriptor of atom i (see `rikiba.descriptors.deeppot.SmoothEnvironment`), F a network
    for each element with layers x + dt∘f(Wx + b), D_alone what an atom without neighbours has. Zhang et al.,
    NeurIPS 2018, arXiv:1805.09003; code and defaults: doi:10.1063/5.0155600. The means and deviations of the
    environment are those of the training structures (`prepare`), per central element.

    Departures from the published code: a neighbour's contribution vanishes at the cutoff without reference
    to empty slots, and sums are divided by `avg_num_neighbors` (both theirs with `sel`); subtracting
    F(D_alone) gives an isolated atom exactly E0 + shift (`isolated_limit = false` is theirs).

    Args:
        elements: chemical symbols; kept in order of atomic number.
        cutoff: Å.
        switch_start: distance up to which a neighbour has its full weight 1/r, Å.
        switch: how the weight falls to zero at the cutoff: quintic (C²; the published code's) or cosine (C¹;
            the paper's).
        embedding: widths of the embedding network.
        axis_channels: columns of the second factor of the descriptor.
        fitting: hidden widths of the fitting networks.
        one_side: an embedding network for each neighbour element; otherwise for each pair of elements.
        embedding_timesteps: trained steps in the embedding networks.
        fitting_timesteps: trained steps in the fitting networks.
        activation: of all networks: tanh, silu, softplus or sigmoid.
        avg_num_neighbors: what sums over neighbours are divided by; ignored with `sel`.
        sel: slots for neighbours of each element, for the published code's form: empty slots contribute, and
            sums are divided by their total number.
        atomic_energies: energy of each isolated atom, eV; zero where not given.
        scale: factor on the networks' energy, eV.
        shift: added to each atom's energy, eV.
        isolated_limit: give an isolated atom exactly E0 + shift.
        seed: of the initial weights.

    Raises:
        ValueError: for an unknown element or activation, and for sizes that do not fit.
    """

    references = ("10.48550/arXiv.1805.09003", "10.1063/5.0155600")

    def __init__(
        self,
        *,
        elements: Sequence[str],
        cutoff: float = 6.0,
        switch_start: float = 0.5,
        switch: Switch = "quintic",
        embedding: Sequence[int] = (25, 50, 100),
        axis_channels: int = 16,
        fitting: Sequence[int] = (240, 240, 240),
        one_side: bool = True,
        embedding_timesteps: bool = False,
        fitting_timesteps: bool = True,
        activation: Activation = "tanh",
        avg_num_neighbors: float = 100.0,
        sel: Mapping[str, int] | None = None,
        atomic_energies: Mapping[str, float] | None = None,
        scale: float = 1.0,
        shift: float = 0.0,
        isolated_limit: bool = True,
        seed: int = 0,
    ) -> None:
        super().__init__()
        check_positive(cutoff=cutoff, scale=scale, avg_num_neighbors=avg_num_neighbors)
        if activation not in Activation.__args__:  # type: ignore[attr-defined]
            raise ValueError(f"activation is tanh, silu, softplus or sigmoid; given '{activation}'.")
        self.elements = periodic_table.sorted_symbols(elements)
        self.cutoff, self.scale, self.shift = cutoff, scale, shift
        self.isolated_limit = isolated_limit
        self.atomic_energies = AtomicEnergies(self.elements, atomic_energies)
        slots = None if sel is None else _slots(sel, self.elements)
        n = len(self.elements)
        with seeded(seed):
            self.descriptor = SmoothEnvironment(
                n_types=n,
                cutoff=cutoff,
                switch_start=switch_start,
                switch=switch,
                widths=tuple(embedding),
                axis_channels=axis_channels,
                one_side=one_side,
                timesteps=embedding_timesteps,
                activation=activation,
                n_neighbours=avg_num_neighbors if slots is None else sum(slots),
                slots=slots,
            )
            self.networks = ResidualNetworks(
                n_networks=n,
                widths=(self.descriptor.n_features, *fitting),
                outputs=1,
                timesteps=fitting_timesteps,
                activation=activation,
            )

    @property
    def splines_radial(self) -> bool:
        """True for few elements."""
        return len(self.elements) <= _MOST_SPLINED

    def decayed_parameters(self) -> Iterable[str]:
        """Matrices of all networks."""
        return [n for n, _ in self.named_parameters() if ".weights." in n]

    def prepare(self, structures: Iterable[tuple[System, Pairs]]) -> None:
        """Centre and scale the environments by those of the given structures, per central element.

        Raises ValueError where an element does not occur.
        """

        def environments() -> Iterator[tuple[Tensor, Pairs, Int[Tensor, "atoms"]]]:
            for system, given in structures:
                near, _ = given.within(system, self.cutoff)
                yield near.vectors(system), near, self.types(system)

        with torch.no_grad():
            atoms = self.descriptor.fit(environments())
        missing = [s for s, n in zip(self.elements, atoms, strict=True) if n == 0]
        if missing:
            raise ValueError(f"No training structure contains {', '.join(missing)}.")

    def forward(self, system: System, pairs: Pairs) -> Results:
        """Energies per atom, eV."""
        if pairs.cutoff > self.cutoff:
            pairs, _ = pairs.within(system, self.cutoff)
        types = self.types(system)
        vectors = pairs.vectors(system, self.dtype)
        features = self.descriptor(vectors, pairs, types, self.radial_spline)
        energies = self._fitted(features, types)
        if self.isolated_limit:
            every = torch.arange(len(self.elements), device=types.device)
            energies = energies - self._fitted(self.descriptor.alone(), every)[types]
        return Results(energies=self.atomic_energies(types) + self.shift + self.scale * energies)

    def _fitted(self, features: Tensor, types: Tensor) -> Tensor:
        groups = group_by_type(types, len(self.elements))
        return self.networks(features, groups).squeeze(-1).to(torch.float64)

    def program(self, *, tabulate: bool | None = None, tolerance: float = 1e-5) -> Program | None:
        """A snapshot of this potential as compiled CPU kernels; None elsewhere, and unless tanh or silu.

        With `tabulate` embedding networks are quintic splines of their argument ("compression": Lu et al.,
        doi:10.1021/acs.jctc.2c00102). Forces of trial structures must then equal those of the networks within
        `tolerance`, eV/Å, or, where that is larger, within twice the rounding of automatic differentiation or
        of this program without tables in this precision; raises ValueError otherwise. Without, the result
        equals `forward` to rounding. None: see `tabulated_program`.
        """
        if self.networks.function not in ("tanh", "silu") or self.dtype not in (torch.float32, torch.float64):
            return None
        if self.descriptor.mean.device.type != "cpu":
            return None
        from .deep_potential_program import CompiledDeepPotential

        def build(tables: bool) -> Program:
            return CompiledDeepPotential(self, tabulate=tables, tolerance=tolerance)

        return tabulated_program(build, self.dtype, tabulate)

    @classmethod
    def examples(cls) -> "list[DeepPotential]":
        """Small instances for the conformance tests."""
        small: dict[str, Any] = {
            "elements": ("O", "Si"),
            "cutoff": 4.0,
            "embedding": (4, 8),
            "fitting": (6, 6),
        }
        small |= {"axis_channels": 3, "avg_num_neighbors": 8.0}
        energies = {"O": -2.0, "Si": -3.5}
        plain = cls(**small, atomic_energies=energies, scale=0.8, shift=0.1)
        both = cls(
            **small, one_side=False, embedding_timesteps=True, sel={"O": 4, "Si": 5}, isolated_limit=False
        )
        for potential in (plain, both):
            potential.descriptor.mean.copy_(torch.tensor([0.11, 0.13]))
            potential.descriptor.deviation.copy_(torch.tensor([[0.12, 0.2], [0.15, 0.25]]))
        return [plain, both]


def _slots(sel: Mapping[str, int], elements: Sequence[str]) -> tuple[int, ...]:
    if set(sel) != set(elements):
        raise ValueError(f"sel needs a number for each of {', '.join(elements)}; given {dict(sel)}.")
    return tuple(int(sel[s]) for s in elements)
