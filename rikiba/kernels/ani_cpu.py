"""A whole ANI as one compiled function: environment vectors, networks of every element, reverse sweep."""

import numpy as np

from .aev_cpu import environments, environments_reverse, geometry
from .compiled import compiled
from .dense_cpu import network_forward, network_reverse
from .lanes import aligned

CHUNK = 64
"""Atoms of one element whose layers stay in cache."""


@compiled
def by_type(types, n_types):  # type: ignore[no-untyped-def]
    """(atom of each place, place of each atom, first place of each type), atoms ordered by type."""
    spans = np.zeros(n_types + 1, np.int64)
    for kind in types:
        spans[kind + 1] += 1
    spans = np.cumsum(spans)
    fill = spans.copy()
    order, place = np.empty(len(types), np.int64), np.empty(len(types), np.int64)
    for a in range(len(types)):
        place[a] = fill[types[a]]
        order[place[a]] = a
        fill[types[a]] += 1
    return order, place, spans


@compiled
def ani_sweep(i, j, vectors, types, f, net, n_members, scale, members, gradient):  # type: ignore[no-untyped-def]
    """Fill members [atoms, members] with the networks' outputs and gradient with ∂(scale · Σ mean)/∂r_ij.

    `net` holds the members of one type after those of another; pairs are ordered by centre, and types number
    the elements that `f` has columns for.
    """
    n, m, stride = len(types), len(i), net.widths[0]
    unit, r, radial, near = np.empty((m, 3)), np.empty(m), np.empty((m, 2)), np.empty((m, 2))
    close_pairs = np.empty(m, np.int64)
    start, close = geometry(i, j, vectors, types, n, f, unit, r, radial, near, close_pairs)
    order, place, spans = by_type(types, f.n_elements)
    values, slope = aligned(n * stride, net.weights), aligned(n * stride, net.weights)
    environments(j, types, place, start, close, close_pairs, unit, r, radial, near, f, stride, values)
    n_out, widest, hidden = net.widths[-1], 0, 0
    for w in net.widths[1:-1]:
        widest, hidden = max(widest, w), hidden + w
    slopes, work = aligned(CHUNK * hidden, net.weights), aligned(2 * CHUNK * widest, net.weights)
    out, back = aligned(CHUNK * n_out, net.weights), aligned(CHUNK * n_out, net.weights)
    real = net.weights.dtype.type
    back[:] = real(0.0)
    back[::n_out] = real(scale / n_members)
    for kind in range(f.n_elements):
        for first in range(spans[kind], spans[kind + 1], CHUNK):
            rows, at = min(CHUNK, spans[kind + 1] - first), first * stride
            for member in range(n_members):
                which = kind * n_members + member
                network_forward(net, which, values, at, stride, rows, slopes, 0, work, out, 0, n_out, False)
                for a in range(rows):
                    members[order[first + a], member] = out[a * n_out]
                network_reverse(
                    net, which, back, 0, n_out, rows, slopes, 0, work, slope, at, stride, member > 0
                )  # fmt: skip
    environments_reverse(
        j, types, place, start, close, close_pairs, unit, r, radial, near, f, stride, slope, gradient
    )
