"""SHAKE and RATTLE on the CPU: pair after pair, set after set."""

import math
from collections.abc import Callable

from torch import Tensor

from .compiled import compiled, inlined


@inlined
def _moved(projectors, inverse_mass, atom, x, y, z):  # type: ignore[no-untyped-def]
    """What a push moves an atom by."""
    if projectors.shape[0] > 0:
        p = projectors[atom]
        return (
            inverse_mass * (p[0, 0] * x + p[0, 1] * y + p[0, 2] * z),
            inverse_mass * (p[1, 0] * x + p[1, 1] * y + p[1, 2] * z),
            inverse_mass * (p[2, 0] * x + p[2, 1] * y + p[2, 2] * z),
        )
    return inverse_mass * x, inverse_mass * y, inverse_mass * z


@inlined
def _push(rows, i, j, strength, ax, ay, az, bx, by, bz):  # type: ignore[no-untyped-def]
    rows[i, 0] -= strength * ax
    rows[i, 1] -= strength * ay
    rows[i, 2] -= strength * az
    rows[j, 0] += strength * bx
    rows[j, 1] += strength * by
    rows[j, 2] += strength * bz


@compiled
def _positions(r, reference, inverse, projectors, pairs, lengths, starts, tolerance, most):  # type: ignore[no-untyped-def]
    for s in range(len(starts) - 1):
        bad = starts[s]
        for _ in range(most + 1):
            bad = -1
            for k in range(starts[s], starts[s + 1]):
                i, j = pairs[k, 0], pairs[k, 1]
                x, y, z = r[j, 0] - r[i, 0], r[j, 1] - r[i, 1], r[j, 2] - r[i, 2]
                square = lengths[k] * lengths[k]
                excess = x * x + y * y + z * z - square
                if abs(excess) <= 2.0 * tolerance * square:
                    continue
                bad = k
                u = reference[j, 0] - reference[i, 0]
                v = reference[j, 1] - reference[i, 1]
                w = reference[j, 2] - reference[i, 2]
                ax, ay, az = _moved(projectors, inverse[i], i, u, v, w)
                bx, by, bz = _moved(projectors, inverse[j], j, u, v, w)
                slope = 2.0 * (x * (ax + bx) + y * (ay + by) + z * (az + bz))
                # a pair that has turned by more than 89.9 degrees cannot be pulled back along where it was
                if not slope > 2e-3 * square * (inverse[i] + inverse[j]):
                    return k
                _push(r, i, j, -excess / slope, ax, ay, az, bx, by, bz)
            if bad < 0:
                break
        if bad >= 0:
            return bad
    return -1


@compiled
def _velocities(vel, r, inverse, projectors, pairs, lengths, starts, tolerance, most):  # type: ignore[no-untyped-def]
    for s in range(len(starts) - 1):
        fastest = 0.0
        for k in range(starts[s], starts[s + 1]):
            for side in range(2):
                a = pairs[k, side]
                speed = vel[a, 0] * vel[a, 0] + vel[a, 1] * vel[a, 1] + vel[a, 2] * vel[a, 2]
                if not speed <= fastest:
                    fastest = speed
        fastest = math.sqrt(fastest)
        bad = starts[s]
        for _ in range(most + 1):
            bad = -1
            for k in range(starts[s], starts[s + 1]):
                i, j = pairs[k, 0], pairs[k, 1]
                x, y, z = r[j, 0] - r[i, 0], r[j, 1] - r[i, 1], r[j, 2] - r[i, 2]
                rate = x * (vel[j, 0] - vel[i, 0]) + y * (vel[j, 1] - vel[i, 1]) + z * (vel[j, 2] - vel[i, 2])
                if abs(rate) <= tolerance * lengths[k] * fastest:
                    continue
                bad = k
                ax, ay, az = _moved(projectors, inverse[i], i, x, y, z)
                bx, by, bz = _moved(projectors, inverse[j], j, x, y, z)
                slope = x * (ax + bx) + y * (ay + by) + z * (az + bz)
                if not slope > 0.0:
                    return k
                _push(vel, i, j, -rate / slope, ax, ay, az, bx, by, bz)
            if bad < 0:
                break
        if bad >= 0:
            return bad
    return -1


def _corrected(loop: Callable[..., int], rows: Tensor, arrays: tuple[Tensor, ...], *numbers: float) -> tuple:  # type: ignore[type-arg]
    out = rows.clone()
    failed = loop(out.numpy(), *(a.contiguous().numpy() for a in arrays), *numbers)
    return out, int(failed)


def positions(
    positions: Tensor,
    reference: Tensor,
    inverse_masses: Tensor,
    projectors: Tensor,
    pairs: Tensor,
    lengths: Tensor,
    starts: Tensor,
    tolerance: float,
    max_iterations: int,
) -> tuple[Tensor, int]:
    """See `distance_constraints.distance_positions`."""
    arrays = (reference, inverse_masses, projectors, pairs, lengths, starts)
    return _corrected(_positions, positions, arrays, tolerance, max_iterations)


def velocities(
    velocities: Tensor,
    positions: Tensor,
    inverse_masses: Tensor,
    projectors: Tensor,
    pairs: Tensor,
    lengths: Tensor,
    starts: Tensor,
    tolerance: float,
    max_iterations: int,
) -> tuple[Tensor, int]:
    """See `distance_constraints.distance_velocities`."""
    arrays = (positions, inverse_masses, projectors, pairs, lengths, starts)
    return _corrected(_velocities, velocities, arrays, tolerance, max_iterations)
