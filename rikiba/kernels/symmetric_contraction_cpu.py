"""The symmetric contraction and its derivatives on the CPU, from and to tensors."""

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from . import contraction_derivatives_cpu as kernels
from .contraction_cpu import WIDE, Tree
from .dispatch import needed_inputs
from .grouping import TypeGroups
from .pair_convolution_cpu import plain
from .symmetric_contraction import ContractionPlan
from .symmetric_contraction import evaluate as evaluate_in_torch
from .threads import deal


class _Layout(NamedTuple):
    tree: Tree
    matrix: Tensor
    """[weights of the tree, couplings of all outputs]."""
    monomial: Tensor
    """Of each weight of the tree, as `ContractionPlan` numbers them."""
    output: Tensor
    """Of each weight of the tree."""
    n_out: int


@lru_cache(maxsize=64)
def _layout(plan: ContractionPlan) -> _Layout:
    """Plans are compared by identity; their owners keep one for each dtype."""
    n_monomials = len(plan.first) + sum(len(a) for a, _ in plan.steps)
    dense = [
        c.reshape(c.shape[0], d, n_monomials) for c, d in zip(plan.coefficients, plan.components, strict=True)
    ]
    tree, monomial, output = arrange(plan, torch.cat([c.abs().amax(0) > 0 for c in dense]))
    n_out, n_couplings = sum(plan.components), sum(len(c) for c in dense)
    joined = dense[0].new_zeros((n_couplings, n_out, n_monomials))
    h = o = 0
    for c in dense:
        joined[h : h + c.shape[0], o : o + c.shape[1]] = c
        h, o = h + c.shape[0], o + c.shape[1]
    return _Layout(tree, joined[:, output, monomial].T.contiguous(), monomial, output, n_out)


def arrange(plan: ContractionPlan, needed: Tensor) -> tuple[Tree, Tensor, Tensor]:
    """Monomials grouped by parent, where needed[output, monomial]; the monomial and output of each weight."""
    parents, factors, before = [-1] * len(plan.first), plan.first.tolist(), 0
    for origin, multiplier in plan.steps:
        at = len(parents)
        parents += [before + p for p in origin.tolist()]
        factors += multiplier.tolist()
        before = at
    children: dict[int, list[int]] = {-1: []}
    for k, p in enumerate(parents):
        children.setdefault(p, []).append(k)
    numbering = {k: n for n, k in enumerate(sorted(children))}
    flags = needed.tolist()
    columns: list[list[int]] = [[] for _ in range(6)]
    parent, factor, run, output, first, feature = columns
    monomial: list[int] = []
    for k in sorted(children):
        parent.append(numbering[parents[k]] if k >= 0 else 0)
        factor.append(factors[k] if k >= 0 else 0)
        run.append(len(output))
        for o, row in enumerate(flags):
            found = [c for c in children[k] if row[c]]
            if found:
                output.append(o)
                first.append(len(monomial))
                feature += [factors[c] for c in found]
                monomial += found
    run.append(len(output))
    first.append(len(monomial))
    outputs = torch.from_numpy(np.repeat(output, np.diff(first)))
    return Tree(*(np.array(x, np.int64) for x in columns)), torch.tensor(monomial), outputs


def evaluate(
    plan: ContractionPlan, features: Tensor, weights: tuple[Tensor, ...], groups: TypeGroups
) -> Tensor:
    """See `symmetric_contraction.evaluate`."""
    if len(features) == 0 or not plain(features, *weights):
        return evaluate_in_torch(plan, features, weights, groups)
    joined = torch.cat(weights, 1) if len(weights) > 1 else weights[0]
    kind = np.empty(len(features), np.int64)
    order = slice(None) if groups.order is None else groups.order.numpy()
    grouped = np.empty_like(kind)
    for k, first, last in groups.spans:
        grouped[first:last] = k
    kind[order] = grouped
    return _Contraction.apply(plan, kind, features, _layout(plan).matrix @ joined)  # type: ignore[no-any-return, no-untyped-call]


