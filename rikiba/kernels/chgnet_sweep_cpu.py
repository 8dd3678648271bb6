"""The whole of CHGNet from features of atoms to energies and back, as one compiled call.

Layer after layer atoms, then bonds, then angles, as `rikiba.potentials.chgnet` defines them, the features of
a bond once for both of its directions; then the read-out, then everything in reverse.
"""

import math
from typing import NamedTuple

import numpy as np

from .chgnet_cpu import angle_messages, angle_messages_reverse, pair_messages, pair_messages_reverse
from .compiled import compiled
from .dense_cpu import Network, dense, network_forward, network_reverse
from .gated_cpu import ROWS, Gates
from .lanes import LANES, load, multiply_add, splat, store
from .table_rows_cpu import Samples, read_table, read_table_reverse

_EPSILON = 1e-5
"""Of the layer norm's variance, torch's."""


class Linear(NamedTuple):
    """y = x W_t + b_t of every layer t."""

    n_in: int
    n_out: int
    weights: np.ndarray
    back: np.ndarray
    biases: np.ndarray
    """Empty for none."""


class Model(NamedTuple):
    """Weights; widths are padded."""

    layers: int
    channels: int
    count: int  # type: ignore[assignment]
    """True channels."""
    scale: float
    pair: Gates
    bond: Gates
    angle: Gates
    atoms: Linear
    """Parts of a pair's first layer from its centre and its neighbour, side by side; likewise …"""
    edges: Linear
    atom_out: Linear
    bond_ends: Linear
    """… from the first bond and the second."""
    bond_middle: Linear
    bond_own: Linear
    bond_out: Linear
    angle_ends: Linear
    angle_middle: Linear
    angle_own: Linear
    moment: Linear
    norm: np.ndarray
    """Weight and bias of the layer norm before the read-out; empty for none."""
    readout: Network


class Functions(NamedTuple):
    """Points of tables and the tables."""

    far: Samples
    """Of pairs."""
    short: Samples
    """Of edges, in the tables of pairs."""
    near: Samples
    """Of edges, in tables that end at the bonds' cutoff."""
    turn: Samples
    """Of angles."""
    filters: np.ndarray
    """ẽ of pairs."""
    bonds: np.ndarray
    """First features of edges."""
    parts: np.ndarray
    """Parts of the first layers of pairs that are not bonds, layer after layer."""
    bond_filters: np.ndarray
    """ẽ′ of edges."""
    angles: np.ndarray
    """First features of angles."""
    bond_own: np.ndarray
    """What these give to the first layer of bonds' perceptrons …"""
    angle_own: np.ndarray
    """… and of angles'."""


class Space(NamedTuple):
    """Room for features, which are kept for the reverse sweep, and their derivatives."""

    v: np.ndarray
    e: np.ndarray
    a: np.ndarray
    atoms: np.ndarray
    edges: np.ndarray
    bond_ends: np.ndarray
    bond_middle: np.ndarray
    angle_ends: np.ndarray
    angle_middle: np.ndarray
    filters: np.ndarray
    sums: np.ndarray
    v_back: np.ndarray
    e_back: np.ndarray
    a_back: np.ndarray
    filters_back: np.ndarray
    atoms_back: np.ndarray
    edges_back: np.ndarray
    ends_back: np.ndarray
    middle_back: np.ndarray
    read: np.ndarray
    """Of the read-out: four times ROWS rows of its widest layer …"""
    read_slopes: np.ndarray
    """… and ROWS rows of all its hidden layers."""


@compiled
def _linear(l, t, x, x_at, rows, y, y_at, adding):  # type: ignore[no-untyped-def]
    """y = (y if adding) + x W_t + b_t."""
    bias_at = t * l.n_out if len(l.biases) else 0
    dense(
        x, x_at, l.n_in, rows, l.n_in, l.weights, t * l.n_in * l.n_out, l.biases, bias_at, y, y_at, l.n_out,
        l.n_out, adding,
    )  # fmt: skip


