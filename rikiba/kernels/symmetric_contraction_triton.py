"""Triton kernels of the symmetric contraction and its first and second derivatives.

With K[t, q, c] = Σ_η C[η, M, k] W[t, η, c] for each product q = (M, k) that has a coefficient at all,

    S(G, K, A) = Σ_i Σ_q G[i, M(q), c] K[type i, q, c] Π_{a ∈ k(q)} A[i, a, c]

gives the contraction B = ∂S/∂G and its derivatives P = ∂S/∂A, Q = ∂S/∂K. S is linear in G and K, so the
derivative of ⟨V, P⟩ + ⟨X, Q⟩ is that of D_V S(G, K, A) + S(G, X, A), where D_V differentiates A along V: the
same sums of products with one factor after the other replaced. `products` evaluates B and P, `coefficients`
Q, each with or without D_V. Derivatives of third order and more are taken of the plain definition.

One program makes all of a number it writes, in a fixed order, with no atomic operation.
"""

from functools import lru_cache
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from .grouping import TypeGroups
from .launching_triton import blocks, power_of_two, start, suits, tile, warps
from .symmetric_contraction import ContractionPlan
from .symmetric_contraction import evaluate as definition


@triton.jit
def products(  # type: ignore[no-untyped-def]
    first, product, row, count, factors, kind, coefficients, cotangent, features, tangent, out, n_atoms,
    WITH_COTANGENT: tl.constexpr, ALONG: tl.constexpr, ORDER: tl.constexpr, CHANNELS: tl.constexpr,
    FEATURES: tl.constexpr, PRODUCTS: tl.constexpr, ROWS: tl.constexpr, SLOTS: tl.constexpr,
    ATOM_TILE: tl.constexpr, CHANNEL_TILE: tl.constexpr,
):  # fmt: skip
    """out[i, s, c] = Σ_{terms of s} count · K[type i, q, c] · G[i, row, c] · Π A[i, factor, c], or D_V."""
    a = tl.program_id(0).to(tl.int64) * ATOM_TILE + tl.arange(0, ATOM_TILE)
    c = tl.program_id(1) * CHANNEL_TILE + tl.arange(0, CHANNEL_TILE)
    slot = tl.program_id(2)
    inside = (a < n_atoms)[:, None] & (c < CHANNELS)[None, :]
    t = tl.load(kind + a, a < n_atoms, other=0).to(tl.int64)
    total = tl.zeros((ATOM_TILE, CHANNEL_TILE), out.dtype.element_ty)
    for term in range(tl.load(first + slot), tl.load(first + slot + 1)):
        q = tl.load(product + term)
        at = (t * PRODUCTS + q)[:, None] * CHANNELS + c[None, :]
        x = tl.load(coefficients + at, inside, other=0.0) * tl.load(count + term)
        if WITH_COTANGENT:
            m = tl.load(row + term)
            x *= tl.load(cotangent + (a * ROWS + m)[:, None] * CHANNELS + c[None, :], inside, other=0.0)
        slope = tl.zeros((ATOM_TILE, CHANNEL_TILE), out.dtype.element_ty)
        for n in tl.static_range(ORDER):
            f = tl.load(factors + term * ORDER + n)
            at = (a * FEATURES + f)[:, None] * CHANNELS + c[None, :]
            there = inside & (f < FEATURES)
            y = tl.load(features + at, there, other=1.0)
            if ALONG:
                slope = slope * y + x * tl.load(tangent + at, there, other=0.0)
            x *= y
        if ALONG:
            total += slope
        else:
            total += x
    tl.store(out + (a * SLOTS + slot)[:, None] * CHANNELS + c[None, :], total, inside)


