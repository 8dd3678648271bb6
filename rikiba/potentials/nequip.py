"""NequIP: equivariant message passing with gates.

Batzner, Musaelian, Sun, Geiger, Mailoa, Kornbluth, Molinari, Smidt & Kozinsky, Nat. Commun. 13, 2453 (2022),
doi:10.1038/s41467-022-29939-5. Equal to the nequip package 0.19 on the same weights (tests/peers/nequip);
options give the paper's form and that of SevenNet (Park, Kim, Hwang & Han, doi:10.1021/acs.jctc.4c00190).
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from rikiba.core import elements as periodic_table
from rikiba.core.pairs import Pairs
from rikiba.core.results import Results
from rikiba.core.system import System
from rikiba.kernels.grouping import TypeGroups, group_by_type
from rikiba.nn.atomic_energies import AtomicEnergies, by_element
from rikiba.nn.cutoff import polynomial, xplor
from rikiba.nn.double_buffers import DoubleBuffers
from rikiba.nn.irrep_layers import (
    Features,
    IrrepConvolution,
    IrrepLinear,
    SelfConnection,
    harmonics_of,
    useful_irreps,
)
from rikiba.nn.irreps import Irrep, Irreps
from rikiba.nn.mlp import NormalisedMLP, activation, unit_variance_factor
from rikiba.nn.radial import Bessel
from rikiba.nn.radial_spline import RadialSpline, SplinePoints
from rikiba.nn.repulsion import lammps_zbl_by_atom
from rikiba.nn.so3 import spherical_harmonics

from .base import Potential, Program, check_positive, seeded, tabulated_program

SelfConnectionKind = Literal["embedding", "types", "linear", "none"]
Parity = Literal["natural", "both", "ignored"]


class _Edges(NamedTuple):
    """What every layer reads of the pairs."""

    pairs: Pairs
    radial: Float[Tensor, "rows n_bessel"]
    """Of every pair, or of the samples of a spline …"""
    spline: RadialSpline | None
    points: SplinePoints | None
    """… on which pairs then fall."""
    harmonics: Float[Tensor, "pairs lm"]


class _Atoms(NamedTuple):
    """What every layer reads of the atoms."""

    groups: TypeGroups
    embedding: Float[Tensor, "types n_e"]
    normalisation: Float[Tensor, "atoms 1 1"] | None
    """1/√N̄ of each atom's type, where it depends on the type."""


