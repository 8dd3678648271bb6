"""Topology files: what is read from them, by which door, and what is refused; values are in tests/peers."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms

from rikiba.calculators.autograd import PotentialCalculator, evaluate
from rikiba.cli.main import main
from rikiba.core import units
from rikiba.core.pairs import find_pairs
from rikiba.core.results import Results
from rikiba.core.system import System
from rikiba.interop.foreign import build, read_foreign
from rikiba.interop.potential_files import with_files
from rikiba.interop.topology_files import TopologyFileError, arguments_of, read_coordinates, read_topology
from rikiba.potentials.molecular_mechanics import MolecularMechanics
from rikiba.potentials.rigid_water import MODELS, RigidWater
from rikiba.training.checkpoint import load_potential

pytest.importorskip("parmed", reason="ParmEd is not installed: pip install rikiba[topology]")

FILES = Path(__file__).resolve().parents[1] / "peers" / "openmm" / "files"
KCAL = units.kilocalorie_per_mole
PRMTOP = FILES / "alanine_dipeptide.prmtop"


def energy(
    potential: MolecularMechanics, crd: Path = FILES / "alanine_dipeptide.crd", top: Path = PRMTOP
) -> float:
    system = System.from_ase(read_coordinates(crd, top))
    return float(PotentialCalculator(potential)(system).need("energy"))


def test_a_prmtop_is_twice_its_force_constants_and_scales_its_pairs() -> None:
    weights = read_topology(PRMTOP)
    assert weights.class_name == "MolecularMechanics" and weights.tensors == {}
    found = weights.arguments
    text = PRMTOP.read_text()
    first = float(text.split("%FLAG BOND_FORCE_CONSTANT")[1].split("\n")[2].split()[0])
    k = {round(x / units.kilocalorie_per_mole, 3) for x in found["bonds"]["force_constant_eV_per_A2"]}
    assert 2.0 * first in k and first not in k
    q, pairs = found["charges_e"], found["special_pairs"]
    for (i, j), product in zip(pairs["atoms"], pairs["charge_product_e2"], strict=True):
        assert product == pytest.approx(q[i] * q[j] / 1.2, rel=1e-12)
    assert sum(q) == pytest.approx(0.0, abs=1e-6) and len(found["symbols"]) == 22
    whole = energy(MolecularMechanics(**found))
    full = dict(pairs, charge_product_e2=[q[i] * q[j] for i, j in pairs["atoms"]])
    assert abs(energy(MolecularMechanics(**found | {"special_pairs": full})) - whole) > 0.1


def test_every_door(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file by recognition, in a table of a configuration, and through `rikiba convert`."""
    expected = energy(MolecularMechanics(**read_topology(PRMTOP).arguments))
    assert energy(build(read_foreign(PRMTOP))) == expected  # type: ignore[arg-type]
    table = with_files({"kind": "molecular_mechanics", "file": PRMTOP.name}, FILES)
    assert "file" not in table and len(table["symbols"]) == 22
    out = tmp_path / "dipeptide.rikiba"
    assert main(["convert", str(PRMTOP), "--out", str(out), "--set", "rigid=hydrogens"]) == 0
    assert "MolecularMechanics of 4 elements" in capsys.readouterr().out
    back = load_potential(out)
    assert isinstance(back, MolecularMechanics) and energy(back) == pytest.approx(expected, rel=1e-14)
    system = System.from_ase(read_coordinates(FILES / "alanine_dipeptide.crd", PRMTOP))
    pairs, lengths = back.rigid_distances(system)
    assert len(pairs) == 12 and set(np.round(lengths.tolist(), 3)) == {1.01, 1.09}
    psf = {
        "kind": "molecular_mechanics",
        "file": "penta_alanine.psf",
        "parameters": ["penta_alanine.prm"],
        "cutoff": 9.0,
    }
    assert len(with_files(psf, FILES)["cmaps"]["atoms"]) == 3
    with pytest.raises(ValueError, match="stand in alanine_dipeptide"):
        with_files(table | {"file": PRMTOP.name}, FILES)


