"""Coulomb's law of fixed charges: its program, sums with short-range terms, molecules, exclusions."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule

from rikiba.calculators.autograd import PotentialCalculator, evaluate
from rikiba.core import units
from rikiba.core.pairs import find_pairs
from rikiba.core.results import Results
from rikiba.core.system import System
from rikiba.potentials.bks_short_range import BksShortRange
from rikiba.potentials.buckingham import Buckingham
from rikiba.potentials.coulomb import Coulomb
from rikiba.potentials.lennard_jones import LennardJones
from rikiba.potentials.sum import Sum

SALT = {"Na": 1.0, "Cl": -1.0}
QUANTITIES = ("energy", "energies", "forces", "stress")


def salts() -> System:
    cube, rhombohedron = (
        bulk("NaCl", "rocksalt", a=5.64, cubic=True) * (2, 2, 1),
        bulk("NaCl", "rocksalt", a=5.64) * (2, 2, 2),
    )
    cube.rattle(0.2, seed=1)
    rhombohedron.rattle(0.1, seed=2)
    return System.from_ase([cube, rhombohedron])


def both(potential: Any, system: System) -> tuple[Results, Results]:
    """By automatic differentiation of plain torch, and by the calculator's program."""
    pairs = find_pairs(system, potential.cutoff)
    found = PotentialCalculator(potential, skin=0.7)
    return evaluate(potential, system, pairs, stress=True), found(system, stress=True)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"order": 5, "mesh": [20, 24, 18], "remove_net_force": True},
        {"dielectric": 1.0},
        {"slab_axis": 2, "alpha": 0.5},
        {"excluded_pairs": [[0, 1], [2, 3]], "excluded_factors": [0.0, 0.3]},
    ],
    ids=str,
)
def test_the_program_is_the_definition(options: dict[str, Any]) -> None:
    potential = Coulomb(charges=SALT, cutoff=6.0, **options)
    plain, program = both(potential, salts())
    for name in QUANTITIES:
        torch.testing.assert_close(program.need(name), plain.need(name), rtol=0, atol=1e-10)
    other = Coulomb(charges={"Na": 1.001, "Cl": -1.001}, cutoff=6.0, **options)
    assert not torch.allclose(both(other, salts())[1].need("forces"), plain.need("forces"), atol=1e-5)


def test_mesh_and_waves_agree() -> None:
    system = salts()
    waves = PotentialCalculator(Coulomb(charges=SALT, method="ewald", tolerance=1e-12))(system, stress=True)
    mesh = PotentialCalculator(Coulomb(charges=SALT))(system, stress=True)
    for name in QUANTITIES:
        scale = float(waves.need(name).abs().max())
        assert float((mesh.need(name) - waves.need(name)).abs().max()) < 1e-4 * scale


def test_silica_with_its_charges() -> None:
    """BKS is bound only with its charges, and a sum runs on programs, terms of either kind."""
    quartz = Atoms(
        "Si3O6",
        cell=[4.916, 4.916, 5.405, 90, 90, 120],
        scaled_positions=[
            [0.4697, 0, 0], [0, 0.4697, 2 / 3], [0.5303, 0.5303, 1 / 3],
            [0.4135, 0.2669, 0.1191], [0.2669, 0.4135, 0.5476], [0.7331, 0.1466, 0.7858],
            [0.5865, 0.8534, 0.2142], [0.8534, 0.5865, 0.4524], [0.1466, 0.7331, 0.8809],
        ],
        pbc=True,
    )  # fmt: skip
    system = System.from_ase(quartz)
    coulomb = Coulomb(charges={"Si": 2.4, "O": -1.2}, cutoff=8.0)
    bks = Sum(terms=[BksShortRange(), coulomb])
    assert bks.program() is None and bks.position_program() is not None
    assert bks.receptive_field == math.inf
    plain, program = both(bks, system)
    for name in QUANTITIES:
        torch.testing.assert_close(program.need(name), plain.need(name), rtol=0, atol=1e-10)
    per_formula = float(program.need("energy")) / 3.0
    assert -60.0 < per_formula < -50.0  # eV, against ions at rest far apart
    assert float(PotentialCalculator(BksShortRange())(system).need("energy")) > per_formula

    class Bare(Buckingham):
        """Without a compiled form: runs pair by pair through its program, or not at all."""

    assert Sum(terms=[Bare.examples()[0], coulomb]).position_program() is None


def test_a_sum_of_every_kind_of_program() -> None:
    """A term that sweeps, one that gives pairs' gradients, and the mesh."""
    argon = LennardJones(epsilon_eV={"Na": 0.01, "Cl": 0.01}, sigma={"Na": 2.5, "Cl": 3.0}, cutoff=5.0)
    inner = Sum(terms=[argon, argon])
    whole = Sum(terms=[inner, argon, Coulomb(charges=SALT, cutoff=6.0)])
    plain, program = both(whole, salts())
    for name in QUANTITIES:
        torch.testing.assert_close(program.need(name), plain.need(name), rtol=0, atol=1e-9)


