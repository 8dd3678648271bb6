"""Topology files of small systems: a solvated AMBER peptide and a CHARMM one.

Run with the interpreter of an environment that has OpenMM and ParmEd::

    .venvs/openmm/bin/python tests/peers/openmm/make_files.py [solvated_peptide] [charmm_peptide]
"""

import io
import random
import sys
from itertools import product
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

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


TYPES_OF_ATOMS = """<ForceField><Script>
for atom in topology.atoms():
    atom.charmm_type = data.atomType[atom]
</Script></ForceField>"""
"""Notes on each atom of a topology what type the force field takes it for."""

KCAL = unit.kilocalorie_per_mole
BACKBONE = {"N-CA": 1.46, "CA-C": 1.52, "C-N": 1.33, "C-O": 1.23, "CA-CB": 1.53}
"""Å."""
TURNS = [(-70.0, 140.0), (-80.0, -40.0), (-120.0, 120.0), (-65.0, -45.0), (-75.0, 150.0)]
"""(φ, ψ) of each residue, degrees: helix and strand in turn, so that no two correction maps agree."""


def charmm_peptide() -> None:
    """Penta-alanine with charged ends in CHARMM36: PSF, parameters, and places where no angle is at rest.

    Parameters are those of OpenMM's charmm36.xml (toppar_c36_aug15), in CHARMM's units again.
    """
    field = app.ForceField("charmm36.xml", io.StringIO(TYPES_OF_ATOMS))
    modeller = app.Modeller(*heavy_atoms())
    random.seed(0)  # OpenMM places hydrogens at random before it relaxes them
    modeller.addHydrogens(field, platform=mm.Platform.getPlatformByName("Reference"))
    options = {"nonbondedMethod": app.NoCutoff, "rigidWater": False, "constraints": None}
    system = field.createSystem(modeller.topology, **options)
    structure = described(modeller.topology, system, lennard_jones(field))
    places = modeller.positions.value_in_unit(unit.angstrom)
    structure.coordinates = np.random.default_rng(0).normal(places, 0.05)
    parameters = FILES / "penta_alanine.prm"
    CharmmParameterSet.from_structure(structure).write(par=str(parameters))
    text = with_urey_bradley(parameters.read_text(encoding="utf-8"), structure)
    parameters.write_text(text, encoding="utf-8")
    structure.save(str(FILES / "penta_alanine.psf"), overwrite=True)
    structure.save(str(FILES / "penta_alanine.crd"), overwrite=True, format="charmmcrd")
    same_energy(system, structure.coordinates)


def heavy_atoms() -> tuple[app.Topology, unit.Quantity]:
    """Backbone and β carbons of the peptide from its internal coordinates."""
    topology = app.Topology()
    chain, places, last = topology.addChain(), [], []
    for k, (phi, _) in enumerate(TURNS):
        residue = topology.addResidue("ALA", chain)
        before = TURNS[k - 1][1]
        if k == 0:
            n, ca = np.zeros(3), np.array([BACKBONE["N-CA"], 0.0, 0.0])
            c = ca + BACKBONE["CA-C"] * np.array([np.cos(np.radians(69)), np.sin(np.radians(69)), 0.0])
        else:
            n = placed(*last, BACKBONE["C-N"], 117.0, before)
            ca = placed(last[1], last[2], n, BACKBONE["N-CA"], 122.0, 180.0)
            c = placed(last[2], n, ca, BACKBONE["CA-C"], 111.0, phi)
        psi = TURNS[k][1]
        atoms = {"N": n, "CA": ca, "C": c, "O": placed(n, ca, c, BACKBONE["C-O"], 121.0, psi + 180.0)}
        atoms["CB"] = placed(c, n, ca, BACKBONE["CA-CB"], 110.0, -122.0)
        if k == len(TURNS) - 1:
            atoms["OXT"] = placed(n, ca, c, BACKBONE["C-O"], 118.0, psi)
        for name, place in atoms.items():
            topology.addAtom(name, app.Element.getBySymbol(name[0]), residue)
            places.append(place)
        last = [n, ca, c]
    topology.createStandardBonds()
    return topology, np.array(places) * unit.angstrom


def placed(
    a: np.ndarray, b: np.ndarray, c: np.ndarray, length: float, angle: float, torsion: float
) -> np.ndarray:
    """The place d with |cd|, the angle bcd and the torsion abcd given; degrees."""
    along = (c - b) / np.linalg.norm(c - b)
    normal = np.cross(b - a, along)
    normal /= np.linalg.norm(normal)
    theta, phi = np.radians(angle), np.radians(torsion)
    turned = np.cos(phi) * np.cross(normal, along) + np.sin(phi) * normal
    return c + length * (-np.cos(theta) * along + np.sin(theta) * turned)


