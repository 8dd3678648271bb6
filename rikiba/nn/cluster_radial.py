"""Radial functions of the atomic cluster expansion for each pair of elements."""

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from rikiba.core import elements as periodic_table

from .cutoff import agnesi, cosine, polynomial
from .double_buffers import DoubleBuffers
from .radial import SmoothBessel, chebyshev

RadialKind = Literal["agnesi", "chebyshev_exponential", "chebyshev_power", "bessel"]


class ClusterRadial(DoubleBuffers):
    """g_k(r), k = 1 … n, that vanish at the cutoff with two derivatives unless the envelope is the cosine.

    agnesi: T_{k−1}(ξ) f(r/r_c), ξ the Agnesi transform of r/r₀ (Witt et al., doi:10.1063/5.0158783, eq. 12,
    inner exponent p and outer exponent q, with its largest slope at r₀) scaled to −1 … 1; r₀ is the sum of
    the radii of the two elements.
    chebyshev_exponential: x = 1 − 2(e^(−λr/r_c) − e^(−λ))/(1 − e^(−λ)), g_1 = f, g_k = ½(1 − T_{k−1}(x)) f.
    chebyshev_power: x = 2(1 − (1 − r/r_c)^λ) − 1, g_k = ½(1 − T_k(x)): it needs no envelope and is C^(λ−1).
    Drautz, doi:10.1103/PhysRevB.99.014104, and Bochkarev et al.,
    doi:10.1103/PhysRevMaterials.6.013804; there f = ½(1 + cos πr/r_c) (C¹).
    bessel: `rikiba.nn.radial.SmoothBessel`, which needs no envelope.

    Args:
        elements: symbols.
        n: number of functions.
        cutoff: Å.
        kind: agnesi, chebyshev_exponential, chebyshev_power or bessel.
        scale: λ of the Chebyshev kinds.
        envelope: polynomial (C²) or cosine (C¹).
        envelope_power: power of the polynomial envelope.
        radii: Å, by element; covalent radii where not given.
        inner_exponent: p of the Agnesi transform.
        outer_exponent: q of the Agnesi transform.
    """

    r0: Tensor

    def __init__(
        self,
        *,
        elements: Sequence[str],
        n: int,
        cutoff: float,
        kind: RadialKind = "agnesi",
        scale: float = 5.25,
        envelope: Literal["polynomial", "cosine"] = "polynomial",
        envelope_power: int = 2,
        radii: Mapping[str, float] | None = None,
        inner_exponent: float = 4.0,
        outer_exponent: float = 2.0,
    ) -> None:
        super().__init__()
        if kind not in ("agnesi", "chebyshev_exponential", "chebyshev_power", "bessel"):
            raise ValueError(
                f"kind is agnesi, chebyshev_exponential, chebyshev_power or bessel; given '{kind}'."
            )
        if kind == "chebyshev_power" and scale < 2.0:
            raise ValueError(f"chebyshev_power needs scale ≥ 2 for continuous forces; given {scale}.")
        if not scale > 0 or n < 1 or not cutoff > 0:
            raise ValueError(f"scale, n and cutoff must be positive; given {scale}, {n}, {cutoff}.")
        self.n, self.cutoff, self.kind, self.scale = n, cutoff, kind, scale
        self.envelope, self.envelope_power = envelope, envelope_power
        self.exponents = (inner_exponent, outer_exponent)
        numbers = torch.tensor([periodic_table.number(s) for s in elements])
        r = periodic_table.covalent_radius(numbers).double().clone()
        for k, s in enumerate(elements):
            r[k] = (radii or {}).get(s, float(r[k]))
        self.register_buffer("r0", r[:, None] + r[None, :], persistent=False)
        self._bessel = SmoothBessel(n=n, cutoff=cutoff)

    def forward(
        self, r: Float[Tensor, "pairs"], centre: Int[Tensor, "pairs"], neighbour: Int[Tensor, "pairs"]
    ) -> Float[Tensor, "pairs n"]:
        """g_k of each pair; `centre` and `neighbour` are indices of elements."""
        x = r / self.cutoff
        if self.kind == "bessel":
            return self._bessel(r)  # type: ignore[no-any-return]
        if self.kind == "chebyshev_power":
            inside = torch.where(x < 1.0, 1.0 - x, torch.zeros_like(x))
            return 0.5 * (1.0 - chebyshev(1.0 - 2.0 * inside**self.scale, self.n + 1)[:, 1:])
        f = polynomial(x, self.envelope_power) if self.envelope == "polynomial" else cosine(x)
        if self.kind == "agnesi":
            return chebyshev(self._agnesi(r, self.r0.to(r)[centre, neighbour]), self.n) * f[:, None]
        end = torch.exp(torch.tensor(-self.scale, dtype=r.dtype, device=r.device))
        t = chebyshev(1.0 - 2.0 * (torch.exp(-self.scale * x) - end) / (1.0 - end), self.n)
        return torch.cat([torch.ones_like(t[:, :1]), 0.5 * (1.0 - t[:, 1:])], 1) * f[:, None]

    def _agnesi(self, r: Tensor, r0: Tensor) -> Tensor:
        """ξ, 1 at r = 0 and −1 at the cutoff."""
        p, q = self.exponents
        # the value of a for which the second derivative vanishes at r₀
        slope, bend = (p + q) / 4.0, 0.5 * (p * q - (p + q) / 2.0)
        a = bend / (2.0 * slope**2 - 0.5 * bend)
        y = agnesi(r, r0, q=q, p=p, a=a)
        end = agnesi(torch.full_like(r0, self.cutoff), r0, q=q, p=p, a=a)
        return (2.0 * y - 1.0 - end) / (1.0 - end)
