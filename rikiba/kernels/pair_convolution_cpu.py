"""The pair convolution and its derivatives on the CPU, from and to tensors; kernels in `convolution_cpu`."""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from . import convolution_cpu as kernels
from .pair_convolution import ConvolutionPlan, _Shape
from .pair_convolution import evaluate as evaluate_in_torch
from .threads import deal

_GROUP = 128
"""Channels of a group, which one thread takes; part of the result, as sums over channels end there."""


class Radial(NamedTuple):
    """R[q] = Σ_m weights[q, m] table[row[q] + m]."""

    row: Tensor
    weights: Tensor | None
    table: Tensor | None
    taps: int


class _Layout(NamedTuple):
    couplings: kernels.Couplings
    matrix: Tensor
    """Harmonics → coefficient of every term."""


@lru_cache(maxsize=256)
def _layout(plan: ConvolutionPlan) -> _Layout:
    """Plans are compared by identity; their owners keep one for each dtype."""
    outputs = [at + m * n + k for at, (d, n) in _blocks(plan) for m in range(d) for k in range(n)]
    blocks = [(at, at + d * n, n) for at, (d, n) in _blocks(plan)]
    place = plan.from_output.tolist()
    columns: list[list[int]] = [[] for _ in kernels.Couplings._fields]
    matrices: list[Tensor] = []
    row = term = 0
    for block in plan.blocks:
        d2 = block.features.stop - block.features.start
        matrix = block.matrix.unflatten(1, (-1, d2))
        for g in block.groups:
            for k in range(g.last - g.first):
                part = matrix[:, g.rows + k * g.d3 :][:, : g.d3]
                diagonal = _is_diagonal(part)
                part = part.diagonal(dim1=1, dim2=2) if diagonal else part.flatten(1)
                first = outputs[place[row]]
                step = next(n for start, stop, n in blocks if start <= first < stop)
                n3 = 1 if diagonal else g.d3
                values = (block.features.start, d2, n3, int(diagonal), term, first, step)
                for column, value in zip(columns, values, strict=True):
                    column.append(value)
                matrices.append(part)
                row, term = row + g.d3, term + part.shape[1]
    couplings = kernels.Couplings(*(np.array(c, np.int64) for c in columns))
    return _Layout(couplings, torch.cat(matrices, 1))


def _is_diagonal(matrix: Tensor) -> bool:
    """Of a coupling's [harmonics, m3, m2]: whether only m3 = m2 occurs, as with harmonics of degree 0."""
    _, d3, d2 = matrix.shape
    return d2 > 1 and d2 == d3 and bool((matrix * (1.0 - torch.eye(d2).to(matrix)) == 0).all())


def _blocks(plan: ConvolutionPlan) -> list[tuple[int, tuple[int, int]]]:
    at, found = 0, []
    for d, n in plan.output_shapes:
        found.append((at, (d, n)))
        at += d * n
    return found


def plain(*tensors: Tensor | None) -> bool:
    """Whether compiled code can read these: real numbers in memory, of one of the two precisions."""
    given = [t for t in tensors if t is not None]
    wrapped = torch._C._functorch.is_functorch_wrapped_tensor
    right = given[0].dtype in (torch.float32, torch.float64)
    return right and all(t.dtype == given[0].dtype and not wrapped(t) for t in given)


