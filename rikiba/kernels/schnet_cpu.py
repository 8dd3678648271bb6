"""A whole SchNet as one compiled function: forward, read-out, reverse; see `rikiba.potentials.schnet`."""

from typing import NamedTuple

import numpy as np

from .compiled import compiled
from .dense_cpu import Network, dense, hidden_width, network_forward, network_reverse
from .filter_message_cpu import scalar_messages, scalar_messages_reverse
from .gated_readout_cpu import network_energies
from .lanes import LANES, load, splat, store
from .workspace_cpu import carved, widest_hidden

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
def _sizes(n, net, layers):  # type: ignore[no-untyped-def]
    """Of the arrays of one sweep, in order."""
    c, f = net.readout.widths[0], net.outward.widths[0]
    widest = max(widest_hidden(net.outward), widest_hidden(net.readout))
    return (
        n * c, n * c, (layers - 1) * n * f, n * f, layers * n * hidden_width(net.outward), CHUNK * f,
        CHUNK * net.readout.widths[-1], CHUNK * 2 * widest, CHUNK * hidden_width(net.readout),
    )  # fmt: skip


@compiled
def schnet_space(n, net, layers):  # type: ignore[no-untyped-def]
    """How many numbers `schnet_sweep` needs as its `space` for n atoms."""
    return sum(_sizes(n, net, layers))


@compiled
def schnet_sweep(  # type: ignore[no-untyped-def]
    types, start, sender, row, weights, table, layers, net, space, scale, energies, slope
):
    """Read-outs of all atoms into `energies`; adds ∂(scale·Σ energies)/∂r to `slope`, per pair.

    `table` holds layer after layer; for the rest see `filter_message_cpu`. `space` is overwritten.
    """
    n, c, f = len(types), net.readout.widths[0], net.outward.widths[0]
    sizes, hidden = _sizes(n, net, layers), hidden_width(net.outward)
    x, g, senders, back, slopes, message, out, work, out_slopes = carved(space, sizes)
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
            network_energies(
                net.readout, x, a * c, b - a, out_slopes, work, out, scale, energies, a, g, a * c
            )
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
