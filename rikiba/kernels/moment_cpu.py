"""Compiled moment tensors: their products, energies, ∂E/∂r of every pair, and the reverse sweep.

Sixteen centres are taken together, one in each lane, with their k-th neighbours; centres of about as many
neighbours share a group, and a missing neighbour has radial functions of zero. Everything of a group stays in
cache: components of the moments, the products that become of them, and the derivatives by both.
"""

from typing import NamedTuple

import numpy as np

from .compiled import compiled, inlined
from .lanes import (
    LANES,
    add,
    aligned,
    divide,
    load,
    multiply,
    multiply_add,
    splat,
    spread,
    square_root,
    store,
)


class Radial(NamedTuple):
    """f_μ(r) = Σ_β c_β s T_β(ξ) (r_c − r)^p, ξ from −1 at r_min to 1 at r_c."""

    coefficients: np.ndarray
    """[centre type, neighbour type, μ, β]."""
    r_min: float
    cutoff: float
    power: int
    scaling: float
    normalised: bool
    """Moments of unit vectors instead of vectors."""


class Plan(NamedTuple):
    """Components of moments, and the products that become of them."""

    of_mu: np.ndarray
    """First component of each μ, and their number."""
    monomial: np.ndarray
    """x^a y^b z^c of each component."""
    lower: np.ndarray
    """Monomial n is monomial lower[n] times coordinate axis[n]; monomial 0 is 1."""
    axis: np.ndarray
    first: np.ndarray
    left: np.ndarray
    right: np.ndarray
    factor: np.ndarray


class Groups(NamedTuple):
    """Sixteen centres to a group, sixteen pairs to a row."""

    order: np.ndarray
    """Centre of each lane, −1 where there is none."""
    start: np.ndarray
    """First row of each group."""
    parent: np.ndarray
    """Pair of each lane of each row, −1 where there is none."""


@compiled
def arrange(vectors, i, cutoff, n_atoms):  # type: ignore[no-untyped-def]
    """Groups of the pairs within the cutoff; centres of most neighbours first."""
    counts = np.zeros(n_atoms, np.int64)
    near = np.empty(len(i), np.bool_)
    for p in range(len(i)):
        x, y, z = vectors[p, 0], vectors[p, 1], vectors[p, 2]
        # a distance that is not a number is kept, so that it shows
        near[p] = not x * x + y * y + z * z >= cutoff * cutoff
        counts[i[p]] += near[p]
    n_groups = (n_atoms + LANES - 1) // LANES
    order = np.full(n_groups * LANES, -1, np.int64)
    order[:n_atoms] = np.argsort(-counts, kind="mergesort")
    start, lane_of, group_of = np.zeros(n_groups + 1, np.int64), np.empty(n_atoms, np.int64), counts.copy()
    for g in range(n_groups):
        rows = 0
        for m in range(LANES):
            a = order[g * LANES + m]
            if a >= 0:
                lane_of[a], group_of[a] = m, g
                rows = max(rows, counts[a])
        start[g + 1] = start[g] + rows
    parent = np.full(start[-1] * LANES, -1, np.int64)
    at = np.zeros(n_atoms, np.int64)
    for p in range(len(i)):
        a = i[p]
        if near[p]:
            parent[(start[group_of[a]] + at[a]) * LANES + lane_of[a]] = p
            at[a] += 1
    return Groups(order, start, parent)


@inlined
def _coordinates(vectors, parent, normalised, geometry, at):  # type: ignore[no-untyped-def]
    """geometry[at …]: x, y, z (of the unit vector), 1/r and r of sixteen pairs."""
    for m in range(LANES):
        p = parent[m]
        x, y, z = 0.0, 0.0, 1.0
        if p >= 0:
            x, y, z = vectors[p, 0], vectors[p, 1], vectors[p, 2]
        geometry[at + m], geometry[at + LANES + m], geometry[at + 2 * LANES + m] = x, y, z
    x, y, z = load(geometry, at), load(geometry, at + LANES), load(geometry, at + 2 * LANES)
    r = square_root(multiply_add(x, x, multiply_add(y, y, multiply(z, z))))
    inverse = divide(splat(1.0), r)
    store(geometry, at + 3 * LANES, inverse)
    store(geometry, at + 4 * LANES, r)
    if normalised:
        store(geometry, at, multiply(x, inverse))
        store(geometry, at + LANES, multiply(y, inverse))
        store(geometry, at + 2 * LANES, multiply(z, inverse))


