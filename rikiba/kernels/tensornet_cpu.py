"""A whole TensorNet as one compiled function, there and back; see `rikiba.potentials.tensornet`."""

from typing import NamedTuple

import numpy as np

from .activation_cpu import activate
from .compiled import compiled
from .dense_cpu import Network, dense, hidden_width, network_forward, network_reverse
from .gated_readout_cpu import gated_energies
from .lanes import LANES, add, load, multiply, multiply_add, splat, store
from .layer_norm_cpu import layer_norm, layer_norm_reverse
from .tensor_message_cpu import (
    tensor_embeddings,
    tensor_embeddings_reverse,
    tensor_messages,
    tensor_messages_reverse,
)
from .tensor_product_cpu import (
    coupled,
    coupled_reverse,
    normalised,
    normalised_reverse,
    with_square,
    with_square_reverse,
)
from .workspace_cpu import carved, widest_hidden

CHUNK = 16
"""Atoms whose arrays stay in cache between the steps of a layer."""


class TensorNetWeights(NamedTuple):
    """Channels c padded with zeros to a multiple of 32; networks keep the padding at zero."""

    channels: int
    """Without padding."""
    centre: np.ndarray
    """u and v of the embedding, [types·c]."""
    neighbour: np.ndarray
    first_norm: np.ndarray
    """Weights, then biases."""
    first_mix: np.ndarray
    """Panels c → c of the three parts."""
    first_mix_back: np.ndarray
    gate: Network
    """c → 3c, to be followed by silu."""
    mix_in: np.ndarray
    """Panels of the three parts, layer after layer."""
    mix_in_back: np.ndarray
    mix_out: np.ndarray
    mix_out_back: np.ndarray
    last_norm: np.ndarray
    readout: Network
    """3c → 1; of two, the second goes through a sigmoid and weights the first."""
    readouts: int
    special: bool
    """2YM instead of YM + MY."""


class _Space(NamedTuple):
    """Arrays of one sweep, flat."""

    x: np.ndarray
    g: np.ndarray
    """∂E/∂X."""
    g_y: np.ndarray
    """∂E/∂Y, and of the embedding that of its sum."""
    first: np.ndarray
    """The embedding's sum, mixed, and its gates."""
    first_mixed: np.ndarray
    gates: np.ndarray
    gate_slopes: np.ndarray
    hidden_slopes: np.ndarray
    hat: np.ndarray
    """X/s, Y, M, the normalised product and ΔX of every layer; s of both."""
    y: np.ndarray
    message: np.ndarray
    product: np.ndarray
    change: np.ndarray
    size: np.ndarray
    product_size: np.ndarray
    scratch: np.ndarray
    """A chunk's tensors, twice, and norms."""
    work: np.ndarray
    out: np.ndarray
    out_slopes: np.ndarray


@compiled
def _sizes(n, net, layers):  # type: ignore[no-untyped-def]
    """Of the arrays in `_Space`, in order."""
    c = net.gate.widths[0]
    nine, widest = n * 9 * c, max(widest_hidden(net.gate), widest_hidden(net.readout))
    return (
        nine, nine, nine, nine, nine, n * 3 * c, n * 3 * c, n * hidden_width(net.gate), layers * nine,
        layers * nine, layers * nine, layers * nine, layers * nine, layers * n * c, layers * n * c,
        CHUNK * 24 * c, CHUNK * 2 * widest, CHUNK * 2 * net.readout.widths[-1],
        CHUNK * 2 * hidden_width(net.readout),
    )  # fmt: skip


@compiled
def tensornet_space(n, net, layers):  # type: ignore[no-untyped-def]
    """How many numbers `tensornet_sweep` needs as its `space` for n atoms."""
    return sum(_sizes(n, net, layers))


@compiled
def _mix(x, x_at, rows, c, weights, w_at, y, y_at, adding):  # type: ignore[no-untyped-def]
    """Each part of the tensors times its matrix, y = (y if adding) + x·W."""
    for m in range(9):
        part = 0 if m == 0 else (1 if m < 4 else 2)
        dense(
            x, x_at + m * c, 9 * c, rows, c, weights, w_at + part * c * c, x[:0], 0, y, y_at + m * c, 9 * c,
            c, adding,
        )  # fmt: skip


@compiled
def _squares(x, x_at, rows, c, parts, out, out_at):  # type: ignore[no-untyped-def]
    """‖X‖², or where `parts` those of the three parts one after another."""
    stride = 3 * c if parts else c
    for a in range(rows):
        for v in range(0, c, LANES):
            s = splat(x.dtype.type(0))
            for m in range(9):
                if parts and (m == 1 or m == 4):
                    store(out, out_at + a * stride + (0 if m == 1 else c) + v, s)
                    s = splat(x.dtype.type(0))
                value = load(x, x_at + (9 * a + m) * c + v)
                s = multiply_add(value, value, s)
            store(out, out_at + a * stride + (2 * c if parts else 0) + v, s)


