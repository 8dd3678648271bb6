"""NequIP inference as two compiled functions, forward and reverse; see `rikiba.kernels.nequip_cpu`."""

import copy
from math import exp
from typing import TYPE_CHECKING, Union

import numpy as np
import torch
from torch import Tensor

from rikiba.kernels import atom_energy_cpu as ends
from rikiba.kernels import pair_geometry_cpu as geometry
from rikiba.kernels.dense_cpu import at_cache_line
from rikiba.kernels.nequip_cpu import (
    NequIPPairs,
    chunk_of,
    further_rows,
    nequip_forward,
    nequip_outputs,
    nequip_reverse,
    nequip_space,
)
from rikiba.nn.repulsion import LAMMPS_ZBL

from .equivariant_program import EXACT, CompiledNetwork, Grouped, by_kind, check_tables, exact_table, trial
from .nequip_readout import Readout
from .nequip_weights import OFFSET, Radial, Tables, layers_of, tables_of
from .nequip_workspace import packed

if TYPE_CHECKING:
    from .allegro import Allegro
    from .nequip import NequIP

_CLOSE = 1e-6
"""Å; below, harmonics and Bessel functions need care that only automatic differentiation takes."""


class CompiledNequIP(CompiledNetwork):
    """A snapshot of a NequIP as a program of compiled kernels; see `NequIP.program`."""

    def __init__(self, potential: "NequIP", *, tabulate: bool, tolerance: float) -> None:
        super().__init__(potential, potential.l_max)
        model: NequIP = self._exact  # type: ignore[assignment]
        self.model = model
        self.net = packed(layers_of(model), self._real)
        self.chunk = int(chunk_of(self.net, self.dtype.itemsize))
        self.radial = [Radial(model, t) for t in range(model.n_layers)]
        self.readout = Readout(model)
        self.energies = (model.atomic_energies.values + model.shift.values).double().numpy()
        self.shortest = _CLOSE
        self.tables: Tables | None = None
        self.flat: np.ndarray = np.zeros(0, self._real)
        self.flat_at = np.zeros(model.n_layers, np.int64)
        """Tables of the layers behind the first, and where each begins."""
        self._first: np.ndarray = np.zeros(0, self._real)
        """Tables of the first layer for the elements met so far."""
        self._slots = np.full(len(model.elements), -1)
        self._space: np.ndarray = np.zeros(0, self._real)
        self._most_atoms = -1
        if tabulate:
            self._tabulate(0.5 * tolerance)

    @property
    def _real(self) -> type:
        return np.float32 if self.dtype == torch.float32 else np.float64

    def _tabulate(self, tolerance: float) -> None:
        double = copy.deepcopy(self.model).double()
        self.tables = tables_of(double, tolerance)
        self._double = Radial(double, 0)
        self.table_error, self.intervals = self.tables.error, sum(self.tables.pieces)
        self.shortest = exp(self.tables.start) - OFFSET
        parts = [
            radial.arranged(c, 0).to(self.dtype).flatten().numpy()
            for c, radial in zip(self.tables.coefficients[1:], self.radial[1:], strict=True)
        ]
        self.flat_at = np.cumsum([0, 0, *map(len, parts)])[: self.model.n_layers]
        self.flat = at_cache_line(np.concatenate([self.flat, *parts]))

    def first_table(self, spans: np.ndarray) -> np.ndarray:
        """The first layer's table, a part for each element that has had atoms; sets their slots."""
        assert self.tables is not None
        present = np.flatnonzero(np.diff(spans))
        if (self._slots[present] < 0).any():
            for k in present[self._slots[present] < 0]:
                self._slots[k] = self._slots.max() + 1
                part = self._double.arranged(self.tables.coefficients[0], int(k)).to(self.dtype)
                self._first = at_cache_line(np.concatenate([self._first, part.flatten().numpy()]))
        return self._first

    def space(self, n: int) -> np.ndarray:
        """Numbers for the sweeps over n atoms, kept for the next call."""
        if n > self._most_atoms:
            size = nequip_space(self.net, n, min(self.chunk, n))
            self._space, self._most_atoms = at_cache_line(np.zeros(size, self._real)), n
        return self._space

    def evaluate_sorted(
        self, spans: tuple[int, ...], pairs: Grouped, energies: np.ndarray, threads: int
    ) -> None:
        _Run(self, np.array(spans), pairs).sweep(energies)
        if self.model.zbl:
            repel(self.model, pairs, energies)


