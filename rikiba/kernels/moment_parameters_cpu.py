"""Derivatives of moment-tensor energies and pair gradients with respect to parameters, without their matrix.

For weights e of the energies and w of the pair gradients, Φ = Σ_a e_a E_a + Σ_p w_p·∂E/∂r_p. The second term
is the derivative of E when every r_p moves along w_p, so one sweep with values and such tangents, and its
reverse, give ∂Φ/∂(all parameters): the gradient of any loss of energies, forces and stress.
"""

import numpy as np

from .compiled import compiled, inlined
from .lanes import LANES, aligned, load, multiply, multiply_add, splat, spread, store, total
from .moment_cpu import _products, _rows


@inlined
def _moving(parent, along, normalised, geometry, at, out):  # type: ignore[no-untyped-def]
    """out: tangents of the three coordinates and of r, when the pair vectors move along `along`."""
    for m in range(LANES):
        p = parent[m]
        for c in range(3):
            out[c * LANES + m] = along[p, c] if p >= 0 else 0.0
    inverse, inner = load(geometry, at + 3 * LANES), splat(0.0)
    for c in range(3):
        inner = multiply_add(load(out, c * LANES), load(geometry, at + c * LANES), inner)
    if normalised:
        less = multiply(splat(-1.0), inner)
        for c in range(3):
            rest = multiply_add(less, load(geometry, at + c * LANES), load(out, c * LANES))
            store(out, c * LANES, multiply(rest, inverse))
        store(out, 3 * LANES, inner)
    else:
        store(out, 3 * LANES, multiply(inner, inverse))


@inlined
def _moving_monomials(geometry, at, moving, lower, axis, mono, tangent):  # type: ignore[no-untyped-def]
    store(mono, 0, splat(1.0))
    store(tangent, 0, splat(0.0))
    for n in range(1, len(lower)):
        u, du = load(geometry, at + axis[n] * LANES), load(moving, axis[n] * LANES)
        below = load(mono, lower[n] * LANES)
        store(mono, n * LANES, multiply(u, below))
        slope = multiply_add(u, load(tangent, lower[n] * LANES), multiply(du, below))
        store(tangent, n * LANES, slope)


@compiled
def _gather_tangents(f, f_at, plan, moving, mono, tangent, out):  # type: ignore[no-untyped-def]
    n_mu = len(plan.of_mu) - 1
    for mu in range(n_mu):
        value = load(f, f_at + mu * LANES)
        slope = multiply(load(f, f_at + (n_mu + mu) * LANES), load(moving, 3 * LANES))
        for b in range(plan.of_mu[mu], plan.of_mu[mu + 1]):
            n = plan.monomial[b] * LANES
            x = multiply_add(slope, load(mono, n), load(out, b * LANES))
            store(out, b * LANES, multiply_add(value, load(tangent, n), x))


@compiled
def _product_tangents(plan, nodes, tangents):  # type: ignore[no-untyped-def]
    n_basic = len(plan.monomial)
    for n in range(len(plan.first) - 1):
        value = splat(0.0)
        for t in range(plan.first[n], plan.first[n + 1]):
            a, b = plan.left[t] * LANES, plan.right[t] * LANES
            x = multiply(load(tangents, a), load(nodes, b))
            x = multiply_add(load(nodes, a), load(tangents, b), x)
            value = multiply_add(spread(plan.factor, t), x, value)
        store(tangents, (n_basic + n) * LANES, value)


@compiled
def _reverse_both(plan, nodes, tangents, slopes, moved):  # type: ignore[no-untyped-def]
    """Slopes of all nodes and their tangents."""
    n_basic = len(plan.monomial)
    for n in range(len(plan.first) - 2, -1, -1):
        g, h = load(slopes, (n_basic + n) * LANES), load(moved, (n_basic + n) * LANES)
        for t in range(plan.first[n], plan.first[n + 1]):
            a, b = plan.left[t] * LANES, plan.right[t] * LANES
            factor = spread(plan.factor, t)
            x, y = multiply(factor, g), multiply(factor, h)
            store(slopes, a, multiply_add(x, load(nodes, b), load(slopes, a)))
            store(slopes, b, multiply_add(x, load(nodes, a), load(slopes, b)))
            z = multiply_add(x, load(tangents, b), load(moved, a))
            store(moved, a, multiply_add(y, load(nodes, b), z))
            z = multiply_add(x, load(tangents, a), load(moved, b))
            store(moved, b, multiply_add(y, load(nodes, a), z))


