"""Matrix products, activations and networks inside compiled code, against NumPy's and torch's."""

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import silu, softplus

from rikiba.kernels.activation_cpu import SHIFTED_SOFTPLUS, SILU, TANH, activate
from rikiba.kernels.dense_cpu import Network, at_cache_line, dense, network, network_forward, network_reverse
from rikiba.kernels.dense_cpu import panels as panels_of

REALS = [(np.float32, 3e-5), (np.float64, 1e-12)]


def shifted(x: Tensor) -> Tensor:
    return softplus(x) - float(np.log(2.0))


FUNCTIONS = {SILU: silu, SHIFTED_SOFTPLUS: shifted, TANH: torch.tanh}
FAR = {SILU: (0.0, 1000.0), SHIFTED_SOFTPLUS: (-np.log(2.0), 1000.0), TANH: (-1.0, 1.0)}


@pytest.mark.parametrize(("real", "tolerance"), REALS)
@pytest.mark.parametrize("rows", [1, 3, 4, 5, 8, 9, 12, 13, 21])
def test_dense_is_a_matrix_product(real: type, tolerance: float, rows: int) -> None:
    rng = np.random.default_rng(rows)
    w, x, b = rng.normal(size=(21, 64)), rng.normal(size=(rows, 21)), rng.normal(size=64)
    before = rng.normal(size=(rows, 64))
    w, x, b, before = (v.astype(real) for v in (w, x, b, before))
    packed = panels_of(w)
    for adding in (False, True):
        for bias in (b, b[:0]):
            y = at_cache_line(before)
            dense(x.reshape(-1), 0, 21, rows, 21, packed, 0, bias, 0, y, 0, 64, 64, adding)
            right = x @ w + (before if adding else 0.0) + (bias if len(bias) else 0.0)
            assert np.abs(y.reshape(rows, 64) - right).max() < tolerance
    w[20, 63] += 1.0  # negative control: the last weight matters
    assert np.abs(x @ w + before - y.reshape(rows, 64)).max() > 1e-3


def test_dense_reads_and_writes_parts_of_larger_arrays() -> None:
    rng = np.random.default_rng(0)
    x, y, w = rng.normal(size=(5, 40)), rng.normal(size=(5, 100)), rng.normal(size=(7, 32))
    out = y.reshape(-1).copy()
    dense(x.reshape(-1), 33, 40, 4, 7, panels_of(w), 0, w[0, :0], 0, out, 60, 100, 32, False)
    right = y.copy()
    right[:4, 60:92] = x[:4, 33:40] @ w
    np.testing.assert_allclose(out.reshape(5, 100), right, rtol=0, atol=1e-12)


def test_panels_refuse_widths_between() -> None:
    with pytest.raises(ValueError, match="multiple of 32"):
        panels_of(np.zeros((4, 33)))


@pytest.mark.parametrize(("real", "tolerance"), [(np.float32, 2e-6), (np.float64, 1e-14)])
@pytest.mark.parametrize("kind", [SILU, SHIFTED_SOFTPLUS, TANH])
def test_activations_and_their_slopes(real: type, tolerance: float, kind: int) -> None:
    x = np.concatenate([np.linspace(-30.0, 30.0, 1600), [0.0, -0.0, 1e-8, -1e-8, 80.0, -80.0] + [1.0] * 10])
    x = x.astype(real)
    leaf = torch.from_numpy(x.astype(float)).requires_grad_()
    value = FUNCTIONS[kind](leaf)
    (slope,) = torch.autograd.grad(value.sum(), leaf)
    z, s = x.copy(), np.empty_like(x)
    activate(z, 0, len(z), kind, s, 0)
    scale = 1.0 + np.abs(x)
    assert (np.abs(z - value.detach().numpy()) / scale).max() < tolerance
    assert np.abs(s - slope.numpy()).max() < tolerance
    far = np.array([-1000.0, 1000.0, np.nan, *[0.0] * 13], real)
    activate(far, 0, 16, kind, s, 0)
    assert abs(far[0] - FAR[kind][0]) < 1e-6 and abs(far[1] - FAR[kind][1]) < 1e-3 * FAR[kind][1]
    assert np.isnan(far[2]) and np.isfinite(far[3:]).all()
    assert abs(s[0]) < 1e-6 and abs(s[1] - float(kind != TANH)) < 1e-6 and np.isnan(s[2])