class _Arrays:
    """Flat arrays with channels padded to blocks of 32."""

    def __init__(self, plan: ContractionPlan, kind: np.ndarray, features: Tensor, weights: Tensor) -> None:
        self.layout, self.kind, self.n_rows, self.given = (
            _layout(plan),
            kind,
            plan.n_features,
            features.shape[2],
        )
        self.extra = -self.given % WIDE
        self.channels = self.given + self.extra
        self.features, self.weights = self.flat(features), self._blocked(weights)
        self.like, self.n_kinds = features, len(weights)

    def flat(self, x: Tensor) -> np.ndarray:
        x = x.detach()
        return (pad(x, (0, self.extra)) if self.extra else x).reshape(-1).numpy()

    def _blocked(self, weights: Tensor) -> np.ndarray:
        """[kinds, weights, channels] as [kinds, blocks, weights, 32]."""
        w = weights.detach()
        w = pad(w, (0, self.extra)) if self.extra else w
        return w.unflatten(2, (-1, WIDE)).transpose(1, 2).reshape(-1).numpy()

    def empty(self, rows: int) -> Tensor:
        return self.like.new_empty((len(self.kind), rows, self.channels))

    def narrow(self, x: Tensor) -> Tensor:
        return x[..., : self.given] if self.extra else x

    def weight_slope(self, wanted: bool) -> Tensor:
        n = self.n_kinds * self.channels * len(self.layout.tree.feature) if wanted else 0
        return self.like.new_zeros(n)

    def unblocked(self, slope: Tensor) -> Tensor:
        shape = (self.n_kinds, self.channels // WIDE, -1, WIDE)
        return self.narrow(slope.view(shape).transpose(1, 2).flatten(2))

    def run(self, kernel: Any, *rest: Any) -> None:
        common = (self.layout.tree, self.kind, self.weights, self.features, self.n_rows)
        deal(lambda block: kernel(block, *common, *rest), self.channels // WIDE)


class _Contraction(torch.autograd.Function):
    @staticmethod
    def forward(plan: ContractionPlan, kind: np.ndarray, features: Tensor, weights: Tensor) -> Tensor:
        arrays = _Arrays(plan, kind, features, weights)
        n_out = arrays.layout.n_out
        out = arrays.empty(n_out)
        arrays.run(kernels.forward, n_out, arrays.channels, out.view(-1).numpy())
        return arrays.narrow(out)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.plan, ctx.kind, features, weights = inputs
        ctx.save_for_backward(features, weights)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:  # type: ignore[override]
        features, weights = ctx.saved_tensors
        needed = needed_inputs(ctx, (None, None, features, weights))
        slopes = _Reverse.apply(ctx.plan, ctx.kind, needed[3], gradient, features, weights)  # type: ignore[no-untyped-call]
        return None, None, slopes[0], slopes[1] if needed[3] else None


class _Reverse(torch.autograd.Function):
    """(∂E/∂features, ∂E/∂weights if wanted) from ∂E/∂B."""

    @staticmethod
    def forward(
        plan: ContractionPlan,
        kind: np.ndarray,
        by_weight: bool,
        cotangent: Tensor,
        features: Tensor,
        weights: Tensor,
    ) -> tuple[Tensor, ...]:
        arrays = _Arrays(plan, kind, features, weights)
        slope, weight_slope = arrays.empty(arrays.n_rows), arrays.weight_slope(by_weight)
        rest = (arrays.flat(cotangent), arrays.layout.n_out, arrays.channels)
        arrays.run(kernels.reverse, *rest, slope.view(-1).numpy(), weight_slope.numpy())
        found = arrays.narrow(slope)
        return (found, arrays.unblocked(weight_slope)) if by_weight else (found,)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.plan, ctx.kind, _, *args = inputs
        ctx.save_for_backward(*args)
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, change: Tensor | None, weight_change: Tensor | None = None) -> tuple[Any, ...]:  # type: ignore[override]
        args = ctx.saved_tensors
        needed = needed_inputs(ctx, (None, None, None, *args))[3:]
        if torch.is_grad_enabled() or weight_change is not None or change is None:
            return (
                None,
                None,
                None,
                *_second_in_torch(ctx.plan, ctx.kind, args, needed, change, weight_change),
            )
        cotangent, features, weights = args
        arrays = _Arrays(ctx.plan, ctx.kind, features, weights)
        n_out = arrays.layout.n_out
        out, slope = arrays.empty(n_out), arrays.empty(arrays.n_rows)
        weight_slope = arrays.weight_slope(needed[2])
        arrays.run(
            kernels.second, arrays.flat(cotangent), n_out, arrays.channels, arrays.flat(change),
            out.view(-1).numpy(), slope.view(-1).numpy(), weight_slope.numpy(),
        )  # fmt: skip
        by_weight = arrays.unblocked(weight_slope) if needed[2] else None
        return None, None, None, arrays.narrow(out), arrays.narrow(slope), by_weight


def _second_in_torch(
    plan: ContractionPlan,
    kind: np.ndarray,
    args: tuple[Tensor, ...],
    needed: tuple[bool, ...],
    change: Tensor | None,
    weight_change: Tensor | None,
) -> tuple[Tensor | None, ...]:
    """The same by differentiating the definition, itself differentiable."""
    again = torch.is_grad_enabled()
    with torch.enable_grad():
        # aliases, so that a cotangent's own dependence on the features is not counted here
        given = tuple(
            a.view_as(a) if again and a.requires_grad else a.detach().requires_grad_() for a in args
        )
        cotangent, features, weights = given
        out = _in_torch(plan, kind, features, weights)
        slopes = torch.autograd.grad(out, (features, weights), cotangent, create_graph=True)
        pairs = [(s, c) for s, c in zip(slopes, (change, weight_change), strict=True) if c is not None]
        wanted = [a for a, want in zip(given, needed, strict=True) if want]
        if not pairs or not wanted:
            return (None,) * 3
        found = torch.autograd.grad(
            [s for s, _ in pairs], wanted, [c for _, c in pairs], create_graph=again, allow_unused=True
        )
    filled = iter(found)
    return tuple(next(filled) if want else None for want in needed)


def _in_torch(plan: ContractionPlan, kind: np.ndarray, features: Tensor, weights: Tensor) -> Tensor:
    """B from the weights of the tree, in plain torch."""
    layout = _layout(plan)
    level = features.index_select(1, plan.first)
    levels = [level]
    for parent, factor in plan.steps:
        level = level.index_select(1, parent) * features.index_select(1, factor)
        levels.append(level)
    terms = torch.cat(levels, 1).index_select(1, layout.monomial) * weights[torch.from_numpy(kind)]
    out = features.new_zeros((len(features), layout.n_out, features.shape[2]))
    return out.index_add(1, layout.output, terms)
