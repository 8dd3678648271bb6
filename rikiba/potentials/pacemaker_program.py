"""Potentials of pacemaker in the compiled kernels of the cluster expansion."""

import copy
from math import pi, sqrt
from typing import TYPE_CHECKING

import numpy as np
import torch

from rikiba.descriptors.cluster_sums import ClusterSums
from rikiba.kernels import pacemaker_radial_cpu as kernels
from rikiba.nn.pacemaker_radial import COULOMB, PacemakerRadial
from rikiba.nn.repulsion import LAMMPS_ZBL, zbl_switch

from .ace_program import ClusterSweep, CompiledACE, Neighbourhoods

if TYPE_CHECKING:
    from .pacemaker_ace import PacemakerACE


class PacemakerSweep(ClusterSweep):
    """Sums over neighbours with the radial functions of `PacemakerRadial` in a kernel."""

    def __init__(self, descriptor: ClusterSums) -> None:
        super().__init__(descriptor)
        radial: PacemakerRadial = descriptor.radial  # type: ignore[assignment]
        self._table = radial.table.flatten(0, 1).numpy().copy()
        self._kind = radial.kind.flatten().numpy().copy()
        # c of g_k in the columns (l, n)
        self._mixing = radial.mixing.flatten(2, 3).flatten(0, 1).contiguous().numpy()
        self._n_first, self._bessel = radial.n_radial, bessel_recursion(radial.n_base)

    def radial(self, r: np.ndarray, i: np.ndarray, j: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        of = i * self._n_kinds + j
        order = np.argsort(of, kind="stable") if self._n_kinds > 1 else np.arange(len(r))
        group = np.searchsorted(of[order], np.arange(len(self._table) + 1))
        n = self._mixing.shape[1] + self._mixing.shape[2]
        out, slope = self.kept("radial", len(r), n), self.kept("radial_slope", len(r), n)
        kernels.radial_columns(
            order, group, r, self._table, self._kind, self._bessel, self._mixing, self._n_first, out, slope
        )
        if (factor := self._descriptor.harmonic) != 1.0:
            return factor * out, factor * slope
        return out, slope


def bessel_recursion(n: int) -> np.ndarray:
    """Rows a, b, c of `rikiba.nn.radial.SmoothBessel`: f_k = a_k (…), g_k = b_k f_k + c_k g_(k−1)."""
    k = np.arange(n)
    a = (-1.0) ** k * sqrt(2.0) * pi * (k + 1) * (k + 2) / np.hypot(k + 1, k + 2)
    e = k**2 * (k + 2.0) ** 2 / (4.0 * (k + 1.0) ** 4 + 1.0)
    d, before = np.ones(n), np.ones(n)
    for t in range(1, n):
        before[t] = d[t - 1]
        d[t] = 1.0 - e[t] / d[t - 1]
    return np.stack([a, d**-0.5, np.sqrt(e / before / d)])


class CompiledPacemakerACE(CompiledACE):
    """A snapshot of a `PacemakerACE`: the embedded expansion and the repulsion of cores by kernels."""

    sweep_class = PacemakerSweep

    def __init__(self, potential: "PacemakerACE") -> None:
        super().__init__(
            potential,
            potential.descriptor.weights,
            factors=potential.factors,
            exponents=potential.exponents,
            embedding=potential.embeddings,
        )
        self._potential = copy.deepcopy(potential)
        radial = potential.descriptor.radial
        self._table, self._nuclear = radial.table.numpy().copy(), nuclear_table(radial)

    def _energies(self, n: Neighbourhoods, gradient: np.ndarray) -> np.ndarray:
        radial = self._potential.descriptor.radial
        if not radial.repels:
            return super()._energies(n, gradient)
        own, slopes = self._embedded(n)
        centre = np.repeat(np.arange(len(own)), np.diff(n.start))
        v, dv = np.empty(len(n.r)), np.empty(len(n.r))
        kernels.repulsion(n.r, n.kinds[centre], n.neighbour, self._table, self._nuclear, v, dv)
        total = np.bincount(centre, v, len(own))
        if radial.zbl:
            u, share = np.empty(len(own)), np.empty(len(n.r))
            kernels.closest(n.start, n.kinds, n.neighbour, n.r, self._table, u, share)
            step, d_step = _step(u)
            self._sweep.pair_gradient(n, slopes * (1.0 - step)[:, None], gradient)
            along = step[centre] * dv + (d_step * (total - own))[centre] * share
            gradient[n.parent] += along[:, None] * n.unit
            return own + step * (total - own)
        step, d_step = self._core_step(total, n.kinds)
        self._sweep.pair_gradient(n, slopes * step[:, None], gradient)
        gradient[n.parent] += ((1.0 + own * d_step)[centre] * dv)[:, None] * n.unit
        return own * step + total

    def _core_step(self, total: np.ndarray, kinds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """f_c of each centre and its slope."""
        end, width = self._potential.core.numpy()[kinds].T
        step, slope = _step((total - end) / width + 1.0)
        return step, slope / width


def _step(u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The quintic step from 1 at u = 0 to 0 at u = 1, and its slope."""
    u = np.clip(u, 0.0, 1.0)
    return 1.0 - u**3 * (10.0 - 15.0 * u + 6.0 * u * u), -30.0 * (u * (1.0 - u)) ** 2


def nuclear_table(radial: PacemakerRadial) -> np.ndarray:
    """The constants of `rikiba.kernels.pacemaker_radial_cpu.repulsion` for each pair of elements."""
    z = radial.charges
    z_i, z_j = z[:, None].expand(len(z), -1), z[None, :].expand(len(z), -1)
    table = radial.table
    first = [COULOMB * z_i * z_j, (z_i**LAMMPS_ZBL.exponent + z_j**LAMMPS_ZBL.exponent) / 0.4685]
    numbers = [x for group in LAMMPS_ZBL.screening for x in group]
    middle = [torch.full_like(table[..., 0], x) for x in numbers]
    last = zbl_switch(z_i, z_j, table[..., 0], table[..., 1])
    return torch.stack([*first, *middle, *last], -1).contiguous().numpy()
