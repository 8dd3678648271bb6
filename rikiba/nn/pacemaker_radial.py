"""Radial functions and core repulsion of each pair of elements as the program pacemaker defines them."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from rikiba.core import elements as periodic_table

from .cutoff import cosine, quintic
from .double_buffers import DoubleBuffers
from .radial import SmoothBessel, chebyshev
from .repulsion import lammps_zbl_screening, zbl_switch

KINDS = ("chebyshev_exponential", "chebyshev_power", "bessel", "chebyshev_linear")
COULOMB = 14.399645351950543
"""e²/(4πε₀) in eV Å with the digits of their program."""
_NUMBERS = {
    "cutoff": None, "cutoff_width": 0.01, "decay": 1.0, "repulsion_eV_A": 0.0, "repulsion_per_A2": 1.0,
    "inner_cutoff": 0.0, "inner_width": 0.0, "zbl": 0.0,
}  # fmt: skip
_KEYS = {"radial", "mixing", *_NUMBERS}


class PacemakerRadial(DoubleBuffers):
    """g_k(r) of each pair of elements, R_nl = Σ_k c_nlk g_k, and the repulsion v(r) of cores.

    With x = r/r_c:
    chebyshev_exponential: y = 1 − 2(e^(−λx) − e^(−λ))/(1 − e^(−λ)), g_1 = f, g_k = ½(1 − T_{k−1}(y)) f, where
    f = ½(1 + cos πx), times another such cosine over the last `cutoff_width`;
    chebyshev_power: y = 1 − 2(1 − x)^λ, g_k = ½(1 − T_k(y));
    bessel: `rikiba.nn.radial.SmoothBessel`;
    chebyshev_linear: y = 1 − x, g_k = ½(1 − T_k(y)), which do not vanish at the cutoff.
    v = p e^(−q r²)/r · ½(1 + cos πx).
    Where there is an inner cutoff r_in of width w, v is multiplied by S((r − r_in + w)/w) and g by 1 − S, S
    the quintic step from 1 to 0. With a `zbl` of ζ > 0 instead v = ½ζ(V + S) S((r − r_c + w)/w), w the
    `cutoff_width`: V is `rikiba.nn.repulsion.lammps_zbl_pair_energy` and S its `zbl_switch`, g has
    no inner step, and `closest` tells how far an atom is inside.
    Lysogorskiy et al., doi:10.1038/s41524-021-00559-9; Bochkarev et al.,
    doi:10.1103/PhysRevMaterials.6.013804. A departure: their program leaves v out where q r² ≥ 50.

    Args:
        elements: symbols.
        bonds: table for each ordered pair, see `rikiba.potentials.pacemaker_ace.PacemakerACE`.
        l_max: largest l of R_nl.
    """

    mixing: Tensor
    table: Tensor
    kind: Tensor
    inner: Tensor
    charges: Tensor
    """Atomic numbers."""

    def __init__(
        self, *, elements: Sequence[str], bonds: Mapping[str, Mapping[str, Any]], l_max: int
    ) -> None:
        super().__init__()
        rows = [[_bond(bonds, f"{a}-{b}") for b in elements] for a in elements]
        every = [bond for row in rows for bond in row]
        self.n_base = max(len(k) for bond in every for l in bond["mixing"] for k in l)
        self.n_radial = max(len(bond["mixing"]) for bond in every)
        n, self.l_max = len(elements), l_max
        has = max(len(n_l) for bond in every for n_l in bond["mixing"]) - 1
        if has < l_max:
            raise ValueError(f"The functions need l up to {l_max}; mixing of every bond ends at l = {has}.")
        mixing = torch.zeros(n, n, l_max + 1, self.n_radial, self.n_base, dtype=torch.float64)
        for i, row in enumerate(rows):
            for j, bond in enumerate(row):
                c = torch.tensor(bond["mixing"], dtype=torch.float64)
                if c.ndim != 3:
                    raise ValueError(f"mixing of {elements[i]}-{elements[j]} has three levels: n, l, k.")
                kept = c[:, : l_max + 1].transpose(0, 1)
                mixing[i, j, : kept.shape[0], : kept.shape[1], : kept.shape[2]] = kept
        self.register_buffer("mixing", mixing, persistent=False)
        table = torch.tensor(
            [[[bond[k] for k in _NUMBERS] for bond in row] for row in rows], dtype=torch.float64
        )
        kind = torch.tensor([[KINDS.index(bond["radial"]) for bond in row] for row in rows])
        self.register_buffer("table", table, persistent=False)
        self.register_buffer("kind", kind, persistent=False)
        stepped = (table[..., 6] > 0) & (table[..., 7] == 0)
        self.register_buffer("inner", stepped, persistent=False)
        self.cutoff = float(table[..., 0].max())
        self.kinds = tuple(sorted(set(kind.flatten().tolist())))
        nuclear = table[..., 7] > 0
        if nuclear.any() != nuclear.all():
            raise ValueError("zbl is given for every bond or for none.")
        self.zbl = bool(nuclear.any())
        self.repels = self.zbl or bool((table[..., 3] != 0).any())
        charges = periodic_table.numbers_of(tuple(elements)).double()
        self.register_buffer("charges", charges, persistent=False)
        self._bessel = SmoothBessel(n=self.n_base, cutoff=1.0)

    def base(
        self, r: Float[Tensor, "pairs"], centre: Int[Tensor, "pairs"], neighbour: Int[Tensor, "pairs"]
    ) -> Float[Tensor, "pairs base"]:
        """g_k of each pair; `centre` and `neighbour` are indices of elements."""
        cutoff, width, decay = self.table.to(r)[centre, neighbour].unbind(-1)[:3]
        kind = self.kind[centre, neighbour]
        forms = (self._exponential, self._power, self._smooth_bessel, self._linear)
        out = r.new_zeros((len(r), self.n_base))
        for k in self.kinds:
            out = torch.where((kind == k)[:, None], forms[k](r, cutoff, width, decay), out)
        out = out * (1.0 - self._inside(r, centre, neighbour, 0.0))[:, None]
        return torch.where((r < cutoff)[:, None], out, torch.zeros_like(out))

    def repulsion(
        self, r: Float[Tensor, "pairs"], centre: Int[Tensor, "pairs"], neighbour: Int[Tensor, "pairs"]
    ) -> Float[Tensor, "pairs"]:
        """v of each pair, eV."""
        values = self.table.to(r)[centre, neighbour].unbind(-1)
        if self.zbl:
            return self._nuclear(r, centre, neighbour)
        bare = values[3] * torch.exp(-values[4] * r**2) / r
        return bare * cosine(r / values[0]) * self._inside(r, centre, neighbour, 1.0)

    def _nuclear(self, r: Tensor, centre: Tensor, neighbour: Tensor) -> Tensor:
        cutoff, width = self.table.to(r)[centre, neighbour].unbind(-1)[:2]
        scale = self.table.to(r)[centre, neighbour, 7]
        z_i, z_j = self.charges.to(r)[centre], self.charges.to(r)[neighbour]
        c0, c3, c4 = zbl_switch(z_i, z_j, cutoff, width)
        t = (r - cutoff + width).clamp(min=0.0)
        form = lammps_zbl_screening(r, z_i, z_j) / r + c0 + t**3 * (c3 + c4 * t)
        return 0.5 * scale * COULOMB * z_i * z_j * form * quintic((r - cutoff) / width + 1.0)

    def closest(
        self, r: Float[Tensor, "pairs"], i: Int[Tensor, "pairs"], j: Int[Tensor, "pairs"],
        types: Int[Tensor, "atoms"],
    ) -> Float[Tensor, "atoms"]:  # fmt: skip
        """u = (r − r_in + w)/w of the pair of each atom whose r − r_in + w is least; 1 without neighbours.

        Pairs at the same least distance share it. Its slope jumps where another becomes the closest.
        """
        cutoff, *_, end, width, _ = self.table.to(r)[types[i], types[j]].unbind(-1)
        d = torch.where(r < cutoff, r - end + width, torch.inf)
        least = d.new_full((len(types),), torch.inf)
        least = least.scatter_reduce(0, i, d.detach(), "amin")
        chosen = torch.nonzero((d == least[i]) & (r < cutoff)).flatten()
        count = d.new_zeros(len(types)).index_add(0, i[chosen], torch.ones_like(d[chosen]))
        u = d.new_zeros(len(types)).index_add(0, i[chosen], d[chosen] / width[chosen])
        return torch.where(count > 0, u / count.clamp(min=1.0), torch.ones_like(u))

    def _inside(self, r: Tensor, centre: Tensor, neighbour: Tensor, otherwise: float) -> Tensor:
        """S of the inner cutoff, `otherwise` where a pair has none."""
        end, width = self.table.to(r)[centre, neighbour].unbind(-1)[5:7]
        has = self.inner[centre, neighbour]
        u = (r - end) / torch.where(has, width, torch.ones_like(width)) + 1.0
        return torch.where(has, quintic(u), torch.full_like(r, otherwise))

    def _exponential(self, r: Tensor, cutoff: Tensor, width: Tensor, decay: Tensor) -> Tensor:
        x, end = r / cutoff, torch.exp(-decay)
        t = chebyshev(1.0 - 2.0 * (torch.exp(-decay * x) - end) / (1.0 - end), self.n_base)
        u = (r - cutoff) / width + 1.0
        f = cosine(x) * cosine(torch.where(u > 0, u, torch.zeros_like(u)))
        return torch.cat([torch.ones_like(t[:, :1]), 0.5 * (1.0 - t[:, 1:])], 1) * f[:, None]

    def _power(self, r: Tensor, cutoff: Tensor, width: Tensor, decay: Tensor) -> Tensor:
        x = r / cutoff
        inside = torch.where(x < 1.0, 1.0 - x, torch.zeros_like(x))
        return 0.5 * (1.0 - chebyshev(1.0 - 2.0 * inside**decay, self.n_base + 1)[:, 1:])

    def _linear(self, r: Tensor, cutoff: Tensor, width: Tensor, decay: Tensor) -> Tensor:
        return 0.5 * (1.0 - chebyshev(1.0 - r / cutoff, self.n_base + 1)[:, 1:])

    def _smooth_bessel(self, r: Tensor, cutoff: Tensor, width: Tensor, decay: Tensor) -> Tensor:
        return self._bessel(r / cutoff) * (cutoff**-1.5)[:, None]  # type: ignore[no-any-return]


def _bond(bonds: Mapping[str, Mapping[str, Any]], pair: str) -> dict[str, Any]:
    """The table of a pair with every number. Raises ValueError for what is not offered."""
    if pair not in bonds:
        raise ValueError(f"bonds has {', '.join(bonds)}; it also needs {pair}.")
    given = bonds[pair]
    unknown = set(given) - _KEYS
    if unknown or not {"radial", "cutoff", "mixing"} <= set(given):
        raise ValueError(
            f"bonds.{pair} has radial, cutoff, mixing and possibly {', '.join([*_NUMBERS][1:])}; "
            f"given {', '.join(given)}."
        )
    if given["radial"] not in KINDS:
        raise ValueError(f"radial of {pair} is {', '.join(KINDS)}; given '{given['radial']}'.")
    out = {k: float(given.get(k, d) if d is not None else given[k]) for k, d in _NUMBERS.items()}
    if not out["cutoff"] > 0 or not out["decay"] > 0 or not out["cutoff_width"] > 0:
        raise ValueError(f"cutoff, cutoff_width and decay of {pair} must be positive; given {out}.")
    if given["radial"] == "chebyshev_power" and out["decay"] < 1.0:
        raise ValueError(f"chebyshev_power needs decay ≥ 1; given {out['decay']} for {pair}.")
    if not 0 <= out["inner_width"] <= out["cutoff"] or not 0 <= out["inner_cutoff"] < out["cutoff"]:
        raise ValueError(f"The inner cutoff of {pair} lies between 0 and its cutoff; given {out}.")
    if out["zbl"] < 0 or (out["zbl"] and not out["inner_width"]):
        raise ValueError(f"zbl of {pair} is a factor > 0 and needs an inner_width > 0; given {out}.")
    if out["repulsion_eV_A"] < 0 or not out["repulsion_per_A2"] > 0:
        raise ValueError(f"The repulsion of {pair} must be repulsive and decay; given {out}.")
    return out | {"radial": given["radial"], "mixing": given["mixing"]}
