"""Compiled gated perceptrons against the module that they stand for."""

from typing import Any

import numpy as np
import pytest
import torch

from rikiba.kernels.gated_cpu import ROWS, centred, gated_outputs, gated_reverse, gated_values, kept, place
from rikiba.nn.gated_mlp import GatedMLP
from rikiba.potentials.chgnet_weights import gates_of

CHANNELS, HIDDEN, NETWORKS = 12, 20, 2
"""Padded to 32."""


def modules(deep: bool, norm: bool) -> list[Any]:
    torch.manual_seed(1)
    widths = (CHANNELS, HIDDEN, CHANNELS) if deep else (CHANNELS, CHANNELS)
    found = [GatedMLP(widths=widths, norm=norm).double() for _ in range(NETWORKS)]
    for m in found:
        for p in m.parameters():
            torch.nn.init.normal_(p, std=0.7)
    return found


def behind_first_layer(m: Any, x: torch.Tensor) -> torch.Tensor:
    """φ from both halves of x."""
    halves = []
    for net, norm, y in zip((m.core, m.gate), (m.core_norm, m.gate_norm), x.unbind(1), strict=True):
        halves.append(norm(net.layers[1](torch.nn.functional.silu(y)) if len(net.layers) > 1 else y))
    return torch.nn.functional.silu(halves[0]) * torch.sigmoid(halves[1])


def compared(
    module: Any, gates: Any, t: int, rows: int, x: np.ndarray, given: np.ndarray
) -> tuple[float, float]:
    """Largest differences of φ and of ∂E/∂x where E = Σ given·φ, in the last rows that are not kept."""
    n, wide, c = x.shape[2], gates.width // 2, gates.channels
    s = kept(gates, NETWORKS, 0, np.float64)
    at, stays = place(gates, s, t, 0, rows)
    assert not stays and at == 0
    s.x[:] = 0.0
    s.x.reshape(ROWS, 2, wide)[:rows, :, :n] = x
    gated_outputs(gates, t, rows, s, at)
    leaf = torch.tensor(x, requires_grad=True)
    phi = behind_first_layer(module, leaf)
    (slope,) = torch.autograd.grad((phi * torch.tensor(given)).sum(), leaf)
    values = []
    for slopes in (False, True):
        gated_values(gates, t, rows, s, at, slopes, at)
        values.append(s.phi.reshape(ROWS, c)[:rows, :CHANNELS].copy())
    assert np.array_equal(*values)
    s.phi.reshape(ROWS, c)[:] = 0.0
    s.phi.reshape(ROWS, c)[:rows, :CHANNELS] = given
    gated_reverse(gates, t, rows, s, at)
    found = s.x.reshape(ROWS, 2, wide)[:rows, :, :n]
    if not gates.hidden and len(
        gates.norm
    ):  # the mean's part comes with the weights of all that adds up to x
        found = found - found.mean(2, keepdims=True)
    return float(np.abs(values[0] - phi.detach().numpy()).max()), float(np.abs(found - slope.numpy()).max())


@pytest.mark.parametrize("norm", [True, False])
@pytest.mark.parametrize("deep", [True, False])
def test_equal_to_the_module(deep: bool, norm: bool) -> None:
    """With any number of rows, padded channels, and the second of two networks."""
    rng, found = np.random.default_rng(0), modules(deep, norm)
    gates = gates_of(found, CHANNELS, np.float64)
    for rows in (1, 7, ROWS):
        x = rng.standard_normal((rows, 2, HIDDEN if deep else CHANNELS))
        if norm and not deep:
            x = x - x.mean(2, keepdims=True)
        difference = compared(found[1], gates, 1, rows, x, rng.standard_normal((rows, CHANNELS)))
        assert max(difference) < 1e-13


def test_a_mean_would_be_seen() -> None:
    """A norm after an input whose mean is not zero is wrong: the kernels do not subtract it."""
    rng, found = np.random.default_rng(0), modules(False, True)
    x = 1.0 + rng.standard_normal((5, 2, CHANNELS))
    gates = gates_of(found, CHANNELS, np.float64)
    assert min(compared(found[1], gates, 1, 5, x, rng.standard_normal((5, CHANNELS)))) > 1e-2


def test_centred_columns() -> None:
    w = torch.randn(7, 3) + 2.0
    assert float(centred(w).mean(0).abs().max()) < 1e-6 < float(w.mean(0).abs().max())
    torch.testing.assert_close(centred(w) - w, (centred(w) - w)[:1].expand(7, 3))
