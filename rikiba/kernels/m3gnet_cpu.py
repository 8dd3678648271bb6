"""A whole M3GNet as one compiled function, there and back; see `rikiba.potentials.m3gnet`.

The first layers of the pairs' networks act on atoms before they are gathered; a chunk of pairs then goes
through both networks of a block while it is in cache. What the reverse sweep reads of a chunk is kept, or
made again where there is room for one chunk only. Pairs are grouped by centre, arrays are flat.
"""

from typing import NamedTuple

import numpy as np

from .activation_cpu import SILU, activate, exponential
from .angular_sums_cpu import angular_sums, angular_sums_reverse
from .compiled import compiled, inlined
from .dense_cpu import PANEL, Network, dense
from .gated_readout_cpu import gated_energies
from .lanes import LANES, add, divide, load, multiply, multiply_add, smaller, splat, store, total

ROWS = 32
"""Pairs of a chunk."""
CHUNK = 16
"""Atoms read out together."""
KEPT = 16
"""Rows of channels that are kept of each pair in each block."""


class M3GNetWeights(NamedTuple):
    """Channels c padded with zeros to a multiple of 32, angular functions N to one of 16; block after block.

    Halves are those of a gated network: core, then gate. Of a block's two networks the first updates pairs,
    the second makes messages.
    """

    channels: int
    radial: int
    """Functions of a pair's distance."""
    functions: int
    """N."""
    orders: int
    """2·l_max + 1."""
    embedding: np.ndarray
    """[types·c]."""
    first: np.ndarray
    """Panels radial → c of the pairs' first features."""
    first_bias: np.ndarray
    atoms: np.ndarray
    """Panels c → (centre 2c, neighbour 2c) of the first network, of the second, N padded to 32."""
    atoms_back: np.ndarray
    atom_biases: np.ndarray
    angular: np.ndarray
    """Panels N → 2c."""
    angular_back: np.ndarray
    bonds: np.ndarray
    """Panels c → 2c of both networks."""
    bonds_back: np.ndarray
    deep: np.ndarray
    """Panels c → c: both networks' two further layers, each core and gate."""
    deep_back: np.ndarray
    deep_biases: np.ndarray
    filters: np.ndarray
    """Panels radial → c of both networks."""
    readout: Network


class M3GNetPairs(NamedTuple):
    """Pairs of one call, and those near enough for three-body terms."""

    centre: np.ndarray
    sender: np.ndarray
    to: np.ndarray
    """The atom at which a message is summed."""
    radial: np.ndarray
    """Functions of the distance, rows padded to a multiple of 32."""
    radial_slopes: np.ndarray
    near_start: np.ndarray
    near: np.ndarray
    functions: np.ndarray
    """See `angular_sums_cpu`."""
    function_slopes: np.ndarray
    harmonics: np.ndarray


class M3GNetSpace(NamedTuple):
    """Arrays of one sweep, flat and at least of the sizes told; A is the width of `atoms`."""

    v: np.ndarray
    """[atoms, c]."""
    g_v: np.ndarray
    x: np.ndarray
    """[blocks, atoms, A]: first layers' parts of atoms; weights of angular functions."""
    g_x: np.ndarray
    """[atoms, A]."""
    e: np.ndarray
    """[blocks + 1, pairs, c]."""
    g_e: np.ndarray
    first_slopes: np.ndarray
    """[pairs, c]: of the activation of the first features."""
    angular: np.ndarray
    """[near pairs, N padded to 32], and then their derivatives."""
    sums: np.ndarray
    """[2, orders, 16]."""
    kept: np.ndarray
    """Per chunk and block, or for one chunk, KEPT·ROWS·c numbers."""
    a: np.ndarray
    """Each [ROWS, 2c]."""
    b: np.ndarray
    f: np.ndarray
    """[ROWS, c]."""
    readout_slopes: np.ndarray
    readout_work: np.ndarray
    readout: np.ndarray


