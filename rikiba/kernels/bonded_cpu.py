"""Compiled sums over bonds, angles and torsions of the copies of a topology. All float64.

Arguments that they share: `cell` and `fractions` [copies, 3, 3], where d @ fractions are fractional
coordinates along periodic axes and zero along others; `half_width` of the cell [copies]; `system_index`
[copies]; `atoms` [terms, k], of one copy of `n` atoms; `parameters` [terms, m]. Energies [atoms], forces
[atoms, 3] and virial [systems, 3, 3] (Σ ∂E/∂d ⊗ d) are added to. They return 1 where a term is one that the
definition in `rikiba.potentials.bonded` refuses, or that is as long as half the cell is wide, and what they
have added is then of no use; otherwise 0.
"""

import math

from .compiled import compiled, inlined
from .pair_sweep_cpu import add_vector

HARMONIC, MORSE, QUARTIC = range(3)
ANGLE, COSINE = range(2)
PERIODIC, RYCKAERT_BELLEMANS, IMPROPER = range(3)
_SINGULAR = 1e-8


@inlined
def nearest(positions, a, b, box, fractions):  # type: ignore[no-untyped-def]
    """r_b − r_a of the nearest image."""
    x = positions[b, 0] - positions[a, 0]
    y = positions[b, 1] - positions[a, 1]
    z = positions[b, 2] - positions[a, 2]
    s = -math.floor(x * fractions[0, 0] + y * fractions[1, 0] + z * fractions[2, 0] + 0.5)
    t = -math.floor(x * fractions[0, 1] + y * fractions[1, 1] + z * fractions[2, 1] + 0.5)
    u = -math.floor(x * fractions[0, 2] + y * fractions[1, 2] + z * fractions[2, 2] + 0.5)
    if s != 0.0 or t != 0.0 or u != 0.0:
        x += s * box[0, 0] + t * box[1, 0] + u * box[2, 0]
        y += s * box[0, 1] + t * box[1, 1] + u * box[2, 1]
        z += s * box[0, 2] + t * box[1, 2] + u * box[2, 2]
    return x, y, z


@inlined
def add_pair(a, b, x, y, z, along, forces, virial):  # type: ignore[no-untyped-def]
    """The same of a function of the distance, g = along · (r_b − r_a)."""
    gx, gy, gz = along * x, along * y, along * z
    add_vector(a, b, x, y, z, gx, gy, gz, forces, virial)


@inlined
def _cross(ax, ay, az, bx, by, bz):  # type: ignore[no-untyped-def]
    return ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx


@compiled
def bond_terms(  # type: ignore[no-untyped-def]
    form, positions, cell, fractions, half_width, system_index, atoms, parameters, n, energies, forces, virial
):
    """HARMONIC: (k, r_0) of ½ k (r − r_0)²; MORSE: (D, α, r_0) of D (1 − exp(−α (r − r_0)))²; QUARTIC:
    (k, r_0) of ¼ k (r² − r_0²)²."""
    status = 0
    for copy in range(len(cell)):
        first, own, most = copy * n, virial[system_index[copy]], half_width[copy]
        for k in range(len(atoms)):
            a, b, p = first + atoms[k, 0], first + atoms[k, 1], parameters[k]
            x, y, z = nearest(positions, a, b, cell[copy], fractions[copy])
            r = math.sqrt(x * x + y * y + z * z)
            if not 0.0 < r < most:
                status = 1
                continue
            if form == HARMONIC:
                off = r - p[1]
                value, slope = 0.5 * p[0] * off * off, p[0] * off
            elif form == QUARTIC:
                off = r * r - p[1] * p[1]
                value, slope = 0.25 * p[0] * off * off, p[0] * off * r
            else:
                e = math.exp(-p[1] * (r - p[2]))
                value, slope = p[0] * (1.0 - e) * (1.0 - e), 2.0 * p[0] * p[1] * (1.0 - e) * e
            energies[a] += 0.5 * value
            energies[b] += 0.5 * value
            add_pair(a, b, x, y, z, slope / r, forces, own)
    return status


