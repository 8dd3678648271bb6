"""Allegro as one compiled sweep, some centres with all their pairs at a time, forward and in reverse.

Every pair has a row of columns: weights of its first tensors, weights of the first surroundings, and what
its first scalars give to the first hidden layer of each later network. That row is read from a table of the
distance for each pair of elements, or made by the two-body network. See `rikiba.potentials.allegro_weights`
for the matrices. Arrays are flat, channels last.
"""

import math
from typing import NamedTuple

import numpy as np

from .activation_cpu import silu
from .compiled import compiled, inlined
from .dense_cpu import dense
from .lanes import LANES, add, load, multiply, multiply_add, splat, spread, store, total
from .pair_geometry_cpu import arrange, harmonics, quintic_weights, unit_vectors
from .pair_product_cpu import (
    Product,
    narrow_dense,
    product_forward,
    product_reverse,
    weighted_harmonics,
    weighted_harmonics_reverse,
)
from .uncounted import uncounted

PRODUCT, HIDDEN, PART = 0, 8, 9
"""Sections of whole numbers of a part: the arrays of `Product` but its sizes and coefficients, widths of
hidden layers, sizes. Parts are the layers, the read-out and the two-body network."""
COEFFICIENT, INNER, INNER_BACK, SCALARS, SCALARS_BACK, LATER, LATER_BACK = 0, 1, 2, 3, 4, 5, 6
AROUND, AROUND_BACK, CENTRE, NEIGHBOUR = 7, 8, 9, 10
"""Sections of real numbers: coefficients of `Product`; panels of the matrices between hidden layers, of what
the tensors' scalars (in the two-body network the embedding) give to the first hidden layer, of what the last
hidden layer gives to all columns behind (in the two-body network all columns; in the read-out one vector),
and of what it gives to the next surroundings' weights; `_BACK`: of the transposes; factors of the embedding
for each element as centre and as neighbour, or, without the latter, splines for each pair of elements."""
D_IN, D_OUT, COLUMN, BEFORE = 0, 1, 2, 3
"""Sizes of a part: components of tensors before and behind, the column of its first hidden layer, and how
many hidden numbers the parts before it have."""
LAYERS, DEGREES, CHANNELS, WIDTH, AROUND_WIDTH, RADIAL = 0, 1, 2, 3, 4, 5
EMBEDDED, HIDDEN_ALL, WIDEST, D_MOST, ENTRIES, TYPES = 6, 7, 8, 9, 10, 11
"""Sizes of a model: layers, degrees of harmonics, channels, columns, columns of the weights of surroundings,
radial functions, channels of the embedding, hidden numbers, the widest hidden layer, most components of a
tensor, most entries of a product, elements."""


class AllegroWeights(NamedTuple):
    """All parts, section after section."""

    sizes: np.ndarray
    whole: np.ndarray
    whole_at: np.ndarray
    """[parts, sections, 2]: where a section begins and ends."""
    real: np.ndarray
    real_at: np.ndarray


class Space(NamedTuple):
    """Room for the pairs of some centres."""

    values: np.ndarray
    """[rows, columns]"""
    gradient: np.ndarray
    """∂E/∂values."""
    along: np.ndarray
    """Derivatives by the distance: of values, or of the embedding."""
    radial: np.ndarray
    radial_slope: np.ndarray
    tensors: np.ndarray
    """[layers + 1, rows, most components, channels]"""
    tensor_back: np.ndarray
    """[2, rows, most components, channels]"""
    around: np.ndarray
    """[layers, rows, …]: weights of the surroundings of each layer but the first …"""
    around_back: np.ndarray
    """… and ∂E/∂ those of one."""
    matrices: np.ndarray
    """[layers, rows, entries, channels]: one of each centre."""
    first: np.ndarray
    """A hidden layer …"""
    second: np.ndarray
    """… and another."""
    slopes: np.ndarray
    """f′ of all hidden layers, network after network."""
    y_back: np.ndarray
    """∂E/∂Y, [rows, harmonics, lanes]."""
    gamma: np.ndarray
    """Surroundings of one centre, or ∂E/∂ those."""


