"""Triton kernels of the pair convolution and its derivatives.

The form T(G, R, Y, h) of `pair_convolution` is evaluated with one array per pair that has no channels,

    M[ij, row, m2] = Σ_m1 C[m1, m2, row] Y[ij, m1],

made by one matrix product. Then, for each block of couplings that read the same features,

    ∂T/∂G[i, row]  = Σ_j R[ij, p] Σ_m2 M[ij, row, m2] h[j, m2]      one program per centre and channel block
    ∂T/∂h[j, m2]   = Σ_i Σ_row M[ij, row, m2] R[ij, p] G[i, row]    one program per sender, m2, channel block
    ∂T/∂R[ij, p]   = Σ_row∈p G[i, row] Σ_m2 M[ij, row, m2] h[j, m2]       one program per tile of pairs
    ∂T/∂M[ij, row, m2] = Σ_channels G[i, row] R[ij, p] h[j, m2]           the same program

No array of size pairs × channels × harmonics is made. Each sum is taken by one program in a fixed order, with
no atomic operation, so results have the same bits at every run.
"""

from functools import lru_cache
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from .launching_triton import Segments, blocks, power_of_two, segments_of, start, suits, tile, warps
from .pair_convolution import ConvolutionPlan, _Block, _Shape
from .pair_convolution import evaluate as definition


@triton.jit
def centre_sums(  # type: ignore[no-untyped-def]
    first, order, sender, radial, angular, features, coupling, place, out,
    SORTED: tl.constexpr, CHANNELS: tl.constexpr, COUPLINGS: tl.constexpr, FEATURES: tl.constexpr,
    AT: tl.constexpr, D2: tl.constexpr, ROWS: tl.constexpr, ALL_ROWS: tl.constexpr,
    ROW_TILE: tl.constexpr, CHANNEL_TILE: tl.constexpr,
):  # fmt: skip
    """out[i, place[row], c] = Σ_j R[ij, coupling[row], c] Σ_m2 M[ij, row, m2] h[j, AT + m2, c]."""
    a = tl.program_id(0).to(tl.int64)
    c = tl.program_id(1) * CHANNEL_TILE + tl.arange(0, CHANNEL_TILE)
    rows = tl.arange(0, ROW_TILE)
    c_in, row_in = c < CHANNELS, rows < ROWS
    both = row_in[:, None] & c_in[None, :]
    p = tl.load(coupling + rows, row_in, other=0)
    total = tl.zeros((ROW_TILE, CHANNEL_TILE), out.dtype.element_ty)
    for at in range(tl.load(first + a), tl.load(first + a + 1)):
        q = at  # int64, as the bounds
        if not SORTED:
            q = tl.load(order + at)
        j = tl.load(sender + q)
        inner = tl.zeros((ROW_TILE, CHANNEL_TILE), out.dtype.element_ty)
        for m in tl.static_range(D2):
            weight = tl.load(angular + (q * ROWS + rows) * D2 + m, row_in, other=0.0)
            h = tl.load(features + (j * FEATURES + AT + m) * CHANNELS + c, c_in, other=0.0)
            inner += weight[:, None] * h[None, :]
        r = tl.load(radial + (q * COUPLINGS + p[:, None]) * CHANNELS + c[None, :], both, other=0.0)
        total += r * inner
    to = tl.load(place + rows, row_in, other=0)
    tl.store(out + (a * ALL_ROWS + to[:, None]) * CHANNELS + c[None, :], total, both)


@triton.jit
def sender_sums(  # type: ignore[no-untyped-def]
    first, order, centre, cotangent, radial, angular, coupling, place, out,
    SORTED: tl.constexpr, CHANNELS: tl.constexpr, COUPLINGS: tl.constexpr, FEATURES: tl.constexpr,
    AT: tl.constexpr, D2: tl.constexpr, ROWS: tl.constexpr, ALL_ROWS: tl.constexpr,
    ROW_TILE: tl.constexpr, CHANNEL_TILE: tl.constexpr,
):  # fmt: skip
    """out[j, AT + m2, c] = Σ_i Σ_row M[ij, row, m2] R[ij, coupling[row], c] G[i, place[row], c]."""
    a = tl.program_id(0).to(tl.int64)
    c = tl.program_id(1) * CHANNEL_TILE + tl.arange(0, CHANNEL_TILE)
    m = tl.program_id(2)
    rows = tl.arange(0, ROW_TILE)
    c_in, row_in = c < CHANNELS, rows < ROWS
    both = row_in[:, None] & c_in[None, :]
    p = tl.load(coupling + rows, row_in, other=0)
    to = tl.load(place + rows, row_in, other=0)
    total = tl.zeros((ROW_TILE, CHANNEL_TILE), out.dtype.element_ty)
    for at in range(tl.load(first + a), tl.load(first + a + 1)):
        q = at  # int64, as the bounds
        if not SORTED:
            q = tl.load(order + at)
        i = tl.load(centre + q)
        weight = tl.load(angular + (q * ROWS + rows) * D2 + m, row_in, other=0.0)
        r = tl.load(radial + (q * COUPLINGS + p[:, None]) * CHANNELS + c[None, :], both, other=0.0)
        g = tl.load(cotangent + (i * ALL_ROWS + to[:, None]) * CHANNELS + c[None, :], both, other=0.0)
        total += weight[:, None] * (r * g)
    tl.store(out + (a * FEATURES + AT + m) * CHANNELS + c, tl.sum(total, 0), c_in)


