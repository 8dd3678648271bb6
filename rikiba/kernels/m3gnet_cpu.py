"""A whole M3GNet as one compiled function, there and back; see `rikiba.potentials.m3gnet`.

The first layers of the pairs' networks act on atoms before they are gathered; a chunk of pairs then goes
through both networks of a block while it is in cache. What the reverse sweep reads of a chunk is kept, or
made again where there is room for one chunk only. Pairs near enough for three-body terms come first; these
and the others are grouped by centre, arrays are flat.

In the first block all atoms of a type are alike, and a pair too far for three-body terms hears of no angle:
its features after the block and its message depend on its distance and types alone, and may be tables.
"""

from typing import NamedTuple

import numpy as np

from .activation_cpu import SILU, activate, exponential
from .angular_sums_cpu import angular_sums, angular_sums_reverse
from .compiled import compiled, inlined
from .dense_cpu import PANEL, Network, dense
from .gated_readout_cpu import gated_energies
from .lanes import LANES, add, divide, load, multiply, multiply_add, smaller, splat, store, total
from .row_product_cpu import STEP, row_product
from .table_rows_cpu import Samples, read_table, read_table_reverse

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
    """Pairs of one call; rows of their functions up to the next multiple of eight can be read."""

    centre: np.ndarray
    sender: np.ndarray
    to: np.ndarray
    """The atom at which a message is summed."""
    radial: np.ndarray
    """Functions of the distance, rows padded to a multiple of 32."""
    radial_slopes: np.ndarray
    near_start: np.ndarray
    """First near pair of each centre, and their number: they are the first pairs."""
    functions: np.ndarray
    """Of near pairs; see `angular_sums_cpu`."""
    function_slopes: np.ndarray
    harmonics: np.ndarray
    first: int
    """Pairs that go through the first block; what the others are after it stands in a table."""
    far: Samples
    table: np.ndarray
    """Columns: features of a pair, its message."""


class M3GNetSpace(NamedTuple):
    """Arrays of one sweep, flat and at least of the sizes told; A is the width of `atoms`.

    Rows of pairs are as many as the next multiple of eight.
    """

    v: np.ndarray
    """[atoms, c]."""
    g_v: np.ndarray
    x: np.ndarray
    """[blocks, atoms, A]: first layers' parts of atoms; weights of angular functions."""
    g_x: np.ndarray
    """[atoms, A]."""
    e: np.ndarray
    """[pairs, c], or [blocks + 1, pairs, c] where things are made again."""
    g_e: np.ndarray
    first_slopes: np.ndarray
    """[pairs, c]: of the activation of the first features."""
    far: np.ndarray
    """[pairs of tables, 2c]: what is read of these, then their derivatives."""
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


@inlined
def _copy(x, at, n, y, to):  # type: ignore[no-untyped-def]
    for k in range(0, n, LANES):
        store(y, to + k, load(x, at + k))


@inlined
def _clear(x, n):  # type: ignore[no-untyped-def]
    for k in range(0, n, LANES):
        store(x, k, splat(x.dtype.type(0)))


@compiled
def _gate(y, rows, c, f, weighted, slope, s_at, phi, p_at):  # type: ignore[no-untyped-def]
    """f = φ = silu(core) ∘ σ(gate) of rows [core | gate], and ∂f/∂y.

    Where `weighted` f becomes f ∘ φ, and φ is kept.
    """
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
            if weighted:
                store(phi, p_at + k * c + v, value)
                share = load(f, k * c + v)
                value, gate = multiply(value, share), multiply(gate, share)
            store(f, k * c + v, value)
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
def _hear(t, q0, q1, at, net, g, s, slot):  # type: ignore[no-untyped-def]
    """Add to the features of near pairs q0 … q1 − 1, from `at` on in e, what they hear of their angles."""
    c, wide, nothing = net.channels, _wide(net.functions), s.f[:0]
    row_product(
        s.angular, q0 * wide, wide, q1 - q0, net.functions, net.angular, t * net.functions * 2 * c, nothing,
        0, nothing, 0, s.b, 0, 2 * c, 2 * c, 2 * c, False,
    )  # fmt: skip
    _gate(s.b, q1 - q0, c, s.f, False, s.kept, slot, s.kept, slot)
    for k in range(0, (q1 - q0) * c, LANES):
        o = at + q0 * c + k
        store(s.e, o, add(load(s.e, o), load(s.f, k)))