class Operation:
    """One plan on one set of pairs and one number of channels: what every sweep reads."""

    def __init__(self, plan: ConvolutionPlan, shape: _Shape, i: Tensor, j: Tensor, like: Tensor) -> None:
        self.layout, self.plan, self.shape = _layout(plan), plan, shape
        self.given, self.like = like.shape[-1], like
        self.extra = -self.given % kernels.WIDE
        self.channels = self.given + self.extra
        self.groups = -(-self.channels // _GROUP)
        self.start = np.empty(shape.n_centres + 1, np.int64)
        self.sorted = bool(kernels.row_starts(i.numpy(), self.start))
        self.pairs, self.sender = len(i), j.numpy()
        self.terms = self.layout.matrix.shape[1]
        self.none = like.new_empty(0).detach().numpy()

    def flat(self, x: Tensor | None) -> np.ndarray:
        """As a flat array; channels padded with zeros."""
        if x is None:
            return self.none
        x = x.detach()
        if self.extra:
            x = pad(x, (0, self.extra))
        return x.reshape(-1).numpy()

    def angular(self, harmonics: Tensor | None) -> np.ndarray:
        return self.none if harmonics is None else (harmonics.detach() @ self.layout.matrix).view(-1).numpy()

    def _or_zeros(self, flat: np.ndarray, n: int) -> np.ndarray:
        """What is not given because its derivative alone is wanted, and so does not matter, but is read."""
        return flat if len(flat) == n else np.zeros(n, flat.dtype)

    def zeros(self, *shape: int) -> Tensor:
        return self.like.new_zeros((*shape, self.channels))

    def _table_slope(self, radial: Radial, rows: int) -> Tensor:
        """Where pairs have rows of their own every element will be written."""
        shape = (rows, self.plan.n_couplings, self.channels)
        return self.like.new_empty(shape) if radial.taps == 1 else self.like.new_zeros(shape)

    def narrow(self, x: Tensor) -> Tensor:
        return x[..., : self.given] if self.extra else x

    def _each(self, work: Callable[[int, int, int], None]) -> None:
        """work(number, first channel, end) for every group of channels."""
        deal(lambda k: work(k, k * _GROUP, min((k + 1) * _GROUP, self.channels)), self.groups)

    def _common(self, radial: Radial, harmonics: Tensor | None, features: Tensor | None) -> tuple:  # type: ignore[type-arg]
        weights = self.none if radial.weights is None else radial.weights.detach().reshape(-1).numpy()
        n_table = (self.pairs if radial.table is None else len(radial.table)) * self.plan.n_couplings
        table = self._or_zeros(self.flat(radial.table), n_table * self.channels)
        angular = self._or_zeros(self.angular(harmonics), self.pairs * self.terms)
        n_features = self.plan.n_features
        flat = self._or_zeros(self.flat(features), self.shape.n_senders * n_features * self.channels)
        return (
            self.start, self.sender, radial.row.numpy(), weights, radial.taps, table, angular, flat,
            n_features, self.layout.couplings, self.terms, self.plan.n_rows, self.channels,
        )  # fmt: skip

    def forward(self, radial: Radial, harmonics: Tensor, features: Tensor) -> Tensor:
        """A."""
        out = self.like.new_empty((self.shape.n_centres, self.plan.n_rows, self.channels))
        common, flat = self._common(radial, harmonics, features), out.view(-1).numpy()
        self._each(lambda k, v0, v1: kernels.convolution_forward(v0, v1, *common, flat))
        return self.narrow(out)

    def reverse(
        self,
        wanted: Sequence[bool],
        cotangent: Tensor,
        radial: Radial,
        harmonics: Tensor | None,
        features: Tensor | None,
        table_rows: int,
    ) -> list[Tensor | None]:
        """Derivatives by weights, table, harmonics and features where wanted."""
        common = self._common(radial, harmonics, features)
        g = self.flat(cotangent)
        sums = [
            self.like.new_empty((self.groups, self.pairs, n)) if want else None
            for want, n in ((wanted[0], radial.taps), (wanted[2], self.terms))
        ]
        table = self._table_slope(radial, table_rows) if wanted[1] else None
        h = self.zeros(self.shape.n_senders, self.plan.n_features) if wanted[3] else None
        slopes = [self.none if x is None else x.view(-1).numpy() for x in (table, h)]

        def work(k: int, v0: int, v1: int) -> None:
            part = [self.none if s is None else s[k].view(-1).numpy() for s in sums]
            kernels.convolution_reverse(v0, v1, *common, g, part[0], slopes[0], part[1], slopes[1])

        self._each(work)
        w, y = (None if s is None else (s[0] if len(s) == 1 else s.sum(0)) for s in sums)
        return [
            w,
            None if table is None else self.narrow(table),
            None if y is None else y @ self.layout.matrix.T,
            None if h is None else self.narrow(h),
        ]

    def second(
        self,
        wanted: Sequence[bool],
        cotangent: Tensor,
        radial: Radial,
        harmonics: Tensor,
        features: Tensor,
        changes: Sequence[Tensor | None],
    ) -> list[Tensor | None]:
        """Derivatives by cotangent, table and features, where wanted, of Σ changes·reverse(…).

        `changes` are directions of weights, table, harmonics and features.
        """
        assert radial.table is not None
        common = self._common(radial, harmonics, features)
        weights = self.none if changes[0] is None else changes[0].detach().reshape(-1).numpy()
        given = (
            self.flat(cotangent),
            weights,
            self.flat(changes[1]),
            self.angular(changes[2]),
            self.flat(changes[3]),
        )
        n_centres, n_rows = self.shape.n_centres, self.plan.n_rows
        out = self.like.new_empty((n_centres, n_rows, self.channels)) if wanted[0] else None
        table = self._table_slope(radial, len(radial.table)) if wanted[1] else None
        h = self.zeros(self.shape.n_senders, self.plan.n_features) if wanted[2] else None
        slopes = [self.none if x is None else x.view(-1).numpy() for x in (out, table, h)]
        self._each(lambda k, v0, v1: kernels.convolution_second(v0, v1, *common, *given, *slopes))
        return [None if x is None else self.narrow(x) for x in (out, table, h)]


def _values(radial: Tensor | None, pairs: int) -> Radial:
    return Radial(torch.arange(pairs), None, radial, 1)


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
    """See `pair_convolution.evaluate`."""
    args = (cotangent, radial, harmonics, features)
    if plain(*args):
        like = next(a for a in (cotangent, features) if a is not None)
        operation = Operation(plan, shape, i, j, like)
        if operation.sorted:
            return _evaluate(targets, operation, args)
    return evaluate_in_torch(targets, plan, shape, i, j, *args)


def _evaluate(
    targets: tuple[int, ...], operation: Operation, args: Sequence[Tensor | None]
) -> tuple[Tensor, ...]:
    cotangent, radial, harmonics, features = args
    values, found = _values(radial, operation.pairs), {}
    if 0 in targets:
        assert harmonics is not None and features is not None
        found[0] = operation.forward(values, harmonics, features)
    if targets != (0,):
        assert cotangent is not None
        wanted = (False, 1 in targets, 2 in targets, 3 in targets)
        slopes = operation.reverse(wanted, cotangent, values, harmonics, features, operation.pairs)
        found |= {k: x for k, x in enumerate(slopes) if x is not None}
    return tuple(found[k] for k in targets)


def second(
    needed: Sequence[bool],
    plan: ConvolutionPlan,
    shape: _Shape,
    i: Tensor,
    j: Tensor,
    args: Sequence[Tensor | None],
    changes: Sequence[Tensor | None],
) -> tuple[Tensor | None, ...] | None:
    """Gradients by cotangent, radial and features of a reverse sweep; None where it cannot be done here."""
    cotangent, radial, harmonics, features = args
    if cotangent is None or radial is None or harmonics is None or features is None:
        return None
    if changes[0] is not None or not plain(*args, *changes):
        return None
    operation = Operation(plan, shape, i, j, features)
    if not operation.sorted:
        return None
    wanted = (needed[0], needed[1], needed[3])
    values = _values(radial, operation.pairs)
    directions = (None, changes[1], changes[2], changes[3])
    found = operation.second(wanted, cotangent, values, harmonics, features, directions)
    return found[0], found[1], None, found[2]