@triton.jit
def coefficient_slopes(  # type: ignore[no-untyped-def]
    chunk, order, row, factors, cotangent, features, tangent, out,
    SORTED: tl.constexpr, ALONG: tl.constexpr, ORDER: tl.constexpr, CHANNELS: tl.constexpr,
    FEATURES: tl.constexpr, PRODUCTS: tl.constexpr, ROWS: tl.constexpr,
    PRODUCT_TILE: tl.constexpr, CHANNEL_TILE: tl.constexpr,
):  # fmt: skip
    """out[part, q, c] = Σ_{atoms of the part} G[i, row of q, c] · Π A[i, factor, c], or D_V of it."""
    q = tl.program_id(0) * PRODUCT_TILE + tl.arange(0, PRODUCT_TILE)
    c = tl.program_id(1) * CHANNEL_TILE + tl.arange(0, CHANNEL_TILE)
    part = tl.program_id(2).to(tl.int64)
    q_in = q < PRODUCTS
    inside = q_in[:, None] & (c < CHANNELS)[None, :]
    m = tl.load(row + q, q_in, other=0)
    total = tl.zeros((PRODUCT_TILE, CHANNEL_TILE), out.dtype.element_ty)
    for at in range(tl.load(chunk + 2 * part), tl.load(chunk + 2 * part + 1)):
        a = at
        if not SORTED:
            a = tl.load(order + at)
        x = tl.load(cotangent + (a * ROWS + m)[:, None] * CHANNELS + c[None, :], inside, other=0.0)
        slope = tl.zeros((PRODUCT_TILE, CHANNEL_TILE), out.dtype.element_ty)
        for n in tl.static_range(ORDER):
            f = tl.load(factors + q * ORDER + n, q_in, other=FEATURES)
            place = (a * FEATURES + f)[:, None] * CHANNELS + c[None, :]
            there = inside & (f < FEATURES)[:, None]
            y = tl.load(features + place, there, other=1.0)
            if ALONG:
                slope = slope * y + x * tl.load(tangent + place, there, other=0.0)
            x *= y
        if ALONG:
            total += slope
        else:
            total += x
    tl.store(out + (part * PRODUCTS + q)[:, None] * CHANNELS + c[None, :], total, inside)


class _Terms(NamedTuple):
    """Sums of products: those of slot s are first[s] … first[s + 1] − 1. The feature after the last is 1."""

    first: Tensor
    product: Tensor
    row: Tensor
    multiplicity: Tensor
    factors: Tensor
    """[terms, order]"""


class _Tables(NamedTuple):
    """A plan as kernels read it."""

    forward: _Terms
    """Slots are the rows of B; its terms in order are the products."""
    reverse: _Terms
    """Slots are features."""
    columns: tuple[Tensor, ...]
    """Of each output, the columns of its coefficients that are not all zero, [couplings, products]."""
    n_features: int


Term = tuple[int, int, float, tuple[int, ...]]


@lru_cache(maxsize=64)
def _tables(plan: ContractionPlan) -> _Tables:
    monomials = _monomials(plan)
    slots: list[list[Term]] = []
    columns, q = [], 0
    for c, d in zip(plan.coefficients, plan.components, strict=True):
        dense = c.unflatten(1, (d, -1))
        used = (dense != 0).any(0)
        columns.append(dense[:, used].contiguous())
        for k in used.cpu():
            numbers = k.nonzero().flatten().tolist()
            slots.append([(q + n, len(slots), 1.0, monomials[k]) for n, k in enumerate(numbers)])
            q += len(numbers)
    by_feature: list[list[Term]] = [[] for _ in range(plan.n_features)]
    for product, m, _, k in (term for slot in slots for term in slot):
        for a in dict.fromkeys(k):
            rest = list(k)
            rest.remove(a)
            by_feature[a].append((product, m, float(k.count(a)), tuple(rest)))
    order = max(map(len, monomials))
    like = plan.coefficients[0]
    forward = _terms(slots, order, plan.n_features, like)
    return _Tables(
        forward, _terms(by_feature, order - 1, plan.n_features, like), tuple(columns), plan.n_features
    )


def _monomials(plan: ContractionPlan) -> list[tuple[int, ...]]:
    """The factors of every monomial, in the order of the plan."""
    level: list[tuple[int, ...]] = [(int(a),) for a in plan.first.tolist()]
    all_levels = list(level)
    for parent, factor in plan.steps:
        level = [(*level[p], a) for p, a in zip(parent.tolist(), factor.tolist(), strict=True)]
        all_levels += level
    return all_levels


def _terms(slots: list[list[Term]], order: int, n_features: int, like: Tensor) -> _Terms:
    terms = [term for slot in slots for term in slot]
    first = [sum(map(len, slots[:s])) for s in range(len(slots) + 1)]
    factors = [[*k, *[n_features] * (order - len(k))] for *_, k in terms]

    def numbers(values: Any) -> Tensor:
        return torch.tensor(values, dtype=torch.int32, device=like.device)

    return _Terms(
        numbers(first),
        numbers([t[0] for t in terms]),
        numbers([t[1] for t in terms]),
        torch.tensor([t[2] for t in terms], dtype=like.dtype, device=like.device),
        numbers(factors).reshape(len(terms), order),
    )


