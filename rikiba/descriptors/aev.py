"""Atomic environment vectors of ANI: radial and modified angular symmetry functions.

Smith, Isayev & Roitberg, Chem. Sci. 8, 3192 (2017), doi:10.1039/C6SC05720A, eqs. 3 and 4. With c_ij the
envelope, one block for each element of the neighbour and one for each pair of elements:

    radial  = a Σ_j e^{−η_R (r_ij − r_s)²} c_ij
    angular = 2^{1−ζ} Σ_{j<k} (1 + cos(θ_jik − θ_s))^ζ e^{−η_A ((r_ij + r_ik)/2 − r_s)²} c_ij c_ik

cos(θ − θ_s) = x cos θ_s + √(1 − x²) sin θ_s with x = cos θ has a kink where three atoms lie in a line. The
authors' code takes θ = arccos(0.95 cos θ_jik) instead, which has none; so does this one by default.
"""

from collections.abc import Sequence
from itertools import combinations_with_replacement
from math import pi
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from rikiba.core.pairs import Pairs
from rikiba.core.system import System
from rikiba.nn.cutoff import cosine, mollifier, polynomial
from rikiba.nn.double_buffers import DoubleBuffers

AevEnvelope = Literal["polynomial", "cosine", "mollifier"]


def shifts(n: int, start: float, cutoff: float) -> tuple[float, ...]:
    """n centres from `start` on, evenly spaced, of which the next would be the cutoff, Å."""
    return tuple(start + k * (cutoff - start) / n for k in range(n))


def mid_angles(n: int) -> tuple[float, ...]:
    """Midpoints of n equal parts of 0 … π."""
    return tuple((k + 0.5) * pi / n for k in range(n))


