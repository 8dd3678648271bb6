"""Products of rows with what is done to the sums before they are stored, against NumPy's."""

import itertools

import numpy as np
import pytest

from rikiba.kernels.dense_cpu import at_cache_line, panels
from rikiba.kernels.row_product_cpu import STEP, row_product, stepped

N_IN, PART, STRIDE = 21, 32, 96
N_OUT = 2 * PART


def product(
    x: np.ndarray, w: np.ndarray, bias: np.ndarray, factor: np.ndarray, before: np.ndarray, adding: bool
) -> np.ndarray:
    """Both parts of W at their own inputs, by the kernel."""
    both = at_cache_line(np.concatenate([panels(part) for part in w]))
    y, rows = at_cache_line(before), len(x)
    room = np.full((stepped(rows), x.shape[1]), np.nan, x.dtype)  # rows beyond are worked on, never read
    room[:rows] = x
    row_product(
        room.reshape(-1), 0, x.shape[1], rows, N_IN, both, 0, bias, 0, factor.reshape(-1), 0, y, 0, STRIDE,
        N_OUT, PART, adding,
    )  # fmt: skip
    return y.reshape(before.shape)


@pytest.mark.parametrize(("real", "tolerance"), [(np.float32, 3e-5), (np.float64, 1e-12)])
@pytest.mark.parametrize("rows", [1, 8, 13])
def test_parts_bias_factor_and_sums(real: type, tolerance: float, rows: int) -> None:
    rng = np.random.default_rng(rows)

    def numbers(*shape: int) -> np.ndarray:
        return rng.normal(size=shape).astype(real)

    x, w, b = numbers(rows, 2 * N_IN), numbers(2, N_IN, PART), numbers(N_OUT)
    f, before = numbers(stepped(rows) + 1, STRIDE), numbers(stepped(rows) + 1, STRIDE)
    plain = np.concatenate([x[:, :N_IN] @ w[0], x[:, N_IN:] @ w[1]], 1)
    for adding, bias, factor in itertools.product((False, True), (b, b[:0]), (f, f[:0])):
        found = product(x, w, bias, factor, before, adding)
        right = plain + (before[:rows, :N_OUT] if adding else 0.0) + (bias if len(bias) else 0.0)
        right = right * (factor[:rows, :N_OUT] if len(factor) else 1.0)
        assert np.abs(found[:rows, :N_OUT] - right).max() < tolerance
        # what lies beside the columns and beyond the last eight rows stays
        assert np.array_equal(found[:, N_OUT:], before[:, N_OUT:])
        assert np.array_equal(found[stepped(rows) :], before[stepped(rows) :])
    # negative control: the second part's last weight matters
    w[1, -1, -1] += 1.0
    assert np.abs(product(x, w, b[:0], f[:0], before, False)[:rows, :N_OUT] - plain).max() > 1e-3


def test_steps() -> None:
    assert [stepped(n) for n in (0, 1, STEP, STEP + 1)] == [0, STEP, STEP, 2 * STEP]
