"""DimeNet and DimeNet++: the angular basis, smoothness, what SchNet cannot tell apart. Peer: tests/peers."""

from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from scipy.special import spherical_jn

from rikiba.core.pairs import find_pairs
from rikiba.core.system import System
from rikiba.nn.spherical_bessel import SphericalBessel, spherical_bessel, zonal_harmonics
from rikiba.potentials.dimenet import DimeNet
from rikiba.potentials.dimenet_plus_plus import DimeNetPlusPlus
from rikiba.potentials.schnet import SchNet
from rikiba.training.trainer import Trainer

from network_checks import answer, bent, derivatives_of_pair, energy, ethanol, labelled, orthogonal  # isort: skip

FAMILIES: dict[str, type[DimeNet] | type[DimeNetPlusPlus]] = {"DimeNet": DimeNet, "++": DimeNetPlusPlus}
SMALL: dict[str, Any] = {"elements": ("H", "C", "O"), "cutoff": 3.0, "channels": 8, "n_layers": 2}
SMALL |= {"n_radial": 4, "n_spherical": 4, "n_dense_output": 1, "n_after_skip": 1}


def build(family: str, **more: Any) -> DimeNet | DimeNetPlusPlus:
    short = {"output_channels": 8, "down_channels": 4} if family == "++" else {"bilinear": 3}
    return FAMILIES[family](**(SMALL | short | more)).double()


def test_bessel_functions_are_those_of_scipy() -> None:
    x = torch.linspace(1e-3, 30.0, 5001, dtype=torch.float64)
    for l in range(7):
        expected = spherical_jn(l, x.numpy())
        np.testing.assert_allclose(spherical_bessel(x, l).numpy(), expected, rtol=0, atol=2e-14)
    assert torch.autograd.gradcheck(lambda y: spherical_bessel(y, 3), x[::500].clone().requires_grad_())


def test_the_basis_is_orthonormal_on_the_ball() -> None:
    """∫ b_ln Y_l0 b_l'n' Y_l'0 d³r = δ, without the envelope; with it the product is no longer one."""
    basis = SphericalBessel(degrees=4, n=3, cutoff=5.0, envelope_power=6)
    nodes, weights = np.polynomial.legendre.leggauss(80)
    r = torch.from_numpy(2.5 * (nodes + 1.0))
    envelope = 1.0 - 28.0 * (r / 5) ** 6 + 48.0 * (r / 5) ** 7 - 21.0 * (r / 5) ** 8
    cosine = zonal_harmonics(torch.from_numpy(nodes), 4) * torch.from_numpy(weights)[:, None] * 2.0 * np.pi
    angular = cosine.T @ zonal_harmonics(torch.from_numpy(nodes), 4)
    torch.testing.assert_close(angular, torch.eye(4, dtype=torch.float64), rtol=0, atol=1e-12)
    damped = basis(r)
    bare = damped / envelope[:, None, None]
    measure = torch.from_numpy(weights) * 2.5 * r**2
    for values, exact in ((bare, True), (damped, False)):
        gram = torch.einsum("p,pln,plm->lnm", measure, values, values)
        error = float((gram - torch.eye(3, dtype=torch.float64)).abs().max())
        assert (error < 1e-9) is exact


@pytest.mark.parametrize("family", FAMILIES)
def test_angles_that_schnet_cannot_see_are_seen(family: str) -> None:
    """GNN-02, GNN-03: equal distances within the cutoff, different angles."""
    schnet = SchNet(elements=("C", "O"), cutoff=3.0, channels=8, n_layers=3).double()
    first, second = bent(95.0), bent(150.0)
    assert energy(schnet, first) == pytest.approx(energy(schnet, second), abs=1e-12)
    model = build(family)
    assert abs(energy(model, first) - energy(model, second)) > 1e-7


@pytest.mark.parametrize("family", FAMILIES)
def test_triplets_are_those_of_a_search(family: str) -> None:
    """k → j → i with periodic images as atoms of their own: only the way back to i itself is left out."""
    model = build(family)
    atoms = Atoms("CO", [[0, 0, 0], [1.3, 0.2, 0.1]], cell=[2.5, 2.8, 2.6], pbc=True)
    system = System.from_ase(atoms)
    pairs = find_pairs(system, model.cutoff)
    vectors = pairs.vectors(system)
    r = torch.linalg.vector_norm(vectors, dim=1)
    angles = model._angles(pairs, vectors / r[:, None], r)
    found = set(zip(angles.target.tolist(), angles.source.tolist(), strict=True))
    i, j, shift = pairs.i.tolist(), pairs.j.tolist(), pairs.shift.tolist()
    expected = set()
    for p in range(len(i)):
        for q in range(len(i)):
            back = j[q] == i[p] and [-x for x in shift[q]] == shift[p]
            if i[q] == j[p] and not back:
                expected.add((p, q))
    assert found == expected and len(found) == len(angles.target) > 100


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("form", ["paper", "code"])
def test_symmetry_and_limits(family: str, form: str) -> None:
    energies = {"H": -13.6, "C": -1030.1, "O": -2041.0}
    model = build(family, form=form, atomic_energies=energies, shift=0.1)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if name.endswith("bias"):
                p += 0.3
    atoms, r = ethanol(2), orthogonal(4, True)
    turned = atoms.copy()
    turned.positions = atoms.positions @ r.T
    first, second = answer(model, atoms), answer(model, turned)
    torch.testing.assert_close(first.energies, second.energies, rtol=0, atol=1e-10)
    expected = first.need("forces") @ torch.from_numpy(r).T
    torch.testing.assert_close(second.need("forces"), expected, rtol=0, atol=1e-9)
    assert energy(model, Atoms("C")) == pytest.approx(-1030.0, abs=1e-9)
    model.isolated_limit = False  # the published form
    assert abs(energy(model, Atoms("C")) + 1030.0) > 1e-3
    assert model.receptive_field == 9.0


@pytest.mark.parametrize("family", FAMILIES)
def test_smoothness_at_the_cutoff(family: str) -> None:
    model = build(family)
    with torch.no_grad():
        model.radial_basis.frequencies += 0.1
    near = derivatives_of_pair(model, "CO", 3.0 - 1e-6, 3)
    inside = derivatives_of_pair(model, "CO", 2.0, 3)
    for order in range(3):
        assert abs(near[order]) < 1e-4 * max(abs(x) for x in inside)
    assert abs(near[3]) > 1e-3 * abs(inside[3])


@pytest.mark.parametrize("family", FAMILIES)
def test_it_learns(family: str) -> None:
    model = build(family, elements=("O", "Si"), cutoff=4.0).float()
    trainer = Trainer(batch_size=5, max_epochs=10, learning_rate=0.01)
    rows = trainer.fit(model, labelled(15, 1), labelled(5, 2)).history
    assert rows[-1]["train_loss"] < 0.5 * rows[0]["train_loss"]


def test_wrong_arguments_are_refused() -> None:
    for family, wrong in (
        ("DimeNet", {"form": "book"}),
        ("++", {"n_spherical": 0}),
        ("++", {"cutoff": -1.0}),
    ):
        with pytest.raises(ValueError, match=r"form is|positive"):
            build(family, **wrong)
