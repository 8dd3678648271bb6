"""Compiled products of many rows with a small matrix, and what is done to the sums before they are stored.

Eight rows by 32 columns stay in registers from their first term to the store, so that the rows given are a
multiple of eight: arrays have room for that, and what rows beyond the true ones hold is never read.

`dense_cpu.dense` is for any number of rows and for many terms, which it sums in blocks; here terms are few
(widths of a network), and bias, sum and factor are applied while the sums are still in registers.
"""

from .compiled import compiled
from .dense_cpu import PANEL
from .lanes import LANES, add, fetch, load, multiply, multiply_add, splat, spread, store

STEP = 8
"""Rows that are worked on together."""


def stepped(n: int) -> int:
    """The next multiple of STEP."""
    return -(-n // STEP) * STEP


@compiled
def row_product(  # type: ignore[no-untyped-def]
    x, x_at, x_stride, rows, n_in, weights, w_at, bias, b_at, factor, f_at, y, y_at, y_stride, n_out, part,
    adding,
):  # fmt: skip
    """y = ((y if adding) + x·W + bias) ∘ factor for the rows and those up to the next multiple of eight.

    `weights` are panels of 32 columns (`dense_cpu.panels`); columns of each `part` of them act on the next
    n_in numbers of a row of x. No bias and no factor where these are empty; rows of the factor are as far
    apart as those of y.
    """
    zero = splat(y.dtype.type(0))
    for column in range(0, n_out, PANEL):
        panel, begin = w_at + column * n_in, x_at + column // part * n_in
        for first in range(0, rows, STEP):
            a0 = begin + first * x_stride
            a1, a2, a3 = a0 + x_stride, a0 + 2 * x_stride, a0 + 3 * x_stride
            a4, a5, a6, a7 = a0 + 4 * x_stride, a0 + 5 * x_stride, a0 + 6 * x_stride, a0 + 7 * x_stride
            o = y_at + first * y_stride + column
            if len(factor):  # may lie far away: on its way while the sums are made
                f = f_at + first * y_stride + column
                for k in range(f, f + STEP * y_stride, y_stride):
                    fetch(factor, k, 0)
                    fetch(factor, k + LANES, 0)
            s00, s01, s10, s11, s20, s21, s30, s31 = zero, zero, zero, zero, zero, zero, zero, zero
            s40, s41, s50, s51, s60, s61, s70, s71 = zero, zero, zero, zero, zero, zero, zero, zero
            for k in range(n_in):
                b0, b1 = load(weights, panel + k * PANEL), load(weights, panel + k * PANEL + LANES)
                v = spread(x, a0 + k)
                s00, s01 = multiply_add(v, b0, s00), multiply_add(v, b1, s01)
                v = spread(x, a1 + k)
                s10, s11 = multiply_add(v, b0, s10), multiply_add(v, b1, s11)
                v = spread(x, a2 + k)
                s20, s21 = multiply_add(v, b0, s20), multiply_add(v, b1, s21)
                v = spread(x, a3 + k)
                s30, s31 = multiply_add(v, b0, s30), multiply_add(v, b1, s31)
                v = spread(x, a4 + k)
                s40, s41 = multiply_add(v, b0, s40), multiply_add(v, b1, s41)
                v = spread(x, a5 + k)
                s50, s51 = multiply_add(v, b0, s50), multiply_add(v, b1, s51)
                v = spread(x, a6 + k)
                s60, s61 = multiply_add(v, b0, s60), multiply_add(v, b1, s61)
                v = spread(x, a7 + k)
                s70, s71 = multiply_add(v, b0, s70), multiply_add(v, b1, s71)
            o1, o2, o3 = o + y_stride, o + 2 * y_stride, o + 3 * y_stride
            o4, o5, o6, o7 = o + 4 * y_stride, o + 5 * y_stride, o + 6 * y_stride, o + 7 * y_stride
            if len(bias):
                b0, b1 = load(bias, b_at + column), load(bias, b_at + column + LANES)
                s00, s01, s10, s11 = add(s00, b0), add(s01, b1), add(s10, b0), add(s11, b1)
                s20, s21, s30, s31 = add(s20, b0), add(s21, b1), add(s30, b0), add(s31, b1)
                s40, s41, s50, s51 = add(s40, b0), add(s41, b1), add(s50, b0), add(s51, b1)
                s60, s61, s70, s71 = add(s60, b0), add(s61, b1), add(s70, b0), add(s71, b1)
            if adding:
                s00, s01 = add(s00, load(y, o)), add(s01, load(y, o + LANES))
                s10, s11 = add(s10, load(y, o1)), add(s11, load(y, o1 + LANES))
                s20, s21 = add(s20, load(y, o2)), add(s21, load(y, o2 + LANES))
                s30, s31 = add(s30, load(y, o3)), add(s31, load(y, o3 + LANES))
                s40, s41 = add(s40, load(y, o4)), add(s41, load(y, o4 + LANES))
                s50, s51 = add(s50, load(y, o5)), add(s51, load(y, o5 + LANES))
                s60, s61 = add(s60, load(y, o6)), add(s61, load(y, o6 + LANES))
                s70, s71 = add(s70, load(y, o7)), add(s71, load(y, o7 + LANES))
            if len(factor):
                f = f_at + first * y_stride + column
                s00, s01 = multiply(s00, load(factor, f)), multiply(s01, load(factor, f + LANES))
                f += y_stride
                s10, s11 = multiply(s10, load(factor, f)), multiply(s11, load(factor, f + LANES))
                f += y_stride
                s20, s21 = multiply(s20, load(factor, f)), multiply(s21, load(factor, f + LANES))
                f += y_stride
                s30, s31 = multiply(s30, load(factor, f)), multiply(s31, load(factor, f + LANES))
                f += y_stride
                s40, s41 = multiply(s40, load(factor, f)), multiply(s41, load(factor, f + LANES))
                f += y_stride
                s50, s51 = multiply(s50, load(factor, f)), multiply(s51, load(factor, f + LANES))
                f += y_stride
                s60, s61 = multiply(s60, load(factor, f)), multiply(s61, load(factor, f + LANES))
                f += y_stride
                s70, s71 = multiply(s70, load(factor, f)), multiply(s71, load(factor, f + LANES))
            store(y, o, s00)
            store(y, o + LANES, s01)
            store(y, o1, s10)
            store(y, o1 + LANES, s11)
            store(y, o2, s20)
            store(y, o2 + LANES, s21)
            store(y, o3, s30)
            store(y, o3 + LANES, s31)
            store(y, o4, s40)
            store(y, o4 + LANES, s41)
            store(y, o5, s50)
            store(y, o5 + LANES, s51)
            store(y, o6, s60)
            store(y, o6 + LANES, s61)
            store(y, o7, s70)
            store(y, o7 + LANES, s71)
