"""NequIP inference as compiled kernels: a forward and a reverse sweep, with plain matrix products between."""

import copy
from itertools import pairwise
from math import exp
from typing import TYPE_CHECKING, Union

import numpy as np
import torch
from torch import Tensor

from rikiba.kernels import atom_energy_cpu as ends
from rikiba.kernels import pair_geometry_cpu as geometry
from rikiba.kernels.gate_cpu import gate_forward, gate_reverse
from rikiba.kernels.irrep_message_cpu import irrep_message_forward, irrep_message_reverse
from rikiba.nn.repulsion import LAMMPS_ZBL

from .equivariant_program import EXACT, CompiledNetwork, Grouped, by_kind, check_tables, exact_table, trial
from .nequip_readout import Readout
from .nequip_weights import OFFSET, Radial, Tables, layers_of, tables_of
from .nequip_workspace import Chunk, LayerSpace, layer_spaces

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
        self.layers = layers_of(model)
        self.radial = [Radial(model, t) for t in range(model.n_layers)]
        self.readout = Readout(model)
        self.energies = (model.atomic_energies.values + model.shift.values).double().numpy()
        self.shortest = _CLOSE
        self.tables: Tables | None = None
        self.flat: list[np.ndarray] = []
        self._first: np.ndarray = np.zeros(0, self._real)
        """Tables of the first layer for the elements met so far."""
        self._slots = np.full(len(model.elements), -1)
        self._spaces: tuple[tuple[int, ...], list[LayerSpace]] | None = None
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
        self.flat = [np.zeros(0)]
        for c, radial in zip(self.tables.coefficients[1:], self.radial[1:], strict=True):
            self.flat.append(radial.arranged(c, 0).to(self.dtype).flatten().numpy())

    def first_table(self, kinds: np.ndarray) -> np.ndarray:
        """The first layer's table, a part for each element among `kinds`; sets their slots."""
        assert self.tables is not None
        for k in np.flatnonzero(np.bincount(kinds, minlength=len(self._slots))):
            if self._slots[k] < 0:
                self._slots[k] = self._slots.max() + 1
                part = self._double.arranged(self.tables.coefficients[0], int(k)).to(self.dtype)
                self._first = np.concatenate([self._first, part.flatten().numpy()])
        return self._first

    def evaluate_sorted(
        self, spans: tuple[int, ...], pairs: Grouped, energies: np.ndarray, threads: int
    ) -> None:
        if self._spaces is None or self._spaces[0] != spans:
            groups = [(k, a, b) for k, (a, b) in enumerate(pairwise(spans)) if b > a]
            self._spaces = (spans, layer_spaces(self.layers, groups))
        run = _Run(self, self._spaces[1], pairs, energies)
        run.sweep()
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

    def __init__(
        self, program: CompiledNequIP, spaces: list[LayerSpace], p: Grouped, energies: np.ndarray
    ) -> None:
        self.program, self.spaces, self.p, self.energies = program, spaces, p, energies
        self.harmonics = p.harmonics.view(-1).numpy()
        self.harmonics_slope = p.harmonics_slope.view(-1).numpy()
        self.no_features = np.ones(int(max(spaces[0].layer.couplings.channels)), self.harmonics.dtype)
        self.one_sender = np.zeros_like(p.sender)
        self._kept: tuple[tuple[int, int, int], np.ndarray] | None = None
        self._prepare()

    def _prepare(self) -> None:
        p, tables = self.p, self.program.tables
        n = len(p.r)
        if tables is None:
            self.weights = np.tile(np.array(EXACT, self.harmonics.dtype), n)
            return
        self.row, weights = np.empty(n, np.int64), np.empty((n, 12), self.harmonics.dtype)
        kind = np.zeros(n, np.int64)
        n_rows = sum(tables.pieces) + 5
        geometry.spline_rows(p.r, kind, tables.start, tables.spacing, OFFSET, n_rows, self.row, weights)
        if len(tables.pieces) > 1:
            self.row += 5 * (self.row >= tables.pieces[0])
        self.weights = weights.reshape(-1)
        self.first = self.program.first_table(p.sender_type)
        each = len(tables.coefficients[0])
        self.first_row = self.row + self.program._slots[p.sender_type] * each

    def _radial(self, t: int, q0: int, q1: int) -> tuple[np.ndarray, np.ndarray]:
        """(rows, table) of a layer's pairs q0 … q1 − 1; without tables, of these alone."""
        if self.program.tables is not None:
            return (self.row, self.program.flat[t]) if t else (self.first_row, self.first)
        if self._kept is None or self._kept[0] != (t, q0, q1):
            r = torch.from_numpy(self.p.r[q0:q1]).to(self.program.dtype)
            kinds = self.p.sender_type[q0:q1] if t == 0 else np.zeros(q1 - q0, np.int64)
            radial = self.program.radial[t]

            def function(r: Tensor, kind: int) -> tuple[Tensor, Tensor]:
                value, slope = radial.plain(r)
                return radial.arranged(value, kind), radial.arranged(slope, kind)

            self._kept = ((t, q0, q1), exact_table(*by_kind(function, r, kinds)))
        return 2 * (np.arange(len(self.p.r)) - q0), self._kept[1]

    def sweep(self) -> None:
        last = len(self.spaces) - 1
        for t in range(last):
            for chunk in self.spaces[t].chunks:
                self._forward(t, chunk)
                for left, right, out in chunk.up:
                    torch.mm(left, right, out=out)
                for row, out in chunk.up_rows:
                    out.add_(row)
            self.spaces[t + 1].feature_slope.flat.zero_()
        for chunk in self.spaces[last].chunks:
            self._forward(last, chunk)
            self._read(chunk)
            self._reverse(last, chunk)
        for t in range(last - 1, -1, -1):
            for chunk in self.spaces[t].chunks:
                for left, right, out in chunk.back:
                    torch.mm(left, right, out=out)
                for left, right, out in chunk.back_more:
                    out.addmm_(left, right)
                self._reverse(t, chunk)

    def _message(self, t: int, chunk: Chunk) -> tuple:  # type: ignore[type-arg]
        """What both message kernels are given."""
        p, space = self.p, self.spaces[t]
        layer = space.layer
        q0, q1 = int(p.start[chunk.first]), int(p.start[chunk.last])
        row, table = self._radial(t, q0, q1)
        width = layer.columns
        features, n, sender = space.features.array, space.n, p.sender
        if t == 0:
            features, n, sender = self.no_features, 1, self.one_sender
        target = (chunk.message.array, chunk.first, chunk.last - chunk.first)
        if not layer.mix:
            target = (space.mixed.array, 0, space.n)
        return (
            chunk.first, chunk.last, p.start, sender, row, self.weights, table, width, features, n,
            self.harmonics, p.harmonics.shape[1], layer.couplings, layer.places, *target,
        )  # fmt: skip

    def _forward(self, t: int, chunk: Chunk) -> None:
        """Messages, their mixture, self-connection and gate."""
        space = self.spaces[t]
        irrep_message_forward(*self._message(t, chunk))
        for left, right, out in chunk.mix:
            torch.mm(left, right, out=out)
        for left, right, out in chunk.skip:
            out.addmm_(left, right)
        for row, out in chunk.rows:
            out.add_(row)
        for function, x, out in chunk.activate:
            function(x, out=out)
        target = (chunk.out.array, chunk.first, chunk.last - chunk.first)
        if not space.last:
            target = (space.out.array, 0, space.n)
        gate_forward(
            chunk.first, chunk.last, space.layer.gates, space.mixed.array, space.n, chunk.given.array,
            space.opened.numpy(), *target,
        )  # fmt: skip

    def _read(self, chunk: Chunk) -> None:
        n = chunk.last - chunk.first
        self.program.readout(
            chunk.out.rows(0, 0, n), self.p.types, self.energies, chunk.first, chunk.out_slope.rows(0, 0, n)
        )

    def _reverse(self, t: int, chunk: Chunk) -> None:
        """From ∂E/∂(output) to the derivatives of the pairs and of the features."""
        space = self.spaces[t]
        gate_reverse(
            chunk.first, chunk.last, space.layer.gates, space.mixed.array, space.n, space.opened.numpy(),
            chunk.out_slope.array, chunk.first, chunk.last - chunk.first,
        )  # fmt: skip
        for left, right, out in chunk.unmix:
            torch.mm(left, right, out=out)
        irrep_message_reverse(
            *self._message(t, chunk), self.p.slope, self.harmonics_slope,
            space.feature_slope.array if t else np.zeros_like(self.no_features),
        )  # fmt: skip


def compiled_nequip(potential: "NequIP", *, tabulate: bool, tolerance: float) -> CompiledNequIP:
    """Build the program and, with tables, hold its forces against the networks'; see `NequIP.program`."""
    from ase.data import covalent_radii

    program = CompiledNequIP(potential, tabulate=tabulate, tolerance=tolerance)
    if tabulate:
        largest = float(covalent_radii[potential._numbers.numpy()].max())
        check_tables(program, trial(potential.elements, 2.2 * largest), tolerance)
    return program
