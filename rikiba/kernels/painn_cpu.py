"""A whole PaiNN as one compiled function: forward, read-out, reverse; see `rikiba.potentials.painn`."""

from typing import NamedTuple

import numpy as np

from .compiled import compiled
from .dense_cpu import Network, dense, hidden_width, network_forward, network_reverse
from .filter_message_cpu import vector_messages, vector_messages_reverse
from .gated_readout_cpu import network_energies
from .lanes import LANES, add, divide, load, multiply, multiply_add, splat, square_root, store
from .workspace_cpu import carved, widest_hidden

CHUNK = 32
"""Atoms whose arrays stay in cache between the steps of a layer."""


class PaiNNWeights(NamedTuple):
    """Channels c padded with zeros to a multiple of 32; networks keep the padding at zero."""

    embedding: np.ndarray
    """[types·c]."""
    first: np.ndarray
    """x¹ and x² of the first layer, [types·2·c]."""
    message: Network
    """φ of all layers, c → 3c."""
    mix: np.ndarray
    """Panels c → 2c (V, then U) of all layers."""
    mix_back: np.ndarray
    update: Network
    """ψ of all layers, 2c → 3c."""
    readout: Network
    norm_epsilon: float


class _Space(NamedTuple):
    """Arrays of one sweep, flat. What is kept of the last layer belongs to one chunk at a time."""

    q: np.ndarray
    g: np.ndarray
    """∂E/∂q."""
    mu: np.ndarray
    """Vectors that each layer makes (before the last's update), [layers, n, 3, c]."""
    g_mu: np.ndarray
    features: np.ndarray
    """x¹, x² and x³∘μ of the layers after the first, [layers − 1, n, 5, c]."""
    back: np.ndarray
    """Their derivatives, of one layer."""
    x3: np.ndarray
    message_slopes: np.ndarray
    vu: np.ndarray
    """Vμ and Uμ, [layers − 1 and a chunk, 3, 2, c]."""
    abc: np.ndarray
    update_slopes: np.ndarray
    scratch: np.ndarray
    """A chunk's inputs of networks and mixing, 6c."""
    work: np.ndarray
    out: np.ndarray
    out_slopes: np.ndarray


@compiled
def _sizes(n, net, layers):  # type: ignore[no-untyped-def]
    """Of the arrays in `_Space`, in order."""
    c = net.readout.widths[0]
    widest = max(widest_hidden(net.message), widest_hidden(net.update), widest_hidden(net.readout))
    kept = (layers - 1) * n + CHUNK
    return (
        n * c, n * c, layers * n * 3 * c, n * 3 * c, (layers - 1) * n * 5 * c, n * 5 * c,
        (layers - 1) * n * c, (layers - 1) * n * hidden_width(net.message), kept * 6 * c, kept * 3 * c,
        kept * hidden_width(net.update), CHUNK * 6 * c, CHUNK * 2 * widest,
        CHUNK * net.readout.widths[-1],
        CHUNK * hidden_width(net.readout),
    )  # fmt: skip


@compiled
def painn_space(n, net, layers):  # type: ignore[no-untyped-def]
    """How many numbers `painn_sweep` needs as its `space` for n atoms."""
    return sum(_sizes(n, net, layers))


@compiled
def _features(t, a, b, n, c, net, s):  # type: ignore[no-untyped-def]
    """x¹, x² and x³∘μ that neighbours of atoms a … b − 1 read in layer t ≥ 1."""
    y, mu, features, x3 = s.scratch, s.mu, s.features, s.x3
    slopes_at = ((t - 1) * n + a) * hidden_width(net.message)
    network_forward(
        net.message, t, s.q, a * c, c, b - a, s.message_slopes, slopes_at, s.work, y, 0, 3 * c, False
    )
    for k in range(b - a):
        here = (t - 1) * n + a + k
        f, m, x, o = here * 5 * c, here * 3 * c, here * c, k * 3 * c
        for v in range(0, c, LANES):
            store(features, f + v, load(y, o + v))
            store(features, f + c + v, load(y, o + c + v))
            third = load(y, o + 2 * c + v)
            store(x3, x + v, third)
            for d in range(3):
                store(features, f + (2 + d) * c + v, multiply(third, load(mu, m + d * c + v)))


