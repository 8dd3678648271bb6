"""Compiled Lennard-Jones and Coulomb terms of a topology, with charges beside their atoms. All float64."""

import math

from .bonded_cpu import add_pair, nearest
from .compiled import compiled, inlined
from .coulomb_cpu import PER_UNIT, add_symmetric, screened

NONE, BARE, SCREENED, REACTION_FIELD = range(4)
"""Coulomb terms of pairs: none, 1/r, erfc(αr)/r, 1/r + field·r² − shift."""


@inlined
def _lennard_jones(r2, four_epsilon, sigma2):  # type: ignore[no-untyped-def]
    """(v, v'/r)."""
    inverse = 1.0 / r2 if r2 > 0.0 else math.nan
    s2 = sigma2 * inverse
    s6 = s2 * s2 * s2
    return four_epsilon * (s6 * s6 - s6), four_epsilon * s6 * (6.0 - 12.0 * s6) * inverse


@inlined
def _switched(r, value, along, start, stop):  # type: ignore[no-untyped-def]
    """(v S, (v S)'/r) of the quintic switch from start to stop."""
    u = (r - start) / (stop - start)
    switch = 1.0 - u * u * u * (10.0 - 15.0 * u + 6.0 * u * u)
    falling = -30.0 * u * u * (1.0 - u) * (1.0 - u) / (stop - start)
    return value * switch, along * switch + value * falling / r


@compiled
def pair_terms(  # type: ignore[no-untyped-def]
    positions, places, apart, cell, system_index, i, j, shift, types, dispersion, switch, coulomb, charges,
    settings, table, energies, forces, place_forces, virial,
):  # fmt: skip
    """Add Lennard-Jones of atoms and Coulomb of charges of pairs, each listed once, halves to both atoms.

    `places` [atoms, 3] is where charges lie, read where they lie `apart` from their atoms. `dispersion`
    [types, types, 4] holds (4ε, σ², a, b) of v − a − (r − stop)·b, `switch` (start, stop) of the quintic
    switch, none where they are equal. `settings` are (r_c, α, field, shift) of Coulomb terms, `table` is
    `erfc_table`. Forces on positions and on places, and virial [systems, 3, 3] (Σ ∂E/∂r ⊗ r) are added to;
    energies and forces in units of `charges`². Pairs are ordered by i. Atoms at one place give NaN.
    """
    start, stop = switch[0], switch[1]
    cutoff2, scale, field, constant = settings[0] ** 2, settings[1] * PER_UNIT, settings[2], settings[3]
    n, q = len(i), 0
    while q < n:
        a = i[q]
        box, own = cell[system_index[a]], virial[system_index[a]]
        ax, ay, az, charge, ta = positions[a, 0], positions[a, 1], positions[a, 2], charges[a], types[a]
        energy = fx = fy = fz = cx = cy = cz = 0.0
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
            half, along = 0.0, 0.0
            p = dispersion[ta, types[b]]
            near = p[0] > 0.0 and r2 < stop * stop
            strength = charge * charges[b]
            charged = coulomb != NONE and strength != 0.0 and (apart or r2 < cutoff2)
            if not near and not charged:
                continue
            r = 0.0
            if near:
                value, along = _lennard_jones(r2, p[0], p[1])
                if r2 > start * start:
                    r = math.sqrt(r2)
                    if start < stop:
                        value, along = _switched(r, value, along, start, stop)
                if p[2] != 0.0 or p[3] != 0.0:
                    r = math.sqrt(r2)
                    value -= p[2] + (r - stop) * p[3]
                    along -= p[3] / r
                half = 0.5 * value
            if charged and apart:
                # along the line of the charges, which is not that of their atoms
                dx = x + (places[b, 0] - positions[b, 0]) - (places[a, 0] - ax)
                dy = y + (places[b, 1] - positions[b, 1]) - (places[a, 1] - ay)
                dz = z + (places[b, 2] - positions[b, 2]) - (places[a, 2] - az)
                d2 = dx * dx + dy * dy + dz * dz
                if d2 < cutoff2:
                    d = math.sqrt(d2)
                    inverse = 1.0 / d if d > 0.0 else math.nan
                    if coulomb == SCREENED:
                        value, slope = screened(d, inverse, scale, table)
                    else:
                        value = inverse + field * d2 - constant
                        slope = 2.0 * field - inverse * inverse * inverse
                    half += 0.5 * strength * value
                    gx, gy, gz = strength * slope * dx, strength * slope * dy, strength * slope * dz
                    cx += gx
                    cy += gy
                    cz += gz
                    place_forces[b, 0] -= gx
                    place_forces[b, 1] -= gy
                    place_forces[b, 2] -= gz
                    xx += gx * dx
                    xy += gx * dy
                    xz += gx * dz
                    yy += gy * dy
                    yz += gy * dz
                    zz += gz * dz
            elif charged:
                if r == 0.0:
                    r = math.sqrt(r2)
                inverse = 1.0 / r if r > 0.0 else math.nan
                if coulomb == SCREENED:
                    value, slope = screened(r, inverse, scale, table)
                else:
                    value = inverse + field * r2 - constant
                    slope = 2.0 * field - inverse * inverse * inverse
                half += 0.5 * strength * value
                along += strength * slope
            energy += half
            energies[b] += half
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
        if apart:
            place_forces[a, 0] += cx
            place_forces[a, 1] += cy
            place_forces[a, 2] += cz
        add_symmetric(own, xx, xy, xz, yy, yz, zz)


