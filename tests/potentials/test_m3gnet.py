"""M3GNet: three-body sums, symmetry, smoothness, limits, training. Its peer is in tests/peers."""

from math import pi, sqrt
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from scipy.special import eval_legendre, spherical_jn

from rikiba.core.pairs import find_pairs
from rikiba.core.system import System
from rikiba.nn.spherical_bessel import SphericalBesselGrid, spherical_bessel, spherical_bessel_roots
from rikiba.potentials.m3gnet import M3GNet
from rikiba.training.checkpoint import load_potential, save_potential
from rikiba.training.trainer import Trainer

from network_checks import (  # isort: skip
    answer, bent, derivatives_of_pair, differences, energy, ethanol, labelled, with_biases,
)  # fmt: skip

SMALL: dict[str, Any] = {
    "elements": ("H", "C", "O"), "cutoff": 4.0, "three_body_cutoff": 3.0, "channels": 6, "n_layers": 2,
    "n_max": 2,
}  # fmt: skip
OTHER: dict[str, Any] = {"three_body_basis": "smooth_bessel", "messages_to": "neighbour", "readout_layers": 3}


def build(**more: Any) -> M3GNet:
    return with_biases(M3GNet(**(SMALL | {"scale": 0.8, "shift": 0.1} | more)))


def test_bessel_functions_are_those_of_scipy() -> None:
    x = torch.tensor([1e-6, 0.01, 0.4, 1.4, 1.6, 2.4, 2.6, 9.0, 25.0], dtype=torch.float64)
    for l in range(5):
        np.testing.assert_allclose(
            spherical_bessel(x, l).numpy(), spherical_jn(l, x.numpy()), rtol=1e-11, atol=1e-14
        )
    zeros = np.array(spherical_bessel_roots(4, 3))
    assert np.abs([spherical_jn(l, zeros[l]) for l in range(5)]).max() < 1e-14
    assert np.allclose(zeros[1], [4.493409457909064, 7.725251836937707, 10.904121659428899], atol=1e-13)
    grid = SphericalBesselGrid(n=3, l_max=2, cutoff=5.0)
    r = torch.linspace(1e-9, 5, 20001, dtype=torch.float64)
    overlap = torch.einsum("rm,rn,r->mn", grid(r), grid(r), r * r) * (5 / 20000)
    torch.testing.assert_close(
        torch.stack([overlap[3 * l : 3 * l + 3, 3 * l : 3 * l + 3] for l in range(3)]),
        torch.eye(3, dtype=torch.float64).expand(3, 3, 3), rtol=0, atol=1e-6,
    )  # fmt: skip


