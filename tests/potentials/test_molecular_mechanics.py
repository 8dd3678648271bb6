"""Bonded and non-bonded terms of a topology: against formulas, brute force, and what they cannot do."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms

from rikiba.calculators.autograd import PotentialCalculator, evaluate
from rikiba.core import units
from rikiba.core.pairs import find_pairs
from rikiba.core.results import Results
from rikiba.core.system import System
from rikiba.potentials.lennard_jones import LennardJones
from rikiba.potentials.molecular_mechanics import MolecularMechanics
from rikiba.potentials.morse import Morse
from rikiba.potentials.topology import TopologyError, bonded_pairs


def results(potential: Any, atoms: Atoms, *, forces: bool = True, stress: bool = False) -> Results:
    system = System.from_ase(atoms)
    return evaluate(potential, system, find_pairs(system, potential.cutoff), forces=forces, stress=stress)


def energy(potential: Any, atoms: Atoms) -> float:
    return float(results(potential, atoms, forces=False).need("energy").sum())


def dihedral(degrees: float) -> Atoms:
    """Four carbons whose torsion has this angle, by IUPAC's sign."""
    phi = math.radians(degrees)
    atoms = Atoms("C4", [[1, 0, 0], [0, 0, 0], [0, 0, 1.5], [math.cos(phi), math.sin(phi), 1.7]])
    # looking from the second atom to the third, along +z, clockwise is from x towards y seen from −z
    assert atoms.get_dihedral(0, 1, 2, 3) == pytest.approx(degrees % 360.0, abs=1e-9)
    return atoms


def four(**tables: Mapping[str, Any]) -> MolecularMechanics:
    return MolecularMechanics(symbols=["C"] * 4, **tables)  # type: ignore[arg-type]


def test_a_force_constant_is_the_second_derivative() -> None:
    spring = {"atoms": [[0, 1]], "force_constant_eV_per_A2": [30.0], "length": [1.1]}
    potential = MolecularMechanics(symbols=["N", "N"], bonds=spring)
    found = results(potential, Atoms("N2", [[0, 0, 0], [0, 0, 1.3]]))
    assert float(found.need("energy")) == pytest.approx(0.5 * 30.0 * 0.2**2, rel=1e-12)
    assert float(found.need("forces")[1, 2]) == pytest.approx(-30.0 * 0.2, rel=1e-12)
    angle = {"atoms": [[1, 0, 2]], "force_constant_eV_per_rad2": [5.0], "angle_deg": [100.0]}
    water = MolecularMechanics(symbols=["O", "H", "H"], angles=angle)
    bent = Atoms("OHH", [[0, 0, 0], [1, 0, 0], [0, 1.4, 0]])
    assert energy(water, bent) == pytest.approx(2.5 * math.radians(10.0) ** 2, rel=1e-12)


@pytest.mark.parametrize("degrees", [0.0, 60.0, 180.0, -60.0, 37.0])
def test_torsions_at_known_angles(degrees: float) -> None:
    rows = [(0.3, 1, 0.0), (0.2, 2, 180.0), (0.1, 3, 0.0), (0.25, 1, 60.0)]
    atoms, phi = dihedral(degrees), math.radians(degrees)
    for v, n, gamma in rows:
        table = {"atoms": [[0, 1, 2, 3]], "amplitude_eV": [v], "periodicity": [n], "phase_deg": [gamma]}
        expected = v * (1.0 + math.cos(n * phi - math.radians(gamma)))
        assert energy(four(torsions=table), atoms) == pytest.approx(expected, abs=1e-14)
        # four atoms in the opposite order are the same torsion
        assert energy(four(torsions=table), atoms[::-1]) == pytest.approx(expected, abs=1e-14)
        if gamma == 60.0 and degrees not in (0.0, 180.0):
            mirror = energy(four(torsions=table), dihedral(-degrees))
            assert mirror != pytest.approx(expected, abs=1e-3)  # the sign of φ matters