@compiled
def _embed(a, b, n, c, net, s):  # type: ignore[no-untyped-def]
    """X of atoms a … b − 1 from the embedding's sums."""
    rows, at = b - a, a * 9 * c
    _squares(s.first, at, rows, c, False, s.scratch, 0)
    for k in range(rows):
        layer_norm(s.scratch, k * c, c, net.channels, net.first_norm)
    hidden = a * hidden_width(net.gate)
    network_forward(
        net.gate, 0, s.scratch, 0, c, rows, s.hidden_slopes, hidden, s.work, s.gates, a * 3 * c, 3 * c, False
    )
    activate(s.gates, a * 3 * c, rows * 3 * c, net.gate.activation, s.gate_slopes, a * 3 * c)
    _mix(s.first, at, rows, c, net.first_mix, 0, s.first_mixed, at, False)
    for k in range(a, b):
        for m in range(9):
            part = 0 if m == 0 else (1 if m < 4 else 2)
            for v in range(0, c, LANES):
                o = (9 * k + m) * c + v
                gate = load(s.gates, (3 * k + part) * c + v)
                store(s.x, o, multiply(gate, load(s.first_mixed, o)))


@compiled
def _embed_reverse(a, b, n, c, net, s):  # type: ignore[no-untyped-def]
    """From ∂E/∂X to that of the embedding's sums, in g_y."""
    rows, at, h = b - a, a * 9 * c, s.scratch
    for k in range(rows):
        m = 0
        for part in range(3):
            for v in range(0, c, LANES):
                gate = (3 * (a + k) + part) * c + v
                sums = splat(h.dtype.type(0))
                for d in range(2 * part + 1):
                    o = (9 * (a + k) + m + d) * c + v
                    slope = load(s.g, o)
                    sums = multiply_add(slope, load(s.first_mixed, o), sums)
                    store(s.g, o, multiply(slope, load(s.gates, gate)))
                store(h, (3 * k + part) * c + v, multiply(sums, load(s.gate_slopes, gate)))
            m += 2 * part + 1
    to = CHUNK * 9 * c
    hidden = a * hidden_width(net.gate)
    network_reverse(net.gate, 0, h, 0, 3 * c, rows, s.hidden_slopes, hidden, s.work, h, to, c, False)
    _squares(s.first, at, rows, c, False, h, 0)
    for k in range(rows):
        layer_norm_reverse(h, k * c, c, net.channels, net.first_norm, h, to + k * c)
    _mix(s.g, at, rows, c, net.first_mix_back, 0, s.g_y, at, False)
    _add_squares(s.first, at, rows, c, False, h, to, s.g_y, at, False)


@compiled
def _add_squares(x, x_at, rows, c, parts, g, g_at, out, out_at, fresh):  # type: ignore[no-untyped-def]
    """out = (0 if fresh) + 2 X ∘ ∂E/∂‖X‖²."""
    two = splat(x.dtype.type(2.0))
    for a in range(rows):
        for m in range(9):
            part = 0 if m == 0 else (1 if m < 4 else 2)
            at = g_at + ((3 * a + part) if parts else a) * c
            for v in range(0, c, LANES):
                o = (9 * a + m) * c + v
                value = multiply(multiply(two, load(x, x_at + o)), load(g, at + v))
                store(out, out_at + o, value if fresh else add(load(out, out_at + o), value))


@compiled
def _enter(t, a, b, n, c, net, s):  # type: ignore[no-untyped-def]
    """X/(‖X‖² + 1) and Y of atoms a … b − 1 in layer t."""
    at = (t * n + a) * 9 * c
    normalised(s.x, a * 9 * c, b - a, c, s.hat, at, s.size, (t * n + a) * c)
    _mix(s.hat, at, b - a, c, net.mix_in, t * 3 * c * c, s.y, at, False)


@compiled
def _update(t, a, b, n, c, net, s):  # type: ignore[no-untyped-def]
    """X after layer t from Y and M."""
    at, rows = (t * n + a) * 9 * c, b - a
    coupled(s.y, at, s.message, at, rows, c, net.special, s.product, at)
    normalised(s.product, at, rows, c, s.product, at, s.product_size, (t * n + a) * c)
    _mix(s.product, at, rows, c, net.mix_out, t * 3 * c * c, s.change, at, False)
    with_square(s.hat, at, s.change, at, rows, c, s.x, a * 9 * c)


