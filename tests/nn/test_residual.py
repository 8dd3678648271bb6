"""Networks whose layers add to their input, against the formula written out."""

import numpy as np
import pytest
import torch

from rikiba.kernels.grouping import group_by_type
from rikiba.nn.residual import ResidualNetworks


def build(activation: str = "tanh", outputs: int | None = None) -> ResidualNetworks:
    torch.manual_seed(0)
    widths = (2, 4, 4, 5)  # doubles, keeps, and neither
    return ResidualNetworks(
        n_networks=2, widths=widths, outputs=outputs, timesteps=True, activation=activation
    ).double()


def test_layers_add_their_input_once_twice_or_not() -> None:
    nets, rng = build(outputs=3), np.random.default_rng(0)
    x = rng.normal(size=(7, 2))
    assert set(nets.timesteps) == {"0", "1"} and 0.09 < float(nets.timesteps["0"].mean()) < 0.11
    types = torch.tensor([0, 1, 1, 0, 1, 0, 0])
    found = nets(torch.from_numpy(x), group_by_type(types, 2)).detach().numpy()
    p = {k: v.detach().numpy() for k, v in nets.named_parameters()}
    for row, t in enumerate(types.tolist()):
        y = x[row]
        a = p["timesteps.0"][t] * np.tanh(y @ p["weights.0"][t] + p["biases.0"][t]) + np.concatenate([y, y])
        b = p["timesteps.1"][t] * np.tanh(a @ p["weights.1"][t] + p["biases.1"][t]) + a
        c = np.tanh(b @ p["weights.2"][t] + p["biases.2"][t])
        np.testing.assert_allclose(found[row], c @ p["weights.3"][t] + p["biases.3"][t], rtol=0, atol=1e-14)
        other = b @ p["weights.2"][1 - t]  # negative control: the network of the other type
        assert np.abs(np.tanh(other + p["biases.2"][1 - t]) - c).max() > 1e-3
    assert nets(torch.zeros((0, 2)), group_by_type(types[:0], 2)).shape == (0, 3)


@pytest.mark.parametrize("activation", ["tanh", "silu"])
def test_slopes_are_derivatives(activation: str) -> None:
    nets = build(activation)
    x = torch.randn((5, 2), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    direction = torch.ones_like(x)
    value, slope = nets.with_slope(1, x, direction)
    expected, derivative = torch.func.jvp(lambda y: nets.one(1, y), (x,), (direction,))
    torch.testing.assert_close(value, expected.detach(), rtol=0, atol=1e-14)
    torch.testing.assert_close(slope, derivative.detach(), rtol=0, atol=1e-14)
    assert not torch.allclose(slope, nets.with_slope(0, x, direction)[1], atol=1e-3)


def test_what_is_no_network_is_refused() -> None:
    with pytest.raises(ValueError, match="hidden layer"):
        ResidualNetworks(n_networks=1, widths=(3,))
    with pytest.raises(ValueError, match="with_slope"):
        build(outputs=1).with_slope(0, torch.zeros(1, 2), torch.zeros(1, 2))
