"""Compiled read-outs of atoms: a network, or one network times the sigmoid of another, there and back."""

import math

from .compiled import compiled
from .dense_cpu import network_forward, network_reverse


@compiled
def network_energies(  # type: ignore[no-untyped-def]
    net, x, x_at, rows, slopes, work, out, scale, energies, first, back, back_at
):
    """Energies of atoms first … first + rows − 1 from the rows of x, and scale·∂(their sum)/∂x into `back`.

    `slopes` and `out` hold the hidden layers and outputs of as many rows, `work` that of `network_forward`.
    """
    n_in, wide = net.widths[0], net.widths[-1]
    network_forward(net, 0, x, x_at, n_in, rows, slopes, 0, work, out, 0, wide, False)
    for k in range(rows):
        energies[first + k] = out[k * wide]
    out[: rows * wide] = 0.0
    for k in range(rows):
        out[k * wide] = scale
    network_reverse(net, 0, out, 0, wide, rows, slopes, 0, work, back, back_at, n_in, False)


@compiled
def gated_energies(  # type: ignore[no-untyped-def]
    net, count, x, x_at, rows, slopes, work, out, scale, energies, first, back, back_at
):
    """As `network_energies`; of two networks (`count`) the second goes through a sigmoid, weights the first.

    `slopes` and `out` hold the hidden layers and outputs of two networks for as many rows as are ever given.
    """
    n_in, wide, half, second = net.widths[0], net.widths[-1], len(slopes) // 2, len(out) // 2
    for r in range(count):
        network_forward(net, r, x, x_at, n_in, rows, slopes, r * half, work, out, r * second, wide, False)
    for k in range(rows):
        value, share, slope = out[k * wide], 1.0, 0.0
        other = second + k * wide
        if count == 2:
            share = 1.0 / (1.0 + math.exp(-out[other]))
            slope = value * share * (1.0 - share)
        energies[first + k] = value * share
        out[k * wide : (k + 1) * wide] = 0.0
        out[k * wide] = scale * share
        out[other : other + wide] = 0.0
        out[other] = scale * slope
    for r in range(count):
        network_reverse(
            net, r, out, r * second, wide, rows, slopes, r * half, work, back, back_at, n_in, r > 0
        )
