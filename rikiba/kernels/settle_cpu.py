"""SETTLE on the CPU, molecule after molecule."""

import math

from torch import Tensor

from .compiled import compiled, inlined


@inlined
def _cross(a, b, c, x, y, z):  # type: ignore[no-untyped-def]
    return b * z - c * y, c * x - a * z, a * y - b * x


@inlined
def _unit(a, b, c):  # type: ignore[no-untyped-def]
    n = 1.0 / math.sqrt(a * a + b * b + c * c)
    return a * n, b * n, c * n


@inlined
def _root(x):  # type: ignore[no-untyped-def]
    return math.sqrt(x) if x >= 0.0 else math.nan


@compiled
def _angles(up, down, half, za, zb, zc, b0, c0, b1, c1):  # type: ignore[no-untyped-def]
    """The molecule tilted to its heights, and the turn that puts it where the constraints' pull leads."""
    sin_phi = za / up
    cos_phi = _root(1.0 - sin_phi * sin_phi)
    sin_psi = (zb - zc) / (2.0 * half * cos_phi)
    xb2 = -half * _root(1.0 - sin_psi * sin_psi)
    ya2, middle, tilt = up * cos_phi, -down * cos_phi, half * sin_psi * sin_phi
    yb2, yc2 = middle - tilt, middle + tilt
    alpha = xb2 * (b0[0] - c0[0]) + b0[1] * yb2 + c0[1] * yc2
    beta = xb2 * (c0[1] - b0[1]) + b0[0] * yb2 + c0[0] * yc2
    gamma = b0[0] * b1[1] - b1[0] * b0[1] + c0[0] * c1[1] - c1[0] * c0[1]
    square = alpha * alpha + beta * beta
    sin = (alpha * gamma - beta * _root(square - gamma * gamma)) / square
    return ya2, xb2, yb2, yc2, sin, _root(1.0 - sin * sin)


@compiled
def _positions(r, reference, masses, molecules, shapes):  # type: ignore[no-untyped-def]
    for n in range(molecules.shape[0]):
        o, h, g = molecules[n, 0], molecules[n, 1], molecules[n, 2]
        half, apex, foot = 0.5 * shapes[n, 1], masses[o], masses[h]
        total = apex + 2.0 * foot
        height = math.sqrt(shapes[n, 0] * shapes[n, 0] - half * half)
        up = 2.0 * foot * height / total
        cx = (apex * r[o, 0] + foot * (r[h, 0] + r[g, 0])) / total
        cy = (apex * r[o, 1] + foot * (r[h, 1] + r[g, 1])) / total
        cz = (apex * r[o, 2] + foot * (r[h, 2] + r[g, 2])) / total
        px, py, pz = (
            reference[h, 0] - reference[o, 0],
            reference[h, 1] - reference[o, 1],
            reference[h, 2] - reference[o, 2],
        )
        qx, qy, qz = (
            reference[g, 0] - reference[o, 0],
            reference[g, 1] - reference[o, 1],
            reference[g, 2] - reference[o, 2],
        )
        z0, z1, z2 = _cross(px, py, pz, qx, qy, qz)
        ax, ay, az = r[o, 0] - cx, r[o, 1] - cy, r[o, 2] - cz
        bx, by, bz = r[h, 0] - cx, r[h, 1] - cy, r[h, 2] - cz
        dx, dy, dz = r[g, 0] - cx, r[g, 1] - cy, r[g, 2] - cz
        x0, x1, x2 = _cross(ax, ay, az, z0, z1, z2)
        y0, y1, y2 = _cross(z0, z1, z2, x0, x1, x2)
        if not (
            z0 * z0 + z1 * z1 + z2 * z2 > 0.0
            and x0 * x0 + x1 * x1 + x2 * x2 > 0.0
            and y0 * y0 + y1 * y1 + y2 * y2 > 0.0
        ):
            return n
        x0, x1, x2 = _unit(x0, x1, x2)
        y0, y1, y2 = _unit(y0, y1, y2)
        z0, z1, z2 = _unit(z0, z1, z2)
        za = z0 * ax + z1 * ay + z2 * az
        zb = z0 * bx + z1 * by + z2 * bz
        zc = z0 * dx + z1 * dy + z2 * dz
        ya2, xb2, yb2, yc2, sin, cos = _angles(
            up, height - up, half, za, zb, zc,
            (x0 * px + x1 * py + x2 * pz, y0 * px + y1 * py + y2 * pz),
            (x0 * qx + x1 * qy + x2 * qz, y0 * qx + y1 * qy + y2 * qz),
            (x0 * bx + x1 * by + x2 * bz, y0 * bx + y1 * by + y2 * bz),
            (x0 * dx + x1 * dy + x2 * dz, y0 * dx + y1 * dy + y2 * dz),
        )  # fmt: skip
        if not (math.isfinite(sin) and math.isfinite(cos)):
            return n
        xa, ya = -ya2 * sin, ya2 * cos
        xb, yb = xb2 * cos - yb2 * sin, xb2 * sin + yb2 * cos
        xc, yc = -xb2 * cos - yc2 * sin, -xb2 * sin + yc2 * cos
        r[o, 0], r[o, 1] = cx + x0 * xa + y0 * ya + z0 * za, cy + x1 * xa + y1 * ya + z1 * za
        r[h, 0], r[h, 1] = cx + x0 * xb + y0 * yb + z0 * zb, cy + x1 * xb + y1 * yb + z1 * zb
        r[g, 0], r[g, 1] = cx + x0 * xc + y0 * yc + z0 * zc, cy + x1 * xc + y1 * yc + z1 * zc
        r[o, 2] = cz + x2 * xa + y2 * ya + z2 * za
        r[h, 2] = cz + x2 * xb + y2 * yb + z2 * zb
        r[g, 2] = cz + x2 * xc + y2 * yc + z2 * zc
    return -1