@compiled
def _places(net, rows):  # type: ignore[no-untyped-def]
    """Where each array of `Space` ends."""
    z = net.sizes
    tensor, around = rows * z[D_MOST] * z[CHANNELS], rows * z[AROUND_WIDTH]
    hidden, wide = rows * max(z[WIDEST], z[EMBEDDED]), rows * z[WIDTH]
    return np.cumsum(np.array([
        wide, wide, max(wide, rows * z[EMBEDDED]), rows * z[RADIAL], rows * z[RADIAL],
        (z[LAYERS] + 1) * tensor, 2 * tensor, z[LAYERS] * around, around,
        z[LAYERS] * rows * z[ENTRIES] * z[CHANNELS], hidden, hidden, rows * z[HIDDEN_ALL],
        rows * z[DEGREES] * z[DEGREES] * LANES, z[DEGREES] * z[DEGREES] * z[CHANNELS],
    ]))  # fmt: skip


@compiled
def allegro_space(net, rows):  # type: ignore[no-untyped-def]
    """How many numbers the sweep needs as `space` for so many pairs at a time."""
    return _places(net, rows)[-1]


@compiled
def _space(net, rows, x):  # type: ignore[no-untyped-def]
    p = _places(net, rows)
    return Space(
        x[: p[0]], x[p[0] : p[1]], x[p[1] : p[2]], x[p[2] : p[3]], x[p[3] : p[4]], x[p[4] : p[5]],
        x[p[5] : p[6]], x[p[6] : p[7]], x[p[7] : p[8]], x[p[8] : p[9]], x[p[9] : p[10]], x[p[10] : p[11]],
        x[p[11] : p[12]], x[p[12] : p[13]], x[p[13] : p[14]],
    )  # fmt: skip


@inlined
def _whole(net, part, section):  # type: ignore[no-untyped-def]
    return net.whole[net.whole_at[part, section, 0] : net.whole_at[part, section, 1]]


@compiled
def _product(net, t):  # type: ignore[no-untyped-def]
    size, at = _whole(net, t, PART), net.real_at[t, COEFFICIENT]
    return Product(
        size[D_IN], size[D_OUT], _whole(net, t, PRODUCT), _whole(net, t, PRODUCT + 1),
        _whole(net, t, PRODUCT + 2), _whole(net, t, PRODUCT + 3), _whole(net, t, PRODUCT + 4),
        net.real[at[0] : at[1]], _whole(net, t, PRODUCT + 5), _whole(net, t, PRODUCT + 6),
        _whole(net, t, PRODUCT + 7),
    )  # fmt: skip


@compiled
def _multiply(net, part, section, x, at, stride, rows, n_in, y, to, y_stride, n_out, adding):  # type: ignore[no-untyped-def]
    """Rows of x times a matrix of the model."""
    w = net.real_at[part, section, 0]
    dense(x, at, stride, rows, n_in, net.real, w, x[:0], 0, y, to, y_stride, n_out, adding)


@compiled
def _activated(z, at, stride, rows, n, x, slopes, to):  # type: ignore[no-untyped-def]
    """x = silu(z), n columns of each row, and its slopes."""
    for k in range(rows):
        for v in range(0, n, LANES):
            value, slope = silu(load(z, at + k * stride + v))
            store(x, k * n + v, value)
            store(slopes, to + k * n + v, slope)


@compiled
def _hidden(net, part, z, at, stride, rows, s):  # type: ignore[no-untyped-def]
    """From numbers before the first activation to the last hidden layer, s.first."""
    widths, to = _whole(net, part, HIDDEN), rows * _whole(net, part, PART)[BEFORE]
    w = net.real_at[part, INNER, 0]
    for k in range(len(widths)):
        n = widths[k]
        if k:
            before = widths[k - 1]
            dense(s.first, 0, before, rows, before, net.real, w, z[:0], 0, s.second, 0, n, n, False)
            z, at, stride, w = s.second, 0, n, w + before * n
        _activated(z, at, stride, rows, n, s.first, s.slopes, to)
        to += rows * n


