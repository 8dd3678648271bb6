"""The weights of a NequIP arranged for its compiled program: scaled, padded, multiplied out, tabulated.

Channels are padded with zeros to a multiple of 32. In the first layer only the elements' vectors are
features, so its radial functions are multiplied with these and with its linear map once: one function for
each element of the neighbour, and no matrix product is left.
"""

from dataclasses import dataclass
from math import exp, floor, log, sqrt
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from rikiba.kernels.gate_cpu import SIGMOID, SILU, TANH, Gates
from rikiba.kernels.irrep_message_cpu import MOST_TERMS, Couplings, Places
from rikiba.kernels.lanes import LANES
from rikiba.nn.cutoff import polynomial, xplor
from rikiba.nn.irrep_layers import IrrepLinear, Path, SelfConnection
from rikiba.nn.irreps import Irrep, Irreps
from rikiba.nn.mlp import unit_variance_factor
from rikiba.nn.so3 import clebsch_gordan
from rikiba.nn.tabulation import RadialFunction, spline_table, value_and_slope

if TYPE_CHECKING:
    from .nequip import NequIP, NequIPLayer

SHORTEST = 0.2
"""Where tables start, Å (or a little beyond)."""
OFFSET = 0.2
"""Tables have equal steps in ln(r + OFFSET): what networks make of 1/r changes fastest at small r. Å."""
_SIDE = 1e-12
_MOST_INTERVALS = 4096
_CODES = {"silu": SILU, "tanh": TANH, "sigmoid": SIGMOID}


class Block(NamedTuple):
    """One representation in a packed array."""

    d: int
    channels: int
    """Padded."""


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """One layer. A list over types has one entry where all types share it."""

    couplings: Couplings
    columns: int
    """Of R."""
    places: Places
    inputs: list[Block]
    """Features."""
    message: list[Block]
    """Of each representation before the gate: its couplings side by side."""
    ungated: list[Block]
    outputs: list[Block]
    gates: Gates
    up: list[list[Tensor]]
    """[types][input]; empty in the first layer."""
    up_bias: list[Tensor]
    """[types], or empty."""
    mix: list[Tensor]
    """[representation]; empty in the first layer."""
    skip: list[list[tuple[int, int, Tensor]]]
    """[types]: (input, representation, weights); empty in the first layer or without self-connection."""
    row: list[Tensor]
    """[types]: added to the scalars; or empty."""


