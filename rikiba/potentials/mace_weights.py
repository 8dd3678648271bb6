"""The weights of a MACE arranged for its compiled program: scaled, multiplied out, padded, tabulated.

Consecutive linear maps are multiplied out once: what mixes couplings with a typed linear layer behind it, the
last layer's linear maps with its read-out. Channels are padded with zeros to a multiple of 16.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from rikiba.kernels.contraction_cpu import Tree
from rikiba.kernels.lanes import LANES
from rikiba.kernels.message_cpu import Paths, Rows
from rikiba.kernels.symmetric_contraction import ContractionPlan
from rikiba.nn.so3 import clebsch_gordan
from rikiba.nn.cutoff import agnesi, polynomial
from rikiba.nn.equivariant import Convolution, ProductBasis
from rikiba.nn.tabulation import SplineTable, spline_table

if TYPE_CHECKING:
    from .mace import MACE, MACELayer

SHORTEST = {"none": 0.0, "agnesi": 0.2}
"""Where tables start, Å: the Agnesi transform has no fifth derivative at zero distance."""


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
    """[types][degree l3]."""
    tree: Tree
    product: list[Tensor]
    """[types], each [channels/16, weights, 16] flat."""
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
    """The next multiple of 16."""
    return -(-n // LANES) * LANES


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
    readouts = [[m.detach() for m in r.weights] for r in model.readouts]
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


def _layer(layer: "MACELayer", embedding: Tensor | None, head: Tensor | None, readout: Tensor | None) -> Layer:
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
    tree, monomial = _tree(plan, needed)
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
        entries = pad(dense[torch.from_numpy(tree.output), monomial], (0, extra))
        weights.append(entries.unflatten(1, (-1, LANES)).transpose(0, 1).contiguous().flatten())
    return weights, tree


def _tree(plan: ContractionPlan, needed: Tensor) -> tuple[Tree, Tensor]:
    """Arrange the monomials by parent; also the monomial of each weight."""
    parents, factors, before = [-1] * len(plan.first), plan.first.tolist(), 0
    for parent, factor in plan.steps:
        at = len(parents)
        parents += [before + p for p in parent.tolist()]
        factors += factor.tolist()
        before = at
    children: dict[int, list[int]] = {-1: []}
    for k, p in enumerate(parents):
        children.setdefault(p, []).append(k)
    numbering = {k: n for n, k in enumerate(sorted(children))}
    tree = Tree(*([] for _ in Tree._fields))  # type: ignore[arg-type]
    monomial: list[int] = []
    for k in sorted(children):
        tree.parent.append(numbering[parents[k]] if k >= 0 else 0)  # type: ignore[attr-defined]
        tree.factor.append(factors[k] if k >= 0 else 0)  # type: ignore[attr-defined]
        tree.child.append(len(tree.feature))  # type: ignore[attr-defined]
        for c in children[k]:
            tree.feature.append(factors[c])  # type: ignore[attr-defined]
            tree.inner.append(numbering.get(c, -1))  # type: ignore[attr-defined]
            tree.weight.append(len(monomial))  # type: ignore[attr-defined]
            outputs = needed[:, c].nonzero().flatten().tolist()
            tree.output.extend(outputs)  # type: ignore[attr-defined]
            monomial += [c] * len(outputs)
    tree.child.append(len(tree.feature))  # type: ignore[attr-defined]
    tree.weight.append(len(monomial))  # type: ignore[attr-defined]
    return Tree(*(np.array(x, np.int64) for x in tree)), torch.tensor(monomial)


def radial_functions(model: "MACE") -> list[Callable[[Tensor, int], Tensor]]:
    """Per layer, (r, kind) → R [n, couplings·padded channels (+ 1 for the density)].

    kind is type i · types + type j with the Agnesi transform, otherwise 0.
    """
    radii, n_types = model._radii, len(model.elements)
    extra = padded(model.embedding.shape[1]) - model.embedding.shape[1]

    def features(r: Tensor, kind: int) -> tuple[Tensor, Tensor]:
        envelope = polynomial(r / model.cutoff, model.envelope_power)[:, None]
        distance = r
        if model.distance_transform == "agnesi":
            a, b = radii[kind // n_types].to(r), radii[kind % n_types].to(r)
            distance = agnesi(r, (0.5 * (a + b)).expand_as(r))
        return model.radial_basis(distance), envelope

    def of(layer: "MACELayer") -> Callable[[Tensor, int], Tensor]:
        def radial(r: Tensor, kind: int) -> Tensor:
            x, envelope = features(r, kind)
            after = envelope if model.envelope_after_network else torch.ones_like(envelope)
            x = x if model.envelope_after_network else x * envelope
            n = layer.convolution.n_couplings
            out = pad((layer.radial(x) * after).unflatten(1, (n, -1)), (0, extra)).flatten(1)
            if layer.density is None:
                return out
            return torch.cat([out, torch.tanh(layer.density(x) ** 2) * after], 1)

        return radial

    return [of(layer) for layer in model.layers]  # type: ignore[arg-type]


def tables_of(model: "MACE", tolerance: float, max_intervals: int = 4096) -> list[SplineTable]:
    """Splines of every layer on common knots, relative errors in value and slope (per Å) below `tolerance`.

    `model` is a float64 copy. Raises ValueError where `max_intervals` do not suffice.
    """
    kinds = len(model.elements) ** 2 if model.distance_transform == "agnesi" else 1
    functions, start = radial_functions(model), SHORTEST[model.distance_transform]
    intervals, found = 64, 0.0
    while intervals <= max_intervals:
        tables = []
        for f in functions:
            tables.append(
                spline_table(f, n_kinds=kinds, start=start, stop=model.cutoff, intervals=intervals)
            )
            found = max(tables[-1].value_error, tables[-1].slope_error)
            if found > tolerance:
                break
        else:
            return tables
        intervals *= 2
    raise ValueError(
        f"The radial networks cannot be tabulated: {max_intervals} intervals leave a relative error of "
        f"{found:.1e}; allowed is {tolerance:.1e}. Use program(tabulate=False) or a larger tolerance."
    )
