"""The weights of an Allegro arranged for its compiled program.

All that depends on the distance and the two elements alone is one row of columns: weights of the first
tensors and surroundings, and what s⁰ gives to the first hidden layer of every later network. Scalars of later
layers are linear in the hidden layer that they come from; so their maps are multiplied out, and no scalar is
ever formed. Channels of tensors are padded with zeros to a multiple of 16, hidden layers to one of 32.
"""

from dataclasses import dataclass, field
from itertools import pairwise
from math import sqrt
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from rikiba.kernels.allegro_cpu import AllegroWeights
from rikiba.kernels.lanes import LANES
from rikiba.kernels.pair_product_cpu import Product
from rikiba.nn.mlp import NormalisedMLP
from rikiba.nn.pair_embedding import BesselPairEmbedding, PairEmbedding
from rikiba.nn.pair_products import PairProduct

from . import filter_program as hidden
from .nequip_workspace import sections

if TYPE_CHECKING:
    from .allegro import Allegro


def padded(n: int) -> int:
    """The next multiple of 16."""
    return -(-n // LANES) * LANES


def widened(w: Tensor, block: int, dim: int) -> Tensor:
    """Blocks of this size along `dim`, each filled up with zeros to a multiple of 16; differentiable."""
    parts = w.movedim(dim, -1).unflatten(-1, (-1, block))
    return pad(parts, (0, padded(block) - block)).flatten(-2).movedim(-1, dim).contiguous()


def narrow(w: Tensor) -> np.ndarray:
    """Panels of 16 columns, as `narrow_dense` reads them."""
    return w.unflatten(1, (-1, LANES)).transpose(0, 1).flatten().numpy()


def both_widened(w: Tensor) -> Tensor:
    """A matrix whose rows and columns are filled up to multiples of 32."""
    return hidden.widened(hidden.widened(w, w.shape[0], 0), w.shape[1], 1)


def scaled(network: NormalisedMLP) -> list[Tensor]:
    """Its matrices with the factors that it applies."""
    return [
        w.detach() * ((network.factor if k else 1.0) / sqrt(w.shape[0]))
        for k, w in enumerate(network.weights)
    ]


class Arrangement:
    """Columns: first tensors, first surroundings, layer 1 …, read-out."""

    def __init__(self, model: "Allegro") -> None:
        self.model = model
        self.embedding: PairEmbedding = model.embedding
        c, self.degrees = model.tensor_channels, model.l_max + 1
        self.channels = padded(c)
        self.networks = [scaled(layer.latent) for layer in model.layers] + [scaled(model.readout)]  # type: ignore[arg-type]
        block = self.degrees * self.channels
        sizes = [block, block, *(hidden.padded(n[0].shape[1]) for n in self.networks)]
        ends = np.cumsum([0, *sizes]).tolist()
        self.columns = list(pairwise(ends))
        self.width: int = ends[-1]

    def _into(self, t: int) -> Tensor:
        """What s^t gives to the first hidden layers of networks t, t + 1, …, side by side and padded."""
        n = self.model.scalar_channels
        parts = [w[0][t * n : (t + 1) * n] for w in self.networks[t:]]
        return torch.cat([hidden.widened(p, p.shape[1], 1) for p in parts], 1)

    def function(self, r: Tensor, kind: int) -> Tensor:
        """All columns at every distance; `kind` is a pair of types."""
        m, n_types = self.model, len(self.model.elements)
        kinds = torch.full_like(r, kind, dtype=torch.int64)
        x = m.two_body(m.embedding(r, kinds // n_types, kinds % n_types))
        return x @ self._behind_two_body()

    def radial(self, r: Tensor, kind: int = 0) -> Tensor:
        """The embedding's functions of the distance, which the elements have no part in, padded."""
        found = self.embedding.radial(r)
        return pad(found, (0, hidden.padded(found.shape[1]) - found.shape[1]))

    def _behind_two_body(self) -> Tensor:
        """From the two-body network's output to all columns."""
        (tensors,), (first,) = scaled(self.model.first_tensors), scaled(self.model.first)
        n, c = self.model.scalar_channels, self.model.tensor_channels
        parts = [widened(tensors, c, 1), widened(first[:, n:], c, 1), first[:, :n] @ self._into(0)]
        return torch.cat(parts, 1)

    def packed(self, real: type[np.floating]) -> AllegroWeights:
        """All matrices as the compiled sweep reads them."""
        m = self.model
        parts = [self._layer(t) for t in range(m.n_layers)] + [self._readout(), self._two_body()]
        before = np.cumsum([0, *(sum(p.widths) for p in parts)]).tolist()
        products = [p.product for p in parts if p.product is not None]
        sizes = {
            "layers": m.n_layers,
            "degrees": self.degrees,
            "channels": self.channels,
            "width": self.width,
            "around width": hidden.padded(self.degrees * self.channels),
            "radial": len(self.radial(torch.ones(1, dtype=m.dtype))[0]),
            "embedded": parts[-1].elements[0].shape[-1],
            "hidden": before[-1],
            "widest": max(max(p.widths, default=1) for p in parts),
            "components": max(max(p.d_in, p.d_out) for p in products),
            "entries": max(len(p.feature) for p in products),
            "types": len(m.elements),
        }
        return AllegroWeights(
            np.array(list(sizes.values()), np.int64),
            *sections([p.whole(b) for p, b in zip(parts, before, strict=False)], np.int64),
            *sections([p.real(real) for p in parts], real),
        )

    def _layer(self, t: int) -> "_Part":
        m, n = self.model, self.model.scalar_channels
        *matrices, last = self.networks[t]
        last = hidden.widened(last, last.shape[0], 0)
        scalars = matrices[0][(t + 1) * n :]
        around = last[:, :0]
        if last.shape[1] > n:
            blocks = widened(last[:, n:], m.tensor_channels, 1)
            around = hidden.widened(blocks, blocks.shape[1], 1)
        return _Part(
            column=self.columns[t + 2][0],
            hidden=matrices,
            scalars=hidden.widened(widened(scalars, scalars.shape[0], 0), scalars.shape[1], 1),
            later=last[:, :n] @ self._into(t + 1),
            around=around,
            product=terms(m.layers[t].product, self.channels),  # type: ignore[arg-type]
        )

    def _readout(self) -> "_Part":
        *matrices, last = self.networks[-1]
        return _Part(
            column=self.columns[-1][0], hidden=matrices, vector=hidden.widened(last, last.shape[0], 0)
        )

    def _two_body(self) -> "_Part":
        *matrices, last = scaled(self.model.two_body)
        last = hidden.widened(last, last.shape[0], 0) @ self._behind_two_body()
        scalars = both_widened(matrices[0]) if matrices else last[:0]
        return _Part(hidden=matrices, scalars=scalars, later=last, elements=self._elements())

    def _elements(self) -> tuple[Tensor, Tensor]:
        """Factors of the embedding's channels: of centres and neighbours, or splines of all kinds, none."""
        e = self.embedding
        if isinstance(e, BesselPairEmbedding):
            ones = torch.ones_like(e.centre.detach())
            factors = torch.cat([e.centre.detach(), ones], 1), torch.cat([ones, e.neighbour.detach()], 1)
            centre, neighbour = (hidden.widened(x, x.shape[1], 1) for x in factors)
            return centre, neighbour
        _, splines, channels = e.weights.shape
        w = hidden.widened(hidden.widened(e.weights, splines, 1), channels, 2)
        return w, w[:0]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Part:
    """A layer, the read-out or the two-body network; matrices are padded but those of `hidden`."""

    hidden: list[Tensor]
    """To every hidden layer."""
    column: int = 0
    scalars: Tensor = field(default_factory=lambda: torch.empty(0, 0))
    later: Tensor = field(default_factory=lambda: torch.empty(0, 0))
    vector: Tensor | None = None
    """In place of `later`."""
    around: Tensor = field(default_factory=lambda: torch.empty(0, 0))
    product: Product | None = None
    elements: tuple[Tensor, ...] = ()

    @property
    def widths(self) -> list[int]:
        return [hidden.padded(w.shape[1]) for w in self.hidden]

    def whole(self, before: int) -> list[np.ndarray]:
        """Sections of whole numbers, so many hidden numbers being in the parts before."""
        p, none = self.product, np.empty(0, np.int64)
        product = [none] * 8
        if p is not None:
            product = [p.output, p.entry, p.feature, p.term, p.surrounding]
            product += [p.entry_of_feature, p.feature_start, p.output_of]
        d = (p.d_in, p.d_out) if p is not None else (0, 0)
        return [*product, np.array(self.widths, np.int64), np.array([*d, self.column, before], np.int64)]

    def real(self, real: type[np.floating]) -> list[np.ndarray]:
        """Sections of real numbers."""
        inner = [both_widened(w) for w in self.hidden[1:]]
        none = np.empty(0, real)
        later = [hidden.panelled([self.later], real), hidden.panelled([self.later.T], real)]
        if self.vector is not None:
            later = [self.vector[:, 0].numpy(), none]
        elements = [x.flatten().numpy() for x in self.elements] or [none, none]
        return [
            none if self.product is None else self.product.coefficient,
            hidden.panelled(inner, real),
            hidden.panelled([w.T for w in inner], real),
            hidden.panelled([self.scalars], real),
            hidden.panelled([self.scalars.T], real) if self.product is None else narrow(self.scalars.T),
            *later,
            hidden.panelled([self.around], real),
            hidden.panelled([self.around.T] if self.around.shape[1] else [], real),
            *elements,
        ]


def terms(product: PairProduct, channels: int) -> Product:
    """The terms of all couplings, by entry (output component, feature component)."""
    starts = [
        np.cumsum([0] + [ir.dim for ir in irreps])
        for irreps in (product.features, product.surroundings, product.outputs)
    ]
    weights = product.weights.detach().double()
    weights = weights.expand(-1, channels) if weights.shape[1] == 1 else widened(weights, weights.shape[1], 1)
    found: dict[tuple[int, int], list[tuple[int, Tensor]]] = {}
    for path, w in zip(product.paths, weights, strict=True):
        c = product.coefficients(path)
        a0, b0, o0 = (int(s[k]) for s, k in zip(starts, path, strict=True))
        for a, b, o in c.nonzero().tolist():
            found.setdefault((o0 + o, a0 + a), []).append((b0 + b, w * c[a, b, o]))
    entries = sorted(found)
    outputs, features = (np.array(x, np.int64) for x in zip(*entries, strict=True))
    d_in, d_out = int(starts[0][-1]), int(starts[2][-1])
    lists = [found[e] for e in entries]
    coefficients = torch.stack([w for terms_ in lists for _, w in terms_]).to(product.weights.dtype)
    return Product(
        d_in,
        d_out,
        np.searchsorted(outputs, np.arange(d_out + 1)).astype(np.int64),
        np.arange(len(entries)),
        features,
        np.cumsum([0, *map(len, lists)]).astype(np.int64),
        np.array([b for terms_ in lists for b, _ in terms_], np.int64),
        coefficients.contiguous().flatten().numpy(),
        np.argsort(features, kind="stable").astype(np.int64),
        np.searchsorted(np.sort(features), np.arange(d_in + 1)).astype(np.int64),
        outputs,
    )