class _Atoms(NamedTuple):
    """Atoms by their type, types numbered among those present."""

    kind: Tensor
    order: Tensor | None
    spans: tuple[tuple[int, int], ...]

    @staticmethod
    def of(groups: TypeGroups, like: Tensor) -> "_Atoms":
        kind = torch.zeros(like.shape[0], dtype=torch.int32, device=like.device)
        for n, (_, first, last) in enumerate(groups.spans):
            if n:
                kind[first:last] = n
        return _Atoms(groups.restore(kind), groups.order, tuple((a, b) for _, a, b in groups.spans))


def evaluate(
    plan: ContractionPlan, features: Tensor, weights: tuple[Tensor, ...], groups: TypeGroups
) -> Tensor:
    """B as `symmetric_contraction.evaluate`, which is also what other inputs get."""
    if features.shape[0] == 0 or not suits(features, *weights):
        return definition(plan, features, weights, groups)
    tables = _tables(plan)
    present = [kind for kind, _, _ in groups.spans]
    parts = []
    for w, c in zip(weights, tables.columns, strict=True):
        chosen = w if present == list(range(w.shape[0])) else w[present]
        parts.append(c.T @ chosen)
    coefficients = torch.cat(parts, 1) if len(parts) > 1 else parts[0]
    atoms = _Atoms.of(groups, features)
    return _Contract.apply(tables, atoms, features, coefficients)  # type: ignore[no-any-return, no-untyped-call]


class _Contract(torch.autograd.Function):
    """B(K, A)."""

    @staticmethod
    def forward(ctx: Any, tables: _Tables, atoms: _Atoms, features: Tensor, coefficients: Tensor) -> Tensor:  # type: ignore[override]
        ctx.tables, ctx.atoms = tables, atoms
        ctx.save_for_backward(features, coefficients)
        return _Kernels(tables, atoms, features).forward(coefficients)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:  # type: ignore[override]
        found = _Reverse.apply(  # type: ignore[no-untyped-call]
            ctx.tables, ctx.atoms, tuple(ctx.needs_input_grad[2:]), *ctx.saved_tensors, gradient
        )
        return None, None, *found


