"""The weights of a MACE arranged for its compiled program: scaled, multiplied out, padded, tabulated.

Consecutive linear maps are multiplied out once: what mixes couplings with a typed linear layer behind it, the
last layer's linear maps with its read-out. Channels are padded with zeros to a multiple of 32.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import log, sqrt
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from rikiba.kernels.contraction_cpu import WIDE, Tree
from rikiba.kernels.message_cpu import Paths, Rows
from rikiba.kernels.symmetric_contraction import ContractionPlan
from rikiba.nn.cutoff import agnesi, polynomial
from rikiba.nn.equivariant import Convolution, ProductBasis
from rikiba.nn.mlp import NormalisedMLP
from rikiba.nn.so3 import clebsch_gordan
from rikiba.nn.tabulation import RadialFunction, SplineTable, spline_table, value_and_slope

if TYPE_CHECKING:
    from .mace import MACE, MACELayer

SHORTEST = {"none": 0.2, "agnesi": 0.4}
"""Where tables start, Å."""
OFFSET = {"none": 0.0, "agnesi": 0.5}
"""Tables have equal steps in ln(r + offset), in r for 0; the Agnesi transform changes fastest at small r."""


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """One layer. A list over types has one entry where all types share it."""

    paths: Paths
    message_rows: Rows
    product_rows: Rows
    output_rows: Rows
    coupling: Tensor | None
    """[harmonics, terms]; None where the terms are the harmonics."""
    up: list[Tensor]
    """Per degree; of the first layer, the up-mapped embedding [types, channels]."""
    mix: list[list[Tensor]]
    """[types][degree l3]; empty where the table holds it, see `folded`."""
    tree: Tree
    product: list[Tensor]
    """[types], each [channels/32, weights, 32] flat."""
    linear: list[Tensor]
    """Per degree L; of the last layer, to the hidden read-out."""
    skip: list[list[Tensor]]
    """[types][degree]; empty without self-connection; of the first layer, a row to add; of the last layer, to
    the hidden read-out."""
    readout: Tensor | None
    """Of a layer before the last."""
    n_density: int
    """1 if the radial function has one more column for the density."""


def padded(n: int) -> int:
    """The next multiple of 32."""
    return -(-n // WIDE) * WIDE


def square(w: Tensor, blocks: int = 1) -> Tensor:
    """[blocks·channels, channels] with both sides padded."""
    n = w.shape[1]
    extra = padded(n) - n
    return pad(w.reshape(blocks, n, n), (0, extra, 0, extra)).reshape(-1, n + extra).contiguous()


def packed_rows(blocks: Sequence[tuple[int, int]]) -> Rows:
    """Rows of blocks (components, couplings), coupling by coupling within a block."""
    start, width, inner, at = [], [], [], 0
    for d, n in blocks:
        for k in range(n):
            for m in range(d):
                start.append(at)
                width.append(d * n)
                inner.append(m * n + k)
        at += d * n
    return Rows(*(np.array(x, np.int64) for x in (start, width, inner)))


def layers_of(model: "MACE") -> list[Layer]:
    """Every layer in the potential's dtype; nothing shares memory with the potential."""
    n_types, last = len(model.elements), model.n_layers - 1
    mlps = cast(list[NormalisedMLP], list(model.readouts))
    readouts = [[m.detach() for m in r.weights] for r in mlps]
    while len(readouts) < model.n_layers:
        readouts.insert(0, [])
    embedding = model.embedding.detach() / sqrt(n_types)
    out = []
    for t, layer in enumerate(model.layers):
        scale = model.scale.to(embedding) if t == last and len(readouts[t]) == 1 else embedding.new_ones(())
        head = None
        if t == last:
            head = readouts[t][0] * (scale / sqrt(readouts[t][0].shape[0]))
        row = None
        if t < last and readouts[t]:
            w = readouts[t][0][:, 0] * (model.scale.to(embedding) / sqrt(len(embedding[0])))
            row = pad(w, (0, padded(len(w)) - len(w))).contiguous()
        out.append(_layer(layer, embedding if t == 0 else None, head, row))  # type: ignore[arg-type]
    return out