@compiled
def _hidden_reverse(net, part, rows, s, out, at, stride):  # type: ignore[no-untyped-def]
    """From ∂E/∂(last hidden layer), s.first, to that before the first activation."""
    widths, to = _whole(net, part, HIDDEN), rows * _whole(net, part, PART)[BEFORE]
    x, w = s.first, net.real_at[part, INNER_BACK, 1]
    for n in widths:
        to += rows * n
    for k in range(len(widths) - 1, 0, -1):
        n, before = widths[k], widths[k - 1]
        to -= rows * n
        w -= before * n
        for v in range(0, rows * n, LANES):
            store(s.first, v, multiply(load(x, v), load(s.slopes, to + v)))
        dense(s.first, 0, n, rows, n, net.real, w, x[:0], 0, s.second, 0, before, before, False)
        x = s.second
    n = widths[0]
    to -= rows * n
    for k in range(rows):
        for v in range(0, n, LANES):
            here = k * n + v
            store(out, at + k * stride + v, multiply(load(x, here), load(s.slopes, to + here)))


@compiled
def _read_table(row, weights, table, width, first, last, values, slopes):  # type: ignore[no-untyped-def]
    """Splines of pairs first … last − 1 and their slopes; `weights` has six of value and six of slope."""
    for q in range(first, last):
        at, k, to = row[q] * width, 12 * q, (q - first) * width
        a0, a1, a2 = spread(weights, k), spread(weights, k + 1), spread(weights, k + 2)
        a3, a4, a5 = spread(weights, k + 3), spread(weights, k + 4), spread(weights, k + 5)
        b0, b1, b2 = spread(weights, k + 6), spread(weights, k + 7), spread(weights, k + 8)
        b3, b4, b5 = spread(weights, k + 9), spread(weights, k + 10), spread(weights, k + 11)
        for v in range(0, width, LANES):
            t = at + v
            c0, c1, c2 = load(table, t), load(table, t + width), load(table, t + 2 * width)
            t += 3 * width
            c3, c4, c5 = load(table, t), load(table, t + width), load(table, t + 2 * width)
            x = multiply_add(a4, c4, multiply_add(a2, c2, multiply(a0, c0)))
            y = multiply_add(a5, c5, multiply_add(a3, c3, multiply(a1, c1)))
            store(values, to + v, add(x, y))
            x = multiply_add(b4, c4, multiply_add(b2, c2, multiply(b0, c0)))
            y = multiply_add(b5, c5, multiply_add(b3, c3, multiply(b1, c1)))
            store(slopes, to + v, add(x, y))


@compiled
def _add_along(gradient, along, rows, n, slope, at):  # type: ignore[no-untyped-def]
    """slope[pair] += Σ gradient·along of each row."""
    zero = splat(gradient.dtype.type(0))
    for k in range(rows):
        x, y = zero, zero
        for v in range(k * n, (k + 1) * n - LANES, 2 * LANES):
            x = multiply_add(load(gradient, v), load(along, v), x)
            y = multiply_add(load(gradient, v + LANES), load(along, v + LANES), y)
        if n % (2 * LANES):
            v = (k + 1) * n - LANES
            x = multiply_add(load(gradient, v), load(along, v), x)
        slope[at + k] += total(add(x, y))


@compiled
def _embed(net, c0, c1, start, types, sender_type, s):  # type: ignore[no-untyped-def]
    """The embedding of each pair, s.first, and its derivative by the distance."""
    part, n, base = net.sizes[LAYERS] + 1, net.sizes[EMBEDDED], start[c0]
    centre, other, end = (
        net.real_at[part, CENTRE, 0],
        net.real_at[part, NEIGHBOUR, 0],
        net.real_at[part, NEIGHBOUR, 1],
    )
    zero, n_radial, n_types = splat(net.real.dtype.type(0)), net.sizes[RADIAL], net.sizes[TYPES]
    for c in range(c0, c1):
        for q in range(start[c], start[c + 1]):
            to = (q - base) * n
            if other < end:
                a, b = centre + types[c] * n, other + sender_type[q] * n
                for v in range(0, n, LANES):
                    w = multiply(load(net.real, a + v), load(net.real, b + v))
                    store(s.first, to + v, multiply(w, load(s.radial, to + v)))
                    store(s.along, to + v, multiply(w, load(s.radial_slope, to + v)))
                continue
            a = centre + (types[c] * n_types + sender_type[q]) * n_radial * n
            b = (q - base) * n_radial
            for v in range(0, n, LANES):
                x, y = zero, zero
                for k in range(n_radial):
                    w = load(net.real, a + k * n + v)
                    x = multiply_add(spread(s.radial, b + k), w, x)
                    y = multiply_add(spread(s.radial_slope, b + k), w, y)
                store(s.first, to + v, x)
                store(s.along, to + v, y)


