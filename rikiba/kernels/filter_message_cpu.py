"""Compiled messages of filters and features, channel by channel, and their reverse sweep.

    scalars (SchNet)     A_i = Σ_j W(r_ij)·h_j
    vectors (PaiNN)      s_i = Σ_j W¹x¹_j,   v_i = Σ_j (W²x²_j r̂_ij + W³ m_j),   m a vector on atom j

W stands in a spline table [rows, filters·channels]: row `row[q]` and the next five, with six weights for the
value and six for the slope of pair q. Nothing of size pairs × channels is stored: W is evaluated in
registers, in the reverse sweep again. Arrays are flat, channels last, their number a multiple of 16.
"""

from .compiled import compiled
from .lanes import LANES, load, multiply, multiply_add, splat, spread, store, total
from .spline_filter_cpu import filtered, filtered_and_slope, slope_weights, value_weights


@compiled
def scalar_messages(  # type: ignore[no-untyped-def]
    first, last, start, sender, row, weights, table, t_at, features, f_at, channels, out
):
    """A of centres first … last − 1 into `out`, which begins with the first of them. Pairs go two by two."""
    zero = splat(out.dtype.type(0))
    nothing = (zero, zero, zero, zero, zero, zero)
    for a in range(first, last):
        o = (a - first) * channels
        for v in range(o, o + channels, LANES):
            store(out, v, zero)
        end = start[a + 1]
        for q in range(start[a], end, 2):
            p, w_q, w_p = q, value_weights(weights, q), nothing
            if q + 1 < end:
                p = q + 1
                w_p = value_weights(weights, p)
            s, t = t_at + row[q] * channels, t_at + row[p] * channels
            h, k = f_at + sender[q] * channels, f_at + sender[p] * channels
            for v in range(0, channels, LANES):
                x = filtered(table, s + v, channels, w_q)
                y = filtered(table, t + v, channels, w_p)
                x = multiply_add(x, load(features, h + v), load(out, o + v))
                store(out, o + v, multiply_add(y, load(features, k + v), x))


@compiled
def scalar_messages_reverse(  # type: ignore[no-untyped-def]
    first, last, start, sender, row, weights, table, t_at, features, f_at, channels, cotangent, slope,
    feature_slope,
):  # fmt: skip
    """From ∂E/∂A of the centres add to ∂E/∂r per pair and, unless it is empty, to ∂E/∂h."""
    zero = splat(cotangent.dtype.type(0))
    wanted = len(feature_slope) > 0
    for a in range(first, last):
        o = (a - first) * channels
        for q in range(start[a], start[a + 1]):
            w, dw = value_weights(weights, q), slope_weights(weights, q)
            s, h = t_at + row[q] * channels, sender[q] * channels
            radial = zero
            for v in range(0, channels, LANES):
                x, y = filtered_and_slope(table, s + v, channels, w, dw)
                g = load(cotangent, o + v)
                radial = multiply_add(multiply(y, g), load(features, f_at + h + v), radial)
                if wanted:
                    store(feature_slope, h + v, multiply_add(x, g, load(feature_slope, h + v)))
            slope[q] += total(radial)


