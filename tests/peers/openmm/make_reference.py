"""Energies and forces of real topology files term by term from OpenMM, read by OpenMM's own readers.

Run with the interpreter of an environment that has OpenMM::

    .venvs/openmm/bin/python tests/peers/openmm/make_reference.py

One JSON file per case is written to ``reference/``. README.md beside this file says what is in them.
"""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import openmm as mm
from openmm import app, unit

FILES = Path(__file__).parent / "files"
FOLDER = Path(__file__).parent / "reference"
COMMAND = ".venvs/openmm/bin/python tests/peers/openmm/make_reference.py"
TOLERANCE = 1e-9
"""Of the Ewald sums."""
BOX = np.diag([19.0, 20.0, 21.0])
"""Å; OpenMM's Ewald sum is for rectangular boxes."""
Built = tuple[app.Topology, mm.System, Any]

NAMES = {
    "HarmonicBondForce": "bonds",
    "HarmonicAngleForce": "angles",
    "PeriodicTorsionForce": "torsions",
    "RBTorsionForce": "ryckaert_bellemans",
    "CMAPTorsionForce": "cmaps",
    "CustomTorsionForce": "impropers",
}


def amber(name: str, coordinates: str) -> Built:
    prmtop = app.AmberPrmtopFile(str(FILES / f"{name}.prmtop"))
    inpcrd = app.AmberInpcrdFile(str(FILES / coordinates))
    system = prmtop.createSystem(nonbondedMethod=app.NoCutoff, constraints=None, rigidWater=False)
    if inpcrd.boxVectors is not None:
        system.setDefaultPeriodicBoxVectors(*inpcrd.boxVectors)
    return prmtop.topology, system, inpcrd.positions


def charmm(name: str) -> Built:
    psf = app.CharmmPsfFile(str(FILES / f"{name}.psf"))
    parameters = app.CharmmParameterSet(str(FILES / f"{name}.prm"))
    system = psf.createSystem(parameters, nonbondedMethod=app.NoCutoff, constraints=None, rigidWater=False)
    return psf.topology, system, app.CharmmCrdFile(str(FILES / f"{name}.crd")).positions


def gromacs(name: str) -> Built:
    gro = app.GromacsGroFile(str(FILES / f"{name}.gro"))
    top = app.GromacsTopFile(str(FILES / f"{name}.top"))
    system = top.createSystem(nonbondedMethod=app.NoCutoff, constraints=None, rigidWater=False)
    return top.topology, system, gro.positions


def water(model: str) -> Built:
    """Eight molecules of a water model among OpenMM's force fields, in a box of 12 Å; H–H where rigid."""
    field = app.ForceField(f"{model}.xml")
    modeller = app.Modeller(app.Topology(), [] * unit.nanometer)
    modeller.addSolvent(field, model="tip4pew" if "4" in model else "tip3p", numAdded=8)
    modeller.topology.setPeriodicBoxVectors(1.2 * np.eye(3) * unit.nanometer)
    options = {"nonbondedMethod": app.CutoffPeriodic, "nonbondedCutoff": 0.55 * unit.nanometer}
    system = field.createSystem(modeller.topology, **options, rigidWater=True)
    integrator = mm.VerletIntegrator(0.0001)
    context = mm.Context(system, integrator, mm.Platform.getPlatformByName("Reference"))
    context.setPositions(modeller.positions)
    context.applyConstraints(1e-12)
    return modeller.topology, system, context.getState(getPositions=True).getPositions()


def named_terms(forces: list[mm.Force], ewald: float | None) -> dict[str, list[mm.Force]]:
    """Forces by the name of their term; what has none is not bonded."""
    found: dict[str, list[mm.Force]] = {}
    harmonic = 0
    for force in forces:
        kind = type(force).__name__
        if kind == "CMMotionRemover":
            continue
        name = NAMES.get(kind, "non_bonded")
        if kind == "HarmonicBondForce":
            # CHARMM: the second one holds the Urey–Bradley terms
            name, harmonic = ("bonds", "urey_bradley")[harmonic], harmonic + 1
        if isinstance(force, mm.NonbondedForce) and ewald is not None:
            force.setNonbondedMethod(mm.NonbondedForce.Ewald)
            force.setCutoffDistance(0.1 * ewald)
            force.setEwaldErrorTolerance(TOLERANCE)
            force.setUseDispersionCorrection(False)
            force.setUseSwitchingFunction(True)
            force.setSwitchingDistance(0.08 * ewald)
        found.setdefault(name, []).append(force)
    return found