@compiled
def _linear_reverse(l, t, g, rows, y, adding):  # type: ignore[no-untyped-def]
    """y = (y if adding) + g W_tᵀ."""
    dense(g, 0, l.n_out, rows, l.n_out, l.back, t * l.n_in * l.n_out, g[:0], 0, y, 0, l.n_in, l.n_in, adding)


@compiled
def _clear(x, n):  # type: ignore[no-untyped-def]
    zero = splat(x.dtype.type(0))
    for v in range(0, n, LANES):
        store(x, v, zero)


@compiled
def _copy(x, x_at, n, y, y_at):  # type: ignore[no-untyped-def]
    for v in range(0, n, LANES):
        store(y, y_at + v, load(x, x_at + v))


@compiled
def _atoms(m, t, graph, f, n, s, kept):  # type: ignore[no-untyped-def]
    """Atoms after layer t."""
    c, width, n_edges = m.channels, m.edges.n_out, len(f.short.row)
    _clear(s.sums, n * c)
    atoms, edges = s.atoms[t * n * 2 * width :], s.edges[t * n_edges * width :]
    _linear(m.atoms, t, s.v, t * n * c, n, atoms, 0, False)
    _linear(m.edges, t, s.e, t * n_edges * c, n_edges, edges, 0, False)
    size = len(f.parts) // m.layers
    pair_messages(
        m.pair, t, kept, graph, f.far, f.filters, f.parts[t * size : (t + 1) * size], atoms, edges, width,
        s.sums,
    )  # fmt: skip
    _copy(s.v, t * n * c, n * c, s.v, (t + 1) * n * c)
    _linear(m.atom_out, t, s.sums, 0, n, s.v, (t + 1) * n * c, True)


@compiled
def _atoms_reverse(m, t, graph, f, n, s, kept, slope):  # type: ignore[no-untyped-def]
    """From derivatives by atoms after layer t to those by atoms and edges before, and by distances.

    Not by atoms before the first layer, which are constants.
    """
    width, n_edges = m.edges.n_out, len(f.short.row)
    atoms_back = s.atoms_back[: n * 2 * width if t else 0]
    _linear_reverse(m.atom_out, t, s.v_back, n, s.sums, False)
    atoms, edges = s.atoms[t * n * 2 * width :], s.edges[t * n_edges * width :]
    _clear(atoms_back, len(atoms_back))
    _clear(s.edges_back, n_edges * width)
    size = len(f.parts) // m.layers
    pair_messages_reverse(
        m.pair, t, kept, graph, f.far, f.filters, f.parts[t * size : (t + 1) * size], atoms, edges, width,
        s.sums, atoms_back, s.edges_back, slope,
    )  # fmt: skip
    if t:
        _linear_reverse(m.atoms, t, atoms_back, n, s.v_back, True)
    _linear_reverse(m.edges, t, s.edges_back, n_edges, s.e_back, True)


@compiled
def _bonds(m, t, graph, f, n, s, kept):  # type: ignore[no-untyped-def]
    """Edges after layer t."""
    c, width, n_edges, n_angles = m.channels, m.bond_own.n_out, len(f.short.row), len(graph.one)
    ends, middle = s.bond_ends[t * n_edges * 2 * width :], s.bond_middle[t * n * width :]
    _linear(m.bond_ends, t, s.e, t * n_edges * c, n_edges, ends, 0, False)
    _linear(m.bond_middle, t, s.v, (t + 1) * n * c, n, middle, 0, False)
    _clear(s.sums, n_edges * c)
    angle_messages(
        m.bond, t, kept, graph, f.turn, f.bond_own if t == 0 else f.bond_own[:0], s.a[t * n_angles * c :],
        m.bond_own.weights, ends, middle, width, s.filters, s.sums,
    )  # fmt: skip
    _copy(s.e, t * n_edges * c, n_edges * c, s.e, (t + 1) * n_edges * c)
    _linear(m.bond_out, t, s.sums, 0, n_edges, s.e, (t + 1) * n_edges * c, True)


