"""Distances between atoms held at given values: positions and velocities put back onto the constraints."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from .dispatch import operation

Corrected = tuple[Float[Tensor, "atoms 3"], int]
"""What was corrected, and the number of a pair that did not converge (−1: all of them did)."""


def _padded(
    pairs: Int[Tensor, "pairs 2"], starts: Int[Tensor, "sets_1"]
) -> tuple[Int[Tensor, "sets most"], Tensor]:
    """Numbers of the pairs of every connected set, and where they are real; the others repeat a pair."""
    sizes = starts[1:] - starts[:-1]
    place = torch.arange(int(sizes.max()), device=pairs.device)[None]
    real = place < sizes[:, None]
    return starts[:-1, None] + torch.where(real, place, 0), real


def _coupling(
    pairs: Int[Tensor, "pairs 2"],
    numbers: Int[Tensor, "sets most"],
    real: Tensor,
    mobility: Float[Tensor, "atoms 3 3"],
    left: Float[Tensor, "sets most 3"],
    right: Float[Tensor, "sets most 3"],
) -> Float[Tensor, "sets most most"]:
    """A_kl = left_k · (what pair k moves by when pair l is pushed along right_l); identity where not real."""
    i, j = pairs[numbers].unbind(-1)
    zero = mobility.new_zeros(())
    moves = mobility.new_zeros((*numbers.shape, numbers.shape[1], 3, 3))
    for mine, sign in ((j, 1.0), (i, -1.0)):
        for theirs, turn in ((j, 1.0), (i, -1.0)):
            same = (mine[:, :, None] == theirs[:, None, :])[..., None, None]
            moves = moves + torch.where(same, sign * turn * mobility[mine][:, :, None], zero)
    matrix = torch.einsum("ska,sklab,slb->skl", left, moves, right)
    both = real[:, :, None] & real[:, None, :]
    return torch.where(both, matrix, torch.eye(matrix.shape[1], dtype=matrix.dtype, device=matrix.device))


def _push(
    rows: Float[Tensor, "atoms 3"],
    pairs: Int[Tensor, "pairs 2"],
    numbers: Int[Tensor, "sets most"],
    real: Tensor,
    mobility: Float[Tensor, "atoms 3 3"],
    along: Float[Tensor, "sets most 3"],
    strength: Float[Tensor, "sets most"],
) -> Float[Tensor, "atoms 3"]:
    """Each pair's atoms moved apart (both by their mobility) by strength × along."""
    chosen, push = pairs[numbers[real]], (strength[..., None] * along)[real]
    out = rows.clone()
    for side, sign in ((0, -1.0), (1, 1.0)):
        out = out.index_add(
            0, chosen[:, side], sign * torch.einsum("kab,kb->ka", mobility[chosen[:, side]], push)
        )
    return out


def _mobility(
    inverse_masses: Float[Tensor, "atoms"], projectors: Float[Tensor, "allowed 3 3"]
) -> Float[Tensor, "atoms 3 3"]:
    if len(projectors):
        return inverse_masses[:, None, None] * projectors
    eye = torch.eye(3, dtype=inverse_masses.dtype, device=inverse_masses.device)
    return inverse_masses[:, None, None] * eye


@operation
def distance_positions(
    positions: Float[Tensor, "atoms 3"],
    reference: Float[Tensor, "atoms 3"],
    inverse_masses: Float[Tensor, "atoms"],
    projectors: Float[Tensor, "allowed 3 3"],
    pairs: Int[Tensor, "pairs 2"],
    lengths: Float[Tensor, "pairs"],
    starts: Int[Tensor, "sets_1"],
    tolerance: float,
    max_iterations: int,
) -> Corrected:
    """Positions r + Σ λ_k M⁻¹ ∇σ_k(reference) for which |r_ij| = d_ij (SHAKE).

    Pairs stand in connected sets: set s has the pairs starts[s] … starts[s+1] − 1, and no atom is in two of
    them. `projectors` are the directions in which each atom may move (M⁻¹ = P/m), or of length 0 where none
    is restricted. Converged where |r² − d²| ≤ 2 · tolerance · d² for every pair of a set. Ryckaert, Ciccotti
    & Berendsen, doi:10.1016/0021-9991(77)90098-5.
    """
    # by Newton's method on all pairs of a set, where the compiled loop goes pair by pair
    mobility = _mobility(inverse_masses, projectors)
    numbers, real = _padded(pairs, starts)
    i, j = pairs[numbers].unbind(-1)
    along, wanted = reference[j] - reference[i], lengths[numbers]
    now, off = positions, real
    for _ in range(max_iterations + 1):
        between = now[j] - now[i]
        excess = 0.5 * ((between * between).sum(-1) - wanted * wanted)
        off = real & ~(excess.abs() <= tolerance * wanted * wanted)
        open_sets = off.any(1, keepdim=True)
        if not bool(open_sets.any()):
            return now, -1
        matrix = _coupling(pairs, numbers, real, mobility, between, along)
        solved, info = torch.linalg.solve_ex(matrix, torch.where(real, -excess, 0.0))
        if bool((info != 0).any()):
            break
        now = _push(
            now, pairs, numbers, real & open_sets, mobility, along, torch.where(open_sets, solved, 0.0)
        )
    return now, int(numbers[off][0])


@operation
def distance_velocities(
    velocities: Float[Tensor, "atoms 3"],
    positions: Float[Tensor, "atoms 3"],
    inverse_masses: Float[Tensor, "atoms"],
    projectors: Float[Tensor, "allowed 3 3"],
    pairs: Int[Tensor, "pairs 2"],
    lengths: Float[Tensor, "pairs"],
    starts: Int[Tensor, "sets_1"],
    tolerance: float,
    max_iterations: int,
) -> Corrected:
    """Velocities v + Σ μ_k M⁻¹ ∇σ_k for which r_ij · v_ij = 0 (the second half of RATTLE).

    Arguments as for `distance_positions`. Converged where |r_ij · v_ij| ≤ tolerance · d · u for every pair of
    a set, u the largest speed in it. Andersen, doi:10.1016/0021-9991(83)90014-1.
    """
    # one linear system for each set, where the compiled loop goes pair by pair
    mobility = _mobility(inverse_masses, projectors)
    numbers, real = _padded(pairs, starts)
    i, j = pairs[numbers].unbind(-1)
    along = positions[j] - positions[i]
    matrix = _coupling(pairs, numbers, real, mobility, along, along)
    now = velocities
    for _ in range(2):  # the second solves for what rounding left of the first
        rate = torch.where(real, ((now[j] - now[i]) * along).sum(-1), 0.0)
        solved, info = torch.linalg.solve_ex(matrix, -rate)
        failed = (info != 0) | ~solved.isfinite().all(1)
        if bool(failed.any()):
            return now, int(numbers[failed][0, 0])
        now = _push(now, pairs, numbers, real, mobility, along, solved)
    return now, -1
