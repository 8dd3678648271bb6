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
def _wrapped(bins, reach, pbc):  # type: ignore[no-untyped-def]
    """(bin in the cell, image) of places −reach … bins + reach − 1 along each axis; a bin of −1 is none."""
    longest = 0
    for k in range(3):
        longest = max(longest, bins[k] + 2 * reach[k])
    bin_of, image_of = np.empty((3, longest), np.int64), np.empty((3, longest), np.int64)
    for k in range(3):
        for x in range(-reach[k], bins[k] + reach[k]):
            image = x // bins[k]
            image_of[k, x + reach[k]] = image
            bin_of[k, x + reach[k]] = x - image * bins[k] if image == 0 or pbc[k] else -1
    return bin_of, image_of


@compiled
def _images(bins, reach):  # type: ignore[no-untyped-def]
    """(first image along each axis, how many there are, all of them in the order of their numbers)."""
    low, n = np.empty(3, np.int64), np.empty(3, np.int64)
    for k in range(3):
        low[k] = -((reach[k] + bins[k] - 1) // bins[k])
        n[k] = 1 - 2 * low[k]
    table = np.empty((n[0] * n[1] * n[2], 3), np.int64)
    for x in range(n[0]):
        for y in range(n[1]):
            for z in range(n[2]):
                row = (x * n[1] + y) * n[2] + z
                table[row, 0], table[row, 1], table[row, 2] = low[0] + x, low[1] + y, low[2] + z
    return low, n, table


@compiled
def _sorted_in(box, share, place, bins):  # type: ignore[no-untyped-def]
    """(first member of each bin, members bin by bin, where they are inside the cell, place of each atom)."""
    n = len(share)
    begin = np.zeros(bins[0] * bins[1] * bins[2] + 1, np.int64)
    for a in range(n):
        begin[(place[a, 0] * bins[1] + place[a, 1]) * bins[2] + place[a, 2] + 1] += 1
    begin = np.cumsum(begin)
    fill, member, inside = begin.copy(), np.empty(n, np.int32), np.empty((n, 3))
    at = np.empty(n, np.int64)
    for a in range(n):
        cell = (place[a, 0] * bins[1] + place[a, 1]) * bins[2] + place[a, 2]
        member[fill[cell]], at[a] = a, fill[cell]
        for k in range(3):
            x = share[a, 0] * box[0, k] + share[a, 1] * box[1, k] + share[a, 2] * box[2, k]
            inside[fill[cell], k] = x
        fill[cell] += 1
    return begin, member, inside, at


@compiled
def neighbours(points, box, pbc, radius):  # type: ignore[no-untyped-def]
    """(i, j, shift) of all pairs with |r_j + shift·box − r_i| < radius, ordered by (i, j, shift).

    Any number of images is found; box is [3, 3], its rows independent along non-periodic axes too. Pairs
    within rounding of the radius may be found or not. Found pairs are dealt to their neighbours' lists in
    the order of their centres: of a symmetric set that is the canonical order of the opposite pairs. What is
    dealt is eight bytes, so that the lists being written stay in cache, and is then unfolded in order.
    """
    n = len(points)
    share, turns, place = np.empty((n, 3)), np.empty((n, 3), np.int64), np.empty((n, 3), np.int64)
    bins, reach = _in_bins(points, box, pbc, radius, share, turns, place)
    begin, member, inside, at = _sorted_in(box, share, place, bins)
    bin_of, image_of = _wrapped(bins, reach, pbc)
    low, images, table = _images(bins, reach)
    most = 0
    for cell in range(len(begin) - 1):
        most = max(most, begin[cell + 1] - begin[cell])
    most *= (2 * reach[0] + 1) * (2 * reach[1] + 1) * (2 * reach[2] + 1)
    found, count = np.empty((max(64, 40 * n) + most, 2), np.int32), 0
    last, square = np.empty(n, np.int64), radius * radius
    for a in range(n):
        if count + most > len(found):
            wider = np.empty((2 * len(found), 2), np.int32)
            wider[:count] = found[:count]
            found = wider
        own = at[a]
        ax, ay, az = inside[own, 0], inside[own, 1], inside[own, 2]
        # downwards, so that the opposite pairs' shifts go upwards
        for x in range(place[a, 0] + 2 * reach[0], place[a, 0] - 1, -1):
            u = image_of[0, x]
            if bin_of[0, x] < 0:
                continue
            for y in range(place[a, 1] + 2 * reach[1], place[a, 1] - 1, -1):
                v = image_of[1, y]
                if bin_of[1, y] < 0:
                    continue
                plane = (bin_of[0, x] * bins[1] + bin_of[1, y]) * bins[2]
                for z in range(place[a, 2] + 2 * reach[2], place[a, 2] - 1, -1):
                    if bin_of[2, z] < 0:
                        continue
                    w, cell = image_of[2, z], plane + bin_of[2, z]
                    dx = u * box[0, 0] + v * box[1, 0] + w * box[2, 0] - ax
                    dy = u * box[0, 1] + v * box[1, 1] + w * box[2, 1] - ay
                    dz = u * box[0, 2] + v * box[1, 2] + w * box[2, 2] - az
                    image = ((u - low[0]) * images[1] + v - low[1]) * images[2] + w - low[2]
                    itself = own if u == 0 and v == 0 and w == 0 else -1
                    for m in range(begin[cell], begin[cell + 1]):
                        sx, sy, sz = inside[m, 0] + dx, inside[m, 1] + dy, inside[m, 2] + dz
                        # written in any case and kept without a branch, which could not be foreseen
                        found[count, 0], found[count, 1] = member[m], image
                        far = sx * sx + sy * sy + sz * sz >= square
                        count += 0 if far or m == itself else 1
        last[a] = count
    return _unfolded(found[:count], last, turns, table)


@compiled
def _unfolded(found, last, turns, table):  # type: ignore[no-untyped-def]
    """The opposite pairs of those found as (i, j, shift).

    `found` lists (neighbour, image) centre by centre, up to `last` of each.
    """
    n, count = len(last), len(found)
    row = np.zeros(n + 1, np.int64)
    for q in range(count):
        row[found[q, 0] + 1] += 1
    row = np.cumsum(row)
    dealt, q = np.empty((count, 2), np.int32), 0
    for a in range(n):
        while q < last[a]:
            b = found[q, 0]
            to = row[b]
            row[b] += 1
            dealt[to, 0], dealt[to, 1] = a, found[q, 1]
            q += 1
    i, j, shift = np.empty(count, np.int64), np.empty(count, np.int64), np.empty((count, 3), np.int64)
    to = 0
    for b in range(n):
        # each list now ends where the next began
        while to < row[b]:
            a, image = dealt[to, 0], dealt[to, 1]
            i[to], j[to] = b, a
            for k in range(3):
                shift[to, k] = turns[b, k] - turns[a, k] - table[image, k]
            to += 1
    return i, j, shift