def test_water_of_a_solvated_peptide_is_rigid() -> None:
    top, crd = FILES / "solvated_dipeptide.prmtop", FILES / "solvated_dipeptide.rst7"
    found = read_topology(top, rigid="water", cutoff=8.0, electrostatics="ewald").arguments
    potential = MolecularMechanics(**found)
    atoms = read_coordinates(crd, top)
    assert len(atoms) == 142 and atoms.pbc.all() and atoms.cell.lengths() == pytest.approx([20.0] * 3)
    pairs, lengths = potential.rigid_distances(System.from_ase(atoms))
    assert len(pairs) == 3 * 40 and int(pairs.min()) == 22
    assert sorted(set(np.round(lengths.tolist(), 4))) == [0.9572, 1.5139]


def test_forces_and_stress_of_a_file_are_derivatives() -> None:
    top, crd = FILES / "solvated_dipeptide.prmtop", FILES / "solvated_dipeptide.rst7"
    settings = {"cutoff": 8.0, "electrostatics": "ewald", "tail_correction": True, "ewald_tolerance": 1e-12}
    potential = MolecularMechanics(**read_topology(top, **settings).arguments)
    atoms = read_coordinates(crd, top)
    rng = np.random.default_rng(0)
    direction, strain = rng.normal(size=(len(atoms), 3)), rng.normal(size=(3, 3))
    strain = 0.5 * (strain + strain.T)
    system = System.from_ase(atoms)
    found = evaluate(potential, system, find_pairs(system, potential.cutoff), stress=True)
    values = []
    for h in (1e-5, -1e-5):
        for a in (atoms.copy(), atoms.copy()):
            if len(values) % 2 == 0:
                a.positions += h * direction
            else:
                a.set_cell(atoms.cell.array @ (np.eye(3) + h * strain), scale_atoms=True)
            s = System.from_ase(a)
            values.append(float(evaluate(potential, s, find_pairs(s, 8.0), forces=False).need("energy")))
    along, strained = (values[0] - values[2]) / 2e-5, (values[1] - values[3]) / 2e-5
    assert along == pytest.approx(-float((found.need("forces").numpy() * direction).sum()), rel=1e-6)
    work = float((found.need("stress")[0].numpy() * strain).sum()) * atoms.get_volume()
    assert strained == pytest.approx(work, rel=1e-6)