@compiled
def _radial_sums(  # type: ignore[no-untyped-def]
    basis, at, kind, kind_at, n, plan, moving, mono, tangent, slopes, moved, scratch, coefficients
):
    """Add sixteen pairs to coefficients[kind, μ, β] = ∂Φ/∂c."""
    n_mu = len(plan.of_mu) - 1
    for mu in range(n_mu):
        s, t = splat(0.0), splat(0.0)
        for b in range(plan.of_mu[mu], plan.of_mu[mu + 1]):
            m = plan.monomial[b] * LANES
            g, x = load(slopes, b * LANES), load(mono, m)
            t = multiply_add(g, x, t)
            s = multiply_add(g, load(tangent, m), multiply_add(load(moved, b * LANES), x, s))
        store(scratch, 0, s)
        store(scratch, LANES, multiply(t, load(moving, 3 * LANES)))
        for m in range(LANES):
            k = kind[kind_at + m]
            if k >= 0:
                s_m, t_m = scratch[m], scratch[LANES + m]
                for b in range(n):
                    value, slope = basis[at + b * LANES + m], basis[at + (n + b) * LANES + m]
                    coefficients[(k * n_mu + mu) * n + b] += value * s_m + slope * t_m


@compiled
def sensitivities(  # type: ignore[no-untyped-def]
    vectors, i, j, types, groups, radial, plan, weights, scalars, of_energies, along, functions, coefficients
):
    """Add ∂Φ/∂weights[scalars] to `functions` and ∂Φ/∂c [kind, μ, β] to `coefficients`, both flat.

    `of_energies` [atoms] is e, `along` [pairs, 3] is w.
    """
    order, start, parent = groups
    n_basic, n_nodes, n_mu = len(plan.monomial), len(weights), len(plan.of_mu) - 1
    n = radial.coefficients.shape[3]
    most = 0
    for g in range(len(start) - 1):
        most = max(most, start[g + 1] - start[g])
    nodes, tangents = aligned(n_nodes * LANES, along), aligned(n_nodes * LANES, along)
    slopes, moved = aligned(n_nodes * LANES, along), aligned(n_nodes * LANES, along)
    mono, tangent = aligned(len(plan.lower) * LANES, along), aligned(len(plan.lower) * LANES, along)
    geometry, f = aligned(most * 5 * LANES, along), aligned(most * 2 * n_mu * LANES, along)
    width = 2 * n * LANES
    basis, moving = aligned((most + 1) * width, along), aligned(4 * LANES, along)
    scratch, e = aligned(2 * LANES, along), aligned(LANES, along)
    kind, table = np.empty((most + 1) * LANES, np.int64), radial.coefficients.reshape(-1)
    for g in range(len(start) - 1):
        rows = start[g + 1] - start[g]
        nodes[: n_basic * LANES] = 0.0
        tangents[: n_basic * LANES] = 0.0
        _rows(
            vectors, i, j, types, parent, start[g], rows, radial, n_mu, table, geometry, f, basis, width,
            kind, plan, mono, nodes,
        )  # fmt: skip
        for k in range(rows):
            row = parent[(start[g] + k) * LANES : (start[g] + k + 1) * LANES]
            _moving(row, along, radial.normalised, geometry, k * 5 * LANES, moving)
            _moving_monomials(geometry, k * 5 * LANES, moving, plan.lower, plan.axis, mono, tangent)
            _gather_tangents(f, 2 * k * n_mu * LANES, plan, moving, mono, tangent, tangents)
        _products(plan, nodes)
        _product_tangents(plan, nodes, tangents)
        for m in range(LANES):
            a = order[g * LANES + m]
            e[m] = of_energies[a] if a >= 0 else 0.0
        own = load(e, 0)
        for k in range(n_nodes):
            w = spread(weights, k)
            store(slopes, k * LANES, w)
            store(moved, k * LANES, multiply(own, w))
        for k in range(len(scalars)):
            s = scalars[k] * LANES
            functions[k] += total(multiply_add(own, load(nodes, s), load(tangents, s)))
        _reverse_both(plan, nodes, tangents, slopes, moved)
        for k in range(rows):
            row = parent[(start[g] + k) * LANES : (start[g] + k + 1) * LANES]
            _moving(row, along, radial.normalised, geometry, k * 5 * LANES, moving)
            _moving_monomials(geometry, k * 5 * LANES, moving, plan.lower, plan.axis, mono, tangent)
            _radial_sums(
                basis, k * width, kind, k * LANES, n, plan, moving, mono, tangent, slopes, moved, scratch,
                coefficients,
            )  # fmt: skip