def _layer(
    layer: "MACELayer", embedding: Tensor | None, head: Tensor | None, readout: Tensor | None
) -> Layer:
    convolution, product = layer.convolution, layer.product
    n_out = len(layer.linear.weight)
    l_max = max(l3 for _, _, l3 in convolution.paths)
    up = layer.up.weight.detach() * layer.up.scale
    skip = layer.skip.weight.detach() * layer.skip.scale
    linear = [w.detach() * layer.linear.scale for w in layer.linear.weight]
    connections: list[list[Tensor]] = []
    if layer.residual:
        kinds = range(skip.shape[1])
        if embedding is not None:
            rows = [embedding[k : k + 1] @ skip[0, k] for k in kinds]
            connections = [[_columns(r @ head if head is not None else r, head is None)] for r in rows]
        elif head is not None:
            connections = [[_head(skip[0, k] @ head)] for k in kinds]
        else:
            connections = [[square(w[k]) for w in skip] for k in kinds]
    paths, coupling, message_rows = _paths(convolution)
    weights, tree = _product(product)
    return Layer(
        paths=paths,
        message_rows=message_rows,
        product_rows=packed_rows([(2 * l + 1, 1) for l in range(l_max + 1)]),
        output_rows=packed_rows([(2 * l + 1, 1) for l in range(n_out)]),
        coupling=None if coupling is None else coupling.to(up),
        up=[_columns(embedding @ up[0], True)] if embedding is not None else [square(w) for w in up],
        mix=_mix(layer, skip),
        tree=tree,
        product=weights,
        linear=[_head(linear[0] @ head)] if head is not None else [square(w) for w in linear],
        skip=connections,
        readout=readout,
        n_density=int(layer.density is not None),
    )


def _columns(rows: Tensor, widen: bool) -> Tensor:
    return pad(rows, (0, padded(rows.shape[1]) - rows.shape[1])).contiguous() if widen else rows.contiguous()


def _head(w: Tensor) -> Tensor:
    return pad(w, (0, 0, 0, padded(w.shape[0]) - w.shape[0])).contiguous()


def _mix(layer: "MACELayer", skip: Tensor) -> list[list[Tensor]]:
    """What makes products' input of messages; with the typed layer behind it where there is one."""
    divisor = 1.0 if layer.density is not None else layer.avg_num_neighbors
    plain = [w.detach() / (sqrt(w.shape[0]) * divisor) for w in layer.convolution.mix]
    counts = [n for _, n in layer.convolution.plan.master.output_shapes]
    if layer.residual:
        return [[square(w, n) for w, n in zip(plain, counts, strict=True)]]
    return [
        [square(w @ skip[l, k], n) for l, (w, n) in enumerate(zip(plain, counts, strict=True))]
        for k in range(skip.shape[1])
    ]


def _paths(convolution: Convolution) -> tuple[Paths, Tensor | None, Rows]:
    shapes = convolution.plan.master.output_shapes
    n_harmonics = convolution.plan.master.n_harmonics
    numbers: list[list[int]] = []
    columns, row, term = [], 0, 0
    starts = np.cumsum([0] + [d * n for d, n in shapes])
    seen = [0] * len(shapes)
    rows: list[tuple[int, int, int]] = []
    for l1, l2, l3 in convolution.paths:
        d2, d3, n = 2 * l2 + 1, 2 * l3 + 1, shapes[l3][1]
        numbers.append([l2 * l2, d2, row, d3, term])
        rows += [(int(starts[l3]), d3 * n, m * n + seen[l3]) for m in range(d3)]
        seen[l3] += 1
        block = torch.zeros(n_harmonics, d2, d3, dtype=torch.float64)
        block[l1 * l1 : (l1 + 1) ** 2] = sqrt(d3) * clebsch_gordan(l2, l1, l3).transpose(0, 1)
        columns.append(block.flatten(1))
        row, term = row + d3, term + d2 * d3
    coupling = torch.cat(columns, 1)
    identity = coupling.shape[0] == coupling.shape[1] and torch.allclose(
        coupling, torch.eye(n_harmonics, dtype=torch.float64), rtol=0, atol=1e-12
    )
    paths = Paths(*(np.array(x, np.int64) for x in zip(*numbers, strict=True)))
    places = Rows(*(np.array(x, np.int64) for x in zip(*rows, strict=True)))
    return paths, None if identity else coupling, places