@compiled
def _radial_basis(r, at, radial, n, q):  # type: ignore[no-untyped-def]
    """q[0 … n − 1] = Q_β and q[n … 2n − 1] = dQ_β/dr of the distances at r[at …]."""
    scale = 2.0 / (radial.cutoff - radial.r_min)
    middle = splat(-scale * 0.5 * (radial.cutoff + radial.r_min))
    x = multiply_add(splat(scale), load(r, at), middle)
    twice, zero, one = add(x, x), splat(0.0), splat(1.0)
    for m in range(LANES):
        gap = radial.cutoff - r[at + m]
        inside = radial.scaling if gap > 0.0 or gap != gap else 0.0
        value = inside
        for _ in range(radial.power - 1):
            value *= gap
        q[m], q[n * LANES + m] = value * gap, -radial.power * value
    envelope, envelope_slope = load(q, 0), load(q, n * LANES)
    t0, t1, d0, d1 = zero, one, zero, zero
    for b in range(n):
        # T_0 = 1, T_1 = x, T_{k+1} = 2xT_k − T_{k−1}
        if b == 1:
            t0, t1, d0, d1 = t1, x, d1, splat(scale)
        elif b > 1:
            t2 = add(multiply(twice, t1), multiply(splat(-1.0), t0))
            slope = multiply_add(twice, d1, multiply(splat(2.0 * scale), t1))
            d2 = add(slope, multiply(splat(-1.0), d0))
            t0, t1, d0, d1 = t1, t2, d1, d2
        store(q, b * LANES, multiply(t1, envelope))
        store(q, (n + b) * LANES, multiply_add(d1, envelope, multiply(t1, envelope_slope)))


@compiled
def _kinds(i, j, types, parent, n_types, kind):  # type: ignore[no-untyped-def]
    """Pair of types of each lane."""
    for m in range(LANES):
        p = parent[m]
        kind[m] = types[i[p]] * n_types + types[j[p]] if p >= 0 else -1


@compiled
def _functions(q, kind, table, n_mu, n, f, at):  # type: ignore[no-untyped-def]
    """f[at …]: f_μ, then df_μ/dr, by coefficients table[kind, μ, β]; zero where there is no pair."""
    for m in range(LANES):
        k = kind[m]
        for mu in range(n_mu):
            value = slope = 0.0
            if k >= 0:
                for b in range(n):
                    c = table[(k * n_mu + mu) * n + b]
                    value += c * q[b * LANES + m]
                    slope += c * q[(n + b) * LANES + m]
            f[at + mu * LANES + m] = value
            f[at + (n_mu + mu) * LANES + m] = slope


@compiled
def _functions_of_one_kind(q, kind, table, n_mu, n, f, at):  # type: ignore[no-untyped-def]
    """The same where there is one type of atoms."""
    for mu in range(n_mu):
        value, slope = splat(0.0), splat(0.0)
        for b in range(n):
            c = spread(table, mu * n + b)
            value = multiply_add(c, load(q, b * LANES), value)
            slope = multiply_add(c, load(q, (n + b) * LANES), slope)
        store(f, at + mu * LANES, value)
        store(f, at + (n_mu + mu) * LANES, slope)
    for m in range(LANES):
        if kind[m] < 0:
            for mu in range(2 * n_mu):
                f[at + mu * LANES + m] = 0.0


@inlined
def _monomials(geometry, at, lower, axis, mono):  # type: ignore[no-untyped-def]
    store(mono, 0, splat(1.0))
    for n in range(1, len(lower)):
        u = load(geometry, at + axis[n] * LANES)
        store(mono, n * LANES, multiply(u, load(mono, lower[n] * LANES)))


