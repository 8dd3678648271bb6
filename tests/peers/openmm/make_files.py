"""Topology files of small systems: a solvated AMBER peptide and a CHARMM one.

Run with the interpreter of an environment that has OpenMM and ParmEd::

    .venvs/openmm/bin/python tests/peers/openmm/make_files.py PARMED

PARMED is the unpacked source distribution of ParmEd 4.3.1 (`pip download --no-binary :all: parmed==4.3.1`),
whose example peptide `ala5_autopsf` and CHARMM36 parameters are reduced to what the peptide needs.
"""

import sys
from pathlib import Path

import numpy as np
import openmm as mm
import parmed
from openmm import app, unit
from parmed.charmm import CharmmParameterSet

FILES = Path(__file__).parent / "files"


def solvated_peptide() -> None:
    """Alanine dipeptide (ff14SB) with a shell of TIP3P water, in a box of 20 Å."""
    prmtop = app.AmberPrmtopFile(str(FILES / "alanine_dipeptide.prmtop"))
    places = app.AmberInpcrdFile(str(FILES / "alanine_dipeptide.crd")).positions
    field = app.ForceField("amber14/protein.ff14SB.xml", "amber14/tip3p.xml")
    modeller = app.Modeller(prmtop.topology, places)
    modeller.addSolvent(field, model="tip3p", numAdded=40)
    save(field, modeller, "solvated_dipeptide", 20.0)


def save(field: app.ForceField, modeller: app.Modeller, name: str, edge: float) -> None:
    """Relax, so that nothing overlaps, and write prmtop and rst7."""
    modeller.topology.setPeriodicBoxVectors(np.eye(3) * edge * unit.angstrom)
    options = {"nonbondedMethod": app.CutoffPeriodic, "nonbondedCutoff": 0.45 * edge * unit.angstrom}
    system = field.createSystem(modeller.topology, **options, rigidWater=False, constraints=None)
    integrator = mm.LangevinIntegrator(300 * unit.kelvin, 50 / unit.picosecond, 0.25 * unit.femtosecond)
    integrator.setRandomNumberSeed(1)
    context = mm.Context(system, integrator, mm.Platform.getPlatformByName("Reference"))
    context.setPositions(modeller.positions)
    mm.LocalEnergyMinimizer.minimize(context, maxIterations=200)
    context.setVelocitiesToTemperature(300 * unit.kelvin, 1)
    integrator.step(200)
    places = context.getState(getPositions=True).getPositions()
    structure = parmed.openmm.load_topology(modeller.topology, system, places)
    structure.box = [edge, edge, edge, 90.0, 90.0, 90.0]
    for ending in ("prmtop", "rst7"):
        structure.save(str(FILES / f"{name}.{ending}"), overwrite=True)


def charmm_peptide(examples: Path) -> None:
    """Penta-alanine: PSF, the parameters that it needs, and coordinates of which no angle is at rest."""
    psf = parmed.load_file(str(examples / "ala5_autopsf.psf"))
    psf.load_parameters(CharmmParameterSet(str(examples / "toppar" / "par_all36_prot.prm")))
    psf.coordinates = parmed.load_file(str(examples / "ala5_autopsf.pdb")).coordinates
    psf.coordinates = psf.coordinates + np.random.default_rng(0).normal(0.0, 0.05, psf.coordinates.shape)
    text = excerpt(examples / "toppar" / "par_all36_prot.prm", {str(a.type) for a in psf.atoms})
    (FILES / "ala5.prm").write_text(text, encoding="utf-8")
    psf.save(str(FILES / "ala5.psf"), overwrite=True)
    psf.save(str(FILES / "ala5.crd"), overwrite=True, format="charmmcrd")


SECTIONS = {"ATOMS": (2, 1), "BONDS": (0, 2), "ANGLES": (0, 3), "DIHEDRALS": (0, 4), "IMPROPER": (0, 4)}
"""Where a line of a section names types, and how many."""


def excerpt(path: Path, types: set[str]) -> str:
    """The lines of a CHARMM parameter file that name no other types, without comments."""
    section, keep, out = "", True, ["* Excerpt of CHARMM36 (par_all36_prot.prm)", "*", ""]
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        words = line.split("!")[0].split()
        if not words or words[0].startswith("*"):
            continue
        if words[0] in (*SECTIONS, "CMAP", "NONBONDED", "NBFIX", "HBOND", "END"):
            section, keep = words[0], True
        elif section in SECTIONS:
            first, n = SECTIONS[section]
            keep = set(words[first : first + n]) <= types | {"X"}
        elif section == "CMAP" and not _number(words[0]):
            keep = set(words[:8]) <= types
        elif section == "NONBONDED" and words[0] != "cutnb":
            keep = words[0] in types
        elif section in ("NBFIX", "HBOND"):
            keep = set(words[:2]) <= types
        if keep and section != "HBOND":
            out.append(" ".join(line.split("!")[0].rstrip().split()))
    return "\n".join(out) + "\n"


def _number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


if __name__ == "__main__":
    solvated_peptide()
    charmm_peptide(Path(sys.argv[1]) / "examples" / "charmm")
