"""What ParmEd leaves out of GROMACS' topologies: GROMOS' bonds and angles, C6 and C12 in place of σ and ε.

ParmEd reads the parameters of bonds and angles of function type 1 alone, and takes for σ and ε what a file
with combination rule 1 gives as C6 and C12.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

LennardJones = Callable[[float, float], tuple[float, float]]
"""(σ, ε) as ParmEd has them, Å and kcal/mol → as they are."""

_KILOJOULE = 1.0 / 4.184


def is_gromacs(path: str | Path) -> bool:
    """Whether ParmEd takes the file for a topology of GROMACS."""
    from parmed.gromacs import GromacsTopologyFile

    return bool(GromacsTopologyFile.id_format(str(path)))


def read_gromacs(path: str | Path) -> Any:
    """ParmEd's structure; `funct` of its bonds and angles is 2 where they have GROMOS' forms.

    The numbers of these stand where ParmEd has those of harmonic terms, converted as if they were such:
    see `quartic_constant`. Raises what ParmEd raises.
    """
    from parmed.gromacs import GromacsTopologyFile

    class Topology(GromacsTopologyFile):  # type: ignore[misc]
        def _parse_bonds(self, line: str, bond_types: Any, atoms: Any) -> Any:
            plain, is_gromos = _as_harmonic(line, 2)
            bond, kind = super()._parse_bonds(plain, bond_types, atoms)
            bond.funct = 2 if is_gromos else bond.funct
            return bond, kind

        def _parse_bondtypes(self, line: str) -> Any:
            return super()._parse_bondtypes(_as_harmonic(line, 2)[0])

        def _parse_angles(self, line: str, angle_types: Any, ub_types: Any, atoms: Any) -> Any:
            plain, is_gromos = _as_harmonic(line, 3)
            angle, *rest = super()._parse_angles(plain, angle_types, ub_types, atoms)
            angle.funct = 2 if is_gromos else angle.funct
            return (angle, *rest)

        def _parse_angletypes(self, line: str) -> Any:
            return super()._parse_angletypes(_as_harmonic(line, 3)[0])

    return Topology(str(path))


def _as_harmonic(line: str, place: int) -> tuple[str, bool]:
    """The line with function type 1 for 2, and whether it was 2."""
    words = line.split()
    found = len(words) > place and words[place] == "2"
    if found:
        words[place] = "1"
    return " ".join(words), found


def is_gromos(term: Any) -> bool:
    """Whether a bond or angle has GROMOS' form."""
    return getattr(term, "funct", 1) == 2


def quartic_constant(k: float) -> float:
    """kcal/mol/Å⁴ of a bond's k that ParmEd halved and took for kJ/mol/nm² rather than kJ/mol/nm⁴."""
    return 2.0 * k / 100.0


def lennard_jones_of(structure: Any) -> LennardJones:
    """What turns ParmEd's σ and ε into those of the file.

    Raises ValueError where pairs are generated with a factor, of which ParmEd loses half.
    """
    defaults = getattr(structure, "defaults", None)
    if defaults is None or defaults.comb_rule != 1:
        return lambda sigma, epsilon: (sigma, abs(epsilon))
    if defaults.gen_pairs == "yes" and float(defaults.fudgeLJ) != 1.0:
        raise ValueError(
            f"Pairs generated with fudgeLJ = {defaults.fudgeLJ} from C6 and C12 (combination rule 1) cannot "
            f"be read: give them in [ pairtypes ] with gen-pairs = no."
        )
    return _from_coefficients


def _from_coefficients(sigma: float, epsilon: float) -> tuple[float, float]:
    """From C6 in 10 kJ/mol nm⁶ and C12 in 4.184 kJ/mol nm¹²."""
    c6, c12 = sigma / 10.0, epsilon / _KILOJOULE
    if c6 == 0.0 and c12 == 0.0:
        return 0.0, 0.0
    if not (c6 > 0.0 and c12 > 0.0):
        raise ValueError(
            f"A pair of C6 = {c6:g} kJ/mol nm⁶ and C12 = {c12:g} kJ/mol nm¹² has no σ and ε; both must be "
            f"positive, or both 0."
        )
    return 10.0 * (c12 / c6) ** (1.0 / 6.0), c6 * c6 / (4.0 * c12) * _KILOJOULE