def _product(product: ProductBasis) -> tuple[list[Tensor], Tree]:
    """Weights per type and the tree of monomials."""
    plan = product.plan.master
    n_monomials = len(plan.first) + sum(len(a) for a, _ in plan.steps)
    needed = torch.cat(
        [
            c.reshape(c.shape[0], d, n_monomials).abs().amax(0) > 0
            for c, d in zip(plan.coefficients, plan.components, strict=True)
        ]
    )
    tree, monomial, output = _tree(plan, needed)
    channels = product.weights[0].shape[2]
    extra = padded(channels) - channels
    weights = []
    for kind in range(product.types):
        dense = torch.cat(
            [
                torch.einsum("hc,hdk->dkc", w[kind].detach(), c.to(w).reshape(c.shape[0], d, n_monomials))
                for w, c, d in zip(product.weights, plan.coefficients, plan.components, strict=True)
            ]
        )
        entries = pad(dense[output, monomial], (0, extra))
        weights.append(entries.unflatten(1, (-1, WIDE)).transpose(0, 1).contiguous().flatten())
    return weights, tree


def _tree(plan: ContractionPlan, needed: Tensor) -> tuple[Tree, Tensor, Tensor]:
    """Arrange the monomials by parent; also the monomial and the output of each weight."""
    parents, factors, before = [-1] * len(plan.first), plan.first.tolist(), 0
    for origin, multiplier in plan.steps:
        at = len(parents)
        parents += [before + p for p in origin.tolist()]
        factors += multiplier.tolist()
        before = at
    children: dict[int, list[int]] = {-1: []}
    for k, p in enumerate(parents):
        children.setdefault(p, []).append(k)
    numbering = {k: n for n, k in enumerate(sorted(children))}
    parent: list[int] = []
    factor: list[int] = []
    run: list[int] = []
    output: list[int] = []
    first: list[int] = []
    feature: list[int] = []
    monomial: list[int] = []
    for k in sorted(children):
        parent.append(numbering[parents[k]] if k >= 0 else 0)
        factor.append(factors[k] if k >= 0 else 0)
        run.append(len(output))
        for o in range(len(needed)):
            found = [c for c in children[k] if needed[o, c]]
            if found:
                output.append(o)
                first.append(len(monomial))
                feature += [factors[c] for c in found]
                monomial += found
    columns = (parent, factor, [*run, len(output)], output, [*first, len(monomial)], feature)
    outputs = np.repeat(output, np.diff(columns[4]))
    return Tree(*(np.array(x, np.int64) for x in columns)), torch.tensor(monomial), torch.from_numpy(outputs)