@inlined
def _wide(n):  # type: ignore[no-untyped-def]
    return (n + PANEL - 1) // PANEL * PANEL


@inlined
def _atom_width(net):  # type: ignore[no-untyped-def]
    return 8 * net.channels + _wide(net.functions)


@compiled
def _gate(y, rows, c, slope, s_at, phi, p_at):  # type: ignore[no-untyped-def]
    """φ = silu(core) ∘ σ(gate) of rows [core | gate], and ∂φ/∂y."""
    real = y.dtype.type
    zero, one, minus = splat(real(0.0)), splat(real(1.0)), splat(real(-1.0))
    for k in range(rows):
        for v in range(0, c, LANES):
            a, b = 2 * k * c + v, (2 * k + 1) * c + v
            x, z = load(y, a), load(y, b)
            u = add(one, exponential(multiply(x, smaller(x, zero, one, minus))))
            w = add(one, exponential(multiply(z, smaller(z, zero, one, minus))))
            # 1/u and 1/w lie between ½ and 1: the sigmoids of |x| and |z|
            inverse = divide(one, multiply(u, w))
            high, high_z = multiply(inverse, w), multiply(inverse, u)
            low = multiply(add(u, minus), high)
            low_z = multiply(add(w, minus), high_z)
            on, off = smaller(x, zero, low, high), smaller(x, zero, high, low)
            gate, closed = smaller(z, zero, low_z, high_z), smaller(z, zero, high_z, low_z)
            core = multiply(x, on)
            value = multiply(core, gate)
            store(phi, p_at + k * c + v, value)
            store(slope, s_at + a, multiply(multiply_add(core, off, on), gate))
            store(slope, s_at + b, multiply(value, closed))


@compiled
def _sigmoid(x, at, n):  # type: ignore[no-untyped-def]
    """x becomes σ(x)."""
    real = x.dtype.type
    zero, one, minus = splat(real(0.0)), splat(real(1.0)), splat(real(-1.0))
    for k in range(at, at + n, LANES):
        y = load(x, k)
        u = exponential(multiply(y, smaller(y, zero, one, minus)))
        share = divide(one, add(one, u))
        store(x, k, smaller(y, zero, multiply(u, share), share))


@compiled
def _deep(t, which, step, x, rows, c, net, out):  # type: ignore[no-untyped-def]
    """A further layer of both halves of a network, before its activation."""
    for half in range(2):
        k = ((2 * t + which) * 2 + step) * 2 + half
        dense(
            x, half * c, 2 * c, rows, c, net.deep, k * c * c, net.deep_biases, k * c, out, half * c, 2 * c,
            c, False,
        )  # fmt: skip


@compiled
def _deep_reverse(t, which, step, g, rows, c, net, slopes, at, out):  # type: ignore[no-untyped-def]
    """From the derivatives of that layer to those before the activation in front of it."""
    for half in range(2):
        k = ((2 * t + which) * 2 + step) * 2 + half
        dense(g, half * c, 2 * c, rows, c, net.deep_back, k * c * c, g[:0], 0, out, half * c, 2 * c, c, False)
    for k in range(0, rows * 2 * c, LANES):
        store(out, k, multiply(load(out, k), load(slopes, at + k)))


@compiled
def _hear(t, q0, q1, at, net, g, s, slot):  # type: ignore[no-untyped-def]
    """Add to the features of pairs, from `at` on in e, what near ones q0 … q1 − 1 hear of their angles."""
    c, wide = net.channels, _wide(net.functions)
    dense(
        s.angular, q0 * wide, wide, q1 - q0, net.functions, net.angular, t * net.functions * 2 * c, s.f[:0],
        0, s.b, 0, 2 * c, 2 * c, False,
    )  # fmt: skip
    _gate(s.b, q1 - q0, c, s.kept, slot, s.f, 0)
    for q in range(q0, q1):
        o = at + g.near[q] * c
        for v in range(0, c, LANES):
            store(s.e, o + v, add(load(s.e, o + v), load(s.f, (q - q0) * c + v)))