class NequIP(DoubleBuffers, Potential):
    """E_i = E0 + shift + scale·readout(h_i) + ZBL_i; layers h' = gate(W Σ_j R(r_ij)·[Y(r̂_ij) ⊗ h_j] + S h).

    Nat. Commun. 13, 2453 (2022), eqs. 2–8. Hidden features have `channels` of each degree l ≤ max_L.
    Messages are divided by √N̄. The radial networks R have no bias and take Bessel functions times an
    envelope, so with the polynomial envelope (C2) and fixed frequencies the energy is C3 in every distance at
    the cutoff; with trained frequencies or xplor (C1) it is C2.

    With parity 'ignored' (SevenNet's choice) all couplings are allowed as if everything were even: the energy
    is then invariant under rotations only and may differ between mirror images. Features that cannot
    influence the energy are left out: up to 3 layers, 'both' is the same as 'natural'. An atom without
    neighbours has just E0 + shift unless `first_self_connection` is set.

    Args:
        elements: chemical symbols; kept in order of atomic number.
        cutoff: Å.
        channels: of the hidden features of each degree, or a list of one number for each degree 0 … max_L.
        l_max: highest degree of the spherical harmonics.
        max_L: highest degree of the hidden features; that of the harmonics if not given.
        parity: of the hidden features under inversion: natural, (−1)^l; both; or ignored.
        n_layers: message-passing layers.
        embedding_channels: length of the vector that stands for an element; channels of l = 0 if not given.
        n_bessel: radial basis functions.
        bessel_trainable: learn their frequencies (the energy is then C2 at the cutoff).
        envelope: polynomial (C2) or xplor (C1).
        envelope_power: power p of the polynomial envelope.
        xplor_start: where the xplor envelope begins to fall, Å; needed with it only.
        solid_harmonics: leave the factor r^l in the harmonics (SevenNet-0 of May 2024).
        radial_widths: hidden widths of the radial networks.
        activation: silu or tanh, of even scalars (odd scalars: always tanh; radial networks: always silu).
        gate_activation: silu, tanh or sigmoid, of the scalars that multiply features of l > 0.
        readout_widths: hidden widths of the readout; none makes it linear.
        readout_activation: silu, gelu, mish, tanh or identity, in the readout's hidden layers.
        self_connection: embedding (weights mixed by the element's vector), types (weights for each element,
            as in the paper), linear (one set for all) or none.
        first_self_connection: give the first layer one too, as the paper does.
        scalar_biases: add trained constants to the scalars before and after the sum over neighbours, as
            SevenNet's models of several data sets do; an isolated atom then has more than E0 + shift.
        avg_num_neighbors: mean number of neighbours, or one for each element (of the neighbour); computed
            from the training data.
        atomic_energies: energy of each isolated atom, eV; zero where not given.
        scale: factor on the interaction energy per atom, one number or one for each element.
        shift: added to each atom's energy, eV, one number or one for each element.
        zbl: add a screened nuclear repulsion, not scaled, brought to zero at the cutoff by the polynomial
            envelope.
        seed: of the initial weights.

    Raises:
        ValueError: for an unknown element or name, sizes that are not positive, lists of wrong length.
    """

    scale: Tensor
    _normalisation: Tensor
    _numbers: Tensor
    references: ClassVar[tuple[str, ...]] = ("10.1038/s41467-022-29939-5",)

    def __init__(
        self,
        *,
        elements: Sequence[str],
        cutoff: float = 5.0,
        channels: int | Sequence[int] = 32,
        l_max: int = 1,
        max_L: int | None = None,
        parity: Parity = "natural",
        n_layers: int = 4,
        embedding_channels: int | None = None,
        n_bessel: int = 8,
        bessel_trainable: bool = False,
        envelope: Literal["polynomial", "xplor"] = "polynomial",
        envelope_power: int = 6,
        xplor_start: float | None = None,
        solid_harmonics: bool = False,
        radial_widths: Sequence[int] = (128,),
        activation: Literal["silu", "tanh"] = "silu",
        gate_activation: Literal["silu", "tanh", "sigmoid"] = "silu",
        readout_widths: Sequence[int] = (),
        readout_activation: Literal["silu", "gelu", "mish", "tanh", "identity"] = "silu",
        self_connection: SelfConnectionKind = "embedding",
        first_self_connection: bool = False,
        scalar_biases: bool = False,
        avg_num_neighbors: float | Mapping[str, float] = 1.0,
        atomic_energies: Mapping[str, float] | None = None,
        scale: float | Mapping[str, float] = 1.0,
        shift: float | Mapping[str, float] = 0.0,
        zbl: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        check_positive(cutoff=cutoff, n_layers=n_layers, n_bessel=n_bessel)
        self.elements = periodic_table.sorted_symbols(elements)
        self.cutoff, self.n_layers, self.l_max, self.zbl = cutoff, n_layers, l_max, zbl
        self.envelope, self.envelope_power, self.xplor_start = envelope, envelope_power, xplor_start
        self.solid_harmonics = solid_harmonics
        self._check_envelope()
        widths = _channels(channels, l_max, l_max if max_L is None else max_L)
        n_types = len(self.elements)
        n_embedding = widths[0] if embedding_channels is None else embedding_channels
        check_positive(embedding_channels=n_embedding)
        self.atomic_energies = AtomicEnergies(self.elements, atomic_energies)
        self.shift = AtomicEnergies(self.elements, by_element(shift, self.elements))
        self._register_values(scale, avg_num_neighbors)
        self.radial_basis = Bessel(n=n_bessel, cutoff=cutoff, trainable=bessel_trainable, normalised=False)
        harmonics = harmonics_of(l_max, inversion=parity != "ignored")
        self.hidden = useful_irreps(
            _hidden_irreps(widths, parity, n_layers), first=_scalars(n_embedding), harmonics=harmonics
        )
        """Features before each layer and after the last, without those that cannot influence the energy."""
        kinds: list[SelfConnectionKind] = [self_connection] * n_layers
        if not first_self_connection:
            kinds[0] = "none"
        with seeded(seed):
            self.embedding = nn.Parameter(torch.randn(n_types, n_embedding))
            self.layers = nn.ModuleList(
                [
                    NequIPLayer(
                        irreps_in=self.hidden[t],
                        irreps_out=self.hidden[t + 1],
                        harmonics=harmonics,
                        radial_widths=(n_bessel, *radial_widths),
                        activation=activation,
                        gate_activation=gate_activation,
                        self_connection=kinds[t],
                        types=n_types,
                        embedding=n_embedding,
                        scalar_biases=scalar_biases,
                        factor=1.0 if self._normalisation.numel() > 1 else float(self._normalisation),
                    )
                    for t in range(n_layers)
                ]
            )
            self.readout = NormalisedMLP(
                widths=(widths[0], *readout_widths, 1), activation=readout_activation
            )

    def _check_envelope(self) -> None:
        if self.envelope not in ("polynomial", "xplor"):
            raise ValueError(f"envelope is 'polynomial' or 'xplor'; given '{self.envelope}'.")
        start = self.xplor_start
        if (self.envelope == "xplor") != (start is not None):
            raise ValueError("xplor_start goes with envelope = 'xplor': give both or neither.")
        if start is not None and not 0.0 <= start < self.cutoff:
            raise ValueError(f"xplor_start must lie between 0 and the cutoff {self.cutoff}; given {start}.")

    def _register_values(
        self, scale: float | Mapping[str, float], avg_num_neighbors: float | Mapping[str, float]
    ) -> None:
        scales = by_element(scale, self.elements)
        values = torch.tensor([scales[s] for s in self.elements], dtype=torch.float64)
        self.register_buffer("scale", values)
        counts = [avg_num_neighbors]
        if isinstance(avg_num_neighbors, Mapping):
            found = by_element(avg_num_neighbors, self.elements)
            counts = [found[s] for s in self.elements]
        for n in counts:
            check_positive(avg_num_neighbors=n)  # type: ignore[arg-type]
        roots = torch.tensor(counts, dtype=torch.float64).rsqrt()
        self.register_buffer("_normalisation", roots, persistent=False)
        numbers = periodic_table.numbers_of(self.elements)
        self.register_buffer("_numbers", numbers, persistent=False)

    @property
    def receptive_field(self) -> float:
        """Cutoff × layers, Å."""
        return self.cutoff * self.n_layers

    def forward(self, system: System, pairs: Pairs) -> Results:
        """Energies per atom, eV."""
        if pairs.cutoff > self.cutoff:
            pairs, _ = pairs.within(system, self.cutoff)
        types = self.types(system)
        vectors = pairs.vectors(system, self.dtype)
        r = torch.linalg.vector_norm(vectors, dim=1)
        edges = self._edges(pairs, r, vectors)
        normalisation = None
        if self._normalisation.numel() > 1:
            normalisation = self._normalisation.to(r)[types][:, None, None]
        atoms = _Atoms(group_by_type(types, len(self.elements)), self.embedding, normalisation)
        h: Features = [self.embedding.index_select(0, types)[:, None, :]]
        for layer in self.layers:
            h = layer(h, edges, atoms)
        interaction = self.readout(h[0][:, 0]).squeeze(-1).to(torch.float64)
        energies = self.atomic_energies(types) + self.shift(types) + self.scale.double()[types] * interaction
        if self.zbl:
            envelope = polynomial(r / self.cutoff, self.envelope_power)
            repulsion = lammps_zbl_by_atom(r, pairs.i, pairs.j, self._numbers[types], envelope)
            energies = energies + repulsion.to(torch.float64)
        return Results(energies=energies)

    def program(self, *, tabulate: bool | None = None, tolerance: float = 1e-5) -> Program | None:
        """A snapshot of this potential as compiled CPU kernels; later changes of the weights do not reach it.

        With `tabulate` radial networks become splines of the distance. Forces in a trial structure must then
        equal those of the networks within `tolerance`, eV/Å, or within twice the rounding of automatic
        differentiation in this precision where that is larger; otherwise ValueError. Without, the result
        equals `forward` to rounding. None: see `tabulated_program`.

        No program (None) for other devices and precisions.
        """
        if self.embedding.device.type != "cpu" or self.dtype not in (torch.float32, torch.float64):
            return None
        from .nequip_program import compiled_nequip

        def build(tables: bool) -> Program:
            return compiled_nequip(self, tabulate=tables, tolerance=tolerance)

        return tabulated_program(build, self.dtype, tabulate)

    @property
    def splines_radial(self) -> bool:
        """Not with the xplor envelope, whose second derivative jumps."""
        return self.envelope == "polynomial"

    def _edges(self, pairs: Pairs, r: Tensor, vectors: Tensor) -> _Edges:
        spline, points, at = self.radial_spline, None, r
        if spline is not None:
            points, at = spline.points(r), spline.samples(r.device)
        x = at / self.cutoff
        if self.xplor_start is None:
            envelope = polynomial(x, self.envelope_power)
        else:
            envelope = xplor(x, self.xplor_start / self.cutoff)
        # the paper's prefactor is √(2/r_c); its code has 2/r_c
        radial = self.radial_basis(at) * ((2.0 / self.cutoff) * envelope)[:, None]
        directions = vectors if self.solid_harmonics else vectors / r[:, None]
        return _Edges(pairs, radial, spline, points, spherical_harmonics(directions, self.l_max))

    @classmethod
    def examples(cls) -> "list[NequIP]":
        """Small instances for the conformance tests."""
        small: dict[str, Any] = {"elements": ("O", "Si"), "cutoff": 3.5, "n_bessel": 4, "radial_widths": (8,)}
        small |= {"avg_num_neighbors": 5.0, "atomic_energies": {"O": -2.0, "Si": -3.0}, "scale": 0.8}
        return [
            cls(**small, channels=(4, 3, 2), l_max=2, n_layers=2),
            cls(**small, channels=3, l_max=1, n_layers=4, parity="both", zbl=True, self_connection="types"),
        ]


class NequIPLayer(nn.Module):
    """One layer: h' = gate(W₂ Σ_j R(r_ij)·[Y(r̂_ij) ⊗ W₁h_j]/√N̄ + S h).

    Args:
        irreps_in: representations of h.
        irreps_out: those of h'; the first is 0e.
        harmonics: representations of the harmonics of degree 0, 1, 2 …
        radial_widths: widths of the radial network, input and hidden.
        activation: of even scalars.
        gate_activation: of the gates.
        self_connection: kind of S.
        types: number of elements.
        embedding: length of the elements' vectors.
        scalar_biases: whether constants are added to the scalars.
        factor: 1/√N̄, or 1 where it depends on the type.
    """

    def __init__(
        self,
        *,
        irreps_in: Irreps,
        irreps_out: Irreps,
        harmonics: Sequence[Irrep],
        radial_widths: Sequence[int],
        activation: str,
        gate_activation: str,
        self_connection: SelfConnectionKind,
        types: int,
        embedding: int,
        scalar_biases: bool,
        factor: float,
    ) -> None:
        super().__init__()
        self.irreps_out, self.factor = irreps_out, factor
        self.activation, self.gate_activation = activation, gate_activation
        for name in (activation, gate_activation):
            unit_variance_factor(name)  # raises for an unknown one
        self.n_scalars = irreps_out.terms[0][0]
        self.n_gates = [n for n, ir in irreps_out.terms if ir.l > 0]
        ungated = Irreps(((self.n_scalars + sum(self.n_gates), Irrep(0, 1)), *irreps_out.terms[1:]))
        self.up = IrrepLinear(irreps_in=irreps_in, irreps_out=irreps_in)
        self.convolution = IrrepConvolution(irreps_in=irreps_in, irreps_out=ungated, harmonics=harmonics)
        self.radial = NormalisedMLP(widths=(*radial_widths, self.convolution.n_weights))
        if self_connection not in ("embedding", "types", "linear", "none"):
            raise ValueError(
                f"self_connection is 'embedding', 'types', 'linear' or 'none'; given '{self_connection}'."
            )
        self.bias_in = self.bias_out = None
        if scalar_biases:
            self.bias_in = nn.Parameter(torch.zeros(irreps_in.terms[0][0]))
            self.bias_out = nn.Parameter(torch.zeros(ungated.terms[0][0]))
        self.skip: SelfConnection | None = None
        if self_connection != "none":
            self.skip = SelfConnection(
                irreps_in=irreps_in,
                irreps_out=ungated,
                kind=self_connection,
                types=types,
                embedding=embedding,
            )

    def forward(self, h: Features, edges: _Edges, atoms: _Atoms) -> Features:
        features = list(self.up(h, self.factor).values())
        if self.bias_in is not None:
            features[0] = features[0] + self.factor * self.bias_in
        if atoms.normalisation is not None:
            features = [f * atoms.normalisation for f in features]
        pairs = edges.pairs
        joined = [pairs.sync(f) for f in self.convolution.join(features)]
        radial = self.radial(edges.radial)
        if edges.spline is not None:
            radial = edges.spline.table(radial, features[0].dtype)
        message = self.convolution(pairs.i, pairs.j, radial, edges.harmonics, joined, edges.points)
        if self.bias_out is not None:
            message[0] = message[0] + self.bias_out
        if self.skip is not None:
            for k, connection in self.skip(h, atoms.groups, atoms.embedding).items():
                message[k] = message[k] + connection
        return self._gated(message)

    def _gated(self, ungated: Features) -> Features:
        """Scalars through the activation, every channel of l > 0 times a gate of its own."""
        scalars, *gates = ungated[0].split([self.n_scalars, *self.n_gates], 2)
        out = [_normalised(self.activation, scalars)]
        for (_, ir), x in zip(self.irreps_out.terms[1:], ungated[1:], strict=True):
            if ir.l == 0:
                out.append(_normalised("tanh", x))
            else:
                out.append(x * _normalised(self.gate_activation, gates.pop(0)))
        return out


def _normalised(name: str, x: Tensor) -> Tensor:
    """The activation with unit second moment for normal input."""
    return activation(name)(x) * unit_variance_factor(name)


def _scalars(n: int) -> Irreps:
    return Irreps(((n, Irrep(0, 1)),))


def _channels(channels: int | Sequence[int], l_max: int, max_L: int) -> list[int]:
    if min(l_max, max_L) < 0:
        raise ValueError(f"l_max and max_L must be at least 0; given {l_max} and {max_L}.")
    widths = [channels] * (max_L + 1) if isinstance(channels, int) else list(channels)
    if len(widths) != max_L + 1 or min(widths) < 1:
        raise ValueError(
            f"channels must be a positive integer or a list of one for each degree 0 … {max_L}; "
            f"given {channels}."
        )
    return widths


def _hidden_irreps(channels: Sequence[int], parity: Parity, n_layers: int) -> list[Irreps]:
    """All that each layer may put out: scalars alone from the last."""
    if parity not in ("natural", "both", "ignored"):
        raise ValueError(f"parity is 'natural', 'both' or 'ignored'; given {parity!r}.")
    terms = []
    for l, n in enumerate(channels):
        natural = 1 if parity == "ignored" else (-1) ** l
        terms += [(n, Irrep(l, p)) for p in ((natural, -natural) if parity == "both" else (natural,))]
    return [Irreps(tuple(terms))] * (n_layers - 1) + [_scalars(channels[0])]
