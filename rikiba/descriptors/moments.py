"""Moment tensors of atomic environments and their contractions."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from rikiba.nn.cutoff import power_law
from rikiba.nn.radial import chebyshev

from .moment_basis import MomentBasis, moment_basis


class ChebyshevFunctions(nn.Module):
    """Q_β(r) = s T_β(ξ) (r_c − r)^p, ξ = (2r − r_min − r_c)/(r_c − r_min); zero beyond the cutoff.

    Novikov et al., doi:10.1088/2632-2153/abc9fe, with p = 2 (C¹); p = 3 is C².

    Args:
        n: number of functions.
        cutoff: r_c, Å.
        r_min: Å, where ξ = −1; shorter distances are allowed.
        power: p.
        scaling: s, Å^−p; none is (r_c − r_min)^−p.
    """

    def __init__(
        self, *, n: int, cutoff: float, r_min: float, power: int = 3, scaling: float | None = None
    ) -> None:
        super().__init__()
        if not 0.0 <= r_min < cutoff:
            raise ValueError(f"r_min must be at least 0 and below the cutoff; given {r_min} and {cutoff}.")
        if n < 1 or power < 1:
            raise ValueError(f"Need at least one function and a power of at least 1; given {n} and {power}.")
        self.n, self.cutoff, self.r_min, self.power = n, cutoff, r_min, power
        self.scaling = (cutoff - r_min) ** -power if scaling is None else scaling

    def forward(self, r: Float[Tensor, "pairs"]) -> Float[Tensor, "pairs n"]:
        envelope = power_law(r / self.cutoff, self.power) * (self.scaling * self.cutoff**self.power)
        x = (2.0 * r - (self.r_min + self.cutoff)) / (self.cutoff - self.r_min)
        return chebyshev(x, self.n) * envelope[:, None]


class MomentContractions(nn.Module):
    """All contractions of M_{μ,ν} = Σ_j f_μ(r_ij) r̂_ij^{⊗ν} to scalars up to a level.

    Shapeev, doi:10.1137/15M1054183. Where the papers write r_ij^{⊗ν}, the programs that
    made the published potentials take unit vectors, and so do we unless `normalised` is False.

    Args:
        level: largest Σ (2 + 4μ + ν) over the moments of a function; even.
        max_moments: largest number of moments in a function; none does not limit it.
        normalised: unit vectors.
    """

    def __init__(self, *, level: int, max_moments: int | None = 4, normalised: bool = True) -> None:
        super().__init__()
        self.basis: MomentBasis = moment_basis(level, max_moments)
        self.normalised = normalised
        self.n_functions = len(self.basis.scalars)
        self.n_radial_functions = self.basis.n_radial_functions

    def forward(
        self,
        vectors: Float[Tensor, "pairs 3"],
        radial: Float[Tensor, "pairs mu"],
        i: Int[Tensor, "pairs"],
        n_atoms: int,
    ) -> Float[Tensor, "atoms functions"]:
        """Basis functions of every atom, from the radial functions f_μ of its pairs."""
        b, device = self.basis, vectors.device
        mu, x, y, z = torch.from_numpy(b.basic).to(device).T
        u = vectors / vectors.norm(dim=-1, keepdim=True) if self.normalised else vectors
        powers = [torch.ones_like(u)]
        for _ in range(int(b.basic[:, 1:].max())):
            powers.append(powers[-1] * u)
        p = torch.stack(powers, 1)
        components = radial[:, mu] * p[:, x, 0] * p[:, y, 1] * p[:, z, 2]
        nodes = radial.new_zeros((n_atoms, len(mu))).index_add(0, i, components)
        first, n_basic = b.first, len(b.basic)
        stages = (n_basic, *b.stages)
        for start, stop in pairwise(stages):
            if start == stop:
                continue
            counts = torch.from_numpy(
                first[start - n_basic + 1 : stop - n_basic + 1] - first[start - n_basic : stop - n_basic]
            )
            terms = slice(int(first[start - n_basic]), int(first[stop - n_basic]))
            left, right = (torch.from_numpy(t[terms]).to(device) for t in (b.left, b.right))
            product = nodes[:, left] * nodes[:, right] * torch.from_numpy(b.factor[terms]).to(nodes)
            to = torch.repeat_interleave(torch.arange(stop - start), counts).to(device)
            sums = nodes.new_zeros((n_atoms, stop - start)).index_add(1, to, product)
            nodes = torch.cat([nodes, sums], 1)
        return nodes[:, torch.from_numpy(b.scalars).to(device)]


def monomials(
    basic: Sequence[tuple[int, int, int]],
) -> tuple[list[int], list[int], dict[tuple[int, int, int], int]]:
    """(lower, axis, place): every power of x, y, z that is needed as a lower one times a coordinate."""
    needed = {(0, 0, 0)}
    for powers in basic:
        while any(powers):
            needed.add(powers)
            powers = _lowered(powers)[0]
    order = sorted(needed, key=lambda p: (sum(p), p))
    place = {p: n for n, p in enumerate(order)}
    lower, axis = [0], [0]
    for p in order[1:]:
        below, c = _lowered(p)
        lower.append(place[below])
        axis.append(c)
    return lower, axis, place


def _lowered(powers: tuple[int, int, int]) -> tuple[tuple[int, int, int], int]:
    a, b, c = powers
    if c:
        return (a, b, c - 1), 2
    return ((a, b - 1, c), 1) if b else ((a - 1, b, c), 0)