def test_ryckaert_bellemans_is_the_cosine_series_in_other_words() -> None:
    v = (0.3, 0.2, 0.17)
    chain = [[0, 1, 2, 3]]
    series = {
        "atoms": chain * 3,
        "amplitude_eV": list(v),
        "periodicity": [1, 2, 3],
        "phase_deg": [0.0, 180.0, 0.0],
    }
    # 1 + cos φ, 1 − cos 2φ and 1 + cos 3φ in powers of cos(φ − 180°)
    c = (v[0] + 2 * v[1] + v[2], -v[0] + 3 * v[2], -2 * v[1], -4 * v[2], 0.0, 0.0)
    table = {"atoms": chain} | {f"c{k}_eV": [x] for k, x in enumerate(c)}
    trans = dict(table, c1_eV=[-c[1]], c3_eV=[-c[3]])  # the other convention, powers of cos φ
    for degrees in (0.0, 25.0, 60.0, 111.0, 180.0):
        atoms = dihedral(degrees)
        found = energy(four(ryckaert_bellemans=table), atoms)
        assert found == pytest.approx(energy(four(torsions=series), atoms), abs=1e-13)
        assert energy(four(ryckaert_bellemans=trans), atoms) != pytest.approx(found, abs=1e-3)


def test_an_improper_goes_the_short_way_round() -> None:
    table = {"atoms": [[0, 1, 2, 3]], "force_constant_eV_per_rad2": [2.0], "angle_deg": [170.0]}
    found = energy(four(impropers=table), dihedral(-170.0))
    assert found == pytest.approx(math.radians(20.0) ** 2, rel=1e-12)


def test_maps_go_through_their_points_and_follow_a_smooth_surface() -> None:
    n = 24
    wave = -math.pi + 2.0 * math.pi * np.arange(n) / n
    surface = lambda a, b: 0.3 * np.sin(a + 0.4) * np.cos(2 * b) + 0.1 * np.cos(a - b)  # noqa: E731
    table = {
        "atoms": [[0, 1, 2, 3, 4]],
        "map": [0],
        "grids_eV": [surface(wave[:, None], wave[None]).tolist()],
    }
    potential = MolecularMechanics(symbols=["C"] * 5, cmaps=table)
    swapped = np.array(table["grids_eV"][0]).T[None].tolist()
    other = MolecularMechanics(symbols=["C"] * 5, cmaps=dict(table, grids_eV=swapped))
    rng = np.random.default_rng(0)
    for degrees in ((-105.0, 45.0), (179.9, -179.9), (13.0, 77.7)):
        atoms = Atoms("C5", rng.normal(size=(5, 3)) + 1.6 * np.arange(5)[:, None] * [1, 0, 0])
        for k, d in enumerate(degrees):
            atoms.set_dihedral(k, k + 1, k + 2, k + 3, d, indices=list(range(k + 3, 5)))
        expected = surface(*np.radians(degrees))
        exact = degrees == (-105.0, 45.0)  # a point of the grid
        assert energy(potential, atoms) == pytest.approx(expected, abs=1e-12 if exact else 3e-4)
        if degrees == (13.0, 77.7):
            assert abs(energy(other, atoms) - expected) > 0.01  # which torsion is the slow index


def test_collinear_atoms() -> None:
    """Forces where their limit exists, an error that says where elsewhere; energies always."""
    line = Atoms("CO2", [[0, 0, 0], [0, 0, 1.2], [0, 0, -1.2]])
    table = {"atoms": [[1, 0, 2]], "force_constant_eV_per_rad2": [5.0], "angle_deg": [180.0]}
    straight = MolecularMechanics(symbols=["C", "O", "O"], angles=table)
    assert float(results(straight, line).need("forces").abs().max()) == 0.0
    almost = line.copy()
    almost.positions[0, 0] = 1e-6
    theta = math.pi - 2 * math.atan(1e-6 / 1.2)
    assert energy(straight, almost) == pytest.approx(2.5 * (math.pi - theta) ** 2, rel=1e-9)
    slope = float(results(straight, almost).need("forces")[0, 0])
    assert slope == pytest.approx(-5.0 * 4.0 * 1e-6 / 1.2**2, rel=1e-6)
    bent = MolecularMechanics(symbols=["C", "O", "O"], angles=dict(table, angle_deg=[120.0]))
    assert energy(bent, line) == pytest.approx(2.5 * math.radians(60.0) ** 2, rel=1e-12)
    with pytest.raises(ValueError, match=r"Atoms 1-0-2 of copy 0 .* collinear"):
        results(bent, line)
    assert results(bent, almost).need("forces").isfinite().all()
    torsion = {"atoms": [[0, 1, 2, 3]], "amplitude_eV": [0.1], "periodicity": [2], "phase_deg": [0.0]}
    row = Atoms("C4", [[0, 0, 0], [0, 0, 1], [0, 0, 2], [1, 0, 3]])
    with pytest.raises(ValueError, match=r"0-1-2-3 .* collinear"):
        results(four(torsions=torsion), row)
    idle = dict(torsion, amplitude_eV=[0.0])
    assert float(results(four(torsions=idle), row).need("forces").abs().max()) == 0.0


