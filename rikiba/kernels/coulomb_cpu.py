"""Compiled parts of an Ewald sum: screened pairs, and the waves of a mesh. All float64."""

import math
from functools import lru_cache

import numpy as np
import torch

from .compiled import compiled, inlined
from .radial_table import hermite_coefficients

PER_UNIT = 128
"""Intervals of the table of erfc per unit of x: value to 1e-15, slope to 1e-12."""


@lru_cache(maxsize=16)
def erfc_table(stop: float) -> np.ndarray:
    """Coefficients [intervals, 6] of erfc(x) from 0 beyond `stop`; t = 128·x − interval."""
    x = torch.arange(math.ceil(stop * PER_UNIT) + 2, dtype=torch.float64) / PER_UNIT
    slope = -2.0 / math.sqrt(math.pi) * torch.exp(-x * x)
    found = hermite_coefficients(
        torch.erfc(x)[None, :, None], slope[None, :, None], (-2.0 * x * slope)[None, :, None], 1.0 / PER_UNIT
    )
    return found[0, :, :, 0].contiguous().numpy()


@inlined
def add_symmetric(a, xx, xy, xz, yy, yz, zz):  # type: ignore[no-untyped-def]
    a[0, 0] += xx
    a[0, 1] += xy
    a[0, 2] += xz
    a[1, 0] += xy
    a[1, 1] += yy
    a[1, 2] += yz
    a[2, 0] += xz
    a[2, 1] += yz
    a[2, 2] += zz


@inlined
def screened(r, inverse, scale, table):  # type: ignore[no-untyped-def]
    """(erfc(αr)/r, its slope over r) from a table of erfc."""
    place = r * scale
    k = int(place)
    p = place - k
    c = table[k]
    value = c[0] + p * (c[1] + p * (c[2] + p * (c[3] + p * (c[4] + p * c[5]))))
    slope = c[1] + p * (2.0 * c[2] + p * (3.0 * c[3] + p * (4.0 * c[4] + p * 5.0 * c[5])))
    value *= inverse
    return value, inverse * inverse * (slope * scale - value)


@compiled
def screened_pairs(  # type: ignore[no-untyped-def]
    positions, cell, system_index, i, j, shift, charges, alpha, cutoff, table, energies, forces, virial
):
    """Add q_i q_j erfc(αr)/r of pairs with r < cutoff, each listed once, halves to both atoms.

    forces [atoms, 3] and virial [systems, 3, 3] (Σ ∂E/∂r ⊗ r) are added to. Pairs are ordered by i.
    """
    scale = alpha * PER_UNIT
    n, q = len(i), 0
    while q < n:
        a = i[q]
        box, own = cell[system_index[a]], virial[system_index[a]]
        ax, ay, az, charge = positions[a, 0], positions[a, 1], positions[a, 2], charges[a]
        energy = fx = fy = fz = 0.0
        xx = xy = xz = yy = yz = zz = 0.0
        while q < n and i[q] == a:
            b = j[q]
            x, y, z = positions[b, 0] - ax, positions[b, 1] - ay, positions[b, 2] - az
            s, t, u = shift[q, 0], shift[q, 1], shift[q, 2]
            q += 1
            if s != 0 or t != 0 or u != 0:
                x += s * box[0, 0] + t * box[1, 0] + u * box[2, 0]
                y += s * box[0, 1] + t * box[1, 1] + u * box[2, 1]
                z += s * box[0, 2] + t * box[1, 2] + u * box[2, 2]
            r2 = x * x + y * y + z * z
            if r2 >= cutoff * cutoff:
                continue
            r = math.sqrt(r2)
            inverse = 1.0 / r if r > 0.0 else math.nan
            value, slope = screened(r, inverse, scale, table)
            strength = charge * charges[b]
            half = 0.5 * strength * value
            energy += half
            energies[b] += half
            along = strength * slope
            gx, gy, gz = along * x, along * y, along * z
            fx += gx
            fy += gy
            fz += gz
            forces[b, 0] -= gx
            forces[b, 1] -= gy
            forces[b, 2] -= gz
            xx += gx * x
            xy += gx * y
            xz += gx * z
            yy += gy * y
            yz += gy * z
            zz += gz * z
        energies[a] += energy
        forces[a, 0] += fx
        forces[a, 1] += fy
        forces[a, 2] += fz
        add_symmetric(own, xx, xy, xz, yy, yz, zz)


@compiled
def convolve(waves, influence, n0, n1, points, inverse, alpha, virial):  # type: ignore[no-untyped-def]
    """waves *= influence; virial [3, 3] += ∂/∂ε of ½ Σ_n G|S|² with G ∝ exp(−k²/4α²)/(k² V).

    `waves` are those of a real transform with `points` along the last axis, n0 and n1 the wave numbers of the
    others, `inverse` of the cell (columns are reciprocal vectors over 2π).
    """
    quarter = 0.25 / (alpha * alpha)
    xx = xy = xz = yy = yz = zz = 0.0
    tau = 2.0 * math.pi
    for a in range(waves.shape[0]):
        for b in range(waves.shape[1]):
            px = tau * (n0[a] * inverse[0, 0] + n1[b] * inverse[0, 1])
            py = tau * (n0[a] * inverse[1, 0] + n1[b] * inverse[1, 1])
            pz = tau * (n0[a] * inverse[2, 0] + n1[b] * inverse[2, 1])
            for c in range(waves.shape[2]):
                g, w = influence[a, b, c], waves[a, b, c]
                waves[a, b, c] = complex(g * w.real, g * w.imag)
                energy = g * (w.real * w.real + w.imag * w.imag)
                if c == 0 or 2 * c == points:
                    energy *= 0.5
                kx = px + tau * c * inverse[0, 2]
                ky = py + tau * c * inverse[1, 2]
                kz = pz + tau * c * inverse[2, 2]
                square = kx * kx + ky * ky + kz * kz
                if square == 0.0:
                    continue
                f = 2.0 * energy * (1.0 / square + quarter)
                xx += f * kx * kx - energy
                xy += f * kx * ky
                xz += f * kx * kz
                yy += f * ky * ky - energy
                yz += f * ky * kz
                zz += f * kz * kz - energy
    add_symmetric(virial, xx, xy, xz, yy, yz, zz)


@compiled
def mesh_forces(charges, values, slopes, steps, mean_off, energies, forces):  # type: ignore[no-untyped-def]
    """energies += ½ q φ and forces −= q ∂φ/∂r, ∂φ/∂r = steps · ∂φ/∂u; with `mean_off` less their mean."""
    n = len(charges)
    mx = my = mz = 0.0
    if mean_off:
        for a in range(n):
            mx += charges[a] * slopes[a, 0]
            my += charges[a] * slopes[a, 1]
            mz += charges[a] * slopes[a, 2]
        mx, my, mz = mx / n, my / n, mz / n
    for a in range(n):
        energies[a] += 0.5 * charges[a] * values[a]
        x, y, z = (
            charges[a] * slopes[a, 0] - mx,
            charges[a] * slopes[a, 1] - my,
            charges[a] * slopes[a, 2] - mz,
        )
        for d in range(3):
            forces[a, d] -= steps[d, 0] * x + steps[d, 1] * y + steps[d, 2] * z
