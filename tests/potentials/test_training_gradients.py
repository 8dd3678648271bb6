"""Gradients of a loss on energies and forces: compiled kernels, interpolated radial networks, definitions."""

import copy

import pytest
import torch
from ase import Atoms
from ase.build import molecule

from rikiba.calculators.autograd import evaluate
from rikiba.core.pairs import find_pairs
from rikiba.core.system import System
from rikiba.kernels.dispatch import only_reference
from rikiba.potentials.base import Potential
from rikiba.potentials.mace import MACE
from rikiba.potentials.nequip import NequIP
from rikiba.potentials.painn import PaiNN
from rikiba.potentials.schnet import SchNet
from rikiba.potentials.sum import Sum
from rikiba.potentials.zbl import Zbl

ELEMENTS = ("H", "O", "Si")
SMALL = {"elements": ELEMENTS, "cutoff": 4.0}
POTENTIALS = {
    "MACE": lambda: MACE(**SMALL, channels=5, max_L=1, l_max=2, radial_widths=(8,), avg_num_neighbors=9.0),
    "MACE, one layer": lambda: MACE(**SMALL, channels=33, max_L=0, n_layers=1, correlation=2),
    "MACE, Agnesi": lambda: MACE(
        **SMALL, channels=4, max_L=1, l_max=1, distance_transform="agnesi", density_normalised=True
    ),
    "NequIP": lambda: NequIP(**SMALL, channels=(6, 4, 3), l_max=2, n_layers=2, avg_num_neighbors=9.0),
    "NequIP, both parities": lambda: NequIP(**SMALL, channels=4, l_max=1, n_layers=3, parity="both"),
    "SchNet": lambda: SchNet(**SMALL, channels=12, n_layers=2, n_radial=10),
    "PaiNN": lambda: PaiNN(**SMALL, channels=7, n_layers=2, n_radial=10),
}
INTERPOLATED = [name for name in POTENTIALS if "Agnesi" not in name]


def structures() -> list[Atoms]:
    """A molecule, a triclinic cell smaller than the cutoff, an atom alone, a pair out of reach."""
    water, alone = molecule("H2O"), Atoms("Si")
    cell = [[3.1, 0.0, 0.0], [0.9, 3.3, 0.0], [-0.4, 1.1, 3.6]]
    crystal = Atoms(
        "SiOH", scaled_positions=[[0, 0, 0], [0.5, 0.4, 0.6], [0.2, 0.8, 0.5]], cell=cell, pbc=True
    )
    water.rattle(0.1, seed=1)
    return [water, crystal, alone, Atoms("OO", positions=[[0, 0, 0], [0, 0, 9.0]])]


def gradients(potential: Potential, system: System) -> list[torch.Tensor]:
    """Energies, forces, stress, and the loss's gradient by every parameter."""
    found = evaluate(potential, system, find_pairs(system, potential.cutoff), create_graph=True)
    energy, forces = found.need("energy"), found.need("forces")
    loss = energy.square().mean() + 10.0 * (forces - 0.1).square().mean()
    by_weight = torch.autograd.grad(loss, list(potential.parameters()), allow_unused=True)
    parts = [energy, forces, *(g for g in by_weight if g is not None)]
    return [p.detach() for p in parts]


def distance(a: list[torch.Tensor], b: list[torch.Tensor]) -> float:
    """Largest difference, each tensor relative to its largest element."""
    return max(float((x - y).abs().max() / (1e-3 + y.abs().max())) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("name", POTENTIALS)
def test_compiled_kernels_equal_definitions(name: str) -> None:
    potential, system = POTENTIALS[name]().double(), System.from_ase(structures())
    interpolated = potential.interpolate_radial(32)
    assert interpolated == (name in INTERPOLATED)
    for intervals in (32, None) if interpolated else (None,):
        potential.interpolate_radial(intervals)
        found = gradients(potential, system)
        with only_reference():
            expected = gradients(potential, system)
        assert distance(found, expected) < 1e-10
        single = copy.deepcopy(potential).float()
        assert distance([g.double() for g in gradients(single, system)], expected) < 2e-3


@pytest.mark.parametrize("name", INTERPOLATED)
def test_interpolation_is_close_to_the_network(name: str) -> None:
    potential, system = POTENTIALS[name]().double(), System.from_ase(structures())
    exact = gradients(potential, system)
    found = []
    for intervals in (128, 8):
        potential.interpolate_radial(intervals)
        found.append(distance(gradients(potential, system), exact))
    assert found[0] < 1e-4
    assert found[1] > 1e-3  # control: with few knots the same check fails
    potential.interpolate_radial(None)
    assert distance(gradients(potential, system), exact) == 0.0


def test_a_sum_interpolates_the_terms_that_can() -> None:
    network, system = POTENTIALS["SchNet"]().double(), System.from_ase(structures())
    whole = Sum(terms=[network, Zbl(elements=network.elements)])
    exact = gradients(whole, system)
    assert whole.interpolate_radial(8)
    assert network.radial_spline is not None and distance(gradients(whole, system), exact) > 1e-3
    assert whole.interpolate_radial(None)
    assert network.radial_spline is None
    assert not Sum(terms=[Zbl(elements=("H",))]).interpolate_radial(8)


@pytest.mark.parametrize("name", ["MACE", "NequIP", "SchNet", "PaiNN"])
def test_hessian_vector_product_differentiates_by_weights(name: str) -> None:
    """Third order: d/dθ of |H v|², compiled and interpolated, against the definitions."""
    potential, system = POTENTIALS[name]().double(), System.from_ase(structures()[:1])
    potential.interpolate_radial(32)
    pairs = find_pairs(system, potential.cutoff)

    def product() -> list[torch.Tensor]:
        positions = system.positions.clone().requires_grad_()
        energy = potential(system.replace(positions=positions), pairs).need("energies").sum()
        (gradient,) = torch.autograd.grad(energy, positions, create_graph=True)
        (hv,) = torch.autograd.grad((gradient * positions.detach().cos()).sum(), positions, create_graph=True)
        weight = max(potential.parameters(), key=torch.Tensor.numel)
        return [hv.detach(), *torch.autograd.grad(hv.square().sum(), weight)]

    found = product()
    with only_reference():
        expected = product()
    assert distance(found, expected) < 1e-9
