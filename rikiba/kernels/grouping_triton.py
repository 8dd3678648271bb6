"""Triton kernel of sums over rows with equal index: one program per segment and block of columns."""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from .grouping import sum_rows as definition
from .launching_triton import blocks, segments_of, start, suits, tile, warps


@triton.jit
def row_sums(  # type: ignore[no-untyped-def]
    first, order, values, out, n_segments,
    SORTED: tl.constexpr, COLUMNS: tl.constexpr, SEGMENT_TILE: tl.constexpr, COLUMN_TILE: tl.constexpr,
):  # fmt: skip
    """out[s, c] = Σ_{rows of s} values[row, c], one after another in row order."""
    s = tl.program_id(0).to(tl.int64) * SEGMENT_TILE + tl.arange(0, SEGMENT_TILE)
    c = tl.program_id(1) * COLUMN_TILE + tl.arange(0, COLUMN_TILE)
    s_in, c_in = s < n_segments, c < COLUMNS
    at = tl.load(first + s, s_in, other=0)
    count = tl.load(first + s + 1, s_in, other=0) - at
    total = tl.zeros((SEGMENT_TILE, COLUMN_TILE), out.dtype.element_ty)
    for n in range(tl.max(count, 0)):
        there = n < count
        q = at + n
        if not SORTED:
            q = tl.load(order + q, there, other=0)
        place = (q * COLUMNS)[:, None] + c[None, :]
        total += tl.load(values + place, there[:, None] & c_in[None, :], other=0.0)
    tl.store(out + (s * COLUMNS)[:, None] + c[None, :], total, s_in[:, None] & c_in[None, :])


def sum_rows(values: Tensor, index: Tensor, n_segments: int) -> Tensor:
    """Sums of rows, differentiable to any order; the plain definition for what the kernel does not take."""
    if not suits(values, index):
        return definition(values, index, n_segments)
    flat = values.reshape(values.shape[0], -1) if values.numel() else values.new_zeros((values.shape[0], 1))
    if not values.numel():
        return values.new_zeros((n_segments, *values.shape[1:]))
    out: Tensor = _Sum.apply(flat, index, n_segments)  # type: ignore[no-untyped-call]
    return out.reshape(n_segments, *values.shape[1:])


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, index: Tensor, n_segments: int) -> Tensor:  # type: ignore[override]
        ctx.save_for_backward(index)
        ctx.n_segments = n_segments
        segments = segments_of(index, n_segments)
        columns = values.shape[1]
        out = values.new_empty((n_segments, columns))
        segment_tile, column_tile = tile(columns, out)
        start(
            row_sums, (blocks(n_segments, segment_tile), blocks(columns, column_tile)), out,
            segments.first, segments.first if segments.order is None else segments.order,
            values.detach().contiguous(), out, n_segments,
            SORTED=segments.order is None, COLUMNS=columns,
            SEGMENT_TILE=segment_tile, COLUMN_TILE=column_tile, num_warps=warps(segment_tile * column_tile),
        )  # fmt: skip
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:  # type: ignore[override]
        (index,) = ctx.saved_tensors
        return _Take.apply(gradient, index, ctx.n_segments), None, None  # type: ignore[no-untyped-call]


class _Take(torch.autograd.Function):
    """Rows by index: the derivative of sums, whose own derivative is sums again."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, index: Tensor, n_segments: int) -> Tensor:  # type: ignore[override]
        ctx.save_for_backward(index)
        ctx.n_segments = n_segments
        return rows.index_select(0, index)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:  # type: ignore[override]
        (index,) = ctx.saved_tensors
        return _Sum.apply(gradient, index, ctx.n_segments), None, None  # type: ignore[no-untyped-call]
