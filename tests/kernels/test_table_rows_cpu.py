"""Compiled reading of spline tables against the plain definition."""

import numpy as np
import torch

from rikiba.kernels.pair_geometry_cpu import spline_rows
from rikiba.kernels.spline_table import spline_table
from rikiba.kernels.table_rows_cpu import Samples, read_table, read_table_reverse

WIDTH, ROWS, START, SPACING = 32, 25, 0.5, 0.2


def test_values_slopes_and_their_reverse() -> None:
    rng = np.random.default_rng(0)
    r = rng.uniform(START, START + SPACING * (ROWS - 5), 50)
    table = rng.standard_normal((ROWS, WIDTH))
    points = Samples(np.empty(50, np.int64), np.empty(50 * 12))
    none = np.zeros(50, np.int64)
    spline_rows(r, none, START, SPACING, 0.0, ROWS, points.row, points.weights.reshape(50, 12))
    exact = [
        spline_table(
            torch.tensor(table)[None], START, SPACING, torch.tensor(r), torch.zeros(50).long(), order
        ).numpy()
        for order in range(2)
    ]
    found = [np.empty(50 * WIDTH) for _ in range(2)]
    for first, out in zip((0, 6), found, strict=True):
        read_table(points, first, table.reshape(-1), WIDTH, out)
    for a, b in zip(found, exact, strict=True):
        np.testing.assert_allclose(a.reshape(50, WIDTH), b, rtol=0, atol=1e-12)
    assert np.abs(exact[0] - exact[1]).max() > 0.1
    given, slope = rng.standard_normal(50 * WIDTH), np.ones(50)
    read_table_reverse(points, table.reshape(-1), WIDTH, given, slope)
    np.testing.assert_allclose(slope - 1.0, (exact[1] * given.reshape(50, WIDTH)).sum(1), rtol=0, atol=1e-11)