@compiled
def _features_reverse(t, a, b, n, c, net, s):  # type: ignore[no-untyped-def]
    """From the derivatives of the features to those of q and μ."""
    y, mu, back, x3, g_mu = s.scratch, s.mu, s.back, s.x3, s.g_mu
    zero = splat(y.dtype.type(0))
    for k in range(b - a):
        here = (t - 1) * n + a + k
        f, m, x, o, at = (a + k) * 5 * c, here * 3 * c, here * c, k * 3 * c, (a + k) * 3 * c
        for v in range(0, c, LANES):
            store(y, o + v, load(back, f + v))
            store(y, o + c + v, load(back, f + c + v))
            third, sums = load(x3, x + v), zero
            for d in range(3):
                slope = load(back, f + (2 + d) * c + v)
                sums = multiply_add(slope, load(mu, m + d * c + v), sums)
                to = at + d * c + v
                store(g_mu, to, multiply_add(third, slope, load(g_mu, to)))
            store(y, o + 2 * c + v, sums)
    slopes_at = ((t - 1) * n + a) * hidden_width(net.message)
    network_reverse(
        net.message, t, y, 0, 3 * c, b - a, s.message_slopes, slopes_at, s.work, s.g, a * c, c, True
    )


@compiled
def _update(t, a, b, n, c, net, s, last):  # type: ignore[no-untyped-def]
    """The update of atoms a … b − 1 in layer t."""
    q, mu, x, vu, abc = s.q, s.mu, s.scratch, s.vu, s.abc
    kept = t * n + (0 if last else a)
    m, rows = (t * n + a) * 3 * c, b - a
    epsilon = splat(x.dtype.type(net.norm_epsilon))
    dense(mu, m, c, 3 * rows, c, net.mix, t * 2 * c * c, x[:0], 0, vu, kept * 6 * c, 2 * c, 2 * c, False)
    for k in range(rows):
        o, w = k * 2 * c, (kept + k) * 6 * c
        for v in range(0, c, LANES):
            squares = epsilon
            for d in range(3):
                y = load(vu, w + d * 2 * c + v)
                squares = multiply_add(y, y, squares)
            store(x, o + v, load(q, (a + k) * c + v))
            store(x, o + c + v, square_root(squares))
    slopes_at = kept * hidden_width(net.update)
    network_forward(
        net.update, t, x, 0, 2 * c, rows, s.update_slopes, slopes_at, s.work, abc, kept * 3 * c, 3 * c, False
    )
    for k in range(rows):
        w, p = (kept + k) * 6 * c, (kept + k) * 3 * c
        for v in range(0, c, LANES):
            dot = splat(x.dtype.type(0))
            for d in range(3):
                at = w + d * 2 * c + v
                u = load(vu, at + c)
                dot = multiply_add(load(vu, at), u, dot)
                if not last:
                    to = m + (3 * k + d) * c + v
                    store(mu, to, multiply_add(load(abc, p + c + v), u, load(mu, to)))
            to = (a + k) * c + v
            new = add(load(q, to), load(abc, p + v))
            store(q, to, multiply_add(load(abc, p + 2 * c + v), dot, new))


@compiled
def _update_reverse(t, a, b, n, c, net, s, last):  # type: ignore[no-untyped-def]
    """From the derivatives of q and μ after the update to those before it, in place."""
    g, g_mu, x, vu, abc = s.g, s.g_mu, s.scratch, s.vu, s.abc
    zero, epsilon = splat(x.dtype.type(0)), splat(x.dtype.type(net.norm_epsilon))
    kept, rows = t * n + (0 if last else a), b - a
    for k in range(rows):
        w, o = (kept + k) * 6 * c, k * 3 * c
        for v in range(0, c, LANES):
            dot, second = zero, zero
            for d in range(3):
                at = w + d * 2 * c + v
                u = load(vu, at + c)
                dot = multiply_add(load(vu, at), u, dot)
                if not last:
                    second = multiply_add(load(g_mu, (3 * (a + k) + d) * c + v), u, second)
            first = load(g, (a + k) * c + v)
            store(x, o + v, first)
            store(x, o + c + v, second)
            store(x, o + 2 * c + v, multiply(first, dot))
    slopes_at, y = kept * hidden_width(net.update), x[CHUNK * 3 * c :]
    network_reverse(net.update, t, x, 0, 3 * c, rows, s.update_slopes, slopes_at, s.work, y, 0, 2 * c, False)
    for k in range(rows):
        w, p, o = (kept + k) * 6 * c, (kept + k) * 3 * c, k * 2 * c
        for v in range(0, c, LANES):
            squares = epsilon
            for d in range(3):
                part = load(vu, w + d * 2 * c + v)
                squares = multiply_add(part, part, squares)
            to = (a + k) * c + v
            along, before = divide(load(y, o + c + v), square_root(squares)), load(g, to)
            store(g, to, add(before, load(y, o + v)))
            g_dot = multiply(before, load(abc, p + 2 * c + v))
            for d in range(3):
                at = w + d * 2 * c + v
                part, u = load(vu, at), load(vu, at + c)
                store(vu, at, multiply_add(g_dot, u, multiply(along, part)))
                g_u = multiply(g_dot, part)
                if not last:
                    slope = load(g_mu, (3 * (a + k) + d) * c + v)
                    g_u = multiply_add(slope, load(abc, p + c + v), g_u)
                store(vu, at + c, g_u)
    dense(
        vu, kept * 6 * c, 2 * c, 3 * rows, 2 * c, net.mix_back, t * 2 * c * c, x[:0], 0, g_mu, a * 3 * c,
        c, c, not last,
    )  # fmt: skip