def test_molecules_and_crystals_in_one_batch() -> None:
    potential = Coulomb(charges=SALT, cutoff=6.0)
    pair = Atoms("NaClNa", [[0, 0, 0], [0, 0, 2.5], [0, 2.0, 0]])
    crystal = salts().to_ase()[0]
    system = System.from_ase([pair, crystal, pair])
    calculator = PotentialCalculator(potential)
    together = calculator(system).need("energy")
    alone = [float(calculator(System.from_ase(a)).need("energy")) for a in (pair, crystal)]
    torch.testing.assert_close(together, torch.tensor([alone[0], alone[1], alone[0]]).double())
    r = (2.5, 2.0, math.hypot(2.5, 2.0))
    expected = units.coulomb_constant * (-1 / r[0] + 1 / r[1] - 1 / r[2])
    assert alone[0] == pytest.approx(expected, rel=1e-12)
    forces = calculator(System.from_ase(pair)).need("forces")
    expected = units.coulomb_constant * np.array([0, -1 / 4.0, 1 / 6.25])
    np.testing.assert_allclose(forces[0].numpy(), expected, rtol=1e-12, atol=1e-12)


def test_charges_of_single_atoms_and_exclusions() -> None:
    """SPC/E water: nothing within a molecule, alone; in a cell the images' part stays."""
    water = molecule("H2O")
    inside = [[0, 1], [0, 2], [1, 2]]
    given: dict[str, Any] = {"charges": [-0.8476, 0.4238, 0.4238], "elements": ["H", "O"]}
    without = Coulomb(**given, excluded_pairs=inside)
    three = System.from_ase([water, water, water])
    energies = PotentialCalculator(without)(three).need("energy")
    torch.testing.assert_close(energies, torch.zeros(3).double(), rtol=0, atol=1e-12)
    half = Coulomb(**given, excluded_pairs=inside, excluded_factors=[0.5] * 3)
    full = PotentialCalculator(Coulomb(**given))(three).need("energy")
    torch.testing.assert_close(PotentialCalculator(half)(three).need("energy"), 0.5 * full)
    boxed = water.copy()
    boxed.set_cell([60.0] * 3)
    boxed.pbc = True
    far = float(
        PotentialCalculator(Coulomb(**given, excluded_pairs=inside))(System.from_ase(boxed)).need("energy")
    )
    moment = np.array(given["charges"]) @ water.positions
    dipoles = -2.0 * np.pi / 3.0 * units.coulomb_constant * moment @ moment / 60.0**3
    assert far == pytest.approx(dipoles, rel=0.02)  # cubic lattice of dipoles in tin foil
    assert abs(float(full[0])) > 1.0
    with pytest.raises(ValueError, match="structure of 3 atoms"):
        without(*_found(System.from_ase(molecule("H2"))))


def _found(system: System) -> Any:
    return system, find_pairs(system, 9.0)


def test_what_is_refused() -> None:
    for wrong, message in (
        ({"charges": [1.0, -1.0]}, "need `elements`"),
        ({"charges": SALT, "elements": ["Na"]}, "elements for"),
        ({"charges": {}}, "finite numbers"),
        ({"charges": SALT, "method": "p3m"}, "'pme' or 'ewald'"),
        ({"charges": SALT, "excluded_pairs": [[1, 1]]}, "different atoms"),
        ({"charges": SALT, "excluded_pairs": [[0, 1], [1, 0]]}, "named twice"),
        ({"charges": SALT, "excluded_pairs": [[0, 1]], "excluded_factors": [1.0, 0.0]}, "1 excluded pairs"),
    ):
        with pytest.raises(ValueError, match=message):
            Coulomb(**wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="name atom 99"):
        Coulomb(charges=SALT, excluded_pairs=[[0, 99]])(*_found(salts()))
    with pytest.raises(ValueError, match="allow_charged"):
        PotentialCalculator(Coulomb(charges={"Na": 1.0, "Cl": -0.9}))(salts())


def test_energy_is_kept_by_motion() -> None:
    """Rock salt for 100 steps of 2 fs: the drift is that of the integrator, with the list in use."""
    from rikiba.md.ensembles.nve import NVE
    from rikiba.md.simulation import Simulation
    from rikiba.md.state import maxwell_boltzmann

    atoms = bulk("NaCl", "rocksalt", a=5.64, cubic=True) * (2, 2, 2)
    pairs = ("Na-Na", "Na-Cl", "Cl-Cl")
    short = Buckingham(
        A_eV=dict(zip(pairs, (424.0, 1256.3, 3488.9), strict=True)),
        rho=dict.fromkeys(pairs, 0.317),
        C_eV_A6=dict(zip(pairs, (1.05, 6.99, 72.4), strict=True)),
        cutoff=7.0,
    )
    whole = PotentialCalculator(Sum(terms=[short, Coulomb(charges=SALT, cutoff=7.0)]), skin=1.0)
    state = maxwell_boltzmann(System.from_ase(atoms), 300.0, seed=0)

    def total(simulation: Any) -> float:
        now = simulation.state
        return float(whole(now.system).need("energy")) + float(now.kinetic_energy)

    simulation = Simulation(whole, NVE(), state, timestep_fs=2.0)
    before = total(simulation)
    simulation.run(100)
    moved = simulation.state.system.positions - state.system.positions
    assert float(moved.abs().max()) > 0.2
    assert abs(total(simulation) - before) / len(atoms) < 2e-4
