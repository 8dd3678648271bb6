"""Compiled ends of a sweep over pairs: vectors from positions before, forces and virial behind."""

from .compiled import compiled


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
        forces[a, 0] += g
        forces[a, 1] += h
        forces[a, 2] += k
        forces[b, 0] -= g
        forces[b, 1] -= h
        forces[b, 2] -= k
        x, y, z = vectors[q, 0], vectors[q, 1], vectors[q, 2]
        v = virial[system_index[a]]
        v[0, 0] += g * x
        v[0, 1] += g * y
        v[0, 2] += g * z
        v[1, 0] += h * x
        v[1, 1] += h * y
        v[1, 2] += h * z
        v[2, 0] += k * x
        v[2, 1] += k * y
        v[2, 2] += k * z