def repel(m: Union["NequIP", "Allegro"], p: Grouped, energies: np.ndarray) -> None:
    """Add the nuclear repulsion to energies and slopes."""
    form, reach = LAMMPS_ZBL, np.full(len(m.elements), 0.5 * m.cutoff)
    # the kernel's lengths and charges are those of MACE's form
    ends.repulsion(
        p.start, p.sender, p.types, p.r, m._numbers.numpy(), reach, form.prefactor, form.exponent,
        np.array(form.screening), m.envelope_power, 14.399645 / 14.3996, energies, p.slope,
    )  # fmt: skip


class _Run:
    """One evaluation."""

    def __init__(self, program: CompiledNequIP, spans: np.ndarray, p: Grouped) -> None:
        self.program, self.p, n = program, p, len(p.r)
        self.row = self.first_row = np.zeros(0, np.int64)
        self.pairs = NequIPPairs(
            spans, p.start, p.sender, np.zeros_like(p.sender), self._weights(n, spans),
            p.harmonics.view(-1).numpy(), p.slope, p.harmonics_slope.view(-1).numpy(), program._n_lm,
        )  # fmt: skip

    def _weights(self, n: int, spans: np.ndarray) -> np.ndarray:
        """Spline weights of the pairs; sets their rows."""
        program, p = self.program, self.p
        tables = program.tables
        if tables is None:
            return np.tile(np.array(EXACT, program._real), n)
        program.first_table(spans)
        self.row, self.first_row = np.empty(n, np.int64), np.empty(n, np.int64)
        weights: np.ndarray = np.empty((n, 12), program._real)
        kind, n_rows = np.zeros(n, np.int64), sum(tables.pieces) + 5
        geometry.spline_rows(p.r, kind, tables.start, tables.spacing, OFFSET, n_rows, self.row, weights)
        further_rows(
            self.row,
            tables.pieces[0],
            p.sender_type,
            program._slots,
            len(tables.coefficients[0]),
            self.first_row,
        )
        return weights.reshape(-1)

    def _exact(self, t: int, a: int, b: int) -> tuple[np.ndarray, np.ndarray]:
        """(rows, table) of a layer's pairs of centres a … b − 1 alone."""
        p, radial = self.p, self.program.radial[t]
        q0, q1 = int(p.start[a]), int(p.start[b])
        r = torch.from_numpy(p.r[q0:q1]).to(self.program.dtype)
        kinds = p.sender_type[q0:q1] if t == 0 else np.zeros(q1 - q0, np.int64)

        def function(r: Tensor, kind: int) -> tuple[Tensor, Tensor]:
            value, slope = radial.plain(r)
            return radial.arranged(value, kind), radial.arranged(slope, kind)

        return 2 * (np.arange(len(p.r)) - q0), exact_table(*by_kind(function, r, kinds))

    def sweep(self, energies: np.ndarray) -> None:
        program, n = self.program, len(self.p.types)
        net, layers, chunk = program.net, program.model.n_layers, min(program.chunk, n)
        space = program.space(n)
        out, slope = nequip_outputs(net, n, space)
        if program.tables is not None:
            tables = (self.first_row, program._first, self.row, program.flat, program.flat_at)
            nequip_forward(net, 0, layers, 0, n, chunk, self.pairs, *tables, space)
            self._read(out, energies, slope)
            nequip_reverse(net, 0, layers, 0, n, chunk, self.pairs, *tables, space)
            return
        # tables of the pairs of a chunk at a time
        chunks = [(a, min(a + chunk, n)) for a in range(0, n, chunk)]
        zeros = np.zeros(layers, np.int64)
        for t in range(layers):
            for a, b in chunks:
                table = self._exact(t, a, b)
                nequip_forward(net, t, t + 1, a, b, chunk, self.pairs, *table, *table, zeros, space)
        self._read(out, energies, slope)
        for t in range(layers - 1, -1, -1):
            for a, b in chunks:
                table = self._exact(t, a, b)
                nequip_reverse(net, t, t + 1, a, b, chunk, self.pairs, *table, *table, zeros, space)

    def _read(self, out: np.ndarray, energies: np.ndarray, slope: np.ndarray) -> None:
        n = len(self.p.types)
        h, back = (torch.from_numpy(x).view(n, -1) for x in (out, slope))
        self.program.readout(h, self.p.types, energies, 0, back)


def compiled_nequip(potential: "NequIP", *, tabulate: bool, tolerance: float) -> CompiledNequIP:
    """Build the program and, with tables, hold its forces against the networks'; see `NequIP.program`."""
    from ase.data import covalent_radii

    program = CompiledNequIP(potential, tabulate=tabulate, tolerance=tolerance)
    if tabulate:
        largest = float(covalent_radii[potential._numbers.numpy()].max())
        check_tables(program, trial(potential.elements, 2.2 * largest), tolerance)
    return program
