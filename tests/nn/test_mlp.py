"""Perceptrons: normalisation constants, unit variance, no bias."""

import numpy as np
import pytest
import torch

from rikiba.nn.mlp import MLP, NormalisedMLP, activation, shifted_softplus, unit_variance_factor


@pytest.mark.parametrize("name", ["silu", "tanh", "gelu", "sigmoid", "shifted_softplus"])
def test_factor_makes_the_second_moment_one(name: str) -> None:
    nodes, weights = (torch.from_numpy(x) for x in np.polynomial.hermite_e.hermegauss(120))
    second = (weights * (unit_variance_factor(name) * activation(name)(nodes)) ** 2).sum() / weights.sum()
    assert float(second) == pytest.approx(1.0, abs=1e-6)


def test_factors_agree_with_e3nn_to_its_sampling_error() -> None:
    """normalize2mom of e3nn 0.4.4 and 0.6.0: 1.67918 for silu, 1.59373 for tanh, from 10⁶ samples."""
    assert unit_variance_factor("silu") == pytest.approx(1.6791767923989418, rel=3e-3)
    assert unit_variance_factor("tanh") == pytest.approx(1.5937334472592695, rel=1e-3)


def test_normalised_mlp_keeps_unit_variance_and_zero() -> None:
    torch.manual_seed(0)
    net = NormalisedMLP(widths=(64, 64, 64, 64, 256))
    out = net(torch.randn(4000, 64))
    assert float(out.detach().square().mean()) == pytest.approx(1.0, abs=0.15)
    assert net(torch.zeros(2, 64)).eq(0).all()
    assert MLP(widths=(64, 8, 3))(torch.zeros(2, 64)).abs().sum() > 0


def test_normalised_mlp_equals_e3nn() -> None:
    e3nn_nn = pytest.importorskip("e3nn.nn")
    theirs = e3nn_nn.FullyConnectedNet([5, 7, 6, 3], torch.nn.functional.silu).double()
    ours = NormalisedMLP(widths=(5, 7, 6, 3)).double()
    ratio = 1.6791767923989418 / unit_variance_factor("silu")
    for k, p in enumerate(ours.weights):
        p.data = getattr(theirs, f"layer{k}").weight.data * (ratio if k else 1.0)
    x = torch.randn(9, 5, dtype=torch.float64)
    torch.testing.assert_close(ours(x), theirs(x))


def test_shifted_softplus_and_bad_arguments() -> None:
    x = torch.linspace(-5, 5, 11, dtype=torch.float64)
    torch.testing.assert_close(shifted_softplus(x), torch.log(0.5 * x.exp() + 0.5))
    with pytest.raises(ValueError, match="No activation 'swish'"):
        activation("swish")
    with pytest.raises(ValueError, match="widths"):
        NormalisedMLP(widths=(3,))
