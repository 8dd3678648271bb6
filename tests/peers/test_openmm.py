"""Real topology files term by term against OpenMM, which reads them with readers of its own."""

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms

from rikiba.calculators.autograd import PotentialCalculator, evaluate
from rikiba.core import units
from rikiba.core.pairs import find_pairs
from rikiba.core.system import System
from rikiba.interop.topology_files import read_topology
from rikiba.potentials.molecular_mechanics import MolecularMechanics
from rikiba.potentials.rigid_water import RigidWater

pytest.importorskip("parmed", reason="ParmEd is not installed: pip install rikiba[topology]")

HERE = Path(__file__).parent / "openmm"
KJ = units.kilojoule_per_mole
CASES = {
    "amber_dipeptide": ("alanine_dipeptide.prmtop", []),
    "amber_dipeptide_periodic": ("alanine_dipeptide.prmtop", []),
    "amber_solvated": ("solvated_dipeptide.prmtop", []),
    "charmm_penta_alanine": ("penta_alanine.psf", ["penta_alanine.prm"]),
    "gromacs_ethanol": ("ethanol_opls.top", []),
}
OURS = {
    "lennard_jones": ("lennard_jones", "lennard_jones_special"),
    "coulomb": (
        "coulomb",
        "coulomb_real",
        "coulomb_reciprocal",
        "coulomb_self",
        "coulomb_excluded",
        "coulomb_special",
    ),
}


