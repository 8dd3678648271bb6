"""Weights of a CHGNet as its compiled sweep reads them, and room for a sweep's features."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from rikiba.kernels.chgnet_sweep_cpu import Linear, Model, Space
from rikiba.kernels.dense_cpu import at_cache_line
from rikiba.kernels.gated_cpu import ROWS, Gates, Kept, centred, kept

from .filter_program import flat, networks, padded, panelled, widened

if TYPE_CHECKING:
    from .chgnet import CHGNet

_MOST_KEPT = 2**25
"""Numbers that pairs, bonds and angles each may keep for the reverse sweep: 128 MiB in float32."""


def widened_to(x: Tensor, c: int) -> Tensor:
    """Columns filled up with zeros to a multiple of 32, differentiable."""
    return pad(x, (0, padded(c) - c))


def first_part(gate: Any, part: int, c: int) -> Tensor:
    """First layer of core and gate, side by side, on one part of the input: [channels, 2·width]."""
    halves = []
    for net in (gate.core, gate.gate):
        w = _below_norm(gate, 0, net.layers[0].weight)[:, part * c : (part + 1) * c]
        halves.append(widened(widened(w, w.shape[0], 0), c, 1).T)
    return torch.cat(halves, 1)


def first_bias(gate: Any) -> Tensor:
    """Of core and gate, side by side."""
    biases = [_below_norm(gate, 0, net.layers[0].bias) for net in (gate.core, gate.gate)]
    return torch.cat([widened(b, len(b), 0) for b in biases])


def _below_norm(gate: Any, layer: int, w: Tensor) -> Tensor:
    """Weights or bias of a layer, centred where a norm follows; see `gated_cpu`."""
    normed = isinstance(gate.core_norm, nn.LayerNorm) and layer == len(gate.core.layers) - 1
    return centred(w.detach()) if normed else w


def _linear(
    weights: Sequence[Tensor], biases: Sequence[Tensor], like: Tensor, real: type[np.floating]
) -> Linear:
    """Matrices [n_in, n_out] of all layers."""
    n_in, n_out = weights[0].shape if weights else (like.shape[0], 2 * like.shape[0])
    none = [torch.empty(0, dtype=like.dtype)]
    back = panelled([w.T for w in weights], real)
    return Linear(n_in, n_out, panelled(weights, real), back, flat(torch.cat([*none, *biases])))


def gates_of(modules: Sequence[Any], c: int, real: type[np.floating]) -> Gates:
    """Last layers and norms of networks of equal shape."""
    wide, deep = padded(c), bool(modules) and len(modules[0].core.layers) > 1
    weights, biases, norms = [], [], []
    for m in modules:
        for net in (m.core, m.gate):
            last = net.layers[-1]
            weight, bias = (_below_norm(m, len(net.layers) - 1, x) for x in (last.weight, last.bias))
            biases.append(widened(bias, c, 0))
            if deep:
                weights.append(widened(widened(weight, c, 0), last.in_features, 1))
        if hasattr(m.core_norm, "weight"):
            both = (m.core_norm, m.gate_norm)
            norms += [widened(n.weight, c, 0) for n in both] + [widened(n.bias, c, 0) for n in both]
    hidden = padded(modules[0].core.layers[0].out_features) if deep else 0
    none = torch.empty(0, dtype=torch.float32 if real is np.float32 else torch.float64)
    return Gates(
        hidden,
        wide,
        panelled([w.T for w in weights], real),
        panelled(weights, real),
        flat(torch.cat([none, *biases])),
        flat(torch.cat([none, *norms])),
        c,
    )


def arrange(p: "CHGNet", real: type[np.floating]) -> Model:
    """All weights, padded and in panels.

    Raises ValueError for read-outs that `networks` does not have.
    """
    c = p.embedding.shape[1]
    like = widened_to(p.embedding.detach(), c).T

    def parts(gates: Sequence[Any], which: Sequence[int], biased: bool) -> Linear:
        weights, biases = [], []
        for gate in gates:
            weights.append(torch.cat([first_part(gate, k, c) for k in which], 1))
            rest = [torch.zeros_like(first_bias(gate)) for _ in which[1:]]
            biases.append(torch.cat([first_bias(gate), *rest]))
        return _linear(weights, biases if biased else [], like, real)

    def outputs(linears: Sequence[Any]) -> Linear:
        weights = [widened(widened(x.weight, c, 0), c, 1).T for x in linears]
        biases = [widened(x.bias, c, 0) for x in linears if x.bias is not None]
        return _linear(weights, biases, like, real)

    moment = pad(widened(p.moment.weight, c, 1).T, (0, padded(1) - 1))
    norm = torch.empty(0, dtype=p.dtype)
    if isinstance(p.readout_norm, nn.LayerNorm):
        norm = torch.cat([widened(x, c, 0) for x in (p.readout_norm.weight, p.readout_norm.bias)])
    atoms, bonds, angles = (list(m) for m in (p.atom_gates, p.bond_gates, p.angle_gates))
    return Model(
        layers=p.n_layers,
        channels=padded(c),
        count=c,
        scale=float(p.scale),
        pair=gates_of(atoms, c, real),
        bond=gates_of(bonds, c, real),
        angle=gates_of(angles, c, real),
        atoms=parts(atoms, (0, 2), True),
        edges=parts(atoms, (1,), False),
        atom_out=outputs(list(p.atom_outputs)),
        bond_ends=parts(bonds, (0, 1), False),
        bond_middle=parts(bonds, (3,), True),
        bond_own=parts(bonds, (2,), False),
        bond_out=outputs(list(p.bond_outputs)),
        angle_ends=parts(angles, (0, 1), False),
        angle_middle=parts(angles, (3,), True),
        angle_own=parts(angles, (2,), False),
        moment=_linear([moment], [widened(p.moment.bias, 1, 0)], like, real),
        norm=flat(norm),
        readout=networks([p.readout], c, 1),
    )


class Room:
    """Arrays of a sweep, kept from call to call and made anew where they are too small."""

    def __init__(self, model: Model, real: type[np.floating]) -> None:
        self._model, self._real = model, real
        self._sizes: tuple[int, ...] = (-1, -1, -1, -1)
        self.space: Space
        self.pairs: Kept
        self.bonds: Kept
        self.angles: Kept

    def of(self, atoms: int, pairs: int, edges: int, angles: int) -> "Room":
        """With room for so many; an eighth more where arrays are made."""
        wanted = (atoms, pairs, edges, angles)
        if any(w > s for w, s in zip(wanted, self._sizes, strict=True)):
            self._sizes = tuple(max(s, w + w // 8) for w, s in zip(wanted, self._sizes, strict=True))
            self._make(*self._sizes)
        return self

    def _make(self, atoms: int, pairs: int, edges: int, angles: int) -> None:
        m, T = self._model, self._model.layers
        sizes = space_sizes(m, atoms, edges, angles)
        self.space = Space(**{name: at_cache_line(np.zeros(n, self._real)) for name, n in sizes})

        def keep(net: Gates, networks: int, rows: int) -> Kept:
            each = max(networks, 1) * net.row_kept
            return kept(net, networks, min(rows, _MOST_KEPT // each), self._real)

        self.pairs, self.bonds = keep(m.pair, T, pairs), keep(m.bond, T - 1, angles)
        self.angles = keep(m.angle, T - 2, angles)


def space_sizes(m: Model, n: int, edges: int, angles: int) -> Iterator[tuple[str, int]]:
    """Numbers of each array for n atoms."""
    c, T = m.channels, m.layers
    pair, bond, angle = m.edges.n_out, m.bond_own.n_out, m.angle_own.n_out
    yield from {
        "v": (T + 1) * n * c,
        "e": T * edges * c,
        "a": (T - 1) * angles * c,
        "atoms": T * n * 2 * pair,
        "edges": T * edges * pair,
        "bond_ends": (T - 1) * edges * 2 * bond,
        "bond_middle": (T - 1) * n * bond,
        "angle_ends": (T - 2) * edges * 2 * angle,
        "angle_middle": (T - 2) * n * angle,
        "filters": edges * c,
        "sums": max(n, edges) * c,
        "v_back": n * c,
        "e_back": edges * c,
        "a_back": angles * c,
        "filters_back": edges * c,
        "atoms_back": n * 2 * pair,
        "edges_back": edges * pair,
        "ends_back": edges * 2 * max(bond, angle),
        "middle_back": n * max(bond, angle),
        "read": 4 * ROWS * int(m.readout.widths.max()),
        "read_slopes": ROWS * int(m.readout.widths.sum()),
    }.items()
