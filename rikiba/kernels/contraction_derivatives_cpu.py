"""Compiled symmetric contraction for training: forward, reverse with weights, and the derivative of that.

    B[a, o, c] = Σ_e w[kind of a, e, c] m_e(A[a, :, c])     over the weights e of output o

Features, outputs and cotangents are [atoms, rows, channels]; weights and their slope [kinds, channels/32,
weights, 32]. Arrays are flat, channels a multiple of 32. Each function works on one block of 32 channels, for
every atom in turn, so results do not depend on how blocks are dealt to threads. The tree of monomials m_e is
that of `contraction_cpu`.
"""

from .compiled import compiled, inlined
from .contraction_cpu import WIDE, _clear, _monomials, _push, _run
from .lanes import LANES, aligned, load, multiply, multiply_add, splat, store


@inlined
def _read(x, a, rows, channels, v, to):  # type: ignore[no-untyped-def]
    for k in range(rows):
        at = (a * rows + k) * channels + v
        store(to, k * WIDE, load(x, at))
        store(to, k * WIDE + LANES, load(x, at + LANES))


@inlined
def _write(x, a, rows, channels, v, source):  # type: ignore[no-untyped-def]
    for k in range(rows):
        at = (a * rows + k) * channels + v
        store(x, at, load(source, k * WIDE))
        store(x, at + LANES, load(source, k * WIDE + LANES))


@compiled
def forward(block, tree, kind, weights, features, n_rows, n_out, channels, out):  # type: ignore[no-untyped-def]
    """B."""
    n_inner, n_weights, v = len(tree.parent), len(tree.feature), block * WIDE
    a, m, b = aligned(n_rows * WIDE, out), aligned(n_inner * WIDE, out), aligned(n_out * WIDE, out)
    one = splat(m.dtype.type(1))
    store(m, 0, one)
    store(m, LANES, one)
    for atom in range(len(kind)):
        w = (kind[atom] * channels + v) * n_weights
        _read(features, atom, n_rows, channels, v, a)
        _monomials(tree, a, m)
        _clear(b)
        for s in range(n_inner):
            m0, m1 = load(m, s * WIDE), load(m, s * WIDE + LANES)
            for k in range(tree.run[s], tree.run[s + 1]):
                x0, x1 = _run(tree, k, weights, w, a)
                o = tree.output[k] * WIDE
                store(b, o, multiply_add(m0, x0, load(b, o)))
                store(b, o + LANES, multiply_add(m1, x1, load(b, o + LANES)))
        _write(out, atom, n_out, channels, v, b)


@compiled
def reverse(  # type: ignore[no-untyped-def]
    block, tree, kind, weights, features, n_rows, cotangent, n_out, channels, slope, weight_slope
):  # fmt: skip
    """From ∂E/∂B: ∂E/∂A (written) and, unless empty, ∂E/∂w (added)."""
    n_inner, n_weights, v = len(tree.parent), len(tree.feature), block * WIDE
    a, g, b = aligned(n_rows * WIDE, slope), aligned(n_rows * WIDE, slope), aligned(n_out * WIDE, slope)
    m, back = aligned(n_inner * WIDE, slope), aligned(n_inner * WIDE, slope)
    one, zero = splat(m.dtype.type(1)), splat(m.dtype.type(0))
    store(m, 0, one)
    store(m, LANES, one)
    by_weight = len(weight_slope) > 0
    for atom in range(len(kind)):
        w = (kind[atom] * channels + v) * n_weights
        _read(features, atom, n_rows, channels, v, a)
        _read(cotangent, atom, n_out, channels, v, b)
        _monomials(tree, a, m)
        _clear(g)
        _clear(back)
        for s in range(n_inner - 1, -1, -1):
            m0, m1 = load(m, s * WIDE), load(m, s * WIDE + LANES)
            t0, t1 = load(back, s * WIDE), load(back, s * WIDE + LANES)
            for k in range(tree.run[s], tree.run[s + 1]):
                o = tree.output[k] * WIDE
                b0, b1 = load(b, o), load(b, o + LANES)
                g0, g1 = multiply(b0, m0), multiply(b1, m1)
                x0, x1 = zero, zero
                for e in range(tree.weight[k], tree.weight[k + 1]):
                    f, at = tree.feature[e] * WIDE, w + e * WIDE
                    w0, w1 = load(weights, at), load(weights, at + LANES)
                    a0, a1 = load(a, f), load(a, f + LANES)
                    x0, x1 = multiply_add(w0, a0, x0), multiply_add(w1, a1, x1)
                    store(g, f, multiply_add(w0, g0, load(g, f)))
                    store(g, f + LANES, multiply_add(w1, g1, load(g, f + LANES)))
                    if by_weight:
                        store(weight_slope, at, multiply_add(g0, a0, load(weight_slope, at)))
                        at += LANES
                        store(weight_slope, at, multiply_add(g1, a1, load(weight_slope, at)))
                t0, t1 = multiply_add(b0, x0, t0), multiply_add(b1, x1, t1)
            if s:
                _push(tree, s, a, m, back, g, t0, t1)
        _write(slope, atom, n_rows, channels, v, g)


