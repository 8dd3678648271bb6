"""Equivariant layers on features with any representations, each with its own number of channels.

Features are one tensor [atoms, 2l+1, channels] per representation, in the order of an `Irreps`. Weights start
standard normal and are scaled in use by 1/√(inputs), so that every layer keeps unit variance.
"""

from collections.abc import Iterator, Sequence
from math import sqrt
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from rikiba.kernels.grouping import TypeGroups, matmul_by_type
from rikiba.kernels.pair_convolution import ConvolutionPlan, Coupling, plan_convolution

from .equivariant import PlanStore
from .irreps import Irrep, Irreps
from .radial_spline import SplinePoints, convolve
from .so3 import clebsch_gordan

Features = list[Tensor]
"""One tensor [atoms, 2l+1, channels] per representation."""


def harmonics_of(l_max: int, *, inversion: bool = True) -> tuple[Irrep, ...]:
    """Representations of the spherical harmonics of degree 0 … l_max; all even if inversion is ignored."""
    return tuple(Irrep(l, (-1) ** l if inversion else 1) for l in range(l_max + 1))


def reaches(features: Irrep, output: Irrep, harmonics: Sequence[Irrep]) -> bool:
    """Whether these harmonics take these features to that output."""
    return any(output in features * h for h in harmonics)


class Path(NamedTuple):
    """One coupling harmonics ⊗ features → output."""

    harmonics: int
    """Their degree."""
    features: Irrep
    output: Irrep


def coupling_paths(
    features: Sequence[Irrep], outputs: Sequence[Irrep], harmonics: Sequence[Irrep]
) -> list[Path]:
    """All couplings of features with harmonics to the outputs.

    By features as given, then by degree and parity (natural first) of the output, then by harmonics.
    """
    return [
        Path(h.l, f, o)
        for f in features
        for o in sorted(outputs, key=lambda ir: (ir.l, not ir.natural))
        for h in harmonics
        if o in f * h
    ]


class _Stream:
    """Features with the same number of channels, convolved together."""

    def __init__(
        self, irreps_in: Irreps, outputs: Sequence[Irrep], harmonics: Sequence[Irrep], channels: int
    ) -> None:
        self.channels = channels
        self.members = [k for k, (n, _) in enumerate(irreps_in.terms) if n == channels]
        features = [irreps_in.terms[k][1] for k in self.members]
        paths = coupling_paths(features, outputs, harmonics)
        self.outputs = [o for o in outputs if any(p.output == o for p in paths)]
        """Representations of the plan's output blocks."""
        self.paths = paths
        rows = {ir: sum(g.dim for g in features[:k]) for k, ir in enumerate(features)}
        couplings = [
            Coupling(
                p.harmonics**2,
                rows[p.features],
                self.outputs.index(p.output),
                sqrt(p.output.dim) * clebsch_gordan(p.features.l, p.harmonics, p.output.l).transpose(0, 1),
            )
            for p in paths
        ]
        plan = plan_convolution(
            couplings, n_harmonics=len(harmonics) ** 2, n_features=sum(ir.dim for ir in features)
        )
        self.plan: PlanStore[ConvolutionPlan] = PlanStore(plan)

    def paths_to(self, output: Irrep) -> list[Path]:
        """Couplings of one output block, in the order of its rows."""
        return [p for p in self.paths if p.output == output]


class IrrepConvolution(nn.Module):
    """A_i = Σ_p W_p Σ_j R_p(r_ij) · [Y(r̂_ij) ⊗ h_j]_p, couplings p mixed per representation.

    The radial weights R are given, one column per coupling and channel of the features: for each number of
    channels in turn, the couplings of `coupling_paths`, channels last. Component normalisation: each
    coupling carries √(2·l3+1).

    Args:
        irreps_in: representations of the features.
        irreps_out: those of the output, each of which the features must reach.
        harmonics: representations of the harmonics of degree 0, 1, 2 …
    """

    def __init__(self, *, irreps_in: Irreps, irreps_out: Irreps, harmonics: Sequence[Irrep]) -> None:
        super().__init__()
        outputs = [ir for _, ir in irreps_out.terms]
        counts = sorted({n for n, _ in irreps_in.terms}, reverse=True)
        self.streams = [_Stream(irreps_in, outputs, harmonics, n) for n in counts]
        self.outputs = tuple(outputs)
        self.mix = nn.ParameterList()
        for n, ir in irreps_out.terms:
            inputs = sum(len(s.paths_to(ir)) * s.channels for s in self.streams)
            if not inputs:
                raise ValueError(
                    f"Features {irreps_in} with harmonics up to l = {len(harmonics) - 1} do not reach {ir}."
                )
            self.mix.append(nn.Parameter(torch.randn(inputs, n)))

    @property
    def n_weights(self) -> int:
        """Columns of the radial weights."""
        return sum(len(s.paths) * s.channels for s in self.streams)

    def join(self, features: Features) -> list[Float[Tensor, "atoms d channels"]]:
        """Features with equal numbers of channels side by side, as `forward` reads them."""
        joined = [[features[k] for k in s.members] for s in self.streams]
        return [torch.cat(parts, 1) if len(parts) > 1 else parts[0] for parts in joined]

    def forward(
        self,
        i: Int[Tensor, "pairs"],
        j: Int[Tensor, "pairs"],
        radial: Float[Tensor, "rows n_weights"],
        harmonics: Float[Tensor, "pairs lm"],
        joined: list[Float[Tensor, "atoms d channels"]],
        points: SplinePoints | None = None,
    ) -> Features:
        """With `points` the rows of `radial` are a spline's coefficients, not pairs."""
        found: list[Tensor | None] = [None] * len(self.outputs)
        columns = radial.split([len(s.paths) * s.channels for s in self.streams], 1)
        first = [0] * len(self.outputs)
        for stream, weights, features in zip(self.streams, columns, joined, strict=True):
            plan = stream.plan.like(radial)
            weights = weights.unflatten(1, (len(stream.paths), stream.channels))
            out = convolve(plan, i, j, weights, points, harmonics, features, features.shape[0])
            for ir, block in zip(stream.outputs, plan.split(out), strict=True):
                o, flat = self.outputs.index(ir), block.flatten(2)
                w = self.mix[o]
                rows = w[first[o] : first[o] + flat.shape[2]] * (1.0 / sqrt(w.shape[0]))
                first[o] += flat.shape[2]
                before = found[o]
                found[o] = flat @ rows if before is None else before + flat @ rows
        return [f for f in found if f is not None]


