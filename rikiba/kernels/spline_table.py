"""Functions of distance as cardinal quintic splines: four continuous derivatives, one coefficient per knot.

On knots r_k = start + k·spacing, f(r) = Σ_{m=0…5} c_{k+m} b_m(t) for r in interval k, t = (r − r_k)/spacing,
with b_m the six pieces of the uniform B-spline of degree 5. The six rows of coefficients of a distance are
neighbours in memory, and the six weights are shared by all columns.
"""

from functools import lru_cache

import torch
from jaxtyping import Float, Int
from torch import Tensor

TAPS = 6

_PIECES = (
    (1.0, -5.0, 10.0, -10.0, 5.0, -1.0),
    (26.0, -50.0, 20.0, 20.0, -20.0, 5.0),
    (66.0, 0.0, -60.0, 0.0, 30.0, -10.0),
    (26.0, 50.0, 20.0, -20.0, -20.0, 10.0),
    (1.0, 5.0, 10.0, 10.0, 5.0, -5.0),
    (0.0, 0.0, 0.0, 0.0, 0.0, 1.0),
)
"""120·b_m as polynomials in t, constant first."""


def spline_weights(t: Float[Tensor, "n"], order: int = 0) -> Float[Tensor, "n 6"]:
    """The `order`-th derivative of b_0 … b_5 with respect to t."""
    pieces = _pieces(order, t.dtype, t.device)
    powers = [torch.ones_like(t)]
    for _ in range(1, pieces.shape[0]):
        powers.append(powers[-1] * t)
    return torch.stack(powers, 1) @ pieces


@lru_cache(maxsize=32)
def _pieces(order: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """The `order`-th derivative of the pieces, [powers of t, 6]."""
    if order >= TAPS:
        return torch.zeros(1, TAPS, dtype=dtype, device=device)
    pieces = torch.tensor(_PIECES, dtype=torch.float64) / 120.0
    for _ in range(order):
        pieces = pieces[:, 1:] * torch.arange(1.0, pieces.shape[1], dtype=torch.float64)
    return pieces.T.contiguous().to(dtype=dtype, device=device)


def spline_coefficients(
    values: Float[Tensor, "knots columns"],
    first: Float[Tensor, "2 columns"],
    second: Float[Tensor, "2 columns"],
    spacing: float,
) -> Float[Tensor, "knots_plus_4 columns"]:
    """Coefficients of the spline through `values` with the given f′ and f″ at its two ends.

    float64 on the CPU. Raises ValueError for fewer than six knots.
    """
    n = values.shape[0]
    if n < TAPS:
        raise ValueError(f"A quintic spline needs at least {TAPS} knots; given {n}.")
    at_knot = [spline_weights(values.new_zeros(1), order)[0, :5] / spacing**order for order in range(3)]
    from scipy.linalg import solve_banded

    # row k + 2 reads columns k … k + 4; the conditions at the ends come first and last
    rows = [(0, 2, 0), (1, 1, 0), *((k + 2, 0, k) for k in range(n)), (n + 2, 1, n - 1), (n + 3, 2, n - 1)]
    right = torch.cat([second[:1], first[:1], values, first[1:], second[1:]]).clone()
    bands = values.new_zeros((9, n + 4))
    for row, order, column in rows:
        scale = float(at_knot[order].abs().max())
        right[row] /= scale
        for m in range(5):
            bands[4 + row - (column + m), column + m] = at_knot[order][m] / scale
    return torch.from_numpy(solve_banded((4, 4), bands.numpy(), right.numpy()))


def spline_table(
    coefficients: Float[Tensor, "kinds rows columns"],
    start: float,
    spacing: float,
    r: Float[Tensor, "pairs"],
    kind: Int[Tensor, "pairs"],
    order: int = 0,
) -> Float[Tensor, "pairs columns"]:
    """The `order`-th derivative at distances r; plain torch. Raises ValueError for r outside the knots."""
    intervals = coefficients.shape[1] - 5
    stop = start + spacing * intervals
    if r.numel() and not (float(r.min()) >= start and float(r.max()) <= stop):
        raise ValueError(
            f"The table covers {start} to {stop} Å; asked were {float(r.min())} to {float(r.max())}."
        )
    x = (r - start) / spacing
    interval = x.floor().clamp(max=intervals - 1)
    weights = spline_weights(x - interval, order) / spacing**order
    rows = interval.long()[:, None] + torch.arange(TAPS, device=r.device)
    return torch.einsum("pk,pkc->pc", weights, coefficients[kind[:, None], rows])
