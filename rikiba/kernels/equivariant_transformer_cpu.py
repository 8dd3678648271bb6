"""A whole equivariant transformer as one compiled function, there and back; see the potential of its name."""

from typing import NamedTuple

import numpy as np

from .attention_message_cpu import (
    attention_messages,
    attention_messages_reverse,
    own_attention,
    own_attention_reverse,
)
from .compiled import compiled
from .dense_cpu import dense
from .filter_message_cpu import scalar_messages, scalar_messages_reverse
from .gated_vector_block_cpu import GatedReadout, gated_readout, gated_readout_space
from .lanes import LANES, add, load, multiply, multiply_add, splat, store
from .layer_norm_cpu import layer_norm, layer_norm_reverse
from .workspace_cpu import carved

CHUNK = 16
"""Atoms whose arrays stay in cache between the steps of a layer."""


class TransformerWeights(NamedTuple):
    """Channels c in the order of `attention_message_cpu`, filled up with zeros to a multiple of 32."""

    channels: int
    """Without padding."""
    group: int
    """Heads, filled up to a power of two."""
    start: np.ndarray
    """x of an atom without neighbours before the first layer, [types·c]."""
    neighbour: np.ndarray
    """b of the embedding, [types·c]."""
    seen: np.ndarray
    """Panels c → c of the neighbours' part of the embedding."""
    seen_back: np.ndarray
    norms: np.ndarray
    """Weights, then biases, of every layer's norm and of the last, [layers + 1, 2, c]."""
    project: np.ndarray
    """Panels c → 5c to q, k, s¹, s², s³, layer after layer."""
    project_back: np.ndarray
    project_bias: np.ndarray
    own: np.ndarray
    """K, V¹, V² at r = 0, [layers, 3, c]."""
    output: np.ndarray
    """Panels c → 3c."""
    output_back: np.ndarray
    output_bias: np.ndarray
    mix: np.ndarray
    """Panels c → 3c, of the first layer too (not read)."""
    mix_back: np.ndarray
    readout: GatedReadout


class _Space(NamedTuple):
    """Arrays of one sweep, flat; what a layer reads and keeps, layer after layer."""

    x: np.ndarray
    v: np.ndarray
    q: np.ndarray
    second: np.ndarray
    """s²."""
    features: np.ndarray
    """k, s¹, s³ and s²∘v, which neighbours read."""
    o: np.ndarray
    u: np.ndarray
    g: np.ndarray
    """∂E/∂x."""
    g_v: np.ndarray
    g_q: np.ndarray
    back: np.ndarray
    """∂E/∂(features)."""
    rows: np.ndarray
    """A chunk's rows, 9c."""
    wide: np.ndarray
    """A chunk's rows, 9c."""
    hold: np.ndarray
    end: np.ndarray


@compiled
def _sizes(n, net, layers):  # type: ignore[no-untyped-def]
    """Of the arrays in `_Space`, in order."""
    c = len(net.norms) // (2 * layers + 2)
    nc = n * c
    return (
        (layers + 1) * nc, (layers + 1) * 3 * nc, layers * nc, layers * nc, layers * 6 * nc, layers * 3 * nc,
        layers * 9 * nc, nc, 3 * nc, nc, 6 * nc, CHUNK * 9 * c, CHUNK * 9 * c, 8 * c,
        gated_readout_space(CHUNK, net.readout),
    )  # fmt: skip


@compiled
def transformer_space(n, net, layers):  # type: ignore[no-untyped-def]
    """How many numbers `transformer_sweep` needs as its `space` for n atoms."""
    return sum(_sizes(n, net, layers))


@compiled
def _project(t, a, b, n, c, net, s):  # type: ignore[no-untyped-def]
    """Queries and what neighbours read of atoms a … b − 1 in layer t."""
    h, y, rows, at = s.rows, s.wide, b - a, (t * n + a) * c
    h[: rows * c] = s.x[at : at + rows * c]
    for k in range(rows):
        layer_norm(h, k * c, c, net.channels, net.norms[2 * t * c :])
    dense(
        h, 0, c, rows, c, net.project, t * 5 * c * c, net.project_bias, t * 5 * c, y, 0, 5 * c, 5 * c, False
    )
    for k in range(rows):
        o, one, six, v3 = 5 * k * c, at + k * c, 6 * (at + k * c), 3 * (at + k * c)
        for v in range(0, c, LANES):
            store(s.q, one + v, load(y, o + v))
            store(s.features, six + v, load(y, o + c + v))
            store(s.features, six + c + v, load(y, o + 2 * c + v))
            second = load(y, o + 3 * c + v)
            store(s.second, one + v, second)
            store(s.features, six + 2 * c + v, load(y, o + 4 * c + v))
            for d in range(3):
                store(s.features, six + (3 + d) * c + v, multiply(second, load(s.v, v3 + d * c + v)))