@compiled
def _gather(geometry, at, f, f_at, plan, mono, moments):  # type: ignore[no-untyped-def]
    """Add sixteen pairs to the components of the moments."""
    _monomials(geometry, at, plan.lower, plan.axis, mono)
    for mu in range(len(plan.of_mu) - 1):
        value = load(f, f_at + mu * LANES)
        for b in range(plan.of_mu[mu], plan.of_mu[mu + 1]):
            known = load(mono, plan.monomial[b] * LANES)
            store(moments, b * LANES, multiply_add(value, known, load(moments, b * LANES)))


@compiled
def _products(plan, nodes):  # type: ignore[no-untyped-def]
    """Fill the nodes behind the components."""
    n_basic = len(plan.monomial)
    for n in range(len(plan.first) - 1):
        value = splat(0.0)
        for t in range(plan.first[n], plan.first[n + 1]):
            x = multiply(spread(plan.factor, t), load(nodes, plan.left[t] * LANES))
            value = multiply_add(x, load(nodes, plan.right[t] * LANES), value)
        store(nodes, (n_basic + n) * LANES, value)


@compiled
def _reverse(plan, used, nodes, slopes):  # type: ignore[no-untyped-def]
    """∂/∂nodes from that of the products `used`, last first, whose own slopes are complete when read."""
    n_basic = len(plan.monomial)
    for k in range(len(used)):
        n = used[k] - n_basic
        slope = load(slopes, used[k] * LANES)
        for t in range(plan.first[n], plan.first[n + 1]):
            a, b = plan.left[t] * LANES, plan.right[t] * LANES
            x = multiply(spread(plan.factor, t), slope)
            store(slopes, a, multiply_add(x, load(nodes, b), load(slopes, a)))
            store(slopes, b, multiply_add(x, load(nodes, a), load(slopes, b)))


@compiled
def _pair_slopes(  # type: ignore[no-untyped-def]
    geometry, at, f, f_at, plan, basics, of_mu, monomials, normalised, slopes, mono, back, out
):
    """out = ∂E/∂r_ij of sixteen pairs, from the slopes of the components `basics`.

    `of_mu` are the bounds of each μ in `basics`; `monomials` are those that occur, ascending, with all that
    they are products of.
    """
    n_mu = len(of_mu) - 1
    store(mono, 0, splat(1.0))
    store(back, 0, splat(0.0))
    for k in range(1, len(monomials)):
        n = monomials[k]
        u = load(geometry, at + plan.axis[n] * LANES)
        store(mono, n * LANES, multiply(u, load(mono, plan.lower[n] * LANES)))
        store(back, n * LANES, splat(0.0))
    along = splat(0.0)
    for mu in range(n_mu):
        value, total = load(f, f_at + mu * LANES), splat(0.0)
        for k in range(of_mu[mu], of_mu[mu + 1]):
            b = basics[k]
            n = plan.monomial[b] * LANES
            slope = load(slopes, b * LANES)
            total = multiply_add(slope, load(mono, n), total)
            store(back, n, multiply_add(value, slope, load(back, n)))
        along = multiply_add(load(f, f_at + (n_mu + mu) * LANES), total, along)
    for c in range(3):
        store(out, c * LANES, splat(0.0))
    for k in range(len(monomials) - 1, 0, -1):
        n = monomials[k]
        slope, low, c = load(back, n * LANES), plan.lower[n] * LANES, plan.axis[n] * LANES
        store(back, low, multiply_add(slope, load(geometry, at + c), load(back, low)))
        store(out, c, multiply_add(slope, load(mono, low), load(out, c)))
    inverse = load(geometry, at + 3 * LANES)
    if normalised:
        inner = splat(0.0)
        for c in range(3):
            inner = multiply_add(load(out, c * LANES), load(geometry, at + c * LANES), inner)
        rest = multiply_add(multiply(splat(-1.0), inner), inverse, along)
        for c in range(3):
            turned = multiply(load(out, c * LANES), inverse)
            store(out, c * LANES, multiply_add(rest, load(geometry, at + c * LANES), turned))
    else:
        rest = multiply(along, inverse)
        for c in range(3):
            moved = multiply_add(rest, load(geometry, at + c * LANES), load(out, c * LANES))
            store(out, c * LANES, moved)


