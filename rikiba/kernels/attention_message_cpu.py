"""Compiled attention over neighbours, head by head, and its reverse; see `EquivariantTransformer`.

    A_ij = silu(Σ_c q_i k_j K(r_ij)),  y_i = Σ_j A_ij s¹_j V¹(r_ij),  w_i = Σ_j (m_j V² + s³_j V³ r̂_ij)

with m_j = s²_j ∘ v_j, and the same of an atom with itself at r = 0 without the last term. The filters K, V¹,
V², V³ stand in a spline table [rows, 4·channels] as in `filter_message_cpu`; features are [atoms, 6,
channels]: k, s¹, s³ and m. Channel c belongs to head c mod `group`, a power of two up to 16: a lane is
always the same head's, and the sum over a head's channels is one over vectors and then between lanes.
"""

from .activation_cpu import silu
from .compiled import compiled, inlined
from .lanes import LANES, add, load, multiply, multiply_add, splat, spread, store, total, turned
from .spline_filter_cpu import filtered, filtered_and_slope, slope_weights, value_weights


@inlined
def _over_heads(x, group):  # type: ignore[no-untyped-def]
    """The sum of the lanes of a head, in each of its lanes."""
    if group <= 8:
        x = add(x, turned(x, 8))
    if group <= 4:
        x = add(x, turned(x, 4))
    if group <= 2:
        x = add(x, turned(x, 2))
    if group <= 1:
        x = add(x, turned(x, 1))
    return x


@compiled
def own_attention(  # type: ignore[no-untyped-def]
    first, last, own, own_at, queries, q_at, features, f_at, group, channels, y, vectors, v_at
):
    """What atoms first … last − 1 tell themselves, into y (from `first`) and w.

    `own` is K, V¹ and V² at r = 0.
    """
    for a in range(first, last):
        q, f, o = q_at + a * channels, f_at + a * 6 * channels, (a - first) * channels
        dot = splat(y.dtype.type(0))
        for v in range(0, channels, LANES):
            x = multiply(load(queries, q + v), load(features, f + v))
            dot = multiply_add(x, load(own, own_at + v), dot)
        attention, _ = silu(_over_heads(dot, group))
        for v in range(0, channels, LANES):
            x = multiply(load(features, f + channels + v), load(own, own_at + channels + v))
            store(y, o + v, multiply(attention, x))
            second = load(own, own_at + 2 * channels + v)
            for d in range(3):
                to = v_at + (3 * a + d) * channels + v
                store(vectors, to, multiply(second, load(features, f + (3 + d) * channels + v)))


@compiled
def own_attention_reverse(  # type: ignore[no-untyped-def]
    first, last, own, own_at, queries, q_at, features, f_at, group, channels, g_y, g_w, g_queries, g_features
):
    """From ∂E/∂y and ∂E/∂w (from `first`) add to ∂E/∂q and ∂E/∂(features)."""
    for a in range(first, last):
        q, f, o = q_at + a * channels, f_at + a * 6 * channels, (a - first) * channels
        to, to_q = a * 6 * channels, a * channels
        dot, weight = splat(g_y.dtype.type(0)), splat(g_y.dtype.type(0))
        for v in range(0, channels, LANES):
            x = multiply(load(queries, q + v), load(features, f + v))
            dot = multiply_add(x, load(own, own_at + v), dot)
            x = multiply(load(g_y, o + v), load(features, f + channels + v))
            weight = multiply_add(x, load(own, own_at + channels + v), weight)
        attention, slope = silu(_over_heads(dot, group))
        along = multiply(slope, _over_heads(weight, group))
        for v in range(0, channels, LANES):
            x = multiply(along, load(own, own_at + v))
            store(g_queries, to_q + v, multiply_add(x, load(features, f + v), load(g_queries, to_q + v)))
            store(g_features, to + v, multiply_add(x, load(queries, q + v), load(g_features, to + v)))
            k = to + channels + v
            x = multiply(attention, load(own, own_at + channels + v))
            store(g_features, k, multiply_add(x, load(g_y, o + v), load(g_features, k)))
            second = load(own, own_at + 2 * channels + v)
            for d in range(3):
                k = to + (3 + d) * channels + v
                x = load(g_w, 3 * o + d * channels + v)
                store(g_features, k, multiply_add(second, x, load(g_features, k)))