@compiled
def angle_terms(  # type: ignore[no-untyped-def]
    form, positions, cell, fractions, half_width, system_index, atoms, parameters, n, energies, forces, virial
):
    """(k, θ_0 in rad) with θ at the second of three atoms. ANGLE: ½ k (θ − θ_0)²; COSINE:
    ½ k (cos θ − cos θ_0)²."""
    status = 0
    for copy in range(len(cell)):
        first, own, most2 = copy * n, virial[system_index[copy]], half_width[copy] ** 2
        for term in range(len(atoms)):
            i, j, k = first + atoms[term, 0], first + atoms[term, 1], first + atoms[term, 2]
            ax, ay, az = nearest(positions, j, i, cell[copy], fractions[copy])
            bx, by, bz = nearest(positions, j, k, cell[copy], fractions[copy])
            a2, b2 = ax * ax + ay * ay + az * az, bx * bx + by * by + bz * bz
            if not (0.0 < a2 < most2 and 0.0 < b2 < most2):
                status = 1
                continue
            nx, ny, nz = _cross(ax, ay, az, bx, by, bz)
            s, product = math.sqrt(nx * nx + ny * ny + nz * nz), math.sqrt(a2 * b2)
            if form == COSINE:
                off = (ax * bx + ay * by + az * bz) / product - math.cos(parameters[term, 1])
            else:
                off = math.atan2(s, ax * bx + ay * by + az * bz) - parameters[term, 1]
            idle = form == COSINE or parameters[term, 0] == 0.0
            if s < _SINGULAR * product and abs(off) > 1e-6 and not idle:
                status = 1
                continue
            third = 0.5 * parameters[term, 0] * off * off / 3.0
            energies[i] += third
            energies[j] += third
            energies[k] += third
            if s == 0.0:
                continue
            slope = -parameters[term, 0] * off / product if form == COSINE else parameters[term, 0] * off / s
            gx, gy, gz = _cross(ax, ay, az, nx, ny, nz)
            g = slope / a2
            add_vector(j, i, ax, ay, az, g * gx, g * gy, g * gz, forces, own)
            gx, gy, gz = _cross(nx, ny, nz, bx, by, bz)
            g = slope / b2
            add_vector(j, k, bx, by, bz, g * gx, g * gy, g * gz, forces, own)
    return status


@inlined
def _of_torsion(form, phi, p):  # type: ignore[no-untyped-def]
    """(V, dV/dφ)."""
    if form == PERIODIC:
        inside = p[1] * phi - p[2]
        return p[0] * (1.0 + math.cos(inside)), -p[0] * p[1] * math.sin(inside)
    if form == IMPROPER:
        off = phi - p[1]
        off -= 2.0 * math.pi * math.floor(off / (2.0 * math.pi) + 0.5)
        return 0.5 * p[0] * off * off, p[0] * off
    x = -math.cos(phi)
    value, slope = p[5], 0.0
    for k in range(4, -1, -1):
        slope = slope * x + value
        value = value * x + p[k]
    return value, slope * math.sin(phi)


@inlined
def _is_idle(form, p):  # type: ignore[no-untyped-def]
    """Whether a torsion has no force at any angle."""
    if form == RYCKAERT_BELLEMANS:
        return p[1] == 0.0 and p[2] == 0.0 and p[3] == 0.0 and p[4] == 0.0 and p[5] == 0.0
    return p[0] == 0.0


@compiled
def torsion_terms(  # type: ignore[no-untyped-def]
    form, positions, cell, fractions, half_width, system_index, atoms, parameters, n, energies, forces, virial
):
    """PERIODIC: (V, n, γ) of V [1 + cos(nφ − γ)]; RYCKAERT_BELLEMANS: C_0 … C_5; IMPROPER: (k, φ_0); rad.

    Gradients of φ by Blondel & Karplus, doi:10.1002/(SICI)1096-987X(19960715)17:9<1132::AID-JCC5>3.0.CO;2-T,
    eq. 27, in terms of the three bonds.
    """
    status = 0
    for copy in range(len(cell)):
        first, own, most2 = copy * n, virial[system_index[copy]], half_width[copy] ** 2
        for term in range(len(atoms)):
            i, j = first + atoms[term, 0], first + atoms[term, 1]
            k, m = first + atoms[term, 2], first + atoms[term, 3]
            p = parameters[term]
            ax, ay, az = nearest(positions, i, j, cell[copy], fractions[copy])
            bx, by, bz = nearest(positions, j, k, cell[copy], fractions[copy])
            cx, cy, cz = nearest(positions, k, m, cell[copy], fractions[copy])
            a2, b2 = ax * ax + ay * ay + az * az, bx * bx + by * by + bz * bz
            c2 = cx * cx + cy * cy + cz * cz
            if not (0.0 < a2 < most2 and 0.0 < b2 < most2 and 0.0 < c2 < most2):
                status = 1
                continue
            ux, uy, uz = _cross(ax, ay, az, bx, by, bz)
            vx, vy, vz = _cross(bx, by, bz, cx, cy, cz)
            u2, v2 = ux * ux + uy * uy + uz * uz, vx * vx + vy * vy + vz * vz
            idle = _is_idle(form, p)
            least = _SINGULAR * _SINGULAR * b2
            if not idle and not (u2 >= least * a2 and v2 >= least * c2):
                status = 1
                continue
            length = math.sqrt(b2)
            phi = math.atan2(length * (ax * vx + ay * vy + az * vz), ux * vx + uy * vy + uz * vz)
            value, slope = _of_torsion(form, phi, p)
            for d in range(4):
                energies[first + atoms[term, d]] += 0.25 * value
            if idle:
                continue
            g, h = slope * length / u2, slope * length / v2
            add_vector(i, j, ax, ay, az, g * ux, g * uy, g * uz, forces, own)
            add_vector(k, m, cx, cy, cz, h * vx, h * vy, h * vz, forces, own)
            g *= -(ax * bx + ay * by + az * bz) / b2
            h *= -(bx * cx + by * cy + bz * cz) / b2
            gx, gy, gz = g * ux + h * vx, g * uy + h * vy, g * uz + h * vz
            add_vector(j, k, bx, by, bz, gx, gy, gz, forces, own)
    return status
