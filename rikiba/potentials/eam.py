"""The embedded-atom method from tabulated functions."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from rikiba.core import elements as periodic_table
from rikiba.core.pairs import Pairs
from rikiba.core.results import Results
from rikiba.core.system import System
from rikiba.nn.double_buffers import DoubleBuffers

from .base import Potential, Program, check_positive
from .pair import quintic_switch

Interpolation = Literal["spline", "lammps"]


class EAM(DoubleBuffers, Potential):
    """E = Σ_i F_{Z_i}(ρ_i) + ½ Σ_i Σ_{j≠i} φ_{Z_i Z_j}(r_ij), ρ_i = Σ_{j≠i} f(r_ij): metals.

    The density f depends on the neighbour's element, or on both (Finnis–Sinclair type). All functions are
    tables; beyond its table F continues as a straight line, and φ·r and f keep their last value.

    Source: M. S. Daw & M. I. Baskes, Phys. Rev. B 29, 6443 (1984), doi:10.1103/PhysRevB.29.6443, eq. 5; with
    f of two elements G. J. Ackland & V. Vitek, Phys. Rev. B 41, 10324 (1990), doi:10.1103/PhysRevB.41.10324.
    Files in funcfl, setfl (eam/alloy) and eam/fs format: `file = "NAME"` on the command line,
    `rikiba.interop.eam_files` in Python.

    Args:
        embedding: F of each element at ρ = 0, density_step, 2·density_step …, eV.
        density: f at r = 0, distance_step, 2·distance_step …; of each neighbour's element like "Cu", or for
            every ordered pair like "Cu-Ni" (the density that Cu puts at the place of Ni).
        pair: r·φ of each pair of elements like "Cu-Ni" at the same distances, eV·Å.
        density_step: spacing of the embedding tables.
        distance_step: spacing of the other tables, Å.
        cutoff: atoms beyond this distance do not interact, Å.
        interpolation: "spline", twice differentiable cubic splines; or "lammps", cubic Hermite pieces with
            slopes from five points, which are once differentiable, to reproduce LAMMPS' numbers.
        switch_width: over this distance before the cutoff f and φ are switched off by a quintic, Å, since
            tables seldom end at zero exactly; 0 for none, as LAMMPS.
    """

    references = ("10.1103/PhysRevB.29.6443",)
    learned = False

    embedding_table: Tensor
    pair_table: Tensor

    def __init__(
        self,
        *,
        embedding: Mapping[str, Sequence[float]],
        density: Mapping[str, Sequence[float]],
        pair: Mapping[str, Sequence[float]],
        density_step: float,
        distance_step: float,
        cutoff: float,
        interpolation: Interpolation = "spline",
        switch_width: float = 0.1,
    ) -> None:
        super().__init__()
        check_positive(density_step=density_step, distance_step=distance_step, cutoff=cutoff)
        if interpolation not in ("spline", "lammps"):
            raise ValueError(f"interpolation must be spline or lammps; given '{interpolation}'.")
        if not 0 <= switch_width <= cutoff:
            raise ValueError(f"switch_width must lie in [0, cutoff = {cutoff}] Å; given {switch_width}.")
        self.elements = periodic_table.sorted_symbols(embedding)
        self.cutoff, self.switch_from = float(cutoff), float(cutoff - switch_width)
        self.density_step, self.distance_step = float(density_step), float(distance_step)
        pieces = _spline_pieces if interpolation == "spline" else _five_point_pieces
        n = len(self.elements)
        embedded = _equal_length([embedding[s] for s in self.elements], "embedding")
        self.register_buffer("embedding_table", pieces(embedded), persistent=False)
        sources = _directed(density, self.elements)
        bonds = _symmetric(pair, self.elements)
        functions = _equal_length([*sources, *bonds], "density and pair")
        # rows from r = 0 to the first node at or beyond the cutoff
        both = pieces(functions)[:, : int(np.ceil(cutoff / distance_step)) + 1]
        f, z = both[: n * n], both[n * n :]
        self.register_buffer("pair_table", torch.cat([f, z], -1).unflatten(0, (n, n)), persistent=False)

    def forward(self, system: System, pairs: Pairs) -> Results:
        types = self.types(system)
        if pairs.cutoff > self.cutoff:
            pairs, _ = pairs.within(system, self.cutoff)
        r = pairs.vectors(system, self.dtype).norm(dim=-1)
        p, row = _place(r, self.distance_step, self.pair_table.shape[2])
        f, z = _cubic(self.pair_table[types[pairs.i], types[pairs.j], row], p)
        switch = torch.ones_like(r)
        if self.switch_from < self.cutoff:
            switch = quintic_switch(r, self.switch_from, self.cutoff)
        rho = r.new_zeros(system.n_atoms).index_add(0, pairs.i, f * switch)
        p, row = _place(rho, self.density_step, self.embedding_table.shape[1])
        (embedded,) = _cubic(self.embedding_table[types, row], p)
        # past its table F is a straight line of the slope at the end
        past = (rho / self.density_step - self.embedding_table.shape[1]).clamp(min=0.0)
        end = self.embedding_table[types, -1]
        energies = (embedded + past * (end[:, 1] + 2.0 * end[:, 2] + 3.0 * end[:, 3])).double()
        return Results(energies=energies.index_add(0, pairs.i, (0.5 * z / r * switch).double()))

    def program(self) -> Program | None:
        """Compiled kernel on the CPU: density, embedding and forces of a centre in one pass."""
        if self.pair_table.device.type != "cpu":
            return None
        from rikiba.kernels.embedded_atom_cpu import embedded_atom

        from .many_body_programs import ManyBodyProgram

        tables = (self.pair_table, self.embedding_table)
        scales = (self.distance_step, self.density_step, self.switch_from, self.cutoff)
        alone = self.embedding_table[:, 0, 0]
        return ManyBodyProgram(self, embedded_atom, *tables, *scales, one_body=alone)

    @classmethod
    def examples(cls) -> "list[EAM]":
        """Small instances for the conformance tests: Finnis–Sinclair forms, tabulated."""
        r, rho = np.arange(301) * 0.015, np.arange(401) * 0.05
        tail = np.clip(4.4 - r, 0.0, None) ** 4
        f = {s: (0.02 * k * tail).tolist() for s, k in (("Ni", 1.0), ("Cu", 1.3))}
        root = {s: (-k * np.sqrt(rho + 0.01) + 0.1 * k).tolist() for s, k in (("Ni", 1.4), ("Cu", 1.1))}
        core = {
            s: (r * k * tail * np.exp(-2.0 * r)).tolist()
            for s, k in (("Ni-Ni", 9.0), ("Cu-Ni", 10.0), ("Cu-Cu", 11.0))
        }
        steps: dict[str, Any] = {"density_step": 0.05, "distance_step": 0.015, "cutoff": 4.4}
        crossed = {f"{a}-{b}": [x * (1.0 + 0.1 * (a != b)) for x in f[a]] for a in f for b in f}
        return [
            cls(embedding=root, density=f, pair=core, **steps),
            cls(embedding=root, density=crossed, pair=core, **steps),
        ]


def _directed(given: Mapping[str, Sequence[float]], elements: tuple[str, ...]) -> list[Sequence[float]]:
    """f at each centre's type (first) from each neighbour's type (second)."""
    simple = set(given) == set(elements)
    wanted = [b if simple else f"{b}-{a}" for a in elements for b in elements]
    if set(given) != set(wanted):
        pairs = ", ".join(f"{a}-{b}" for a in elements for b in elements)
        raise ValueError(
            f"density is given for {', '.join(given)}; needed are {', '.join(elements)} or {pairs}."
        )
    return [given[key] for key in wanted]


def _symmetric(given: Mapping[str, Sequence[float]], elements: tuple[str, ...]) -> list[Sequence[float]]:
    """r·φ of each pair of types."""
    found = []
    known = {f"{a}-{b}" for a in elements for b in elements}
    if not set(given) <= known:
        raise ValueError(f"pair has {', '.join(set(given) - known)}, which embedding does not know.")
    for a in elements:
        for b in elements:
            keys = [k for k in dict.fromkeys((f"{a}-{b}", f"{b}-{a}")) if k in given]
            if len(keys) != 1:
                raise ValueError(f"pair needs {a}-{b} once; it is given {len(keys)} times.")
            found.append(given[keys[0]])
    return found


def _equal_length(tables: list[Sequence[float]], name: str) -> np.ndarray:
    values = [np.asarray(t, dtype=np.float64) for t in tables]
    if len({len(v) for v in values}) != 1 or len(values[0]) < 5:
        raise ValueError(
            f"Tables of {name} need one length of at least 5; given {sorted({len(v) for v in values})}."
        )
    if not all(np.isfinite(v).all() for v in values):
        raise ValueError(f"A table of {name} holds a value that is not finite.")
    return np.stack(values)


def _spline_pieces(values: np.ndarray) -> Float[Tensor, "tables rows 4"]:
    """c₀ + c₁p + c₂p² + c₃p³ of each interval, p in [0, 1], of the not-a-knot C² spline."""
    from scipy.interpolate import CubicSpline

    spline = CubicSpline(np.arange(values.shape[1]), values, axis=1)
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(spline.c[::-1], 0, -1).swapaxes(0, 1)))


def _five_point_pieces(values: np.ndarray) -> Float[Tensor, "tables rows 4"]:
    """The same of cubic Hermite pieces: slopes from five points, from three and two at the ends."""
    slope = np.empty_like(values)
    slope[:, 2:-2] = (8.0 * (values[:, 3:-1] - values[:, 1:-3]) - (values[:, 4:] - values[:, :-4])) / 12.0
    slope[:, [1, -2]] = 0.5 * (values[:, [2, -1]] - values[:, [0, -3]])
    slope[:, [0, -1]] = values[:, [1, -1]] - values[:, [0, -2]]
    rise, left, right = np.diff(values), slope[:, :-1], slope[:, 1:]
    pieces = [values[:, :-1], left, 3.0 * rise - 2.0 * left - right, left + right - 2.0 * rise]
    return torch.from_numpy(np.stack(pieces, -1))


def _place(x: Float[Tensor, "*n"], step: float, n_rows: int) -> tuple[Float[Tensor, "*n"], Int[Tensor, "*n"]]:
    """Place within its interval and interval; a value past the table stands at its end."""
    scaled = x / step
    row = scaled.detach().clamp(0, n_rows - 1).long()
    return (scaled - row).clamp(max=1.0), row


def _cubic(c: Float[Tensor, "*n k"], p: Float[Tensor, "*n"]) -> tuple[Float[Tensor, "*n"], ...]:
    """Value of each group of four coefficients."""
    groups = c.unflatten(-1, (-1, 4)).unbind(-2)
    return tuple(g[..., 0] + p * (g[..., 1] + p * (g[..., 2] + p * g[..., 3])) for g in groups)
