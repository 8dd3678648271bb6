"""Atoms grouped by type, and sums over sorted indices: the bookkeeping that other kernels share."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from .dispatch import choose


class TypeGroups(NamedTuple):
    """An ordering of rows that puts equal types side by side."""

    order: Int[Tensor, "rows"] | None
    """Rows in grouped order; None where they already are."""
    inverse: Int[Tensor, "rows"] | None
    spans: tuple[tuple[int, int, int], ...]
    """(type, start, stop) of each type present, in grouped order."""

    def gather(self, x: Tensor, dim: int = 0) -> Tensor:
        """Rows of x in grouped order."""
        return x if self.order is None else x.index_select(dim, self.order)

    def restore(self, x: Tensor, dim: int = 0) -> Tensor:
        """Rows of x back in their first order."""
        return x if self.inverse is None else x.index_select(dim, self.inverse)


def group_by_type(types: Int[Tensor, "rows"], n_types: int) -> TypeGroups:
    """Group rows by their type (0 … n_types − 1), keeping the order within a type."""
    counts = torch.bincount(types, minlength=n_types).tolist()
    spans, at = [], 0
    for kind, n in enumerate(counts):
        if n:
            spans.append((kind, at, at + n))
        at += n
    if len(spans) <= 1:
        return TypeGroups(None, None, tuple(spans))
    order = torch.argsort(types, stable=True)
    inverse = torch.empty_like(order)
    inverse[order] = torch.arange(len(order), device=order.device)
    return TypeGroups(order, inverse, tuple(spans))


def matmul_by_type(
    x: Float[Tensor, "rows *d n_in"], weights: Float[Tensor, "types n_in n_out"], groups: TypeGroups
) -> Float[Tensor, "rows *d n_out"]:
    """y_i = x_i · W[type of i], one matrix product per type present."""
    if not groups.spans:
        return x.new_zeros((*x.shape[:-1], weights.shape[-1]))
    grouped = groups.gather(x)
    parts = [grouped[start:stop] @ weights[kind] for kind, start, stop in groups.spans]
    return groups.restore(torch.cat(parts) if len(parts) > 1 else parts[0])


def segment_sum(
    values: Float[Tensor, "rows *shape"], index: Int[Tensor, "rows"], n_segments: int
) -> Float[Tensor, "segments *shape"]:
    """out[s] = Σ_{rows with index s} values, added one after another in the order of the rows.

    The result has the same bits at any thread count and, with the kernels for CUDA, in every run. Raises
    ValueError unless there is one index per row.
    """
    if index.shape != values.shape[:1]:
        raise ValueError(f"{tuple(index.shape)} indices are given for {values.shape[0]} rows.")
    return choose("segment_sum", sum_rows, values)(values, index, n_segments)  # type: ignore[no-any-return]


def sum_rows(values: Tensor, index: Tensor, n_segments: int) -> Tensor:
    """The plain-torch definition."""
    return values.new_zeros((n_segments, *values.shape[1:])).index_add(0, index, values)