@compiled
def _rows(  # type: ignore[no-untyped-def]
    vectors, i, j, types, parent, first_row, n_rows, radial, n_mu, table, geometry, f, basis, width, kind,
    plan, mono, moments,
):  # fmt: skip
    """Geometry, radial functions (and Q_β, if `width` is not 0) of a group's rows; its moments."""
    n, n_types = radial.coefficients.shape[3], len(radial.coefficients)
    for k in range(n_rows):
        row = parent[(first_row + k) * LANES : (first_row + k + 1) * LANES]
        _coordinates(vectors, row, radial.normalised, geometry, k * 5 * LANES)
        _radial_basis(geometry, (k * 5 + 4) * LANES, radial, n, basis[k * width :])
        _kinds(i, j, types, row, n_types, kind[k * LANES * (width > 0) :])
        if n_types == 1:
            _functions_of_one_kind(
                basis[k * width :], kind[k * LANES * (width > 0) :], table, n_mu, n, f, 2 * k * n_mu * LANES
            )
        else:
            _functions(
                basis[k * width :], kind[k * LANES * (width > 0) :], table, n_mu, n, f, 2 * k * n_mu * LANES
            )
        _gather(geometry, k * 5 * LANES, f, 2 * k * n_mu * LANES, plan, mono, moments)


@compiled
def sweep(vectors, i, j, types, groups, radial, plan, weights, energies, gradient):  # type: ignore[no-untyped-def]
    """energies[atom] = Σ_n weights[n]·node n and gradient[pair] = ∂E/∂r_ij."""
    order, start, parent = groups
    n_basic, n_nodes, n_mu = len(plan.monomial), len(weights), len(plan.of_mu) - 1
    most = 0
    for g in range(len(start) - 1):
        most = max(most, start[g + 1] - start[g])
    like = gradient
    nodes, slopes = aligned(n_nodes * LANES, like), aligned(n_nodes * LANES, like)
    mono, back = aligned(len(plan.lower) * LANES, like), aligned(len(plan.lower) * LANES, like)
    geometry, f = aligned(most * 5 * LANES, like), aligned(most * 2 * n_mu * LANES, like)
    basis, out = aligned(2 * radial.coefficients.shape[3] * LANES, like), aligned(3 * LANES, like)
    kind, table = np.empty(LANES, np.int64), radial.coefficients.reshape(-1)
    used = np.arange(n_nodes - 1, n_basic - 1, -1)
    basics, monomials = np.arange(n_basic), np.arange(len(plan.lower))
    for g in range(len(start) - 1):
        rows = start[g + 1] - start[g]
        nodes[: n_basic * LANES] = 0.0
        _rows(
            vectors, i, j, types, parent, start[g], rows, radial, n_mu, table, geometry, f, basis, 0, kind,
            plan, mono, nodes,
        )  # fmt: skip
        _products(plan, nodes)
        energy = splat(0.0)
        for n in range(n_nodes):
            w = spread(weights, n)
            store(slopes, n * LANES, w)
            energy = multiply_add(w, load(nodes, n * LANES), energy)
        store(out, 0, energy)
        for m in range(LANES):
            if order[g * LANES + m] >= 0:
                energies[order[g * LANES + m]] = out[m]
        _reverse(plan, used, nodes, slopes)
        for k in range(rows):
            _pair_slopes(
                geometry, k * 5 * LANES, f, 2 * k * n_mu * LANES, plan, basics, plan.of_mu, monomials,
                radial.normalised, slopes, mono, back, out,
            )  # fmt: skip
            for m in range(LANES):
                p = parent[(start[g] + k) * LANES + m]
                if p >= 0:
                    gradient[p, 0], gradient[p, 1] = out[m], out[LANES + m]
                    gradient[p, 2] = out[2 * LANES + m]