@compiled
def _project_reverse(t, a, b, n, c, net, s):  # type: ignore[no-untyped-def]
    """From ∂E/∂q and ∂E/∂(features) to ∂E/∂x and ∂E/∂v, added."""
    y, h, rows, at = s.wide, s.rows, b - a, (t * n + a) * c
    for k in range(rows):
        o, one, g6, g3, v3 = 5 * k * c, (a + k) * c, 6 * (a + k) * c, 3 * (a + k) * c, 3 * (at + k * c)
        for v in range(0, c, LANES):
            store(y, o + v, load(s.g_q, one + v))
            store(y, o + c + v, load(s.back, g6 + v))
            store(y, o + 2 * c + v, load(s.back, g6 + c + v))
            store(y, o + 4 * c + v, load(s.back, g6 + 2 * c + v))
            sums, second = splat(y.dtype.type(0)), load(s.second, at + k * c + v)
            for d in range(3):
                slope = load(s.back, g6 + (3 + d) * c + v)
                sums = multiply_add(slope, load(s.v, v3 + d * c + v), sums)
                to = g3 + d * c + v
                store(s.g_v, to, multiply_add(slope, second, load(s.g_v, to)))
            store(y, o + 3 * c + v, sums)
    dense(y, 0, 5 * c, rows, 5 * c, net.project_back, t * 5 * c * c, y[:0], 0, h, 0, c, c, False)
    for k in range(rows):
        layer_norm_reverse(s.x, at + k * c, c, net.channels, net.norms[2 * t * c :], h, k * c)
    for v in range(0, rows * c, LANES):
        store(s.g, a * c + v, add(load(s.g, a * c + v), load(h, v)))


@compiled
def _update(t, a, b, n, c, net, s):  # type: ignore[no-untyped-def]
    """x and v of atoms a … b − 1 after layer t, from y in the rows and w where v shall be."""
    rows, at, to = b - a, (t * n + a) * c, ((t + 1) * n + a) * c
    dense(
        s.rows, 0, c, rows, c, net.output, t * 3 * c * c, net.output_bias, t * 3 * c, s.o, 3 * at, 3 * c,
        3 * c, False,
    )  # fmt: skip
    if t:
        dense(
            s.v, 3 * at, c, 3 * rows, c, net.mix, t * 3 * c * c, s.v[:0], 0, s.u, 9 * at, 3 * c, 3 * c, False
        )
    for k in range(rows):
        o, u, p, q = 3 * (at + k * c), 9 * (at + k * c), at + k * c, to + k * c
        for v in range(0, c, LANES):
            new = add(load(s.x, p + v), load(s.o, o + 2 * c + v))
            if t:
                dot, first = splat(s.x.dtype.type(0)), load(s.o, o + v)
                for d in range(3):
                    m = u + 3 * d * c + v
                    dot = multiply_add(load(s.u, m), load(s.u, m + c), dot)
                    z = 3 * q + d * c + v
                    moved = add(load(s.v, z), load(s.v, 3 * p + d * c + v))
                    store(s.v, z, multiply_add(first, load(s.u, m + 2 * c), moved))
                new = multiply_add(dot, load(s.o, o + c + v), new)
            store(s.x, q + v, new)


@compiled
def _update_reverse(t, a, b, n, c, net, s):  # type: ignore[no-untyped-def]
    """From ∂E/∂x and ∂E/∂v after layer t: ∂E/∂y and ∂E/∂w to the rows, [c] and [3, c]; what v adds to itself.

    ∂E/∂w is kept apart, for ∂E/∂v changes in place.
    """
    y, rows, at = s.wide, b - a, (t * n + a) * c
    g_w = s.rows[CHUNK * c :]
    g_w[: rows * 3 * c] = s.g_v[3 * a * c : 3 * b * c]
    for k in range(rows):
        o, u, g, to = 3 * (at + k * c), 9 * (at + k * c), (a + k) * c, 3 * k * c
        for v in range(0, c, LANES):
            slope, dot, along = load(s.g, g + v), splat(y.dtype.type(0)), splat(y.dtype.type(0))
            if t:
                first, second = load(s.o, o + v), multiply(slope, load(s.o, o + c + v))
                for d in range(3):
                    m = u + 3 * d * c + v
                    u1, u2, u3 = load(s.u, m), load(s.u, m + c), load(s.u, m + 2 * c)
                    g_d = load(s.g_v, 3 * g + d * c + v)
                    dot, along = multiply_add(u1, u2, dot), multiply_add(g_d, u3, along)
                    store(s.u, m, multiply(second, u2))
                    store(s.u, m + c, multiply(second, u1))
                    store(s.u, m + 2 * c, multiply(g_d, first))
            store(y, to + v, along)
            store(y, to + c + v, multiply(slope, dot))
            store(y, to + 2 * c + v, slope)
    dense(y, 0, 3 * c, rows, 3 * c, net.output_back, t * 3 * c * c, y[:0], 0, s.rows, 0, c, c, False)
    if t:
        dense(
            s.u, 9 * at, 3 * c, 3 * rows, 3 * c, net.mix_back, t * 3 * c * c, y[:0], 0, s.g_v, 3 * a * c, c,
            c, True,
        )  # fmt: skip