@compiled
def attention_messages(  # type: ignore[no-untyped-def]
    first, last, start, sender, row, weights, table, t_at, queries, q_at, features, f_at, with_vectors, unit,
    group, channels, y, vectors, v_at,
):  # fmt: skip
    """Add y of atoms first … last − 1 (from `first`) and w. Without vectors m is zero and not read."""
    stride = 4 * channels
    for a in range(first, last):
        q0, o = q_at + a * channels, (a - first) * channels
        for q in range(start[a], start[a + 1]):
            w = value_weights(weights, q)
            ux, uy, uz = spread(unit, 3 * q), spread(unit, 3 * q + 1), spread(unit, 3 * q + 2)
            s, h = t_at + row[q] * stride, f_at + sender[q] * 6 * channels
            dot = splat(y.dtype.type(0))
            for v in range(0, channels, LANES):
                x = multiply(load(queries, q0 + v), load(features, h + v))
                dot = multiply_add(x, filtered(table, s + v, stride, w), dot)
            attention, _ = silu(_over_heads(dot, group))
            for v in range(0, channels, LANES):
                t, f, k = s + channels + v, h + channels + v, v_at + 3 * a * channels + v
                x = multiply(attention, filtered(table, t, stride, w))
                store(y, o + v, multiply_add(x, load(features, f), load(y, o + v)))
                x = filtered(table, t + 2 * channels, stride, w)
                x = multiply(x, load(features, f + channels))
                vx = multiply_add(x, ux, load(vectors, k))
                vy = multiply_add(x, uy, load(vectors, k + channels))
                vz = multiply_add(x, uz, load(vectors, k + 2 * channels))
                if with_vectors:
                    x = filtered(table, t + channels, stride, w)
                    f += 2 * channels
                    vx = multiply_add(x, load(features, f), vx)
                    vy = multiply_add(x, load(features, f + channels), vy)
                    vz = multiply_add(x, load(features, f + 2 * channels), vz)
                store(vectors, k, vx)
                store(vectors, k + channels, vy)
                store(vectors, k + 2 * channels, vz)


@compiled
def attention_messages_reverse(  # type: ignore[no-untyped-def]
    first, last, start, sender, row, weights, table, t_at, queries, q_at, features, f_at, with_vectors, unit,
    group, channels, g_y, g_w, hold, g_queries, g_features, slope, unit_slope,
):  # fmt: skip
    """From ∂E/∂y and ∂E/∂w (from `first`) add to ∂E/∂q, ∂E/∂(features), and ∂E/∂r and ∂E/∂r̂ per pair.

    `hold` has room for values and slopes of one pair's filters, 8·channels.
    """
    stride = 4 * channels
    zero = splat(g_y.dtype.type(0))
    for a in range(first, last):
        q0, o = q_at + a * channels, (a - first) * channels
        for q in range(start[a], start[a + 1]):
            w, dw = value_weights(weights, q), slope_weights(weights, q)
            s, h = t_at + row[q] * stride, f_at + sender[q] * 6 * channels
            for v in range(0, stride, LANES):
                x, d = filtered_and_slope(table, s + v, stride, w, dw)
                store(hold, v, x)
                store(hold, stride + v, d)
            dot, weight = zero, zero
            for v in range(0, channels, LANES):
                x = multiply(load(queries, q0 + v), load(features, h + v))
                dot = multiply_add(x, load(hold, v), dot)
                x = multiply(load(g_y, o + v), load(features, h + channels + v))
                weight = multiply_add(x, load(hold, channels + v), weight)
            attention, along = silu(_over_heads(dot, group))
            along = multiply(along, _over_heads(weight, group))
            ux, uy, uz = spread(unit, 3 * q), spread(unit, 3 * q + 1), spread(unit, 3 * q + 2)
            to = sender[q] * 6 * channels
            radial, rx, ry, rz = zero, zero, zero, zero
            for v in range(0, channels, LANES):
                f, k = h + v, to + v
                query, key = load(queries, q0 + v), load(features, f)
                x = multiply(along, load(hold, v))
                at = a * channels + v
                store(g_queries, at, multiply_add(x, key, load(g_queries, at)))
                store(g_features, k, multiply_add(x, query, load(g_features, k)))
                x = multiply(along, multiply(query, key))
                radial = multiply_add(x, load(hold, stride + v), radial)
                f, k = f + channels, k + channels
                g = multiply(attention, load(g_y, o + v))
                store(g_features, k, multiply_add(g, load(hold, channels + v), load(g_features, k)))
                x = multiply(g, load(features, f))
                radial = multiply_add(x, load(hold, stride + channels + v), radial)
                f, k, m = f + channels, k + channels, 3 * o + v
                gx, gy, gz = load(g_w, m), load(g_w, m + channels), load(g_w, m + 2 * channels)
                g = multiply_add(gz, uz, multiply_add(gy, uy, multiply(gx, ux)))
                c, x = load(features, f), load(hold, 3 * channels + v)
                store(g_features, k, multiply_add(g, x, load(g_features, k)))
                radial = multiply_add(multiply(g, c), load(hold, stride + 3 * channels + v), radial)
                x = multiply(x, c)
                rx, ry, rz = multiply_add(x, gx, rx), multiply_add(x, gy, ry), multiply_add(x, gz, rz)
                if with_vectors:
                    f, k, x = f + channels, k + channels, load(hold, 2 * channels + v)
                    store(g_features, k, multiply_add(x, gx, load(g_features, k)))
                    c = multiply(gx, load(features, f))
                    f, k = f + channels, k + channels
                    store(g_features, k, multiply_add(x, gy, load(g_features, k)))
                    c = multiply_add(gy, load(features, f), c)
                    f, k = f + channels, k + channels
                    store(g_features, k, multiply_add(x, gz, load(g_features, k)))
                    c = multiply_add(gz, load(features, f), c)
                    radial = multiply_add(c, load(hold, stride + 2 * channels + v), radial)
            slope[q] += total(radial)
            unit_slope[3 * q] += total(rx)
            unit_slope[3 * q + 1] += total(ry)
            unit_slope[3 * q + 2] += total(rz)
