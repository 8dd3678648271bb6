"""MACE: equivariant message passing with many-body messages.

Batatia, Kovács, Simm, Ortner & Csányi, NeurIPS 2022, arXiv:2206.07697; the choices that later models added
are from Batatia et al., arXiv:2401.00096. Equal to mace-torch 0.3 on the same weights (tests/peers/mace).
"""

from collections.abc import Mapping, Sequence
from math import sqrt
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from rikiba.core import elements as periodic_table
from rikiba.core.pairs import Pairs
from rikiba.core.results import Results
from rikiba.core.system import System
from rikiba.kernels.grouping import TypeGroups, group_by_type, segment_sum
from rikiba.nn.atomic_energies import AtomicEnergies
from rikiba.nn.cutoff import agnesi, polynomial
from rikiba.nn.double_buffers import DoubleBuffers
from rikiba.nn.equivariant import Convolution, DegreeLinear, ProductBasis, TypedDegreeLinear
from rikiba.nn.mlp import NormalisedMLP
from rikiba.nn.radial import Bessel
from rikiba.nn.radial_spline import RadialSpline, SplinePoints
from rikiba.nn.repulsion import mace_zbl_pair_energy
from rikiba.nn.so3 import spherical_harmonics

from .base import Potential, Program, check_positive, seeded, tabulated_program


class _Edges(NamedTuple):
    """What every layer reads of the pairs."""

    pairs: Pairs
    radial: Float[Tensor, "pairs n_bessel"]
    envelope: Float[Tensor, "pairs 1"] | None
    """Set where the envelope multiplies the radial network's output instead of its input."""
    spline: RadialSpline | None
    """Set where `radial` and `envelope` are of its samples, not of pairs …"""
    points: SplinePoints | None
    """… which then fall on these."""
    harmonics: Float[Tensor, "pairs lm"]