@compiled
def place_charges(positions, cell, fractions, atoms, weights, reach, n, places):  # type: ignore[no-untyped-def]
    """places = positions, but of sites r_0 + w_1 (r_1 − r_0) + w_2 (r_2 − r_0) by nearest images.

    `cell` and `fractions` [copies, 3, 3] as in `rikiba.kernels.bonded_cpu`. Returns 1 where a place is
    farther from its atom than its reach.
    """
    places[:] = positions
    wrong = 0
    for copy in range(len(cell)):
        first = copy * n
        for t in range(len(atoms)):
            a = first + atoms[t, 0]
            x, y, z = nearest(positions, a, first + atoms[t, 1], cell[copy], fractions[copy])
            u, v, w = nearest(positions, a, first + atoms[t, 2], cell[copy], fractions[copy])
            x = weights[t, 1] * x + weights[t, 2] * u
            y = weights[t, 1] * y + weights[t, 2] * v
            z = weights[t, 1] * z + weights[t, 2] * w
            if not math.sqrt(x * x + y * y + z * z) <= reach[t]:
                wrong = 1
            places[a, 0] += x
            places[a, 1] += y
            places[a, 2] += z
    return wrong


@compiled
def return_forces(place_forces, atoms, weights, n, forces):  # type: ignore[no-untyped-def]
    """Add forces on places to the atoms that the places are made of."""
    for k in range(len(forces)):
        for d in range(3):
            forces[k, d] += place_forces[k, d]
    for first in range(0, len(forces), n):
        for t in range(len(atoms)):
            a, b, c = first + atoms[t, 0], first + atoms[t, 1], first + atoms[t, 2]
            for d in range(3):
                f = place_forces[a, d]
                forces[a, d] -= (weights[t, 1] + weights[t, 2]) * f
                forces[b, d] += weights[t, 1] * f
                forces[c, d] += weights[t, 2] * f


@compiled
def special_terms(  # type: ignore[no-untyped-def]
    positions, places, cell, fractions, half_width, system_index, atoms, parameters, n,
    energies, forces, place_forces, virial,
):  # fmt: skip
    """Add p_0/d of charges and p_1 [(p_2/r²)⁶ − (p_2/r²)³] of atoms in each copy. Returns 1 as bonds do.

    `forces` and `place_forces` are one array where charges lie on their atoms.
    """
    status = 0
    for copy in range(len(cell)):
        first, own = copy * n, virial[system_index[copy]]
        for k in range(len(atoms)):
            a, b = first + atoms[k, 0], first + atoms[k, 1]
            x, y, z = nearest(positions, a, b, cell[copy], fractions[copy])
            r2 = x * x + y * y + z * z
            if not 0.0 < r2 < half_width[copy] * half_width[copy]:
                status = 1
                continue
            value, along = _lennard_jones(r2, parameters[k, 1], parameters[k, 2])
            add_pair(a, b, x, y, z, along, forces, own)
            x += (places[b, 0] - positions[b, 0]) - (places[a, 0] - positions[a, 0])
            y += (places[b, 1] - positions[b, 1]) - (places[a, 1] - positions[a, 1])
            z += (places[b, 2] - positions[b, 2]) - (places[a, 2] - positions[a, 2])
            inverse = 1.0 / math.sqrt(x * x + y * y + z * z)
            charge = parameters[k, 0] * inverse
            add_pair(a, b, x, y, z, -charge * inverse * inverse, place_forces, own)
            energies[a] += 0.5 * (value + charge)
            energies[b] += 0.5 * (value + charge)
    return status


@compiled
def excluded_terms(  # type: ignore[no-untyped-def]
    positions, places, cell, fractions, half_width, system_index, atoms, charges, alpha, n,
    shifts, energies, place_forces, virial,
):  # fmt: skip
    """Add −q_i q_j erf(αd)/d of each copy's excluded pairs (none where α = 0), and write their images.

    `shifts` [copies·pairs, 3] are those of the second atom's nearest image, `charges` those of all atoms.
    Returns 1 as bonds do.
    """
    status, q = 0, 0
    for copy in range(len(cell)):
        first, own, box, inverse_cell = copy * n, virial[system_index[copy]], cell[copy], fractions[copy]
        for k in range(len(atoms)):
            a, b = first + atoms[k, 0], first + atoms[k, 1]
            x, y, z = (
                positions[b, 0] - positions[a, 0],
                positions[b, 1] - positions[a, 1],
                positions[b, 2] - positions[a, 2],
            )
            for d in range(3):
                along = x * inverse_cell[0, d] + y * inverse_cell[1, d] + z * inverse_cell[2, d]
                shifts[q, d] = -math.floor(along + 0.5)
            s, t, u = shifts[q, 0], shifts[q, 1], shifts[q, 2]
            q += 1
            strength = charges[a] * charges[b]
            if alpha == 0.0 or strength == 0.0:
                continue
            x += s * box[0, 0] + t * box[1, 0] + u * box[2, 0]
            y += s * box[0, 1] + t * box[1, 1] + u * box[2, 1]
            z += s * box[0, 2] + t * box[1, 2] + u * box[2, 2]
            r2 = x * x + y * y + z * z
            if not 0.0 < r2 < half_width[copy] * half_width[copy]:
                status = 1
                continue
            x += (places[b, 0] - positions[b, 0]) - (places[a, 0] - positions[a, 0])
            y += (places[b, 1] - positions[b, 1]) - (places[a, 1] - positions[a, 1])
            z += (places[b, 2] - positions[b, 2]) - (places[a, 2] - positions[a, 2])
            r = math.sqrt(x * x + y * y + z * z)
            inverse = 1.0 / r
            value = -strength * math.erf(alpha * r) * inverse
            gaussian = 2.0 * alpha / math.sqrt(math.pi) * math.exp(-alpha * alpha * r * r)
            along = -(strength * gaussian + value) * inverse * inverse
            add_pair(a, b, x, y, z, along, place_forces, own)
            energies[a] += 0.5 * value
            energies[b] += 0.5 * value
    return status
