"""A whole SchNet as one compiled function: forward, read-out, reverse; see `rikiba.potentials.schnet`."""

from typing import NamedTuple

import numpy as np

from .compiled import compiled
from .dense_cpu import Network, dense, network_forward, network_reverse
from .filter_message_cpu import scalar_messages, scalar_messages_reverse
from .lanes import LANES, load, splat, store

CHUNK = 64
"""Atoms whose arrays stay in cache between the steps of a layer."""


class SchNetWeights(NamedTuple):
    """Channels c and filters f padded with zeros to multiples of 32; networks keep the padding at zero."""

    embedding: np.ndarray
    """[types·c]."""
    first: np.ndarray
    """Features that neighbours read in the first layer, [types·f]."""
    inward: np.ndarray
    """Panels c → f of the layers after the first."""
    inward_back: np.ndarray
    outward: Network
    """f → c of all layers."""
    readout: Network


@compiled
def schnet_space(n, net, layers):  # type: ignore[no-untyped-def]
    """How many numbers `schnet_sweep` needs as its `space` for n atoms."""
    c, f = net.readout.widths[0], net.outward.widths[0]
    n_out, widest, hidden, hidden_out = _sizes(net)
    return n * (2 * c + layers * f + layers * hidden) + CHUNK * (f + n_out + 2 * widest + hidden_out)


@compiled
def _sizes(net):  # type: ignore[no-untyped-def]
    """Width of the read-out's output, of the widest hidden layer, and sums of hidden widths."""
    n_out = net.readout.widths[-1]
    widest, hidden, hidden_out = 0, 0, 0
    for w in net.outward.widths[1:-1]:
        widest, hidden = max(widest, w), hidden + w
    for w in net.readout.widths[1:-1]:
        widest, hidden_out = max(widest, w), hidden_out + w
    return n_out, widest, hidden, hidden_out


@compiled
def schnet_sweep(  # type: ignore[no-untyped-def]
    types, start, sender, row, weights, table, layers, net, space, scale, energies, slope
):
    """Read-outs of all atoms into `energies`; adds ∂(scale·Σ energies)/∂r to `slope`, per pair.

    `table` holds layer after layer; for the rest see `filter_message_cpu`. `space` is overwritten.
    """
    n, c, f = len(types), net.readout.widths[0], net.outward.widths[0]
    n_out, widest, hidden, hidden_out = _sizes(net)
    at = 0
    x, at = space[at : at + n * c], at + n * c
    g, at = space[at : at + n * c], at + n * c
    senders, at = space[at : at + (layers - 1) * n * f], at + (layers - 1) * n * f
    back, at = space[at : at + n * f], at + n * f
    slopes, at = space[at : at + layers * n * hidden], at + layers * n * hidden
    message, at = space[at : at + CHUNK * f], at + CHUNK * f
    out, at = space[at : at + CHUNK * n_out], at + CHUNK * n_out
    work, at = space[at : at + CHUNK * 2 * widest], at + CHUNK * 2 * widest
    out_slopes = space[at : at + CHUNK * hidden_out]
    nothing, first_sender = space[:0], types[sender]
    size, panel, zero = len(table) // layers, c * f, splat(space.dtype.type(0))
    for a in range(n):
        for v in range(0, c, LANES):
            store(x, a * c + v, load(net.embedding, types[a] * c + v))
    for t in range(layers):
        read = senders if t else net.first
        f_at, by = max(t - 1, 0) * n * f, sender if t else first_sender
        for a in range(0, n, CHUNK):
            b = min(n, a + CHUNK)
            scalar_messages(a, b, start, by, row, weights, table, t * size, read, f_at, f, message)
            network_forward(
                net.outward, t, message, 0, f, b - a, slopes, (t * n + a) * hidden, work, x, a * c, c, True
            )
            if t < layers - 1:
                dense(
                    x, a * c, c, b - a, c, net.inward, t * panel, nothing, 0, senders, (t * n + a) * f, f, f,
                    False,
                )  # fmt: skip
                continue
            network_forward(net.readout, 0, x, a * c, c, b - a, out_slopes, 0, work, out, 0, n_out, False)
            for k in range(b - a):
                energies[a + k] = out[k * n_out]
            out[: (b - a) * n_out] = 0.0
            for k in range(b - a):
                out[k * n_out] = scale
            network_reverse(net.readout, 0, out, 0, n_out, b - a, out_slopes, 0, work, g, a * c, c, False)
    for t in range(layers - 1, -1, -1):
        read, given = (senders if t else net.first), (back if t else nothing)
        f_at, by = max(t - 1, 0) * n * f, sender if t else first_sender
        for v in range(0, len(given), LANES):
            store(given, v, zero)
        for a in range(0, n, CHUNK):
            b = min(n, a + CHUNK)
            network_reverse(
                net.outward, t, g, a * c, c, b - a, slopes, (t * n + a) * hidden, work, message, 0, f, False
            )
            scalar_messages_reverse(
                a, b, start, by, row, weights, table, t * size, read, f_at, f, message, slope, given
            )
        if t:
            dense(back, 0, f, n, f, net.inward_back, (t - 1) * panel, nothing, 0, g, 0, c, c, True)
