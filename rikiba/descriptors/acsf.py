"""Atom-centred symmetry functions, radial and angular.

Behler & Parrinello, Phys. Rev. Lett. 98, 146401 (2007), doi:10.1103/PhysRevLett.98.146401;
Behler, J. Chem. Phys. 134, 074106 (2011), doi:10.1063/1.3553717 (G² to G⁵ of its eqs. 6 to 9).

With c_ij the envelope and each unordered pair of neighbours counted once:

    G²    = Σ_j e^{−η(r_ij−r_s)²} c_ij
    G³    = Σ_j cos(κ r_ij) c_ij
    wide  = 2^{1−ζ} Σ_{j<k} (1+λ cos θ_jik)^ζ e^{−η[(r_ij−r_s)²+(r_ik−r_s)²]} c_ij c_ik      (G⁵)
    narrow= 2^{1−ζ} Σ_{j<k} (1+λ cos θ_jik)^ζ e^{−η[(r_ij−r_s)²+(r_ik−r_s)²+(r_jk−r_s)²]} c_ij c_ik c_jk (G⁴)

The wide sum over pairs of neighbours is exact at linear cost where ζ is an integer: (1+λx)^ζ is a polynomial
in Legendre functions, P_l(r̂_ij·r̂_ik) = Σ_m Y_lm(r̂_ij) Y_lm(r̂_ik)/(2l+1) by the addition theorem, so
Σ_j Σ_k factorises into squares of one-neighbour sums.
"""

from collections.abc import Sequence
from functools import partial
from itertools import combinations_with_replacement
from math import tanh
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from rikiba.core.pairs import Pairs
from rikiba.core.system import System
from rikiba.nn.cutoff import cosine, mollifier, polynomial, smoothstep, tanh_cubed
from rikiba.nn.double_buffers import DoubleBuffers
from rikiba.nn.so3 import spherical_harmonics

from .triplet_sums import Neighbours, TripletTables, triplet_sums

RadialFunction = Sequence[float]
"""(η in 1/Å², r_s in Å) and, where it differs from that of the others, the cutoff in Å."""
AngularFunction = Sequence[float]
"""(η in 1/Å², r_s in Å, ζ, λ = ±1) and, where it differs, the cutoff in Å."""
Envelope = Literal[
    "polynomial", "cosine", "tanh", "tanh_unit", "mollifier", "smoothstep1", "smoothstep2", "smoothstep3",
    "smoothstep4", "none",
]  # fmt: skip
ENVELOPES: tuple[str, ...] = get_args(Envelope)


def shifted_radial_set(n: int, cutoff: float, start: float = 0.5) -> tuple[RadialFunction, ...]:
    """n Gaussians centred evenly from `start` up to the cutoff, η = 1/(2Δ²) with Δ their spacing.

    The spacing rule is that of Gastegger et al., J. Chem. Phys. 148, 241709 (2018), doi:10.1063/1.5019667.
    """
    centres = np.linspace(start, cutoff, n + 1)[:-1]
    spacing = float(centres[1] - centres[0]) if n > 1 else cutoff - start
    return tuple((0.5 / spacing**2, float(c)) for c in centres)


def centred_radial_set(n: int, cutoff: float) -> tuple[RadialFunction, ...]:
    """n + 1 Gaussians at the centre, η = (n^{m/n}/r_c)² for m = 0 … n.

    Imbalzano et al., doi:10.1063/1.5024611, eq. 11.
    """
    return tuple(((n ** (m / n) / cutoff) ** 2, 0.0) for m in range(n + 1))


def angular_set(
    n: int, cutoff: float, zetas: Sequence[float] = (1, 2, 4), start: float = 0.8
) -> tuple[AngularFunction, ...]:
    """Every combination of n shifted Gaussians, ζ in `zetas` and λ = ±1."""
    return tuple(
        (eta, r_s, float(zeta), sign)
        for eta, r_s, *_ in shifted_radial_set(n, cutoff, start)
        for zeta in zetas
        for sign in (1.0, -1.0)
    )