@compiled
def _bonds_reverse(m, t, graph, f, n, s, kept, turn_slope):  # type: ignore[no-untyped-def]
    c, width, n_edges, n_angles = m.channels, m.bond_own.n_out, len(f.short.row), len(graph.one)
    ends, middle = s.bond_ends[t * n_edges * 2 * width :], s.bond_middle[t * n * width :]
    _linear_reverse(m.bond_out, t, s.e_back, n_edges, s.sums, False)
    _clear(s.ends_back, n_edges * 2 * width)
    _clear(s.middle_back, n * width)
    angle_messages_reverse(
        m.bond, t, kept, graph, f.turn, f.bond_own if t == 0 else f.bond_own[:0], s.a[t * n_angles * c :],
        m.bond_own.weights, m.bond_own.back, ends, middle, width, s.filters, s.sums, s.a_back, s.ends_back,
        s.middle_back, s.filters_back, turn_slope,
    )  # fmt: skip
    _linear_reverse(m.bond_ends, t, s.ends_back, n_edges, s.e_back, True)
    _linear_reverse(m.bond_middle, t, s.middle_back, n, s.v_back, True)


@compiled
def _angles(m, t, graph, f, n, s, kept):  # type: ignore[no-untyped-def]
    """Angles after layer t."""
    c, width, n_edges, n_angles = m.channels, m.angle_own.n_out, len(f.short.row), len(graph.one)
    ends, middle = s.angle_ends[t * n_edges * 2 * width :], s.angle_middle[t * n * width :]
    _linear(m.angle_ends, t, s.e, (t + 1) * n_edges * c, n_edges, ends, 0, False)
    _linear(m.angle_middle, t, s.v, (t + 1) * n * c, n, middle, 0, False)
    angle_messages(
        m.angle, t, kept, graph, f.turn, f.angle_own if t == 0 else f.angle_own[:0], s.a[t * n_angles * c :],
        m.angle_own.weights, ends, middle, width, s.filters[:0], s.a[(t + 1) * n_angles * c :],
    )  # fmt: skip


@compiled
def _angles_reverse(m, t, graph, f, n, s, kept, turn_slope):  # type: ignore[no-untyped-def]
    c, width, n_edges, n_angles = m.channels, m.angle_own.n_out, len(f.short.row), len(graph.one)
    ends, middle = s.angle_ends[t * n_edges * 2 * width :], s.angle_middle[t * n * width :]
    _clear(s.ends_back, n_edges * 2 * width)
    _clear(s.middle_back, n * width)
    angle_messages_reverse(
        m.angle, t, kept, graph, f.turn, f.angle_own if t == 0 else f.angle_own[:0], s.a[t * n_angles * c :],
        m.angle_own.weights, m.angle_own.back, ends, middle, width, s.filters[:0], s.a_back, s.a_back,
        s.ends_back, s.middle_back, s.filters_back, turn_slope,
    )  # fmt: skip
    _linear_reverse(m.angle_ends, t, s.ends_back, n_edges, s.e_back, True)
    _linear_reverse(m.angle_middle, t, s.middle_back, n, s.v_back, True)


@compiled
def _normalise(m, x, x_at, rows, y, inverse):  # type: ignore[no-untyped-def]
    """y = (x − mean)/deviation of each row without padding, and 1/deviation."""
    real = y.dtype.type
    c, count = m.channels, real(m.count)
    for k in range(rows):
        at, mean, square = x_at + k * c, real(0.0), real(0.0)
        for v in range(m.count):
            mean += x[at + v]
        mean /= count
        for v in range(m.count):
            square += (x[at + v] - mean) ** 2
        inverse[k] = real(1.0) / math.sqrt(square / count + real(_EPSILON))
        for v in range(m.count):
            y[k * c + v] = (x[at + v] - mean) * inverse[k]
        for v in range(m.count, c):
            y[k * c + v] = real(0.0)


@compiled
def _normalise_reverse(m, g, rows, y, inverse, out, at):  # type: ignore[no-untyped-def]
    """out = ∂E/∂x from g = ∂E/∂(weight·y + bias)."""
    real = y.dtype.type
    c, count = m.channels, real(m.count)
    for k in range(rows):
        mean, along = real(0.0), real(0.0)
        for v in range(m.count):
            g[k * c + v] *= m.norm[v]
            mean += g[k * c + v]
            along += g[k * c + v] * y[k * c + v]
        mean, along = mean / count, along / count
        for v in range(m.count):
            out[at + k * c + v] = (g[k * c + v] - mean - along * y[k * c + v]) * inverse[k]
        for v in range(m.count, c):
            out[at + k * c + v] = real(0.0)


