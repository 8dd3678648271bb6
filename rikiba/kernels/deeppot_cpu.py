"""Compiled Deep Potential: environment, fitting networks and reverse sweep of a chunk of atoms in one go.

    A_i = (1/N) [Σ_j R_ij ⊗ G(x_ij) + R⁰ part],   D_ac = Σ_k A_ka A_kc,   E_i = F(D_i)

R has four components; G stands in a spline table [rows, channels]: row `row[q]` and the next five, with six
weights for the value and six for the slope in x. Channels are padded with zeros to a multiple of 16.
"""

import math
from typing import NamedTuple

import numpy as np

from .activation_cpu import activate
from .compiled import compiled
from .dense_cpu import dense
from .lanes import LANES, load, multiply, multiply_add, splat, spread, store, total
from .spline_filter_cpu import filtered, filtered_and_slope, slope_weights, value_weights

CHUNK = 32
"""Atoms whose arrays stay in cache between the steps."""


class FittingWeights(NamedTuple):
    """A residual network for each type, of equal shape; widths padded with zeros to multiples of 32."""

    widths: np.ndarray
    """Input, hidden layers, output."""
    true_widths: np.ndarray
    steps: np.ndarray
    """How often each hidden layer adds its input: 0, 1 or 2 times."""
    weights: np.ndarray
    """Panels of all layers, network after network."""
    back: np.ndarray
    """Panels of their transposes."""
    biases: np.ndarray
    timesteps: np.ndarray
    """Of all hidden layers; 1 where there are none."""
    activation: int


@compiled
def environment(  # type: ignore[no-untyped-def]
    vectors,
    i,
    j,
    types,
    cutoff,
    start,
    cosine,
    mean,
    deviation,
    one_side,
    unit,
    geometry,
    x,
    rows,
    kind,
    empty,
):
    """R of every pair, x = R_0, number of its embedding network; subtract its place from the empty slots.

    `geometry` [pairs, 3] gets r, s(r) and s′(r).
    """
    n_types = len(mean)
    width = cutoff - start
    for q in range(len(i)):
        a, b = types[i[q]], types[j[q]]
        square = 0.0
        for k in range(3):
            square += vectors[q, k] * vectors[q, k]
        r = math.sqrt(square)
        u = (r - start) / width
        w, slope = 1.0, 0.0
        if u >= 1.0:
            w = 0.0
        elif u > 0.0 and cosine:
            w = 0.5 * (1.0 + math.cos(math.pi * u))
            slope = -0.5 * math.pi * math.sin(math.pi * u) / width
        elif u > 0.0:
            w = 1.0 - u * u * u * (10.0 - 15.0 * u + 6.0 * u * u)
            slope = -30.0 * u * u * (1.0 - u) * (1.0 - u) / width
        s = w / r
        geometry[q, 0], geometry[q, 1], geometry[q, 2] = r, s, (slope - s) / r
        x[q] = (s - mean[a]) / deviation[a, 0]
        rows[4 * q] = x[q]
        for k in range(3):
            unit[q, k] = vectors[q, k] / r
            rows[4 * q + k + 1] = s / deviation[a, 1] * unit[q, k]
        kind[q] = b if one_side else a * n_types + b
        empty[i[q], b] -= 1.0


@compiled
def environment_reverse(unit, geometry, i, types, deviation, slope, row_slope, out):  # type: ignore[no-untyped-def]
    """out = ∂E/∂r_ij from ∂E/∂x by way of G (`slope`) and ∂E/∂R (`row_slope`, flat)."""
    for q in range(len(i)):
        a = types[i[q]]
        r, s, s_slope = geometry[q, 0], geometry[q, 1], geometry[q, 2]
        along = 0.0
        for k in range(3):
            along += row_slope[4 * q + k + 1] * unit[q, k]
        radial = s_slope * ((slope[q] + row_slope[4 * q]) / deviation[a, 0] + along / deviation[a, 1])
        across = s / (deviation[a, 1] * r)
        for k in range(3):
            out[q, k] = radial * unit[q, k] + across * (row_slope[4 * q + k + 1] - along * unit[q, k])


