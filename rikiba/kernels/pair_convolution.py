"""Message passing as one multilinear operation: A_i = Σ_j R(r_ij) · [Y(r̂_ij) ⊗ h_j], with all derivatives.

For each coupling p of harmonics of degree l1 with features of degree l2 to an output of degree l3:

    A[i, p, m3, c] = Σ_{pairs ij} R[ij, p, c] · Σ_{m1 m2} C_p[m1, m2, m3] · Y[ij, m1] · h[j, m2, c]

The operation is linear in each of R, Y and h. Contracting it with a cotangent G gives a form that is linear
in all four, T(G, R, Y, h); the operation and its three derivatives are T with one argument left out, and the
derivative of any of them is again one of the four. So differentiation to any order stays in this family.
One function evaluates any subset of the four at once, because they share most of their work.

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

from .dispatch import choose, needed_inputs

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

    @property
    def n_rows(self) -> int:
        return self.matrix.shape[1] // (self.features.stop - self.features.start)


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

    def split(
        self, out: Float[Tensor, "centres rows channels"]
    ) -> list[Float[Tensor, "centres d3 n channels"]]:
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
    groups: list[_Group] = []
    columns, rows = [], 0
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
    (out,) = _Family.apply((0,), plan, shape, i, j, None, radial, harmonics, features)  # type: ignore[no-untyped-call]
    return out  # type: ignore[no-any-return]


class _Shape(NamedTuple):
    n_centres: int
    n_senders: int


def _check(
    plan: ConvolutionPlan, i: Tensor, j: Tensor, radial: Tensor, harmonics: Tensor, features: Tensor
) -> None:
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
    """Derivatives of T(G, R, Y, h) with respect to the slots in `targets`: 0 G, 1 R, 2 Y, 3 h, sharing work.

    An argument is None only where it is the single target (its own value does not enter).
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(
        targets: tuple[int, ...], plan: ConvolutionPlan, shape: _Shape, i: Tensor, j: Tensor, *args: Any
    ) -> tuple[Tensor, ...]:
        example = next(a for a in args if a is not None)
        implementation = choose("pair_convolution", evaluate, example)
        return implementation(targets, plan, shape, i, j, *args)  # type: ignore[no-any-return]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.targets, ctx.plan, ctx.shape, i, j, *args = inputs
        ctx.save_for_backward(i, j, *args)
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Any, ...]:  # type: ignore[override]
        i, j, *args = ctx.saved_tensors
        needed = needed_inputs(ctx, (None, None, None, i, j, *args))[5:]
        total: list[Tensor | None] = [None] * 4
        fixed = (None,) * 5
        if ctx.targets != (0,) and not torch.is_grad_enabled() and not needed[2]:
            changes: list[Tensor | None] = [None] * 4
            for slot, gradient in zip(ctx.targets, gradients, strict=True):
                changes[slot] = gradient
            second = choose("pair_convolution_second", _no_second, i)
            found = second(needed, ctx.plan, ctx.shape, i, j, args, changes)
            if found is not None:
                return (*fixed, *found)
        for slot, gradient in zip(ctx.targets, gradients, strict=True):
            wanted = tuple(k for k in range(4) if k != slot and needed[k])
            if gradient is None or not wanted:
                continue
            changed = [gradient if k == slot else a for k, a in enumerate(args)]
            if len(wanted) == 1:
                changed[wanted[0]] = None
            found = _Family.apply(wanted, ctx.plan, ctx.shape, i, j, *changed)  # type: ignore[no-untyped-call]
            for k, value in zip(wanted, found, strict=True):
                before = total[k]
                total[k] = value if before is None else before + value
        return (*fixed, *total)


