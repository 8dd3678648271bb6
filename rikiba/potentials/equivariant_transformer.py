"""Equivariant transformer: attention over neighbours, scalar and vector features on every atom.

Thölke & De Fabritiis, ICLR 2022, arXiv:2202.02541. Equal to TorchMD-Net 3.1.0 on the same weights
(tests/peers/torchmd).
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import silu

from rikiba.core import elements as periodic_table
from rikiba.core.pairs import Pairs
from rikiba.core.results import Results
from rikiba.core.system import System
from rikiba.kernels.grouping import segment_sum
from rikiba.nn.atomic_energies import AtomicEnergies
from rikiba.nn.cutoff import cosine, polynomial
from rikiba.nn.filters import start_glorot
from rikiba.nn.mlp import MLP
from rikiba.nn.radial import ExpNormal

from .base import Potential, Program, check_positive, seeded, tabulated_program
from .schnet import above_isolated


class _Edges(NamedTuple):
    """What every layer reads of the pairs, and of an atom and itself (r = 0)."""

    pairs: Pairs
    basis: Float[Tensor, "pairs n_radial"]
    own_basis: Float[Tensor, "1 n_radial"]
    envelope: Float[Tensor, "pairs"]
    directions: Float[Tensor, "pairs 3"]


class EquivariantTransformer(Potential):
    """E = Σ_i [E0(Z_i) + shift + scale·(R(x_i, v_i) − R of the atom alone)] after T layers of attention.

    First x_i = C(a(Z_i), Σ_j b(Z_j) ∘ (W e(r_ij) + w) f(r_ij)), v_i = 0, e the radial functions times the
    envelope f. In each layer, of LN(x), with queries q, keys k and values (s¹, s², s³) split over heads:

        A_ij = silu(Σ_c q_i k_j D^K(r_ij)),  D = silu(W e(r) + w),  (s¹, s², s³)_j ← (s¹, s², s³)_j D^V(r_ij)
        y_i = Σ_j A_ij s¹_j,  w_i = Σ_j (s²_j ∘ v_j + s³_j r̂_ij), j = i among them with r̂ = 0
        (o¹, o², o³)_i = O(y_i);  x_i ← x_i + o² ∘ ⟨U¹v_i, U²v_i⟩ + o³;  v_i ← v_i + o¹ ∘ U³v_i + w_i

    The sum over neighbours does not depend on their order: a transformer without places. R is two gated
    blocks (PaiNN's). The envelope multiplies (s¹, s², s³), which makes energies as smooth as it is.

    Departures from the paper: there the envelope multiplies A_ij (`envelope_on = "attention"`), which leaves
    w_i, and so the energy, with a jump at the cutoff; the envelope is C² by default; ε rounds the cone of the
    readout's norm off (see `PaiNN`); subtracting R of the atom alone gives an isolated atom E0 + shift.

    Args:
        elements: chemical symbols; kept in order of atomic number.
        cutoff: Å.
        channels: number of scalars, and of vectors, on each atom.
        n_layers: layers of attention T.
        n_heads: heads; they share the channels equally.
        n_radial: radial basis functions.
        trainable_radial: learn the centres and widths of the radial functions.
        envelope: polynomial (C²) or cosine (the paper's, C¹).
        envelope_power: power of the polynomial envelope.
        envelope_on: values, or attention (the published form, which jumps at the cutoff).
        norm_epsilon: ε in the norms of the readout's vectors.
        atomic_energies: energy of each isolated atom, eV; zero where not given.
        scale: factor on the network's energy, eV; the training data's force spread is usual.
        shift: added to each atom's energy, eV.
        isolated_limit: give an isolated atom exactly E0 + shift; false is the published form.
        seed: of the initial weights.

    Raises:
        ValueError: for an unknown element or choice, or sizes that are not positive or do not divide.
    """

    references: ClassVar[tuple[str, ...]] = ("10.48550/arXiv.2202.02541",)

    def __init__(
        self,
        *,
        elements: Sequence[str],
        cutoff: float = 5.0,
        channels: int = 128,
        n_layers: int = 6,
        n_heads: int = 8,
        n_radial: int = 32,
        trainable_radial: bool = True,
        envelope: Literal["polynomial", "cosine"] = "polynomial",
        envelope_power: int = 6,
        envelope_on: Literal["values", "attention"] = "values",
        norm_epsilon: float = 1e-2,
        atomic_energies: Mapping[str, float] | None = None,
        scale: float = 1.0,
        shift: float = 0.0,
        isolated_limit: bool = True,
        seed: int = 0,
    ) -> None:
        super().__init__()
        sizes = {"channels": channels, "n_layers": n_layers, "n_heads": n_heads, "n_radial": n_radial}
        check_positive(cutoff=cutoff, scale=scale, norm_epsilon=norm_epsilon, **sizes)
        if channels % n_heads or channels % 2:
            raise ValueError(f"channels must be even and divide among {n_heads} heads; given {channels}.")
        if envelope not in ("polynomial", "cosine") or envelope_on not in ("values", "attention"):
            raise ValueError(
                f"envelope is polynomial or cosine, envelope_on values or attention; given '{envelope}' and "
                f"'{envelope_on}'."
            )
        self.elements = periodic_table.sorted_symbols(elements)
        self.cutoff, self.n_layers = cutoff, n_layers
        self.envelope, self.envelope_power = envelope, envelope_power
        self.scale, self.shift, self.isolated_limit = scale, shift, isolated_limit
        self.atomic_energies = AtomicEnergies(self.elements, atomic_energies)
        with seeded(seed):
            self.embedding = nn.Parameter(torch.randn(len(self.elements), channels))
            self.neighbour_embedding = nn.Parameter(torch.randn(len(self.elements), channels))
            self.radial = ExpNormal(n=n_radial, cutoff=cutoff, trainable=trainable_radial)
            self.neighbour_filter = nn.Linear(n_radial, channels)
            self.combine = nn.Linear(2 * channels, channels)
            self.layers = nn.ModuleList(
                AttentionLayer(
                    channels=channels,
                    n_heads=n_heads,
                    n_radial=n_radial,
                    on_values=envelope_on == "values",
                    first=t == 0,
                )
                for t in range(n_layers)
            )
            self.norm = nn.LayerNorm(channels)
            self.readout = nn.ModuleList(
                [
                    GatedBlock(channels, channels // 2, norm_epsilon=norm_epsilon, last=False),
                    GatedBlock(channels // 2, 1, norm_epsilon=norm_epsilon, last=True),
                ]
            )
            start_glorot(self)

    @property
    def receptive_field(self) -> float:
        """Cutoff × (layers + 1), Å: the embedding looks at neighbours too."""
        return self.cutoff * (self.n_layers + 1)

    def decayed_parameters(self) -> Iterable[str]:
        """Matrices of all networks; not embeddings, biases, norms and radial functions."""
        linear = [n for n, m in self.named_modules() if isinstance(m, nn.Linear)]
        return [f"{n}.weight" for n in linear]

    def forward(self, system: System, pairs: Pairs) -> Results:
        """Energies per atom, eV."""
        if pairs.cutoff > self.cutoff:
            pairs, _ = pairs.within(system, self.cutoff)
        types = self.types(system)
        edges = self._edges(pairs, pairs.vectors(system, self.dtype))
        rows = torch.cat([types, torch.arange(len(self.elements), device=types.device)])
        rows = rows if self.isolated_limit else types
        x = self._first(rows, types, edges)
        v = None
        for layer in self.layers:
            x, v = layer(x, v, edges)
        x = self.norm(x)
        for block in self.readout:
            x, v = block(x, v)
        energies = x.squeeze(-1).to(torch.float64)
        if self.isolated_limit:
            energies = above_isolated(energies, types)
        return Results(energies=self.atomic_energies(types) + self.shift + self.scale * energies)

    def envelope_of(self, r: Float[Tensor, "pairs"]) -> Float[Tensor, "pairs"]:
        """f(r)."""
        x = r / self.cutoff
        return cosine(x) if self.envelope == "cosine" else polynomial(x, self.envelope_power)

    def _edges(self, pairs: Pairs, vectors: Tensor) -> _Edges:
        r = torch.linalg.vector_norm(vectors, dim=1)
        envelope = self.envelope_of(r)
        own = self.radial(r.new_zeros(1))
        return _Edges(pairs, self.radial(r) * envelope[:, None], own, envelope, vectors / r[:, None])

    def _first(self, rows: Tensor, types: Tensor, edges: _Edges) -> Float[Tensor, "rows channels"]:
        """Features that know an atom's element and, by a filter, those around it."""
        near = self.neighbour_filter(edges.basis) * edges.envelope[:, None]
        others = edges.pairs.sync(self.neighbour_embedding.index_select(0, types))
        seen = segment_sum(near * others.index_select(0, edges.pairs.j), edges.pairs.i, len(rows))
        return self.combine(torch.cat([self.embedding.index_select(0, rows), seen], 1))

    def program(self, *, tabulate: bool | None = None, tolerance: float = 1e-5) -> Program | None:
        """A snapshot of this potential as compiled CPU kernels; None on other devices and precisions.

        None too for more than 16 heads. With `tabulate` filters are quintic splines of the distance. Forces
        of trial structures must then equal those of the networks within `tolerance`, eV/Å, or within twice
        the rounding of automatic differentiation in this precision where that is larger; raises ValueError
        otherwise. Without, the result equals `forward` to rounding. None: see `tabulated_program`.
        """
        if self.embedding.device.type != "cpu" or self.dtype not in (torch.float32, torch.float64):
            return None
        from .equivariant_transformer_program import CompiledEquivariantTransformer, fits

        if not fits(self.layers[0].heads):  # type: ignore[arg-type]
            return None

        def build(tables: bool) -> Program:
            return CompiledEquivariantTransformer(self, tabulate=tables, tolerance=tolerance)

        return tabulated_program(build, self.dtype, tabulate)

    @classmethod
    def examples(cls) -> "list[EquivariantTransformer]":
        """Small instances for the conformance tests."""
        small: dict[str, Any] = {"elements": ("O", "Si"), "cutoff": 4.0, "channels": 8, "n_radial": 6}
        energies = {"O": -2.0, "Si": -3.5}
        return [cls(**small, n_layers=2, n_heads=2, atomic_energies=energies, scale=0.8, shift=0.1)]


class AttentionLayer(nn.Module):
    """One layer of attention, arXiv:2202.02541, eqs. 5 to 10.

    Args:
        channels: number of scalars and of vectors.
        n_heads: heads.
        n_radial: radial functions.
        on_values: multiply values by the envelope; False: attention.
        first: there are no vectors yet.
    """

    def __init__(self, *, channels: int, n_heads: int, n_radial: int, on_values: bool, first: bool) -> None:
        super().__init__()
        self.heads, self.on_values = n_heads, on_values
        self.norm = nn.LayerNorm(channels)
        self.query, self.key = nn.Linear(channels, channels), nn.Linear(channels, channels)
        self.value, self.output = nn.Linear(channels, 3 * channels), nn.Linear(channels, 3 * channels)
        self.mix = None if first else nn.Linear(channels, 3 * channels, bias=False)
        self.key_filter, self.value_filter = (
            nn.Linear(n_radial, channels),
            nn.Linear(n_radial, 3 * channels),
        )

    def forward(
        self,
        x: Float[Tensor, "rows channels"],
        v: Float[Tensor, "rows 3 channels"] | None,
        edges: _Edges,
    ) -> tuple[Float[Tensor, "rows channels"], Float[Tensor, "rows 3 channels"]]:
        """(x, v) after the layer; rows beyond the atoms have no neighbours; None is v = 0."""
        h = self.norm(x)
        q, k, s = self._split(self.query(h)), self._split(self.key(h)), self._split(self.value(h))
        y, w = self._itself(q, k, s, v, edges)
        y, w = (a + b for a, b in zip((y, w), self._neighbours(q, k, s, v, edges), strict=True))
        o1, o2, o3 = self.output(y).chunk(3, 1)
        if v is None or self.mix is None:
            return x + o3, w
        u1, u2, u3 = self.mix(v).chunk(3, -1)
        return x + (u1 * u2).sum(1) * o2 + o3, v + u3 * o1[:, None] + w

    def _split(self, t: Tensor) -> Float[Tensor, "rows heads width"]:
        return t.unflatten(1, (self.heads, -1))

    def _itself(
        self, q: Tensor, k: Tensor, s: Tensor, v: Tensor | None, edges: _Edges
    ) -> tuple[Tensor, Tensor]:
        """What an atom tells itself: r = 0, no direction."""
        attention = silu((q * k * self._split(silu(self.key_filter(edges.own_basis)))).sum(-1))
        s1, s2, _ = (s * self._split(silu(self.value_filter(edges.own_basis)))).chunk(3, -1)
        y = (s1 * attention[..., None]).flatten(1)
        w = y.new_zeros(len(y), 3, y.shape[1]) if v is None else v * s2.flatten(1)[:, None]
        return y, w

    def _neighbours(
        self, q: Tensor, k: Tensor, s: Tensor, v: Tensor | None, edges: _Edges
    ) -> tuple[Tensor, Tensor]:
        pairs, n = edges.pairs, edges.pairs.n_atoms
        i, j, rows = pairs.i, pairs.j, len(q)
        k_j, s_j = (pairs.sync(t[:n]).index_select(0, j) for t in (k, s))
        filters = self._split(silu(self.key_filter(edges.basis)))
        attention = silu((q.index_select(0, i) * k_j * filters).sum(-1))
        s_j = s_j * self._split(silu(self.value_filter(edges.basis)))
        if self.on_values:
            s_j = s_j * edges.envelope[:, None, None]
        else:
            attention = attention * edges.envelope[:, None]
        s1, s2, s3 = s_j.chunk(3, -1)
        y = segment_sum((s1 * attention[..., None]).flatten(1), i, rows)
        w = s3.flatten(1)[:, None] * edges.directions[:, :, None]
        if v is not None:
            w = w + pairs.sync(v[:n]).index_select(0, j) * s2.flatten(1)[:, None]
        return y, segment_sum(w, i, rows)


class GatedBlock(nn.Module):
    """(x, v) → (silu(a), b ∘ U²v) with (a, b) = φ(x, √(|U¹v|² + ε)): PaiNN's gated block; the last gives a.

    Args:
        channels: number of scalars and of vectors.
        out_channels: those that come out.
        norm_epsilon: ε.
        last: give a alone.
    """

    def __init__(self, channels: int, out_channels: int, *, norm_epsilon: float, last: bool) -> None:
        super().__init__()
        self.norm_epsilon = norm_epsilon
        self.first = nn.Linear(channels, channels, bias=False)
        self.second = None if last else nn.Linear(channels, out_channels, bias=False)
        n = out_channels if last else 2 * out_channels
        self.update = MLP(widths=(2 * channels, channels, n), activation="silu")

    def forward(
        self, x: Float[Tensor, "rows channels"], v: Float[Tensor, "rows 3 channels"]
    ) -> tuple[Float[Tensor, "rows out"], Float[Tensor, "rows 3 out"] | None]:
        """What comes out; no vectors from the last block."""
        norm = torch.sqrt(self.first(v).square().sum(1) + self.norm_epsilon)
        out = self.update(torch.cat([x, norm], 1))
        if self.second is None:
            return out, None
        a, b = out.chunk(2, 1)
        return silu(a), b[:, None] * self.second(v)
