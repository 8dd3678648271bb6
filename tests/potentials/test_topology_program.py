"""Molecular mechanics in compiled kernels and on the mesh: against autograd, waves, motion."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms

from rikiba.calculators.autograd import PotentialCalculator, evaluate
from rikiba.core.pairs import find_pairs
from rikiba.core.results import Results
from rikiba.core.system import System
from rikiba.electrostatics.pme import ParticleMeshEwald
from rikiba.kernels import non_bonded_cpu
from rikiba.potentials.molecular_mechanics import MolecularMechanics
from rikiba.potentials.rigid_water import RigidWater
from rikiba.potentials.topology import TopologyError
from rikiba.potentials.topology_program import MechanicsProgram

EXAMPLE = MolecularMechanics.examples()[0].arguments


def box_of_water(n: int = 8, length: float = 9.6, seed: int = 0) -> Atoms:
    """n³ molecules turned at random on a grid, in a skewed cell; some reach across its faces."""
    rng = np.random.default_rng(seed)
    side = round(n ** (1 / 3))
    one = RigidWater(model="spce").molecule().positions
    places = [
        one @ np.linalg.qr(rng.normal(size=(3, 3)))[0] + length / side * np.array(k)
        for k in np.ndindex(side, side, side)
    ]
    skew = np.array([[1.0, 0, 0], [0.06, 1.0, 0], [-0.05, 0.08, 1.0]])
    atoms = Atoms("OHH" * n, np.concatenate(places) @ skew, cell=length * skew, pbc=True)
    atoms.positions += rng.normal(0.0, 0.02, atoms.positions.shape)
    return atoms


def flexible_water(**changes: Any) -> MolecularMechanics:
    """SPC's charges and Lennard-Jones with springs, on the mesh."""
    k = 40.0
    arguments: dict[str, Any] = {
        "symbols": ["O", "H", "H"],
        "bonds": {"atoms": [[0, 1], [0, 2]], "force_constant_eV_per_A2": [k, k], "length": [1.0, 1.0]},
        "angles": {"atoms": [[1, 0, 2]], "force_constant_eV_per_rad2": [4.0], "angle_deg": [109.47]},
        "charges_e": [-0.82, 0.41, 0.41],
        "lennard_jones": {"types": [0, 1, 1], "sigma": [3.166, 1.0], "epsilon_eV": [0.00674, 0.0005]},
        "exclusions": [[0, 1], [0, 2], [1, 2]],
        "cutoff": 4.5,
        "electrostatics": "pme",
        "ewald_tolerance": 1e-6,
    }
    return MolecularMechanics(**arguments | changes)


def both(potential: Any, system: System) -> tuple[Results, Results]:
    """By automatic differentiation of plain torch, and by the calculator's program."""
    stress = bool(system.has_volume.all())
    plain = evaluate(potential, system, find_pairs(system, potential.cutoff), stress=stress)
    found = PotentialCalculator(potential, skin=0.7)
    assert isinstance(potential.position_program(), MechanicsProgram)
    return plain, found(system, stress=stress)


def assert_equal(potential: Any, system: System) -> Results:
    plain, program = both(potential, system)
    for name in ("energy", "energies", "forces", *(("stress",) if plain.stress is not None else ())):
        torch.testing.assert_close(program.need(name), plain.need(name), rtol=0, atol=1e-10)
    return program


@pytest.mark.parametrize("coulomb", ["all_pairs", "ewald", "pme"])
def test_the_program_is_the_definition(coulomb: Any) -> None:
    """All kinds of terms at once, in molecules, with waves and with the mesh; alone and in batches."""
    potential = MolecularMechanics.examples()[0]
    if coulomb != "all_pairs":
        ends = {"cutoff": 8.5, "tail_correction": True, "ewald_tolerance": 1e-5}
        potential = MolecularMechanics(**EXAMPLE | ends, electrostatics=coulomb)
    frames = potential.trial_structures()
    moved = frames[1].copy()
    if moved.pbc.all():
        moved.positions += [7.0, -11.0, 8.0]
        moved.wrap()
    found = assert_equal(potential, System.from_ase([*frames, moved]))
    alone = PotentialCalculator(potential)(System.from_ase(frames[0]))
    torch.testing.assert_close(alone.need("energy")[0], found.need("energy")[0], rtol=0, atol=1e-12)
    arguments = potential.arguments
    other = MolecularMechanics(**arguments | {"charges_e": [0.41, *arguments["charges_e"][1:5], 0.39]})
    forces = both(other, System.from_ase([*frames, moved]))[1].need("forces")
    assert not torch.allclose(forces, found.need("forces"), atol=1e-4)


