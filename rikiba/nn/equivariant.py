"""Layers that keep the behaviour of features under rotation.

Features are [atoms, lm, channels]: the components of degree 0, 1 … one after another, channels last, the same
number of channels for every degree. Weights start standard normal and are scaled in use by 1/√(inputs), so
that every layer keeps unit variance.
"""

from collections.abc import Callable, Sequence
from math import sqrt
from typing import Generic, TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from rikiba.kernels.grouping import TypeGroups, matmul_by_type
from rikiba.kernels.pair_convolution import ConvolutionPlan, Coupling, plan_convolution
from rikiba.kernels.symmetric_contraction import ContractionPlan, plan_contraction, symmetric_contraction

from .coupling import symmetric_couplings
from .radial_spline import SplinePoints, convolve
from .so3 import clebsch_gordan, degrees

P = TypeVar("P", ConvolutionPlan, ContractionPlan)


class PlanStore(Generic[P]):
    """A kernel's plan in float64, and the copies made so far for other dtypes and devices."""

    def __init__(self, plan: P) -> None:
        self.master: P = plan
        self._copies: dict[tuple[torch.dtype, torch.device], P] = {}

    def like(self, x: Tensor) -> P:
        key = (x.dtype, x.device)
        if key not in self._copies:
            self._copies[key] = self.master.to(x)
        return self._copies[key]


class DegreeLinear(nn.Module):
    """y_lm = x_lm W_l/√inputs for each degree l = 0 … l_max of the output.

    Args:
        channels_in: channels of the input.
        channels_out: channels of the output.
        l_max: highest degree of the output; higher degrees of the input are not read.
    """

    def __init__(self, *, channels_in: int, channels_out: int, l_max: int) -> None:
        super().__init__()
        self.scale = 1.0 / sqrt(channels_in)
        self.weight = nn.Parameter(torch.randn(l_max + 1, channels_in, channels_out))

    def forward(self, x: Float[Tensor, "atoms lm n_in"]) -> Float[Tensor, "atoms lm_out n_out"]:
        weight = self.weight * self.scale
        parts = [x[:, rows] @ weight[l] for l, rows in enumerate(degrees(weight.shape[0] - 1))]
        return torch.cat(parts, 1) if len(parts) > 1 else parts[0]


class TypedDegreeLinear(nn.Module):
    """y_i,lm = x_i,lm W_l[type of i]/√(inputs · types): a linear layer for each element.

    The number of types is in the norm because the layer stands for a product with one-hot types.

    Args:
        types: number of elements.
        channels_in: channels of the input.
        channels_out: channels of the output.
        l_max: highest degree of the output; higher degrees of the input are not read.
    """

    def __init__(self, *, types: int, channels_in: int, channels_out: int, l_max: int) -> None:
        super().__init__()
        self.scale = 1.0 / sqrt(channels_in * types)
        self.weight = nn.Parameter(torch.randn(l_max + 1, types, channels_in, channels_out))

    def forward(
        self, x: Float[Tensor, "atoms lm n_in"], groups: TypeGroups
    ) -> Float[Tensor, "atoms lm_out n_out"]:
        weight = self.weight * self.scale
        rows = degrees(weight.shape[0] - 1)
        parts = [matmul_by_type(x[:, s], weight[l], groups) for l, s in enumerate(rows)]
        return torch.cat(parts, 1) if len(parts) > 1 else parts[0]


def natural_paths(l_harmonics: int, l_features: int, l_out: int) -> list[tuple[int, int, int]]:
    """(l1, l2, l3) of all couplings harmonics ⊗ features → output with parity (−1)^l everywhere.

    In the order that `plan_convolution` wants: by l2, then l3, then l1.
    """
    return [
        (l1, l2, l3)
        for l2 in range(l_features + 1)
        for l3 in range(l_out + 1)
        for l1 in range(abs(l2 - l3), min(l2 + l3, l_harmonics) + 1)
        if (l1 + l2 + l3) % 2 == 0
    ]