@compiled
def _sizes(net):  # type: ignore[no-untyped-def]
    """Numbers of weights and of biases of one network, sum and largest of the hidden widths."""
    weights, biases, hidden, widest = 0, 0, 0, 0
    for k in range(len(net.widths) - 1):
        weights += net.widths[k] * net.widths[k + 1]
        biases += net.widths[k + 1]
    for w in net.widths[1:-1]:
        hidden, widest = hidden + w, max(widest, w)
    return weights, biases, hidden, widest


@compiled
def deeppot_space(net, channels):  # type: ignore[no-untyped-def]
    """How many numbers `deeppot_sweep` needs as its `space`."""
    _, _, hidden, widest = _sizes(net)
    width = net.widths[0] + 2 * hidden + 2 * widest + net.widths[-1] + 8 * channels
    return CHUNK * width + 2 * LANES


@compiled
def _gather(first, last, order, start, row, weights, table, rows, channels, a):  # type: ignore[no-untyped-def]
    """a [atoms, 4, channels] = Σ_j R_ij ⊗ G of the atoms order[first] … order[last − 1]; pairs two by two."""
    zero = splat(a.dtype.type(0))
    nothing = (zero, zero, zero, zero, zero, zero)
    for at in range(first, last):
        o = (at - first) * 4 * channels
        for v in range(o, o + 4 * channels, LANES):
            store(a, v, zero)
        begin, end = start[order[at]], start[order[at] + 1]
        for q in range(begin, end, 2):
            e, p, w_q, w_p = q * 4, q, value_weights(weights, q), nothing
            r0, r1, r2, r3 = spread(rows, e), spread(rows, e + 1), spread(rows, e + 2), spread(rows, e + 3)
            s0, s1, s2, s3 = zero, zero, zero, zero
            if q + 1 < end:
                p, e = q + 1, e + 4
                w_p = value_weights(weights, p)
                s0, s1 = spread(rows, e), spread(rows, e + 1)
                s2, s3 = spread(rows, e + 2), spread(rows, e + 3)
            s, t = row[q] * channels, row[p] * channels
            for v in range(0, channels, LANES):
                x = filtered(table, s + v, channels, w_q)
                y = filtered(table, t + v, channels, w_p)
                k = o + v
                store(a, k, multiply_add(y, s0, multiply_add(x, r0, load(a, k))))
                k += channels
                store(a, k, multiply_add(y, s1, multiply_add(x, r1, load(a, k))))
                k += channels
                store(a, k, multiply_add(y, s2, multiply_add(x, r2, load(a, k))))
                k += channels
                store(a, k, multiply_add(y, s3, multiply_add(x, r3, load(a, k))))


@compiled
def _scatter(  # type: ignore[no-untyped-def]
    first, last, order, start, row, weights, table, rows, channels, g, slope, row_slope
):
    """From ∂E/∂A (g) the slope in x of every pair by way of G, and ∂E/∂R."""
    zero = splat(g.dtype.type(0))
    for at in range(first, last):
        o = (at - first) * 4 * channels
        for q in range(start[order[at]], start[order[at] + 1]):
            e, s, w, dw = q * 4, row[q] * channels, value_weights(weights, q), slope_weights(weights, q)
            r0, r1, r2, r3 = spread(rows, e), spread(rows, e + 1), spread(rows, e + 2), spread(rows, e + 3)
            t, d0, d1, d2, d3 = zero, zero, zero, zero, zero
            for v in range(0, channels, LANES):
                x, y = filtered_and_slope(table, s + v, channels, w, dw)
                k = o + v
                g0, g1 = load(g, k), load(g, k + channels)
                g2, g3 = load(g, k + 2 * channels), load(g, k + 3 * channels)
                both = multiply_add(g3, r3, multiply_add(g2, r2, multiply_add(g1, r1, multiply(g0, r0))))
                t = multiply_add(y, both, t)
                d0, d1 = multiply_add(x, g0, d0), multiply_add(x, g1, d1)
                d2, d3 = multiply_add(x, g2, d2), multiply_add(x, g3, d3)
            slope[q] = total(t)
            row_slope[e], row_slope[e + 1] = total(d0), total(d1)
            row_slope[e + 2], row_slope[e + 3] = total(d2), total(d3)


