"""Message passing with radial functions from a table: no array of pairs × channels is made.

    R[q, p, c] = Σ_m w[q, m] t[row(q) + m, p, c],    A as in `pair_convolution`

The weights w are functions of the distance, those of a spline, say; the table holds what a radial network
gives at the knots. A is linear in each of w, t, Y and h.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from .dispatch import choose
from .pair_convolution import ConvolutionPlan, pair_convolution


def tabulated_convolution(
    plan: ConvolutionPlan,
    i: Int[Tensor, "pairs"],
    j: Int[Tensor, "pairs"],
    row: Int[Tensor, "pairs"],
    weights: Float[Tensor, "pairs taps"],
    table: Float[Tensor, "rows couplings channels"],
    harmonics: Float[Tensor, "pairs lm"],
    features: Float[Tensor, "senders d channels"],
    n_centres: int,
) -> Float[Tensor, "centres rows_out channels"]:
    """A_i = Σ_j R_p,c(q) · C_p(Y(r̂_ij) ⊗ h_j,c) for every coupling p of the plan, R from the table.

    Differentiable in reverse mode to any order in weights, table, harmonics and features; forward mode raises
    NotImplementedError. Raises ValueError where a shape does not fit the plan.
    """
    n, channels = i.shape[0], features.shape[-1]
    expected = {
        "row": ((n,), row.shape),
        "weights": ((n, weights.shape[-1]), weights.shape),
        "table": ((table.shape[0], plan.n_couplings, channels), table.shape),
        "harmonics": ((n, plan.n_harmonics), harmonics.shape),
        "features": ((features.shape[0], plan.n_features, channels), features.shape),
    }
    for name, (wanted, given) in expected.items():
        if tuple(given) != wanted:
            raise ValueError(f"tabulated_convolution: {name} has shape {tuple(given)}; needed is {wanted}.")
    plan = plan if plan.blocks[0].matrix.dtype == table.dtype else plan.to(table)
    chosen = choose("tabulated_convolution", evaluate, features)
    return chosen(plan, i, j, row, weights, table, harmonics, features, n_centres)  # type: ignore[no-any-return]


def evaluate(
    plan: ConvolutionPlan,
    i: Tensor,
    j: Tensor,
    row: Tensor,
    weights: Tensor,
    table: Tensor,
    harmonics: Tensor,
    features: Tensor,
    n_centres: int,
) -> Tensor:
    """The plain-torch definition."""
    taps = torch.arange(weights.shape[1], device=row.device)
    radial = torch.einsum("qm,qmpc->qpc", weights, table[row[:, None] + taps])
    return pair_convolution(plan, i, j, radial, harmonics, features, n_centres)