def butane(**changes: Any) -> MolecularMechanics:
    """A united-atom chain with all that is not bonded."""
    chain = [[0, 1], [1, 2], [2, 3]]
    arguments: dict[str, Any] = {
        "symbols": ["C"] * 4,
        "bonds": {"atoms": chain, "force_constant_eV_per_A2": [20.0] * 3, "length": [1.5] * 3},
        "charges_e": [0.3, -0.4, -0.1, 0.2],
        "lennard_jones": {"types": [0, 1, 1, 0], "sigma": [3.2, 2.9], "epsilon_eV": [0.01, 0.004]},
        "exclusions": bonded_pairs(4, chain, 2),
        "special_pairs": {
            "atoms": [[0, 3]],
            "charge_product_e2": [0.06 / 1.2],
            "sigma": [3.2],
            "epsilon_eV": [0.005],
        },
    }
    return MolecularMechanics(**arguments | changes)


def chain_atoms(n: int = 1, seed: int = 0) -> Atoms:
    rng = np.random.default_rng(seed)
    one = np.array([[0, 0, 0], [1.5, 0, 0], [2.0, 1.4, 0], [3.4, 1.6, 0.5]])
    places = np.concatenate([one + np.array([0.4 * k, 0.3, 4.2 * k]) for k in range(n)])
    return Atoms("C4" * n, places + rng.normal(0.0, 0.05, places.shape))


def lj(r: float, sigma: float, epsilon: float) -> float:
    return 4.0 * epsilon * ((sigma / r) ** 12 - (sigma / r) ** 6)


def test_every_pair_by_hand() -> None:
    atoms = chain_atoms(2)
    q, s, e = [0.3, -0.4, -0.1, 0.2] * 2, [3.2, 2.9, 2.9, 3.2] * 2, [0.01, 0.004, 0.004, 0.01] * 2
    expected = 0.0
    for i in range(8):
        for j in range(i):
            r = atoms.get_distance(i, j)
            if i // 4 != j // 4:
                expected += units.coulomb_constant * q[i] * q[j] / r
                expected += lj(r, 0.5 * (s[i] + s[j]), math.sqrt(e[i] * e[j]))
            elif i - j == 3:
                expected += units.coulomb_constant * 0.05 / r + lj(r, 3.2, 0.005)
            elif i - j == 1:
                expected += 10.0 * (r - 1.5) ** 2
    assert energy(butane(), atoms) == pytest.approx(expected, rel=1e-12)
    full = {"atoms": [[0, 3]], "charge_product_e2": [0.06], "sigma": [3.2], "epsilon_eV": [0.01]}
    assert abs(energy(butane(special_pairs=full), atoms) - expected) > 0.05  # 1–4 pairs not scaled
    assert abs(energy(butane(exclusions=[]), atoms) - expected) > 1.0
    fixed = {"types": [0, 1, 1, 0], "sigma": [3.2, 2.9], "epsilon_eV": [0.01, 0.004]}
    special = fixed | {"overrides": [{"types": [0, 1], "sigma": 3.4, "epsilon_eV": 0.02}]}
    assert abs(energy(butane(lennard_jones=special), atoms) - expected) > 1e-4
    assert abs(energy(butane(mixing="geometric"), atoms) - expected) > 1e-6


