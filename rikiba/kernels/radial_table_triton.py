"""Triton kernel that reads a radial table: one program per tile of distances and columns."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from .launching_triton import blocks, start, suits, tile, warps
from .radial_table import evaluate as definition


@triton.jit
def table_rows(  # type: ignore[no-untyped-def]
    coefficients, kind, interval, t, factor, out, n,
    ORDER: tl.constexpr, INTERVALS: tl.constexpr, COLUMNS: tl.constexpr,
    ROW_TILE: tl.constexpr, COLUMN_TILE: tl.constexpr,
):  # fmt: skip
    """out[q, c] = Σ_{n ≥ ORDER} factor[n] · coefficients[kind, interval, n, c] · t^(n − ORDER), by Horner."""
    q = tl.program_id(0).to(tl.int64) * ROW_TILE + tl.arange(0, ROW_TILE)
    c = tl.program_id(1) * COLUMN_TILE + tl.arange(0, COLUMN_TILE)
    q_in = q < n
    inside = q_in[:, None] & (c < COLUMNS)[None, :]
    row = tl.load(kind + q, q_in, other=0) * INTERVALS + tl.load(interval + q, q_in, other=0)
    x = tl.load(t + q, q_in, other=0.0)[:, None]
    total = tl.zeros((ROW_TILE, COLUMN_TILE), out.dtype.element_ty)
    for down in tl.static_range(6 - ORDER):
        at = ((row * 6 + 5 - down) * COLUMNS)[:, None] + c[None, :]
        total = total * x + tl.load(factor + 5 - down) * tl.load(coefficients + at, inside, other=0.0)
    tl.store(out + (q * COLUMNS)[:, None] + c[None, :], total, inside)


def evaluate(
    order: int, coefficients: Tensor, start_at: float, spacing: float, r: Tensor, kind: Tensor
) -> Tensor:
    """The derivative of that order, as `radial_table.evaluate`, which is also what other inputs get."""
    if order > 5 or not suits(coefficients, r, kind):
        return definition(order, coefficients, start_at, spacing, r, kind)
    x = (r.detach() - start_at) / spacing
    interval = x.floor().clamp(0, coefficients.shape[1] - 1)
    falling = [float(_falling(n, order)) / spacing**order for n in range(6)]
    factor = torch.tensor(falling, dtype=r.dtype, device=r.device)
    columns = coefficients.shape[3]
    out = r.new_empty((r.shape[0], columns))
    row_tile, column_tile = tile(columns, out)
    start(
        table_rows, (blocks(r.shape[0], row_tile), blocks(columns, column_tile)), out,
        coefficients.contiguous(), kind.to(torch.int64).contiguous(), interval.to(torch.int64), x - interval,
        factor, out, r.shape[0],
        ORDER=order, INTERVALS=coefficients.shape[1], COLUMNS=columns,
        ROW_TILE=row_tile, COLUMN_TILE=column_tile, num_warps=warps(row_tile * column_tile),
    )  # fmt: skip
    return out


def _falling(n: int, order: int) -> int:
    """n (n − 1) … (n − order + 1)."""
    product = 1
    for k in range(order):
        product *= n - k
    return product