class MACE(DoubleBuffers, Potential):
    """E_i = E0 + shift + scale·(Σ_t readout_t(h_i^(t)) + ZBL_i), arXiv:2206.07697, eqs. 6–13.

    Each layer t makes one-particle features A = (1/N̄) Σ_j R(r_ij)·[Y(r̂_ij) ⊗ h_j] (eq. 8), their symmetric
    products B = Σ_ν W U^ν A^⊗ν per element (eqs. 10, 11) and h' = linear(B) + self-connection (eq. 12).
    The energy is C3 in every distance at the cutoff: a C2 envelope times Bessel functions that vanish there.

    Args:
        elements: chemical symbols; kept in order of atomic number.
        cutoff: Å.
        channels: number of channels of each degree in the hidden features.
        max_L: highest degree of the features passed between layers, usually 0, 1 or 2.
        l_max: highest degree of the spherical harmonics and of the one-particle features.
        correlation: highest order ν of the products (body order ν + 1), for all layers or a list of one each.
        n_layers: message-passing layers.
        n_bessel: radial basis functions.
        envelope_power: power p of the polynomial envelope.
        radial_widths: hidden widths of the radial network.
        readout_width: hidden width of the last layer's readout.
        activation: silu or tanh, in the readout (the radial network always uses silu).
        avg_num_neighbors: mean number of neighbours, which divides messages; computed from the training data.
        atomic_energies: energy of each isolated atom, eV; zero where not given.
        scale: factor on the interaction energy per atom; the training data's force spread is usual.
        shift: added to each atom's energy, eV.
        zbl: add a short-ranged nuclear repulsion (it is multiplied by `scale` too, as in published models).
        distance_transform: none, or agnesi to feed the radial basis a transformed distance.
        first_residual: give the first layer a self-connection; without, an isolated atom has just E0 + shift.
        density_normalised: divide messages by a learned density + 1 instead of avg_num_neighbors.
        envelope_after_network: multiply the radial network's output by the envelope, not its input.
        last_readout_only: read the energy from the last layer only.
        shared_product: one set of product weights for all elements.
        seed: of the initial weights.

    Raises:
        ValueError: for an unknown element, sizes that are not positive, a correlation list of wrong length.
    """

    scale: Tensor
    shift: Tensor
    _numbers: Tensor
    _radii: Tensor
    references: ClassVar[tuple[str, ...]] = ("10.48550/arXiv.2206.07697",)

    def __init__(
        self,
        *,
        elements: Sequence[str],
        cutoff: float = 5.0,
        channels: int = 128,
        max_L: int = 1,
        l_max: int = 3,
        correlation: int | Sequence[int] = 3,
        n_layers: int = 2,
        n_bessel: int = 8,
        envelope_power: int = 5,
        radial_widths: Sequence[int] = (64, 64, 64),
        readout_width: int = 16,
        activation: Literal["silu", "tanh"] = "silu",
        avg_num_neighbors: float = 1.0,
        atomic_energies: Mapping[str, float] | None = None,
        scale: float = 1.0,
        shift: float = 0.0,
        zbl: bool = False,
        distance_transform: Literal["none", "agnesi"] = "none",
        first_residual: bool = False,
        density_normalised: bool = False,
        envelope_after_network: bool = False,
        last_readout_only: bool = False,
        shared_product: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        check_positive(
            cutoff=cutoff,
            channels=channels,
            n_layers=n_layers,
            n_bessel=n_bessel,
            avg_num_neighbors=avg_num_neighbors,
        )
        orders = [correlation] * n_layers if isinstance(correlation, int) else list(correlation)
        if len(orders) != n_layers or min(orders) < 1:
            raise ValueError(
                f"correlation must be a positive integer or a list of {n_layers}; given {correlation}."
            )
        if min(max_L, l_max) < 0:
            raise ValueError(f"max_L and l_max must be at least 0; given {max_L} and {l_max}.")
        if distance_transform not in ("none", "agnesi"):
            raise ValueError(f"distance_transform is 'none' or 'agnesi'; given '{distance_transform}'.")
        self.elements = periodic_table.sorted_symbols(elements)
        self.cutoff, self.n_layers, self.l_max = cutoff, n_layers, l_max
        self.envelope_power, self.distance_transform, self.zbl = envelope_power, distance_transform, zbl
        self.envelope_after_network, self.last_readout_only = envelope_after_network, last_readout_only
        self.atomic_energies = AtomicEnergies(self.elements, atomic_energies)
        self.register_buffer("scale", torch.tensor(float(scale), dtype=torch.float64))
        self.register_buffer("shift", torch.tensor(float(shift), dtype=torch.float64))
        self._register_elements()
        self.radial_basis = Bessel(n=n_bessel, cutoff=cutoff)
        n_types = len(self.elements)
        with seeded(seed):
            self.embedding = nn.Parameter(torch.randn(n_types, channels))
            self.layers = nn.ModuleList(
                [
                    MACELayer(
                        types=n_types,
                        channels=channels,
                        l_max=l_max,
                        l_in=0 if t == 0 else max_L,
                        l_out=0 if t == n_layers - 1 else max_L,
                        correlation=orders[t],
                        residual=first_residual if t == 0 else True,
                        radial_widths=(n_bessel, *radial_widths),
                        avg_num_neighbors=avg_num_neighbors,
                        density_normalised=density_normalised,
                        product_types=1 if shared_product else n_types,
                    )
                    for t in range(n_layers)
                ]
            )
            # a linear readout of each layer, a perceptron for the last of several
            readout_sizes = [(channels, 1)] * (n_layers - 1) + [(channels, readout_width, 1)]
            if n_layers == 1:
                readout_sizes = [(channels, 1)]
            self.readouts = nn.ModuleList(
                [
                    NormalisedMLP(widths=widths, activation=activation)
                    for widths in (readout_sizes[-1:] if last_readout_only else readout_sizes)
                ]
            )

    def _register_elements(self) -> None:
        numbers = periodic_table.numbers_of(self.elements)
        self.register_buffer("_numbers", numbers, persistent=False)
        self.register_buffer("_radii", periodic_table.covalent_radius(numbers), persistent=False)

    @property
    def receptive_field(self) -> float:
        """Cutoff × layers, Å."""
        return self.cutoff * self.n_layers

    def forward(self, system: System, pairs: Pairs) -> Results:
        """Energies per atom, eV."""
        if pairs.cutoff > self.cutoff:
            pairs, _ = pairs.within(system, self.cutoff)
        types = self.types(system)
        groups = group_by_type(types, len(self.elements))
        vectors = pairs.vectors(system, self.dtype)
        r = torch.linalg.vector_norm(vectors, dim=1)
        edges = self._edges(pairs, types, r, vectors)
        interaction = self._repulsion(pairs, types, r) if self.zbl else r.new_zeros(len(types))
        h = (self.embedding.index_select(0, types) / sqrt(len(self.elements)))[:, None, :]
        readouts = list(self.readouts)
        for t, layer in enumerate(self.layers):
            h = layer(h, edges, groups)
            if not self.last_readout_only or t == self.n_layers - 1:
                interaction = interaction + readouts.pop(0)(h[:, 0]).squeeze(-1)
        scaled = (self.scale * interaction).to(torch.float64) + self.shift.to(torch.float64)
        return Results(energies=self.atomic_energies(types) + scaled)

    def program(self, *, tabulate: bool | None = None, tolerance: float = 1e-5) -> Program | None:
        """A snapshot of this potential as compiled CPU kernels; later changes of the weights do not reach it.

        With `tabulate` radial networks become splines of the distance. Forces in a trial structure must then
        equal those of the networks within `tolerance`, eV/Å, or within twice the rounding of automatic
        differentiation in this precision where that is larger; otherwise ValueError. Without, the result
        equals `forward` to rounding. None: see `tabulated_program`.

        No program (None) for other devices and precisions, or read-out activations other than silu and tanh.
        """
        activations = {m.function for m in self.readouts if len(m.weights) > 1}  # type: ignore[union-attr, arg-type]
        plain = self.embedding.device.type == "cpu" and self.dtype in (torch.float32, torch.float64)
        if not plain or not activations <= {"silu", "tanh"}:
            return None
        from .mace_program import compiled_mace

        def build(tables: bool) -> Program:
            return compiled_mace(self, tabulate=tables, tolerance=tolerance)

        return tabulated_program(build, self.dtype, tabulate)

    @property
    def splines_radial(self) -> bool:
        """Not where distances are typed or messages normalised by density, which is done pair by pair."""
        return self.distance_transform == "none" and not self.arguments.get("density_normalised", False)

    def _edges(self, pairs: Pairs, types: Tensor, r: Tensor, vectors: Tensor) -> _Edges:
        spline, points, at = self.radial_spline, None, r
        if spline is not None:
            points, at = spline.points(r), spline.samples(r.device)
        envelope = polynomial(at / self.cutoff, self.envelope_power)[:, None]
        distance = at
        if self.distance_transform == "agnesi":
            radii = self._radii.to(r)[types]
            distance = agnesi(r, 0.5 * (radii[pairs.i] + radii[pairs.j]))
        radial = self.radial_basis(distance)
        harmonics = spherical_harmonics(vectors / r[:, None], self.l_max)
        if self.envelope_after_network:
            return _Edges(pairs, radial, envelope, spline, points, harmonics)
        return _Edges(pairs, radial * envelope, None, spline, points, harmonics)

    def _repulsion(self, pairs: Pairs, types: Tensor, r: Tensor) -> Float[Tensor, "atoms"]:
        numbers, radii = self._numbers[types], self._radii.to(r)[types]
        i, j = pairs.i, pairs.j
        v = mace_zbl_pair_energy(r, numbers[i], numbers[j], radii[i] + radii[j], power=self.envelope_power)
        return segment_sum(0.5 * v, i, len(types))

    @classmethod
    def examples(cls) -> "list[MACE]":
        """Small instances for the conformance tests."""
        small: dict[str, Any] = {"elements": ("O", "Si"), "cutoff": 3.5, "n_bessel": 4, "readout_width": 4}
        small |= {"radial_widths": (8,), "avg_num_neighbors": 5.0, "atomic_energies": {"O": -2.0, "Si": -3.0}}
        return [
            cls(**small, channels=4, max_L=1, l_max=2, correlation=2),
            cls(**small, channels=2, max_L=0, l_max=1, correlation=3, n_layers=1, zbl=True),
        ]


class MACELayer(nn.Module):
    """One layer: messages A, symmetric products B, update h' = linear(B) + self-connection(h).

    Without a self-connection (`residual` False) the message passes through a linear layer per element, and an
    atom without neighbours gets h' = 0.

    Args:
        types: number of elements.
        channels: channels of all features.
        l_max: highest degree of harmonics and messages.
        l_in: highest degree of h.
        l_out: highest degree of h'.
        correlation: highest order of the products.
        residual: whether h enters h' directly.
        radial_widths: widths of the radial network, input and hidden.
        avg_num_neighbors: divides the messages.
        density_normalised: divide by a learned density + 1 instead.
        product_types: number of sets of product weights: types, or 1 if shared.
    """

    def __init__(
        self,
        *,
        types: int,
        channels: int,
        l_max: int,
        l_in: int,
        l_out: int,
        correlation: int,
        residual: bool,
        radial_widths: Sequence[int],
        avg_num_neighbors: float,
        density_normalised: bool,
        product_types: int,
    ) -> None:
        super().__init__()
        self.up = DegreeLinear(channels_in=channels, channels_out=channels, l_max=l_in)
        self.convolution = Convolution(channels=channels, l_harmonics=l_max, l_features=l_in, l_out=l_max)
        self.radial = NormalisedMLP(widths=(*radial_widths, self.convolution.n_couplings * channels))
        self.density = NormalisedMLP(widths=(radial_widths[0], 1)) if density_normalised else None
        self.avg_num_neighbors = float(avg_num_neighbors)
        l_skip = min(l_in, l_out) if residual else l_max
        self.skip = TypedDegreeLinear(types=types, channels_in=channels, channels_out=channels, l_max=l_skip)
        self.residual = residual
        self.product = ProductBasis(
            types=product_types, channels=channels, l_features=l_max, l_out=l_out, correlation=correlation
        )
        self.linear = DegreeLinear(channels_in=channels, channels_out=channels, l_max=l_out)

    def forward(
        self, h: Float[Tensor, "atoms lm_in channels"], edges: _Edges, groups: TypeGroups
    ) -> Float[Tensor, "atoms lm_out channels"]:
        message = self._message(h, edges)
        if not self.residual:
            return self.linear(self.product(self.skip(message, groups), groups))  # type: ignore[no-any-return]
        updated = self.linear(self.product(message, groups))
        connection = self.skip(h, groups)
        missing = updated.shape[1] - connection.shape[1]
        if missing:
            connection = nn.functional.pad(connection, (0, 0, 0, missing))
        return updated + connection  # type: ignore[no-any-return]

    def _message(self, h: Tensor, edges: _Edges) -> Float[Tensor, "atoms lm channels"]:
        pairs = edges.pairs
        weights = self.radial(edges.radial)
        if edges.envelope is not None:
            weights = weights * edges.envelope
        if edges.spline is not None:
            weights = edges.spline.table(weights, h.dtype)
        features = pairs.sync(self.up(h))
        radial = weights.unflatten(1, (self.convolution.n_couplings, -1))
        message = self.convolution(pairs.i, pairs.j, radial, edges.harmonics, features, edges.points)
        if self.density is None:
            return message / self.avg_num_neighbors  # type: ignore[no-any-return]
        share = torch.tanh(self.density(edges.radial) ** 2)
        if edges.envelope is not None:
            share = share * edges.envelope
        return message / (1.0 + segment_sum(share, pairs.i, h.shape[0]))[:, None]  # type: ignore[no-any-return]