@compiled
def _network(t, which, a, b, at, net, g, s, slot):  # type: ignore[no-untyped-def]
    """f·φ of pairs a … b − 1, f the filters; φ and ∂f·φ/∂(its last layer) are kept."""
    c, rows, nothing = net.channels, b - a, s.f[:0]
    k, width, part = slot + (2 + 7 * which) * ROWS * c, _atom_width(net), 2 * t + which
    atoms = t * (len(g.near_start) - 1) * width + which * 4 * c
    for p in range(a, b):
        i, j = atoms + g.centre[p] * width, atoms + g.sender[p] * width + 2 * c
        o = (p - a) * 2 * c
        for v in range(0, 2 * c, LANES):
            store(s.a, o + v, add(load(s.x, i + v), load(s.x, j + v)))
    row_product(
        s.e, at + a * c, c, rows, c, net.bonds, part * 2 * c * c, nothing, 0, nothing, 0, s.a, 0, 2 * c,
        2 * c, 2 * c, True,
    )  # fmt: skip
    activate(s.a, 0, rows * 2 * c, SILU, s.kept, k)
    row_product(
        s.a, 0, 2 * c, rows, c, net.deep, part * 4 * c * c, net.deep_biases, part * 4 * c, nothing, 0, s.b,
        0, 2 * c, 2 * c, c, False,
    )  # fmt: skip
    activate(s.b, 0, rows * 2 * c, SILU, s.kept, k + 2 * ROWS * c)
    row_product(
        s.b, 0, 2 * c, rows, c, net.deep, (part * 4 + 2) * c * c, net.deep_biases, (part * 4 + 2) * c,
        nothing, 0, s.a, 0, 2 * c, 2 * c, c, False,
    )  # fmt: skip
    wide = _wide(net.radial)
    row_product(
        g.radial, a * wide, wide, rows, net.radial, net.filters, part * net.radial * c, nothing, 0, nothing,
        0, s.f, 0, c, c, c, False,
    )  # fmt: skip
    _gate(s.a, rows, c, s.f, True, s.kept, k + 4 * ROWS * c, s.kept, k + 6 * ROWS * c)


@compiled
def _forward(t, a, b, at, to, net, g, s, slot, moving):  # type: ignore[no-untyped-def]
    """Features of pairs a … b − 1 after block t, from `at` to `to` in e; their messages where `moving`."""
    c, near = net.channels, g.near_start[-1]
    if to != at:
        _copy(s.e, at + a * c, (b - a) * c, s.e, to + a * c)
    if a < near:
        _hear(t, a, min(b, near), to, net, g, s, slot)
    for which in range(2):
        _network(t, which, a, b, to, net, g, s, slot)
        if which == 0:
            for k in range(0, (b - a) * c, LANES):
                o = to + a * c + k
                store(s.e, o, add(load(s.e, o), load(s.f, k)))
        elif moving:
            for p in range(a, b):
                o = g.to[p] * c
                for v in range(0, c, LANES):
                    store(s.v, o + v, add(load(s.v, o + v), load(s.f, (p - a) * c + v)))


@compiled
def _network_reverse(t, which, a, b, net, g, s, slot, slope):  # type: ignore[no-untyped-def]
    """From the derivatives of what the network gave to those of its inputs."""
    c, rows, nothing = net.channels, b - a, s.f[:0]
    k, wide, part = slot + (2 + 7 * which) * ROWS * c, _wide(net.radial), 2 * t + which
    last, phi = k + 4 * ROWS * c, k + 6 * ROWS * c
    row_product(
        g.radial_slopes, a * wide, wide, rows, net.radial, net.filters, part * net.radial * c, nothing, 0,
        nothing, 0, s.f, 0, c, c, c, False,
    )  # fmt: skip
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
    row_product(
        s.a, 0, 2 * c, rows, c, net.deep_back, (part * 4 + 2) * c * c, nothing, 0, s.kept, k + 2 * ROWS * c,
        s.b, 0, 2 * c, 2 * c, c, False,
    )  # fmt: skip
    row_product(
        s.b, 0, 2 * c, rows, c, net.deep_back, part * 4 * c * c, nothing, 0, s.kept, k, s.a, 0, 2 * c, 2 * c,
        c, False,
    )  # fmt: skip
    if t > 0:  # features of atoms before the first block are given
        width = _atom_width(net)
        for p in range(a, b):
            i = which * 4 * c + g.centre[p] * width
            j, o = which * 4 * c + g.sender[p] * width + 2 * c, (p - a) * 2 * c
            for v in range(0, 2 * c, LANES):
                h = load(s.a, o + v)
                store(s.g_x, i + v, add(load(s.g_x, i + v), h))
                store(s.g_x, j + v, add(load(s.g_x, j + v), h))
    row_product(
        s.a, 0, 2 * c, rows, 2 * c, net.bonds_back, part * 2 * c * c, nothing, 0, nothing, 0, s.g_e, a * c,
        c, c, c, True,
    )  # fmt: skip


