"""SNAP against LAMMPS; how the values were made stands in lammps/README.md."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms

from rikiba.calculators.autograd import PotentialCalculator, evaluate
from rikiba.core.pairs import find_pairs
from rikiba.core.system import System
from rikiba.interop.lammps_snap import load_lammps_snap, read_lammps_snap, write_lammps_snap
from rikiba.interop.mace_torch import Weights
from rikiba.potentials.snap import Snap

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
REFERENCE = json.loads((HERE / "lammps" / "reference" / "snap.json").read_text())
CASES = [(name, s) for name, case in REFERENCE["random"].items() for s in case["structures"]]


def built(weights: Weights) -> Snap:
    potential = Snap(**weights.arguments)
    potential.load_state_dict(weights.tensors)
    return potential


def frame(structure: dict[str, Any]) -> Atoms:
    return Atoms(structure["symbols"], structure["positions"], cell=structure["cell"], pbc=structure["pbc"])


def deviations(potential: Snap, expected: dict[str, Any], *, use_program: bool) -> dict[str, float]:
    """Largest differences, relative to the largest value of the quantity."""
    atoms = frame(expected)
    periodic = bool(atoms.pbc.all())
    calculator = PotentialCalculator(potential, use_program=use_program)
    found = calculator(System.from_ase(atoms), stress=periodic)
    compared = {k: (found.need(k), expected[k]) for k in ("energies", "forces")}
    compared["energy"] = (found.need("energy")[0], expected["energy"])
    if periodic:
        compared["stress"] = (found.need("stress")[0] * atoms.get_volume(), expected["strain_derivative"])
    return {k: _relative(a.numpy(), np.array(b)) for k, (a, b) in compared.items()}


def _relative(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a - b).max() / np.abs(b).max())


@pytest.mark.parametrize("use_program", [True, False])
@pytest.mark.parametrize(("name", "structure"), CASES)
def test_every_setting(name: str, structure: str, use_program: bool) -> None:
    case = REFERENCE["random"][name]
    potential = built(read_lammps_snap(case["snapcoeff"], case["snapparam"]))
    found = deviations(potential, case["structures"][structure], use_program=use_program)
    assert max(found.values()) < 1e-9, found


@pytest.mark.parametrize(("name", "structure"), CASES)
def test_components(name: str, structure: str) -> None:
    case = REFERENCE["random"][name]
    expected = case["structures"][structure]
    potential = built(read_lammps_snap(case["snapcoeff"], case["snapparam"]))
    system = System.from_ase(frame(expected))
    pairs, types = find_pairs(system, potential.cutoff), potential.types(system)
    vectors = pairs.vectors(system)
    found = potential.descriptor(vectors, pairs.i, types[pairs.j], types).numpy()
    theirs = np.array(expected["components"])
    d = potential.descriptor
    if d.n_channels > 1:  # their elements are Si, O, ours O, Si
        theirs = theirs.reshape(-1, 2, 2, 2, len(d.triples))[:, ::-1, ::-1, ::-1].reshape(len(theirs), -1)
    assert _relative(found, theirs) < 1e-9
    # negative control: another order of the components is seen
    assert _relative(found[:, ::-1], theirs) > 1e-3


def test_a_setting_that_is_ignored_would_be_seen() -> None:
    """Negative control: each flag, turned over, gives other energies or forces."""
    for name, flag in (
        ("subtracted", "bzeroflag 1"),
        ("r_min", "bnormflag 1"),
        ("elements", "wselfallflag 1"),
    ):
        case = REFERENCE["random"][name]
        parameters = case["snapparam"].replace(flag, flag[:-1] + "0")
        potential = built(read_lammps_snap(case["snapcoeff"], parameters))
        found = deviations(potential, case["structures"]["orthogonal"], use_program=True)
        assert max(found.values()) > 1e-4, (name, found)


def published(name: str, data_dir: Path) -> tuple[Path, Path]:
    """The files in the data folder, or in an environment with LAMMPS."""
    places = [data_dir / "potentials" / "lammps"]
    places += ROOT.glob(".venvs/lammps/lib/python3*/site-packages/lammps/share/lammps/potentials")
    for place in places:
        if (place / f"{name}.snapcoeff").exists():
            return place / f"{name}.snapcoeff", place / f"{name}.snapparam"
    pytest.skip(f"{name}.snapcoeff is neither in the data folder nor in .venvs/lammps")


@pytest.mark.parametrize("name", list(REFERENCE["published"]))
def test_published_potential(name: str, data_dir: Path) -> None:
    potential = built(load_lammps_snap(*published(name, data_dir)))
    expected = REFERENCE["published"][name]
    found = deviations(potential, expected, use_program=True)
    assert max(found.values()) < 1e-8, found
    with torch.no_grad():
        potential.coefficients[-1] *= 1.0 + 1e-3
        potential.coefficients[1] *= 1.0 + 1e-3
    assert max(deviations(potential, expected, use_program=True).values()) > 1e-8


@pytest.mark.parametrize("name", ["quadratic", "elements_quadratic"])
def test_written_files_come_back_equal(name: str, tmp_path: Path) -> None:
    case = REFERENCE["random"][name]
    potential = built(read_lammps_snap(case["snapcoeff"], case["snapparam"]))
    files = tmp_path / "a.snapcoeff", tmp_path / "a.snapparam"
    write_lammps_snap(potential, *files)
    again = built(load_lammps_snap(*files))
    assert torch.equal(again.coefficients, potential.coefficients)
    assert again.arguments == potential.arguments
    system = System.from_ase(frame(case["structures"]["orthogonal"]))
    pairs = find_pairs(system, potential.cutoff)
    a, b = (evaluate(p, system, pairs) for p in (potential, again))
    assert torch.equal(a.need("energy"), b.need("energy")) and torch.equal(a.need("forces"), b.need("forces"))


def test_energies_of_isolated_atoms_go_into_the_constants(tmp_path: Path) -> None:
    ours = Snap(elements=("O", "Si"), twojmax=2, envelope="cosine", atomic_energies={"O": -3.0, "Si": -5.0})
    files = tmp_path / "a.snapcoeff", tmp_path / "a.snapparam"
    write_lammps_snap(ours, *files)
    again = built(load_lammps_snap(*files))
    system = System.from_ase(Atoms(["O", "Si", "Si"], [[0, 0, 0], [1.7, 0, 0], [0, 2.1, 0.3]]))
    pairs = find_pairs(system, ours.cutoff)
    a, b = (evaluate(p, system, pairs).need("energies") for p in (ours, again))
    torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


def test_what_cannot_be_read_or_written_is_refused(tmp_path: Path) -> None:
    case = REFERENCE["random"]["plain"]
    coefficients, parameters = case["snapcoeff"], case["snapparam"]
    for a, b, message in (
        (coefficients, parameters + "switchinnerflag 1\n", "switchinnerflag"),
        (coefficients, parameters + "colour 1\n", "colour"),
        (coefficients, parameters.replace("twojmax 4", "twojmax 6"), "coefficients per element"),
        (coefficients[: len(coefficients) // 2], parameters, "ends before"),
        (coefficients, "rcutfac 4.0\n", "twojmax"),
    ):
        with pytest.raises(ValueError, match=message):
            read_lammps_snap(a, b)
    with pytest.raises(ValueError, match="cosine"):
        write_lammps_snap(Snap(elements=("Si",)), tmp_path / "a", tmp_path / "b")


@pytest.mark.parametrize("explicit_elements", [False, True])
def test_lammps_runs_what_we_write(explicit_elements: bool, tmp_path: Path) -> None:
    """LAMMPS with our files gives the energy and forces that we give."""
    python = ROOT / ".venvs" / "lammps" / "bin" / "python"
    if not python.exists() or shutil.which(str(python)) is None:
        pytest.skip("needs .venvs/lammps (benchmarks/peers/install_peers.py lammps)")
    ours = Snap(
        elements=("Si", "O"),
        cutoff=4.1,
        twojmax=3,
        quadratic=not explicit_elements,
        explicit_elements=explicit_elements,
        envelope="cosine",
        seed=4,
    )
    write_lammps_snap(ours, tmp_path / "a.snapcoeff", tmp_path / "a.snapparam")
    structure = {
        k: v
        for k, v in REFERENCE["random"]["plain"]["structures"]["orthogonal"].items()
        if k in ("symbols", "positions", "cell", "pbc")
    }
    (tmp_path / "structure.json").write_text(json.dumps(structure))
    script = (
        "import json; from make_snap_reference import answers; "
        # elements in the file's order: with explicit elements LAMMPS takes no other
        "order = 'O Si'; "
        f"s = json.load(open('{tmp_path}/structure.json')); "
        f"p = ['pair_style snap', 'pair_coeff * * {tmp_path}/a.snapcoeff {tmp_path}/a.snapparam ' + order]; "
        "print('\\n' + json.dumps(answers(s, order.split(), p)))"
    )
    environment = os.environ | {"LD_LIBRARY_PATH": str(ROOT / ".venvs" / "lammps" / "lib")}
    environment.pop("PYTHONPATH", None)
    done = subprocess.run(
        [str(python), "-c", script],
        cwd=HERE / "lammps",
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    expected = json.loads(done.stdout.splitlines()[-1])
    found = deviations(ours, expected, use_program=True)
    assert max(found.values()) < 1e-9, found
