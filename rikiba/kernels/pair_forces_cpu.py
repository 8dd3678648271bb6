"""Compiled sum of pair gradients into forces."""

from .compiled import compiled


@compiled
def add_pair_forces(i, j, gradient, forces):  # type: ignore[no-untyped-def]
    """F_i += g_ij, F_j −= g_ij pair by pair in the given order; g_ij = ∂E/∂r_ij with r_ij = r_j − r_i."""
    for q in range(len(i)):
        a, b = i[q], j[q]
        for k in range(3):
            forces[a, k] += gradient[q, k]
            forces[b, k] -= gradient[q, k]
