"""Read topologies of AMBER (prmtop), CHARMM (PSF with PRM/RTF/STR) and GROMACS (top), through ParmEd.

ParmEd (Shirts et al., doi:10.1007/s10822-016-9977-1) reads the files and finds the parameters; here they
become the arguments of `potentials.molecular_mechanics.MolecularMechanics`.
"""

import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from rikiba.core import elements as periodic_table
from rikiba.core import units
from rikiba.potentials.topology import bonded_pairs

from .foreign_file import ForeignFile
from .gromacs_topology import (
    LennardJones,
    is_gromacs,
    is_gromos,
    lennard_jones_of,
    quartic_constant,
    read_gromacs,
)
from .mace_torch import Weights

_KCAL = units.kilocalorie_per_mole
_RMIN = 2.0 ** (-1.0 / 6.0)
"""σ of a depth's distance."""
_UNKNOWN = (
    "trigonal_angles",
    "out_of_plane_bends",
    "pi_torsions",
    "stretch_bends",
    "torsion_torsions",
    "multipole_frames",
)
"""Terms of ParmEd's structures that have no form here."""
Rigid = Literal["none", "water", "hydrogens"]


class TopologyFileError(ValueError):
    """A topology file that is damaged, lacks parameters, or asks for terms that there are not."""


def recognises(file: ForeignFile) -> bool:
    """True for a file named `.prmtop`, `.parm7`, `.psf` or `.top`."""
    return file.named(".prmtop", ".parm7", ".psf", ".top")


def read_file(
    *,
    path: Path,
    parameters: Sequence[Path] = (),
    rigid: Rigid = "none",
    cutoff: float | None = None,
    electrostatics: Literal["all_pairs", "reaction_field", "ewald", "pme"] = "all_pairs",
    tail_correction: bool = False,
) -> Weights:
    """Arguments of `MolecularMechanics` from a topology file.

    Args:
        path: prmtop, PSF or GROMACS top.
        parameters: files of a PSF's parameters: PRM, RTF, STR.
        rigid: distances to name rigid: none, those of water, or those of all bonds with hydrogen and water.
        cutoff: of pairs, Å; none: every pair.
        electrostatics: all_pairs, reaction_field, ewald or pme.
        tail_correction: of Lennard-Jones beyond the cutoff.

    Raises FileNotFoundError, ImportError without ParmEd, and TopologyFileError.
    """
    settings: dict[str, Any] = {"electrostatics": electrostatics, "tail_correction": tail_correction}
    settings |= {} if cutoff is None else {"cutoff": cutoff}
    return read_topology(path, parameters=parameters, rigid=rigid, **settings)


def read_topology(
    path: str | Path, *, parameters: Sequence[str | Path] = (), rigid: Rigid = "none", **settings: Any
) -> Weights:
    """Arguments of `MolecularMechanics` from a topology file and how to sum what is not bonded.

    Args:
        path: prmtop, PSF or GROMACS top; a top includes what it says, relative to itself.
        parameters: files of a PSF's parameters: PRM, RTF, STR.
        rigid: distances to name rigid: none, those of water, or those of all bonds with hydrogen and water.
        settings: cutoff, electrostatics and further arguments of `MolecularMechanics`.

    Raises as `read_file`.
    """
    structure = load_structure(path, parameters)
    return Weights("MolecularMechanics", arguments_of(structure, rigid=rigid) | settings, {})


def read_coordinates(path: str | Path, topology: str | Path, parameters: Sequence[str | Path] = ()) -> Any:
    """`ase.Atoms` of a coordinate file (inpcrd, rst7, crd, gro, pdb) in the order of a topology's atoms.

    Places of virtual sites are left out; the cell is the coordinate file's, or the topology's. Masses are the
    topology's: those of united atoms are not their element's.
    Raises as `read_file`, and TopologyFileError where numbers of atoms differ.
    """
    from ase import Atoms

    structure = load_structure(topology, parameters)
    found = _loaded(path)
    places = getattr(found, "coordinates", found)
    places = places.reshape(-1, len(structure.atoms), 3)[0] if places.size else places
    box = getattr(found, "box", None)
    box = structure.box if box is None else box
    kept = [k for k, a in enumerate(structure.atoms) if a.atomic_number > 0]
    symbols = [periodic_table.symbol(structure.atoms[k].atomic_number) for k in kept]
    cell = None if box is None else [float(x) for x in list(box)[:6]]
    masses = [float(structure.atoms[k].mass) for k in kept]
    return Atoms(symbols, places[kept], masses=masses, cell=cell, pbc=box is not None)