class Radial:
    """(r, kind) → R [n, couplings·padded channels (+ 1 for the density)] of one layer.

    kind is type i · types + type j with the Agnesi transform, otherwise 0.
    """

    def __init__(self, model: "MACE", layer: "MACELayer") -> None:
        self.model, self.layer = model, layer
        self.couplings = layer.convolution.n_couplings
        self.extra = padded(model.embedding.shape[1]) - model.embedding.shape[1]

    def features(self, r: Tensor, kind: int) -> Tensor:
        """The envelope, and the basis (times the envelope where that comes before the network)."""
        m, n_types = self.model, len(self.model.elements)
        envelope = polynomial(r / m.cutoff, m.envelope_power)[:, None]
        distance = r
        if m.distance_transform == "agnesi":
            a, b = m._radii[kind // n_types].to(r), m._radii[kind % n_types].to(r)
            distance = agnesi(r, (0.5 * (a + b)).expand_as(r))
        basis = m.radial_basis(distance)
        return torch.cat([envelope, basis if m.envelope_after_network else basis * envelope], 1)

    def __call__(self, r: Tensor, kind: int) -> Tensor:
        x = self.features(r, kind)
        envelope, x = x[:, :1], x[:, 1:]
        return self._arranged(self.layer.radial(x), self._density(x), envelope)

    def both(self, r: Tensor, kind: int) -> tuple[Tensor, Tensor]:
        """R and ∂R/∂r, by carrying the derivative forward through the network."""
        x, slope = value_and_slope(self.features, r, kind)
        envelope, x = x[:, :1], x[:, 1:]
        envelope_slope, slope = slope[:, :1], slope[:, 1:]
        with torch.no_grad():
            value, value_slope = self.layer.radial.with_slope(x, slope)
            density, density_slope = self._density(x), None
            if self.layer.density is not None:
                d, d_slope = self.layer.density.with_slope(x, slope)
                density = torch.tanh(d * d)
                density_slope = (1.0 - density * density) * 2.0 * d * d_slope
            out = self._arranged(value, density, envelope)
            out_slope = self._arranged(value_slope, density_slope, envelope)
            if self.model.envelope_after_network:
                out_slope = out_slope + self._arranged(value, density, envelope_slope)
        return out, out_slope

    def _density(self, x: Tensor) -> Tensor | None:
        return None if self.layer.density is None else torch.tanh(self.layer.density(x) ** 2)

    def _arranged(self, value: Tensor, density: Tensor | None, envelope: Tensor) -> Tensor:
        if self.extra:
            value = pad(value.unflatten(1, (self.couplings, -1)), (0, self.extra)).flatten(1)
        out = value if density is None else torch.cat([value, density], 1)
        return out * envelope if self.model.envelope_after_network else out


def radial_functions(model: "MACE") -> list[Radial]:
    """The radial function of every layer."""
    return [Radial(model, layer) for layer in model.layers]  # type: ignore[arg-type]


def _of_logarithm(f: RadialFunction, offset: float) -> RadialFunction:
    return lambda x, kind: f(torch.exp(x) - offset, kind)


def tables_of(model: "MACE", tolerance: float, max_intervals: int = 4096) -> list[SplineTable]:
    """Splines of every layer on common knots, relative errors in value and slope (per Å) below `tolerance`.

    `model` is a float64 copy. Raises ValueError where `max_intervals` do not suffice.
    """
    transform = model.distance_transform
    kinds = len(model.elements) ** 2 if transform == "agnesi" else 1
    offset = OFFSET[transform]
    ends, steepest = (SHORTEST[transform], model.cutoff), 1.0
    if offset:
        steepest = 1.0 / (ends[0] + offset)
        ends = (log(ends[0] + offset), log(ends[1] + offset))
    functions: list[RadialFunction] = list(radial_functions(model))
    if offset:
        functions = [_of_logarithm(f, offset) for f in functions]
    intervals, found = 64, 0.0
    while intervals <= max_intervals:
        tables = []
        for f in functions:
            tables.append(spline_table(f, n_kinds=kinds, start=ends[0], stop=ends[1], intervals=intervals))
            found = max(tables[-1].value_error, tables[-1].slope_error * steepest)
            if not found <= tolerance:
                break
        else:
            return tables
        intervals *= 2
    raise ValueError(
        f"The radial networks cannot be tabulated: {max_intervals} intervals leave a relative error of "
        f"{found:.1e}; allowed is {tolerance:.1e}. Use program(tabulate=False) or a larger tolerance."
    )


def folded(table: Tensor, layer: Layer, n_density: int) -> Tensor:
    """The first layer's table with the senders' features and the centre's mixing in it, one per type pair.

    M_i = Σ_j Y R(r_ij)·h_j W_i = Σ_j Y R'_ij(r_ij): no matrix products are left in the layer.
    `table` is [rows, couplings·channels + density], the result [types², rows, columns].
    """
    n_types, channels = layer.up[0].shape
    n = table.shape[1] - n_density
    radial = table[:, :n].unflatten(1, (-1, channels))
    out = []
    for i in range(n_types):
        mix = layer.mix[i if len(layer.mix) > 1 else 0]
        for j in range(n_types):
            parts = [(radial[:, l] * layer.up[0][j]) @ w for l, w in enumerate(mix)]
            out.append(torch.cat([*parts, table[:, n:]], 1))
    return torch.stack(out)