class IrrepLinear(nn.Module):
    """y = x W/√inputs for each representation.

    Args:
        irreps_in: representations of the input.
        irreps_out: those of the output; only those present in the input too have a weight.
    """

    def __init__(self, *, irreps_in: Irreps, irreps_out: Irreps) -> None:
        super().__init__()
        self.pairs = tuple(shared(irreps_in, irreps_out))
        sizes = [(irreps_in.terms[a][0], irreps_out.terms[b][0]) for a, b in self.pairs]
        self.weights = nn.ParameterList([nn.Parameter(torch.randn(n, m)) for n, m in sizes])

    def forward(self, x: Features, factor: float = 1.0) -> dict[int, Tensor]:
        """Number of the output → factor times the result."""
        return {
            b: x[a] @ (w * (factor / sqrt(w.shape[0])))
            for (a, b), w in zip(self.pairs, self.weights, strict=True)
        }


class SelfConnection(nn.Module):
    """y_i = x_i W[type of i] for each representation, or one W for all types.

    'types': W[t]/√(inputs · types), the product with one-hot types. 'embedding': the product with vectors a
    of the types, W[t] = Σ_e a_te W_e/√(inputs · n_e). 'linear': W/√inputs.

    Args:
        irreps_in: representations of the input.
        irreps_out: those of the output; only those present in the input too have a weight.
        kind: types, embedding or linear.
        types: number of elements.
        embedding: length of the types' embedding.
    """

    def __init__(
        self,
        *,
        irreps_in: Irreps,
        irreps_out: Irreps,
        kind: Literal["types", "embedding", "linear"],
        types: int,
        embedding: int,
    ) -> None:
        super().__init__()
        self.kind = kind
        self.pairs = tuple(shared(irreps_in, irreps_out))
        attributes = {"types": types, "embedding": embedding, "linear": 1}[kind]
        sizes = [(attributes, irreps_in.terms[a][0], irreps_out.terms[b][0]) for a, b in self.pairs]
        self.weights = nn.ParameterList([nn.Parameter(torch.randn(*size)) for size in sizes])

    def forward(
        self, x: Features, groups: TypeGroups, embedding: Float[Tensor, "types n_e"]
    ) -> dict[int, Tensor]:
        """Number of the output → result."""
        found = {}
        for (a, b), w in zip(self.pairs, self.weights, strict=True):
            w = w * (1.0 / sqrt(w.shape[0] * w.shape[1]))
            if self.kind == "linear":
                found[b] = x[a] @ w[0]
                continue
            if self.kind == "embedding":
                w = (embedding @ w.flatten(1)).unflatten(1, w.shape[1:])
            found[b] = matmul_by_type(x[a], w, groups)
        return found


def shared(irreps_in: Irreps, irreps_out: Irreps) -> Iterator[tuple[int, int]]:
    """(number among the inputs, number among the outputs) of every representation in both."""
    outputs = [ir for _, ir in irreps_out.terms]
    for a, (_, ir) in enumerate(irreps_in.terms):
        if ir in outputs:
            yield a, outputs.index(ir)


def useful_irreps(hidden: Sequence[Irreps], *, first: Irreps, harmonics: Sequence[Irrep]) -> list[Irreps]:
    """What passes from layer to layer of a message-passing network, given all that each layer may put out.

    Of layer t's output only those representations are kept that its input can make and that a later layer
    turns into something that the last layer's output still sees. Dropping the others changes no result: with
    both parities allowed, those of unnatural parity matter from the fourth layer on, 0o from the sixth.
    Raises ValueError where nothing of the last layer's output is within reach.
    """
    kept = [first]
    for wanted in hidden:
        before = [ir for _, ir in kept[-1].terms]
        kept.append(
            Irreps(tuple((n, o) for n, o in wanted.terms if any(reaches(f, o, harmonics) for f in before)))
        )
    if not kept[-1].terms:
        raise ValueError(f"The last layer cannot reach {hidden[-1]}.")
    for t in range(len(kept) - 2, -1, -1):
        after = [ir for _, ir in kept[t + 1].terms]
        terms = kept[t].terms
        kept[t] = Irreps(tuple((n, f) for n, f in terms if any(reaches(f, o, harmonics) for o in after)))
    return kept
