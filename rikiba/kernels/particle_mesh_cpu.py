"""Particles to a mesh and back on the CPU; `particle_mesh` says what is computed."""

import math

import numpy as np
import torch
from torch import Tensor

from . import particle_mesh
from .compiled import compiled, inlined
from .lanes import LANES, aligned, load, multiply, multiply_add, splat, splat_as, store, total

"""Rows of a mesh are followed by LANES points that continue it periodically, so that the points of a spline
lie side by side; mesh axes hold at least a spline's points."""


@inlined
def _splines(f, order, levels, w):  # type: ignore[no-untyped-def]
    """w[d, m] = M_p^(d)(f + p − 1 − m) for d < levels ≤ 3; zeros behind."""
    w[:] = 0.0
    # ascending recursion in place: w[0, j] = M_n(f + j)
    w[0, 0] = 1.0
    for n in range(2, order + 1):
        back = order - n  # the spline of order p − d gives the d-th derivative
        if 0 < back + 1 < levels:
            d = back + 1
            for j in range(order):
                value, sign = 0.0, 1.0
                for s in range(d + 1):
                    if 0 <= j - s < n - 1:
                        value += sign * (2.0 if d == 2 and s == 1 else 1.0) * w[0, j - s]
                    sign = -sign
                w[d, j] = value
        scale = 1.0 / (n - 1)
        for j in range(n - 1, 0, -1):
            w[0, j] = ((f + j) * w[0, j] + (n - j - f) * w[0, j - 1]) * scale
        w[0, 0] *= f * scale
    for d in range(levels):
        for j in range(order // 2):
            w[d, j], w[d, order - 1 - j] = w[d, order - 1 - j], w[d, j]


@inlined
def _place(u, n, order):  # type: ignore[no-untyped-def]
    """(first mesh point of the spline, fraction within the cell)."""
    base = math.floor(u)
    return (int(base) - order + 1) % n, u - base


@compiled
def fold(padded, mesh):  # type: ignore[no-untyped-def]
    """The mesh of which `padded` has LANES points beyond the end of each row."""
    n0, n1, n2 = mesh.shape
    for x in range(n0):
        for y in range(n1):
            for z in range(n2):
                mesh[x, y, z] = padded[x, y, z]
            for z in range(LANES):
                mesh[x, y, z % n2] += padded[x, y, n2 + z]


@compiled
def unfold(mesh, padded):  # type: ignore[no-untyped-def]
    """Repeat the beginning of each row behind its end."""
    n0, n1, n2 = mesh.shape
    for x in range(n0):
        for y in range(n1):
            for z in range(n2):
                padded[x, y, z] = mesh[x, y, z]
            for z in range(LANES):
                padded[x, y, n2 + z] = mesh[x, y, z % n2]


@compiled
def spread_values(u, values, order, padded):  # type: ignore[no-untyped-def]
    """Add values [atoms] to a padded mesh."""
    n0, n1, n2 = padded.shape[0], padded.shape[1], padded.shape[2] - LANES
    flat = padded.reshape(-1)
    wx, wy, wz = np.empty((1, LANES)), np.empty((1, LANES)), np.empty((1, LANES))
    row = aligned(LANES, flat)
    for a in range(len(u)):
        x0, f = _place(u[a, 0], n0, order)
        _splines(f, order, 1, wx)
        y0, f = _place(u[a, 1], n1, order)
        _splines(f, order, 1, wy)
        z0, f = _place(u[a, 2], n2, order)
        _splines(f, order, 1, wz)
        for m in range(LANES):
            row[m] = wz[0, m]
        z = load(row, 0)
        for i in range(order):
            x = x0 + i if x0 + i < n0 else x0 + i - n0
            s = values[a] * wx[0, i]
            for j in range(order):
                y = y0 + j if y0 + j < n1 else y0 + j - n1
                at = (x * n1 + y) * (n2 + LANES) + z0
                store(flat, at, multiply_add(splat(s * wy[0, j]), z, load(flat, at)))


@compiled
def gather_slopes(u, padded, order, values, slopes):  # type: ignore[no-untyped-def]
    """values[a] and slopes[a] = ∂/∂u of a padded mesh at u."""
    n0, n1, n2 = padded.shape[0], padded.shape[1], padded.shape[2] - LANES
    flat = padded.reshape(-1)
    wx, wy, wz = np.empty((2, LANES)), np.empty((2, LANES)), np.empty((2, LANES))
    row = aligned(2 * LANES, flat)
    for a in range(len(u)):
        x0, f = _place(u[a, 0], n0, order)
        _splines(f, order, 2, wx)
        y0, f = _place(u[a, 1], n1, order)
        _splines(f, order, 2, wy)
        z0, f = _place(u[a, 2], n2, order)
        _splines(f, order, 2, wz)
        for m in range(LANES):
            row[m], row[LANES + m] = wz[0, m], wz[1, m]
        z = load(row, 0)
        plain = splat_as(z, 0.0)
        by_x, by_y = splat_as(z, 0.0), splat_as(z, 0.0)
        for i in range(order):
            x = x0 + i if x0 + i < n0 else x0 + i - n0
            for j in range(order):
                y = y0 + j if y0 + j < n1 else y0 + j - n1
                near = load(flat, (x * n1 + y) * (n2 + LANES) + z0)
                plain = multiply_add(splat(wx[0, i] * wy[0, j]), near, plain)
                by_x = multiply_add(splat(wx[1, i] * wy[0, j]), near, by_x)
                by_y = multiply_add(splat(wx[0, i] * wy[1, j]), near, by_y)
        values[a] = total(multiply(plain, z))
        slopes[a, 0] = total(multiply(by_x, z))
        slopes[a, 1] = total(multiply(by_y, z))
        slopes[a, 2] = total(multiply(plain, load(row, LANES)))


@compiled
def gather_level(level, u, padded, order, out):  # type: ignore[no-untyped-def]
    """out [atoms, 3^level] for level 0, 1, 2."""
    n0, n1, n2 = padded.shape[0], padded.shape[1], padded.shape[2] - LANES
    w = np.empty((3, 3, LANES))
    along = np.empty(3)
    sums = np.empty((3, 3, 3))  # by the order of the derivative along each axis
    for a in range(len(u)):
        x0, f = _place(u[a, 0], n0, order)
        _splines(f, order, level + 1, w[0])
        y0, f = _place(u[a, 1], n1, order)
        _splines(f, order, level + 1, w[1])
        z0, f = _place(u[a, 2], n2, order)
        _splines(f, order, level + 1, w[2])
        sums[:] = 0.0
        for i in range(order):
            x = (x0 + i) % n0
            for j in range(order):
                y = (y0 + j) % n1
                for d in range(level + 1):
                    along[d] = 0.0
                for k in range(order):
                    for d in range(level + 1):
                        along[d] += w[2, d, k] * padded[x, y, z0 + k]
                for d in range(level + 1):
                    for e in range(level + 1 - d):
                        sums[d, e, level - d - e] += w[0, d, i] * w[1, e, j] * along[level - d - e]
        for c in range(out.shape[1]):
            first, second = c % 3, c // 3
            d0 = int(level > 0 and first == 0) + int(level > 1 and second == 0)
            d1 = int(level > 0 and first == 1) + int(level > 1 and second == 1)
            out[a, c] = sums[d0, d1, level - d0 - d1]


@compiled
def spread_level(level, u, values, order, padded):  # type: ignore[no-untyped-def]
    """The adjoint of `gather_level`, added to a padded mesh."""
    n0, n1, n2 = padded.shape[0], padded.shape[1], padded.shape[2] - LANES
    w = np.empty((3, 3, LANES))
    along = np.empty(3)
    sums = np.empty((3, 3, 3))
    for a in range(len(u)):
        x0, f = _place(u[a, 0], n0, order)
        _splines(f, order, level + 1, w[0])
        y0, f = _place(u[a, 1], n1, order)
        _splines(f, order, level + 1, w[1])
        z0, f = _place(u[a, 2], n2, order)
        _splines(f, order, level + 1, w[2])
        sums[:] = 0.0
        for c in range(values.shape[1]):
            first, second = c % 3, c // 3
            d0 = int(level > 0 and first == 0) + int(level > 1 and second == 0)
            d1 = int(level > 0 and first == 1) + int(level > 1 and second == 1)
            sums[d0, d1, level - d0 - d1] += values[a, c]
        for i in range(order):
            x = (x0 + i) % n0
            for j in range(order):
                y = (y0 + j) % n1
                for d in range(level + 1):
                    along[d] = 0.0
                for d in range(level + 1):
                    for e in range(level + 1 - d):
                        along[level - d - e] += sums[d, e, level - d - e] * w[0, d, i] * w[1, e, j]
                for k in range(order):
                    share = 0.0
                    for d in range(level + 1):
                        share += along[d] * w[2, d, k]
                    padded[x, y, z0 + k] += share


def gather(level: int, order: int, u: Tensor, mesh: Tensor) -> Tensor:
    """Compiled for levels 0, 1 and 2 of float64; the definition for others."""
    if level > 2 or u.dtype != torch.float64 or mesh.dtype != torch.float64:
        return particle_mesh.evaluate_gather(level, order, u, mesh)
    source = mesh.detach().contiguous().numpy()
    padded = np.empty((*source.shape[:2], source.shape[2] + LANES))
    unfold(source, padded)
    out = np.empty((len(u), 3**level))
    gather_level(level, u.detach().contiguous().numpy(), padded, order, out)
    return torch.from_numpy(out)


def spread(level: int, order: int, shape: tuple[int, int, int], u: Tensor, values: Tensor) -> Tensor:
    """Compiled for levels 0, 1 and 2 of float64; the definition for others."""
    if level > 2 or u.dtype != torch.float64 or values.dtype != torch.float64:
        return particle_mesh.evaluate_spread(level, order, shape, u, values)
    padded, mesh = np.zeros((*shape[:2], shape[2] + LANES)), np.empty(shape)
    points, given = u.detach().contiguous().numpy(), values.detach().contiguous().numpy()
    if level == 0:
        spread_values(points, given[:, 0], order, padded)
    else:
        spread_level(level, points, given, order, padded)
    fold(padded, mesh)
    return torch.from_numpy(mesh)