@compiled
def _products(a, at, channels, true, axis, d, to, wide):  # type: ignore[no-untyped-def]
    """D of one atom, element (channel c, column b of A^<) at c·axis + b; the rest of `wide` is zero."""
    whole = axis // LANES * LANES
    for v in range(0, whole, LANES):
        w0, w1 = load(a, at + v), load(a, at + channels + v)
        w2, w3 = load(a, at + 2 * channels + v), load(a, at + 3 * channels + v)
        for c in range(true):
            x = multiply(spread(a, at + c), w0)
            x = multiply_add(spread(a, at + channels + c), w1, x)
            x = multiply_add(spread(a, at + 2 * channels + c), w2, x)
            store(d, to + c * axis + v, multiply_add(spread(a, at + 3 * channels + c), w3, x))
    for c in range(true):
        for b in range(whole, axis):
            y = a[at + c] * a[at + b]
            for k in range(at + channels, at + 4 * channels, channels):
                y += a[k + c] * a[k + b]
            d[to + c * axis + b] = y
    for c in range(true * axis, wide):
        d[to + c] = 0.0


@compiled
def _products_reverse(a, at, channels, true, axis, d, to, g):  # type: ignore[no-untyped-def]
    """∂E/∂A of one atom from ∂E/∂D; zero in the padding."""
    zero = splat(a.dtype.type(0))
    whole = axis // LANES * LANES
    for k in range(at, at + 4 * channels, channels):
        for c in range(true):
            x = zero
            for v in range(0, whole, LANES):
                x = multiply_add(load(d, to + c * axis + v), load(a, k + v), x)
            y = total(x)
            for b in range(whole, axis):
                y += d[to + c * axis + b] * a[k + b]
            g[k + c] = y
        for c in range(true, channels):
            g[k + c] = 0.0
        for v in range(0, whole, LANES):
            x = load(g, k + v)
            for c in range(true):
                x = multiply_add(spread(a, k + c), load(d, to + c * axis + v), x)
            store(g, k + v, x)
        for b in range(whole, axis):
            y = g[k + b]
            for c in range(true):
                y += a[k + c] * d[to + c * axis + b]
            g[k + b] = y


@compiled
def _fitted(net, which, d, n, values, slopes, out):  # type: ignore[no-untyped-def]
    """Network `which` of n rows of d; outputs and slopes (times dt) of the hidden layers, layer by layer."""
    n_weights, n_biases, hidden, _ = _sizes(net)
    w_at, b_at, t_at, v_at = which * n_weights, which * n_biases, which * hidden, 0
    x, x_at, n_in = d, 0, net.widths[0]
    for k in range(len(net.widths) - 2):
        w, true_in = net.widths[k + 1], net.true_widths[k]
        dense(x, x_at, n_in, n, n_in, net.weights, w_at, net.biases, b_at, values, v_at, w, w, False)
        activate(values, v_at, n * w, net.activation, slopes, v_at)
        for m in range(n):
            y_at, from_at = v_at + m * w, x_at + m * n_in
            for c in range(w):
                values[y_at + c] *= net.timesteps[t_at + c]
                slopes[y_at + c] *= net.timesteps[t_at + c]
            for copy in range(net.steps[k]):
                for c in range(true_in):
                    values[y_at + copy * true_in + c] += x[from_at + c]
        x, x_at = values, v_at
        w_at, b_at, t_at, v_at = w_at + n_in * w, b_at + w, t_at + w, v_at + n * w
        n_in = w
    w = net.widths[-1]
    dense(x, x_at, n_in, n, n_in, net.weights, w_at, net.biases, b_at, out, 0, w, w, False)