class SymmetryFunctions(nn.Module):
    """Features of every atom: radial [element, function], then wide and narrow [element pair, function].

    Within wide, those with an integer ζ stand before the others; oscillating follow the radial ones.

    Args:
        n_elements: number of neighbour elements.
        cutoff: envelope and neighbour radius of the radial functions, Å.
        radial: (η, r_s) of each G².
        wide: (η, r_s, ζ, λ) of each wide angular function.
        narrow: (η, r_s, ζ, λ) of each narrow angular function.
        angular_cutoff: envelope radius of the angular functions, Å; `cutoff` if not given.
        envelope: polynomial (C², p = 6); cosine, the papers' own (C¹); tanh³(1 − x) (C², not 1 at r = 0) and
            tanh_unit (the same divided by tanh³ 1); mollifier (C∞); smoothstep1 … 4 (C¹ … C⁴); none (a jump).
        envelope_start: fraction of the cutoff up to which cosine, mollifier and smoothstep are 1.
        oscillating: κ of each G³, 1/Å.
    """

    first: Tensor
    second: Tensor
    pair_index: Tensor

    def __init__(
        self,
        *,
        n_elements: int,
        cutoff: float,
        radial: Sequence[RadialFunction],
        wide: Sequence[AngularFunction] = (),
        narrow: Sequence[AngularFunction] = (),
        angular_cutoff: float | None = None,
        envelope: Envelope = "polynomial",
        envelope_start: float = 0.0,
        oscillating: Sequence[float] = (),
    ) -> None:
        super().__init__()
        if envelope not in ENVELOPES:
            raise ValueError(f"envelope must be one of {', '.join(ENVELOPES)}; given '{envelope}'.")
        if envelope_start and envelope in ("polynomial", "tanh", "tanh_unit", "none"):
            raise ValueError(f"The envelope '{envelope}' has no envelope_start; given {envelope_start}.")
        for eta, _, zeta, sign, *_ in (*wide, *narrow):
            if eta < 0 or zeta <= 0 or abs(sign) != 1:
                raise ValueError(
                    f"An angular function needs η ≥ 0, ζ > 0, λ = ±1; given {(eta, zeta, sign)}."
                )
        self.n_elements = n_elements
        self.cutoff = cutoff
        self.angular_cutoff = cutoff if angular_cutoff is None else angular_cutoff
        if not 0 < self.angular_cutoff <= cutoff:
            raise ValueError(f"angular_cutoff must lie in (0, {cutoff}] Å; given {angular_cutoff}.")
        self.envelope, self.envelope_start = envelope, envelope_start
        self.element_pairs = tuple(combinations_with_replacement(range(n_elements), 2))
        first, second = zip(*self.element_pairs, strict=True)
        self.register_buffer("first", torch.tensor(first), persistent=False)
        self.register_buffer("second", torch.tensor(second), persistent=False)
        pair_index = torch.zeros((n_elements, n_elements), dtype=torch.int64)
        for k, (a, b) in enumerate(self.element_pairs):
            pair_index[a, b] = pair_index[b, a] = k
        self.register_buffer("pair_index", pair_index, persistent=False)
        self.radial = _Gaussians(radial, cutoff)
        self.oscillating = tuple(oscillating)
        linear = [f for f in wide if float(f[2]).is_integer()]
        self.wide = _WideByMoments(linear, self.angular_cutoff) if linear else None
        reach, direct = self.angular_cutoff, [f for f in wide if not float(f[2]).is_integer()]
        shape = (envelope, envelope_start)
        self.wide_direct = _Triplets(direct, reach, shape, narrow=False)
        self.narrow = _Triplets(narrow, reach, shape, narrow=True)
        angular = [self.wide_direct, self.narrow, *([self.wide.gaussians] if self.wide else [])]
        longest = max([reach, *(c for part in angular for c in part.cutoffs)])
        if longest > reach or max(self.radial.cutoffs, default=cutoff) > cutoff:
            raise ValueError("A function's own cutoff must not be longer than that of all.")
        self.n_angular = len(linear) + self.wide_direct.n + self.narrow.n
        self.n_radial = self.radial.n + len(self.oscillating)
        self.n_features = n_elements * self.n_radial + len(self.element_pairs) * self.n_angular

    def _envelope(self, r: Float[Tensor, "*pairs"], cutoff: float) -> Float[Tensor, "*pairs"]:
        x, start = r / cutoff, self.envelope_start
        if self.envelope == "polynomial":
            return polynomial(x, 6)
        if self.envelope.startswith("smoothstep"):
            return smoothstep(x, int(self.envelope[-1]), start)
        if self.envelope.startswith("tanh"):
            return tanh_cubed(x) / (tanh(1.0) ** 3 if self.envelope == "tanh_unit" else 1.0)
        if self.envelope == "none":
            return (x < 1.0).to(x.dtype)
        if start:
            x = ((x - start) / (1.0 - start)).clamp(min=0.0)
        return cosine(x) if self.envelope == "cosine" else mollifier(x)

    def _envelopes(
        self, r: Float[Tensor, "*pairs"], functions: "_Cutoffs"
    ) -> Float[Tensor, "*pairs functions"]:
        """The envelope of each function's own cutoff."""
        each = torch.stack([self._envelope(r, c) for c in functions.cutoffs], -1)
        return each if len(functions.cutoffs) == 1 else each[..., functions.which]

    def _radial(self, r: Float[Tensor, "pairs"]) -> Float[Tensor, "pairs functions"]:
        g = self.radial(r) * self._envelopes(r, self.radial)
        if not self.oscillating:
            return g
        kappa = torch.tensor(self.oscillating, dtype=r.dtype, device=r.device)
        return torch.cat([g, torch.cos(kappa * r[:, None]) * self._envelope(r, self.cutoff)[:, None]], 1)

    def forward(
        self, system: System, pairs: Pairs, types: Int[Tensor, "atoms"], dtype: torch.dtype
    ) -> Float[Tensor, "atoms features"]:
        """Symmetry functions of every atom; Å in, dimensionless out."""
        n, t = system.n_atoms, self.n_elements
        vectors = pairs.vectors(system, dtype)
        r = vectors.norm(dim=-1)
        slot = pairs.i * t + types[pairs.j]
        g = self._radial(r)
        parts = [g.new_zeros((n * t, self.n_radial)).index_add(0, slot, g).reshape(n, t * self.n_radial)]
        if self.wide is None and not self.wide_direct.n and not self.narrow.n:
            return parts[0]
        near, parent = pairs, None
        if self.angular_cutoff < self.cutoff:
            near, parent = pairs.within(system, self.angular_cutoff)
            vectors, r, slot = vectors[parent], r[parent], slot[parent]
        if self.wide is not None:
            c = self._envelopes(r, self.wide.gaussians)
            moments, squares = self.wide(vectors / r[:, None], r, c, slot, n, t)
            parts.append(self.wide.combine(moments, squares, self.first, self.second))
        if self.wide_direct.n or self.narrow.n:
            parts.extend(self._direct(vectors, r, near, types))
        return torch.cat(parts, -1)

    def of_shares(
        self, system: System, pairs: Pairs, shares: Float[Tensor, "atoms elements"], dtype: torch.dtype
    ) -> Float[Tensor, "atoms features"]:
        """The same where an atom is of several kinds at once: Σ_j of kind a takes every j times its share.

        Sums over pairs of neighbours take the product of both shares. With one share 1 and the others 0 it
        is `forward`.
        """
        near, parent = pairs, None
        vectors = pairs.vectors(system, dtype)
        r, share = vectors.norm(dim=-1), shares.to(dtype)[pairs.j]
        parts = [self._shared(self._radial(r), share, pairs)]
        if self.angular_cutoff < self.cutoff:
            near, parent = pairs.within(system, self.angular_cutoff)
            vectors, r, share = vectors[parent], r[parent], share[parent]
        if self.wide is not None:
            g = self.wide.gaussians(r) * self._envelopes(r, self.wide.gaussians)
            y = spherical_harmonics(vectors / r[:, None], self.wide.l_max)
            moments = self._shared((g[:, :, None] * y[:, None, :]).flatten(1), share, near)
            moments = moments.reshape(-1, self.n_elements, g.shape[1], y.shape[1])
            twice = share[:, self.first] * share[:, self.second]
            alone = self._shared(g * g, twice, near).reshape(-1, len(self.element_pairs), g.shape[1])
            parts.append(self.wide.combine_shares(moments, alone, self.first, self.second))
        for functions in (self.wide_direct, self.narrow):
            if functions.n:
                parts.append(self._defined_shares(functions, vectors, r, near, share).flatten(1))
        return torch.cat([p.flatten(1) for p in parts], 1)

    def _shared(self, g: Tensor, share: Tensor, pairs: Pairs) -> Float[Tensor, "atoms kinds functions"]:
        """Σ_j share_j g_ij of every kind."""
        rows = g.new_zeros((pairs.n_atoms, share.shape[1], g.shape[1]))
        return rows.index_add(0, pairs.i, share[:, :, None] * g[:, None, :])

    def _defined_shares(
        self, functions: "_Triplets", vectors: Tensor, r: Tensor, pairs: Pairs, share: Tensor
    ) -> Float[Tensor, "atoms element_pairs functions"]:
        a, b, values = self._triplet_values(functions, vectors, r, pairs)
        both = share[a][:, self.first] * share[b][:, self.second]
        crossed = share[b][:, self.first] * share[a][:, self.second]
        weight = torch.where(self.first == self.second, both, both + crossed)
        rows = values.new_zeros((pairs.n_atoms, len(self.element_pairs), functions.n))
        return rows.index_add(0, pairs.i[a], weight[:, :, None] * values[:, None, :])

    def _direct(self, vectors: Tensor, r: Tensor, pairs: Pairs, types: Tensor) -> list[Tensor]:
        """Wide and narrow functions by the explicit sum; float64 on a CPU by compiled kernels."""
        parts = [functions for functions in (self.wide_direct, self.narrow) if functions.n]
        kind = types[pairs.j]
        if vectors.device.type != "cpu" or vectors.dtype != torch.float64:
            return [self._defined(f, vectors, r, pairs, kind).flatten(1) for f in parts]
        around = Neighbours(pairs.row_start, kind, self.pair_index, len(self.element_pairs))
        return [
            triplet_sums(vectors, around, f.tables, partial(self._from_vectors, f, pairs, kind)).flatten(1)
            for f in parts
        ]

    def _from_vectors(
        self, functions: "_Triplets", pairs: Pairs, kind: Tensor, vectors: Tensor
    ) -> Float[Tensor, "atoms element_pairs functions"]:
        return self._defined(functions, vectors, vectors.norm(dim=-1), pairs, kind)

    def _defined(
        self, functions: "_Triplets", vectors: Tensor, r: Tensor, pairs: Pairs, kind: Tensor
    ) -> Float[Tensor, "atoms element_pairs functions"]:
        """Σ over pairs of neighbours by torch."""
        a, b, values = self._triplet_values(functions, vectors, r, pairs)
        n_pairs = len(self.element_pairs)
        slot = pairs.i[a] * n_pairs + self.pair_index[kind[a], kind[b]]
        rows = values.new_zeros((pairs.n_atoms * n_pairs, functions.n)).index_add(0, slot, values)
        return rows.reshape(pairs.n_atoms, n_pairs, functions.n)

    def _triplet_values(
        self, functions: "_Triplets", vectors: Tensor, r: Tensor, pairs: Pairs
    ) -> tuple[Tensor, Tensor, Float[Tensor, "triplets functions"]]:
        """(first pair, second pair, functions) of every unordered pair of neighbours."""
        a, b = pairs.triplets()
        keep = a < b
        a, b = a[keep], b[keep]
        cos = (vectors[a] * vectors[b]).sum(-1) / (r[a] * r[b])
        c = self._envelopes(r, functions)
        product = c[a] * c[b]
        r_jk = None
        if functions.tables.narrow:
            # atoms j and k may coincide with a periodic image of each other, never with each other
            r_jk = (vectors[b] - vectors[a]).norm(dim=-1)
            product = product * self._envelopes(r_jk, functions)
        return a, b, functions(cos, r[a], r[b], r_jk) * product


