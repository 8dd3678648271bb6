"""The weights of an Allegro arranged for its compiled program.

All that depends on the distance and the two elements alone is one row of a table: weights of the first
tensors and surroundings, and what s⁰ gives to the first hidden layer of every later network. Scalars of later
layers are linear in the hidden layer that they come from; so their maps are multiplied out, and no scalar is
ever formed. Channels and hidden widths are padded with zeros to a multiple of 16.
"""

from dataclasses import dataclass
from itertools import pairwise
from math import exp, log, sqrt
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from rikiba.kernels.lanes import LANES
from rikiba.kernels.pair_product_cpu import Product
from rikiba.nn.mlp import NormalisedMLP
from rikiba.nn.pair_products import PairProduct
from rikiba.nn.tabulation import SplineTable, spline_table

from .nequip_weights import OFFSET, SHORTEST

if TYPE_CHECKING:
    from .allegro import Allegro

_MOST_INTERVALS = 4096
_MOST_KINDS = 64
_SIDE = 1e-12


def padded(n: int) -> int:
    """The next multiple of 16."""
    return -(-n // LANES) * LANES


def widened(w: Tensor, block: int, dim: int) -> Tensor:
    """Blocks of this size along `dim`, each filled up with zeros to a multiple of 16."""
    parts = w.detach().movedim(dim, -1).unflatten(-1, (-1, block))
    return pad(parts, (0, padded(block) - block)).flatten(-2).movedim(-1, dim).contiguous()


def scaled(network: NormalisedMLP) -> list[Tensor]:
    """Its matrices with the factors that it applies."""
    return [
        w.detach() * ((network.factor if k else 1.0) / sqrt(w.shape[0]))
        for k, w in enumerate(network.weights)
    ]


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """One layer's matrices, all padded."""

    product: Product
    columns: tuple[int, int]
    """Of the network's first hidden layer in a row of the table."""
    tensors: Tensor
    """[channels, hidden]: what the scalars of the tensors give to it."""
    inner: list[Tensor]
    """Between further hidden layers."""
    later: Tensor
    """[hidden, …]: what the last hidden layer gives to the later networks' first hidden layers."""
    around: Tensor | None
    """[hidden, degrees·channels]: weights of the next surroundings."""


@dataclass(frozen=True, slots=True, eq=False)
class Readout:
    """The last network; without hidden layers its first matrix is the last."""

    columns: tuple[int, int]
    inner: list[Tensor]
    last: Tensor | None
    """[hidden, 1]"""


class Arrangement:
    """Columns of a row of the table: first tensors, first surroundings, layer 1 …, readout."""

    def __init__(self, model: "Allegro") -> None:
        self.model = model
        c, self.degrees = model.tensor_channels, model.l_max + 1
        self.channels = padded(c)
        self.networks = [scaled(layer.latent) for layer in model.layers] + [scaled(model.readout)]  # type: ignore[arg-type]
        block = self.degrees * self.channels
        sizes = [block, block, *(padded(n[0].shape[1]) for n in self.networks)]
        ends = np.cumsum([0, *sizes]).tolist()
        self.columns = list(pairwise(ends))
        self.width: int = ends[-1]
        self.layers = [self._layer(t) for t in range(model.n_layers)]
        rest = [widened(widened(w, w.shape[0], 0), w.shape[1], 1) for w in self.networks[-1][1:]]
        self.readout = Readout(self.columns[-1], rest[:-1], rest[-1][:, :1].contiguous() if rest else None)

    def _into(self, t: int) -> Tensor:
        """What s^t gives to the first hidden layers of networks t, t + 1, …, side by side and padded."""
        n = self.model.scalar_channels
        parts = [w[0][t * n : (t + 1) * n] for w in self.networks[t:]]
        return torch.cat([widened(p, p.shape[1], 1) for p in parts], 1)

    def _layer(self, t: int) -> Layer:
        model, n = self.model, self.model.scalar_channels
        first, *rest = self.networks[t]
        *inner, last = rest
        last = widened(last, last.shape[0], 0)
        around = None
        if last.shape[1] > n:
            around = widened(last[:, n:], model.tensor_channels, 1)
        tensors = first[(t + 1) * n :]
        return Layer(
            product=terms(model.layers[t].product, self.channels),  # type: ignore[arg-type]
            columns=self.columns[t + 2],
            tensors=widened(widened(tensors, tensors.shape[0], 0), tensors.shape[1], 1),
            inner=[widened(widened(w, w.shape[0], 0), w.shape[1], 1) for w in inner],
            later=last[:, :n] @ self._into(t + 1),
            around=around,
        )

    def function(self, r: Tensor, kind: int) -> Tensor:
        """A row of the table for every distance; `kind` is a pair of types."""
        m, n_types = self.model, len(self.model.elements)
        kinds = torch.full_like(r, kind, dtype=torch.int64)
        x = m.two_body(m.embedding(r, kinds // n_types, kinds % n_types))
        tensors, first = m.first_tensors(x), m.first(x)
        s, around = first[:, : m.scalar_channels], first[:, m.scalar_channels :]
        blocks = [widened_rows(y, m.tensor_channels) for y in (tensors, around)]
        return torch.cat([*blocks, s @ self._into(0).to(s)], 1)


def widened_rows(y: Tensor, block: int) -> Tensor:
    """As `widened` for columns, differentiable."""
    return pad(y.unflatten(1, (-1, block)), (0, padded(block) - block)).flatten(1)


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


def table_of(arrangement: Arrangement, tolerance: float) -> tuple[SplineTable, float]:
    """The table on equal steps in ln(r + OFFSET) and its relative error in value or (per Å) slope.

    `arrangement` is that of a float64 model. Raises ValueError where 4096 intervals do not suffice, and for
    more than eight elements.
    """
    model = arrangement.model
    n_kinds = len(model.elements) ** 2
    if n_kinds > _MOST_KINDS:
        raise ValueError(f"Tables for {n_kinds} pairs of elements are too many; the most are {_MOST_KINDS}.")
    start, stop = log(SHORTEST + OFFSET), log(model.cutoff + OFFSET) - _SIDE
    intervals, error = 64, float("inf")
    while intervals <= _MOST_INTERVALS:
        table = spline_table(
            lambda x, kind: arrangement.function(torch.exp(x) - OFFSET, kind),
            n_kinds=n_kinds,
            start=start,
            stop=stop,
            intervals=intervals,
        )
        error = max(table.value_error, table.slope_error * exp(-start))
        if error <= tolerance:
            return table, error
        intervals *= 2
    raise ValueError(
        f"The two-body networks cannot be tabulated: {_MOST_INTERVALS} intervals leave a relative error of "
        f"{error:.1e}; allowed is {tolerance:.1e}. Use program(tabulate=False) or a larger tolerance."
    )