def reference(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((HERE / "reference" / f"{name}.json").read_text(encoding="utf-8"))
    return found


def read(name: str, **changes: Any) -> tuple[MolecularMechanics, Atoms, dict[str, Any]]:
    """The potential of a case's file, and the structure that OpenMM saw."""
    file, parameters = CASES[name]
    found = reference(name)
    settings: dict[str, Any] = {}
    if found["ewald_cutoff_A"] is not None:
        settings = {"cutoff": found["ewald_cutoff_A"], "electrostatics": "ewald", "ewald_tolerance": 1e-9}
    folder = HERE / "files"
    weights = read_topology(folder / file, parameters=[folder / p for p in parameters], **settings)
    symbols, places = found["symbols"], np.array(found["positions_A"])
    real = [k for k, s in enumerate(symbols) if s != "X"]
    atoms = Atoms(
        [symbols[k] for k in real], places[real], cell=found["cell_A"], pbc=found["cell_A"] is not None
    )
    return MolecularMechanics(**weights.arguments | changes), atoms, found


def kj_terms(potential: MolecularMechanics, atoms: Atoms) -> dict[str, float]:
    system = System.from_ase(atoms)
    terms = potential.energy_terms(system, find_pairs(system, potential.cutoff))
    return {k: float(v.sum()) / KJ for k, v in terms.items()}


def of_openmm(terms: dict[str, float], kind: str) -> float:
    return sum(terms.get(k, 0.0) for k in OURS.get(kind, (kind,)))


def forces_of(potential: MolecularMechanics, atoms: Atoms, kind: str) -> np.ndarray:
    """Forces of the terms that OpenMM counts as `kind`, kJ/mol/Å."""
    system = System.from_ase(atoms)
    one = copy.copy(potential)
    wanted = OURS.get(kind, (kind,))

    def some(system: System, pairs: Any) -> dict[str, Any]:
        terms = potential.energy_terms(system, pairs)
        return {k: v for k, v in terms.items() if k in wanted}

    object.__setattr__(one, "energy_terms", some)
    forces = evaluate(one, system, find_pairs(system, potential.cutoff)).need("forces")
    return forces.numpy() / KJ


@pytest.mark.parametrize("name", CASES)
def test_terms_and_their_forces(name: str) -> None:
    """Energies to 1e-8 of their size, forces to 1e-7 of the largest; Ewald sums to 1e-6."""
    potential, atoms, found = read(name)
    ours = kj_terms(potential, atoms)
    for kind, expected in found["terms"].items():
        tight = found["ewald_cutoff_A"] is None or kind not in OURS
        value = of_openmm(ours, kind)
        assert value == pytest.approx(expected["energy_kJ_per_mol"], rel=1e-8 if tight else 1e-6, abs=1e-7), (
            kind
        )
        theirs = np.array(expected["forces_kJ_per_mol_A"])[[s != "X" for s in found["symbols"]]]
        error = np.abs(forces_of(potential, atoms, kind) - theirs).max()
        assert error <= (1e-7 if tight else 1e-5) * max(np.abs(theirs).max(), 1.0), kind


def rigid_water(name: str, **settings: Any) -> tuple[RigidWater, Atoms, dict[str, Any]]:
    found = reference(f"water_{name.replace('_', '')}")
    real = [k for k, s in enumerate(found["symbols"]) if s != "X"]
    atoms = Atoms(
        [found["symbols"][k] for k in real],
        np.array(found["positions_A"])[real],
        cell=found["cell_A"],
        pbc=True,
    )
    cutoff = found["ewald_cutoff_A"]
    return RigidWater(model=name, cutoff=cutoff, ewald_tolerance=1e-9, **settings), atoms, found


@pytest.mark.parametrize("name", ["spce", "tip3p", "tip4p_ew"])
def test_rigid_water(name: str) -> None:
    """Coulomb energies and forces to 1e-7, M's among them; Lennard-Jones to 1e-10, or where OpenMM's file
    rounds ε (SPC/E: 0.650 kJ/mol, TIP3P: 0.152 kcal/mol) to its digits."""
    potential, atoms, found = rigid_water(name)
    real = [s != "X" for s in found["symbols"]]
    ours = kj_terms(potential, atoms)
    for kind, tolerance in (("lennard_jones", 1e-10 if name == "tip4p_ew" else 1e-3), ("coulomb", 1e-7)):
        expected = found["terms"][kind]
        assert of_openmm(ours, kind) == pytest.approx(expected["energy_kJ_per_mol"], rel=tolerance), kind
        theirs = np.array(expected["forces_kJ_per_mol_A"])[real]
        error = np.abs(forces_of(potential, atoms, kind) - theirs).max()
        assert error <= tolerance * np.abs(theirs).max(), kind
    wrong = "spc" if name == "spce" else "tip3p" if name != "tip3p" else "spce"
    other = kj_terms(RigidWater(model=wrong, cutoff=5.5, ewald_tolerance=1e-9), atoms)
    assert of_openmm(other, "coulomb") != pytest.approx(
        found["terms"]["coulomb"]["energy_kJ_per_mol"], rel=1e-3
    )


@pytest.mark.parametrize("name", ["amber_solvated", "tip4p_ew"])
def test_on_the_mesh(name: str) -> None:
    """All forces of the compiled kernels with the mesh; at a looser tolerance the error is seen."""
    mesh: dict[str, Any] = {"electrostatics": "pme", "mesh_order": 8}

    def error(tolerance: float) -> float:
        if name == "amber_solvated":
            plain, atoms, found = read(name)
            potential: Any = MolecularMechanics(**plain.arguments | mesh | {"ewald_tolerance": tolerance})
        else:
            plain, atoms, found = rigid_water(name)
            potential = RigidWater(**plain.arguments | mesh | {"ewald_tolerance": tolerance})
        real = [s != "X" for s in found["symbols"]]
        terms = [np.array(t["forces_kJ_per_mol_A"])[real] for t in found["terms"].values()]
        forces = PotentialCalculator(potential)(System.from_ase(atoms)).need("forces").numpy() / KJ
        largest = max(np.abs(t).max() for t in terms)
        return float(np.abs(forces - sum(terms)).max() / largest)

    assert error(1e-9) < 1e-7 < 1e-6 < error(1e-4)


def test_mistakes_are_noticed() -> None:
    """Planted errors, each of which one of the terms above shows."""

    def off(name: str, kind: str, **changes: Any) -> float:
        potential, atoms, found = read(name, **changes)
        expected = found["terms"][kind]["energy_kJ_per_mol"]
        return abs(of_openmm(kj_terms(potential, atoms), kind) / expected - 1.0)

    plain = read("amber_dipeptide")[0].arguments
    halved = plain["bonds"] | {
        "force_constant_eV_per_A2": [k / 2 for k in plain["bonds"]["force_constant_eV_per_A2"]]
    }
    assert off("amber_dipeptide", "bonds", bonds=halved) > 0.4
    q, pairs = plain["charges_e"], plain["special_pairs"]
    unscaled = pairs | {"charge_product_e2": [q[i] * q[j] for i, j in pairs["atoms"]]}
    assert off("amber_dipeptide", "coulomb", special_pairs=unscaled) > 0.1
    assert (
        off(
            "amber_dipeptide",
            "lennard_jones",
            special_pairs=pairs | {"epsilon_eV": [2 * e for e in pairs["epsilon_eV"]]},
        )
        > 0.1
    )
    assert off("amber_dipeptide", "lennard_jones", mixing="geometric") > 1e-5
    assert off("amber_dipeptide_periodic", "coulomb", exclusions=[]) > 0.1
    maps = read("charmm_penta_alanine")[0].arguments["cmaps"]
    turned = maps | {"grids_eV": np.swapaxes(maps["grids_eV"], 1, 2).tolist()}
    assert off("charmm_penta_alanine", "cmaps", cmaps=turned) > 1e-3
    series = read("gromacs_ethanol")[0].arguments["ryckaert_bellemans"]
    other = series | {"c1_eV": [-c for c in series["c1_eV"]]}
    assert off("gromacs_ethanol", "ryckaert_bellemans", ryckaert_bellemans=other) > 0.1