@triton.jit
def pair_slopes(  # type: ignore[no-untyped-def]
    centre, sender, cotangent, radial, angular, features, row_of, d3_of, place, radial_slope, angular_slope,
    n_pairs,
    WANT_RADIAL: tl.constexpr, WANT_ANGULAR: tl.constexpr, CHANNELS: tl.constexpr,
    COUPLINGS: tl.constexpr, FEATURES: tl.constexpr, AT: tl.constexpr, D2: tl.constexpr,
    FIRST: tl.constexpr, MEMBERS: tl.constexpr, ROWS: tl.constexpr, ALL_ROWS: tl.constexpr,
    PAIR_TILE: tl.constexpr, CHANNEL_TILE: tl.constexpr,
):  # fmt: skip
    """∂T/∂R and, for each channel block, its share of ∂T/∂M, of one tile of pairs."""
    q = tl.program_id(0).to(tl.int64) * PAIR_TILE + tl.arange(0, PAIR_TILE)
    c = tl.program_id(1) * CHANNEL_TILE + tl.arange(0, CHANNEL_TILE)
    q_in = q < n_pairs
    both = q_in[:, None] & (c < CHANNELS)[None, :]
    i = tl.load(centre + q, q_in, other=0)
    j = tl.load(sender + q, q_in, other=0)
    share = tl.program_id(1).to(tl.int64) * n_pairs
    for k in range(MEMBERS):
        at_radial = (q * COUPLINGS + FIRST + k)[:, None] * CHANNELS + c[None, :]
        if WANT_ANGULAR:
            r = tl.load(radial + at_radial, both, other=0.0)
        total = tl.zeros((PAIR_TILE, CHANNEL_TILE), radial_slope.dtype.element_ty)
        row = tl.load(row_of + k)
        for _ in range(tl.load(d3_of + k)):
            to = tl.load(place + row)
            g = tl.load(cotangent + (i * ALL_ROWS + to)[:, None] * CHANNELS + c[None, :], both, other=0.0)
            inner = tl.zeros((PAIR_TILE, CHANNEL_TILE), radial_slope.dtype.element_ty)
            for m in tl.static_range(D2):
                at = (j * FEATURES + AT + m)[:, None] * CHANNELS + c[None, :]
                h = tl.load(features + at, both, other=0.0)
                if WANT_RADIAL:
                    weight = tl.load(angular + (q * ROWS + row) * D2 + m, q_in, other=0.0)
                    inner += weight[:, None] * h
                if WANT_ANGULAR:
                    slope = tl.sum(g * r * h, 1)
                    tl.store(angular_slope + ((share + q) * ROWS + row) * D2 + m, slope, q_in)
            total += g * inner
            row += 1
        if WANT_RADIAL:
            tl.store(radial_slope + at_radial, total, both)


class _Table(NamedTuple):
    """What kernels read of a block's couplings."""

    coupling: Tensor
    """Coupling of every row."""
    place: Tensor
    """Its row of the output."""
    row_of: Tensor
    """First row of every coupling of the block, and the number of its rows."""
    d3_of: Tensor
    constants: dict[str, int]
    first: int
    members: int


@lru_cache(maxsize=256)
def _tables(plan: ConvolutionPlan) -> tuple[_Table, ...]:
    device, done, tables = plan.from_output.device, 0, []
    for b in plan.blocks:
        d3 = [g.d3 for g in b.groups for _ in range(g.last - g.first)]
        first, last = b.groups[0].first, b.groups[-1].last
        coupling = [first + k for k, d in enumerate(d3) for _ in range(d)]
        rows = [sum(d3[:k]) for k in range(len(d3))]
        numbers = [torch.tensor(x, dtype=torch.int32, device=device) for x in (coupling, rows, d3)]
        constants = {
            "COUPLINGS": plan.n_couplings,
            "FEATURES": plan.n_features,
            "AT": b.features.start,
            "D2": b.features.stop - b.features.start,
            "ROWS": b.n_rows,
            "ALL_ROWS": plan.n_rows,
        }
        place = plan.from_output[done : done + b.n_rows].to(torch.int32)
        tables.append(_Table(numbers[0], place, numbers[1], numbers[2], constants, first, last - first))
        done += b.n_rows
    return tuple(tables)