def load_structure(path: str | Path, parameters: Sequence[str | Path] = ()) -> Any:
    """ParmEd's structure, with parameters; raises as `read_file`."""
    parmed = _parmed()
    for file in (path, *parameters):
        if not Path(file).is_file():
            raise FileNotFoundError(f"There is no file {file}.")
    structure = _loaded(path)
    if not hasattr(structure, "atoms") or not hasattr(structure, "bonds"):
        raise TopologyFileError(f"{path} holds no topology: ParmEd reads a {type(structure).__name__}.")
    if hasattr(structure, "load_parameters"):
        if not parameters:
            raise TopologyFileError(f"{path} is a PSF; its parameters (PRM, RTF, STR) must be given too.")
        from parmed.charmm import CharmmParameterSet

        try:
            structure.load_parameters(CharmmParameterSet(*(str(p) for p in parameters)))
        except parmed.exceptions.ParmedError as error:
            raise TopologyFileError(f"{path}: {error}") from error
    return structure


def _parmed() -> Any:
    try:
        import parmed
    except ImportError as error:
        raise ImportError(
            "Reading topologies needs the package parmed: pip install rikiba[topology]"
        ) from error
    return parmed


def _loaded(path: str | Path) -> Any:
    """What ParmEd reads; each of its warnings once, and an error where exclusions would be other ones."""
    parmed = _parmed()
    try:
        with warnings.catch_warnings(record=True) as heard:
            found = read_gromacs(path) if is_gromacs(path) else parmed.load_file(str(path))
    except (parmed.exceptions.ParmedError, ValueError, KeyError, IndexError, TypeError) as error:
        raise TopologyFileError(f"{path} cannot be read: {type(error).__name__}: {error}") from error
    for text in dict.fromkeys(str(w.message) for w in heard):
        if "nrexcl" in text:
            raise TopologyFileError(f"{path}: only nrexcl = 3 can be read ({text}).")
        warnings.warn(f"{path}: {text}", stacklevel=3)
    return found


def arguments_of(structure: Any, *, rigid: Rigid = "none") -> dict[str, Any]:
    """Arguments of `MolecularMechanics` from ParmEd's structure, in eV, Å and degrees.

    Raises TopologyFileError for terms that have no form here (AMOEBA, Drude, 10–12 and 12–6–4 terms,
    virtual sites other than one of three atoms in a plane) and for missing parameters.
    """
    _refuse(structure)
    kept = [a for a in structure.atoms if a.atomic_number > 0]
    number = {id(a): k for k, a in enumerate(kept)}
    tables = _bonded(structure, number) | _non_bonded(structure, kept, number)
    symbols = [periodic_table.symbol(a.atomic_number) for a in kept]
    found = {"symbols": symbols} | {k: t for k, t in tables.items() if not _empty(t)}
    if rigid != "none":
        found["rigid"] = _rigid(structure, number, water_only=rigid == "water")
    if structure.combining_rule == "geometric":
        found["mixing"] = "geometric"
    return found


def _empty(table: Any) -> bool:
    return len(table["atoms"] if isinstance(table, Mapping) and "atoms" in table else table) == 0


def _refuse(structure: Any) -> None:
    for name in _UNKNOWN:
        if len(getattr(structure, name, ())):
            raise TopologyFileError(f"The topology has {name.replace('_', ' ')}, for which there is no form.")
    if any(type(a).__name__ == "DrudeAtom" for a in structure.atoms):
        raise TopologyFileError(
            "The topology has Drude particles; polarisable force fields are not supported."
        )
    data = getattr(structure, "parm_data", {})
    if "LENNARD_JONES_CCOEF" in data or any(x != 0 for x in data.get("HBOND_ACOEF", ())):
        raise TopologyFileError("The prmtop has 12-6-4 or 10-12 terms, for which there is no form.")
    if structure.unknown_functional:
        raise TopologyFileError("The topology has terms of a function type that ParmEd does not know.")


def _need(term: Any, what: str) -> Any:
    if term.type is None:
        raise TopologyFileError(f"The topology has no parameters for the {what} {term!r}.")
    return term.type