@compiled
def _reverse(t, a, b, net, g, s, slot, slope):  # type: ignore[no-untyped-def]
    """From derivatives after block t to those before it, of pairs a … b − 1."""
    c, wide, near, nothing = net.channels, _wide(net.functions), g.near_start[-1], s.f[:0]
    for which in range(1, -1, -1):
        _network_reverse(t, which, a, b, net, g, s, slot, slope)
    rows = min(b, near) - a
    if rows <= 0:
        return
    for k in range(rows):
        for v in range(0, c, LANES):
            h, o = load(s.g_e, (a + k) * c + v), 2 * k * c + v
            store(s.a, o, multiply(h, load(s.kept, slot + o)))
            store(s.a, o + c, multiply(h, load(s.kept, slot + o + c)))
    row_product(
        s.a, 0, 2 * c, rows, 2 * c, net.angular_back, t * 2 * c * wide, nothing, 0, nothing, 0, s.b, 0, wide,
        wide, wide, False,
    )  # fmt: skip
    # not written there: rows beyond these are the next chunk's, which may have to be read
    _copy(s.b, 0, rows * wide, s.angular, a * wide)


@inlined
def _listen(t, net, g, s):  # type: ignore[no-untyped-def]
    """Angular sums of near pairs in block t."""
    width = _atom_width(net)
    angular_sums(
        g.near_start, g.sender, g.functions, g.harmonics, net.orders, net.functions, s.x,
        t * (len(g.near_start) - 1) * width + 8 * net.channels, width, s.sums, s.angular,
        _wide(net.functions),
    )  # fmt: skip


@compiled
def _start(types, net, g, s, at):  # type: ignore[no-untyped-def]
    """First features of atoms and pairs; of those in tables, features after the first block from `at` on."""
    c, wide, nothing = net.channels, _wide(net.radial), s.f[:0]
    for k in range(len(types)):
        _copy(net.embedding, types[k] * c, c, s.v, k * c)
    row_product(
        g.radial, 0, wide, g.first, net.radial, net.first, 0, net.first_bias, 0, nothing, 0, s.e, 0, c, c, c,
        False,
    )  # fmt: skip
    activate(s.e, 0, g.first * c, SILU, s.first_slopes, 0)
    read_table(g.far, 0, g.table, 2 * c, s.far)
    for p in range(g.first, len(g.centre)):
        _copy(s.far, (p - g.first) * 2 * c, c, s.e, at + p * c)


@inlined
def _hear_far(net, g, s):  # type: ignore[no-untyped-def]
    """Add the messages of tables to the atoms."""
    c = net.channels
    for p in range(g.first, len(g.centre)):
        o, k = g.to[p] * c, (2 * (p - g.first) + 1) * c
        for v in range(0, c, LANES):
            store(s.v, o + v, add(load(s.v, o + v), load(s.far, k + v)))


@inlined
def _far_reverse(net, g, s, slope):  # type: ignore[no-untyped-def]
    """From derivatives after the first block to those of distances in tables."""
    c = net.channels
    for p in range(g.first, len(g.centre)):
        o, m = (p - g.first) * 2 * c, g.to[p] * c
        _copy(s.g_e, p * c, c, s.far, o)
        _copy(s.g_v, m, c, s.far, o + c)
    read_table_reverse(g.far, g.table, 2 * c, s.far, slope[g.first :])


@compiled
def _end(net, g, s, slope):  # type: ignore[no-untyped-def]
    """From derivatives of the pairs' first features to those of distances."""
    c, wide, nothing = net.channels, _wide(net.radial), s.f[:0]
    zero = splat(s.f.dtype.type(0))
    for a in range(0, g.first, ROWS):
        b = min(g.first, a + ROWS)
        row_product(
            g.radial_slopes, a * wide, wide, b - a, net.radial, net.first, 0, nothing, 0, nothing, 0, s.f, 0,
            c, c, c, False,
        )  # fmt: skip
        for p in range(a, b):
            sums = zero
            for v in range(0, c, LANES):
                h = multiply(load(s.g_e, p * c + v), load(s.first_slopes, p * c + v))
                sums = multiply_add(h, load(s.f, (p - a) * c + v), sums)
            slope[p] += total(sums)