@pytest.mark.parametrize("truncation", ["smooth", "cut", "shift", "force_shift"])
def test_lennard_jones_is_the_pair_potential_of_that_name(truncation: Any) -> None:
    rng = np.random.default_rng(2)
    grid = np.stack(np.meshgrid(*[np.arange(3)] * 3), -1).reshape(-1, 3)[:26]
    atoms = Atoms("SiO" * 13, 3.0 * grid + rng.normal(0, 0.2, (26, 3)), cell=[9.0, 9.1, 9.3], pbc=True)
    ends = {"cutoff": 5.0, "truncation": truncation, "tail_correction": truncation == "cut"}
    types = {"types": [0, 1], "sigma": [2.5, 2.0], "epsilon_eV": [0.02, 0.01]}
    ours = MolecularMechanics(symbols=["Si", "O"], lennard_jones=types, **ends)
    same = LennardJones(epsilon_eV={"Si": 0.02, "O": 0.01}, sigma={"Si": 2.5, "O": 2.0}, **ends)
    one, other = (results(p, atoms, stress=True) for p in (ours, same))
    for name in ("energy", "forces", "stress"):
        torch.testing.assert_close(one.need(name), other.need(name), rtol=1e-11, atol=1e-13)


def test_the_tail_of_a_switched_potential() -> None:
    """What the switch takes away in a uniform fluid is in the tail: plain and switched ends agree."""
    types = {"types": [0], "sigma": [3.0], "epsilon_eV": [0.01]}
    atoms = Atoms("Ar", [[0, 0, 0]], cell=[20.0] * 3, pbc=True)
    tails = []
    for settings in ({"truncation": "cut"}, {"truncation": "smooth", "switch_from": 6.0}):
        p = MolecularMechanics(
            symbols=["Ar"], lennard_jones=types, cutoff=9.0, tail_correction=True, **settings
        )
        tails.append(energy(p, atoms))
    r = np.linspace(6.0, 9.0, 20001)
    u = (r - 6.0) / 3.0
    missing = r * r * lj(r, 3.0, 0.01) * (10 * u**3 - 15 * u**4 + 6 * u**5)
    integral = 2.0 * math.pi / 20.0**3 * float(((missing[1:] + missing[:-1]) / 2).sum() * (r[1] - r[0]))
    assert tails[1] - tails[0] == pytest.approx(integral, rel=1e-6)


PERIODIC: dict[str, Any] = {"cutoff": 7.0, "electrostatics": "ewald", "ewald_tolerance": 1e-12}


def boxed(n: int = 2) -> Atoms:
    atoms = chain_atoms(n)
    atoms.set_cell([[10.0, 0, 0], [1.0, 11.0, 0], [-0.7, 0.8, 12.0]])
    atoms.pbc = True
    return atoms


def test_the_splitting_of_the_ewald_sum_changes_nothing() -> None:
    found = [energy(butane(**PERIODIC | {"ewald_alpha": a, "ewald_k_cutoff": 12.0 * a, "cutoff": c}), boxed())
             for a, c in ((0.85, 7.0), (0.7, 9.0))]  # fmt: skip
    ljs = [energy(butane(charges_e=None, special_pairs=None, cutoff=c), boxed()) for c in (7.0, 9.0)]
    assert found[0] - ljs[0] == pytest.approx(found[1] - ljs[1], abs=1e-10)
    terms = []
    for a in (0.85, 0.7):
        p = butane(**PERIODIC | {"ewald_alpha": a})
        system = System.from_ase(boxed())
        terms.append(float(p.energy_terms(system, find_pairs(system, 7.0))["coulomb_excluded"].sum()))
    assert abs(terms[0] - terms[1]) > 1e-3  # pairs left in the sum over waves would be noticed


def test_wrapped_molecules_copies_batches_and_supercells() -> None:
    potential, atoms = butane(**PERIODIC), boxed()
    whole = results(potential, atoms, stress=True)
    wrapped = atoms.copy()
    wrapped.positions += [7.5, 8.0, 9.0]
    wrapped.wrap()
    assert not np.allclose(wrapped.positions, atoms.positions + np.array([7.5, 8.0, 9.0]))
    other = results(potential, wrapped, stress=True)
    for name in ("energy", "forces", "stress"):
        torch.testing.assert_close(other.need(name), whole.need(name), rtol=0, atol=1e-9)
    double = atoms * (1, 2, 1)
    assert energy(potential, double) == pytest.approx(2 * energy(potential, atoms), abs=1e-9)
    batch = results(potential, System.from_ase([atoms, double, boxed(1)]).to_ase()[1])
    assert float(batch.need("energy")) == pytest.approx(2 * float(whole.need("energy")), abs=1e-9)