def evaluate(
    targets: tuple[int, ...],
    plan: ConvolutionPlan,
    shape: _Shape,
    i: Tensor,
    j: Tensor,
    cotangent: Tensor | None,
    radial: Tensor | None,
    harmonics: Tensor | None,
    features: Tensor | None,
) -> tuple[Tensor, ...]:
    """∂T/∂(slot) for each of `targets`, as `pair_convolution.evaluate`; that is what other inputs get."""
    if not suits(i, j, cotangent, radial, harmonics, features):
        return definition(targets, plan, shape, i, j, cotangent, radial, harmonics, features)
    run = _Run(
        targets, plan, shape, i.contiguous(), j.contiguous(),
        *(None if t is None else t.detach().contiguous() for t in (cotangent, radial, harmonics, features)),
    )  # fmt: skip
    for block, table in zip(plan.blocks, _tables(plan), strict=True):
        run.block(block, table)
    return tuple(run.out[k] for k in targets)


class _Run:
    """One evaluation: the arguments, and the derivatives that are being filled block by block."""

    def __init__(
        self, targets: tuple[int, ...], plan: ConvolutionPlan, shape: _Shape, i: Tensor, j: Tensor,
        cotangent: Tensor | None, radial: Tensor | None, harmonics: Tensor | None, features: Tensor | None,
    ) -> None:  # fmt: skip
        self.targets, self.shape, self.i, self.j = targets, shape, i, j
        self.cotangent, self.radial, self.harmonics, self.features = cotangent, radial, harmonics, features
        self.like = next(t for t in (cotangent, features) if t is not None)
        self.channels = self.like.shape[-1]
        n, c = i.shape[0], self.channels
        sizes = {
            0: (shape.n_centres, plan.n_rows, c),
            1: (n, plan.n_couplings, c),
            2: (n, plan.n_harmonics),
            3: (shape.n_senders, plan.n_features, c),
        }
        make = {k: self.like.new_empty if k < 2 else self.like.new_zeros for k in targets}
        self.out = {k: make[k](sizes[k]) for k in targets}

    def block(self, block: _Block, table: _Table) -> None:
        angular = self.like  # not read
        if any(k != 2 for k in self.targets):
            assert self.harmonics is not None
            angular = self.harmonics @ block.matrix
        if 0 in self.targets:
            segments = segments_of(self.i, self.shape.n_centres)
            given = (self.j, self.radial, angular, self.features)
            self._sums(centre_sums, segments, given, table, self.out[0], 1)
        if 3 in self.targets:
            segments = segments_of(self.j, self.shape.n_senders)
            read = (self.i, self.cotangent, self.radial, angular)
            self._sums(sender_sums, segments, read, table, self.out[3], table.constants["D2"])
        if 1 in self.targets or 2 in self.targets:
            self._slopes(block, table, angular)

    def _sums(
        self, kernel: Any, segments: Segments, given: tuple[Any, ...], table: _Table, out: Tensor, last: int
    ) -> None:
        rows = power_of_two(table.constants["ROWS"])
        _, channels = tile(self.channels, out, largest=max(16, tile(1, out)[0] // rows))
        order = segments.first if segments.order is None else segments.order
        grid = (segments.first.shape[0] - 1, blocks(self.channels, channels), last)
        start(
            kernel, grid, out, segments.first, order, *given, table.coupling, table.place, out,
            SORTED=segments.order is None, CHANNELS=self.channels, ROW_TILE=rows, CHANNEL_TILE=channels,
            num_warps=warps(rows * channels), **table.constants,
        )  # fmt: skip

    def _slopes(self, block: _Block, table: _Table, angular: Tensor) -> None:
        pairs, channels = tile(self.channels, self.like)
        n, parts = self.i.shape[0], blocks(self.channels, channels)
        want_radial, want_angular = 1 in self.targets, 2 in self.targets
        slope = self.like.new_empty((parts, n, block.matrix.shape[1])) if want_angular else self.like
        radial = self.like if self.radial is None else self.radial
        start(
            pair_slopes, (blocks(n, pairs), parts), self.like, self.i, self.j, self.cotangent, radial,
            angular, self.features, table.row_of, table.d3_of, table.place,
            self.out[1] if want_radial else self.like, slope, n,
            WANT_RADIAL=want_radial, WANT_ANGULAR=want_angular, CHANNELS=self.channels,
            FIRST=table.first, MEMBERS=table.members, PAIR_TILE=pairs, CHANNEL_TILE=channels,
            num_warps=warps(pairs * channels), **table.constants,
        )  # fmt: skip
        if want_angular:
            self.out[2] += (slope[0] if parts == 1 else slope.sum(0)) @ block.matrix.T