class _Cutoffs(DoubleBuffers):
    """Which cutoff each function has."""

    which: Tensor

    def __init__(self, own: Sequence[float]) -> None:
        super().__init__()
        self.cutoffs = tuple(dict.fromkeys(own))
        index = torch.tensor([self.cutoffs.index(c) for c in own], dtype=torch.int64)
        self.register_buffer("which", index, persistent=False)


class _Gaussians(_Cutoffs):
    """e^{−η(r−r_s)²} for each (η, r_s)."""

    eta: Tensor
    shift: Tensor

    def __init__(self, functions: Sequence[RadialFunction], cutoff: float) -> None:
        super().__init__([f[2] if len(f) > 2 else cutoff for f in functions] or [cutoff])
        table = torch.tensor([f[:2] for f in functions], dtype=torch.float64).reshape(-1, 2)
        self.n = len(table)
        self.register_buffer("eta", table[:, 0].clone())
        self.register_buffer("shift", table[:, 1].clone())

    def forward(self, r: Float[Tensor, "pairs"]) -> Float[Tensor, "pairs functions"]:
        return torch.exp(-self.eta.to(r.dtype) * (r[:, None] - self.shift.to(r.dtype)) ** 2)


class _WideByMoments(DoubleBuffers):
    """Wide angular functions of integer ζ from one-neighbour sums."""

    mix: Tensor
    forward_value: Tensor
    order: Tensor

    def __init__(self, functions: Sequence[AngularFunction], cutoff: float) -> None:
        super().__init__()
        whole = [(*f[:4], f[4] if len(f) > 4 else cutoff) for f in functions]
        gaussians = list(dict.fromkeys((eta, r_s, c) for eta, r_s, _, _, c in whole))
        powers = list(dict.fromkeys((zeta, sign) for _, _, zeta, sign, _ in whole))
        self.gaussians = _Gaussians(gaussians, cutoff)
        self.l_max = int(max(zeta for zeta, _ in powers))
        legendre = np.zeros((self.l_max + 1, len(powers)))
        for k, (zeta, sign) in enumerate(powers):
            polynomial_coefficients = (np.polynomial.Polynomial([1.0, sign]) ** int(zeta)).coef
            series = np.polynomial.legendre.poly2leg(polynomial_coefficients) * 2.0 ** (1.0 - zeta)
            legendre[: len(series), k] = series
        degree = np.repeat(np.arange(self.l_max + 1), 2 * np.arange(self.l_max + 1) + 1)
        # rows: (l, m); Σ_m Y_lm Y_lm = (2l+1) P_l with component normalisation
        self.register_buffer(
            "mix", torch.from_numpy(legendre[degree] / (2 * degree + 1)[:, None]), persistent=False
        )
        self.register_buffer("forward_value", torch.from_numpy(legendre.sum(0)), persistent=False)
        order = [gaussians.index((e, s, c)) * len(powers) + powers.index((z, g)) for e, s, z, g, c in whole]
        self.register_buffer("order", torch.tensor(order), persistent=False)

    def forward(
        self, unit: Tensor, r: Tensor, c: Tensor, slot: Tensor, n: int, t: int
    ) -> tuple[Float[Tensor, "atoms elements gaussians lm"], Float[Tensor, "atoms elements gaussians"]]:
        """Σ_j g(r_ij) Y_lm(r̂_ij) and Σ_j g(r_ij)² over the neighbours of each element."""
        g = self.gaussians(r) * c
        y = spherical_harmonics(unit, self.l_max)
        slots = _Slots(slot, n * t)
        # a matrix product for each slot: no array of pairs × gaussians × harmonics, forth or back
        moments = slots.rows(g).transpose(1, 2) @ slots.rows(y)
        squares = g.new_zeros((n * t, g.shape[1])).index_add(0, slot, g * g)
        return moments.reshape(n, t, g.shape[1], y.shape[1]), squares.reshape(n, t, g.shape[1])

    def combine(self, moments: Tensor, squares: Tensor, first: Tensor, second: Tensor) -> Tensor:
        """All unordered pairs of neighbours, per element pair: [atoms, element pairs × functions]."""
        product = moments[:, first] * moments[:, second]
        values = product @ self.mix.to(product.dtype)
        same = (first == second).to(product.dtype)[:, None, None]
        # within one element the double sum counts j = k once and every other pair twice
        alone = squares[:, first][..., None] * self.forward_value.to(product.dtype)
        values = torch.where(same > 0, 0.5 * (values - alone), values)
        return values.flatten(2)[..., self.order].flatten(1)

    def combine_shares(self, moments: Tensor, squares: Tensor, first: Tensor, second: Tensor) -> Tensor:
        """The same where a neighbour has shares in several kinds: it makes no pair with itself in any."""
        product = moments[:, first] * moments[:, second]
        alone = squares[..., None] * self.forward_value.to(product.dtype)
        half = torch.where(first == second, 0.5, 1.0).to(product.dtype)[:, None, None]
        values = half * (product @ self.mix.to(product.dtype) - alone)
        return values.flatten(2)[..., self.order].flatten(1)


