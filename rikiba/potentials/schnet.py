"""SchNet: continuous-filter convolutions over distances.

Schütt et al., J. Chem. Phys. 148, 241722 (2018), doi:10.1063/1.5019779; arXiv:1706.08566. Equal to
SchNetPack 2.1.1 on the same weights (tests/peers/schnetpack).
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from rikiba.core import elements as periodic_table
from rikiba.core.pairs import Pairs
from rikiba.core.results import Results
from rikiba.core.system import System
from rikiba.kernels.pair_convolution import ConvolutionPlan, Coupling, plan_convolution
from rikiba.nn.atomic_energies import AtomicEnergies
from rikiba.nn.equivariant import PlanStore
from rikiba.nn.filters import RadialFilters, start_glorot
from rikiba.nn.mlp import MLP
from rikiba.nn.radial_spline import SplinePoints, convolve

from .base import Potential, Program, check_positive, seeded, tabulated_program


class SchNet(Potential):
    """E = Σ_i [E0(Z_i) + shift + scale·(R(x_i) − R(x_alone))], x_i the features after T interactions.

    x⁰_i = embedding of Z_i;  x_i ← x_i + V₂ ssp(V₁ Σ_j (U x_j) ∘ W(r_ij))  (fig. 1)
    W(r) = (A₂ ssp(A₁ e(r) + a₁) + a₂) f_c(r),  ssp(x) = ln(½eˣ + ½);  R a network of `readout_widths`.

    It reads distances only: structures whose cutoff graphs have equal distances get equal energies, even
    where angles differ. Departures from the paper: an envelope f_c ends the filters (there none, with
    Gaussians up to 30 Å), C² by default; subtracting R(x_alone) gives an isolated atom exactly
    E0 + shift; filters end without an activation, as in the authors' code, unless `filter_activation`.

    Args:
        elements: chemical symbols; kept in order of atomic number.
        cutoff: Å.
        channels: length of an atom's feature vector.
        n_filters: length of the filters; `channels` if not given.
        n_layers: interactions T.
        n_radial: radial basis functions.
        radial_basis: gaussian (equally spaced up to the cutoff, the paper's) or bessel.
        gamma: exponent of the Gaussians in Å⁻² (10 in the paper); 1/(2Δ²) from their spacing Δ if not given.
        envelope: polynomial (C²) or cosine (SchNetPack's, C¹).
        envelope_power: power of the polynomial envelope.
        filter_activation: end the filter network with the shifted softplus, as the paper draws it.
        readout_widths: hidden widths of the readout; half the channels if not given.
        readout_activation: shifted_softplus (the paper's) or silu (SchNetPack's default).
        atomic_energies: energy of each isolated atom, eV; zero where not given.
        scale: factor on the network's energy, eV; the training data's force spread is usual.
        shift: added to each atom's energy, eV.
        isolated_limit: give an isolated atom exactly E0 + shift; false is the published form.
        seed: of the initial weights.

    Raises:
        ValueError: for an unknown element or choice, or sizes that are not positive.
    """

    references: ClassVar[tuple[str, ...]] = ("10.1063/1.5019779", "10.48550/arXiv.1706.08566")

    def __init__(
        self,
        *,
        elements: Sequence[str],
        cutoff: float = 5.0,
        channels: int = 128,
        n_filters: int | None = None,
        n_layers: int = 3,
        n_radial: int = 20,
        radial_basis: Literal["gaussian", "bessel"] = "gaussian",
        gamma: float | None = None,
        envelope: Literal["polynomial", "cosine"] = "polynomial",
        envelope_power: int = 6,
        filter_activation: bool = False,
        readout_widths: Sequence[int] | None = None,
        readout_activation: Literal["shifted_softplus", "silu"] = "shifted_softplus",
        atomic_energies: Mapping[str, float] | None = None,
        scale: float = 1.0,
        shift: float = 0.0,
        isolated_limit: bool = True,
        seed: int = 0,
    ) -> None:
        super().__init__()
        n_filters = channels if n_filters is None else n_filters
        check_positive(
            cutoff=cutoff,
            channels=channels,
            n_filters=n_filters,
            n_layers=n_layers,
            n_radial=n_radial,
            scale=scale,
        )
        self.elements = periodic_table.sorted_symbols(elements)
        self.cutoff, self.n_layers = cutoff, n_layers
        self.scale, self.shift, self.isolated_limit = scale, shift, isolated_limit
        self.atomic_energies = AtomicEnergies(self.elements, atomic_energies)
        hidden = (max(1, channels // 2),) if readout_widths is None else tuple(readout_widths)
        with seeded(seed):
            self.embedding = nn.Parameter(torch.randn(len(self.elements), channels))
            self.filters = RadialFilters(
                n_layers=n_layers,
                widths=(n_radial, n_filters, n_filters),
                cutoff=cutoff,
                basis=radial_basis,
                gamma=gamma,
                envelope=envelope,
                envelope_power=envelope_power,
                activation="shifted_softplus",
                output_activation="shifted_softplus" if filter_activation else "identity",
            )
            self.layers = nn.ModuleList(
                [SchNetLayer(channels=channels, n_filters=n_filters) for _ in range(n_layers)]
            )
            self.readout = MLP(widths=(channels, *hidden, 1), activation=readout_activation)
            start_glorot(self)
        self._plan = PlanStore(_scalar_plan())

    @property
    def receptive_field(self) -> float:
        """Cutoff × layers, Å."""
        return self.cutoff * self.n_layers

    @property
    def splines_radial(self) -> bool:
        """True."""
        return True

    def decayed_parameters(self) -> Iterable[str]:
        """Matrices of all networks; not the embedding, not biases."""
        return [n for n, _ in self.named_parameters() if ".weight" in n]

    def forward(self, system: System, pairs: Pairs) -> Results:
        """Energies per atom, eV."""
        if pairs.cutoff > self.cutoff:
            pairs, _ = pairs.within(system, self.cutoff)
        types = self.types(system)
        r = torch.linalg.vector_norm(pairs.vectors(system, self.dtype), dim=1)
        filters, points = self.filters.at(r, self.radial_spline)
        plan, ones = self._plan.like(filters), r.new_ones((len(pairs), 1))
        x = (
            with_isolated(self.embedding, types)
            if self.isolated_limit
            else self.embedding.index_select(0, types)
        )
        for layer, w in zip(self.layers, filters, strict=True):
            x = layer(x, pairs, w, points, ones, plan)
        energies = self.readout(x).squeeze(-1).to(torch.float64)
        if self.isolated_limit:
            energies = above_isolated(energies, types)
        return Results(energies=self.atomic_energies(types) + self.shift + self.scale * energies)

    def program(self, *, tabulate: bool | None = None, tolerance: float = 1e-5) -> Program | None:
        """A snapshot of this potential as compiled CPU kernels; None on other devices and precisions.

        With `tabulate` filters are quintic splines of the distance. Forces of trial structures must then
        equal those of the networks within `tolerance`, eV/Å, or within twice the rounding of automatic
        differentiation in this precision where that is larger; raises ValueError otherwise. Without, the
        result equals `forward` to rounding. None: see `tabulated_program`.
        """
        if self.embedding.device.type != "cpu" or self.dtype not in (torch.float32, torch.float64):
            return None
        from .schnet_program import CompiledSchNet

        def build(tables: bool) -> Program:
            return CompiledSchNet(self, tabulate=tables, tolerance=tolerance)

        return tabulated_program(build, self.dtype, tabulate)

    @classmethod
    def examples(cls) -> "list[SchNet]":
        """Small instances for the conformance tests."""
        small: dict[str, Any] = {
            "elements": ("O", "Si"),
            "cutoff": 4.0,
            "channels": 8,
            "n_layers": 2,
            "n_radial": 8,
        }
        energies = {"O": -2.0, "Si": -3.5}
        return [
            cls(**small, atomic_energies=energies, scale=0.8, shift=0.1),
            cls(
                **small,
                radial_basis="bessel",
                n_filters=12,
                filter_activation=True,
                readout_activation="silu",
            ),
        ]


class SchNetLayer(nn.Module):
    """One interaction: x_i ← x_i + V₂ ssp(V₁ Σ_j (U x_j) ∘ W_ij), doi:10.1063/1.5019779, fig. 1.

    Args:
        channels: length of x.
        n_filters: length of W.
    """

    def __init__(self, *, channels: int, n_filters: int) -> None:
        super().__init__()
        self.inward = nn.Linear(channels, n_filters, bias=False)
        self.outward = MLP(widths=(n_filters, channels, channels), activation="shifted_softplus")

    def forward(
        self,
        x: Float[Tensor, "rows channels"],
        pairs: Pairs,
        filters: Float[Tensor, "rows n_filters"],
        points: SplinePoints | None,
        ones: Float[Tensor, "pairs 1"],
        plan: ConvolutionPlan,
    ) -> Float[Tensor, "rows channels"]:
        """x may have more rows than there are atoms: those have no neighbours.

        With `points` the rows of `filters` are a spline's coefficients, not pairs.
        """
        senders = pairs.sync(self.inward(x[: pairs.n_atoms]))
        message = convolve(
            plan, pairs.i, pairs.j, filters[:, None], points, ones, senders[:, None], x.shape[0]
        )
        return x + self.outward(message[:, 0])  # type: ignore[no-any-return]


def _scalar_plan() -> ConvolutionPlan:
    """Scalars to scalars: A_i = Σ_j W_ij ∘ h_j."""
    one = torch.ones(1, 1, 1, dtype=torch.float64)
    return plan_convolution([Coupling(0, 0, 0, one)], n_harmonics=1, n_features=1)


def with_isolated(
    embedding: Float[Tensor, "types channels"], types: Tensor
) -> Float[Tensor, "atoms_plus_types channels"]:
    """First features of the atoms and, after them, of one atom of each element that will meet no other."""
    return torch.cat([embedding.index_select(0, types), embedding])


def above_isolated(energies: Float[Tensor, "atoms_plus_types"], types: Tensor) -> Float[Tensor, "atoms"]:
    """Energy of each atom above that of its element's isolated atom."""
    n = types.shape[0]
    return energies[:n] - energies[n:].index_select(0, types)
