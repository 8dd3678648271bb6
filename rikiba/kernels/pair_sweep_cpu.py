"""Compiled ends of a sweep over pairs: vectors from positions before, forces and virial behind."""

import numpy as np

from .compiled import compiled, inlined


@inlined
def add_vector(a, b, x, y, z, gx, gy, gz, forces, virial):  # type: ignore[no-untyped-def]
    """Forces of ∂E/∂(r_b − r_a) = g on a and b, and g ⊗ (r_b − r_a)."""
    forces[a, 0] += gx
    forces[a, 1] += gy
    forces[a, 2] += gz
    forces[b, 0] -= gx
    forces[b, 1] -= gy
    forces[b, 2] -= gz
    virial[0, 0] += gx * x
    virial[0, 1] += gx * y
    virial[0, 2] += gx * z
    virial[1, 0] += gy * x
    virial[1, 1] += gy * y
    virial[1, 2] += gy * z
    virial[2, 0] += gz * x
    virial[2, 1] += gz * y
    virial[2, 2] += gz * z


@compiled
def pair_vectors(positions, cell, system_index, i, j, shift, out):  # type: ignore[no-untyped-def]
    """out = r_j + shift·cell − r_i."""
    for q in range(len(i)):
        a, b = i[q], j[q]
        x, y, z = positions[b, 0], positions[b, 1], positions[b, 2]
        s, t, u = shift[q, 0], shift[q, 1], shift[q, 2]
        x, y, z = x - positions[a, 0], y - positions[a, 1], z - positions[a, 2]
        if s != 0 or t != 0 or u != 0:
            box = cell[system_index[a]]
            x += s * box[0, 0] + t * box[1, 0] + u * box[2, 0]
            y += s * box[0, 1] + t * box[1, 1] + u * box[2, 1]
            z += s * box[0, 2] + t * box[1, 2] + u * box[2, 2]
        out[q, 0], out[q, 1], out[q, 2] = x, y, z


@compiled
def collect(vectors, gradient, i, j, system_index, forces, virial):  # type: ignore[no-untyped-def]
    """Add g to forces[i], −g to forces[j] and g ⊗ r to the virial [systems, 3, 3] ; g = ∂E/∂r_ij."""
    for q in range(len(i)):
        g, h, k = gradient[q, 0], gradient[q, 1], gradient[q, 2]
        if g == 0.0 and h == 0.0 and k == 0.0:
            continue
        a, b = i[q], j[q]
        x, y, z = vectors[q, 0], vectors[q, 1], vectors[q, 2]
        add_vector(a, b, x, y, z, g, h, k, forces, virial[system_index[a]])


@compiled
def lennard_jones_sweep(  # type: ignore[no-untyped-def]
    positions, cell, system_index, i, j, shift, types, parameters, ends, energies, forces, virial
):
    """4ε[(σ/r)¹² − (σ/r)⁶] − a below a cutoff, from positions to energies, forces and virial, all added to.

    Each pair is listed in one direction only and ordered by centre. `parameters` [types, types, 2] hold
    (4ε, σ), `ends` [types, types, 4] (…, cutoff, a, …). A centre's neighbours are first sorted out without a
    branch, for whether a pair is near enough cannot be foreseen. Atoms at one place give NaN.
    """
    n, start, widest = len(i), 0, 0
    for q in range(n):
        if i[q] != i[start]:
            start = q
        widest = max(widest, q + 1 - start)
    x, y, z, r2 = np.empty(widest), np.empty(widest), np.empty(widest), np.empty(widest)
    who = np.empty(widest, np.int64)
    start = 0
    while start < n:
        a = i[start]
        k, ti, near, q = system_index[a], types[a], 0, start
        x0, y0, z0 = positions[a, 0], positions[a, 1], positions[a, 2]
        while q < n and i[q] == a:
            b = j[q]
            dx, dy, dz = positions[b, 0] - x0, positions[b, 1] - y0, positions[b, 2] - z0
            s, t, u = shift[q, 0], shift[q, 1], shift[q, 2]
            if s != 0 or t != 0 or u != 0:
                dx += s * cell[k, 0, 0] + t * cell[k, 1, 0] + u * cell[k, 2, 0]
                dy += s * cell[k, 0, 1] + t * cell[k, 1, 1] + u * cell[k, 2, 1]
                dz += s * cell[k, 0, 2] + t * cell[k, 1, 2] + u * cell[k, 2, 2]
            square, cutoff = dx * dx + dy * dy + dz * dz, ends[ti, types[b], 1]
            x[near], y[near], z[near], r2[near], who[near] = dx, dy, dz, square, b
            near += 0 if square >= cutoff * cutoff else 1
            q += 1
        energy, fx, fy, fz = 0.0, 0.0, 0.0, 0.0
        xx, xy, xz, yy, yz, zz = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
        for m in range(near):
            b = who[m]
            tj = types[b]
            inverse = 1.0 / r2[m] if r2[m] != 0.0 else np.nan
            s2 = parameters[ti, tj, 1] * parameters[ti, tj, 1] * inverse
            s6 = s2 * s2 * s2
            half = 0.5 * (parameters[ti, tj, 0] * (s6 * s6 - s6) - ends[ti, tj, 2])
            along = parameters[ti, tj, 0] * s6 * (6.0 - 12.0 * s6) * inverse
            gx, gy, gz = along * x[m], along * y[m], along * z[m]
            energy += half
            energies[b] += half
            fx, fy, fz = fx + gx, fy + gy, fz + gz
            forces[b, 0] -= gx
            forces[b, 1] -= gy
            forces[b, 2] -= gz
            xx, xy, xz = xx + gx * x[m], xy + gx * y[m], xz + gx * z[m]
            yy, yz, zz = yy + gy * y[m], yz + gy * z[m], zz + gz * z[m]
        energies[a] += energy
        forces[a, 0] += fx
        forces[a, 1] += fy
        forces[a, 2] += fz
        virial[k, 0, 0] += xx
        virial[k, 1, 1] += yy
        virial[k, 2, 2] += zz
        virial[k, 0, 1] += xy
        virial[k, 1, 0] += xy
        virial[k, 0, 2] += xz
        virial[k, 2, 0] += xz
        virial[k, 1, 2] += yz
        virial[k, 2, 1] += yz
        start = q
