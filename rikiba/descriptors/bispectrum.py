"""Bispectrum of the neighbour density on the 3-sphere, as in the spectral neighbour analysis potential.

All angular momenta are doubled here (j = 0, 1 … twojmax), so that half-integers are integers.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property, lru_cache
from itertools import product
from math import factorial, pi, prod, sqrt
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from rikiba.nn.cutoff import cosine, polynomial
from rikiba.nn.double_buffers import DoubleBuffers


@lru_cache(maxsize=512)
def clebsch_gordan(j1: int, j2: int, j: int) -> np.ndarray:
    """⟨j1 m1 j2 m2|j m⟩ as [j1+1, j2+1, j+1], rows counted from m = −j; doubled angular momenta.

    Racah's sum, in integers but for one square root. Edmonds, Angular Momentum in Quantum Mechanics
    (Princeton, 1957), eq. 3.6.11.
    """
    f = factorial
    triangle = ((j1 + j2 - j) // 2, (j1 - j2 + j) // 2, (j2 - j1 + j) // 2)
    ratio = (j + 1) * prod(map(f, triangle)) / f((j1 + j2 + j) // 2 + 1)
    out = np.zeros((j1 + 1, j2 + 1, j + 1))
    for a, b in product(range(j1 + 1), range(j2 + 1)):
        c = a + b - triangle[0]
        if not 0 <= c <= j:
            continue
        total = 0.0
        for z in range(triangle[0] + 1):
            below = (z, triangle[0] - z, j1 - a - z, b - z, a - triangle[0] + z, triangle[2] - b + z)
            if min(below) >= 0:
                total += (-1) ** z / prod(map(f, below))
        norm = prod(map(f, (a, j1 - a, b, j2 - b, c, j - c)))
        out[a, b, c] = total * sqrt(ratio * norm)
    return out


def triples(twojmax: int) -> list[tuple[int, int, int]]:
    """(j1, j2, j) of the components, j2 ≤ j1 ≤ j, in the order of LAMMPS; (J+1)(J+2)(J+3/2)/3 with J half."""
    return [
        (j1, j2, j)
        for j1 in range(twojmax + 1)
        for j2 in range(j1 + 1)
        for j in range(j1 - j2, min(twojmax, j1 + j2) + 1, 2)
        if j >= j1
    ]


class Bispectrum(DoubleBuffers):
    """Bispectrum components of every atom.

    A neighbour at r = r(x, y, z) is a rotation of the 3-sphere, θ0 = f π (r − r_min)/(r_c − r_min),
    a = cos θ0 − i sin θ0 z/r, b = sin θ0 (y − i x)/r, whose matrix elements U^j(a, b) add up to

    U^j = w_self 1 + Σ_k f_c(r_k) w_k U^j(a_k, b_k),   B_{j1 j2 j} = Σ (U^j)* · C C · U^{j1} U^{j2}

    with the Clebsch–Gordan coefficients C of row and column index. The cutoff of a pair is
    r_c = cutoff · (R_i + R_j). With `explicit_elements` there is a U per element of the neighbours and a B
    for each three of them. Thompson et al., doi:10.1016/j.jcp.2014.12.018, section 2.1; for elements
    Cusentino, Wood & Thompson, doi:10.1021/acs.jpca.0c02450.

    Raises ValueError for settings out of range or an element without its weight or radius.
    """

    def __init__(
        self,
        *,
        elements: Sequence[str],
        cutoff: float,
        twojmax: int = 6,
        radii: Mapping[str, float] | None = None,
        weights: Mapping[str, float] | None = None,
        angle_fraction: float = 0.99363,
        r_min: float = 0.0,
        envelope: Literal["polynomial", "cosine", "none"] = "polynomial",
        envelope_power: int = 6,
        subtract_isolated: bool = True,
        normalised: bool = False,
        explicit_elements: bool = False,
        all_self: bool = False,
    ) -> None:
        super().__init__()
        self.elements, self.twojmax = tuple(elements), twojmax
        n = len(self.elements)
        radius = _per_element("radii", radii, self.elements, 0.5)
        weight = _per_element("weights", weights, self.elements, 1.0)
        if not 0 <= twojmax <= 20:
            raise ValueError(f"twojmax must be 0 to 20; given {twojmax}.")
        if envelope not in ("polynomial", "cosine", "none"):
            raise ValueError(f"envelope must be polynomial, cosine or none; given '{envelope}'.")
        if envelope_power < 2:
            raise ValueError(f"envelope_power must be at least 2; given {envelope_power}.")
        if not 0.0 < angle_fraction <= 1.0:
            raise ValueError(f"angle_fraction must be in (0, 1]; given {angle_fraction}.")
        if min(radius) <= 0 or not 0.0 <= r_min < 2 * cutoff * min(radius):
            raise ValueError(f"radii must be positive and r_min below every cutoff; given {radius}, {r_min}.")
        self.angle_fraction, self.r_min = float(angle_fraction), float(r_min)
        self.envelope, self.envelope_power = envelope, envelope_power
        self.subtract_isolated, self.normalised = subtract_isolated, normalised
        self.all_self = all_self
        self.n_channels = n if explicit_elements else 1
        radius_of = torch.tensor(radius, dtype=torch.float64)
        self.register_buffer("reach", cutoff * (radius_of[:, None] + radius_of[None, :]), persistent=False)
        self.register_buffer("weight", torch.tensor(weight, dtype=torch.float64), persistent=False)
        self.triples = triples(twojmax)
        self.n_components = len(self.triples) * self.n_channels**3

    reach: Tensor
    weight: Tensor

    def forward(
        self,
        vectors: Float[Tensor, "pairs 3"],
        centre: Int[Tensor, "pairs"],
        neighbour_types: Int[Tensor, "pairs"],
        types: Int[Tensor, "atoms"],
    ) -> Float[Tensor, "atoms components"]:
        """B of every atom, differentiable in the pair vectors (Å)."""
        e, n = self.n_channels, len(types)
        row = centre * e + (neighbour_types if e > 1 else 0)
        levels = self._summed(
            vectors, row, self.reach[types[centre], neighbour_types], neighbour_types, n * e
        )
        own = self.self_weight(types).to(vectors.dtype)
        u = [
            m.unflatten(0, (n, e)) + own[:, :, None, None] * torch.eye(j + 1, dtype=m.dtype, device=m.device)
            for j, m in enumerate(levels)
        ]
        parts = torch.stack([self._component(u, *t) for t in self.triples], -1)
        return parts.flatten(1) - self.isolated.to(vectors)[types]

    @cached_property
    def isolated(self) -> Float[Tensor, "elements components"]:
        """What is subtracted: the components of an atom without neighbours, or zeros."""
        kinds = torch.arange(len(self.elements))
        own = self.self_weight(kinds)
        if not self.subtract_isolated:
            return torch.zeros((len(self.elements), self.n_components), dtype=torch.float64)
        size = [1.0 if self.normalised else j + 1.0 for _, _, j in self.triples]
        cubes = torch.einsum("ne,nf,ng->nefg", own, own, own)
        return (cubes[..., None] * torch.tensor(size, dtype=torch.float64)).flatten(1)

    def self_weight(self, types: Int[Tensor, "atoms"]) -> Float[Tensor, "atoms channels"]:
        """What an atom adds to the diagonal of each of its own U."""
        if self.n_channels == 1 or self.all_self:
            return torch.ones((len(types), self.n_channels), dtype=torch.float64, device=types.device)
        return nn.functional.one_hot(types, self.n_channels).double()

    def cut_off(self, r: Float[Tensor, "pairs"], reach: Float[Tensor, "pairs"]) -> Float[Tensor, "pairs"]:
        """f_c(r), 0 from the pair's cutoff on."""
        x = ((r - self.r_min) / (reach - self.r_min)).clamp(min=0.0)
        if self.envelope == "cosine":
            return cosine(x)
        if self.envelope == "polynomial":
            return polynomial(x, self.envelope_power)
        return (x < 1.0).to(r.dtype)

    def _summed(
        self, vectors: Tensor, row: Tensor, reach: Tensor, neighbour_types: Tensor, n_rows: int
    ) -> list[Tensor]:
        """Σ f_c w U^j by row, one [rows, j+1, j+1] for each j."""
        reach = reach.to(vectors.dtype)
        r = vectors.norm(dim=-1)
        x, y, z = (vectors / r[:, None]).unbind(-1)
        angle = self.angle_fraction * pi * (r - self.r_min) / (reach - self.r_min)
        # beyond the pair's own cutoff the weight is zero whatever the angle
        factor = self.cut_off(r, reach) * self.weight.to(r.dtype)[neighbour_types]
        sine, cosine_ = torch.sin(angle), torch.cos(angle)
        a, b = torch.complex(cosine_, -sine * z), torch.complex(sine * y, -sine * x)
        out, u = [], torch.ones_like(a)[:, None, None]
        for j in range(self.twojmax + 1):
            if j:
                u = _raised(u, a, b)
            flat = torch.view_as_real(u * factor[:, None, None])
            total = flat.new_zeros((n_rows, *flat.shape[1:])).index_add(0, row, flat)
            out.append(torch.view_as_complex(total))
        return out

    def _component(self, u: list[Tensor], j1: int, j2: int, j: int) -> Tensor:
        """[atoms, channels³]."""
        c = torch.from_numpy(clebsch_gordan(j1, j2, j)).to(u[0])
        t = torch.einsum("nexy,ypa->nexpa", u[j1], c)
        t = torch.einsum("nexpa,nfqp->nefxqa", t, u[j2])
        z = torch.einsum("nefxqa,xqb->nefba", t, c)
        found = torch.einsum("nefba,ngba->nefg", z, u[j].conj()).real.flatten(1)
        return found / (j + 1) if self.normalised else found