@compiled
def _two_body(net, c0, c1, start, types, sender_type, s):  # type: ignore[no-untyped-def]
    """Values of pairs from the radial functions."""
    part, rows, n, wide = net.sizes[LAYERS] + 1, start[c1] - start[c0], net.sizes[EMBEDDED], net.sizes[WIDTH]
    _embed(net, c0, c1, start, types, sender_type, s)
    widths = _whole(net, part, HIDDEN)
    if len(widths):
        _multiply(net, part, SCALARS, s.first, 0, n, rows, n, s.second, 0, widths[0], widths[0], False)
        _hidden(net, part, s.second, 0, widths[0], rows, s)
        n = widths[-1]
    _multiply(net, part, LATER, s.first, 0, n, rows, n, s.values, 0, wide, wide, False)


@compiled
def _two_body_reverse(net, rows, s):  # type: ignore[no-untyped-def]
    """∂E/∂(embedding) from that by all columns; returned is where it stands."""
    part, n, wide = net.sizes[LAYERS] + 1, net.sizes[EMBEDDED], net.sizes[WIDTH]
    widths = _whole(net, part, HIDDEN)
    out = widths[-1] if len(widths) else n
    _multiply(net, part, LATER_BACK, s.gradient, 0, wide, rows, wide, s.first, 0, out, out, False)
    if not len(widths):
        return s.first
    _hidden_reverse(net, part, rows, s, s.first, 0, widths[0])
    _multiply(net, part, SCALARS_BACK, s.first, 0, widths[0], rows, widths[0], s.second, 0, n, n, False)
    return s.second


@inlined
def _weights(net, t, rows, s):  # type: ignore[no-untyped-def]
    """(array, first place, stride) with the weights of layer t's surroundings."""
    if t:
        return s.around, (t - 1) * rows * net.sizes[AROUND_WIDTH], net.sizes[AROUND_WIDTH]
    return s.values, net.sizes[DEGREES] * net.sizes[CHANNELS], net.sizes[WIDTH]


@compiled
def _layer(net, t, c0, c1, start, norm, y, s):  # type: ignore[no-untyped-def]
    """The tensors of layer t and what its last hidden layer gives to all columns behind."""
    z, rows = net.sizes, start[c1] - start[c0]
    c, wide, n_t, n_m = z[CHANNELS], z[WIDTH], len(s.tensors) // (z[LAYERS] + 1), len(s.matrices) // z[LAYERS]
    out, widths, size = s.tensors[(t + 1) * n_t :], _whole(net, t, HIDDEN), _whole(net, t, PART)
    w, at, stride = _weights(net, t, rows, s)
    product_forward(
        c0, c1, start, norm, y, z[DEGREES], w, at, stride, c, _product(net, t), s.tensors[t * n_t :],
        s.matrices[t * n_m :], out, s.gamma,
    )  # fmt: skip
    h, n = size[COLUMN], widths[0]
    _multiply(net, t, SCALARS, out, 0, size[D_OUT] * c, rows, c, s.values, h, wide, n, True)
    _hidden(net, t, s.values, h, wide, rows, s)
    behind, n = h + n, widths[-1]
    _multiply(net, t, LATER, s.first, 0, n, rows, n, s.values, behind, wide, wide - behind, True)
    if t + 1 < z[LAYERS]:
        b = z[AROUND_WIDTH]
        _multiply(net, t, AROUND, s.first, 0, n, rows, n, s.around, t * rows * b, b, b, False)


