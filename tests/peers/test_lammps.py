"""Pair potentials against LAMMPS; how the values were made stands in lammps/README.md."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms

from rikiba.calculators.autograd import PotentialCalculator
from rikiba.core.results import Results
from rikiba.core.system import System
from rikiba.potentials.base import Potential
from rikiba.potentials.bks_short_range import BksShortRange
from rikiba.potentials.buckingham import Buckingham
from rikiba.potentials.lennard_jones import LennardJones
from rikiba.potentials.morse import Morse
from rikiba.potentials.zbl import Zbl

FOLDER = Path(__file__).parent / "lammps" / "reference"
KINDS: dict[str, type[Potential]] = {
    "lennard_jones": LennardJones,
    "morse": Morse,
    "buckingham": Buckingham,
    "bks_short_range": BksShortRange,
}


def cases(kind: str) -> dict[str, dict[str, Any]]:
    return json.loads((FOLDER / f"{kind}.json").read_text())["cases"]


ALL = [
    (kind, case, structure)
    for kind in KINDS
    for case, values in cases(kind).items()
    for structure in values["structures"]
]


def frame(structure: dict[str, Any]) -> Atoms:
    return Atoms(
        structure["symbols"],
        positions=structure["positions"],
        cell=structure["cell"],
        pbc=structure["pbc"],
    )


def answer(potential: Potential, structure: dict[str, Any]) -> Results:
    periodic = all(structure["pbc"])
    calculator = PotentialCalculator(potential.double())
    return calculator(System.from_ase(frame(structure)), forces=True, stress=periodic)


def deviations(found: Results, expected: dict[str, Any]) -> dict[str, float]:
    """Largest differences, relative to the largest value of the quantity."""
    pairs = {"energy": (found.need("energy")[0], expected["energy"])}
    pairs["forces"] = (found.need("forces"), expected["forces"])
    if "energies" in expected:
        pairs["energies"] = (found.need("energies"), expected["energies"])
    if all(expected["pbc"]):
        volume = abs(np.linalg.det(np.array(expected["cell"])))
        pairs["stress"] = (found.need("stress")[0] * volume, expected["strain_derivative"])
    differences = {}
    for name, (ours, theirs) in pairs.items():
        wanted = np.asarray(theirs)
        differences[name] = float(np.abs(ours.detach().numpy() - wanted).max() / np.abs(wanted).max())
    return differences


@pytest.mark.parametrize(("kind", "case", "structure"), ALL)
def test_pair_potential_is_that_of_lammps(kind: str, case: str, structure: str) -> None:
    values = cases(kind)[case]
    expected = values["structures"][structure]
    found = deviations(answer(KINDS[kind](**values["parameters"]), expected), expected)
    if case == "tail_correction":
        del found["stress"]  # defined otherwise: see the next test
    assert max(found.values()) < 1e-10, found


@pytest.mark.parametrize("structure", ["orthogonal", "triclinic", "narrow_triclinic"])
def test_tail_correction_of_the_stress(structure: str) -> None:
    """LAMMPS corrects the virial by ∫ r³ v' beyond the cutoff, the strain derivative of the tail by 3 ∫ r² v.

    They differ by the pairs that a compression brings across the cutoff, where v jumps by v(rc):
    V Δσ = −(2π/3V) Σ_ab N_a N_b rc³ v_ab(rc).
    """
    values = cases("lennard_jones")["tail_correction"]
    expected, parameters = values["structures"][structure], values["parameters"]
    potential = LennardJones(**parameters)
    volume = abs(np.linalg.det(np.array(expected["cell"])))
    ours = answer(potential, expected).need("stress")[0].numpy() * volume
    counts = torch.tensor([expected["symbols"].count(e) for e in potential.elements], dtype=torch.float64)
    first, second = torch.meshgrid(torch.arange(2), torch.arange(2), indexing="ij")
    rc = torch.full((2, 2), potential.cutoff, dtype=torch.float64)
    jump = float(counts @ potential.pair_energy(rc, first, second) @ counts)
    crossing = -2 * np.pi / (3 * volume) * potential.cutoff**3 * jump
    theirs = np.array(expected["strain_derivative"])
    np.testing.assert_allclose(ours + crossing * np.eye(3), theirs, atol=1e-10 * np.abs(theirs).max())


@pytest.mark.parametrize("kind", KINDS)
def test_another_truncation_is_told_apart(kind: str) -> None:
    """Negative control: the shifted potential must not pass for the plainly cut one."""
    values = cases(kind)["cut"]
    expected = values["structures"]["triclinic"]
    other = KINDS[kind](**(values["parameters"] | {"truncation": "shift"}))
    assert deviations(answer(other, expected), expected)["energy"] > 1e-3


def test_the_core_of_bks_is_told_apart() -> None:
    """Negative control: the potential with its 30-6 term must not pass for the one without."""
    expected = cases("bks_short_range")["without_core"]["structures"]["triclinic"]
    other = BksShortRange(cutoff=5.5, truncation="cut")
    assert deviations(answer(other, expected), expected)["energy"] > 1e-4


def test_zbl_forces_inside_the_switch() -> None:
    """Within the inner radius LAMMPS adds a constant per pair only, so forces compare directly.

    LAMMPS keeps one digit more of the published screening coefficients, hence 5e-4.
    """
    values = cases("zbl")["inner_1.5_outer_2.5"]
    for name in ("dimer", "compact_cluster"):
        expected = values["structures"][name]
        distances = frame(expected).get_all_distances()
        assert distances.max() < 1.5
        found = deviations(answer(Zbl(elements=("Si", "O"), cutoff=2.5, switch_from=1.5), expected), expected)
        assert found["forces"] < 5e-4, found
        switched = deviations(answer(Zbl(elements=("Si", "O"), cutoff=0.9), expected), expected)
        assert switched["forces"] > 1e-2


def lammps_zbl(r: torch.Tensor, zi: float, zj: float, inner: float, outer: float) -> torch.Tensor:
    """LAMMPS' pair style zbl: screened repulsion and a quartic that makes it C² at `outer`."""

    def bare(x: torch.Tensor) -> torch.Tensor:
        scaled = x * (zi**0.23 + zj**0.23) / 0.46850
        terms = ((0.02817, 0.20162), (0.28022, 0.40290), (0.50986, 0.94229), (0.18175, 3.19980))
        return 14.399645 * zi * zj / x * sum(c * torch.exp(-d * scaled) for c, d in terms)

    end = torch.tensor(outer, dtype=torch.float64, requires_grad=True)
    e0 = bare(end)
    (e1,) = torch.autograd.grad(e0, end, create_graph=True)
    (e2,) = torch.autograd.grad(e1, end)
    width = outer - inner
    a = (-3 * e1 + width * e2) / width**2
    b = (2 * e1 - width * e2) / width**3
    c = -e0 + width * e1 / 2 - width**2 * e2 / 12
    u = (r - inner).clamp(min=0)
    return torch.where(r < outer, bare(r) + a / 3 * u**3 + b / 4 * u**4 + c, 0.0).detach()


@pytest.mark.parametrize("case", ["inner_1.5_outer_2.5", "inner_0.9_outer_2.0"])
@pytest.mark.parametrize("structure", ["triclinic", "dimer", "compact_cluster"])
def test_documented_switch_gives_the_energies(case: str, structure: str) -> None:
    """What README.md says of the switch reproduces the stored energies."""
    from vesin import NeighborList

    values = cases("zbl")[case]
    expected, parameters = values["structures"][structure], values["parameters"]
    atoms = frame(expected)
    finder = NeighborList(cutoff=parameters["outer"], full_list=True)
    i, j, d = finder.compute(
        points=atoms.positions, box=atoms.cell.array, periodic=bool(atoms.pbc.all()), quantities="ijd"
    )
    energy = 0.0
    for a, b, r in zip(atoms.numbers[i], atoms.numbers[j], d, strict=True):
        distance = torch.tensor(r, dtype=torch.float64)
        energy += 0.5 * float(
            lammps_zbl(distance, float(a), float(b), parameters["inner"], parameters["outer"])
        )
    assert energy == pytest.approx(expected["energy"], rel=1e-9)