@compiled
def _network(t, which, a, b, at, net, g, s, slot):  # type: ignore[no-untyped-def]
    """φ of pairs a … b − 1 and ∂φ·f/∂(its last layer) are kept, f the filters; leaves f."""
    c, rows, k = net.channels, b - a, slot + (2 + 7 * which) * ROWS * net.channels
    width = _atom_width(net)
    atoms = t * (len(g.near_start) - 1) * width + which * 4 * c
    for p in range(a, b):
        i, j = atoms + g.centre[p] * width, atoms + g.sender[p] * width + 2 * c
        o = (p - a) * 2 * c
        for v in range(0, 2 * c, LANES):
            store(s.a, o + v, add(load(s.x, i + v), load(s.x, j + v)))
    part = (2 * t + which) * 2 * c * c
    dense(s.e, at + a * c, c, rows, c, net.bonds, part, s.f[:0], 0, s.a, 0, 2 * c, 2 * c, True)
    activate(s.a, 0, rows * 2 * c, SILU, s.kept, k)
    _deep(t, which, 0, s.a, rows, c, net, s.b)
    activate(s.b, 0, rows * 2 * c, SILU, s.kept, k + 2 * ROWS * c)
    _deep(t, which, 1, s.b, rows, c, net, s.a)
    last, phi = k + 4 * ROWS * c, k + 6 * ROWS * c
    _gate(s.a, rows, c, s.kept, last, s.kept, phi)
    wide, part = _wide(net.radial), (2 * t + which) * net.radial * c
    dense(g.radial, a * wide, wide, rows, net.radial, net.filters, part, s.f[:0], 0, s.f, 0, c, c, False)
    for p in range(rows):
        for v in range(0, c, LANES):
            f = load(s.f, p * c + v)
            o = last + 2 * p * c + v
            store(s.kept, o, multiply(f, load(s.kept, o)))
            store(s.kept, o + c, multiply(f, load(s.kept, o + c)))
            store(s.f, p * c + v, multiply(f, load(s.kept, phi + p * c + v)))


@compiled
def _forward(t, a, b, q0, q1, net, g, s, slot, moving):  # type: ignore[no-untyped-def]
    """Features of pairs a … b − 1 after block t; their messages are added to atoms where `moving`."""
    c, size = net.channels, len(g.centre) * net.channels
    at = (t + 1) * size
    s.e[at + a * c : at + b * c] = s.e[at - size + a * c : at - size + b * c]
    if q1 > q0:
        _hear(t, q0, q1, at, net, g, s, slot)
    _network(t, 0, a, b, at, net, g, s, slot)
    for k in range(0, (b - a) * c, LANES):
        o = at + a * c + k
        store(s.e, o, add(load(s.e, o), load(s.f, k)))
    _network(t, 1, a, b, at, net, g, s, slot)
    if moving:
        for p in range(a, b):
            o = g.to[p] * c
            for v in range(0, c, LANES):
                store(s.v, o + v, add(load(s.v, o + v), load(s.f, (p - a) * c + v)))


