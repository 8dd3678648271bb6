"""Moment tensor potentials against motep; how the values were made stands in motep/README.md."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms

from rikiba.calculators.autograd import PotentialCalculator
from rikiba.core.pairs import find_pairs
from rikiba.core.system import System
from rikiba.descriptors.moment_basis import contractions, moment_basis
from rikiba.interop.foreign import build, read_foreign
from rikiba.interop.mlip import load_mlip, read_mlip, write_mlip
from rikiba.potentials.mtp import Mtp

FOLDER = Path(__file__).parent / "motep"
REFERENCE = json.loads((FOLDER / "reference" / "motep.json").read_text())
BASIS = REFERENCE["basis"]
TYPES = {"level8": ["Si"], "level12": ["O", "Si"], "level16": ["Si"], "template": ["Si", "O"]}
CASES = [(name, s) for name, case in REFERENCE["potentials"].items() for s in case]


def read(name: str, **more: Any) -> Mtp:
    weights = load_mlip(FOLDER / "reference" / f"{name}.mtp", elements=TYPES[name])
    potential = Mtp(**(weights.arguments | more))
    potential.load_state_dict(weights.tensors)
    return potential


def frame(case: dict[str, Any]) -> Atoms:
    return Atoms(case["symbols"], case["positions"], cell=case["cell"], pbc=case["pbc"])


def deviations(potential: Mtp, case: dict[str, Any], *, use_program: bool) -> dict[str, float]:
    """Largest differences in eV per atom, eV/Å and eV/Å³."""
    atoms = frame(case)
    found = PotentialCalculator(potential, use_program=use_program)(
        System.from_ase(atoms), stress="stress" in case
    )
    names = [n for n in ("energies", "forces", "stress") if n in case]
    out = {n: float(np.abs(found.need(n).numpy() - np.array(case[n])).max()) for n in names}
    return out | {"energy": abs(float(found.need("energy")) - case["energy"]) / len(atoms)}


@pytest.mark.parametrize("use_program", [True, False])
@pytest.mark.parametrize(("name", "structure"), CASES)
def test_energies_forces_and_stress(name: str, structure: str, use_program: bool) -> None:
    case = REFERENCE["potentials"][name][structure]
    assert np.abs(case["forces"]).max() > 0.01
    for key, value in deviations(read(name), case, use_program=use_program).items():
        assert value < 1e-9, key


def test_another_envelope_is_another_potential() -> None:
    case = REFERENCE["potentials"]["template"]["triclinic"]
    found = deviations(read("template", envelope_power=3), case, use_program=True)
    assert found["energy"] > 1e-3 and found["forces"] > 1e-3


@pytest.mark.parametrize(("name", "structure"), CASES)
def test_every_basis_function_of_every_atom(name: str, structure: str) -> None:
    """Ours by the order in which the file has them, which is another than ours in the template."""
    case, potential = REFERENCE["potentials"][name][structure], read(name)
    system = System.from_ase(frame(case))
    rows = potential.design(system, find_pairs(system, potential.cutoff), forces=False, stress=False)
    n = len(potential.elements)
    found = np.sort(rows.energy[0, n:].numpy())
    expected = np.sort(np.array(case["basis"]).sum(1))
    assert found == pytest.approx(expected, rel=1e-10, abs=1e-12)
    assert len(set(np.round(expected, 9))) > 5


@pytest.mark.parametrize("level", [int(x) for x in BASIS["values"]])
def test_basis_of_a_level(level: int) -> None:
    """Every function of motep's own enumeration is one of ours, and no other is."""
    u, f, basis = np.array(BASIS["directions"]), np.array(BASIS["radial"]), moment_basis(level)
    components = np.array([np.sum(f[m] * np.prod(u ** np.array(p), axis=1)) for m, *p in basis.basic])
    found, expected = np.sort(basis.evaluate(components)), np.sort(BASIS["values"][str(level)])
    assert found == pytest.approx(expected, rel=1e-10)
    u[0] *= 1.01
    moved = np.array([np.sum(f[m] * np.prod(u ** np.array(p), axis=1)) for m, *p in basis.basic])
    assert level < 6 or not np.allclose(np.sort(basis.evaluate(moved)), expected, rtol=1e-4)


def test_number_of_functions_of_every_level() -> None:
    found = {str(level): len(contractions(level, 4)) for level in range(2, 26, 2)}
    assert found == BASIS["counts"]
    assert list(found.values()) == [1, 2, 5, 9, 16, 29, 52, 92, 163, 288, 500, 864]
    assert len(contractions(10, 10)) == 17  # the fifth power of M_00, which has more than four moments


def test_what_is_written_is_what_motep_read(tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("make_potentials", FOLDER / "make_potentials.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for name in module.ARGUMENTS:
        original = module.potential(name)
        write_mlip(original, tmp_path / "again.mtp")
        assert (tmp_path / "again.mtp").read_text() == (FOLDER / "reference" / f"{name}.mtp").read_text()
        back = read(name)
        assert all(torch.equal(a, b) for a, b in zip(original.parameters(), back.parameters(), strict=True))


def test_conversion_knows_the_file() -> None:
    path = FOLDER / "reference" / "template.mtp"
    found = build(read_foreign(path, options={"elements": ["Si", "O"]}))
    assert isinstance(found, Mtp)
    assert all(
        torch.equal(a, b) for a, b in zip(found.parameters(), read("template").parameters(), strict=True)
    )
    with pytest.raises(ValueError, match="elements"):
        read_foreign(path)


def test_files_that_are_refused(tmp_path: Path) -> None:
    text = (FOLDER / "reference" / "template.mtp").read_text()
    for old, new, says in (
        ("MTP\n", "SNAP\n", "first line"),
        ("RBChebyshev", "RBTaylor", "RBTaylor"),
        ("{4, 4, 1, 13}", "{4, 4, 2, 13}", "not those of a level"),
        ("species_coeffs", "other", "species_coeffs"),
    ):
        with pytest.raises(ValueError, match=says):
            read_mlip(text.replace(old, new, 1), elements=["Si", "O"])
    with pytest.raises(ValueError, match="2 elements"):
        read_mlip(text, elements=["Si"])
    with pytest.raises(ValueError, match="envelope_power"):
        write_mlip(Mtp(elements=["Si"], level=6), tmp_path / "x.mtp")