class _Reverse(torch.autograd.Function):
    """P(G, K, A) and Q(G, A), either None where not wanted."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, tables: _Tables, atoms: _Atoms, wanted: tuple[bool, bool],
        features: Tensor, coefficients: Tensor, gradient: Tensor,
    ) -> tuple[Tensor | None, Tensor | None]:  # fmt: skip
        ctx.tables, ctx.atoms, ctx.wanted = tables, atoms, wanted
        ctx.save_for_backward(features, coefficients, gradient)
        ctx.set_materialize_grads(False)
        kernels = _Kernels(tables, atoms, features)
        return (
            kernels.reverse(coefficients, gradient) if wanted[0] else None,
            kernels.coefficient_slopes(gradient) if wanted[1] else None,
        )

    @staticmethod
    def backward(ctx: Any, v: Tensor | None, x: Tensor | None) -> tuple[Any, ...]:  # type: ignore[override]
        features, coefficients, gradient = ctx.saved_tensors
        wanted = ctx.needs_input_grad[3:]
        if torch.is_grad_enabled():
            found = _by_definition(ctx.tables, ctx.atoms, (features, coefficients, gradient), (v, x), wanted)
            return None, None, None, *found
        kernels = _Kernels(ctx.tables, ctx.atoms, features)
        a = k = g = None
        if v is not None:
            a = kernels.reverse(coefficients, gradient, v) if wanted[0] else None
            k = kernels.coefficient_slopes(gradient, v) if wanted[1] else None
            g = kernels.forward(coefficients, v) if wanted[2] else None
        if x is not None:
            a = _sum(a, kernels.reverse(x, gradient)) if wanted[0] else None
            g = _sum(g, kernels.forward(x)) if wanted[2] else None
        return None, None, None, a, k, g


def _sum(a: Tensor | None, b: Tensor) -> Tensor:
    return b if a is None else a + b


def _by_definition(
    tables: _Tables,
    atoms: _Atoms,
    given: tuple[Tensor, Tensor, Tensor],
    cotangents: tuple[Tensor | None, Tensor | None],
    wanted: tuple[bool, ...],
) -> list[Tensor | None]:
    """Derivatives of ⟨V, P⟩ + ⟨X, Q⟩ in plain torch, to be differentiated again."""
    a, k, g = (t.view_as(t) if t.requires_grad else t.detach().requires_grad_() for t in given)
    f = tables.forward
    padded = torch.cat([a, torch.ones_like(a[:, :1])], 1)
    terms = k.index_select(0, atoms.kind)
    for n in range(f.factors.shape[1]):
        terms = terms * padded.index_select(1, f.factors[:, n])
    rows = f.first.shape[0] - 1
    out = terms.new_zeros((a.shape[0], rows, a.shape[2])).index_add(1, f.row, terms)
    first = torch.autograd.grad(out, (a, k), g, create_graph=True)
    pairs = [(p, c) for p, c in zip(first, cotangents, strict=True) if c is not None]
    inputs = [t for t, w in zip((a, k, g), wanted, strict=True) if w]
    if not pairs or not inputs:
        return [None] * 3
    outputs, along = zip(*pairs, strict=True)
    found = iter(torch.autograd.grad(outputs, inputs, along, create_graph=True, allow_unused=True))
    return [next(found) if w else None for w in wanted]


class _Kernels:
    """Launches for one set of features."""

    def __init__(self, tables: _Tables, atoms: _Atoms, features: Tensor) -> None:
        self.tables, self.atoms = tables, atoms
        self.features = features.detach().contiguous()
        self.rows = tables.forward.first.shape[0] - 1

    def forward(self, coefficients: Tensor, along: Tensor | None = None) -> Tensor:
        return self._products(self.tables.forward, coefficients, None, along)

    def reverse(self, coefficients: Tensor, cotangent: Tensor, along: Tensor | None = None) -> Tensor:
        return self._products(self.tables.reverse, coefficients, cotangent, along)

    def _products(
        self, terms: _Terms, coefficients: Tensor, cotangent: Tensor | None, along: Tensor | None
    ) -> Tensor:
        n, _, channels = self.features.shape
        slots = terms.first.shape[0] - 1
        out = self.features.new_empty((n, slots, channels))
        atom_tile, channel_tile = tile(channels, out, largest=64)
        atom_tile = min(atom_tile, power_of_two(n))
        grid = (blocks(n, atom_tile), blocks(channels, channel_tile), slots)
        start(
            products, grid, out, terms.first, terms.product, terms.row, terms.multiplicity, terms.factors,
            self.atoms.kind, coefficients.detach().contiguous(), self._or_features(cotangent), self.features,
            self._or_features(along), out, n,
            WITH_COTANGENT=cotangent is not None, ALONG=along is not None, ORDER=terms.factors.shape[1],
            CHANNELS=channels, FEATURES=self.tables.n_features, PRODUCTS=coefficients.shape[1],
            ROWS=self.rows, SLOTS=slots, ATOM_TILE=atom_tile, CHANNEL_TILE=channel_tile,
            num_warps=warps(atom_tile * channel_tile),
        )  # fmt: skip
        return out

    def coefficient_slopes(self, cotangent: Tensor, along: Tensor | None = None) -> Tensor:
        terms, channels = self.tables.forward, self.features.shape[2]
        n_products = terms.product.shape[0]
        size = max(64, blocks(self.features.shape[0], 64))
        chunks = [
            (k, at, min(at + size, b))
            for k, (a, b) in enumerate(self.atoms.spans)
            for at in range(a, b, size)
        ]
        spans = torch.tensor([c[1:] for c in chunks], dtype=torch.int64, device=cotangent.device)
        parts = self.features.new_empty((len(chunks), n_products, channels))
        product_tile, channel_tile = tile(channels, parts, largest=64)
        order = spans if self.atoms.order is None else self.atoms.order
        start(
            coefficient_slopes,
            (blocks(n_products, product_tile), blocks(channels, channel_tile), len(chunks)),
            parts, spans, order, terms.row, terms.factors, self._or_features(cotangent), self.features,
            self._or_features(along), parts,
            SORTED=self.atoms.order is None, ALONG=along is not None, ORDER=terms.factors.shape[1],
            CHANNELS=channels, FEATURES=self.tables.n_features, PRODUCTS=n_products, ROWS=self.rows,
            PRODUCT_TILE=product_tile, CHANNEL_TILE=channel_tile,
            num_warps=warps(product_tile * channel_tile),
        )  # fmt: skip
        counts = [sum(c[0] == k for c in chunks) for k in range(len(self.atoms.spans))]
        return torch.stack([p.sum(0) for p in parts.split(counts)])

    def _or_features(self, x: Tensor | None) -> Tensor:
        return self.features if x is None else x.detach().contiguous()