def evaluated(system: mm.System, positions: Any, group: int) -> dict[str, Any]:
    """Energy in kJ/mol and forces in kJ/mol/Å of one group, with virtual sites' forces on their atoms."""
    context = mm.Context(system, mm.VerletIntegrator(0.001), mm.Platform.getPlatformByName("Reference"))
    context.setPositions(positions)
    context.computeVirtualSites()
    state = context.getState(getEnergy=True, getForces=True, groups={group})
    forces = state.getForces(asNumpy=True).value_in_unit(unit.kilojoule_per_mole / unit.angstrom)
    return {
        "energy_kJ_per_mol": state.getPotentialEnergy().value_in_unit(unit.kilojoule_per_mole),
        "forces_kJ_per_mol_A": forces.tolist(),
    }


def without(force: mm.Force, *, charges: bool) -> None:
    """Take the charges, or the Lennard-Jones terms, out of a NonbondedForce, 1–4 pairs included."""
    for k in range(force.getNumParticles()):
        q, sigma, epsilon = force.getParticleParameters(k)
        force.setParticleParameters(k, 0.0 if charges else q, sigma, epsilon if charges else 0.0)
    for k in range(force.getNumExceptions()):
        i, j, q, sigma, epsilon = force.getExceptionParameters(k)
        force.setExceptionParameters(k, i, j, 0.0 if charges else q, sigma, epsilon if charges else 0.0)


def case(name: str, build: Callable[[], Built], ewald: float | None = None, cell: Any = None) -> None:
    """Write one case: every bonded term, and Lennard-Jones and Coulomb apart."""
    terms: dict[str, Any] = {}
    kinds = [*named_terms(build()[1].getForces(), ewald)]
    kinds = [k for k in kinds if k != "non_bonded"] + ["lennard_jones", "coulomb"]
    topology, system, positions = build()
    for kind in kinds:
        _, system, _ = build()
        if cell is not None:
            system.setDefaultPeriodicBoxVectors(*(0.1 * np.asarray(cell)))
        forces = system.getForces()
        found = named_terms(forces, ewald)
        chosen = found.get(kind, found["non_bonded"])
        for force in forces:
            force.setForceGroup(int(any(force is c for c in chosen)))
        for force in chosen:
            if isinstance(force, mm.NonbondedForce):
                without(force, charges=kind == "lennard_jones")
            elif kind == "coulomb":
                force.setForceGroup(0)  # a custom force of Lennard-Jones terms
        terms[kind] = evaluated(system, positions, 1)
    context = mm.Context(system, mm.VerletIntegrator(0.001), mm.Platform.getPlatformByName("Reference"))
    context.setPositions(positions)
    context.computeVirtualSites()
    places = context.getState(getPositions=True).getPositions(asNumpy=True).value_in_unit(unit.angstrom)
    box = None
    if ewald is not None:
        box = [
            [10.0 * x for x in v.value_in_unit(unit.nanometer)] for v in system.getDefaultPeriodicBoxVectors()
        ]
    about = {"OpenMM": mm.version.version, "command": COMMAND, "platform": "Reference (float64)"}
    elements = [a.element.symbol if a.element is not None else "X" for a in topology.atoms()]
    record = {
        "about": about,
        "ewald_cutoff_A": ewald,
        "cell_A": box,
        "symbols": elements,
        "positions_A": places.tolist(),
        "terms": terms,
    }
    FOLDER.mkdir(exist_ok=True)
    text = json.dumps(_rounded(record))
    (FOLDER / f"{name}.json").write_text(text + "\n", encoding="utf-8")
    print(name, {k: t["energy_kJ_per_mol"] for k, t in terms.items()})


def _rounded(value: Any) -> Any:
    """Twelve significant digits."""
    if isinstance(value, float):
        return float(f"{value:.13g}")
    if isinstance(value, dict):
        return {k: _rounded(v) for k, v in value.items()}
    return [_rounded(v) for v in value] if isinstance(value, list) else value


if __name__ == "__main__":
    dipeptide = ("alanine_dipeptide", "alanine_dipeptide.crd")
    case("amber_dipeptide", lambda: amber(*dipeptide))
    case("amber_dipeptide_periodic", lambda: amber(*dipeptide), ewald=8.0, cell=BOX)
    case("amber_solvated", lambda: amber("solvated_dipeptide", "solvated_dipeptide.rst7"), ewald=8.0)
    for model in ("spce", "tip3p", "tip4pew"):
        placed = water(model)
        case(f"water_{model}", lambda placed=placed: copy.deepcopy(placed), ewald=5.5)
    case("charmm_penta_alanine", lambda: charmm("penta_alanine"))
    case("gromacs_ethanol", lambda: gromacs("ethanol_opls"))
