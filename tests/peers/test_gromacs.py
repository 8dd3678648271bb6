"""A GROMOS topology gives the energies, term by term, and forces of GROMACS (gromacs/reference)."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("parmed", reason="ParmEd is not installed: pip install rikiba[topology]")

from ase import Atoms

from rikiba.calculators.autograd import PotentialCalculator
from rikiba.core import units
from rikiba.core.pairs import find_pairs
from rikiba.core.system import System
from rikiba.interop.topology_files import TopologyFileError, read_topology
from rikiba.potentials.molecular_mechanics import MolecularMechanics

FOLDER = Path(__file__).parent / "gromacs"
TOP = FOLDER / "propanoic_acid.top"
KILOJOULE = units.kilocalorie_per_mole / 4.184
TERMS = {
    "quartic_bonds": "G96Bond",
    "cosine_angles": "G96Angle",
    "torsions": "Proper Dih.",
    "impropers": "Improper Dih.",
    "lennard_jones": "LJ (SR)",
    "lennard_jones_special": "LJ-14",
    "coulomb": "Coulomb (SR)",
    "coulomb_special": "Coulomb-14",
}


def read(path: Path = TOP) -> tuple[MolecularMechanics, System, dict[str, Any]]:
    found = json.loads((FOLDER / "reference" / "propanoic_acid.json").read_text())
    potential = MolecularMechanics(**read_topology(path).arguments)
    return potential, System.from_ase(Atoms("CCCOOH" * 2, found["positions_A"])), found


def test_terms_and_forces() -> None:
    """To the digits of GROMACS' positions, 1e-9 Å of bonds of some thousand eV/Å⁴."""
    potential, system, found = read()
    ours = potential.energy_terms(system, find_pairs(system, potential.cutoff))
    assert set(ours) == set(TERMS)
    for name, theirs in TERMS.items():
        expected = found["energies_kJ_per_mol"][theirs]
        assert float(ours[name].sum()) / KILOJOULE == pytest.approx(expected, rel=1e-8, abs=1e-8), name
    forces = PotentialCalculator(potential)(system).need("forces").numpy() / KILOJOULE
    expected = np.array(found["forces_kJ_per_mol_A"])
    assert np.abs(forces - expected).max() < 1e-6 * np.abs(expected).max()


@pytest.mark.parametrize(
    ("old", "new", "term"),
    [
        ("1.0200e+07", "1.0300e+07", "quartic_bonds"),
        ("115.00  610.00", "114.00  610.00", "cosine_angles"),
        ("CH3  O    1  4.663258E-03", "CH3  O    1  4.763258E-03", "lennard_jones"),
        ("CH3  O    1  3.937017E-03", "CH3  O    1  3.837017E-03", "lennard_jones_special"),
        ("  1       1          no", "  1       3          no", "lennard_jones"),
    ],
)
def test_a_number_that_is_read_otherwise_shows(tmp_path: Path, old: str, new: str, term: str) -> None:
    """Negative control, of σ and ε in place of C6 and C12 too."""
    text = TOP.read_text()
    assert text.count(old) == 1
    changed = tmp_path / "changed.top"
    changed.write_text(text.replace(old, new))
    terms = []
    for path in (TOP, changed):
        potential, system, _ = read(path)
        found = potential.energy_terms(system, find_pairs(system, potential.cutoff))
        terms.append(float(found[term].sum()))
    assert abs(terms[1] - terms[0]) > 1e-6


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("no         1.0 ", "yes        0.5 ", "fudgeLJ"),
        ("0.0074684164   3.3965584e-05", "0              3.3965584e-05", "no σ and ε"),
        ("  3  4  2  0.1230  1.6600e+07", "  3  4  6  0.1230  1.6600e+07", "bond parameters|function type"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*unknown functional")
def test_what_cannot_be_had_is_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    text = TOP.read_text()
    assert text.count(old) == 1
    changed = tmp_path / "changed.top"
    changed.write_text(text.replace(old, new))
    with pytest.raises(TopologyFileError, match=message):
        read_topology(changed)