@compiled
def _read(layers, a, b, n, c, net, s, scale, energies):  # type: ignore[no-untyped-def]
    """Energies of atoms a … b − 1 and the derivatives of scale·Σ energies by x and v after the last layer."""
    rows, at, norm = b - a, (layers * n + a) * c, net.norms[2 * layers * c :]
    for k in range(rows):
        s.rows[2 * k * c : (2 * k + 1) * c] = s.x[at + k * c : at + (k + 1) * c]
        layer_norm(s.rows, 2 * k * c, c, net.channels, norm)
    gated_readout(rows, s.rows, s.v, 3 * at, net.readout, s.end, scale, energies, a, s.wide, s.g_v, 3 * a * c)
    for k in range(rows):
        layer_norm_reverse(s.x, at + k * c, c, net.channels, norm, s.wide, 2 * k * c)
        s.g[(a + k) * c : (a + k + 1) * c] = s.wide[2 * k * c : (2 * k + 1) * c]


@compiled
def transformer_sweep(  # type: ignore[no-untyped-def]
    types, start, sender, row, weights, table, layers, unit, net, space, scale, energies, slope, unit_slope
):
    """Read-outs of all atoms into `energies`; adds ∂(scale·Σ energies)/∂r and /∂r̂ per pair to the slopes.

    `table` holds the embedding's filters and then those of layer after layer. `space` is overwritten.
    """
    n, c = len(types), len(net.norms) // (2 * layers + 2)
    s = _Space(*carved(space, _sizes(n, net, layers)))
    size, by, nothing, group = len(table) // (4 * layers + 1), types[sender], space[:0], net.group
    s.v[: 3 * n * c] = 0.0
    for a in range(0, n, CHUNK):
        b = min(n, a + CHUNK)
        scalar_messages(a, b, start, by, row, weights, table, 0, net.neighbour, 0, c, s.rows)
        for k in range(a, b):
            s.x[k * c : (k + 1) * c] = net.start[types[k] * c : (types[k] + 1) * c]
        dense(s.rows, 0, c, b - a, c, net.seen, 0, nothing, 0, s.x, a * c, c, c, True)
    for t in range(layers):
        kept, t_at = t * n * c, (4 * t + 1) * size
        for a in range(0, n, CHUNK):
            _project(t, a, min(n, a + CHUNK), n, c, net, s)
        for a in range(0, n, CHUNK):
            b = min(n, a + CHUNK)
            own_attention(
                a, b, net.own, 3 * t * c, s.q, kept, s.features, 6 * kept, group, c, s.rows, s.v,
                3 * (kept + n * c),
            )  # fmt: skip
            attention_messages(
                a, b, start, sender, row, weights, table, t_at, s.q, kept, s.features, 6 * kept, t > 0, unit,
                group, c, s.rows, s.v, 3 * (kept + n * c),
            )  # fmt: skip
            _update(t, a, b, n, c, net, s)
    for a in range(0, n, CHUNK):
        _read(layers, a, min(n, a + CHUNK), n, c, net, s, scale, energies)
    for t in range(layers - 1, -1, -1):
        kept, t_at = t * n * c, (4 * t + 1) * size
        s.back[:] = 0.0
        s.g_q[:] = 0.0
        for a in range(0, n, CHUNK):
            b = min(n, a + CHUNK)
            _update_reverse(t, a, b, n, c, net, s)
            g_w = s.rows[CHUNK * c :]
            own_attention_reverse(
                a,
                b,
                net.own,
                3 * t * c,
                s.q,
                kept,
                s.features,
                6 * kept,
                group,
                c,
                s.rows,
                g_w,
                s.g_q,
                s.back,
            )
            attention_messages_reverse(
                a, b, start, sender, row, weights, table, t_at, s.q, kept, s.features, 6 * kept, t > 0, unit,
                group, c, s.rows, g_w, s.hold, s.g_q, s.back, slope, unit_slope,
            )  # fmt: skip
        for a in range(0, n, CHUNK):
            _project_reverse(t, a, min(n, a + CHUNK), n, c, net, s)
    for a in range(0, n, CHUNK):
        b = min(n, a + CHUNK)
        dense(s.g, a * c, c, b - a, c, net.seen_back, 0, nothing, 0, s.rows, 0, c, c, False)
        scalar_messages_reverse(
            a, b, start, by, row, weights, table, 0, net.neighbour, 0, c, s.rows, slope, nothing
        )