@compiled
def _read(a, b, c, net, s, scale, energies):  # type: ignore[no-untyped-def]
    """Energies of atoms a … b − 1 and ∂(scale·Σ energies)/∂q."""
    network_energies(
        net.readout, s.q, a * c, b - a, s.out_slopes, s.work, s.out, scale, energies, a, s.g, a * c
    )


@compiled
def painn_sweep(  # type: ignore[no-untyped-def]
    types, start, sender, row, weights, table, layers, unit, net, space, scale, energies, slope, unit_slope
):
    """Read-outs of all atoms into `energies`; adds ∂(scale·Σ energies)/∂r and /∂r̂ per pair to the slopes.

    `table` holds layer after layer, the first without W³; for the rest see `filter_message_cpu`. `space` is
    overwritten.
    """
    n, c = len(types), net.readout.widths[0]
    s = _Space(*carved(space, _sizes(n, net, layers)))
    first_sender, nothing = types[sender], space[:0]
    size = len(table) // (3 * layers - 1)
    for a in range(n):
        for v in range(0, c, LANES):
            store(s.q, a * c + v, load(net.embedding, types[a] * c + v))
    s.mu[: n * 3 * c] = 0.0
    for t in range(layers):
        last = t == layers - 1
        t_at, f_at = max(3 * t - 1, 0) * size, max(t - 1, 0) * n * 5 * c
        if t:
            s.mu[t * n * 3 * c : (t + 1) * n * 3 * c] = s.mu[(t - 1) * n * 3 * c : t * n * 3 * c]
        read, by, parts = (s.features, sender, 5) if t else (net.first, first_sender, 2)
        given = s.back if t else nothing
        if last:
            given[:] = 0.0
        made = s.mu[t * n * 3 * c : (t + 1) * n * 3 * c]
        for a in range(0, n, CHUNK):
            b = min(n, a + CHUNK)
            vector_messages(a, b, start, by, row, weights, table, t_at, read, f_at, parts, unit, c, s.q, made)
            _update(t, a, b, n, c, net, s, last)
            if not last:
                _features(t + 1, a, b, n, c, net, s)
                continue
            _read(a, b, c, net, s, scale, energies)
            _update_reverse(t, a, b, n, c, net, s, True)
            vector_messages_reverse(
                a, b, start, by, row, weights, table, t_at, read, f_at, parts, unit, c, s.g, s.g_mu, slope,
                unit_slope, given,
            )  # fmt: skip
    for t in range(layers - 2, -1, -1):
        t_at, f_at = max(3 * t - 1, 0) * size, max(t - 1, 0) * n * 5 * c
        read, by, parts = (s.features, sender, 5) if t else (net.first, first_sender, 2)
        for a in range(0, n, CHUNK):
            _features_reverse(t + 1, a, min(n, a + CHUNK), n, c, net, s)
        s.back[:] = 0.0
        given = s.back if t else nothing
        for a in range(0, n, CHUNK):
            b = min(n, a + CHUNK)
            _update_reverse(t, a, b, n, c, net, s, False)
            vector_messages_reverse(
                a, b, start, by, row, weights, table, t_at, read, f_at, parts, unit, c, s.g, s.g_mu, slope,
                unit_slope, given,
            )  # fmt: skip