def lennard_jones(field: app.ForceField) -> dict[str, tuple[float, ...]]:
    """(ε, r_min/2) and the same between fourth neighbours of each type, kcal/mol and Å."""
    (file,) = (p for p in Path(app.__file__).parent.glob("data/charmm36.xml"))
    found = {}
    for atom in ElementTree.parse(file).getroot().findall("LennardJonesForce/Atom"):
        of = lambda name, default=None, atom=atom: float(atom.get(name, default))  # noqa: E731
        plain = (of("sigma"), of("epsilon"))
        fourth = (of("sigma14", plain[0]), of("epsilon14", plain[1]))
        pairs = [(round(e / 4.184, 6), round(5.0 * s * 2 ** (1 / 6), 6)) for s, e in (plain, fourth)]
        found[atom.get("type")] = (*pairs[0], *pairs[1])
    return found


def described(
    topology: app.Topology, system: mm.System, radii: dict[str, tuple[float, ...]]
) -> parmed.Structure:
    """The topology with the terms of a system of CHARMM's force field and the names of types."""
    structure = parmed.openmm.load_topology(topology, xyz=np.zeros((topology.getNumAtoms(), 3)))
    forces = system.getForces()
    charges = next(f for f in forces if isinstance(f, mm.NonbondedForce))
    types: dict[str, parmed.AtomType] = {}
    for k, (atom, named) in enumerate(zip(structure.atoms, topology.atoms(), strict=True)):
        atom.type = named.charmm_type
        atom.charge = round(charges.getParticleParameters(k)[0].value_in_unit(unit.elementary_charge), 6)
        atom.mass = round(system.getParticleMass(k).value_in_unit(unit.dalton), 6)
        if atom.type not in types:
            types[atom.type] = parmed.AtomType(atom.type, len(types) + 1, atom.mass, atom.atomic_number)
            types[atom.type].set_lj_params(*radii[atom.type])
        atom.atom_type = types[atom.type]
    for force in forces:
        if type(force) in TERMS:
            TERMS[type(force)](structure, force)
    return structure


def kind_of(kinds: parmed.TrackedList, made: Any) -> Any:
    """The same kind of term that is there already, or a new one."""
    for kind in kinds:
        if kind == made:
            return kind
    kinds.append(made)
    made.list = kinds
    return made


def bonds(structure: parmed.Structure, force: mm.HarmonicBondForce) -> None:
    """Springs between bonded atoms; those between others are Urey–Bradley terms."""
    known = {frozenset((b.atom1.idx, b.atom2.idx)): b for b in structure.bonds}
    for k in range(force.getNumBonds()):
        i, j, length, stiffness = force.getBondParameters(k)
        half = round(0.5 * stiffness.value_in_unit(KCAL / unit.angstrom**2), 6)
        made = parmed.BondType(half, round(length.value_in_unit(unit.angstrom), 6))
        if frozenset((i, j)) in known:
            known[frozenset((i, j))].type = kind_of(structure.bond_types, made)
        else:
            kind = kind_of(structure.urey_bradley_types, made)
            structure.urey_bradleys.append(parmed.UreyBradley(structure.atoms[i], structure.atoms[j], kind))


def angles(structure: parmed.Structure, force: mm.HarmonicAngleForce) -> None:
    for n in range(force.getNumAngles()):
        *who, angle, stiffness = force.getAngleParameters(n)
        half = round(0.5 * stiffness.value_in_unit(KCAL / unit.radian**2), 6)
        made = parmed.AngleType(half, round(angle.value_in_unit(unit.degree), 6))
        kind = kind_of(structure.angle_types, made)
        structure.angles.append(parmed.Angle(*(structure.atoms[i] for i in who), kind))