KINDS = (
    "bonds", "morse_bonds", "quartic_bonds", "angles", "cosine_angles", "urey_bradley", "torsions",
    "ryckaert_bellemans", "impropers", "cmaps", "special_pairs",
)  # fmt: skip


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_term_alone(name: str) -> None:
    """Each alone equals its definition, so that no two errors can cancel."""
    potential = MolecularMechanics(symbols=EXAMPLE["symbols"], **{name: EXAMPLE[name]})
    atoms = MolecularMechanics.examples()[0].trial_structures()[1]
    found = assert_equal(potential, System.from_ase(atoms))
    assert float(found.need("forces").abs().max()) > 1e-3


@pytest.mark.parametrize("truncation", ["smooth", "cut", "shift", "force_shift"])
@pytest.mark.parametrize("coulomb", ["reaction_field", "pme"])
def test_every_end_of_the_pairs(truncation: Any, coulomb: Any) -> None:
    potential = flexible_water(truncation=truncation, electrostatics=coulomb, ewald_tolerance=None)
    assert_equal(potential, System.from_ase([box_of_water(), box_of_water(seed=1)]))


def test_molecules_with_a_cutoff_of_dispersion_alone() -> None:
    potential = flexible_water(electrostatics="all_pairs")
    cluster = box_of_water()
    cluster.pbc = False
    assert_equal(potential, System.from_ase([cluster, cluster[:9]]))
    with pytest.raises(ValueError, match="pme"):
        PotentialCalculator(potential)(System.from_ase(box_of_water()))


@pytest.mark.parametrize("coulomb", ["pme", "ewald", "reaction_field"])
@pytest.mark.parametrize("model", ["spce", "tip4p_2005"])
def test_rigid_water(model: Any, coulomb: Any) -> None:
    potential = RigidWater(model=model, cutoff=4.5, electrostatics=coulomb, tail_correction=True)
    assert_equal(potential, System.from_ase([box_of_water(), box_of_water(seed=3)]))


def test_charged_cells() -> None:
    potential = flexible_water(charges_e=[-0.8, 0.41, 0.41], allow_charged=True)
    with pytest.warns(UserWarning, match="net charge"):
        assert_equal(potential, System.from_ase(box_of_water()))


@pytest.mark.parametrize("model", ["spce", "tip4p_ew"])
def test_mesh_and_waves_agree(model: Any) -> None:
    """To the error that is expected of the mesh, which falls with the tolerance as it should."""
    system = System.from_ase(box_of_water())
    settings: dict[str, Any] = {"model": model, "cutoff": 4.5}
    alpha = math.sqrt(-math.log(1e-6)) / 4.5
    waves = PotentialCalculator(
        RigidWater(**settings, electrostatics="ewald", ewald_alpha=alpha, ewald_tolerance=1e-11)
    )(system, stress=True)
    errors = []
    for tolerance in (1e-6, 1e-4):
        mesh = RigidWater(**settings, electrostatics="pme", ewald_alpha=alpha, ewald_tolerance=tolerance)
        found = PotentialCalculator(mesh)(system, stress=True)
        difference = (found.need("forces") - waves.need("forces")).norm(dim=1).square().mean().sqrt()
        summed = mesh.non_bonded.ewald
        assert isinstance(summed, ParticleMeshEwald)
        expected = summed.force_error(system, mesh.non_bonded.charges.repeat(8))[1]
        errors.append(float(difference))
        assert 0.3 * float(expected) < errors[-1] < 5.0 * float(expected)
        for name in ("energy", "stress"):  # both are small differences of large terms
            size = float(waves.need(name).abs().max())
            assert float((found.need(name) - waves.need(name)).abs().max()) < 100.0 * tolerance * size
    assert 30.0 < errors[1] / errors[0] < 300.0


