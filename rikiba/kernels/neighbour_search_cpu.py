"""Compiled search for neighbours by linked cells, in canonical order without sorting."""

import math

import numpy as np

from .compiled import compiled, inlined


@inlined
def _inverse(box, out):  # type: ignore[no-untyped-def]
    """The inverse of a 3×3 matrix, by cofactors."""
    for k in range(3):
        a, b = (k + 1) % 3, (k + 2) % 3
        for m in range(3):
            c, d = (m + 1) % 3, (m + 2) % 3
            out[m, k] = box[a, c] * box[b, d] - box[a, d] * box[b, c]
    determinant = box[0, 0] * out[0, 0] + box[0, 1] * out[1, 0] + box[0, 2] * out[2, 0]
    for k in range(3):
        for m in range(3):
            out[k, m] /= determinant


@compiled
def _in_bins(points, box, pbc, radius, share, turns, place):  # type: ignore[no-untyped-def]
    """(bins along each axis, how many of them apart two atoms of a pair may be).

    Fills `share` [atoms, 3] with fractional coordinates, along periodic axes in [0, 1] after `turns` whole
    ones were taken off, and `place` with the bin along each axis.
    """
    n = len(points)
    inverse = np.empty((3, 3))
    _inverse(box, inverse)
    bins, reach = np.ones(3, np.int64), np.empty(3, np.int64)
    low, extent, height = np.zeros(3), np.ones(3), np.empty(3)
    for k in range(3):
        least, largest = math.inf, -math.inf
        for a in range(n):
            x = points[a, 0] * inverse[0, k] + points[a, 1] * inverse[1, k] + points[a, 2] * inverse[2, k]
            whole = math.floor(x) if pbc[k] else 0.0
            turns[a, k] = int(whole)
            share[a, k] = x - whole
            least, largest = min(least, share[a, k]), max(largest, share[a, k])
        if not pbc[k]:
            low[k], extent[k] = least, max(largest - least, 1e-12)
        square = inverse[0, k] ** 2 + inverse[1, k] ** 2 + inverse[2, k] ** 2
        height[k] = extent[k] / math.sqrt(square)
        bins[k] = max(1, int(min(height[k] / radius, 1024.0)))
    while bins[0] * bins[1] * bins[2] > max(8, 2 * n):
        most = np.argmax(bins)
        bins[most] = (bins[most] + 1) // 2
    for k in range(3):
        most_apart = radius * bins[k] / height[k] + 1e-9
        if pbc[k]:
            reach[k] = math.ceil(most_apart)
        else:
            reach[k] = math.ceil(min(most_apart, bins[k] - 1.0))
        for a in range(n):
            x = (share[a, k] - low[k]) / extent[k] * bins[k]
            place[a, k] = max(0, min(bins[k] - 1, int(x)))
    return bins, reach


@compiled
def neighbours(points, box, pbc, radius):  # type: ignore[no-untyped-def]
    """(i, j, shift) of all pairs with |r_j + shift·box − r_i| < radius, ordered by (i, j, shift).

    Any number of images is found; box is [3, 3], its rows independent along non-periodic axes too. Pairs
    within rounding of the radius may be found or not. Found pairs are dealt to their neighbours' lists in
    the order of their centres: of a symmetric set that is the canonical order of the opposite pairs.
    """
    n = len(points)
    share, turns, place = np.empty((n, 3)), np.empty((n, 3), np.int64), np.empty((n, 3), np.int64)
    bins, reach = _in_bins(points, box, pbc, radius, share, turns, place)
    begin = np.zeros(bins[0] * bins[1] * bins[2] + 1, np.int64)
    for a in range(n):
        begin[(place[a, 0] * bins[1] + place[a, 1]) * bins[2] + place[a, 2] + 1] += 1
    begin = np.cumsum(begin)
    fill, member, inside = begin.copy(), np.empty(n, np.int64), np.empty((n, 3))
    at = np.empty(n, np.int64)
    for a in range(n):
        cell = (place[a, 0] * bins[1] + place[a, 1]) * bins[2] + place[a, 2]
        member[fill[cell]], at[a] = a, fill[cell]
        for k in range(3):
            x = share[a, 0] * box[0, k] + share[a, 1] * box[1, k] + share[a, 2] * box[2, k]
            inside[fill[cell], k] = x
        fill[cell] += 1
    found, count = np.empty((max(64, 40 * n), 5), np.int32), 0
    row = np.zeros(n + 1, np.int64)
    for a in range(n):
        ax, ay, az = inside[at[a], 0], inside[at[a], 1], inside[at[a], 2]
        # downwards, so that the opposite pairs' shifts go upwards
        for x in range(place[a, 0] + reach[0], place[a, 0] - reach[0] - 1, -1):
            u = x // bins[0]
            if u != 0 and not pbc[0]:
                continue
            for y in range(place[a, 1] + reach[1], place[a, 1] - reach[1] - 1, -1):
                v = y // bins[1]
                if v != 0 and not pbc[1]:
                    continue
                for z in range(place[a, 2] + reach[2], place[a, 2] - reach[2] - 1, -1):
                    w = z // bins[2]
                    if w != 0 and not pbc[2]:
                        continue
                    cell = ((x - u * bins[0]) * bins[1] + y - v * bins[1]) * bins[2] + z - w * bins[2]
                    dx = u * box[0, 0] + v * box[1, 0] + w * box[2, 0] - ax
                    dy = u * box[0, 1] + v * box[1, 1] + w * box[2, 1] - ay
                    dz = u * box[0, 2] + v * box[1, 2] + w * box[2, 2] - az
                    for m in range(begin[cell], begin[cell + 1]):
                        sx, sy, sz = inside[m, 0] + dx, inside[m, 1] + dy, inside[m, 2] + dz
                        if sx * sx + sy * sy + sz * sz >= radius * radius:
                            continue
                        b = member[m]
                        if b == a and u == 0 and v == 0 and w == 0:
                            continue
                        if count == len(found):
                            wider = np.empty((2 * count, 5), np.int32)
                            wider[:count] = found
                            found = wider
                        found[count, 0], found[count, 1] = a, b
                        found[count, 2], found[count, 3], found[count, 4] = u, v, w
                        row[b + 1] += 1
                        count += 1
    row = np.cumsum(row)
    i, j, shift = np.empty(count, np.int64), np.empty(count, np.int64), np.empty((count, 3), np.int64)
    for q in range(count):
        a, b = found[q, 0], found[q, 1]
        to = row[b]
        row[b] += 1
        i[to], j[to] = b, a
        for k in range(3):
            shift[to, k] = turns[b, k] - turns[a, k] - found[q, 2 + k]
    return i, j, shift
