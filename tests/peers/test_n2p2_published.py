"""n2p2's published network for water gives the energy and forces that n2p2 publishes for it.

The network and its structure of 360 molecules (Morawietz et al., doi:10.1073/pnas.1602375113) are an
example of LAMMPS, `examples/PACKAGES/hdnnp`, which Debian installs (`apt-get install lammps-examples`); a
folder of it elsewhere is named by RIKIBA_HDNNP_EXAMPLE. They are under the GPL and stay out of the project.
The numbers are of n2p2's own test of prediction, `test/cpp/ExamplePrediction.h` of its repository (commit
11f1240), on the same structure, in atomic units; LAMMPS' example says how many Bohr it takes for an Å.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms

from rikiba.calculators.autograd import PotentialCalculator
from rikiba.core import units
from rikiba.core.results import Results
from rikiba.core.system import System
from rikiba.interop.foreign import build
from rikiba.interop.n2p2 import Settings, read_file

FOLDER = Path(os.environ.get("RIKIBA_HDNNP_EXAMPLE", "/usr/share/lammps/examples/PACKAGES/hdnnp"))
BOHR_PER_A = 1.8897261328
ENERGY = -2.7564547347815904e04
FORCES = np.array(
    [
        [-2.8966030062366754e-02, 2.7209599774412423e-03, 3.9737021445979048e-03],
        [7.9877423752479741e-03, 3.3297604748884998e-03, -1.0163833042173850e-02],
        [1.1806902826331738e-02, -9.4962509650420874e-03, 6.6334365831265344e-03],
        [1.5811460277845243e-03, 1.5010841412183408e-03, -1.9125345585991289e-02],
        [-5.5904666061025688e-03, 8.9440761861618728e-03, -2.2307010253202861e-03],
        [3.0173737498853648e-04, -1.0125957462634337e-02, 1.3857355934526888e-02],
        [-7.8096712558967877e-04, -1.6708813976931509e-03, -4.6967806593604996e-03],
        [2.2427460962975566e-03, -5.0824240654465643e-03, 2.8314700994836470e-03],
    ]
)
SORTED_OXYGEN = (
    "2H 2O 2H 2O 2H 2O 2H 2O 2H 2O 2H 2O 2H 2O 2H 2O 3HO 3OO 3HO 3OO 3HH 3HH 3HH 3HO 3OO 3HH 3HO 3OO 3HH 3HH"
)
"""Type and neighbours of oxygen's functions as n2p2 prints them, `examples/nnp-predict/H2O_RPBE-D3`."""


@pytest.fixture
def folder() -> Iterator[Path]:
    if not (FOLDER / "hdnnp-data" / "input.nn").exists():
        pytest.skip(f"{FOLDER} is absent (apt-get install lammps-examples)")
    yield FOLDER


def water(folder: Path) -> Atoms:
    """The structure, in Å such that a Bohr of ours is one of the example's."""
    lines = (folder / "data.H2O-360mol").read_text().splitlines()
    box = [float(line.split()[1]) for line in lines if line.endswith(("xhi", "yhi", "zhi"))]
    first = next(k for k, line in enumerate(lines) if line.startswith("Atoms")) + 2
    rows = [line.split() for line in lines[first : first + 1080]]
    size = BOHR_PER_A * units.bohr
    symbols = ["H" if row[1] == "1" else "O" for row in rows]
    positions = size * np.array([[float(x) for x in row[2:5]] for row in rows])
    return Atoms(symbols, positions, cell=size * np.array(box), pbc=True)


def results(folder: Path, atoms: Atoms) -> Results:
    return PotentialCalculator(build(read_file(path=folder), torch.float64))(System.from_ase(atoms))


def test_energy_and_forces_are_those_of_n2p2(folder: Path, tmp_path: Path) -> None:
    atoms = water(folder)
    found = results(folder / "hdnnp-data", atoms)
    assert float(found.need("energy")) / units.hartree == pytest.approx(ENERGY, abs=1e-8)
    forces = found.need("forces").numpy() / units.hartree * units.bohr
    assert forces[: len(FORCES)] == pytest.approx(FORCES, abs=1e-11)
    # negative control: two numbers of the scaling swapped
    for file in (folder / "hdnnp-data").iterdir():
        (tmp_path / file.name).write_text(file.read_text())
    lines = (tmp_path / "scaling.data").read_text().splitlines()
    rows = [k for k, line in enumerate(lines) if not line.startswith("#") and len(line.split()) > 4]
    words = [lines[k].split() for k in rows[:2]]
    for k, (own, other) in zip(rows[:2], (words, words[::-1]), strict=True):
        lines[k] = " ".join([*own[:2], *other[2:]])
    (tmp_path / "scaling.data").write_text("\n".join(lines))
    other = float(results(tmp_path, atoms).need("energy")) / units.hartree
    assert abs(other - ENERGY) > 1e-3


def test_functions_are_sorted_as_n2p2_prints_them(folder: Path) -> None:
    names = {1: "H", 8: "O"}
    functions = Settings(folder / "hdnnp-data" / "input.nn").functions()
    ours = [f"{f.kind}{''.join(names[z] for z in f.neighbours)}" for f in functions if names[f.centre] == "O"]
    assert ours == SORTED_OXYGEN.split()