class AtomicEnvironment(DoubleBuffers):
    """Environment vectors, ordered radial [element, r_s], angular [element pair, r_s, θ_s].

    Args:
        n_elements: number of neighbour elements.
        cutoff: of radial functions, Å.
        angular_cutoff: of angular functions, Å; at most `cutoff`.
        eta_radial: η_R, 1/Å².
        radial_shifts: r_s of radial functions, Å.
        eta_angular: η_A, 1/Å².
        angular_shifts: r_s of angular functions, Å.
        zeta: exponent ζ.
        angles: θ_s.
        envelope: polynomial (C², p = 6), cosine (the paper's, C¹) or mollifier (C∞).
        radial_factor: a; 1 in the paper, ¼ in the authors' code.
        cosine_factor: factor on cos θ inside the arccosine, at most 1.

    Raises ValueError for another envelope, cutoffs out of order and a factor outside (0, 1].
    """

    radial_shifts: Tensor
    angular_shifts: Tensor
    angles: Tensor
    pair_index: Tensor

    def __init__(
        self,
        *,
        n_elements: int,
        cutoff: float,
        angular_cutoff: float,
        eta_radial: float,
        radial_shifts: Sequence[float],
        eta_angular: float,
        angular_shifts: Sequence[float],
        zeta: float,
        angles: Sequence[float],
        envelope: AevEnvelope = "polynomial",
        radial_factor: float = 1.0,
        cosine_factor: float = 0.95,
    ) -> None:
        super().__init__()
        if envelope not in ("polynomial", "cosine", "mollifier"):
            raise ValueError(f"envelope must be polynomial, cosine or mollifier; given '{envelope}'.")
        if not 0 < angular_cutoff <= cutoff:
            raise ValueError(f"angular_cutoff must lie in (0, {cutoff}] Å; given {angular_cutoff}.")
        if not 0 < cosine_factor <= 1:
            raise ValueError(f"cosine_factor must lie in (0, 1]; given {cosine_factor}.")
        self.n_elements, self.cutoff, self.angular_cutoff = n_elements, cutoff, angular_cutoff
        self.eta_radial, self.eta_angular, self.zeta = eta_radial, eta_angular, zeta
        self.envelope, self.radial_factor, self.cosine_factor = envelope, radial_factor, cosine_factor
        for name, values in (
            ("radial_shifts", radial_shifts), ("angular_shifts", angular_shifts), ("angles", angles),
        ):  # fmt: skip
            self.register_buffer(name, torch.tensor(values, dtype=torch.float64), persistent=False)
        pair_index = torch.zeros((n_elements, n_elements), dtype=torch.int64)
        for k, (a, b) in enumerate(combinations_with_replacement(range(n_elements), 2)):
            pair_index[a, b] = pair_index[b, a] = k
        self.register_buffer("pair_index", pair_index, persistent=False)
        self.n_radial, self.n_angular = len(radial_shifts), len(angular_shifts) * len(angles)
        self.n_element_pairs = n_elements * (n_elements + 1) // 2
        self.n_features = n_elements * self.n_radial + self.n_element_pairs * self.n_angular

    def forward(
        self, system: System, pairs: Pairs, types: Int[Tensor, "atoms"], dtype: torch.dtype
    ) -> Float[Tensor, "atoms features"]:
        """Environment vectors of every atom; Å in, dimensionless out."""
        vectors = pairs.vectors(system, dtype)
        r = torch.linalg.vector_norm(vectors, dim=-1)
        gaussians = torch.exp(-self.eta_radial * (r[:, None] - self.radial_shifts.to(r.dtype)) ** 2)
        values = self.radial_factor * gaussians * self._envelope(r, self.cutoff)[:, None]
        slot = pairs.i * self.n_elements + types[pairs.j]
        radial = values.new_zeros((system.n_atoms * self.n_elements, self.n_radial))
        radial = radial.index_add(0, slot, values).view(system.n_atoms, self.n_elements * self.n_radial)
        near, parent = pairs.within(system, self.angular_cutoff)
        return torch.cat([radial, self._angular(near, vectors[parent], r[parent], types)], 1)

    def _angular(
        self, pairs: Pairs, vectors: Tensor, r: Tensor, types: Tensor
    ) -> Float[Tensor, "atoms functions"]:
        a, b = pairs.triplets()
        once = a < b
        a, b = a[once], b[once]
        dtype = r.dtype
        unit, c = vectors / r[:, None], self._envelope(r, self.angular_cutoff)
        angles = self.angles.to(dtype)
        x = self.cosine_factor * (unit[a] * unit[b]).sum(-1)
        if self.cosine_factor < 1.0:
            sine = torch.sqrt(1.0 - x * x)
        else:
            sine = torch.linalg.vector_norm(torch.linalg.cross(unit[a], unit[b]), dim=-1)
        # rounding can take 1 + cos(θ − θ_s) below 0, where its value is 0
        base = (1.0 + x[:, None] * torch.cos(angles) + sine[:, None] * torch.sin(angles)).clamp(min=0.0)
        turn = 2.0 * (0.5 * base) ** self.zeta
        distance = 0.5 * (r[a] + r[b])[:, None] - self.angular_shifts.to(dtype)
        shell = torch.exp(-self.eta_angular * distance**2) * (c[a] * c[b])[:, None]
        values = (shell[:, :, None] * turn[:, None, :]).flatten(1)
        slot = pairs.i[a] * self.n_element_pairs + self.pair_index[types[pairs.j[a]], types[pairs.j[b]]]
        out = values.new_zeros((pairs.n_atoms * self.n_element_pairs, self.n_angular))
        return out.index_add(0, slot, values).view(pairs.n_atoms, self.n_element_pairs * self.n_angular)

    def _envelope(self, r: Float[Tensor, "*pairs"], cutoff: float) -> Float[Tensor, "*pairs"]:
        x = r / cutoff
        if self.envelope == "polynomial":
            return polynomial(x, 6)
        return cosine(x) if self.envelope == "cosine" else mollifier(x)