@compiled
def _network_reverse(t, which, a, b, net, g, s, slot, slope):  # type: ignore[no-untyped-def]
    """From the derivatives of what the network gave to those of its inputs."""
    c, rows, k = net.channels, b - a, slot + (2 + 7 * which) * ROWS * net.channels
    last, phi, wide = k + 4 * ROWS * c, k + 6 * ROWS * c, _wide(net.radial)
    part = (2 * t + which) * net.radial * c
    dense(
        g.radial_slopes, a * wide, wide, rows, net.radial, net.filters, part, s.f[:0], 0, s.f, 0, c, c, False
    )
    given, zero = s.g_e, splat(s.f.dtype.type(0))
    if which == 1:
        given = s.g_v
    for p in range(a, b):
        o, r = (p if which == 0 else g.to[p]) * c, (p - a) * c
        sums = zero
        for v in range(0, c, LANES):
            h = load(given, o + v)
            sums = multiply_add(multiply(h, load(s.f, r + v)), load(s.kept, phi + r + v), sums)
            store(s.a, 2 * r + v, multiply(h, load(s.kept, last + 2 * r + v)))
            store(s.a, 2 * r + c + v, multiply(h, load(s.kept, last + 2 * r + c + v)))
        slope[p] += total(sums)
    _deep_reverse(t, which, 1, s.a, rows, c, net, s.kept, k + 2 * ROWS * c, s.b)
    _deep_reverse(t, which, 0, s.b, rows, c, net, s.kept, k, s.a)
    width = _atom_width(net)
    for p in range(a, b):
        i = which * 4 * c + g.centre[p] * width
        j, o = which * 4 * c + g.sender[p] * width + 2 * c, (p - a) * 2 * c
        for v in range(0, 2 * c, LANES):
            h = load(s.a, o + v)
            store(s.g_x, i + v, add(load(s.g_x, i + v), h))
            store(s.g_x, j + v, add(load(s.g_x, j + v), h))
    part = (2 * t + which) * 2 * c * c
    dense(s.a, 0, 2 * c, rows, 2 * c, net.bonds_back, part, s.f[:0], 0, s.g_e, a * c, c, c, True)


@compiled
def _reverse(t, a, b, q0, q1, net, g, s, slot, slope):  # type: ignore[no-untyped-def]
    """From derivatives after block t to those before it, of pairs a … b − 1."""
    c, wide = net.channels, _wide(net.functions)
    _network_reverse(t, 1, a, b, net, g, s, slot, slope)
    _network_reverse(t, 0, a, b, net, g, s, slot, slope)
    if q1 == q0:
        return
    for q in range(q0, q1):
        o, r = g.near[q] * c, (q - q0) * 2 * c
        for v in range(0, c, LANES):
            h = load(s.g_e, o + v)
            store(s.a, r + v, multiply(h, load(s.kept, slot + r + v)))
            store(s.a, r + c + v, multiply(h, load(s.kept, slot + r + c + v)))
    dense(
        s.a, 0, 2 * c, q1 - q0, 2 * c, net.angular_back, t * 2 * c * wide, s.f[:0], 0, s.angular, q0 * wide,
        wide, wide, False,
    )  # fmt: skip


@compiled
def _listen(t, net, g, s):  # type: ignore[no-untyped-def]
    """Angular sums of near pairs in block t."""
    width = _atom_width(net)
    angular_sums(
        g.near_start, g.near, g.sender, g.functions, g.harmonics, net.orders, net.functions, s.x,
        t * (len(g.near_start) - 1) * width + 8 * net.channels, width, s.sums, s.angular,
        _wide(net.functions),
    )  # fmt: skip


@compiled
def _start(types, net, g, s):  # type: ignore[no-untyped-def]
    """First features of atoms and pairs."""
    c, wide, pairs = net.channels, _wide(net.radial), len(g.centre)
    for k in range(len(types)):
        s.v[k * c : (k + 1) * c] = net.embedding[types[k] * c : (types[k] + 1) * c]
    if pairs:
        dense(g.radial, 0, wide, pairs, net.radial, net.first, 0, net.first_bias, 0, s.e, 0, c, c, False)
        activate(s.e, 0, pairs * c, SILU, s.first_slopes, 0)


@compiled
def _end(net, g, s, slope):  # type: ignore[no-untyped-def]
    """From derivatives of the pairs' first features to those of distances."""
    c, wide, pairs = net.channels, _wide(net.radial), len(g.centre)
    zero = splat(s.f.dtype.type(0))
    for a in range(0, pairs, ROWS):
        b = min(pairs, a + ROWS)
        dense(
            g.radial_slopes, a * wide, wide, b - a, net.radial, net.first, 0, s.f[:0], 0, s.f, 0, c, c, False
        )
        for p in range(a, b):
            sums = zero
            for v in range(0, c, LANES):
                h = multiply(load(s.g_e, p * c + v), load(s.first_slopes, p * c + v))
                sums = multiply_add(h, load(s.f, (p - a) * c + v), sums)
            slope[p] += total(sums)