@inlined
def _dot(a, b):  # type: ignore[no-untyped-def]
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


@inlined
def _minus(rows, j, i):  # type: ignore[no-untyped-def]
    return (rows[j, 0] - rows[i, 0], rows[j, 1] - rows[i, 1], rows[j, 2] - rows[i, 2])


@compiled
def _velocities(v, r, masses, molecules):  # type: ignore[no-untyped-def]
    for n in range(molecules.shape[0]):
        o, h, g = molecules[n, 0], molecules[n, 1], molecules[n, 2]
        wo, wh, wg = 1.0 / masses[o], 1.0 / masses[h], 1.0 / masses[g]
        a, b, c = _minus(r, h, o), _minus(r, g, h), _minus(r, o, g)
        # three equations for the pulls along the sides, by Cramer's rule: the matrix is symmetric
        aa, bb, cc = (wo + wh) * _dot(a, a), (wh + wg) * _dot(b, b), (wg + wo) * _dot(c, c)
        ab, bc, ca = -wh * _dot(a, b), -wg * _dot(b, c), -wo * _dot(c, a)
        ra = -_dot(_minus(v, h, o), a)
        rb = -_dot(_minus(v, g, h), b)
        rc = -_dot(_minus(v, o, g), c)
        m11, m12, m13 = bb * cc - bc * bc, bc * ca - ab * cc, ab * bc - bb * ca
        m22, m23, m33 = aa * cc - ca * ca, ab * ca - aa * bc, aa * bb - ab * ab
        size = aa * m11 + ab * m12 + ca * m13
        if not abs(size) > 0.0:
            return n
        ta = (m11 * ra + m12 * rb + m13 * rc) / size
        tb = (m12 * ra + m22 * rb + m23 * rc) / size
        tc = (m13 * ra + m23 * rb + m33 * rc) / size
        if not (math.isfinite(ta) and math.isfinite(tb) and math.isfinite(tc)):
            return n
        for x in range(3):
            v[o, x] += wo * (tc * c[x] - ta * a[x])
            v[h, x] += wh * (ta * a[x] - tb * b[x])
            v[g, x] += wg * (tb * b[x] - tc * c[x])
    return -1


def positions(
    positions: Tensor, reference: Tensor, masses: Tensor, molecules: Tensor, shapes: Tensor
) -> tuple[Tensor, int]:
    """See `settle.settle_positions`."""
    out = positions.clone()
    failed = _positions(
        out.numpy(),
        reference.contiguous().numpy(),
        masses.numpy(),
        molecules.contiguous().numpy(),
        shapes.contiguous().numpy(),
    )
    return out, int(failed)


def velocities(
    velocities: Tensor, positions: Tensor, masses: Tensor, molecules: Tensor
) -> tuple[Tensor, int]:
    """See `settle.settle_velocities`."""
    out = velocities.clone()
    failed = _velocities(
        out.numpy(), positions.contiguous().numpy(), masses.numpy(), molecules.contiguous().numpy()
    )
    return out, int(failed)