def test_only_the_nearest_image_of_a_pair_is_excluded() -> None:
    """Two bonded atoms in a cell shorter than the cutoff still feel each other's images."""
    types = {"types": [0, 0], "sigma": [3.0], "epsilon_eV": [0.01]}
    atoms = Atoms("Ar2", [[0, 0, 0], [1.2, 0.1, 0]], cell=[5.0, 5.2, 5.4], pbc=True)
    p = MolecularMechanics(
        symbols=["Ar", "Ar"], lennard_jones=types, exclusions=[[0, 1]], cutoff=6.0, truncation="cut"
    )
    everything = MolecularMechanics(
        symbols=["Ar"], lennard_jones=types | {"types": [0]}, cutoff=6.0, truncation="cut"
    )
    bond = lj(atoms.get_distance(0, 1), 3.0, 0.01)
    assert energy(p, atoms) == pytest.approx(energy(everything, atoms) - bond, rel=1e-9)
    far = atoms.copy()
    far.positions[1] += [5.0, -5.2, 10.8]
    assert energy(p, far) == pytest.approx(energy(p, atoms), abs=1e-11)


def test_a_reaction_field_vanishes_at_the_cutoff() -> None:
    p = MolecularMechanics(
        symbols=["Na", "Cl"],
        charges_e=[1.0, -1.0],
        cutoff=6.0,
        electrostatics="reaction_field",
        dielectric=1e12,
    )
    near, far = (results(p, Atoms("NaCl", [[0, 0, 0], [0, 0, r]])) for r in (3.0, 6.0 - 1e-9))
    assert float(near.need("energy")) == pytest.approx(
        -units.coulomb_constant * (1 / 3 + 9.0 / (2 * 216) - 1.5 / 6.0), rel=1e-9
    )
    assert abs(float(far.need("energy"))) < 1e-9 and float(far.need("forces").abs().max()) < 1e-8