@compiled
def _block(t, net, g, s, keeping):  # type: ignore[no-untyped-def]
    """Features of atoms and pairs after block t."""
    c, n, pairs, width = net.channels, len(g.near_start) - 1, len(g.centre), _atom_width(net)
    at, weights = t * n * width, t * width
    dense(s.v, 0, c, n, c, net.atoms, weights * c, net.atom_biases, weights, s.x, at, width, width, False)
    for k in range(n):
        _sigmoid(s.x, at + k * width + 8 * c, net.functions)
    _listen(t, net, g, s)
    q0, chunks = 0, (pairs + ROWS - 1) // ROWS
    for k in range(chunks):
        a, b, q1 = k * ROWS, min(pairs, (k + 1) * ROWS), q0
        while q1 < len(g.near) and g.near[q1] < b:
            q1 += 1
        slot = (t * chunks + k) * KEPT * ROWS * c if keeping else 0
        _forward(t, a, b, q0, q1, net, g, s, slot, True)
        q0 = q1


@compiled
def _block_reverse(t, net, g, s, keeping, slope, harmonics_slope):  # type: ignore[no-untyped-def]
    """From derivatives after block t to those before it."""
    c, n, pairs, width = net.channels, len(g.near_start) - 1, len(g.centre), _atom_width(net)
    at, logits, wide = t * n * width, 8 * c, _wide(net.functions)
    s.g_x[: n * width] = 0.0
    if not keeping:
        _listen(t, net, g, s)
    q0, chunks = 0, (pairs + ROWS - 1) // ROWS
    for k in range(chunks):
        a, b, q1 = k * ROWS, min(pairs, (k + 1) * ROWS), q0
        while q1 < len(g.near) and g.near[q1] < b:
            q1 += 1
        slot = (t * chunks + k) * KEPT * ROWS * c if keeping else 0
        if not keeping:
            _forward(t, a, b, q0, q1, net, g, s, slot, False)
        _reverse(t, a, b, q0, q1, net, g, s, slot, slope)
        q0 = q1
    angular_sums_reverse(
        g.near_start, g.near, g.sender, g.functions, g.function_slopes, g.harmonics, net.orders,
        net.functions, s.x, at + logits, width, s.sums, s.angular, wide, slope, harmonics_slope, s.g_x,
        logits, width,
    )  # fmt: skip
    one = splat(s.x.dtype.type(1))
    minus = splat(s.x.dtype.type(-1))
    for k in range(n):
        for v in range(logits, logits + net.functions, LANES):
            w, o = load(s.x, at + k * width + v), k * width + v
            w = multiply(w, multiply_add(minus, w, one))
            store(s.g_x, o, multiply(load(s.g_x, o), w))
    dense(s.g_x, 0, width, n, width, net.atoms_back, t * width * c, s.f[:0], 0, s.g_v, 0, c, c, True)


@compiled
def m3gnet_sweep(types, blocks, net, g, s, keeping, scale, energies, slope, harmonics_slope):  # type: ignore[no-untyped-def]
    """Read-outs of all atoms into `energies`; adds scale·∂(their sum)/∂r and /∂Ŷ (see `angular_sums_cpu`).

    With `keeping` there is room in `kept` for every chunk in every block.
    """
    n, c = len(types), net.channels
    _start(types, net, g, s)
    for t in range(blocks):
        _block(t, net, g, s, keeping)
    for a in range(0, n, CHUNK):
        gated_energies(
            net.readout, 2, s.v, a * c, min(n, a + CHUNK) - a, s.readout_slopes, s.readout_work, s.readout,
            scale, energies, a, s.g_v, a * c,
        )  # fmt: skip
    s.g_e[: len(g.centre) * c] = 0.0
    for t in range(blocks - 1, -1, -1):
        _block_reverse(t, net, g, s, keeping, slope, harmonics_slope)
    _end(net, g, s, slope)
