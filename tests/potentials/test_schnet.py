"""SchNet: what is its own. The rest is in test_filter_networks, its peer in tests/peers."""

from typing import Any

import numpy as np
import pytest
import torch

from rikiba.nn.filters import RadialFilters
from rikiba.potentials.schnet import SchNet

from network_checks import (  # isort: skip
    answer, bent, energy, ethanol, with_biases,
)  # fmt: skip

SMALL: dict[str, Any] = {"elements": ("H", "C", "O"), "cutoff": 4.0, "channels": 8, "n_radial": 8}


def build(**more: Any) -> SchNet:
    return with_biases(SchNet(**(SMALL | {"scale": 0.8, "shift": 0.1} | more)))


def test_structures_of_equal_distances_are_one_to_it() -> None:
    """A documented limit: angles are seen through distances within the cutoff only."""
    model = build(cutoff=3.0)
    assert energy(model, bent(180.0)) == pytest.approx(energy(model, bent(120.0)), abs=1e-12)
    wider = build(cutoff=4.2)
    assert abs(energy(wider, bent(180.0)) - energy(wider, bent(120.0))) > 1e-6


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"elements": ("Xx",)}, "not a chemical symbol"),
        ({"cutoff": -1.0}, "cutoff must be"),
        ({"channels": 0}, "channels must be"),
        ({"n_layers": 0}, "n_layers must be"),
        ({"radial_basis": "sine"}, "radial basis is"),
        ({"radial_basis": "bessel", "gamma": 10.0}, "gamma is"),
        ({"envelope": "paper"}, "envelope is"),
        ({"envelope_power": 1}, "power of at least 2"),
        ({"readout_activation": "swish"}, "No activation"),
        ({"scale": 0.0}, "scale must be"),
    ],
)
def test_bad_arguments_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        answer(build(**wrong), ethanol())


def test_filters_are_the_equation() -> None:
    """Against the same sum written out for one layer, pair and filter."""
    f = RadialFilters(
        n_layers=2, widths=(3, 4, 5), cutoff=4.0, basis="bessel", activation="shifted_softplus"
    ).double()
    with torch.no_grad():
        for b in f.biases:
            b.normal_(generator=torch.Generator().manual_seed(1))
    r = torch.tensor([0.7, 1.9, 3.9, 4.0], dtype=torch.float64)
    found = f(r).detach()
    for t, p, k in np.ndindex(found.shape):
        d = float(r[p])
        e = [np.sin(n * np.pi * d / 4.0) / d for n in (1, 2, 3)]
        h = np.array(e) @ f.weights[0][t].detach().numpy() + f.biases[0][t, 0].detach().numpy()
        last = np.log(0.5 * np.exp(h) + 0.5) @ f.weights[1][t].detach().numpy()[:, k]
        x = d / 4.0
        envelope = 1 - 28 * x**6 + 48 * x**7 - 21 * x**8 if x < 1 else 0.0
        assert float(found[t, p, k]) == pytest.approx(
            (last + float(f.biases[1][t, 0, k].detach())) * envelope, abs=1e-12
        )
    with pytest.raises(ValueError, match="two widths"):
        RadialFilters(n_layers=1, widths=(3,), cutoff=4.0)
