"""Which of many features to keep, from how they vary together over a set of atoms.

Imbalzano, Anelli, Giofré, Klees, Behler & Ceriotti, J. Chem. Phys. 148, 241730 (2018), doi:10.1063/1.5024611.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor


def cur_columns(gram: Float[Tensor, "features features"], n: int) -> Int[Tensor, "n"]:
    """The n columns of X that CUR keeps, in the order of choice, from XᵀX.

    The column with the largest entry in the leading right singular vector is taken, all others are made
    orthogonal to it, and so on (section II B). Raises ValueError where so many are not linearly independent.
    """
    rest = gram.to(torch.float64).clone()
    if not 0 < n <= len(rest):
        raise ValueError(f"1 to {len(rest)} features can be kept; asked for {n}.")
    weakest = 1e-12 * float(rest.diagonal().max())
    chosen: list[int] = []
    for _ in range(n):
        leading = torch.linalg.eigh(rest).eigenvectors[:, -1].square()
        if chosen:
            leading[torch.tensor(chosen)] = -1.0
        leading = torch.where(rest.diagonal() > weakest, leading, -1.0)
        best = int(leading.argmax())
        if float(leading[best]) < 0.0:
            raise ValueError(
                f"Only {len(chosen)} of the features differ from each other here; asked for {n}."
            )
        chosen.append(best)
        column = rest[:, best].clone()
        rest = rest - column[:, None] * column[None, :] / column[best]
    return torch.tensor(chosen)


def uncorrelated_columns(
    gram: Float[Tensor, "features features"], largest: float = 0.99
) -> Int[Tensor, "kept"]:
    """The first column and each later one whose correlation with those kept is below `largest`, in order.

    `gram` is XᵀX of centred columns. A column that never varies is left out.
    """
    if not 0.0 < largest <= 1.0:
        raise ValueError(f"largest must lie in (0, 1]; given {largest}.")
    deviation = gram.diagonal().sqrt()
    varying = deviation > 1e-9 * float(deviation.max())
    safe = torch.where(varying, deviation, torch.ones_like(deviation))
    correlation = (gram / safe[:, None] / safe[None, :]).abs()
    kept: list[int] = []
    for k in torch.nonzero(varying).flatten().tolist():
        if not kept or float(correlation[k, torch.tensor(kept)].max()) < largest:
            kept.append(k)
    return torch.tensor(kept, dtype=torch.int64)