@compiled
def vector_messages(  # type: ignore[no-untyped-def]
    first, last, start, sender, row, weights, table, t_at, features, f_at, parts, unit, channels, scalars,
    vectors,
):  # fmt: skip
    """Add s and v of centres first … last − 1 to [atoms, channels] and [atoms, 3, channels].

    Features are [atoms, parts, channels]: x¹ and x² (2 parts: m is zero, the table has no W³), and m
    (5 parts). `unit` [pairs, 3] is r̂.
    """
    filters = 2 if parts == 2 else 3
    stride = filters * channels
    for a in range(first, last):
        o = a * channels
        for q in range(start[a], start[a + 1]):
            w = value_weights(weights, q)
            ux, uy, uz = spread(unit, 3 * q), spread(unit, 3 * q + 1), spread(unit, 3 * q + 2)
            s, h = t_at + row[q] * stride, f_at + sender[q] * parts * channels
            for v in range(0, channels, LANES):
                x = filtered(table, s + v, stride, w)
                y = filtered(table, s + channels + v, stride, w)
                f, k = h + v, 3 * o + v
                store(scalars, o + v, multiply_add(x, load(features, f), load(scalars, o + v)))
                f += channels
                y = multiply(y, load(features, f))
                vx = multiply_add(y, ux, load(vectors, k))
                vy = multiply_add(y, uy, load(vectors, k + channels))
                vz = multiply_add(y, uz, load(vectors, k + 2 * channels))
                if filters == 3:
                    z = filtered(table, s + 2 * channels + v, stride, w)
                    f += channels
                    vx = multiply_add(z, load(features, f), vx)
                    vy = multiply_add(z, load(features, f + channels), vy)
                    vz = multiply_add(z, load(features, f + 2 * channels), vz)
                store(vectors, k, vx)
                store(vectors, k + channels, vy)
                store(vectors, k + 2 * channels, vz)


@compiled
def vector_messages_reverse(  # type: ignore[no-untyped-def]
    first, last, start, sender, row, weights, table, t_at, features, f_at, parts, unit, channels, scalars,
    vectors, slope, unit_slope, feature_slope,
):  # fmt: skip
    """From ∂E/∂s and ∂E/∂v add to ∂E/∂r and ∂E/∂r̂ per pair and, with 5 parts, to ∂E/∂(features)."""
    zero = splat(scalars.dtype.type(0))
    filters = 2 if parts == 2 else 3
    stride = filters * channels
    for a in range(first, last):
        o = a * channels
        for q in range(start[a], start[a + 1]):
            w, dw = value_weights(weights, q), slope_weights(weights, q)
            ux, uy, uz = spread(unit, 3 * q), spread(unit, 3 * q + 1), spread(unit, 3 * q + 2)
            s, h = t_at + row[q] * stride, sender[q] * parts * channels
            radial, along_x, along_y, along_z = zero, zero, zero, zero
            for v in range(0, channels, LANES):
                t, f, k = s + v, h + v, 3 * o + v
                x, y = filtered_and_slope(table, t, stride, w, dw)
                g = load(scalars, o + v)
                radial = multiply_add(multiply(y, g), load(features, f_at + f), radial)
                if filters == 3:
                    store(feature_slope, f, multiply_add(x, g, load(feature_slope, f)))
                t += channels
                f += channels
                x, y = filtered_and_slope(table, t, stride, w, dw)
                gx, gy = load(vectors, k), load(vectors, k + channels)
                gz = load(vectors, k + 2 * channels)
                along = multiply_add(gz, uz, multiply_add(gy, uy, multiply(gx, ux)))
                c = load(features, f_at + f)
                radial = multiply_add(multiply(y, along), c, radial)
                c = multiply(x, c)
                along_x, along_y = multiply_add(c, gx, along_x), multiply_add(c, gy, along_y)
                along_z = multiply_add(c, gz, along_z)
                if filters == 3:
                    store(feature_slope, f, multiply_add(x, along, load(feature_slope, f)))
                    t += channels
                    f += channels
                    x, y = filtered_and_slope(table, t, stride, w, dw)
                    c = multiply(gx, load(features, f_at + f))
                    c = multiply_add(gy, load(features, f_at + f + channels), c)
                    c = multiply_add(gz, load(features, f_at + f + 2 * channels), c)
                    radial = multiply_add(y, c, radial)
                    store(feature_slope, f, multiply_add(x, gx, load(feature_slope, f)))
                    f += channels
                    store(feature_slope, f, multiply_add(x, gy, load(feature_slope, f)))
                    f += channels
                    store(feature_slope, f, multiply_add(x, gz, load(feature_slope, f)))
            slope[q] += total(radial)
            unit_slope[3 * q] += total(along_x)
            unit_slope[3 * q + 1] += total(along_y)
            unit_slope[3 * q + 2] += total(along_z)
