"""The atomic cluster expansion: invariant products of sums over neighbours, of any order."""

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from rikiba.nn.cluster_radial import ClusterRadial, RadialKind

from .ace_products import OneParticle, functions
from .cluster_sums import ClusterSums


class ClusterExpansion(ClusterSums):
    """The functions B of the atomic cluster expansion.

    A_i,znlm = Σ_j δ(z, z_j) R_nl(r_ij) Y_lm(r̂_ij), and B_i,k = Σ_m C_km Π_t A_i,m_t over the products of
    1 … ν of them, coupled to what neither rotation nor inversion nor permutation of the neighbours changes.
    Only independent couplings are kept (`rikiba.nn.coupling.channel_couplings`). Drautz,
    doi:10.1103/PhysRevB.99.014104; Dusson et al., doi:10.1016/j.jcp.2022.110946. Harmonics are real and
    orthonormal.

    With `mixed` radial functions R_nl = Σ_k c_nlk g_k, c of its own for each pair of elements and trainable;
    otherwise R_nl = g_n. For `g` see `rikiba.nn.cluster_radial.ClusterRadial`.

    Args:
        elements: symbols.
        cutoff: Å.
        order: largest number of factors ν (body order ν + 1).
        total_degree: limit of Σ(n + l_weight·l), one for all orders or one for each.
        l_weight: weight of l in the degree.
        n_max: limit of n, likewise.
        l_max: limit of l, likewise.
        mixed: trainable combinations of `n_base` radial functions.
        n_base: radial functions to combine.
        radial: see `ClusterRadial`, which takes what follows too.
        radial_scale: its `scale`.
        envelope: polynomial or cosine.
        envelope_power: power of the polynomial envelope.
        radii: Å, by element.
    """

    def __init__(
        self,
        *,
        elements: Sequence[str],
        cutoff: float,
        order: int,
        total_degree: float | Sequence[float] | None = None,
        l_weight: float = 1.5,
        n_max: int | Sequence[int] | None = None,
        l_max: int | Sequence[int] | None = None,
        mixed: bool = False,
        n_base: int = 8,
        radial: RadialKind = "agnesi",
        radial_scale: float = 5.25,
        envelope: Literal["polynomial", "cosine"] = "polynomial",
        envelope_power: int = 2,
        radii: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__()
        if order < 1:
            raise ValueError(f"order must be at least 1; given {order}.")
        if not l_weight > 0:
            raise ValueError(f"l_weight must be positive; given {l_weight}.")
        if total_degree is None and (n_max is None or l_max is None):
            raise ValueError("Give total_degree, or n_max and l_max.")
        degree = _each("total_degree", total_degree, order, float("inf"))
        ns, ls = _each("n_max", n_max, order, 10**6), _each("l_max", l_max, order, 10**6)
        self.elements, self.cutoff, self.l_weight = tuple(elements), float(cutoff), l_weight
        self.one = OneParticle(len(self.elements), _radial_counts(degree, l_weight, ns, ls))
        self.l_max = len(self.one.count) - 1
        products = functions(
            self.one, order, total_degree=degree, l_weight=l_weight,
            n_max=[int(n) for n in ns], l_max=[int(l) for l in ls],
        )  # fmt: skip
        self.n_functions, self.channels = products.size, products.channels
        n_columns = self.one.count[0] if not mixed else sum(self.one.count)
        self.radial = ClusterRadial(
            elements=self.elements, n=n_base if mixed else n_columns, cutoff=cutoff, kind=radial,
            scale=radial_scale, envelope=envelope, envelope_power=envelope_power, radii=radii,
        )  # fmt: skip
        self.mixing: nn.Parameter | None = None
        first = [0] * (self.l_max + 1)
        if mixed:
            if n_base < self.one.count[0]:
                raise ValueError(f"n_base must be at least the {self.one.count[0]} of n; given {n_base}.")
            first = [sum(self.one.count[:l]) for l in range(self.l_max + 1)]
            start = torch.cat([torch.eye(n_base)[:c] for c in self.one.count])
            n = len(self.elements)
            self.mixing = nn.Parameter(start.expand(n, n, -1, -1).clone())
        self.tabulate(first, torch.from_numpy(products.monomials))
        for name in ("function", "monomial", "coefficient"):
            self.register_buffer(name, torch.from_numpy(getattr(products, name)), persistent=False)

    function: Tensor
    monomial: Tensor
    coefficient: Tensor

    def radial_columns(
        self, r: Float[Tensor, "pairs"], centre: Int[Tensor, "pairs"], neighbour: Int[Tensor, "pairs"]
    ) -> Float[Tensor, "pairs columns"]:
        """R_nl of each pair, for which `first_column[l]` + n − 1 is the column."""
        g = self.radial(r, centre, neighbour)
        if self.mixing is None:
            return g  # type: ignore[no-any-return]
        return (self.mixing.to(g)[centre, neighbour] @ g[:, :, None]).squeeze(-1)

    def on_products(self, c: Float[Tensor, "*n functions"]) -> Float[Tensor, "*n monomials"]:
        """Coefficients of the monomials for coefficients of the functions: Σ c B = Σ c̃ Π A."""
        weighted = c[..., self.function] * self.coefficient.to(c)
        out = c.new_zeros((*c.shape[:-1], len(self.monomials)))
        return out.index_add(-1, self.monomial, weighted)

    def forward(
        self,
        vectors: Float[Tensor, "pairs 3"],
        i: Int[Tensor, "pairs"],
        neighbour: Int[Tensor, "pairs"],
        types: Int[Tensor, "atoms"],
    ) -> Float[Tensor, "atoms components"]:
        """B of every atom."""
        p = self.products(self.sums(vectors, i, neighbour, types))
        weighted = p[:, self.monomial] * self.coefficient.to(p)
        return p.new_zeros((len(types), self.n_functions)).index_add(1, self.function, weighted)

    def smoothness(self, power: float) -> Float[Tensor, "components"]:
        """Γ_k = 1 + Σ_t (n_t^p + (l_weight·l_t)^p) over the factors: large for functions that vary quickly.

        An algebraic smoothness prior as in Witt et al., doi:10.1063/5.0158783.
        """
        w = self.l_weight
        values = [1.0 + sum(n**power + (w * l) ** power for _, n, l in f) for f in self.channels]
        return torch.tensor(values, dtype=torch.float64)


def _each(name: str, value: float | Sequence[float] | None, order: int, default: float) -> list[float]:
    """One limit for each number of factors. Raises ValueError for another number of limits."""
    if value is None:
        return [default] * order
    values = [float(v) for v in value] if isinstance(value, Sequence) else [float(value)] * order
    if len(values) != order:
        raise ValueError(f"{name} is one number or one for each of the {order} orders; given {value}.")
    return values


def _radial_counts(
    degree: list[float], l_weight: float, n_max: list[float], l_max: list[float]
) -> tuple[int, ...]:
    """The largest n of each l that any order can have (a lone function has l = 0)."""
    out: list[int] = []
    while True:
        l, best = len(out), 0
        for nu in range(1, len(degree) + 1):
            # the other factors have n = 1 at least; parity and triangle need l ≤ that of the others together
            spare = min(degree[nu - 1] - (nu - 1) - l_weight * l * (1 if nu == 1 else 2), 10**6)
            if l <= l_max[nu - 1] and (nu > 1 or l == 0):
                best = max(best, int(min(spare + 1e-9, n_max[nu - 1])))
        if best < 1:
            return tuple(out)
        # decreasing in l, as tables of n for each l are
        out.append(min(best, out[-1]) if out else best)