def test_what_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TopologyFileError, match="parameters"):
        read_topology(FILES / "penta_alanine.psf")
    with pytest.raises(FileNotFoundError):
        read_topology(tmp_path / "none.prmtop")
    text = PRMTOP.read_text()
    cut = tmp_path / "cut.prmtop"
    cut.write_text(text[: len(text) // 2])
    with pytest.raises(TopologyFileError, match=r"cut\.prmtop"):
        read_topology(cut)
    other = tmp_path / "c4.prmtop"
    n = int(text.split("%FLAG POINTERS")[1].split("\n")[2].split()[1])
    zeros = "".join(f"{0.0:16.8E}" + ("\n" if k % 5 == 4 else "") for k in range(n * (n + 1) // 2))
    other.write_text(text.rstrip("\n") + f"\n%FLAG LENNARD_JONES_CCOEF\n%FORMAT(5E16.8)\n{zeros}\n")
    with pytest.raises(TopologyFileError, match="12-6-4"):
        read_topology(other)
    missing = tmp_path / "little.prm"
    lines = (FILES / "penta_alanine.prm").read_text().splitlines()
    kept = [x for x in lines if x.split() != ["C", "NH1", "370.00", "1.3450"]]
    assert len(kept) == len(lines) - 1
    missing.write_text("\n".join(kept) + "\n")
    with pytest.raises(TopologyFileError, match="penta_alanine"):
        read_topology(FILES / "penta_alanine.psf", parameters=[missing])


def test_changed_pairs_of_types(tmp_path: Path) -> None:
    """NBFIX of a CHARMM file, and changed A and B of a prmtop, act on those pairs alone."""
    fixed = tmp_path / "fixed.prm"
    text = (FILES / "penta_alanine.prm").read_text()
    fixed.write_text(text.replace("\nEND", "\nNBFIX\nH O -0.3 2.9\nEND"))
    crd = FILES / "penta_alanine.crd"
    places = read_coordinates(crd, FILES / "penta_alanine.psf", [FILES / "penta_alanine.prm"])
    system = System.from_ase(places)
    both = []
    for prm in (FILES / "penta_alanine.prm", fixed):
        p = MolecularMechanics(**read_topology(FILES / "penta_alanine.psf", parameters=[prm]).arguments)
        both.append({k: float(v.sum()) for k, v in p.energy_terms(system, find_pairs(system, 0.0)).items()})
        overrides = p.arguments["lennard_jones"]["overrides"]
        assert [
            (round(o["sigma"], 4), round(o["epsilon_eV"] / units.kilocalorie_per_mole, 4)) for o in overrides
        ] == ([] if prm != fixed else [(round(2.9 * 2 ** (-1 / 6), 4), 0.3)])
    assert abs(both[1]["lennard_jones"] - both[0]["lennard_jones"]) > 1e-3
    assert both[1]["bonds"] == both[0]["bonds"] and both[1]["coulomb"] == both[0]["coulomb"]
    head, flag, rest = PRMTOP.read_text().partition("%FLAG LENNARD_JONES_ACOEF")
    lines = rest.split("\n")
    values = lines[2].split()
    lines[2] = "".join(f"{float(v) * (1.5 if k == 1 else 1.0):16.8E}" for k, v in enumerate(values))
    changed = tmp_path / "changed.prmtop"
    changed.write_text(head + flag + "\n".join(lines))
    plain, other = (read_topology(p).arguments["lennard_jones"] for p in (PRMTOP, changed))
    assert plain["overrides"] == [] and len(other["overrides"]) == 1


def four_site_water(n: int, *, charge_on_oxygen: float = 0.0) -> Any:
    """ParmEd's structure of TIP4P molecules, M bonded to O as tleap has it."""
    import parmed

    structure = parmed.Structure()
    bond, base, site = (parmed.BondType(553.0, length) for length in (0.9572, 1.5139, 0.15))
    structure.bond_types.extend([bond, base, site])
    for k in range(n):
        o = parmed.Atom(name="O", atomic_number=8, mass=16.0, charge=charge_on_oxygen, type="OW")
        h = [parmed.Atom(name=f"H{x}", atomic_number=1, mass=1.0, charge=0.52, type="HW") for x in (1, 2)]
        m = parmed.ExtraPoint(name="M", atomic_number=0, mass=0.0, charge=-1.04, type="EP")
        o.rmin, o.epsilon = MODELS["tip4p"].sigma * 2 ** (1 / 6) / 2, MODELS["tip4p"].epsilon_eV / KCAL
        for atom in (*h, m):
            atom.rmin, atom.epsilon = 0.0, 0.0
        for atom in (o, *h, m):
            structure.add_atom(atom, "WAT", k)
        for first, second, kind in ((o, h[0], bond), (o, h[1], bond), (*h, base), (o, m, site)):
            structure.bonds.append(parmed.Bond(first, second, kind))
    return structure


def test_a_virtual_site_becomes_a_place_of_its_parents_charge() -> None:
    arguments = arguments_of(four_site_water(3))
    assert arguments["symbols"] == ["O", "H", "H"] * 3
    water = RigidWater(model="tip4p", cutoff=None, electrostatics="all_pairs")
    atoms = water.trial_structures()[1]
    found = evaluated(MolecularMechanics(**{k: v for k, v in arguments.items() if k != "bonds"}), atoms)
    expected = evaluated(water, atoms)
    assert float(found.need("energy")) == pytest.approx(float(expected.need("energy")), rel=1e-6)
    np.testing.assert_allclose(found.need("forces"), expected.need("forces"), atol=1e-6)
    beside = evaluated(RigidWater(model="tip3p", cutoff=None, electrostatics="all_pairs"), atoms)
    assert abs(float(beside.need("energy") - expected.need("energy"))) > 1e-3
    with pytest.raises(TopologyFileError, match="no charge of its own"):
        arguments_of(four_site_water(1, charge_on_oxygen=0.1))


def evaluated(potential: Any, atoms: Atoms) -> Results:
    system = System.from_ase(atoms)
    return evaluate(potential, system, find_pairs(system, potential.cutoff))


def test_forms_and_exclusions_that_parmed_does_not_know(tmp_path: Path) -> None:
    text = (FILES / "ethanol_opls.top").read_text()
    tabulated = tmp_path / "tabulated.top"  # tabulated bonds
    tabulated.write_text(text.replace("    1     2     1 \n", "    1     2     8  1 1.0\n", 1))
    with pytest.warns(UserWarning, match="unknown functional") as heard:
        with pytest.raises(TopologyFileError, match="function type"):
            read_topology(tabulated)
    assert len(heard) == len({str(w.message) for w in heard})
    near = tmp_path / "near.top"
    near.write_text(text.replace("Ethanol                    3", "Ethanol                    2"))
    with pytest.raises(TopologyFileError, match="nrexcl"):
        read_topology(near)
