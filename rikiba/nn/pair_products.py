"""Strictly local equivariant features: those of pairs, and their product with the surroundings of the centre.

Features of pairs are [pairs, channels, components], the components of one representation after another.
"""

from collections.abc import Sequence
from math import sqrt
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from rikiba.kernels.pair_convolution import ConvolutionPlan, Coupling, pair_convolution, plan_convolution

from .equivariant import PlanStore
from .irreps import Irrep
from .so3 import clebsch_gordan, degrees


class PairPath(NamedTuple):
    """One coupling features ⊗ surroundings → output, each by its number in its list."""

    features: int
    surroundings: int
    output: int


def pair_paths(
    features: Sequence[Irrep], surroundings: Sequence[Irrep], outputs: Sequence[Irrep]
) -> list[PairPath]:
    """All couplings: by output, then features, then surroundings."""
    return [
        PairPath(a, b, o)
        for o, out in enumerate(outputs)
        for a, x in enumerate(features)
        for b, y in enumerate(surroundings)
        if out in x * y
    ]


def reachable(wanted: Sequence[Irrep], harmonics: Sequence[Irrep], n_layers: int) -> list[tuple[Irrep, ...]]:
    """Features before each of `n_layers` products with the harmonics and after the last, 0e alone there.

    Of the `wanted` ones those that the features before can make and that lead to 0e in the end; the first
    are the harmonics.
    """
    kept: list[tuple[Irrep, ...]] = [tuple(harmonics)]
    for t in range(n_layers):
        allowed = (Irrep(0, 1),) if t == n_layers - 1 else wanted
        kept.append(tuple(o for o in allowed if any(o in x * y for x in kept[-1] for y in harmonics)))
    for t in range(n_layers - 1, -1, -1):
        after = kept[t + 1]
        kept[t] = tuple(x for x in kept[t] if any(o in x * y for y in harmonics for o in after))
    return kept


class Surroundings(nn.Module):
    """Γ_i = Σ_j w_ij,l Y_l(r̂_ij): a weight for each pair, degree and channel.

    Args:
        l_max: highest degree.
    """

    def __init__(self, *, l_max: int) -> None:
        super().__init__()
        couplings = [
            Coupling(rows.start, 0, l, torch.eye(2 * l + 1, dtype=torch.float64)[:, None, :])
            for l, rows in enumerate(degrees(l_max))
        ]
        plan = plan_convolution(couplings, n_harmonics=(l_max + 1) ** 2, n_features=1)
        self.plan: PlanStore[ConvolutionPlan] = PlanStore(plan)

    def forward(
        self,
        i: Int[Tensor, "pairs"],
        weights: Float[Tensor, "pairs degrees channels"],
        harmonics: Float[Tensor, "pairs lm"],
        n_atoms: int,
    ) -> Float[Tensor, "atoms lm channels"]:
        ones = weights.new_ones(1, 1, weights.shape[2])
        nobody = torch.zeros_like(i)
        return pair_convolution(self.plan.like(weights), i, nobody, weights, harmonics, ones, n_atoms)


class PairProduct(nn.Module):
    """y_o,c = Σ_p W_pc √(2·l_o+1) Σ C_p x_a,c ⊗ Γ_b,c: channel by channel, over couplings p = (a, b) → o.

    Args:
        features: representations of x.
        surroundings: representations of Γ.
        outputs: those of y, each of which must be within reach.
        channels: of all three.
        mixed: a weight for each coupling and channel; otherwise one for each coupling.
    """

    def __init__(
        self,
        *,
        features: Sequence[Irrep],
        surroundings: Sequence[Irrep],
        outputs: Sequence[Irrep],
        channels: int,
        mixed: bool,
    ) -> None:
        super().__init__()
        self.features, self.surroundings = tuple(features), tuple(surroundings)
        self.outputs = tuple(outputs)
        self.paths = pair_paths(features, surroundings, outputs)
        self.weights = nn.Parameter(torch.randn(len(self.paths), channels if mixed else 1))
        self._matrices: dict[tuple[torch.dtype, torch.device], list[Tensor]] = {}

    def coefficients(self, path: PairPath) -> Float[Tensor, "d_a d_b d_o"]:
        """√(2·l_o+1) C of one coupling, float64."""
        a, b, o = (
            self.features[path.features],
            self.surroundings[path.surroundings],
            self.outputs[path.output],
        )
        return sqrt(o.dim) * clebsch_gordan(a.l, b.l, o.l)

    def forward(
        self, x: Float[Tensor, "pairs channels d_x"], around: Float[Tensor, "pairs channels d_around"]
    ) -> Float[Tensor, "pairs channels d_y"]:
        parts = x.split([ir.dim for ir in self.features], 2)
        others = around.split([ir.dim for ir in self.surroundings], 2)
        found: list[Tensor | None] = [None] * len(self.outputs)
        for (a, b), matrix in zip(self._blocks(), self._constants(x), strict=True):
            members = [k for k, p in enumerate(self.paths) if (p.features, p.surroundings) == (a, b)]
            outer = (parts[a].unsqueeze(3) * others[b].unsqueeze(2)).flatten(2)
            sizes = [self.outputs[self.paths[k].output].dim for k in members]
            for k, y in zip(members, (outer @ matrix).split(sizes, 2), strict=True):
                o = self.paths[k].output
                y = y * self.weights[k][:, None]
                before = found[o]
                found[o] = y if before is None else before + y
        return torch.cat([f for f in found if f is not None], 2)

    def _blocks(self) -> list[tuple[int, int]]:
        """Pairs of representations that any coupling takes."""
        return sorted({(p.features, p.surroundings) for p in self.paths})

    def _constants(self, like: Tensor) -> list[Tensor]:
        """For each block the coefficients of its couplings side by side, [d_a·d_b, Σ d_o]."""
        key = (like.dtype, like.device)
        if key not in self._matrices:
            self._matrices[key] = [
                torch.cat(
                    [
                        self.coefficients(p).flatten(0, 1)
                        for p in self.paths
                        if (p.features, p.surroundings) == block
                    ],
                    1,
                ).to(like)
                for block in self._blocks()
            ]
        return self._matrices[key]