class Convolution(nn.Module):
    """A_i = Σ_p W_p Σ_j R_p(r_ij) · [Y(r̂_ij) ⊗ h_j]_p, couplings p mixed per degree; natural parity.

    The radial weights R [pairs, couplings, channels] are given; component normalisation: each coupling
    carries √(2·l3+1).

    Args:
        channels: channels of the features and of the output.
        l_harmonics: highest degree of the harmonics.
        l_features: highest degree of the features.
        l_out: highest degree of the output.
    """

    def __init__(self, *, channels: int, l_harmonics: int, l_features: int, l_out: int) -> None:
        super().__init__()
        paths = natural_paths(l_harmonics, l_features, l_out)
        couplings = [
            Coupling(l1 * l1, l2 * l2, l3, sqrt(2 * l3 + 1) * clebsch_gordan(l2, l1, l3).transpose(0, 1))
            for l1, l2, l3 in paths
        ]
        plan = plan_convolution(
            couplings, n_harmonics=(l_harmonics + 1) ** 2, n_features=(l_features + 1) ** 2
        )
        self.paths = tuple(paths)
        self.plan = PlanStore(plan)
        self.mix = nn.ParameterList(
            [nn.Parameter(torch.randn(n * channels, channels)) for _, n in plan.output_shapes]
        )

    @property
    def n_couplings(self) -> int:
        return len(self.paths)

    def forward(
        self,
        i: Int[Tensor, "pairs"],
        j: Int[Tensor, "pairs"],
        radial: Float[Tensor, "rows couplings channels"],
        harmonics: Float[Tensor, "pairs lm"],
        features: Float[Tensor, "atoms lm_in channels"],
        points: SplinePoints | None = None,
    ) -> Float[Tensor, "atoms lm_out channels"]:
        """With `points` the rows of `radial` are a spline's coefficients, not pairs."""
        plan = self.plan.like(radial)
        out = convolve(plan, i, j, radial, points, harmonics, features, features.shape[0])
        parts = [
            part.flatten(2) @ (w * (1.0 / sqrt(w.shape[0])))
            for part, w in zip(plan.split(out), self.mix, strict=True)
        ]
        return torch.cat(parts, 1) if len(parts) > 1 else parts[0]


class ProductBasis(nn.Module):
    """B_i,LM = Σ_{ν ≤ correlation} Σ_η W_L[type, ν η, c] U^ν_{LM,η} A_i^⊗ν, degrees L = 0 … l_out.

    Batatia et al., arXiv:2206.07697, eq. 10 f. Only linearly independent couplings carry a weight, so there
    are fewer than in the original code, which spans the same space.

    Args:
        types: number of elements with weights of their own; 1 shares them.
        channels: channels of the features.
        l_features: highest degree of A.
        l_out: highest degree of B.
        correlation: highest order ν.
    """

    def __init__(self, *, types: int, channels: int, l_features: int, l_out: int, correlation: int) -> None:
        super().__init__()
        outputs, weights = [], []
        for degree in range(l_out + 1):
            found = [symmetric_couplings(l_features, order, degree) for order in range(1, correlation + 1)]
            found = [c for c in found if c.count]
            outputs.append([(c.monomials, c.coefficients) for c in found])
            start = [torch.randn(types, c.count, channels) / c.count for c in found]
            if not start:
                raise ValueError(
                    f"Degree {degree} is out of reach of l_max {l_features} with correlation {correlation}."
                )
            weights.append(nn.Parameter(torch.cat(start, 1)))
        self.types = types
        self.plan = PlanStore(plan_contraction(outputs, (l_features + 1) ** 2))
        self.weights = nn.ParameterList(weights)

    def forward(
        self, features: Float[Tensor, "atoms lm channels"], groups: TypeGroups
    ) -> Float[Tensor, "atoms lm_out channels"]:
        if self.types == 1:
            groups = TypeGroups(None, None, ((0, 0, features.shape[0]),))
        return symmetric_contraction(self.plan.like(features), features, list(self.weights), groups)


def gate(
    scalars: Float[Tensor, "atoms n_scalars"],
    gates: Float[Tensor, "atoms n_gates"],
    gated: Float[Tensor, "atoms d n_gates"],
    *,
    scalar_function: Callable[[Tensor], Tensor],
    gate_function: Callable[[Tensor], Tensor],
) -> tuple[Float[Tensor, "atoms n_scalars"], Float[Tensor, "atoms d n_gates"]]:
    """(f(s), g(a)·v): scalars pass through f, each vector-like channel is multiplied by its own gate g.

    Weiler et al., arXiv:1807.02547, sec. 4.3. f must be odd or the scalars even under inversion.
    """
    return scalar_function(scalars), gated * gate_function(gates)[:, None]


def norm_activation(
    x: Float[Tensor, "atoms d channels"],
    bias: Float[Tensor, "channels"],
    function: Callable[[Tensor], Tensor],
    epsilon: float = 1e-8,
) -> Float[Tensor, "atoms d channels"]:
    """x · f(‖x‖ + b)/‖x‖ with ‖x‖ = √(Σ_m x_m² + ε), smooth at x = 0."""
    norm = (x.square().sum(1, keepdim=True) + epsilon).sqrt()
    return x * (function(norm + bias) / norm)


def check_sizes(*, channels: int, degrees: Sequence[int]) -> None:
    """Raise ValueError for less than one channel or a negative degree."""
    if channels < 1 or min(degrees) < 0:
        raise ValueError(f"Need channels ≥ 1 and degrees ≥ 0; given {channels} and {list(degrees)}.")