class _Slots:
    """Pairs sorted into slots of one width, that of the fullest.

    Args:
        slot: of each pair.
        n: number of slots.
    """

    def __init__(self, slot: Int[Tensor, "pairs"], n: int) -> None:
        filled = torch.bincount(slot, minlength=n)
        self.n, self.width = n, int(filled.max()) if len(slot) else 0
        order = torch.argsort(slot, stable=True)
        rank = torch.arange(len(slot), device=slot.device) - (filled.cumsum(0) - filled)[slot[order]]
        self.place = torch.empty_like(slot).index_copy(0, order, slot[order] * self.width + rank)

    def rows(self, values: Float[Tensor, "pairs k"]) -> Float[Tensor, "slots width k"]:
        """The values of each slot's pairs, 0 where it has no more."""
        k = values.shape[1]
        padded = values.new_zeros((self.n * self.width, k)).index_copy(0, self.place, values)
        return padded.reshape(self.n, self.width, k)


class _Triplets(_Cutoffs):
    """Angular functions by the explicit sum over pairs of neighbours."""

    def __init__(
        self,
        functions: Sequence[AngularFunction],
        cutoff: float,
        shape: tuple[str, float],
        *,
        narrow: bool,
    ) -> None:
        whole = [(*f[:4], f[4] if len(f) > 4 else cutoff) for f in functions]
        super().__init__([f[4] for f in whole])
        self.n = len(functions)
        self.tables = TripletTables.of(whole, *shape, narrow=narrow)
        table = torch.tensor([f[:4] for f in functions], dtype=torch.float64).reshape(-1, 4)
        for k, name in enumerate(("eta", "shift", "zeta", "sign")):
            self.register_buffer(name, table[:, k].clone())

    def forward(
        self, cos: Tensor, rj: Tensor, rk: Tensor, r_jk: Tensor | None
    ) -> Float[Tensor, "triplets functions"]:
        eta, shift, zeta, sign = (getattr(self, k).to(cos.dtype) for k in ("eta", "shift", "zeta", "sign"))
        squares = (rj[:, None] - shift) ** 2 + (rk[:, None] - shift) ** 2
        if r_jk is not None:
            squares = squares + (r_jk[:, None] - shift) ** 2
        # rounding can take 1 + λ cos θ below 0 for collinear neighbours, where its value is 0
        base = (1.0 + sign * cos[:, None]).clamp(min=0.0)
        return 2.0 ** (1.0 - zeta) * base**zeta * torch.exp(-eta * squares)