@inlined
def _changes(tree, a, da, m, dm):  # type: ignore[no-untyped-def]
    """Directional derivatives of the inner monomials."""
    for s in range(1, len(tree.parent)):
        p, f, at = tree.parent[s] * WIDE, tree.factor[s] * WIDE, s * WIDE
        for _ in range(2):
            x = multiply_add(load(m, p), load(da, f), multiply(load(dm, p), load(a, f)))
            store(dm, at, x)
            p, f, at = p + LANES, f + LANES, at + LANES


@inlined
def _push_change(tree, s, half, a, da, m, dm, back, dback, g, t, d):  # type: ignore[no-untyped-def]
    """Reverse of m_s = m_p A_f and of its directional derivative, with cotangents t and d."""
    p, f = tree.parent[s] * WIDE + half, tree.factor[s] * WIDE + half
    x = load(a, f)
    store(dback, p, multiply_add(d, x, load(dback, p)))
    store(back, p, multiply_add(d, load(da, f), multiply_add(t, x, load(back, p))))
    store(g, f, multiply_add(d, load(dm, p), multiply_add(t, load(m, p), load(g, f))))


@compiled
def second(  # type: ignore[no-untyped-def]
    block, tree, kind, weights, features, n_rows, cotangent, n_out, channels, change, out, slope, weight_slope
):  # fmt: skip
    """Of Σ change·(∂E/∂A): derivatives by the cotangent and by A (written), by w (added, unless empty)."""
    n_inner, n_weights, v = len(tree.parent), len(tree.feature), block * WIDE
    a, g, b = aligned(n_rows * WIDE, slope), aligned(n_rows * WIDE, slope), aligned(n_out * WIDE, slope)
    da, db = aligned(n_rows * WIDE, slope), aligned(n_out * WIDE, slope)
    m, back = aligned(n_inner * WIDE, slope), aligned(n_inner * WIDE, slope)
    dm, dback = aligned(n_inner * WIDE, slope), aligned(n_inner * WIDE, slope)
    one, zero = splat(m.dtype.type(1)), splat(m.dtype.type(0))
    store(m, 0, one)
    store(m, LANES, one)
    store(dm, 0, zero)
    store(dm, LANES, zero)
    by_weight = len(weight_slope) > 0
    for atom in range(len(kind)):
        w = (kind[atom] * channels + v) * n_weights
        _read(features, atom, n_rows, channels, v, a)
        _read(change, atom, n_rows, channels, v, da)
        _read(cotangent, atom, n_out, channels, v, b)
        _monomials(tree, a, m)
        _changes(tree, a, da, m, dm)
        _clear(g)
        _clear(db)
        _clear(back)
        _clear(dback)
        for s in range(n_inner - 1, -1, -1):
            for half in range(0, WIDE, LANES):
                at = s * WIDE + half
                m0, n0, t, d = load(m, at), load(dm, at), load(back, at), load(dback, at)
                for k in range(tree.run[s], tree.run[s + 1]):
                    o = tree.output[k] * WIDE + half
                    b0 = load(b, o)
                    y, dy = multiply(b0, n0), multiply(b0, m0)
                    x, dx = zero, zero
                    for e in range(tree.weight[k], tree.weight[k + 1]):
                        f, to = tree.feature[e] * WIDE + half, w + e * WIDE + half
                        w0, a0, c0 = load(weights, to), load(a, f), load(da, f)
                        x, dx = multiply_add(w0, a0, x), multiply_add(w0, c0, dx)
                        store(g, f, multiply_add(w0, y, load(g, f)))
                        if by_weight:
                            z = multiply_add(y, a0, load(weight_slope, to))
                            store(weight_slope, to, multiply_add(dy, c0, z))
                    t, d = multiply_add(b0, dx, t), multiply_add(b0, x, d)
                    store(db, o, multiply_add(n0, x, multiply_add(m0, dx, load(db, o))))
                if s:
                    _push_change(tree, s, half, a, da, m, dm, back, dback, g, t, d)
        _write(out, atom, n_out, channels, v, db)
        _write(slope, atom, n_rows, channels, v, g)