def test_bonds_of_a_fixed_topology_never_break() -> None:
    """A harmonic bond pulls ever harder; Morse's lets go at D; a structure torn across a cell is refused."""
    rest, k, depth = 1.1, 60.0, 5.0
    harmonic = {"atoms": [[0, 1]], "force_constant_eV_per_A2": [k], "length": [rest]}
    steepness = math.sqrt(0.5 * k / depth)  # the same curvature at rest
    morse = {"atoms": [[0, 1]], "depth_eV": [depth], "alpha_per_A": [steepness], "length": [rest]}
    spring = MolecularMechanics(symbols=["N", "N"], bonds=harmonic)
    bond = MolecularMechanics(symbols=["N", "N"], morse_bonds=morse)
    reference = Morse(depth_eV={"N-N": depth}, alpha_per_A={"N-N": steepness}, distance={"N-N": rest},
                      cutoff=30.0, truncation="cut")  # fmt: skip
    distances = (1.15, 2.0, 4.0, 8.0)
    molecules = [Atoms("N2", [[0, 0, 0], [0, 0, r]]) for r in distances]
    pulled = [energy(spring, a) for a in molecules]
    parted = [energy(bond, a) for a in molecules]
    assert pulled[0] == pytest.approx(parted[0], rel=0.2)
    assert pulled[3] > 100.0 * depth and np.all(np.diff(pulled) > 0)
    assert parted[3] == pytest.approx(depth, rel=1e-6)
    for a, e in zip(molecules, parted, strict=True):
        assert energy(reference, a) + depth == pytest.approx(e, rel=1e-9)
    torn = Atoms("N2", [[0, 0, 0], [0, 0, 4.4]], cell=[8.0] * 3, pbc=True)
    torn.positions[1] = [2.9, 2.9, 2.9]
    with pytest.raises(TopologyError, match="torn apart"):
        energy(spring, torn)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"bonds": {"atoms": [[0, 9]], "force_constant_eV_per_A2": [1.0], "length": [1.0]}}, "outside 0 … 3"),
        (
            {"bonds": {"atoms": [[0, 0]], "force_constant_eV_per_A2": [1.0], "length": [1.0]}},
            "one atom twice",
        ),
        ({"bonds": {"atoms": [[0, 1]], "k": [1.0], "length": [1.0]}}, "force_constant_eV_per_A2"),
        ({"bonds": {"atoms": [[0, 1]], "force_constant_eV_per_A2": [], "length": [1.0]}}, "each of 1 terms"),
        ({"charges_e": [0.1]}, "each of 4 atoms"),
        ({"lennard_jones": {"types": [0, 0, 0, 7], "sigma": [1.0], "epsilon_eV": [0.1]}}, "0 … 0"),
        ({"electrostatics": "ewald"}, "need a cutoff"),
        ({"electrostatics": "pppm"}, "pppm"),
        ({"cutoff": 5.0, "truncation": "shift", "tail_correction": True}, "cut or smooth"),
        ({"cutoff": 5.0, "switch_from": 6.0}, "switch_from"),
        ({"mixing": "waldman"}, "waldman"),
        ({"symbols": []}, "at least one atom"),
    ],
)
def test_what_is_no_topology(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        butane(**changes)


def test_structures_of_another_topology_are_refused() -> None:
    with pytest.raises(TopologyError, match="whole copies"):
        energy(butane(), Atoms("C6", np.random.default_rng(0).normal(size=(6, 3))))
    water = MolecularMechanics(symbols=["O", "H", "H"])
    with pytest.raises(TopologyError, match="Atom 0 is H; the topology has O there"):
        energy(water, Atoms("H2O", [[0, 0, 0], [1, 0, 0], [0, 1, 0]]))
    with pytest.raises(ValueError, match="ewald"):
        energy(butane(), boxed())


def test_pairs_along_bonds() -> None:
    ring = [[k, (k + 1) % 5] for k in range(5)]
    assert len(bonded_pairs(5, ring, 1)) == 5 and len(bonded_pairs(5, ring, 2)) == 10
    assert bonded_pairs(5, ring, 3) == bonded_pairs(5, ring, 2)  # the ends of a torsion are 1–3 neighbours
    chain = [[0, 1], [1, 2], [2, 3]]
    assert set(bonded_pairs(4, chain, 3)) - set(bonded_pairs(4, chain, 2)) == {(0, 3)}


def test_dynamics_of_a_chain_keep_the_energy() -> None:
    """NVE of all terms at once, from rest: the energy stays, and four times better at half the step."""
    from rikiba.calculators.autograd import PotentialCalculator
    from rikiba.md.ensembles.nve import NVE
    from rikiba.md.simulation import Simulation
    from rikiba.md.state import State

    potential = MolecularMechanics.examples()[0]
    atoms = potential.trial_structures()[0]
    calculator = PotentialCalculator(potential)
    spread = []
    for timestep, per_fs in ((0.2, 5), (0.1, 10)):
        state = State.of(System.from_ase(atoms))
        run = Simulation(calculator, NVE().splitting(), state, timestep_fs=timestep)
        energies = []
        for _ in range(10):
            run.run(per_fs)
            energies.append(float(run.results.need("energy")) + float(run.state.kinetic_energy))
        spread.append(np.std(energies))
    assert spread[1] < 1e-3 and 3.5 < spread[0] / spread[1] < 4.5


def test_gromos_forms_by_hand() -> None:
    """¼ k (r² − r₀²)² and ½ k (cos θ − cos θ₀)²; a straight angle is no singularity."""
    quartic = {"atoms": [[0, 1]], "force_constant_eV_per_A4": [20.0], "length": [1.2]}
    cosine = {"atoms": [[0, 1, 2]], "force_constant_eV": [5.0], "angle_deg": [109.5]}
    bond = MolecularMechanics(symbols=["C", "O"], quartic_bonds=quartic)
    angle = MolecularMechanics(symbols=["H", "O", "H"], cosine_angles=cosine)
    assert energy(bond, Atoms("CO", [[0, 0, 0], [0, 0, 1.3]])) == pytest.approx(
        0.25 * 20.0 * (1.3**2 - 1.2**2) ** 2, rel=1e-12
    )
    for theta in (0.3, 1.0, 2.5, math.pi):
        bent = Atoms("HOH", [[1.0, 0, 0], [0, 0, 0], [1.1 * math.cos(theta), 1.1 * math.sin(theta), 0]])
        off = math.cos(theta) - math.cos(math.radians(109.5))
        assert energy(angle, bent) == pytest.approx(0.5 * 5.0 * off**2, rel=1e-10)
        system = System.from_ase(bent)
        forces = PotentialCalculator(angle)(system).need("forces")
        # E' = −k (cos θ − cos θ₀) sin θ, at distance 1.1 Å from the middle
        assert float(forces[2].norm()) == pytest.approx(5.0 * abs(off) * math.sin(theta) / 1.1, abs=1e-9)
