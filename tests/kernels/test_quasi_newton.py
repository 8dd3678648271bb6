"""The limited-memory inverse Hessian: definition, compiled version, and the matrix that it stands for."""

import pytest
import torch

from rikiba.kernels.quasi_newton import inverse_hessian_product

ROWS, MEMORY = 7, 4
OWNERS = torch.tensor([0, 0, 1, 1, 1, 0, 1])  # rows of a system need not be neighbours


def case(seed: int = 0) -> dict[str, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    draw = lambda *shape: torch.randn(*shape, generator=g, dtype=torch.float64)  # noqa: E731
    steps, changes = draw(MEMORY, ROWS, 3), draw(MEMORY, ROWS, 3)
    changes = changes + 3.0 * steps
    products = torch.zeros(MEMORY, 2).double().index_add(1, OWNERS, (steps * changes).sum(-1))
    return {
        "gradient": draw(ROWS, 3),
        "steps": steps,
        "changes": changes,
        "weights": 1.0 / products,
        "inverse": torch.tensor([0.3, 0.7]).double(),
        "row_system": OWNERS,
    }


@pytest.mark.parametrize(("newest", "count"), [(3, 0), (0, 1), (2, 3), (1, 4)])
def test_compiled_equals_the_definition(newest: int, count: int) -> None:
    given = case()
    given["weights"][2, 1] = 0.0
    before = {k: v.clone() for k, v in given.items()}
    found = inverse_hessian_product(**given, newest=newest, count=count)
    expected = inverse_hessian_product.definition(**given, newest=newest, count=count)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    assert all(torch.equal(before[k], v) for k, v in given.items())
    if count > 1:  # the order of the pairs matters
        other = inverse_hessian_product(**given, newest=(newest + 1) % MEMORY, count=count)
        assert (other - expected).abs().max() > 1e-3


def test_the_matrix_of_the_update() -> None:
    """H ← (1 − ρ s yᵀ) H (1 − ρ y sᵀ) + ρ s sᵀ (Nocedal & Wright, eq. 7.16), pair after pair, per system."""
    given, newest = case(1), 1
    found = inverse_hessian_product(**given, newest=newest, count=MEMORY)
    for k in range(2):
        mine = OWNERS == k
        n = 3 * int(mine.sum())
        one = torch.eye(n).double()
        h = float(given["inverse"][k]) * one
        for slot in [(newest + 1 + m) % MEMORY for m in range(MEMORY)]:  # oldest first
            s, y = given["steps"][slot, mine].flatten(), given["changes"][slot, mine].flatten()
            rho = float(given["weights"][slot, k])
            h = (one - rho * torch.outer(s, y)) @ h @ (one - rho * torch.outer(y, s)) + rho * torch.outer(
                s, s
            )
        expected = (h @ given["gradient"][mine].flatten()).reshape(-1, 3)
        torch.testing.assert_close(found[mine], expected, rtol=1e-10, atol=1e-10)