@compiled
def _update_reverse(t, a, b, n, c, net, s):  # type: ignore[no-untyped-def]
    """From ∂E/∂X after layer t: adds to ∂E/∂Y, leaves ∂E/∂M in the scratch."""
    at, rows, h, to = (t * n + a) * 9 * c, b - a, s.scratch, CHUNK * 9 * c
    with_square_reverse(s.g, a * 9 * c, s.change, at, rows, c, h)
    _mix(h, 0, rows, c, net.mix_out_back, t * 3 * c * c, h, to, False)
    normalised_reverse(h, to, rows, c, s.product, at, s.product_size, (t * n + a) * c)
    coupled_reverse(h, to, s.y, at, s.message, at, rows, c, net.special, s.g_y, a * 9 * c, h)


@compiled
def _leave(t, a, b, n, c, net, s):  # type: ignore[no-untyped-def]
    """From ∂E/∂Y and ∂E/∂X after layer t to ∂E/∂X before it."""
    at, rows = (t * n + a) * 9 * c, b - a
    _mix(s.g_y, a * 9 * c, rows, c, net.mix_in_back, t * 3 * c * c, s.g, a * 9 * c, True)
    normalised_reverse(s.g, a * 9 * c, rows, c, s.hat, at, s.size, (t * n + a) * c)


@compiled
def _read(a, b, c, net, s, scale, energies):  # type: ignore[no-untyped-def]
    """Energies of atoms a … b − 1 and ∂(scale·Σ energies)/∂X."""
    rows, h, at, to, back = b - a, s.scratch, a * 9 * c, CHUNK * 9 * c, CHUNK * 18 * c
    _squares(s.x, at, rows, c, True, h, 0)
    h[to : to + rows * 3 * c] = h[: rows * 3 * c]
    for k in range(rows):
        layer_norm(h, to + 3 * k * c, 3 * c, 3 * net.channels, net.last_norm)
    gated_energies(
        net.readout, net.readouts, h, to, rows, s.out_slopes, s.work, s.out, scale, energies, a, h, back
    )
    for k in range(rows):
        layer_norm_reverse(h, 3 * k * c, 3 * c, 3 * net.channels, net.last_norm, h, back + 3 * k * c)
    _add_squares(s.x, at, rows, c, True, h, back, s.g, at, True)


@compiled
def tensornet_sweep(  # type: ignore[no-untyped-def]
    types, start, sender, row, weights, table, layers, harmonics, net, space, scale, energies, slope,
    harmonic_slope,
):  # fmt: skip
    """Read-outs of all atoms into `energies`; adds ∂(scale·Σ energies)/∂r and /∂Y per pair to the slopes.

    `table` holds the embedding's filters and then those of layer after layer. `space` is overwritten.
    """
    n, c = len(types), net.gate.widths[0]
    s = _Space(*carved(space, _sizes(n, net, layers)))
    size = len(table) // (layers + 1)
    for a in range(0, n, CHUNK):
        b = min(n, a + CHUNK)
        tensor_embeddings(
            a, b, start, sender, types, row, weights, table, harmonics, net.centre, net.neighbour, c, s.first
        )
        _embed(a, b, n, c, net, s)
    for t in range(layers):
        kept = t * n * 9 * c
        for a in range(0, n, CHUNK):
            _enter(t, a, min(n, a + CHUNK), n, c, net, s)
        for a in range(0, n, CHUNK):
            b = min(n, a + CHUNK)
            tensor_messages(
                a, b, start, sender, row, weights, table, (t + 1) * size, s.y, kept, c, s.message, kept
            )
            _update(t, a, b, n, c, net, s)
    for a in range(0, n, CHUNK):
        _read(a, min(n, a + CHUNK), c, net, s, scale, energies)
    for t in range(layers - 1, -1, -1):
        s.g_y[:] = 0.0
        for a in range(0, n, CHUNK):
            b = min(n, a + CHUNK)
            _update_reverse(t, a, b, n, c, net, s)
            tensor_messages_reverse(
                a, b, start, sender, row, weights, table, (t + 1) * size, s.y, t * n * 9 * c, c, s.scratch,
                slope, s.g_y,
            )  # fmt: skip
        for a in range(0, n, CHUNK):
            _leave(t, a, min(n, a + CHUNK), n, c, net, s)
    for a in range(0, n, CHUNK):
        b = min(n, a + CHUNK)
        _embed_reverse(a, b, n, c, net, s)
        tensor_embeddings_reverse(
            a, b, start, sender, types, row, weights, table, harmonics, net.centre, net.neighbour, c, s.g_y,
            slope, harmonic_slope,
        )  # fmt: skip