def test_lists_follow_molecules_across_faces() -> None:
    """One calculator through moves within its skin and molecules wrapped, then whole again."""
    potential = flexible_water()
    calculator = PotentialCalculator(potential, skin=1.0)
    atoms, rng = box_of_water(), np.random.default_rng(5)
    for step in range(4):
        atoms.positions += rng.normal(0.0, 0.03, atoms.positions.shape)
        if step == 2:
            atoms.wrap()
        system = System.from_ase(atoms)
        plain = evaluate(potential, system, find_pairs(system, potential.cutoff), stress=True)
        found = calculator(system, stress=True)
        for name in ("energies", "forces", "stress"):
            torch.testing.assert_close(found.need(name), plain.need(name), rtol=0, atol=1e-10)
        again = PotentialCalculator(potential, skin=1.0)(system, stress=True)
        assert torch.equal(again.need("forces"), found.need("forces"))
    assert calculator.pairs.n_builds < 4


def test_what_the_definition_refuses() -> None:
    """The kernels' refusals are the definition's errors, with its words."""
    torsion = {"atoms": [[0, 1, 2, 3]], "amplitude_eV": [0.1], "periodicity": [2], "phase_deg": [0.0]}
    row = Atoms("C4", [[0, 0, 0], [0, 0, 1], [0, 0, 2], [1, 0, 3]])
    for amplitude, refused in ((0.1, True), (0.0, False)):
        table = torsion | {"amplitude_eV": [amplitude]}
        calculator = PotentialCalculator(MolecularMechanics(symbols=["C"] * 4, torsions=table))
        if refused:
            with pytest.raises(ValueError, match=r"0-1-2-3 .* collinear"):
                calculator(System.from_ase(row))
        else:
            assert float(calculator(System.from_ase(row)).need("forces").abs().max()) == 0.0
    straight = {"atoms": [[1, 0, 2]], "force_constant_eV_per_rad2": [5.0], "angle_deg": [180.0]}
    line = System.from_ase(Atoms("CO2", [[0, 0, 0], [0, 0, 1.2], [0, 0, -1.2]]))
    symbols = ["C", "O", "O"]
    found = PotentialCalculator(MolecularMechanics(symbols=symbols, angles=straight))(line)
    assert float(found.need("forces").abs().max()) == 0.0
    bent = PotentialCalculator(MolecularMechanics(symbols=symbols, angles=straight | {"angle_deg": [120.0]}))
    with pytest.raises(ValueError, match="Atoms 1-0-2 of copy 0"):
        bent(line)
    torn = box_of_water()
    torn.positions[4] += 0.45 * (torn.cell[0] + torn.cell[1])
    with pytest.raises(TopologyError, match="torn apart"):
        PotentialCalculator(flexible_water())(System.from_ase(torn))
    torn.positions[4] = torn.positions[3] + 2.0
    with pytest.raises(TopologyError, match="not in its geometry"):
        PotentialCalculator(RigidWater(model="tip4p", cutoff=4.0, electrostatics="pme"))(
            System.from_ase(torn)
        )
    for wrong, message in (
        ({"electrostatics": "ewald", "mesh": [20, 20, 20]}, 'of electrostatics = "pme"'),
        ({"ewald_k_cutoff": 3.0}, 'of electrostatics = "ewald"'),
        ({"mesh": [20, 20]}, "three numbers"),
        ({"mesh_order": 9}, "order is 4 to 8"),
    ):
        with pytest.raises(ValueError, match=message):
            flexible_water(**wrong)


class Changed(MolecularMechanics):
    """With an energy of its own, which no kernel knows."""

    def energy_terms(self, system: System, pairs: Any) -> Any:
        return {k: 2.0 * v for k, v in super().energy_terms(system, pairs).items()}


