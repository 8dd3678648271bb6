"""Compiled couplings of the matrices U of each centre: bispectrum components, energies, ∂E/∂U.

Sixteen centres are taken together. See `bispectrum_cpu` for how U is kept.
"""

from typing import NamedTuple

import numpy as np

from .compiled import compiled, inlined
from .lanes import LANES, aligned, load, multiply, multiply_add, splat, spread, store


class Couplings(NamedTuple):
    """Products of U^{j1} of one element and U^{j2} of another, j1 ≥ j2, and what they couple to."""

    left: np.ndarray
    """(j1, element) of each product."""
    right: np.ndarray
    start: np.ndarray
    """First result of each product (one more entry)."""
    result: np.ndarray
    """j of each result."""
    table: np.ndarray
    """First Clebsch–Gordan coefficient [j1+1, j2+1] of each result …"""
    coefficients: np.ndarray
    """… in this array."""
    slot: np.ndarray
    """An entry for each term: ∂E/∂U^{result} of an element gains factor · β_component · result."""
    channel: np.ndarray
    component: np.ndarray
    factor: np.ndarray


@compiled
def whole(sums, first_atom, channels, own, types, layout, half, full):  # type: ignore[no-untyped-def]
    """U of 16 atoms with the atom itself added: rows mb ≤ j/2 into `half`, all into `full`, 16 lanes each."""
    size, all_size = layout.first[-1], layout.full[-1]
    n_atoms = len(types)
    for e in range(channels):
        for m in range(LANES):
            a = min(first_atom + m, n_atoms - 1)
            for k in range(size):
                at = ((e * size + k) * 2) * LANES + m
                half[at], half[at + LANES] = sums[a * channels + e, k, 0], sums[a * channels + e, k, 1]
            for j in range(layout.twojmax + 1):
                for mb in range(j // 2 + 1):
                    k = layout.first[j] + mb * (j + 2)
                    half[((e * size + k) * 2) * LANES + m] += own[types[a], e]
        for j in range(layout.twojmax + 1):
            for mb in range(j // 2 + 1):
                for ma in range(j + 1):
                    at = (e * size + layout.first[j] + mb * (j + 1) + ma) * 2 * LANES
                    to = (e * all_size + layout.full[j] + mb * (j + 1) + ma) * 2 * LANES
                    back = (e * all_size + layout.full[j] + (j - mb) * (j + 1) + j - ma) * 2 * LANES
                    sign = 1.0 - 2.0 * ((ma + mb) % 2)
                    re, im = load(half, at), load(half, at + LANES)
                    store(full, to, re)
                    store(full, to + LANES, im)
                    if 2 * mb < j:
                        store(full, back, multiply(splat(sign), re))
                        store(full, back + LANES, multiply(splat(-sign), im))


@inlined
def _products(full, at1, at2, low, high, s, scratch):  # type: ignore[no-untyped-def]
    """u1[ma1]·u2[s − ma1] of 16 atoms for ma1 = low … high − 1."""
    for ma1 in range(low, high):
        x, y = at1 + 2 * ma1 * LANES, at2 + 2 * (s - ma1) * LANES
        r1, i1 = load(full, x), load(full, x + LANES)
        r2, i2 = load(full, y), load(full, y + LANES)
        to = 2 * (ma1 - low) * LANES
        store(scratch, to, multiply_add(multiply(splat(-1.0), i1), i2, multiply(r1, r2)))
        store(scratch, to + LANES, multiply_add(i1, r2, multiply(r1, i2)))


@inlined
def _coupled(table, at, step, low, high, scratch):  # type: ignore[no-untyped-def]
    """Σ C · product over ma1."""
    re, im = splat(0.0), splat(0.0)
    for k in range(high - low):
        c = spread(table, at + k * step)
        re = multiply_add(c, load(scratch, 2 * k * LANES), re)
        im = multiply_add(c, load(scratch, (2 * k + 1) * LANES), im)
    return re, im


@compiled
def components(full, half, layout, couplings, wanted, out):  # type: ignore[no-untyped-def]
    """out[slot · channel · 16] = Re Σ U* · result for the (slot, channel) that are wanted."""
    size, all_size = layout.first[-1], layout.full[-1]
    channels = wanted.shape[1]
    scratch = aligned(2 * (layout.twojmax + 1) * LANES, full)
    out[:] = 0.0
    for pair in range(len(couplings.left)):
        first, last = couplings.start[pair], couplings.start[pair + 1]
        if not wanted[first:last].any():
            continue
        j1, j2 = couplings.left[pair, 0], couplings.right[pair, 0]
        for mb1 in range(j1 + 1):
            at1 = (couplings.left[pair, 1] * all_size + layout.full[j1] + mb1 * (j1 + 1)) * 2 * LANES
            for mb2 in range(min(j2, (j1 + j2) // 2 - mb1) + 1):
                at2 = (couplings.right[pair, 1] * all_size + layout.full[j2] + mb2 * (j2 + 1)) * 2 * LANES
                row = j1 + j2 - 2 * (mb1 + mb2)
                for s in range(j1 + j2 + 1):
                    low, high = max(0, s - j2), min(j1, s) + 1
                    column = abs(j1 + j2 - 2 * s)
                    if max(row, column) > couplings.result[last - 1]:
                        continue
                    _products(full, at1, at2, low, high, s, scratch)
                    for slot in range(first, last):
                        j = couplings.result[slot]
                        if j < max(row, column) or not wanted[slot].any():
                            continue
                        c = couplings.table[slot]
                        at = c + low * (j2 + 1) + s - low
                        re, im = _coupled(couplings.coefficients, at, j2, low, high, scratch)
                        mb, ma = (j - row) // 2, s - (j1 + j2 - j) // 2
                        k = layout.first[j] + mb * (j + 1) + ma
                        x = splat(couplings.coefficients[c + mb1 * (j2 + 1) + mb2] * layout.multiplicity[k])
                        for e in range(channels):
                            if wanted[slot, e]:
                                u = (e * size + k) * 2 * LANES
                                b = (slot * channels + e) * LANES
                                part = multiply_add(im, load(half, u + LANES), multiply(re, load(half, u)))
                                store(out, b, multiply_add(x, part, load(out, b)))


@compiled
def adjoint(full, layout, couplings, wanted, strength, out):  # type: ignore[no-untyped-def]
    """out = ∂E/∂U* of 16 atoms, rows mb ≤ j/2: the sum of the wanted results times `strength` (16 lanes)."""
    # the walk of `components`, written again: one loop for both would ask in its innermost part which it is
    size, all_size = layout.first[-1], layout.full[-1]
    channels = wanted.shape[1]
    scratch = aligned(2 * (layout.twojmax + 1) * LANES, full)
    out[:] = 0.0
    for pair in range(len(couplings.left)):
        first, last = couplings.start[pair], couplings.start[pair + 1]
        if not wanted[first:last].any():
            continue
        j1, j2 = couplings.left[pair, 0], couplings.right[pair, 0]
        for mb1 in range(j1 + 1):
            at1 = (couplings.left[pair, 1] * all_size + layout.full[j1] + mb1 * (j1 + 1)) * 2 * LANES
            for mb2 in range(min(j2, (j1 + j2) // 2 - mb1) + 1):
                at2 = (couplings.right[pair, 1] * all_size + layout.full[j2] + mb2 * (j2 + 1)) * 2 * LANES
                row = j1 + j2 - 2 * (mb1 + mb2)
                for s in range(j1 + j2 + 1):
                    low, high = max(0, s - j2), min(j1, s) + 1
                    column = abs(j1 + j2 - 2 * s)
                    if max(row, column) > couplings.result[last - 1]:
                        continue
                    _products(full, at1, at2, low, high, s, scratch)
                    for slot in range(first, last):
                        j = couplings.result[slot]
                        if j < max(row, column) or not wanted[slot].any():
                            continue
                        c = couplings.table[slot]
                        at = c + low * (j2 + 1) + s - low
                        re, im = _coupled(couplings.coefficients, at, j2, low, high, scratch)
                        k = layout.first[j] + (j - row) // 2 * (j + 1) + s - (j1 + j2 - j) // 2
                        x = splat(couplings.coefficients[c + mb1 * (j2 + 1) + mb2])
                        for e in range(channels):
                            if wanted[slot, e]:
                                to = (e * size + k) * 2 * LANES
                                t = multiply(x, load(strength, (slot * channels + e) * LANES))
                                store(out, to, multiply_add(t, re, load(out, to)))
                                store(out, to + LANES, multiply_add(t, im, load(out, to + LANES)))


@compiled
def rotate(slope, layout, channels, first_atom, n_atoms, rotated):  # type: ignore[no-untyped-def]
    """rotated[row, element of U, 8] of up to 16 atoms: ∂E/∂v and its image under the three generators."""
    size = layout.first[-1]
    w = aligned(2 * (layout.twojmax + 3) * LANES, slope)
    for e in range(channels):
        for j in range(layout.twojmax + 1):
            for mb in range(j // 2 + 1):
                k0 = layout.first[j] + mb * (j + 1)
                w[:] = 0.0
                for ma in range(j + 1):
                    factor = splat(layout.scale[k0 + ma] * layout.multiplicity[k0 + ma])
                    at = (e * size + k0 + ma) * 2 * LANES
                    store(w, 2 * (ma + 1) * LANES, multiply(factor, load(slope, at)))
                    store(w, (2 * ma + 3) * LANES, multiply(factor, load(slope, at + LANES)))
                for m in range(min(LANES, n_atoms - first_atom)):
                    row = (first_atom + m) * channels + e
                    for ma in range(j + 1):
                        low, here, high = (
                            2 * ma * LANES + m,
                            2 * (ma + 1) * LANES + m,
                            2 * (ma + 2) * LANES + m,
                        )
                        to = rotated[row, k0 + ma]
                        up, down, twist = float(j - ma), float(ma), float(j - 2 * ma)
                        to[0], to[1] = w[here], w[here + LANES]
                        to[2], to[3] = twist * w[here + LANES], -twist * w[here]
                        to[4] = up * w[high] - down * w[low]
                        to[5] = up * w[high + LANES] - down * w[low + LANES]
                        to[6] = up * w[high + LANES] + down * w[low + LANES]
                        to[7] = -(up * w[high] + down * w[low])


@compiled
def centres(  # type: ignore[no-untyped-def]
    sums, types, own, layout, couplings, wanted, values_wanted, first_slot, trace, linear, quadratic,
    isolated, values, energies, rotated,
):  # fmt: skip
    """Sweep over all atoms, 16 together: B, E = β·(B − B0) + ½ (B − B0)ᵀα(B − B0), and ∂E/∂U rotated.

    `linear` [types, components] is β; `quadratic` [types, components, components] is α or has no rows;
    B itself (minus `isolated`) goes
    to `values` [atoms, components] unless that has no rows; component k is `trace`[k]
    times what `components` finds in place `first_slot`[k].
    """
    n_atoms, channels, n = len(types), own.shape[1], linear.shape[1]
    size, all_size = layout.first[-1], layout.full[-1]
    half, slope = aligned(channels * size * 2 * LANES, sums), aligned(channels * size * 2 * LANES, sums)
    full = aligned(channels * all_size * 2 * LANES, sums)
    n_slots = wanted.shape[0] * channels
    found, strength = aligned(n_slots * LANES, sums), aligned(n_slots * LANES, sums)
    beta, b = np.zeros((n, LANES)), np.zeros((n, LANES))
    with_values = len(quadratic) > 0 or len(values) > 0
    for first in range(0, n_atoms, LANES):
        count = min(LANES, n_atoms - first)
        whole(sums, first, channels, own, types, layout, half, full)
        if with_values:
            components(full, half, layout, couplings, values_wanted, found)
            for k in range(n):
                for m in range(count):
                    b[k, m] = trace[k] * found[first_slot[k] * LANES + m] - isolated[types[first + m], k]
                    if len(values):
                        values[first + m, k] = b[k, m]
        for m in range(LANES):
            t = types[min(first + m, n_atoms - 1)]
            for k in range(n):
                beta[k, m] = linear[t, k]
        if len(quadratic):
            for m in range(count):
                alpha = quadratic[types[first + m]]
                for k in range(n):
                    x = 0.0
                    for l in range(n):
                        x += alpha[k, l] * b[l, m]
                    energies[first + m] += b[k, m] * (beta[k, m] + 0.5 * x)
                    beta[k, m] += x
        strength[:] = 0.0
        for t in range(len(couplings.slot)):
            at = (couplings.slot[t] * channels + couplings.channel[t]) * LANES
            for m in range(LANES):
                strength[at + m] += couplings.factor[t] * beta[couplings.component[t], m]
        adjoint(full, layout, couplings, wanted, strength, slope)
        if not len(quadratic):
            for m in range(count):
                x = 0.0
                for e in range(channels):
                    for k in range(size):
                        at = (e * size + k) * 2 * LANES + m
                        part = half[at] * slope[at] + half[at + LANES] * slope[at + LANES]
                        x += layout.multiplicity[k] * part
                energies[first + m] += x / 3.0
                for k in range(n):
                    energies[first + m] -= beta[k, m] * isolated[types[first + m], k]
        rotate(slope, layout, channels, first, n_atoms, rotated)