def random_networks(real: type, kind: int) -> tuple[Network, list[list[np.ndarray]], list[list[np.ndarray]]]:
    rng = np.random.default_rng(3)
    widths = (32, 64, 32, 96, 32)
    weights = [[rng.normal(size=s) / 6.0 for s in itertools.pairwise(widths)] for _ in range(2)]
    biases = [[rng.normal(size=n) for n in widths[1:]] for _ in range(2)]
    weights = [[w.astype(real) for w in net] for net in weights]
    biases = [[b.astype(real) for b in net] for net in biases]
    return network(weights, biases, kind), weights, biases


@pytest.mark.parametrize(("real", "tolerance"), REALS)
@pytest.mark.parametrize("kind", [SILU, SHIFTED_SOFTPLUS])
def test_networks_forward_and_reverse(real: type, tolerance: float, kind: int) -> None:
    net, weights, biases = random_networks(real, kind)
    rng = np.random.default_rng(4)
    x, g = rng.normal(size=(13, 32)).astype(real), rng.normal(size=(13, 32)).astype(real)
    slopes, work = np.empty(13 * (64 + 32 + 96), real), np.empty(2 * 13 * 96, real)
    y, back = np.empty(13 * 32, real), np.zeros(13 * 32, real)
    network_forward(net, 1, x.reshape(-1), 0, 32, 13, slopes, 0, work, y, 0, 32, False)
    network_reverse(net, 1, g.reshape(-1), 0, 32, 13, slopes, 0, work, back, 0, 32, True)
    found = []
    for which in range(2):
        leaf = torch.from_numpy(x).double().requires_grad_()
        value = leaf
        for k, (w, b) in enumerate(zip(weights[which], biases[which], strict=True)):
            value = (FUNCTIONS[kind](value) if k else value) @ torch.from_numpy(
                w
            ).double() + torch.from_numpy(b)
        (gradient,) = torch.autograd.grad(value, leaf, torch.from_numpy(g).double())
        found.append((value.detach().numpy(), gradient.numpy()))
    assert np.abs(y.reshape(13, 32) - found[1][0]).max() < tolerance
    assert np.abs(back.reshape(13, 32) - found[1][1]).max() < tolerance
    assert np.abs(y.reshape(13, 32) - found[0][0]).max() > 0.1  # negative control: the other network


def test_tanh_is_right_to_its_last_places_near_zero_and_far_from_it() -> None:
    """Relative errors of f and f′ in float32 against float64."""
    x = np.concatenate([s * np.geomspace(1e-6, 8.0, 400) for s in (1.0, -1.0)]).astype(np.float32)
    z, slope = x.copy(), np.empty_like(x)
    activate(z, 0, len(x), TANH, slope, 0)
    wide = x.astype(np.float64)
    right, steep = np.tanh(wide), 1.0 / np.cosh(wide) ** 2
    assert np.abs(z / right - 1.0).max() < 5e-7
    assert np.abs(slope / steep - 1.0).max() < 2e-6
    rough = 1.0 - z * z  # negative control: the slope from the rounded value
    assert np.abs(rough / steep - 1.0).max() > 1e-3


def test_long_sums_round_like_short_ones() -> None:
    """A product over 4,096 terms in float32 errs less than a running sum of them does."""
    rng = np.random.default_rng(1)
    w, x = (rng.random(size=s).astype(np.float32) for s in ((4096, 32), (1, 4096)))
    y = at_cache_line(np.zeros(32, np.float32))
    dense(x.reshape(-1), 0, 4096, 1, 4096, panels_of(w), 0, x[0, :0], 0, y, 0, 32, 32, False)
    right = x.astype(np.float64) @ w.astype(np.float64)
    error = np.sqrt(np.mean((y / right[0] - 1.0) ** 2))
    running = np.cumsum(x[0, :, None] * w, axis=0, dtype=np.float32)[-1]
    assert error < 0.5 * np.sqrt(np.mean((running / right[0] - 1.0) ** 2))
