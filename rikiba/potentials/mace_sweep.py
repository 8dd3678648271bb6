"""One layer of a MACE's compiled program during one evaluation: its forward and reverse steps by chunk."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from rikiba.kernels import atom_energy_cpu as ends
from rikiba.kernels.contraction_cpu import contraction_forward, contraction_reverse
from rikiba.kernels.message_cpu import message_forward, message_reverse

from .equivariant_program import by_kind, exact_table
from .mace_workspace import Chunk, LayerSpace

if TYPE_CHECKING:
    from .mace_program import CompiledMACE


@dataclass
class SweepPairs:
    """What every layer reads of the pairs, grouped by centre."""

    start: np.ndarray
    sender: np.ndarray
    kind: np.ndarray
    """Type pair, or 0."""
    sender_type: np.ndarray
    r: np.ndarray
    harmonics: Tensor
    angular: np.ndarray
    """The same, flat."""
    row: np.ndarray
    typed_row: np.ndarray
    """The row in a table with one kind per pair of types."""
    weights: np.ndarray
    slope: np.ndarray
    """∂E/∂r."""
    harmonics_slope: Tensor
    angular_slope: np.ndarray
    """The same, flat."""


class LayerRun:
    """One layer during one evaluation."""

    def __init__(
        self, program: "CompiledMACE", number: int, space: LayerSpace, p: SweepPairs, energies: np.ndarray
    ) -> None:
        self.program, self.number, self.space, self.p, self.energies = program, number, space, p, energies
        self.layer, self.channels = space.layer, program.channels
        self.sender = p.sender if number else p.sender_type
        self.norm = p.angular[:0]
        self.share_slope = p.slope
        self.array = space.features.array if number else self.layer.up[0].numpy().reshape(-1)
        self.n_senders = space.features.n if number else len(self.layer.up[0])
        self.tables = program._tables
        self._row = np.empty(0 if self.tables is not None else len(p.r), np.int64)
        self._kept: dict[int, tuple[tuple[int, int], tuple[np.ndarray, np.ndarray, np.ndarray]]] = {}
        """The network's values for each worker's last chunk: in the last layer its reverse comes next."""

    def start(self) -> None:
        """Before the chunks: density of the pairs; the layer before has no derivatives yet."""
        if self.space.before is not None:
            self.space.before.out_slope.flat.zero_()
        if self.layer.n_density:
            self._densities()

    def features(self, first: int, last: int) -> None:
        """This layer's features of atoms first … last − 1 from the layer before."""
        before = self.space.before
        assert before is not None
        for l, w in enumerate(self.layer.up):
            torch.mm(before.out.rows(l, first, last), w, out=self.space.features.rows(l, first, last))

    def _densities(self) -> None:
        p, number = self.p, self.number
        share, self.share_slope = np.empty(len(p.r)), np.empty(len(p.r))
        if self.tables is not None:
            row = p.row if self.layer.mix else p.typed_row
            ends.spline_column(row, p.weights, self.program._density[number], share, self.share_slope)
        elif len(p.r):
            value, slope = self._network(0, len(p.r))
            share[:], self.share_slope[:] = value[:, -1].double().numpy(), slope[:, -1].double().numpy()
        self.norm = np.empty(len(p.start) - 1, p.angular.dtype)
        ends.density_forward(p.start, share, self.norm)

    def _network(self, q0: int, q1: int) -> tuple[Tensor, Tensor]:
        """R and R′ of some pairs from the radial network itself."""
        r = torch.from_numpy(self.p.r[q0:q1]).to(self.program.dtype)
        kinds = self.p.kind[q0:q1]
        function = self.program._functions[self.number]
        return by_kind(function.both, r, kinds)

    def _radial(self, worker: int, q0: int, q1: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(row, weights, table) that the message kernels read; rows count from q0 in the exact case."""
        p = self.p
        if self.tables is not None:
            row = p.row if self.layer.mix else p.typed_row
            return row, p.weights.reshape(-1), self.tables[self.number]
        kept = self._kept.get(worker)
        if kept is not None and kept[0] == (q0, q1):
            return kept[1]
        self._row[q0:q1] = 2 * np.arange(q1 - q0)
        n = len(self.layer.paths.d3) * self.channels
        value, slope = self._network(q0, q1)
        found = self._row, p.weights.reshape(-1), exact_table(value[:, :n], slope[:, :n])
        self._kept[worker] = ((q0, q1), found)
        return found

    def _angular(self, q0: int, q1: int) -> tuple[np.ndarray, int]:
        if self.layer.coupling is None:
            return self.p.angular, 0
        return torch.mm(self.p.harmonics[q0:q1], self.layer.coupling).numpy().reshape(-1), q0

    def _message(self, kernel: Callable[..., None], chunk: Chunk, *rest: np.ndarray) -> None:
        """Run a message kernel; the reverse one gets ∂E/∂(angular) to fill as its third last argument."""
        p, layer = self.p, self.layer
        q0, q1 = int(p.start[chunk.first]), int(p.start[chunk.last])
        row, weights, table = self._radial(chunk.worker, q0, q1)
        angular, origin = self._angular(q0, q1)
        kernel(
            chunk.first, chunk.last, p.start, self.sender, row, weights, table, self.array, self.n_senders,
            angular, origin, layer.paths, layer.message_rows, self.channels, self.norm, *rest,
        )  # fmt: skip

    def forward(self, number: int) -> None:
        """Messages, their mixture, products, and the layer's linear maps."""
        chunk, layer = self.space.chunks[number], self.layer
        n, a = chunk.last - chunk.first, chunk.first
        self._message(message_forward, chunk, chunk.message)
        for left, right, out in chunk.mix:
            torch.mm(left, right, out=out)
        for kind, first, last in chunk.spans:
            contraction_forward(
                layer.tree, self.space.product_weights[kind], chunk.product.array, layer.product_rows, a, n,
                chunk.output.array, layer.output_rows, a, n, first, last, self.channels,
            )  # fmt: skip
        for left, right, out in chunk.product_to:
            torch.mm(left, right, out=out)
        for before, weights, out in chunk.connect:
            if weights is None:
                out.add_(before)
            else:
                out.addmm_(before, weights)

    def read(self, number: int) -> None:
        """Energy read from a layer before the last."""
        if self.space.readout is None:
            return
        chunk = self.space.chunks[number]
        rows = self.space.out.rows(0, chunk.first, chunk.last)
        ends.linear_readout(rows.numpy(), self.space.readout, self.energies, chunk.first)

    def read_last(self, number: int) -> None:
        """Energy read from the last layer; `hidden` becomes its derivative."""
        chunk = self.space.chunks[number]
        weights, activation = self.program._head
        ends.hidden_readout(chunk.hidden, weights, activation, self.energies, chunk.first)

    def gather(self, number: int, space: LayerSpace) -> None:
        """∂E/∂h of a chunk's atoms, once the next layer (with its `space`) has been reversed."""
        a, b = self.space.ranges[number]
        for l, w in enumerate(space.layer.up):
            total, *others = [x.rows(l, a, b) for x in space.feature_slopes]
            for other in others:
                total.add_(other)
            self.space.out_slope.rows(l, a, b).addmm_(total, w.T)
        if self.layer.readout is not None:
            self.space.out_slope.rows(0, a, b).add_(self.layer.readout)

    def reverse(self, number: int) -> None:
        """From ∂E/∂(output) of a chunk to the derivatives of its pairs and of the layer before."""
        chunk, layer = self.space.chunks[number], self.layer
        for left, right, out in chunk.product_from:
            torch.mm(left, right, out=out)
        for left, right, out in chunk.unconnect:
            out.addmm_(left, right)
        n, a = chunk.last - chunk.first, chunk.first
        for kind, first, last in chunk.spans:
            contraction_reverse(
                layer.tree, self.space.product_weights[kind], chunk.product.array, layer.product_rows, a, n,
                chunk.output_slope.array, layer.output_rows, a, n, first, last, self.channels,
                chunk.product_slope.array, a, n,
            )  # fmt: skip
        if layer.n_density:
            for value, gradient in zip(chunk.product.blocks, chunk.product_slope.blocks, strict=True):
                ends.density_reverse(
                    a, chunk.last, self.p.start, self.norm, value.numpy(), gradient.numpy(),
                    self.share_slope, self.p.slope,
                )  # fmt: skip
        for left, right, out in chunk.unmix:
            torch.mm(left, right, out=out)
        self._reverse_messages(chunk, chunk.message_slope)

    def _reverse_messages(self, chunk: Chunk, cotangent: np.ndarray) -> None:
        p, coupling = self.p, self.layer.coupling
        feature_slope = self.space.feature_slopes[chunk.worker].array
        if coupling is None:
            self._message(message_reverse, chunk, cotangent, p.slope, p.angular_slope, feature_slope)
            return
        q0, q1 = int(p.start[chunk.first]), int(p.start[chunk.last])
        angular_slope = torch.zeros((q1 - q0, coupling.shape[1]), dtype=coupling.dtype)
        flat = angular_slope.view(-1).numpy()
        self._message(message_reverse, chunk, cotangent, p.slope, flat, feature_slope)
        p.harmonics_slope[q0:q1].addmm_(angular_slope, coupling.T)