def _bonded(structure: Any, number: Mapping[int, int]) -> dict[str, Any]:
    """Tables of bonded terms. The K of ParmEd's harmonic terms has no ½: k = 2K."""

    def atoms(term: Any, n: int) -> list[int]:
        return [number[id(getattr(term, f"atom{k + 1}"))] for k in range(n)]

    def real(terms: Iterable[Any], n: int) -> list[Any]:
        """Terms none of whose atoms is a virtual site (whose bonds carry no energy)."""
        return [t for t in terms if all(id(getattr(t, f"atom{k + 1}")) in number for k in range(n))]

    def harmonic(
        terms: Iterable[Any], n: int, k: str, x: str, what: str, column: str, unit: str, factor: float = 2.0
    ) -> dict:
        rows = [(atoms(t, n), _need(t, what)) for t in real(terms, n)]
        return {
            "atoms": [a for a, _ in rows],
            f"force_constant_eV{unit}": [factor * getattr(p, k) * _KCAL for _, p in rows],
            column: [float(getattr(p, x)) for _, p in rows],
        }

    def parted(terms: Iterable[Any]) -> tuple[list[Any], list[Any]]:
        both = list(terms)
        return [t for t in both if not is_gromos(t)], [t for t in both if is_gromos(t)]

    (bonds, quartic), (angles, cosine) = parted(structure.bonds), parted(structure.angles)
    urey = [t for t in structure.urey_bradleys if getattr(t.type, "k", 1.0) != 0.0]
    return {
        "bonds": harmonic(bonds, 2, "k", "req", "bond", "length", "_per_A2"),
        "quartic_bonds": harmonic(quartic, 2, "k", "req", "bond", "length", "_per_A4", quartic_constant(1.0)),
        "angles": harmonic(angles, 3, "k", "theteq", "angle", "angle_deg", "_per_rad2"),
        "cosine_angles": harmonic(cosine, 3, "k", "theteq", "angle", "angle_deg", ""),
        "urey_bradley": harmonic(urey, 2, "k", "req", "Urey–Bradley term", "length", "_per_A2"),
        "impropers": harmonic(
            structure.impropers, 4, "psi_k", "psi_eq", "improper", "angle_deg", "_per_rad2"
        ),
        "torsions": _torsions(real(structure.dihedrals, 4), atoms),
        "ryckaert_bellemans": _ryckaert_bellemans(real(structure.rb_torsions, 4), atoms),
        "cmaps": _maps(real(structure.cmaps, 5), atoms),
    }


def _torsions(terms: list[Any], atoms: Any) -> dict[str, Any]:
    rows = []
    for t in terms:
        found = _need(t, "torsion")
        for p in found if isinstance(found, list) else [found]:
            if p.phi_k != 0.0:
                rows.append((atoms(t, 4), p))
    return {
        "atoms": [a for a, _ in rows],
        "amplitude_eV": [p.phi_k * _KCAL for _, p in rows],
        "periodicity": [float(p.per) for _, p in rows],
        "phase_deg": [float(p.phase) for _, p in rows],
    }


def _ryckaert_bellemans(terms: list[Any], atoms: Any) -> dict[str, Any]:
    rows = [(atoms(t, 4), _need(t, "torsion")) for t in terms]
    found: dict[str, Any] = {"atoms": [a for a, _ in rows]}
    return found | {f"c{k}_eV": [getattr(p, f"c{k}") * _KCAL for _, p in rows] for k in range(6)}


def _maps(terms: list[Any], atoms: Any) -> dict[str, Any]:
    """CMAP: ParmEd's grid has φ slow and ψ fast, both from −180°, as ours."""
    kinds = {id(_need(t, "CMAP")): t.type for t in terms}
    index = {key: k for k, key in enumerate(kinds)}
    grids = []
    for kind in kinds.values():
        n, values = kind.resolution, [x * _KCAL for x in kind.grid]
        grids.append([values[a * n : (a + 1) * n] for a in range(n)])
    return {
        "atoms": [atoms(t, 5) for t in terms],
        "map": [index[id(t.type)] for t in terms],
        "grids_eV": grids,
    }


def _non_bonded(structure: Any, kept: list[Any], number: Mapping[int, int]) -> dict[str, Any]:
    try:
        read = lennard_jones_of(structure)
        return _read_non_bonded(structure, kept, number, read)
    except TopologyFileError:
        raise
    except ValueError as error:
        raise TopologyFileError(str(error)) from error