def torsions(structure: parmed.Structure, force: mm.PeriodicTorsionForce) -> None:
    """The terms of a series become one dihedral; those of no height, which OpenMM leaves out, are listed.

    Readers take the fourth neighbours from the list.
    """
    series: dict[tuple[int, ...], parmed.DihedralTypeList] = {}
    for n in range(force.getNumTorsions()):
        *who, period, phase, height = force.getTorsionParameters(n)
        height, phase = round(height.value_in_unit(KCAL), 6), round(phase.value_in_unit(unit.degree), 6)
        made = parmed.DihedralType(height, period, phase, 1.0, 1.0)
        series.setdefault(tuple(who), parmed.DihedralTypeList()).append(made)
    for bond in structure.bonds:
        b, c = bond.atom1, bond.atom2
        for a, d in product(b.bond_partners, c.bond_partners):
            who = (a.idx, b.idx, c.idx, d.idx)
            if len(set(who)) == 4 and who not in series and who[::-1] not in series:
                series[who] = parmed.DihedralTypeList([parmed.DihedralType(0.0, 1, 0.0, 1.0, 1.0)])
    for who, terms in series.items():
        kind = kind_of(structure.dihedral_types, terms)
        structure.dihedrals.append(parmed.Dihedral(*(structure.atoms[i] for i in who), type=kind))


def impropers(structure: parmed.Structure, force: mm.CustomTorsionForce) -> None:
    for n in range(force.getNumTorsions()):
        *who, (stiffness, angle) = force.getTorsionParameters(n)
        kind = kind_of(
            structure.improper_types,
            parmed.ImproperType(round(stiffness / 4.184, 6), round(np.degrees(angle), 6)),
        )
        structure.impropers.append(parmed.Improper(*(structure.atoms[i] for i in who), kind))


def correction_maps(structure: parmed.Structure, force: mm.CMAPTorsionForce) -> None:
    """OpenMM's maps begin at 0°, CHARMM's at −180°; φ runs fastest in OpenMM's, ψ in CHARMM's."""
    for n in range(force.getNumTorsions()):
        which, *who = force.getTorsionParameters(n)
        size, energy = force.getMapParameters(which)
        grid = np.array([e.value_in_unit(KCAL) for e in energy]).reshape(size, size).T
        grid = np.roll(grid, (size // 2, size // 2), (0, 1))
        made = parmed.CmapType(size, [round(float(e), 6) for e in grid.ravel()])
        five = [structure.atoms[i] for i in (*who[:4], who[7])]
        structure.cmaps.append(parmed.Cmap(*five, kind_of(structure.cmap_types, made)))


def with_urey_bradley(text: str, structure: parmed.Structure) -> str:
    """A CHARMM parameter file with the terms between the ends of angles, which ParmEd does not write."""
    springs = {frozenset((u.atom1, u.atom2)): u.type for u in structure.urey_bradleys}
    of_types = {}
    for angle in structure.angles:
        kind = springs.get(frozenset((angle.atom1, angle.atom3)))
        names = (angle.atom1.type, angle.atom2.type, angle.atom3.type)
        of_types[names] = of_types[names[::-1]] = kind
    head, section, rest = text.partition("\nANGLES\n")
    angle_lines, following, rest = rest.partition("\n\n")
    lines = []
    for line in angle_lines.split("\n"):
        kind = of_types[tuple(line.split()[:3])]
        lines.append(line if kind is None else f"{line} {kind.k:8.3f} {kind.req:10.5f}")
    return head + section + "\n".join(lines) + following + rest


TERMS = {
    mm.HarmonicBondForce: bonds,
    mm.HarmonicAngleForce: angles,
    mm.PeriodicTorsionForce: torsions,
    mm.CustomTorsionForce: impropers,
    mm.CMAPTorsionForce: correction_maps,
}


def same_energy(system: mm.System, places: np.ndarray) -> None:
    """The files, read by OpenMM's readers of CHARMM files, give the energy of the system they came from."""
    psf = app.CharmmPsfFile(str(FILES / "penta_alanine.psf"))
    parameters = app.CharmmParameterSet(str(FILES / "penta_alanine.prm"))
    again = psf.createSystem(parameters, nonbondedMethod=app.NoCutoff, constraints=None, rigidWater=False)
    energies = []
    for one in (system, again):
        context = mm.Context(one, mm.VerletIntegrator(0.001), mm.Platform.getPlatformByName("Reference"))
        context.setPositions(places * unit.angstrom)
        energies.append(context.getState(getEnergy=True).getPotentialEnergy().value_in_unit(KCAL))
    print("penta_alanine:", *energies, "kcal/mol")
    if abs(energies[1] - energies[0]) > 1e-4:
        raise ValueError(f"The files of the peptide give {energies[1]} kcal/mol, the system {energies[0]}.")


if __name__ == "__main__":
    makers = {"solvated_peptide": solvated_peptide, "charmm_peptide": charmm_peptide}
    for name in sys.argv[1:] or makers:
        makers[name]()