@compiled
def _read(m, n, s, energies):  # type: ignore[no-untyped-def]
    """Read-outs, and scale·∂/∂v of their sum."""
    c, at, net = m.channels, m.layers * n * m.channels, m.readout
    real, quarter, last = s.v.dtype.type, len(s.read) // 4, net.widths[-1]
    x, y, work = s.read[:quarter], s.read[quarter : 2 * quarter], s.read[2 * quarter :]
    inverse, seed = np.empty(ROWS, s.v.dtype), np.zeros(ROWS * last, s.v.dtype)
    seed[::last] = real(m.scale)
    for a in range(0, n, ROWS):
        rows = min(n - a, ROWS)
        here = at + a * c
        if len(m.norm):
            _normalise(m, s.v, here, rows, x, inverse)
            for k in range(0, rows * c, LANES):
                v = k % c
                store(y, k, multiply_add(load(x, k), load(m.norm, v), load(m.norm, c + v)))
        else:
            _copy(s.v, here, rows * c, y, 0)
        slopes, found = s.read_slopes, s.v_back[a * c : a * c + rows * c]
        out = np.empty(rows * last, s.v.dtype)
        network_forward(net, 0, y, 0, c, rows, slopes, 0, work, out, 0, last, False)
        for k in range(rows):
            energies[a + k] = out[k * last]
        network_reverse(net, 0, seed, 0, last, rows, slopes, 0, work, y, 0, c, False)
        if len(m.norm):
            _normalise_reverse(m, y, rows, x, inverse, found, 0)
        else:
            _copy(y, 0, rows * c, found, 0)


@compiled
def _moments(m, n, s, moments):  # type: ignore[no-untyped-def]
    """|w·v + b| of atoms before the last layer."""
    out = np.empty(n * m.moment.n_out, s.v.dtype)
    _linear(m.moment, 0, s.v, (m.layers - 1) * n * m.channels, n, out, 0, False)
    for k in range(n):
        moments[k] = abs(out[k * m.moment.n_out])


@compiled
def sweep(  # type: ignore[no-untyped-def]
    m, graph, f, s, pairs_kept, bonds_kept, angles_kept, energies, moments, slope, edge_slope, turn_slope
):
    """Fill read-outs and moments; add scale·∂E/∂ of the read-outs by distances, lengths of edges and angles.

    `s.v` begins with the first features of atoms.
    """
    n, n_edges, n_angles, c = len(energies), len(f.short.row), len(graph.one), m.channels
    read_table(f.short, 0, f.bonds, c, s.e)
    read_table(f.near, 0, f.bond_filters, c, s.filters)
    read_table(f.turn, 0, f.angles, c, s.a)
    for t in range(m.layers):
        _atoms(m, t, graph, f, n, s, pairs_kept)
        if t < m.layers - 1:
            _bonds(m, t, graph, f, n, s, bonds_kept)
        if t < m.layers - 2:
            _angles(m, t, graph, f, n, s, angles_kept)
    _moments(m, n, s, moments)
    _read(m, n, s, energies)
    _clear(s.e_back, n_edges * c)
    _clear(s.a_back, n_angles * c)
    _clear(s.filters_back, n_edges * c)
    for t in range(m.layers - 1, -1, -1):
        if t < m.layers - 2:
            _angles_reverse(m, t, graph, f, n, s, angles_kept, turn_slope)
        if t < m.layers - 1:
            _bonds_reverse(m, t, graph, f, n, s, bonds_kept, turn_slope)
        _atoms_reverse(m, t, graph, f, n, s, pairs_kept, slope)
    read_table_reverse(f.short, f.bonds, c, s.e_back, edge_slope)
    read_table_reverse(f.near, f.bond_filters, c, s.filters_back, edge_slope)
    read_table_reverse(f.turn, f.angles, c, s.a_back, turn_slope)