def _read_non_bonded(
    structure: Any, kept: list[Any], number: Mapping[int, int], read: LennardJones
) -> dict[str, Any]:
    mix = _mixing(structure.combining_rule)
    kinds, types = _types(structure, kept)
    own = [read(k.sigma, k.epsilon) for k in kinds]
    sigma, epsilon = [s for s, _ in own], [e for _, e in own]
    fixed = _overrides(structure, kinds, mix, read)
    charges, sites = _charges(structure, kept, number)
    bonds = [
        [number[id(b.atom1)], number[id(b.atom2)]]
        for b in structure.bonds
        if id(b.atom1) in number and id(b.atom2) in number
    ]
    four = {k: v[2:] for k, v in fixed.items()}
    special = _special(structure, kept, number, charges, four, types, mix, read)
    near = set(bonded_pairs(len(kept), bonds, 2))
    out = set(bonded_pairs(len(kept), bonds, structure.nrexcl))
    named = {_pair(number, a, b) for a in kept for b in a.exclusion_partners if id(b) in number}
    special = {p: row for p, row in special.items() if p not in near and p not in named}
    pairs = sorted(special)
    return {
        "charges_e": charges,
        "charge_sites": sites,
        "lennard_jones": {
            "types": types,
            "sigma": sigma,
            "epsilon_eV": [e * _KCAL for e in epsilon],
            "overrides": [
                {"types": [a, b], "sigma": v[0], "epsilon_eV": v[1] * _KCAL} for (a, b), v in fixed.items()
            ],
        },
        "exclusions": [list(p) for p in sorted((out | named) - set(pairs))],
        "special_pairs": {
            "atoms": [list(p) for p in pairs],
            "charge_product_e2": [special[p][0] for p in pairs],
            "sigma": [special[p][1] for p in pairs],
            "epsilon_eV": [special[p][2] * _KCAL for p in pairs],
        },
    }


def _pair(number: Mapping[int, int], a: Any, b: Any) -> tuple[int, int]:
    i, j = number[id(a)], number[id(b)]
    return (i, j) if i < j else (j, i)


def _mixing(rule: str) -> Any:
    if rule == "lorentz":
        return lambda a, b: (0.5 * (a[0] + b[0]), (abs(a[1]) * abs(b[1])) ** 0.5)
    return lambda a, b: ((a[0] * b[0]) ** 0.5, (abs(a[1]) * abs(b[1])) ** 0.5)


def _types(structure: Any, kept: list[Any]) -> tuple[list[Any], list[int]]:
    """(one atom of each Lennard-Jones type, type of each atom)."""
    amber = hasattr(structure, "LJ_radius")
    index: dict[Any, int] = {}
    kinds: list[Any] = []
    types: list[int] = []
    for a in kept:
        fixes = getattr(a.atom_type, "nbfix", None)
        key = a.nb_idx if amber else (a.sigma, a.epsilon, str(a.atom_type) if fixes else "")
        if key not in index:
            index[key] = len(kinds)
            kinds.append(a)
        types.append(index[key])
    return kinds, types


def _overrides(
    structure: Any, kinds: list[Any], mix: Any, read: LennardJones
) -> dict[tuple[int, int], tuple[float, ...]]:
    """(σ, ε, σ of 1–4 pairs, ε of 1–4 pairs), Å and kcal/mol, of pairs of types that do not follow mixing."""
    found: dict[tuple[int, int], tuple[float, ...]] = {}
    for a, first in enumerate(kinds):
        for b, second in enumerate(kinds[: a + 1]):
            fixes = getattr(first.atom_type, "nbfix", None) or {}
            if fixes and str(second.atom_type) in fixes:
                r, e, r14, e14 = fixes[str(second.atom_type)]
                found[b, a] = (*read(r * _RMIN, e), *read(r14 * _RMIN, e14))
            elif hasattr(structure, "LJ_radius"):
                own = _from_coefficients(structure, first, second)
                usual = mix((first.sigma, first.epsilon), (second.sigma, second.epsilon))
                if own is not None and not _same(own, usual):
                    found[b, a] = (*own, *own)
    return found


def _from_coefficients(structure: Any, first: Any, second: Any) -> tuple[float, float] | None:
    """σ and ε of a prmtop's A and B for two types."""
    data = structure.parm_data
    n = data["POINTERS"][1]
    at = data["NONBONDED_PARM_INDEX"][n * (first.nb_idx - 1) + second.nb_idx - 1] - 1
    if at < 0:
        return None
    a, b = data["LENNARD_JONES_ACOEF"][at], data["LENNARD_JONES_BCOEF"][at]
    return ((a / b) ** (1.0 / 6.0), b * b / (4.0 * a)) if a > 0.0 and b > 0.0 else (0.0, 0.0)


def _same(own: tuple[float, float], usual: tuple[float, float]) -> bool:
    """Equal but for the digits of the file; a depth of 0 has no distance."""
    if own[1] == 0.0 or usual[1] == 0.0:
        return own[1] == usual[1] == 0.0
    return abs(own[0] / usual[0] - 1.0) < 1e-6 and abs(own[1] / usual[1] - 1.0) < 1e-6