@inlined
def _slot(t, a, net, g, keeping):  # type: ignore[no-untyped-def]
    """Where a chunk's numbers are kept."""
    if not keeping:
        return 0
    return (t * ((len(g.centre) + ROWS - 1) // ROWS) + a // ROWS) * KEPT * ROWS * net.channels


@inlined
def _places(t, net, g, keeping):  # type: ignore[no-untyped-def]
    """Where features of pairs before and after block t begin, and how many pairs go through it."""
    size = 0 if keeping else len(g.centre) * net.channels
    return t * size, (t + 1) * size, g.first if t == 0 else len(g.centre)


@compiled
def _block(t, net, g, s, keeping):  # type: ignore[no-untyped-def]
    """Features of atoms and pairs after block t."""
    c, n, width = net.channels, len(g.near_start) - 1, _atom_width(net)
    x, weights = t * n * width, t * width
    dense(s.v, 0, c, n, c, net.atoms, weights * c, net.atom_biases, weights, s.x, x, width, width, False)
    for k in range(n):
        _sigmoid(s.x, x + k * width + 8 * c, net.functions)
    _listen(t, net, g, s)
    at, to, pairs = _places(t, net, g, keeping)
    for a in range(0, pairs, ROWS):
        b = min(pairs, a + ROWS)
        _forward(t, a, b, at, to, net, g, s, _slot(t, a, net, g, keeping), True)


@compiled
def _block_reverse(t, net, g, s, keeping, slope, harmonics_slope):  # type: ignore[no-untyped-def]
    """From derivatives after block t to those before it."""
    c, n, width = net.channels, len(g.near_start) - 1, _atom_width(net)
    x, logits, wide = t * n * width, 8 * c, _wide(net.functions)
    _clear(s.g_x, n * width)
    if not keeping:
        _listen(t, net, g, s)
    at, to, pairs = _places(t, net, g, keeping)
    for a in range(0, pairs, ROWS):
        b, slot = min(pairs, a + ROWS), _slot(t, a, net, g, keeping)
        if not keeping:
            _forward(t, a, b, at, to, net, g, s, slot, False)
        _reverse(t, a, b, net, g, s, slot, slope)
    angular_sums_reverse(
        g.near_start, g.sender, g.functions, g.function_slopes, g.harmonics, net.orders, net.functions, s.x,
        x + logits, width, s.sums, s.angular, wide, slope, harmonics_slope, s.g_x, logits, width,
    )  # fmt: skip
    if t == 0:
        return
    one = splat(s.x.dtype.type(1))
    minus = splat(s.x.dtype.type(-1))
    for k in range(n):
        for v in range(logits, logits + net.functions, LANES):
            w, o = load(s.x, x + k * width + v), k * width + v
            w = multiply(w, multiply_add(minus, w, one))
            store(s.g_x, o, multiply(load(s.g_x, o), w))
    dense(s.g_x, 0, width, n, width, net.atoms_back, t * width * c, s.f[:0], 0, s.g_v, 0, c, c, True)


@compiled
def m3gnet_sweep(types, blocks, net, g, s, keeping, scale, energies, slope, harmonics_slope):  # type: ignore[no-untyped-def]
    """Read-outs of all atoms into `energies`; adds scale·∂(their sum)/∂r and /∂Ŷ (see `angular_sums_cpu`).

    With `keeping` there is room in `kept` for every chunk in every block.
    """
    n, c = len(types), net.channels
    _start(types, net, g, s, 0 if keeping else len(g.centre) * c)
    for t in range(blocks):
        _block(t, net, g, s, keeping)
        if t == 0:
            _hear_far(net, g, s)
    for a in range(0, n, CHUNK):
        gated_energies(
            net.readout, 2, s.v, a * c, min(n, a + CHUNK) - a, s.readout_slopes, s.readout_work, s.readout,
            scale, energies, a, s.g_v, a * c,
        )  # fmt: skip
    _clear(s.g_e, (len(g.centre) + STEP - 1) // STEP * STEP * c)
    for t in range(blocks - 1, -1, -1):
        if t == 0:
            _far_reverse(net, g, s, slope)
        _block_reverse(t, net, g, s, keeping, slope, harmonics_slope)
    _end(net, g, s, slope)