@compiled
def _read(net, c0, c1, start, factor, s, energies):  # type: ignore[no-untyped-def]
    """Add to energies; ∂E/∂ the columns of the read-out."""
    part, wide, base = net.sizes[LAYERS], net.sizes[WIDTH], start[c0]
    column, rows, widths = _whole(net, part, PART)[COLUMN], start[c1] - base, _whole(net, part, HIDDEN)
    zero = splat(s.values.dtype.type(0))
    if not len(widths):
        for c in range(c0, c1):
            for k in range(start[c] - base, start[c + 1] - base):
                energies[c] += factor[c] * s.values[k * wide + column]
                for v in range(column, wide, LANES):
                    store(s.gradient, k * wide + v, zero)
                s.gradient[k * wide + column] = factor[c]
        return
    _hidden(net, part, s.values, column, wide, rows, s)
    n, at = widths[-1], net.real_at[part, LATER, 0]
    for c in range(c0, c1):
        by = splat(s.values.dtype.type(factor[c]))
        for k in range(start[c] - base, start[c + 1] - base):
            sums = zero
            for v in range(0, n, LANES):
                w = load(net.real, at + v)
                sums = multiply_add(w, load(s.first, k * n + v), sums)
                store(s.first, k * n + v, multiply(by, w))
            energies[c] += factor[c] * total(sums)
    _hidden_reverse(net, part, rows, s, s.gradient, column, wide)


@compiled
def _layer_reverse(net, t, c0, c1, start, norm, y, s, y_slope):  # type: ignore[no-untyped-def]
    """∂E/∂ this layer's columns, the tensors before it and the weights of its surroundings."""
    z, rows = net.sizes, start[c1] - start[c0]
    c, wide, n_t, n_m = z[CHANNELS], z[WIDTH], len(s.tensors) // (z[LAYERS] + 1), len(s.matrices) // z[LAYERS]
    half, widths, size = len(s.tensor_back) // 2, _whole(net, t, HIDDEN), _whole(net, t, PART)
    h, n, last = size[COLUMN], widths[-1], t == z[LAYERS] - 1
    behind = h + widths[0]
    _multiply(net, t, LATER_BACK, s.gradient, behind, wide, rows, wide - behind, s.first, 0, n, n, False)
    if not last:
        b = z[AROUND_WIDTH]
        _multiply(net, t, AROUND_BACK, s.around_back, 0, b, rows, b, s.first, 0, n, n, True)
    _hidden_reverse(net, t, rows, s, s.gradient, h, wide)
    # the two halves hold ∂E/∂(tensors) behind and before in turn
    turn = (z[LAYERS] - 1 - t) % 2
    given, found = s.tensor_back[turn * half :], s.tensor_back[(1 - turn) * half :]
    n, panels = widths[0], net.real_at[t, SCALARS_BACK, 0]
    narrow_dense(s.gradient, h, wide, rows, n, net.real, panels, given, size[D_OUT] * c, c, not last)
    w, at, stride = _weights(net, t, rows, s)
    into, into_at = (s.around_back, 0) if t else (s.gradient, at)
    product_reverse(
        c0, c1, start, norm, y, z[DEGREES], w, at, stride, c, _product(net, t), s.tensors[t * n_t :],
        s.matrices[t * n_m :], given, found, into, into_at, stride, s.y_back, not last, s.gamma,
    )  # fmt: skip
    if t == 0:
        weighted_harmonics_reverse(
            y, z[DEGREES], s.values, wide, c, start[c0], start[c1], found, s.gradient, s.y_back, y_slope
        )