def _raised(u: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """U^j from U^{j−1}.

    U_{mb ma} = √((j−ma)/(j−mb)) a* U'_{mb ma} − √(ma/(j−mb)) b* U'_{mb ma−1} for mb < j; the last row by
    U_{j−mb j−ma} = (−1)^{ma−mb} U*_{mb ma}. Varshalovich et al. (World Scientific, 1988), 4.8.2 and 4.4.
    """
    j = u.shape[-1]
    ma = torch.arange(j + 1, dtype=a.real.dtype, device=a.device)
    rest = j - torch.arange(j, dtype=a.real.dtype, device=a.device)
    left = torch.sqrt((j - ma[None, :]) / rest[:, None])
    right = torch.sqrt(ma[None, :] / rest[:, None])
    here = nn.functional.pad(torch.view_as_real(u), (0, 0, 0, 1))
    before = nn.functional.pad(torch.view_as_real(u), (0, 0, 1, 0))
    rows = a.conj()[:, None, None] * (left * torch.view_as_complex(here.contiguous()))
    rows = rows - b.conj()[:, None, None] * (right * torch.view_as_complex(before.contiguous()))
    sign = 1.0 - 2.0 * (ma % 2)
    last = (sign * rows[:, :1].conj()).flip(-1)
    return torch.cat([rows, last], 1)


def _per_element(
    name: str, given: Mapping[str, float] | None, elements: Sequence[str], default: float
) -> list[float]:
    if given is None:
        return [default] * len(elements)
    if set(given) != set(elements):
        raise ValueError(f"{name} must name {', '.join(elements)}; it names {', '.join(given)}.")
    return [float(given[s]) for s in elements]
