"""PaiNN: what is its own. The rest is in test_filter_networks, its peer in tests/peers."""

from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from hypothesis import given, settings
from hypothesis import strategies as st

from rikiba.potentials.painn import PaiNN, PaiNNLayer

from network_checks import (  # isort: skip
    answer, bent, energy, ethanol, orthogonal, with_biases,
)  # fmt: skip

SMALL: dict[str, Any] = {"elements": ("H", "C", "O"), "cutoff": 4.0, "channels": 8, "n_radial": 8}


def build(**more: Any) -> PaiNN:
    return with_biases(PaiNN(**(SMALL | {"scale": 0.8, "shift": 0.1} | more)))


def test_angles_are_seen_where_distances_are_equal() -> None:
    """The pair of structures that a network of distances cannot tell apart."""
    model = build(cutoff=3.0, n_layers=1)
    assert abs(energy(model, bent(180.0)) - energy(model, bent(120.0))) > 1e-6
    turned = bent(120.0)
    turned.rotate(37.0, (1.0, 2.0, 0.5))
    assert energy(model, turned) == pytest.approx(energy(model, bent(120.0)), abs=1e-11)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10**6), improper=st.booleans())
def test_vectors_turn_with_the_atoms(seed: int, improper: bool) -> None:
    model, atoms, r = build(), ethanol(seed), orthogonal(seed + 1, improper)
    kept: list[tuple[torch.Tensor, torch.Tensor]] = []
    layer = model.layers[1]
    assert isinstance(layer, PaiNNLayer)
    handle = layer.register_forward_hook(lambda _m, _i, out: kept.append((out[0].detach(), out[1].detach())))
    turned = atoms.copy()
    turned.positions = atoms.positions @ r.T
    for a in (atoms, turned):
        energy(model, a)
    handle.remove()
    (q, mu), (q_turned, mu_turned) = kept
    torch.testing.assert_close(q_turned, q, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(mu_turned, torch.from_numpy(r) @ mu, rtol=1e-9, atol=1e-9)
    assert not torch.allclose(mu_turned, mu, atol=1e-4)
    assert mu[: len(atoms)].abs().amax((1, 2)).gt(1e-4).all() and mu[len(atoms) :].eq(0).all()


def test_enantiomers_have_equal_energy_and_diastereomers_do_not() -> None:
    sites = [[0, 0, 0], [1.3, 0.2, 0], [-0.4, 1.4, 0.1], [-0.5, -0.6, 0.8], [0.1, -0.5, -1.1], [2, 1, 1]]
    hand = Atoms("COCHHH", sites)
    mirror, other = hand.copy(), hand.copy()
    mirror.positions[:, 2] *= -1
    other.positions[5, 2] *= -1
    energies = [energy(build(), a) for a in (hand, mirror, other)]
    assert energies[0] == pytest.approx(energies[1], abs=1e-10)
    assert abs(energies[0] - energies[2]) > 1e-6


@pytest.mark.parametrize(("epsilon", "linear"), [(1e-2, True), (1e-8, False)])
def test_force_constants_exist_where_vectors_vanish(epsilon: float, linear: bool) -> None:
    """In a perfect crystal μ = 0; with ε of the published code forces are not linear around it."""
    crystal = bulk("C", "diamond", 3.57, cubic=True)
    model, constants = PaiNN(**(SMALL | {"norm_epsilon": epsilon})).double(), []
    for d in (1e-4, 1e-3, 1e-2):
        moved = crystal.copy()
        moved.positions[0] += d * np.array([0.6, 0.0, 0.8])
        constants.append(float(answer(model, moved).need("forces")[0].norm()) / d)
    assert (max(constants) < 1.2 * min(constants)) == linear


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"elements": ("Xx",)}, "not a chemical symbol"),
        ({"cutoff": -1.0}, "cutoff must be"),
        ({"channels": 0}, "channels must be"),
        ({"n_layers": 0}, "n_layers must be"),
        ({"norm_epsilon": 0.0}, "norm_epsilon must be"),
        ({"radial_basis": "sine"}, "radial basis is"),
        ({"gamma": 10.0}, "gamma is"),
        ({"envelope": "paper"}, "envelope is"),
        ({"envelope_power": 1}, "power of at least 2"),
        ({"readout_activation": "swish"}, "No activation"),
        ({"scale": 0.0}, "scale must be"),
    ],
)
def test_bad_arguments_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        answer(build(**wrong), ethanol())