def _no_second(*_: Any) -> None:
    """Nothing faster than a sum over the slots."""


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
    """The plain-torch definition: ∂T/∂(slot) for each of `targets`."""
    if cotangent is not None:
        cotangent = cotangent.index_select(1, plan.from_output)
    channels = next(t for t in (cotangent, features) if t is not None).shape[-1]
    size = max(64, _CHUNK_ELEMENTS // (plan.n_rows * channels))
    per_pair: dict[int, list[Tensor]] = {k: [] for k in targets if k in (1, 2)}
    per_atom: dict[int, Tensor] = {}
    for start in range(0, max(i.shape[0], 1), size):
        part = slice(start, start + size)
        chunk = _Chunk(
            plan,
            None if cotangent is None else cotangent.index_select(0, i[part]),
            None if radial is None else radial[part],
            None if harmonics is None else harmonics[part],
            None if features is None else features.index_select(0, j[part]),
        )
        for k, value in chunk.derivatives(targets).items():
            if k in per_pair:
                per_pair[k].append(value)
                continue
            n, index = (shape.n_centres, i) if k == 0 else (shape.n_senders, j)
            if k not in per_atom:
                per_atom[k] = value.new_zeros((n, *value.shape[1:]))
            per_atom[k] = per_atom[k].index_add(0, index[part], value)
    out = {k: torch.cat(v) if len(v) > 1 else v[0] for k, v in per_pair.items()} | per_atom
    if 0 in out:
        out[0] = out[0].index_select(1, plan.to_output)
    return tuple(out[k] for k in targets)


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

    def derivatives(self, targets: tuple[int, ...]) -> dict[int, Tensor]:
        """∂T/∂(slot), one row per pair; slots 0 and 3 are still to be summed over pairs."""
        plan = self.plan
        cotangents = (
            None if self.cotangent is None else self.cotangent.split([b.n_rows for b in plan.blocks], 1)
        )
        messages: list[Tensor] = []
        radial: list[Tensor] = []
        harmonics: Tensor | None = None
        features: list[tuple[int, Tensor]] = []
        for n, block in enumerate(plan.blocks):
            rotation = self._rotation(block) if any(k != 2 for k in targets) else None
            weighted = None
            if 2 in targets or 3 in targets:
                assert cotangents is not None
                weighted = self._weighted(block, cotangents[n])
            if 0 in targets or 1 in targets:
                assert rotation is not None
                coupled = self._coupled(block, rotation)
                if 0 in targets:
                    messages.append(self._weighted(block, coupled))
                if 1 in targets:
                    assert cotangents is not None
                    radial += _per_coupling(block, coupled * cotangents[n])
            if 2 in targets:
                part = self._for_harmonics(block, weighted)
                harmonics = part if harmonics is None else harmonics + part
            if 3 in targets:
                features.append((block.features.start, _for_features(rotation, weighted)))
        out: dict[int, Tensor] = {}
        if messages:
            out[0] = torch.cat(messages, 1) if len(messages) > 1 else messages[0]
        if radial:
            out[1] = torch.cat(radial, 1) if len(radial) > 1 else radial[0]
        if harmonics is not None:
            out[2] = harmonics
        if features:
            out[3] = _assemble(features, plan.n_features)
        return out

    def _rotation(self, block: _Block) -> Tensor:
        """C·Y as a matrix [pairs, rows, d2] that acts on features."""
        assert self.harmonics is not None
        d2 = block.features.stop - block.features.start
        return (self.harmonics @ block.matrix).unflatten(1, (-1, d2))

    def _coupled(self, block: _Block, rotation: Tensor) -> Tensor:
        """C·(Y ⊗ h), [pairs, rows, channels]."""
        assert self.features is not None
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

    def _for_harmonics(self, block: _Block, weighted: Tensor | None) -> Tensor:
        assert self.features is not None and weighted is not None
        inner = weighted @ self.features[:, block.features].transpose(1, 2)
        return inner.flatten(1) @ block.matrix.T


def _per_coupling(block: _Block, product: Tensor) -> list[Tensor]:
    """Sums over the components of each coupling, [pairs, couplings, channels] per group."""
    out = []
    for g in block.groups:
        n = g.last - g.first
        rows = product[:, g.rows : g.rows + n * g.d3]
        out.append(rows if g.d3 == 1 else rows.unflatten(1, (n, g.d3)).sum(2))
    return out


def _for_features(rotation: Tensor | None, weighted: Tensor | None) -> Tensor:
    assert rotation is not None and weighted is not None
    if rotation.shape[2] == 1:
        return (rotation * weighted).sum(1, keepdim=True)
    return rotation.transpose(1, 2) @ weighted
