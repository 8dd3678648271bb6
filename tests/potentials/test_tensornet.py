"""TensorNet: symmetry, smoothness, limits, training. Its peer is in tests/peers."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk

from rikiba.nn.cartesian import CartesianTensors, cartesian_basis, matrix_product, squared_norm
from rikiba.potentials.tensornet import TensorNet
from rikiba.training.checkpoint import load_potential, save_potential
from rikiba.training.trainer import Trainer

from network_checks import (  # isort: skip
    answer, derivatives_of_pair, differences, energy, ethanol, labelled, orthogonal, with_biases,
)  # fmt: skip

SMALL: dict[str, Any] = {"elements": ("H", "C", "O"), "cutoff": 4.0, "channels": 6, "n_radial": 5}
GATED: dict[str, Any] = {"readout": "gated", "radial_basis": "smooth_bessel", "n_layers": 1}


def build(**more: Any) -> TensorNet:
    return with_biases(TensorNet(**(SMALL | {"scale": 0.8, "shift": 0.1} | more)))


def test_components_are_those_of_the_matrices() -> None:
    basis, tensors = cartesian_basis(), CartesianTensors()
    torch.testing.assert_close(torch.einsum("mab,nab->mn", basis, basis), torch.eye(9).double())
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, 4, 9, 3, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(tensors.components(tensors.matrices(a)), a)
    first, second = tensors.matrices(a), tensors.matrices(b)
    torch.testing.assert_close(squared_norm(a), first.square().sum((1, 2)))
    expected = torch.einsum("nabc,nbdc->nadc", first, second)
    torch.testing.assert_close(matrix_product(first, second), expected)
    assert not torch.allclose(matrix_product(second, first), expected)
    unit = torch.nn.functional.normalize(torch.randn(4, 3, generator=generator, dtype=torch.float64), dim=1)
    x, y, z = unit.T
    cross = torch.stack([0 * x, -z, y, z, 0 * x, -x, -y, x, 0 * x], 1).view(4, 3, 3)
    matrix = 2 / 3 * torch.eye(3, dtype=torch.float64) + cross + unit[:, :, None] * unit[:, None]
    torch.testing.assert_close(tensors.matrices(tensors.of_directions(unit)[..., None])[..., 0], matrix)


@pytest.mark.parametrize("variant", [{}, GATED, {"group": "SO(3)"}], ids=str)
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
    assert along == pytest.approx(-force, rel=1e-6, abs=1e-7) and abs(along) > 1e-3
    virial = float((found.need("stress")[0].numpy() * strain).sum()) * atoms.get_volume()
    assert strained == pytest.approx(virial, rel=1e-6, abs=1e-7)


def test_mirror_images_differ_with_so3_only() -> None:
    atoms = Atoms("HCOHH", np.random.default_rng(3).normal(0, 1.0, (5, 3)))
    for improper in (False, True):
        turned = atoms.copy()
        turned.positions = atoms.positions @ orthogonal(7, improper).T
        for group in ("O(3)", "SO(3)"):
            model = build(group=group)
            change = abs(energy(model, turned) - energy(model, atoms))
            assert (change > 1e-6) == (improper and group == "SO(3)")


def test_isolated_atom_has_its_own_energy() -> None:
    energies = {"H": -13.6, "C": -1030.123456789, "O": -2041.0}
    far = Atoms("COH", [[0, 0, 0], [0, 0, 4.1], [0, 9.0, 0]])
    assert energy(build(atomic_energies=energies), far) == pytest.approx(
        sum(energies.values()) + 0.3, abs=1e-9
    )
    published = build(atomic_energies=energies, isolated_limit=False)
    assert abs(energy(published, far) - sum(energies.values()) - 0.3) > 1e-3
    forces = [answer(build(isolated_limit=x), ethanol()).need("forces") for x in (True, False)]
    torch.testing.assert_close(*forces, rtol=0, atol=1e-13)


@pytest.mark.parametrize(("envelope", "smooth"), [("polynomial", 2), ("cosine", 1)])
def test_smoothness_at_the_cutoff(envelope: str, smooth: int) -> None:
    """Derivatives up to the class vanish; without the squares of the norm they would fall even faster."""
    model = build(envelope=envelope)
    near = derivatives_of_pair(model, "CO", 4.0 - 1e-5, smooth)
    inside = derivatives_of_pair(model, "CO", 2.5, smooth)
    assert near[0] == pytest.approx(energy(model, Atoms("CO", [[0, 0, 0], [0, 0, 50.0]])), abs=1e-12)
    for order in range(1, smooth + 1):
        assert abs(near[order]) < 1e-3 * abs(inside[order])


def test_receptive_field_is_a_cutoff_more_than_its_layers() -> None:
    chain = Atoms("CCC", [[0, 0, 0], [0, 0, 2.5], [0, 0, 5.0]])
    moved = chain.copy()
    moved.positions[2, 0] += 0.2
    for layers, seen in ((0, False), (1, True)):
        model = build(n_layers=layers)
        change = (answer(model, chain).need("energies") - answer(model, moved).need("energies"))[0].abs()
        assert model.receptive_field == 4.0 * (layers + 1)
        assert (float(change) > 1e-8) == seen


def test_it_learns_and_comes_back(tmp_path: Path) -> None:
    model = TensorNet(elements=("O", "Si"), cutoff=4.0, channels=8, n_layers=1, n_radial=8)
    trainer = Trainer(batch_size=5, max_epochs=12, learning_rate=0.01, weight_decay=1e-4, optimizer="adamw")
    rows = trainer.fit(model, labelled(20, 1), labelled(5, 2)).history
    assert rows[-1]["train_loss"] < 0.3 * rows[0]["train_loss"]
    back, atoms = (
        load_potential(save_potential(tmp_path / "a.npz", model)),
        Atoms("OSi", [[0, 0, 0], [0, 0, 1.8]]),
    )
    assert torch.equal(answer(model, atoms).need("forces"), answer(back, atoms).need("forces"))
    decayed = set(model.decayed_parameters())
    assert decayed and not any("bias" in n or "norm" in n or n == "embedding" for n in decayed)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"group": "O(2)"}, "group is"),
        ({"radial_basis": "sine"}, "radial basis"),
        ({"n_layers": -1}, "n_layers"),
    ],
)
def test_unknown_choices_are_refused(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(**changed)
