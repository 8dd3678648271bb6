"""Message passing as one multilinear operation: A_i = Σ_j R(r_ij) · [Y(r̂_ij) ⊗ h_j], with all derivatives.

For each coupling p of harmonics of degree l1 with features of degree l2 to an output of degree l3:

    A[i, p, m3, c] = Σ_{pairs ij} R[ij, p, c] · Σ_{m1 m2} C_p[m1, m2, m3] · Y[ij, m1] · h[j, m2, c]

The operation is linear in each of R, Y and h. Contracting it with a cotangent G gives a form that is linear
in all four, T(R, Y, h, G); the operation and its three derivatives are T with one argument left out, and the
derivative of any of them is again one of the four. So differentiation to any order stays in this family.

Layout: channels last and contiguous everywhere; harmonics and features have their components in the middle.
Output rows are ordered by output block, then component m3, then coupling within the block: block o is a
view [centres, d3, couplings of o, channels], ready for the matrix product that mixes couplings and channels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from .dispatch import choose

_CHUNK_ELEMENTS = 2**18
"""Pairs are taken in chunks of about this many message elements, so that intermediates stay in cache."""


class Coupling(NamedTuple):
    """One way to couple harmonics with features."""

    harmonics: int
    """First row of the degree-l1 harmonics."""
    features: int
    """First row of the degree-l2 features."""
    output: int
    """Number of the output block; blocks are numbered from 0, all couplings of a block have one d3."""
    coefficients: Float[Tensor, "d1 d2 d3"]


class _Group(NamedTuple):
    """Couplings with the same features and the same d3, neighbours in R and in the message."""

    first: int
    last: int
    rows: int
    d3: int


@dataclass(frozen=True, slots=True, eq=False)
class _Block:
    """All couplings that read one block of features."""

    features: slice
    groups: tuple[_Group, ...]
    matrix: Float[Tensor, "harmonics rows_d2"]
    """Harmonics → coefficient of every (row, m2)."""


@dataclass(frozen=True, slots=True, eq=False)
class ConvolutionPlan:
    """A set of couplings, arranged for evaluation. Made by `plan_convolution`."""

    blocks: tuple[_Block, ...]
    n_harmonics: int
    n_features: int
    n_couplings: int
    n_rows: int
    output_shapes: tuple[tuple[int, int], ...]
    """(d3, number of couplings) of each output block; its rows are their product."""
    to_output: Int[Tensor, "rows"]
    """Message rows in output order."""
    from_output: Int[Tensor, "rows"]

    def to(self, like: Tensor) -> "ConvolutionPlan":
        """The same plan with coefficients of another dtype and device."""
        blocks = tuple(_Block(b.features, b.groups, b.matrix.to(like)) for b in self.blocks)
        return ConvolutionPlan(
            blocks,
            self.n_harmonics,
            self.n_features,
            self.n_couplings,
            self.n_rows,
            self.output_shapes,
            self.to_output.to(like.device),
            self.from_output.to(like.device),
        )

    def split(self, out: Float[Tensor, "centres rows channels"]) -> list[Float[Tensor, "centres d3 n channels"]]:
        """The output blocks as views [centres, d3, couplings, channels]."""
        sizes = [d * n for d, n in self.output_shapes]
        parts = out.split(sizes, 1)
        return [p.unflatten(1, shape) for p, shape in zip(parts, self.output_shapes, strict=True)]


def plan_convolution(couplings: Sequence[Coupling], *, n_harmonics: int, n_features: int) -> ConvolutionPlan:
    """Arrange couplings for evaluation.

    R[:, p, :] belongs to couplings[p]. Couplings must be sorted by (features, d3), which makes those that are
    evaluated together neighbours; raises ValueError otherwise, or where blocks disagree in size.
    """
    keys = [(c.features, c.coefficients.shape[2]) for c in couplings]
    if keys != sorted(keys):
        raise ValueError("Couplings must be sorted by (features, output dimension).")
    outputs = sorted({c.output for c in couplings})
    if outputs != list(range(len(outputs))):
        raise ValueError(f"Output blocks must be numbered 0, 1, 2 …; given {outputs}.")
    blocks, labels = [], []
    for start in dict.fromkeys(c.features for c in couplings):
        members = [(p, c) for p, c in enumerate(couplings) if c.features == start]
        blocks.append(_block(members, n_harmonics))
        labels += [(c.output, m, p) for p, c in members for m in range(c.coefficients.shape[2])]
    n = len(labels)
    to_output = torch.tensor(sorted(range(n), key=labels.__getitem__), dtype=torch.int64)
    from_output = torch.empty_like(to_output)
    from_output[to_output] = torch.arange(n)
    shapes = []
    for o in outputs:
        dims = [c.coefficients.shape[2] for c in couplings if c.output == o]
        if len(set(dims)) != 1:
            raise ValueError(f"Output block {o} mixes dimensions {sorted(set(dims))}.")
        shapes.append((dims[0], len(dims)))
    return ConvolutionPlan(
        tuple(blocks), n_harmonics, n_features, len(couplings), n, tuple(shapes), to_output, from_output
    )


def _block(members: list[tuple[int, Coupling]], n_harmonics: int) -> _Block:
    d2 = members[0][1].coefficients.shape[1]
    columns, groups, rows = [], [], 0
    for p, c in members:
        d1, other, d3 = c.coefficients.shape
        if other != d2:
            raise ValueError(f"Features from row {c.features} are used with dimensions {d2} and {other}.")
        m = c.coefficients.new_zeros((n_harmonics, d3, d2))
        m[c.harmonics : c.harmonics + d1] = c.coefficients.transpose(1, 2)
        columns.append(m)
        if groups and groups[-1].d3 == d3:
            groups[-1] = groups[-1]._replace(last=p + 1)
        else:
            groups.append(_Group(p, p + 1, rows, d3))
        rows += d3
    start = members[0][1].features
    return _Block(slice(start, start + d2), tuple(groups), torch.cat(columns, 1).flatten(1))


def pair_convolution(
    plan: ConvolutionPlan,
    i: Int[Tensor, "pairs"],
    j: Int[Tensor, "pairs"],
    radial: Float[Tensor, "pairs couplings channels"],
    harmonics: Float[Tensor, "pairs lm"],
    features: Float[Tensor, "senders d channels"],
    n_centres: int,
) -> Float[Tensor, "centres rows channels"]:
    """A_i = Σ_j R_p,c(r_ij) · C_p(Y(r̂_ij) ⊗ h_j,c) for every coupling p of the plan.

    `i` sorted makes the sum over neighbours sequential. Differentiable in reverse mode to any order in
    radial, harmonics and features; forward mode raises NotImplementedError; works under vmap.
    Raises ValueError where a shape does not fit the plan.
    """
    _check(plan, i, j, radial, harmonics, features)
    plan = plan if plan.blocks[0].matrix.dtype == radial.dtype else plan.to(radial)
    shape = _Shape(n_centres, features.shape[0])
    return _Family.apply(0, plan, shape, i, j, None, radial, harmonics, features)  # type: ignore[no-any-return, no-untyped-call]


class _Shape(NamedTuple):
    n_centres: int
    n_senders: int


def _check(plan: ConvolutionPlan, i: Tensor, j: Tensor, radial: Tensor, harmonics: Tensor, features: Tensor) -> None:
    n, c = i.shape[0], features.shape[-1]
    expected = {
        "j": ((n,), j.shape),
        "radial": ((n, plan.n_couplings, c), radial.shape),
        "harmonics": ((n, plan.n_harmonics), harmonics.shape),
        "features": ((features.shape[0], plan.n_features, c), features.shape),
    }
    for name, (wanted, given) in expected.items():
        if tuple(given) != wanted:
            raise ValueError(f"pair_convolution: {name} has shape {tuple(given)}; this plan needs {wanted}.")


class _Family(torch.autograd.Function):
    """T(G, R, Y, h) with the argument number `target` left out (None): 0 output, 1 R, 2 Y, 3 h."""

    generate_vmap_rule = True

    @staticmethod
    def forward(target: int, plan: ConvolutionPlan, shape: _Shape, i: Tensor, j: Tensor, *args: Any) -> Tensor:
        example = next(a for a in args if a is not None)
        implementation = choose("pair_convolution", evaluate, example)
        return implementation(target, plan, shape, i, j, *args)  # type: ignore[no-any-return]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.target, ctx.plan, ctx.shape, i, j, *args = inputs
        ctx.save_for_backward(i, j, *args)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:  # type: ignore[override]
        i, j, *args = ctx.saved_tensors
        args[ctx.target] = gradient
        out: list[Tensor | None] = []
        for k in range(4):
            if not ctx.needs_input_grad[5 + k]:
                out.append(None)
                continue
            rest = [None if n == k else a for n, a in enumerate(args)]
            out.append(_Family.apply(k, ctx.plan, ctx.shape, i, j, *rest))  # type: ignore[no-untyped-call]
        return (None, None, None, None, None, *out)


def evaluate(
    target: int,
    plan: ConvolutionPlan,
    shape: _Shape,
    i: Tensor,
    j: Tensor,
    cotangent: Tensor | None,
    radial: Tensor | None,
    harmonics: Tensor | None,
    features: Tensor | None,
) -> Tensor:
    """The plain-torch definition of the four members of the family."""
    if cotangent is not None:
        cotangent = cotangent.index_select(1, plan.from_output)
    channels = next(t for t in (cotangent, features) if t is not None).shape[-1]
    size = max(64, _CHUNK_ELEMENTS // (plan.n_rows * channels))
    rows, columns, summed = [], [], None
    for start in range(0, max(i.shape[0], 1), size):
        part = slice(start, start + size)
        chunk = _Chunk(
            plan,
            None if cotangent is None else cotangent.index_select(0, i[part]),
            None if radial is None else radial[part],
            None if harmonics is None else harmonics[part],
            None if features is None else features.index_select(0, j[part]),
        )
        if target == 1:
            rows.append(chunk.for_radial())
        elif target == 2:
            rows.append(chunk.for_harmonics())
        else:
            values = [chunk.message()] if target == 0 else chunk.for_features()
            if summed is None:
                n = shape.n_centres if target == 0 else shape.n_senders
                summed = [v.new_zeros((n, *v.shape[1:])) for v in values]
            index = i[part] if target == 0 else j[part]
            summed = [s.index_add(0, index, v) for s, v in zip(summed, values, strict=True)]
    if summed is None:
        return torch.cat(rows) if len(rows) > 1 else rows[0]
    if target == 0:
        return summed[0].index_select(1, plan.to_output)
    columns = [(b.features.start, s) for b, s in zip(plan.blocks, summed, strict=True)]
    return _assemble(columns, plan.n_features)


def _assemble(columns: list[tuple[int, Tensor]], n_rows: int) -> Tensor:
    """Put blocks of rows side by side, with zeros where no coupling reads the features."""
    out, at = [], 0
    for start, block in sorted(columns, key=lambda pair: pair[0]):
        if start > at:
            out.append(block.new_zeros((block.shape[0], start - at, block.shape[2])))
        out.append(block)
        at = start + block.shape[1]
    if at < n_rows:
        last = out[-1]
        out.append(last.new_zeros((last.shape[0], n_rows - at, last.shape[2])))
    return torch.cat(out, 1) if len(out) > 1 else out[0]


class _Chunk(NamedTuple):
    """Some pairs with what is known about them: cotangent and features already gathered per pair."""

    plan: ConvolutionPlan
    cotangent: Tensor | None
    radial: Tensor | None
    harmonics: Tensor | None
    features: Tensor | None

    def _rotation(self, block: _Block) -> Tensor:
        """C·Y as a matrix [pairs, rows, d2] that acts on features."""
        assert self.harmonics is not None
        d2 = block.features.stop - block.features.start
        return (self.harmonics @ block.matrix).unflatten(1, (-1, d2))

    def _coupled(self, block: _Block) -> Tensor:
        """C·(Y ⊗ h), [pairs, rows, channels]."""
        assert self.features is not None
        rotation = self._rotation(block)
        feature = self.features[:, block.features]
        return rotation * feature if feature.shape[1] == 1 else rotation @ feature

    def _weighted(self, block: _Block, rows: Tensor) -> Tensor:
        """R times rows of a block, each row with its coupling's R."""
        assert self.radial is not None
        parts = []
        for g in block.groups:
            n = g.last - g.first
            piece = rows[:, g.rows : g.rows + n * g.d3].unflatten(1, (n, g.d3))
            parts.append((piece * self.radial[:, g.first : g.last, None]).flatten(1, 2))
        return torch.cat(parts, 1) if len(parts) > 1 else parts[0]

    def _weighted_cotangents(self) -> list[Tensor]:
        assert self.cotangent is not None
        return [self._weighted(b, rows) for b, rows in zip(self.plan.blocks, self._by_block(), strict=True)]

    def _by_block(self) -> tuple[Tensor, ...]:
        assert self.cotangent is not None
        sizes = [b.matrix.shape[1] // (b.features.stop - b.features.start) for b in self.plan.blocks]
        return self.cotangent.split(sizes, 1)

    def message(self) -> Tensor:
        parts = [self._weighted(b, self._coupled(b)) for b in self.plan.blocks]
        return torch.cat(parts, 1) if len(parts) > 1 else parts[0]

    def for_radial(self) -> Tensor:
        out = []
        for block, cotangent in zip(self.plan.blocks, self._by_block(), strict=True):
            product = self._coupled(block) * cotangent
            for g in block.groups:
                n = g.last - g.first
                out.append(product[:, g.rows : g.rows + n * g.d3].unflatten(1, (n, g.d3)).sum(2))
        return torch.cat(out, 1) if len(out) > 1 else out[0]

    def for_harmonics(self) -> Tensor:
        assert self.features is not None
        total = None
        for block, weighted in zip(self.plan.blocks, self._weighted_cotangents(), strict=True):
            inner = weighted @ self.features[:, block.features].transpose(1, 2)
            part = inner.flatten(1) @ block.matrix.T
            total = part if total is None else total + part
        assert total is not None
        return total

    def for_features(self) -> list[Tensor]:
        out = []
        for block, weighted in zip(self.plan.blocks, self._weighted_cotangents(), strict=True):
            rotation = self._rotation(block)
            if rotation.shape[2] == 1:
                out.append((rotation * weighted).sum(1, keepdim=True))
            else:
                out.append(rotation.transpose(1, 2) @ weighted)
        return out