@compiled
def allegro_pairs(  # type: ignore[no-untyped-def]
    types, n_types, i, j, vectors, lengths, norm, factor, n_lm, first, second, axis, coefficients, like
):
    """Atoms in order of their type, pairs by centre and distance, with their harmonics in like's precision.

    Returns (order, spans, start, parent, types and senders' types, norm and factor of each atom, senders,
    unit vectors, distances, harmonics, most pairs of an atom).
    """
    order, _, spans, start, parent, sender = arrange(types, n_types, i, j, lengths)
    n = len(parent)
    unit, r = np.empty((n, 3)), np.empty(n)
    unit_vectors(vectors, lengths, parent, unit, r)
    y = np.empty((n, n_lm), like.dtype)
    harmonics(unit, first, second, axis, coefficients, y)
    kinds = types[order]
    most = 0
    for c in range(len(order)):
        most = max(most, start[c + 1] - start[c])
    return (
        order,
        spans,
        start,
        parent,
        kinds,
        kinds[sender],
        norm[kinds],
        factor[kinds],
        sender,
        unit,
        r,
        y,
        most,
    )


@compiled
def allegro_rows(  # type: ignore[no-untyped-def]
    r, start, types, sender_type, n_types, first, intervals, begin, length, offset, row, weights
):
    """First coefficients of each pair in splines on equal steps of ln(r + offset), and their weights.

    Those of pair kind t·n_types + u begin at row first[kind] and have intervals[kind] of them; with
    n_types = 0 all pairs are of kind 0.
    """
    for c in range(len(start) - 1):
        for q in range(start[c], start[c + 1]):
            kind = types[c] * n_types + sender_type[q] if n_types else 0
            step = length / intervals[kind]
            x = (math.log(r[q] + offset) - begin) / step
            interval = max(0, min(int(x), intervals[kind] - 1))
            row[q] = first[kind] + interval
            quintic_weights(x - interval, step * (r[q] + offset), weights[q, :6], weights[q, 6:])


@compiled
def allegro_sweep(  # type: ignore[no-untyped-def]
    net, tabulated, first, last, start, types, sender_type, norm, factor, y, row, weights, table, most, space,
    energies, slope, y_slope,
):  # fmt: skip
    """Add to energies of centres first … last − 1 and to derivatives by distances and harmonics.

    Rows of `table` have all columns (`tabulated`) or the radial functions. Centres are taken together until
    they have `most` pairs; none may have more. `space` has room for so many.
    """
    net = AllegroWeights(
        uncounted(net.sizes), uncounted(net.whole), uncounted(net.whole_at), uncounted(net.real),
        uncounted(net.real_at),
    )  # fmt: skip
    start, types, sender_type = uncounted(start), uncounted(types), uncounted(sender_type)
    norm, factor, y, row, weights = (
        uncounted(norm), uncounted(factor), uncounted(y), uncounted(row), uncounted(weights),
    )  # fmt: skip
    table, energies, slope, y_slope = (
        uncounted(table), uncounted(energies), uncounted(slope), uncounted(y_slope),
    )  # fmt: skip
    s, z = _space(net, most, uncounted(space)), net.sizes
    c0 = first
    while c0 < last:
        c1 = c0 + 1
        while c1 < last and start[c1 + 1] - start[c0] <= most and c1 - c0 < most:
            c1 += 1
        q0, q1 = start[c0], start[c1]
        if q1 > q0:
            if tabulated:
                _read_table(row, weights, table, z[WIDTH], q0, q1, s.values, s.along)
            else:
                _read_table(row, weights, table, z[RADIAL], q0, q1, s.radial, s.radial_slope)
                _two_body(net, c0, c1, start, types, sender_type, s)
            weighted_harmonics(y, z[DEGREES], s.values, z[WIDTH], z[CHANNELS], q0, q1, s.tensors)
            for t in range(z[LAYERS]):
                _layer(net, t, c0, c1, start, norm, y, s)
            _read(net, c0, c1, start, factor, s, energies)
            for t in range(z[LAYERS] - 1, -1, -1):
                _layer_reverse(net, t, c0, c1, start, norm, y, s, y_slope)
            if tabulated:
                _add_along(s.gradient, s.along, q1 - q0, z[WIDTH], slope, q0)
            else:
                _add_along(_two_body_reverse(net, q1 - q0, s), s.along, q1 - q0, z[EMBEDDED], slope, q0)
        c0 = c1