def padded(n: int) -> int:
    """The next multiple of 32."""
    return -(-n // (2 * LANES)) * (2 * LANES)


def _spread(w: Tensor, sizes: list[int], dim: int) -> Tensor:
    """Blocks of these sizes along `dim`, each filled up with zeros to a multiple of 32."""
    parts = [p.movedim(dim, -1) for p in w.detach().split(sizes, dim)]
    wide = torch.cat([pad(p, (0, padded(n) - n)) for p, n in zip(parts, sizes, strict=True)], -1)
    return wide.movedim(-1, dim).contiguous()


class Shapes:
    """Representations of one layer and where they stand, padded."""

    def __init__(self, layer: "NequIPLayer", irreps_in: Irreps) -> None:
        self.layer, self.irreps_in, self.irreps_out = layer, irreps_in, layer.irreps_out
        self.inputs = [n for n, _ in irreps_in.terms]
        self.scalars = [layer.n_scalars, *layer.n_gates]
        """Parts of the even scalars before the gate."""
        self.ungated = [self.scalars, *([n] for n, _ in layer.irreps_out.terms[1:])]
        """For each representation before the gate, its parts."""
        self.widths = [sum(padded(n) for n in parts) for parts in self.ungated]
        self.irreps = [ir for _, ir in layer.irreps_out.terms]
        self.order = [p for s in layer.convolution.streams for p in s.paths]
        """Couplings in the order of the columns of R."""

    def channels(self, path: Path) -> int:
        """Of the features that it reads."""
        return next(n for n, ir in self.irreps_in.terms if ir == path.features)

    def into(self, output: Irrep) -> list[Path]:
        """Couplings to an output in the order of the rows of its linear map."""
        return [p for s in self.layer.convolution.streams for p in s.paths_to(output)]


def layers_of(model: "NequIP") -> list[Layer]:
    """Every layer in the potential's dtype; nothing shares memory with the potential."""
    found = []
    for t, layer in enumerate(model.layers):
        found.append(_layer(model, layer, model.hidden[t], t == 0))  # type: ignore[arg-type]
    return found


def _layer(model: "NequIP", layer: "NequIPLayer", irreps_in: Irreps, first: bool) -> Layer:
    s = Shapes(layer, irreps_in)
    dtype = model.embedding.dtype
    ungated = [Block(ir.dim, w) for ir, w in zip(s.irreps, s.widths, strict=True)]
    outputs = [Block(ir.dim, padded(n)) for n, ir in s.irreps_out.terms]
    inputs = [Block(ir.dim, padded(n)) for n, ir in irreps_in.terms]
    message = [Block(ir.dim, sum(padded(s.channels(p)) for p in s.into(ir))) for ir in s.irreps]
    rows = _rows(model, s) if first else []
    if layer.bias_out is not None:
        bias = _spread(layer.bias_out, s.scalars, 0)
        rows = [r + bias for r in rows] if rows else [bias]
    if first:  # one coupling for each representation, its columns those of the linear map
        inputs = message = ungated
    return Layer(
        couplings=_couplings(s, inputs, model, first),
        columns=sum(s.widths) if first else sum(padded(s.channels(p)) for p in s.order),
        places=_places(s, message, first),
        inputs=inputs,
        message=message,
        ungated=ungated,
        outputs=outputs,
        gates=_gates(s, ungated, outputs, dtype),
        up=[] if first else _up(model, s),
        up_bias=[] if first or layer.bias_in is None else _up_bias(model, s),
        mix=[] if first else _mix(s),
        skip=[] if first or layer.skip is None else _skips(model, s, layer.skip),
        row=rows,
    )


def _couplings(s: Shapes, inputs: list[Block], model: "NequIP", first: bool) -> Couplings:
    starts = np.cumsum([0] + [b.d * b.channels for b in inputs])
    n_lm, dtype = (model.l_max + 1) ** 2, model.embedding.dtype
    lines: list[tuple[int, int, int, int, int, int]] = []
    targets: list[int] = []
    columns: list[Tensor] = []
    column = at = 0
    for path in _ordered(s, first):
        block = s.irreps.index(path.output) if first else _index(s.irreps_in, path.features)
        channels, d2, d3 = inputs[block].channels, path.features.dim, path.output.dim
        c = clebsch_gordan(path.features.l, path.harmonics, path.output.l) * sqrt(d3)
        for m2 in range(d2):
            found = [m3 for m3 in range(d3) if bool(c[m2, :, m3].any())]
            parts = -(-len(found) // MOST_TERMS)
            for part in (found[k::parts] for k in range(parts)):
                start = 0 if first else int(starts[block])
                lines.append((start, d2 * channels, m2 * channels, channels, column, len(targets)))
                for m3 in part:
                    full = torch.zeros(n_lm, dtype=torch.float64)
                    full[path.harmonics**2 : (path.harmonics + 1) ** 2] = c[m2, :, m3]
                    columns.append(full)
                    targets.append(at + m3 * channels)
        column, at = column + channels, at + d3 * channels
    matrix = torch.stack(columns, 1)
    entries = [matrix[k].nonzero().flatten() for k in range(n_lm)]
    values = torch.cat([matrix[k][e] for k, e in enumerate(entries)]).to(dtype)
    wide = pad(matrix, (0, -matrix.shape[1] % LANES)).to(dtype)
    feature, size, shift, width, column_of, terms = (np.array(x) for x in zip(*lines, strict=True))
    first_entry = np.cumsum([0, *map(len, entries)]).astype(np.int64)
    return Couplings(
        feature, size, shift, width, column_of, np.append(terms, len(targets)), np.array(targets),
        wide.flatten().numpy(), first_entry, torch.cat(entries).numpy(), values.numpy(),
    )  # fmt: skip


def _index(irreps: Irreps, ir: Irrep) -> int:
    return [x for _, x in irreps.terms].index(ir)


def _ordered(s: Shapes, first: bool) -> list[Path]:
    """The first layer's couplings in the order of its outputs, of which each has one."""
    return [p for ir in s.irreps for p in s.into(ir)] if first else s.order


def _places(s: Shapes, message: list[Block], first: bool) -> Places:
    blocks = np.cumsum([0] + [b.d * b.channels for b in message])
    inner = {}
    for o, ir in enumerate(s.irreps):
        k = 0
        for path in s.into(ir):
            inner[path] = (o, k)
            k += message[o].channels if first else padded(s.channels(path))
    rows, at = [], 0
    for path in _ordered(s, first):
        o, k = inner[path]
        block = message[o]
        channels = block.channels if first else padded(s.channels(path))
        for m in range(block.d):
            rows.append((at, channels, int(blocks[o]), block.d * block.channels, m * block.channels + k))
            at += channels
    return Places(*(np.array(x, np.int64) for x in zip(*rows, strict=True)))


def _gates(s: Shapes, ungated: list[Block], outputs: list[Block], dtype: torch.dtype) -> Gates:
    before = np.cumsum([0] + [b.d * b.channels for b in ungated]).tolist()
    after = np.cumsum([0] + [b.d * b.channels for b in outputs]).tolist()
    column = padded(s.scalars[0])
    rows: list[tuple[int, ...]] = []
    factors = []
    for k, (ir, out) in enumerate(zip(s.irreps, outputs, strict=True)):
        name = s.layer.activation if k == 0 else "tanh" if ir.l == 0 else s.layer.gate_activation
        gate = -1
        if ir.l:
            gate, column = column, column + out.channels
        width = ungated[k].channels
        rows.append((out.d, out.channels, before[k], width, gate, after[k], _CODES[name]))
        factors.append(unit_variance_factor(name))
    d, channels, start, row, gates, after, code = (np.array(x) for x in zip(*rows, strict=True))
    factor = torch.tensor(factors, dtype=torch.float64).to(dtype).numpy()
    return Gates(d, channels, start, row, gates, after, code, factor)


def _normalisation(model: "NequIP") -> list[float]:
    """Of each type where they differ, otherwise 1: layers then have it in their factor."""
    n = model._normalisation
    return n.tolist() if n.numel() > 1 else [1.0]


def _up(model: "NequIP", s: Shapes) -> list[list[Tensor]]:
    linear: IrrepLinear = s.layer.up
    plain = [
        _spread(_spread(w * (s.layer.factor / sqrt(w.shape[0])), [w.shape[0]], 0), [w.shape[1]], 1)
        for w in linear.weights
    ]
    return [[w * n for w in plain] for n in _normalisation(model)]


def _up_bias(model: "NequIP", s: Shapes) -> list[Tensor]:
    assert s.layer.bias_in is not None
    bias = _spread(s.layer.bias_in * s.layer.factor, [len(s.layer.bias_in)], 0)
    return [bias * n for n in _normalisation(model)]


def _mix(s: Shapes) -> list[Tensor]:
    out = []
    for k, (ir, w) in enumerate(zip(s.irreps, s.layer.convolution.mix, strict=True)):
        rows = [s.channels(p) for p in s.into(ir)]
        out.append(_spread(_spread(w * (1.0 / sqrt(w.shape[0])), rows, 0), s.ungated[k], 1))
    return out


def _skips(model: "NequIP", s: Shapes, skip: SelfConnection) -> list[list[tuple[int, int, Tensor]]]:
    kinds: list[list[tuple[int, int, Tensor]]] = []
    for (a, b), w in zip(skip.pairs, skip.weights, strict=True):
        w = w.detach() * (1.0 / sqrt(w.shape[0] * w.shape[1]))
        if skip.kind == "embedding":
            w = (model.embedding.detach() @ w.flatten(1)).unflatten(1, w.shape[1:])
        for k, one in enumerate(w):
            wide = _spread(_spread(one, [one.shape[0]], 0), s.ungated[b], 1)
            kinds += [[]] if len(kinds) <= k else []
            kinds[k].append((a, b, wide))
    return kinds


def _rows(model: "NequIP", s: Shapes) -> list[Tensor]:
    """The first layer's self-connection of each type."""
    if s.layer.skip is None:
        return []
    kinds = _skips(model, s, s.layer.skip)
    rows = []
    for k, vector in enumerate(model.embedding.detach()):
        wide = pad(vector, (0, padded(len(vector)) - len(vector)))
        ((_, _, w),) = kinds[k if len(kinds) > 1 else 0]
        rows.append(wide @ w)
    return rows


class Radial:
    """(r, kind) → R [n, columns] of one layer; of the first, with its maps, for senders of type `kind`."""

    def __init__(self, model: "NequIP", number: int) -> None:
        self.model, self.number = model, number
        self.layer: NequIPLayer = model.layers[number]  # type: ignore[assignment]
        self.shapes = Shapes(self.layer, model.hidden[number])
        self.sizes = [self.shapes.channels(p) for p in self.shapes.order]
        self.powers = [p.harmonics if model.solid_harmonics else 0 for p in self.shapes.order]

    def features(self, r: Tensor, kind: int) -> Tensor:
        """What the network reads."""
        m = self.model
        x = r / m.cutoff
        if m.xplor_start is None:
            envelope = polynomial(x, m.envelope_power)
        else:
            envelope = xplor(x, m.xplor_start / m.cutoff)
        return m.radial_basis(r) * ((2.0 / m.cutoff) * envelope)[:, None]

    def plain(self, r: Tensor) -> tuple[Tensor, Tensor]:
        """R and ∂R/∂r without the first layer's maps, by carrying the derivative forward."""
        x, slope = value_and_slope(self.features, r, 0)
        with torch.no_grad():
            value, slope = self.layer.radial.with_slope(x, slope)
            if any(self.powers):
                length, power = r[:, None], self._columns(self.powers)
                slope = slope * length**power + value * power * length ** (power - 1.0)
                value = value * length**power
            return value, slope

    def __call__(self, r: Tensor, kind: int) -> Tensor:
        """Differentiable in r; without the first layer's maps."""
        value = self.layer.radial(self.features(r, kind))
        if any(self.powers):
            value = value * r[:, None] ** self._columns(self.powers)
        return value

    def _columns(self, numbers: list[int]) -> Tensor:
        dtype = self.model.embedding.dtype
        return torch.cat(
            [torch.full((n,), float(k), dtype=dtype) for n, k in zip(self.sizes, numbers, strict=True)]
        )

    def arranged(self, x: Tensor, kind: int) -> Tensor:
        """Columns as the kernels read them."""
        if self.number:
            return _spread(x, self.sizes, 1)
        s, m = self.shapes, self.model
        norm = _normalisation(m)
        vector = self.layer.up({0: m.embedding[kind : kind + 1]}, self.layer.factor)[0]  # type: ignore[arg-type]
        if self.layer.bias_in is not None:
            vector = vector + self.layer.factor * self.layer.bias_in
        vector = vector.detach() * norm[kind if len(norm) > 1 else 0]
        parts = dict(zip(s.order, x.split(self.sizes, 1), strict=True))
        out = []
        for k, (ir, w) in enumerate(zip(s.irreps, self.layer.convolution.mix, strict=True)):
            (path,) = s.into(ir)
            w = w.detach() * (1.0 / sqrt(w.shape[0]))
            out.append(_spread((parts[path] * vector) @ w, s.ungated[k], 1))
        return torch.cat(out, 1)


@dataclass(frozen=True, slots=True, eq=False)
class Tables:
    """Splines of all layers' radial functions on common knots, in one piece or two that meet at a knot.

    Knots are equally spaced in x = ln(r + OFFSET). A piece of n intervals has n + 5 rows.
    """

    coefficients: list[Tensor]
    """[rows, columns] of each layer."""
    start: float
    """In x."""
    spacing: float
    """In x."""
    pieces: tuple[int, ...]
    """Intervals of each piece."""
    error: float
    """Largest relative error of a value or (per Å) of a slope."""


def tables_of(model: "NequIP", tolerance: float) -> Tables:
    """Tables of every layer with relative errors in value and slope (per Å) below `tolerance`.

    `model` is a float64 copy. Where the envelope begins with a kink in its second derivative (xplor), so does
    a new piece. Raises ValueError where 4096 intervals do not suffice.
    """
    functions = [_of_logarithm(Radial(model, t)) for t in range(model.n_layers)]
    intervals, found = 64, 0.0
    while intervals <= _MOST_INTERVALS:
        pieces, start, spacing = _pieces(model, intervals)
        coefficients, worst = [], 0.0
        for f in functions:
            c, found = _spline(f, pieces, start, spacing)
            if not found <= tolerance:
                break
            worst = max(worst, found)
            coefficients.append(c)
        else:
            return Tables(coefficients, start, spacing, pieces, worst)
        intervals *= 2
    raise ValueError(
        f"The radial networks cannot be tabulated: {_MOST_INTERVALS} intervals leave a relative error of "
        f"{found:.1e}; allowed is {tolerance:.1e}. Use program(tabulate=False) or a larger tolerance."
    )


def _of_logarithm(f: RadialFunction) -> RadialFunction:
    return lambda x, kind: f(torch.exp(x) - OFFSET, kind)


def _spline(f: RadialFunction, pieces: tuple[int, ...], start: float, spacing: float) -> tuple[Tensor, float]:
    """Coefficients of all pieces, and the largest relative error."""
    tables, at = [], start
    for n in pieces:
        # one-sided at the ends, where the second derivative may jump
        tables.append(
            spline_table(f, n_kinds=1, start=at + _SIDE, stop=at + n * spacing - _SIDE, intervals=n)
        )
        at += n * spacing
    steepest = exp(-start)
    sizes = [float(t.coefficients.abs().max()) for t in tables]
    errors = [max(t.value_error, t.slope_error * steepest) * n for t, n in zip(tables, sizes, strict=True)]
    error = float(torch.tensor(errors).max()) / (max(sizes) or 1.0)  # NaN stays
    return torch.cat([t.coefficients[0] for t in tables]), error


def _pieces(model: "NequIP", intervals: int) -> tuple[tuple[int, ...], float, float]:
    """(intervals of each piece, start, spacing)."""
    start, stop = log(SHORTEST + OFFSET), log(model.cutoff + OFFSET)
    if model.xplor_start is None or model.xplor_start <= SHORTEST:
        return (intervals,), start, (stop - start) / intervals
    kink = log(model.xplor_start + OFFSET)
    outer = max(6, round(intervals * (stop - kink) / (stop - start)))
    spacing = (stop - kink) / outer
    inner = max(6, floor((kink - start) / spacing + 1e-9))
    return (inner, outer), kink - inner * spacing, spacing