def _special(
    structure: Any,
    kept: list[Any],
    number: Mapping[int, int],
    charges: list[float],
    fixed: Mapping[tuple[int, int], tuple[float, ...]],
    types: list[int],
    mix: Any,
    read: LennardJones,
) -> dict[tuple[int, int], tuple[float, float, float]]:
    """1–4 pairs: (q_i q_j scaled, σ, ε scaled) in e², Å, kcal/mol; explicit ones, or the ends of torsions."""
    found = {}
    if structure.adjusts:
        for t in structure.adjusts:
            p, kind = _pair(number, t.atom1, t.atom2), _need(t, "pair")
            found[p] = (charges[p[0]] * charges[p[1]] * kind.chgscale, *read(kind.sigma, kind.epsilon))
        return found
    for t in [*structure.dihedrals, *structure.rb_torsions]:
        if t.ignore_end or getattr(t, "improper", False):
            continue
        p = _pair(number, t.atom1, t.atom4)
        kind = _need(t, "torsion")
        scales = [(k.scee, k.scnb) for k in (kind if isinstance(kind, list) else [kind]) if k.scee and k.scnb]
        if not scales:
            raise TopologyFileError(f"The torsion {t!r} says nothing of how its 1–4 pair is scaled.")
        scee, scnb = scales[0]
        a, b = (kept[k] for k in p)
        key = tuple(sorted((types[p[0]], types[p[1]])))
        own = fixed.get(key)  # type: ignore[arg-type]
        s, e = own if own else mix((a.sigma_14, a.epsilon_14), (b.sigma_14, b.epsilon_14))
        found[p] = (charges[p[0]] * charges[p[1]] / scee, s, e / scnb)
    return found


def _charges(
    structure: Any, kept: list[Any], number: Mapping[int, int]
) -> tuple[list[float], dict[str, Any]]:
    """Charges of atoms, and where those lie that a virtual site carries for its parent."""
    charges = [float(a.charge) for a in kept]
    sites: dict[str, Any] = {"atoms": [], "weights": [], "reach": []}
    for site in structure.atoms:
        if site.atomic_number > 0:
            continue
        frame = getattr(site, "frame_type", None)
        if type(frame).__name__ != "ThreeParticleExtraPointFrame":
            raise TopologyFileError(
                f"Particle {site.idx} ({site.name}) is neither an element nor a virtual site in the plane of "
                f"three atoms (TIP4P's M): virtual sites of other kinds are not supported."
            )
        assert frame is not None
        atoms = [number[id(a)] for a in frame.get_atoms()]
        if charges[atoms[0]] != 0.0 or abs(site.epsilon) > 0.0 or atoms[0] in [a[0] for a in sites["atoms"]]:
            raise TopologyFileError(
                f"Virtual site {site.idx}: its parent must have no charge of its own and no other site, and "
                f"the site no Lennard-Jones term."
            )
        charges[atoms[0]] = float(site.charge)
        _, second, third = (float(w) for w in frame.get_weights())
        sites["atoms"].append(atoms)
        sites["weights"].append([1.0 - second - third, second, third])
        sites["reach"].append(1.3 * (abs(second) + abs(third)))
    return charges, sites


def _rigid(structure: Any, number: Mapping[int, int], *, water_only: bool) -> dict[str, Any]:
    """Lengths of water's three distances and, if asked, of every bond with hydrogen."""
    rows: dict[tuple[int, int], float] = {}
    lengths = {}
    for bond in structure.bonds:
        if id(bond.atom1) not in number or id(bond.atom2) not in number:
            continue
        pair, length = _pair(number, bond.atom1, bond.atom2), float(_need(bond, "bond").req)
        lengths[pair] = length
        light = 1 in (bond.atom1.atomic_number, bond.atom2.atomic_number)
        if _is_water(bond.atom1.residue) or (light and not water_only):
            rows[pair] = length
    for angle in structure.angles:
        if _is_water(angle.atom2.residue) and angle.atom2.atomic_number == 8:
            a, b = (lengths[_pair(number, angle.atom2, x)] for x in (angle.atom1, angle.atom3))
            cosine = math.cos(math.radians(_need(angle, "angle").theteq))
            third = math.sqrt(a * a + b * b - 2.0 * a * b * cosine)
            rows.setdefault(_pair(number, angle.atom1, angle.atom3), third)
    pairs = sorted(rows)
    return {"atoms": [list(p) for p in pairs], "length": [rows[p] for p in pairs]}


def _is_water(residue: Any) -> bool:
    return sorted(a.atomic_number for a in residue.atoms if a.atomic_number > 0) == [1, 1, 8]