@compiled
def _fitted_reverse(net, which, slopes, n, scale, out, back, other, d):  # type: ignore[no-untyped-def]
    """d becomes ∂(scale · first output)/∂d; `out`, `back` and `other` are overwritten."""
    n_weights, _, hidden, _ = _sizes(net)
    last = len(net.widths) - 2
    w, n_in, nothing = net.widths[-1], net.widths[last], out[:0]
    w_at, v_at = (which + 1) * n_weights - n_in * w, n * hidden
    out[: n * w] = 0.0
    for m in range(n):
        out[m * w] = scale
    dense(out, 0, w, n, w, net.back, w_at, nothing, 0, back, 0, n_in, n_in, False)
    for k in range(last - 1, -1, -1):
        w, n_in = net.widths[k + 1], net.widths[k]
        w_at, v_at = w_at - n_in * w, v_at - n * w
        for c in range(n * w):
            other[c] = back[c] * slopes[v_at + c]
        to = back if k else d
        if net.steps[k]:
            _passed_on(back, w, to, n_in, net.true_widths[k], net.steps[k], n)
        adding = net.steps[k] > 0
        dense(other, 0, w, n, w, net.back, w_at, nothing, 0, to, 0, n_in, n_in, adding)


@compiled
def _passed_on(back, w, to, n_in, true_in, steps, n):  # type: ignore[no-untyped-def]
    """Rows of width w become rows of n_in ≤ w: sums over the copies of the input; `to` may be `back`."""
    for m in range(n):
        for c in range(n_in):
            x = back.dtype.type(0)
            if c < true_in:
                for copy in range(steps):
                    x += back[m * w + copy * true_in + c]
            to[m * n_in + c] = x


@compiled
def deeppot_sweep(  # type: ignore[no-untyped-def]
    first, last, order, types, start, row, weights, table, rows, empty, empties, channels, true, axis,
    inverse, net, scale, space, energies, slope, row_slope,
):  # fmt: skip
    """Networks' energies of the atoms order[first] … order[last − 1], of one type, and slopes of their pairs.

    `empty` [atoms, types] counts empty slots, `empties` [types, types, channels] is what one adds to the
    first component of A; `inverse` is 1/N, `scale` multiplies energies before they are differentiated.
    """
    which, wide = types[order[first]], net.widths[0]
    _, _, hidden, widest = _sizes(net)
    part = CHUNK * 4 * channels
    a, g, at = space[:part], space[part : 2 * part], 2 * part
    values, at = space[at : at + CHUNK * hidden], at + CHUNK * hidden
    slopes, at = space[at : at + CHUNK * hidden], at + CHUNK * hidden
    back, at = space[at : at + CHUNK * widest], at + CHUNK * widest
    other, at = space[at : at + CHUNK * widest], at + CHUNK * widest
    out, at = space[at : at + CHUNK * net.widths[-1]], at + CHUNK * net.widths[-1]
    d = space[at:]
    for c0 in range(first, last, CHUNK):
        c1 = min(last, c0 + CHUNK)
        n = c1 - c0
        _gather(c0, c1, order, start, row, weights, table, rows, channels, a)
        for m in range(n):
            o = m * 4 * channels
            for t in range(empties.shape[1]):
                count = empty[order[c0 + m], t]
                for c in range(channels):
                    a[o + c] += count * empties[which, t, c]
            for c in range(4 * channels):
                a[o + c] *= inverse
            _products(a, o, channels, true, axis, d, m * wide, wide)
        _fitted(net, which, d, n, values, slopes, out)
        for m in range(n):
            energies[order[c0 + m]] = out[m * net.widths[-1]]
        _fitted_reverse(net, which, slopes, n, scale, out, back, other, d)
        for m in range(n):
            o = m * 4 * channels
            _products_reverse(a, o, channels, true, axis, d, m * wide, g)
            for c in range(4 * channels):
                g[o + c] *= inverse
        _scatter(c0, c1, order, start, row, weights, table, rows, channels, g, slope, row_slope)
