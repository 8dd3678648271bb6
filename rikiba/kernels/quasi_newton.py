"""The product of a limited-memory inverse Hessian with a gradient."""

from jaxtyping import Float, Int
from torch import Tensor

from .dispatch import operation


@operation
def inverse_hessian_product(
    gradient: Float[Tensor, "rows 3"],
    steps: Float[Tensor, "memory rows 3"],
    changes: Float[Tensor, "memory rows 3"],
    weights: Float[Tensor, "memory systems"],
    newest: int,
    count: int,
    inverse: Float[Tensor, "systems"],
    row_system: Int[Tensor, "rows"],
) -> Float[Tensor, "rows 3"]:
    """H g of each system, H made of the last `count` pairs (s, y) by the two-loop recursion.

    Nocedal & Wright, Numerical Optimization, algorithm 7.4 (Liu & Nocedal, doi:10.1007/BF01589116). The pairs
    lie in a ring of `memory` slots that ends at `newest`. `weights` are 1/s·y, of which 0 leaves a pair out
    of a system; `inverse` is the diagonal that the recursion starts from. Rows of a system may lie anywhere.
    """
    n, memory = len(inverse), len(steps)

    def dot(a: Tensor, b: Tensor) -> Tensor:
        return a.new_zeros(n).index_add(0, row_system, (a * b).sum(-1))

    slots = [(newest - k) % memory for k in range(count)]
    q, alphas = gradient, []
    for k in slots:
        alpha = weights[k] * dot(steps[k], q)
        q = q - alpha[row_system][:, None] * changes[k]
        alphas.append(alpha)
    q = inverse[row_system][:, None] * q
    for k, alpha in zip(reversed(slots), reversed(alphas), strict=True):
        beta = weights[k] * dot(changes[k], q)
        q = q + (alpha - beta)[row_system][:, None] * steps[k]
    return q
