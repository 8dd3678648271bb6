"""TensorNet: Cartesian tensors of rank two on every atom, and their matrix products.

Simeon & De Fabritiis, NeurIPS 2023, arXiv:2306.06482. Equal to matgl 4.1.2 on the same weights, those of
TensorNet-MatPES-PBE among them (tests/peers/matgl).
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from rikiba.core import elements as periodic_table
from rikiba.core.pairs import Pairs
from rikiba.core.results import Results
from rikiba.core.system import System
from rikiba.kernels.pair_convolution import ConvolutionPlan, Coupling, pair_convolution, plan_convolution
from rikiba.nn.atomic_energies import AtomicEnergies
from rikiba.nn.cartesian import CartesianTensors, matrix_product, squared_norm, squared_norms
from rikiba.nn.equivariant import DegreeLinear, PlanStore
from rikiba.nn.filters import RadialFilters, start_glorot
from rikiba.nn.gated_mlp import GatedMLP
from rikiba.nn.mlp import MLP
from rikiba.nn.so3 import degrees

from .base import Potential, Program, check_positive, seeded, tabulated_program


class _Edges(NamedTuple):
    """What every layer reads of the pairs."""

    pairs: Pairs
    ones: Float[Tensor, "pairs 1"]
    plan: ConvolutionPlan


class TensorNet(Potential):
    """E = Σ_i [E0(Z_i) + shift + scale·(R(X_i) − R(0))], X_i = I_i + A_i + S_i matrices after T layers.

    Embedding: X_i = Σ_j Z_ij ∘ (f_I 1 + f_A [r̂_ij]_× + f_S (r̂_ij r̂_ijᵀ − ⅓)), Z_ij = W (z_i, z_j) + b,
    f = (W e(r) + b) f_c(r); its parts are mixed over channels and weighted by a network of LN(‖X‖²).
    Layer: X ← X/(‖X‖² + 1); Y its parts, mixed; M_i = Σ_j (f_I I_j + f_A A_j + f_S S_j) of Y with
    f = silu(N(e(r))) f_c(r); the parts of P = YM + MY (of 2YM for SO(3)), over ‖P‖² + 1 and mixed, make
    ΔX; X ← X + ΔX + ΔX². Readout R of LN(‖I‖², ‖A‖², ‖S‖²).

    The squares in the norms are those of the authors' code; the text writes ‖X‖. Departures from the paper:
    the envelope is C² by default, and the radial functions are those of `nn.radial.ExpNormal`; subtracting
    R(0) gives an isolated atom E0 + shift.

    Args:
        elements: chemical symbols; kept in order of atomic number.
        cutoff: Å.
        channels: number of matrices on each atom.
        n_layers: layers T; 0 leaves the embedding alone.
        n_radial: radial basis functions.
        radial_basis: exp_normal (the paper's), smooth_bessel (matgl's), bessel or gaussian.
        envelope: polynomial (C²) or cosine (the paper's, C¹).
        envelope_power: power of the polynomial envelope.
        group: O(3) for energies that mirror images share; SO(3) tells them apart.
        readout: mlp (the authors': silu of a linear layer, then half the channels, then the energy) or gated
            (matgl's: a linear layer, then a gated network of three hidden layers).
        atomic_energies: energy of each isolated atom, eV; zero where not given.
        scale: factor on the network's energy, eV; the training data's force spread is usual.
        shift: added to each atom's energy, eV.
        isolated_limit: give an isolated atom exactly E0 + shift; false is the published form.
        seed: of the initial weights.

    Raises:
        ValueError: for an unknown element or choice, or sizes that are not positive.
    """

    references: ClassVar[tuple[str, ...]] = ("10.48550/arXiv.2306.06482",)

    def __init__(
        self,
        *,
        elements: Sequence[str],
        cutoff: float = 5.0,
        channels: int = 128,
        n_layers: int = 2,
        n_radial: int = 32,
        radial_basis: Literal["exp_normal", "smooth_bessel", "bessel", "gaussian"] = "exp_normal",
        envelope: Literal["polynomial", "cosine"] = "polynomial",
        envelope_power: int = 6,
        group: Literal["O(3)", "SO(3)"] = "O(3)",
        readout: Literal["mlp", "gated"] = "mlp",
        atomic_energies: Mapping[str, float] | None = None,
        scale: float = 1.0,
        shift: float = 0.0,
        isolated_limit: bool = True,
        seed: int = 0,
    ) -> None:
        super().__init__()
        check_positive(cutoff=cutoff, channels=channels, n_radial=n_radial, scale=scale)
        if n_layers < 0:
            raise ValueError(f"n_layers must be 0 or more; given {n_layers}.")
        if group not in ("O(3)", "SO(3)") or readout not in ("mlp", "gated"):
            raise ValueError(
                f"group is O(3) or SO(3), readout mlp or gated; given '{group}' and '{readout}'."
            )
        self.elements = periodic_table.sorted_symbols(elements)
        self.cutoff, self.n_layers, self.group = cutoff, n_layers, group
        self.scale, self.shift, self.isolated_limit = scale, shift, isolated_limit
        self.atomic_energies = AtomicEnergies(self.elements, atomic_energies)
        self.tensors = CartesianTensors()
        radial: dict[str, Any] = {
            "cutoff": cutoff,
            "basis": radial_basis,
            "envelope": envelope,
            "envelope_power": envelope_power,
        }
        c = channels
        with seeded(seed):
            self.embedding = nn.Parameter(torch.randn(len(self.elements), c))
            self.pair_embedding = nn.Linear(2 * c, c)
            self.filters = TensorFilters(n_layers=n_layers, n_radial=n_radial, channels=c, **radial)
            self.first_norm = nn.LayerNorm(c)
            self.first_mix = DegreeLinear(channels_in=c, channels_out=c, l_max=2)
            self.first_gate = MLP(widths=(c, 2 * c, 3 * c))
            self.layers = nn.ModuleList([TensorLayer(channels=c, group=group) for _ in range(n_layers)])
            self.last_norm = nn.LayerNorm(3 * c)
            self.readout = MatrixReadout(channels=c, gated=readout == "gated")
            start_glorot(self)
        self._plan, self._first_plan = PlanStore(_message_plan()), PlanStore(_embedding_plan())

    @property
    def receptive_field(self) -> float:
        """Cutoff × (layers + 1), Å: the embedding sees neighbours too."""
        return self.cutoff * (self.n_layers + 1)

    def decayed_parameters(self) -> Iterable[str]:
        """Matrices of all networks; not the embedding, not biases, not the norms' weights."""
        return [n for n, p in self.named_parameters() if ".weight" in n and p.ndim > 1]

    def forward(self, system: System, pairs: Pairs) -> Results:
        """Energies per atom, eV."""
        if pairs.cutoff > self.cutoff:
            pairs, _ = pairs.within(system, self.cutoff)
        types = self.types(system)
        vectors = pairs.vectors(system, self.dtype)
        r = torch.linalg.vector_norm(vectors, dim=1)
        filters = self.filters(r).unflatten(2, (3, -1))
        x = self._embedded(types, pairs, filters[0], self.tensors.of_directions(vectors / r[:, None]))
        edges = _Edges(pairs, torch.ones_like(r)[:, None], self._plan.like(r))
        for layer, w in zip(self.layers, filters[1:], strict=True):
            x = layer(x, w, edges, self.tensors)
        energies = self._read(squared_norms(x))
        if self.isolated_limit:
            energies = energies - self._read(self.embedding.new_zeros(1, 3 * self.embedding.shape[1]))
        return Results(energies=self.atomic_energies(types) + self.shift + self.scale * energies)

    def _embedded(self, types: Tensor, pairs: Pairs, filters: Tensor, harmonics: Tensor) -> Tensor:
        """X of the embedding as components [atoms, 9, channels]."""
        centre, neighbour = self.element_parts()
        z = centre[types].index_select(0, pairs.i)
        z = z + pairs.sync(neighbour[types]).index_select(0, pairs.j)
        ones = z.new_ones((len(types), 1, z.shape[1]))
        plan = self._first_plan.like(z)
        x = pair_convolution(plan, pairs.i, pairs.j, filters * z[:, None], harmonics, ones, len(types))
        gate = self.first_norm(squared_norm(x))
        for layer in self.first_gate.layers:
            gate = nn.functional.silu(layer(gate))
        gates = gate.unflatten(1, (3, -1))
        return self.first_mix(x) * torch.repeat_interleave(gates, _WIDTHS.to(x.device), 1)  # type: ignore[no-any-return]

    def element_parts(self) -> tuple[Float[Tensor, "types channels"], Float[Tensor, "types channels"]]:
        """The two terms of Z_ij = W (z_i, z_j) + b, of the centre's element and of the neighbour's."""
        left, right = self.pair_embedding.weight.chunk(2, 1)
        return self.embedding @ left.T + self.pair_embedding.bias, self.embedding @ right.T

    def _read(self, norms: Float[Tensor, "atoms three_channels"]) -> Float[Tensor, "atoms"]:
        return self.readout(self.last_norm(norms)).to(torch.float64)  # type: ignore[no-any-return]

    def program(self, *, tabulate: bool | None = None, tolerance: float = 1e-5) -> Program | None:
        """A snapshot of this potential as compiled CPU kernels; None on other devices and precisions.

        With `tabulate` filters are quintic splines of the distance. Forces of trial structures must then
        equal those of the networks within `tolerance`, eV/Å, or within twice the rounding of automatic
        differentiation in this precision where that is larger; raises ValueError otherwise. Without, the
        result equals `forward` to rounding. None: see `tabulated_program`.
        """
        if self.embedding.device.type != "cpu" or self.dtype not in (torch.float32, torch.float64):
            return None
        from .tensornet_program import CompiledTensorNet

        def build(tables: bool) -> Program:
            return CompiledTensorNet(self, tabulate=tables, tolerance=tolerance)

        return tabulated_program(build, self.dtype, tabulate)

    @classmethod
    def examples(cls) -> "list[TensorNet]":
        """Small instances for the conformance tests."""
        small: dict[str, Any] = {"elements": ("O", "Si"), "cutoff": 4.0, "channels": 8, "n_radial": 8}
        energies = {"O": -2.0, "Si": -3.5}
        return [
            cls(**small, atomic_energies=energies, scale=0.8, shift=0.1),
            cls(**small | {"n_radial": 3}, n_layers=1, radial_basis="smooth_bessel", readout="gated"),
        ]


class TensorFilters(nn.Module):
    """f_I, f_A and f_S of the embedding, a linear layer of radial functions, and of the layers, networks.

    Args:
        n_layers: layers after the embedding.
        n_radial: radial functions.
        channels: number of matrices.
        radial: further arguments of `RadialFilters`.
    """

    def __init__(self, *, n_layers: int, n_radial: int, channels: int, **radial: Any) -> None:
        super().__init__()
        self.first = RadialFilters(n_layers=1, widths=(n_radial, 3 * channels), **radial)
        self.rest: RadialFilters | None = None
        if n_layers:
            widths = (n_radial, channels, 2 * channels, 3 * channels)
            silu: dict[str, Any] = {"activation": "silu", "output_activation": "silu"}
            self.rest = RadialFilters(n_layers=n_layers, widths=widths, **silu, **radial)

    def forward(self, r: Float[Tensor, "pairs"]) -> Float[Tensor, "embedding_and_layers pairs filters"]:
        first = self.first(r)
        return first if self.rest is None else torch.cat([first, self.rest(r)])


class TensorLayer(nn.Module):
    """An interaction, arXiv:2306.06482, section 3.

    Args:
        channels: number of matrices.
        group: O(3) or SO(3).
    """

    def __init__(self, *, channels: int, group: str) -> None:
        super().__init__()
        self.group = group
        self.mix_in = DegreeLinear(channels_in=channels, channels_out=channels, l_max=2)
        self.mix_out = DegreeLinear(channels_in=channels, channels_out=channels, l_max=2)

    def forward(
        self,
        x: Float[Tensor, "atoms 9 channels"],
        filters: Float[Tensor, "pairs 3 channels"],
        edges: _Edges,
        tensors: CartesianTensors,
    ) -> Float[Tensor, "atoms 9 channels"]:
        pairs = edges.pairs
        x = x / (squared_norm(x) + 1.0)[:, None]
        y = self.mix_in(x)
        message = pair_convolution(
            edges.plan, pairs.i, pairs.j, filters, edges.ones, pairs.sync(y), x.shape[0]
        )
        own, other = tensors.matrices(y), tensors.matrices(message)
        product = matrix_product(own, other)
        product = product + (product if self.group == "SO(3)" else matrix_product(other, own))
        change = tensors.components(product)
        change = self.mix_out(change / (squared_norm(change) + 1.0)[:, None])
        square = tensors.matrices(change)
        return x + change + tensors.components(matrix_product(square, square))


class MatrixReadout(nn.Module):
    """Energy from the normalised norms of an atom's matrices.

    Args:
        channels: number of matrices.
        gated: matgl's form rather than the authors'.
    """

    def __init__(self, *, channels: int, gated: bool) -> None:
        super().__init__()
        c = channels
        self.gated = gated
        self.mix = nn.Linear(3 * c, c)
        self.network: GatedMLP | MLP = (
            GatedMLP(widths=(c, c, c, c, 1), output_activation="identity")
            if gated
            else MLP(widths=(c, max(1, c // 2), 1))
        )

    def forward(self, x: Float[Tensor, "atoms three_channels"]) -> Float[Tensor, "atoms"]:
        mixed = self.mix(x)
        found: Tensor = self.network((mixed, None) if self.gated else nn.functional.silu(mixed))
        return found.squeeze(-1)


_WIDTHS = torch.tensor([1, 3, 5])
"""Components of the three irreducible parts."""


def _embedding_plan() -> ConvolutionPlan:
    """A scalar feature times the components of the direction's matrix, part by part."""
    couplings = [
        Coupling(rows.start, 0, l, torch.eye(2 * l + 1, dtype=torch.float64)[:, None])
        for l, rows in enumerate(degrees(2))
    ]
    return plan_convolution(couplings, n_harmonics=9, n_features=1)


def _message_plan() -> ConvolutionPlan:
    """Each irreducible part of the features with its own weight."""
    couplings = [
        Coupling(0, rows.start, l, torch.eye(2 * l + 1, dtype=torch.float64)[None])
        for l, rows in enumerate(degrees(2))
    ]
    return plan_convolution(couplings, n_harmonics=1, n_features=9)