def test_sums_over_neighbours_are_those_over_triplets() -> None:
    """Eq. 2 of the paper written out over all triplets."""
    model, atoms = build(l_max=3), ethanol()
    system = System.from_ase(atoms)
    pairs = find_pairs(system, model.cutoff)
    vectors = pairs.vectors(system)
    r = torch.linalg.vector_norm(vectors, dim=1)
    angles = model._angles(system, pairs, vectors / r[:, None], r)
    v = torch.randn(len(atoms), 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = model.layers[0].angular_sums(v, angles)
    near, d = angles.pairs, vectors[angles.parent] / r[angles.parent][:, None]
    first, second = near.triplets()
    cosine = (d[first] * d[second]).sum(1)
    assert len(first) > 20
    weights = torch.sigmoid(model.layers[0].angular_weights(v)).view(-1, 4, 2)[near.j[second]]
    y = torch.stack(
        [sqrt((2 * l + 1) / (4 * pi)) * torch.from_numpy(eval_legendre(l, cosine.numpy())) for l in range(4)],
        1,
    )
    term = angles.radial[second] * weights * y[:, :, None] * angles.envelope[first][:, None, None]
    expected = torch.zeros(len(near), 8, dtype=torch.float64).index_add(0, first, term.flatten(1).detach())
    torch.testing.assert_close(found.detach(), expected, rtol=0, atol=1e-12)
    assert float(expected.abs().max()) > 1e-2


@pytest.mark.parametrize("variant", [{}, OTHER], ids=str)
def test_forces_and_stress_are_derivatives(variant: dict[str, Any]) -> None:
    atoms = bulk("C", "diamond", 3.6, cubic=True)
    atoms.symbols[0] = "O"
    atoms.rattle(0.1, seed=1)
    model = build(**variant)
    found = answer(model, atoms, stress=True)
    direction = np.random.default_rng(0).normal(size=atoms.positions.shape)
    strain = np.array([[0.3, 0.2, 0.0], [0.2, -0.4, 0.1], [0.0, 0.1, 0.5]])
    along, strained = differences(model, atoms, direction, strain)
    force = float((found.need("forces").numpy() * direction).sum())
    assert along == pytest.approx(-force, rel=1e-5, abs=1e-8) and abs(along) > 1e-4
    virial = float((found.need("stress")[0].numpy() * strain).sum()) * atoms.get_volume()
    assert strained == pytest.approx(virial, rel=1e-5, abs=1e-8)


def test_angles_matter_through_three_body_terms_only() -> None:
    """Ends out of each other's sight: without three-body terms two bent molecules would be one."""
    one, other = bent(95), bent(150)
    model = build(n_layers=1, cutoff=3.0, three_body_cutoff=3.0)
    assert abs(energy(model, one) - energy(model, other)) > 1e-6
    with torch.no_grad():
        for p in model.layers[0].angular.parameters():
            p.zero_()
    assert energy(model, one) == pytest.approx(energy(model, other), abs=1e-12)


def test_isolated_atom_has_its_own_energy() -> None:
    energies = {"H": -13.6, "C": -1030.123456789, "O": -2041.0}
    far = Atoms("COH", [[0, 0, 0], [0, 0, 4.1], [0, 9.0, 0]])
    assert energy(build(atomic_energies=energies), far) == pytest.approx(
        sum(energies.values()) + 0.3, abs=1e-9
    )
    published = build(atomic_energies=energies, isolated_limit=False)
    assert abs(energy(published, far) - sum(energies.values()) - 0.3) > 1e-3


def test_smoothness_at_the_cutoff() -> None:
    """C² with smooth functions; with the grid on pairs even the energy's slope jumps."""
    for basis, smooth in (("smooth_bessel", 2), ("bessel_grid", 0)):
        model = build(radial_basis=basis)
        near = derivatives_of_pair(model, "CO", 4.0 - 1e-6, 3)
        inside = derivatives_of_pair(model, "CO", 2.5, 3)
        for order in range(1, smooth + 1):
            assert abs(near[order]) < 1e-4 * abs(inside[order])
        assert abs(near[smooth + 1]) > 1e-3 * abs(inside[smooth + 1])


def test_it_learns_and_comes_back(tmp_path: Path) -> None:
    model = M3GNet(elements=("O", "Si"), cutoff=4.0, three_body_cutoff=3.5, channels=12, n_layers=2)
    trainer = Trainer(batch_size=5, max_epochs=12, learning_rate=0.01, weight_decay=1e-4, optimizer="adamw")
    rows = trainer.fit(model, labelled(20, 1), labelled(5, 2)).history
    assert rows[-1]["train_loss"] < 0.3 * rows[0]["train_loss"]
    back, atoms = (
        load_potential(save_potential(tmp_path / "a.npz", model)),
        Atoms("OSi", [[0, 0, 0], [0, 0, 1.8]]),
    )
    assert torch.equal(answer(model, atoms).need("forces"), answer(back, atoms).need("forces"))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"three_body_cutoff": 4.5}, "within the cutoff"),
        ({"radial_basis": "gaussian"}, "basis of M3GNet"),
        ({"messages_to": "both"}, "messages_to is"),
    ],
)
def test_unknown_choices_are_refused(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(**changed)