def test_a_subclass_with_other_terms_has_no_program() -> None:
    assert Changed(**EXAMPLE).position_program() is None
    assert MolecularMechanics(**EXAMPLE).position_program() is not None


def slopes(potential: Any, atoms: Atoms, h: float = 1e-4) -> tuple[np.ndarray, np.ndarray]:
    """(∂E/∂r along one random direction, ∂E/∂ε of a random symmetric strain) by central differences."""
    rng = np.random.default_rng(7)
    along, strain = rng.normal(size=atoms.positions.shape), rng.normal(size=(3, 3))
    strain = strain + strain.T
    frames = []
    for s in (1.0, -1.0):
        moved, strained = atoms.copy(), atoms.copy()
        moved.positions += s * h * along
        strained.set_cell(atoms.cell[:] @ (np.eye(3) + s * h * strain), scale_atoms=True)
        frames += [moved, strained]
    e = [float(PotentialCalculator(potential)(System.from_ase(f)).need("energy")) for f in frames]
    found = PotentialCalculator(potential)(System.from_ase(atoms), stress=True)
    by_forces = -float((found.need("forces").numpy() * along).sum())
    by_stress = float((found.need("stress")[0].numpy() * strain).sum()) * atoms.get_volume()
    return np.array([e[0] - e[2], e[1] - e[3]]) / (2 * h), np.array([by_forces, by_stress])


def test_forces_and_virial_are_slopes_of_the_energy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Finite differences of flexible molecules and of charges beside atoms; planted errors are seen."""
    atoms = box_of_water()
    mesh = {"mesh": [24, 24, 24], "mesh_order": 8}
    water = RigidWater(model="tip4p_2005", cutoff=4.5, electrostatics="pme", **mesh, ewald_tolerance=1e-8)
    for potential in (flexible_water(**mesh), water):
        expected, found = slopes(potential, atoms)
        np.testing.assert_allclose(found, expected, rtol=1e-5)

    def on_oxygen(place_forces: np.ndarray, atoms: Any, weights: Any, n: int, forces: np.ndarray) -> None:
        forces += place_forces

    with monkeypatch.context() as m:
        m.setattr(non_bonded_cpu, "return_forces", on_oxygen)
        expected, found = slopes(water, atoms)
        assert abs(found[0] / expected[0] - 1.0) > 1e-3
    true = non_bonded_cpu.excluded_terms

    def wrong_sign(*arguments: Any) -> int:
        *before, forces, virial = arguments
        other, outer = np.zeros_like(forces), np.zeros_like(virial)
        status: int = true(*before, other, outer)
        forces -= other
        virial -= outer
        return status

    monkeypatch.setattr(non_bonded_cpu, "excluded_terms", wrong_sign)
    expected, found = slopes(flexible_water(**mesh), atoms)
    assert (np.abs(found / expected - 1.0) > 1e-2).all()


def test_motion_keeps_the_energy_to_second_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """NVE of flexible water on the mesh: fluctuations fall fourfold at half the step."""
    from rikiba.md.ensembles.nve import NVE
    from rikiba.md.simulation import Simulation
    from rikiba.md.state import State

    atoms = box_of_water()
    potential = flexible_water(mesh=[24, 24, 24])

    def spread(timestep: float) -> float:
        calculator = PotentialCalculator(potential, skin=1.0)
        state = State.of(System.from_ase(atoms))
        run = Simulation(calculator, NVE().splitting(), state, timestep_fs=timestep)
        energies = []
        for _ in range(20):
            run.run(round(1.0 / timestep))
            energies.append(float(run.results.need("energy")) + float(run.state.kinetic_energy))
        return float(np.std(energies))

    wide, narrow = spread(0.5), spread(0.25)
    assert 3.4 < wide / narrow < 4.6 and narrow < 2e-3

    true = non_bonded_cpu.excluded_terms

    def wrong_sign(*arguments: Any) -> int:
        *before, forces, virial = arguments
        other = np.zeros_like(forces)
        status: int = true(*before, other, virial)
        forces -= other
        return status

    monkeypatch.setattr(non_bonded_cpu, "excluded_terms", wrong_sign)
    assert spread(0.25) > 20.0 * narrow