class Needed(NamedTuple):
    """What each basis function depends on: bounds, then the parts of all functions one after the other."""

    node: np.ndarray
    """Node of the function."""
    products_first: np.ndarray
    products: np.ndarray
    """Its products, last first."""
    basics_first: np.ndarray
    """[functions, μ + 1]: bounds of each μ in `basics`."""
    basics: np.ndarray
    monomials_first: np.ndarray
    monomials: np.ndarray


@compiled
def design(  # type: ignore[no-untyped-def]
    vectors, i, j, types, system, groups, radial, plan, needed, values, forces, virial
):
    """Basis functions of every atom [functions, atoms], and what each of them adds to forces and virial.

    `forces` [functions, atoms, 3] and `virial` [functions, atom types × systems, 3, 3] are added to, by the
    type of the centre: the force on i has + ∂B/∂r_ij, that on j −∂B/∂r_ij.
    """
    order, start, parent = groups
    n_basic, n_mu = len(plan.monomial), len(plan.of_mu) - 1
    n_nodes = n_basic + len(plan.first) - 1
    most = 0
    for g in range(len(start) - 1):
        most = max(most, start[g + 1] - start[g])
    nodes, slopes = aligned(n_nodes * LANES, vectors), aligned(n_nodes * LANES, vectors)
    mono, back = aligned(len(plan.lower) * LANES, vectors), aligned(len(plan.lower) * LANES, vectors)
    geometry, f = aligned(most * 5 * LANES, vectors), aligned(most * 2 * n_mu * LANES, vectors)
    basis, out = aligned(2 * radial.coefficients.shape[3] * LANES, vectors), aligned(3 * LANES, vectors)
    kind, table = np.empty(LANES, np.int64), radial.coefficients.reshape(-1)
    for g in range(len(start) - 1):
        rows = start[g + 1] - start[g]
        nodes[: n_basic * LANES] = 0.0
        _rows(
            vectors, i, j, types, parent, start[g], rows, radial, n_mu, table, geometry, f, basis, 0, kind,
            plan, mono, nodes,
        )  # fmt: skip
        _products(plan, nodes)
        for a in range(len(needed.node)):
            for m in range(LANES):
                if order[g * LANES + m] >= 0:
                    values[a, order[g * LANES + m]] = nodes[needed.node[a] * LANES + m]
            if len(forces) == 0 and len(virial) == 0:
                continue
            used = needed.products[needed.products_first[a] : needed.products_first[a + 1]]
            of_mu = needed.basics_first[a]
            monomials = needed.monomials[needed.monomials_first[a] : needed.monomials_first[a + 1]]
            for k in range(len(used)):
                store(slopes, used[k] * LANES, splat(0.0))
            for k in range(of_mu[0], of_mu[n_mu]):
                store(slopes, needed.basics[k] * LANES, splat(0.0))
            store(slopes, needed.node[a] * LANES, splat(1.0))
            _reverse(plan, used, nodes, slopes)
            for k in range(rows):
                _pair_slopes(
                    geometry, k * 5 * LANES, f, 2 * k * n_mu * LANES, plan, needed.basics, of_mu, monomials,
                    radial.normalised, slopes, mono, back, out,
                )  # fmt: skip
                _spread(a, parent[(start[g] + k) * LANES : (start[g] + k + 1) * LANES], i, j, system, out,
                        vectors, forces, virial)  # fmt: skip


@compiled
def _spread(a, parent, i, j, row, out, vectors, forces, virial):  # type: ignore[no-untyped-def]
    for m in range(LANES):
        p = parent[m]
        if p < 0:
            continue
        for c in range(3):
            x = out[c * LANES + m]
            if len(forces):
                forces[a, i[p], c] += x
                forces[a, j[p], c] -= x
            if len(virial):
                for d in range(3):
                    virial[a, row[i[p]], c, d] += x * vectors[p, d]
