"""SNAP: the compiled program and the rows of the design matrix against automatic differentiation; its fit."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from hypothesis import given, settings
from hypothesis import strategies as st
from network_checks import close, structures

from rikiba.calculators.autograd import PotentialCalculator, evaluate, run_program
from rikiba.core.pairs import find_pairs
from rikiba.core.system import System
from rikiba.data.dataset import Dataset, Labelled
from rikiba.data.formats import read
from rikiba.interop.lammps_snap import load_lammps_snap
from rikiba.potentials.snap import Snap
from rikiba.training.least_squares import LeastSquares
from rikiba.validation.errors import errors

KINDS = {
    "linear": {"twojmax": 5, "weights": {"O": 0.6, "Si": 1.0}},
    "quadratic": {"twojmax": 3, "quadratic": True, "radii": {"O": 0.45, "Si": 0.5}, "envelope": "cosine"},
    "elements": {"twojmax": 2, "explicit_elements": True, "normalised": True, "r_min": 0.5},
    "elements_quadratic": {"twojmax": 1, "explicit_elements": True, "all_self": True, "quadratic": True},
}


def potential(kind: str, **more) -> Snap:
    return Snap(
        elements=("O", "Si"), cutoff=4.0, atomic_energies={"O": -3.0, "Si": -5.0}, **KINDS[kind], **more
    )


@pytest.mark.parametrize("kind", list(KINDS))
@settings(max_examples=4, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_program_and_design_are_the_definition(kind: str, seed: int) -> None:
    system, model = structures(seed), potential(kind, seed=seed)
    pairs = find_pairs(system, model.cutoff + 0.4)
    expected = evaluate(model, system, pairs, stress=True)
    found = run_program(model.program(), system, pairs, stress=True)
    for name in ("energies", "forces", "stress"):
        assert close(found.need(name), expected.need(name), 1e-11), name
    design = model.design(system, pairs, forces=True, stress=True)
    c = model.coefficients.detach()
    assert close(design.energy @ c + design.offset, expected.need("energy"), 1e-11)
    assert close(design.forces @ c, expected.need("forces"), 1e-11)
    assert close(design.stress @ c, expected.need("stress"), 1e-11)


@pytest.mark.parametrize("kind", list(KINDS))
def test_every_single_row_is_the_response_to_its_own_coefficient(kind: str) -> None:
    system, model = structures(1), potential(kind)
    pairs = find_pairs(system, model.cutoff)
    design = model.design(system, pairs, forces=True, stress=True)
    step = max(1, len(model.coefficients) // 12)
    for k in range(0, len(model.coefficients), step):
        with torch.no_grad():
            model.coefficients.zero_()
            model.coefficients[k] = 1.0
        results = evaluate(model, system, pairs, stress=True)
        assert close(design.energy[:, k], results.need("energy") - design.offset, 1e-11)
        assert close(design.forces[..., k], results.need("forces"), 1e-11)
        assert close(design.stress[..., k], results.need("stress"), 1e-11)


@pytest.mark.parametrize("n", [1, 15, 16, 17, 33])
def test_program_for_any_number_of_atoms(n: int) -> None:
    rng = np.random.default_rng(n)
    model = potential("quadratic")
    atoms = Atoms(rng.choice(["Si", "O"], n), rng.random((n, 3)) * 2.0 * n ** (1 / 3))
    system = System.from_ase(atoms)
    pairs = find_pairs(system, model.cutoff)
    a, b = run_program(model.program(), system, pairs), evaluate(model, system, pairs)
    assert close(a.need("energies"), b.need("energies"), 1e-11) and close(
        a.need("forces"), b.need("forces"), 1e-11
    )


def test_program_of_single_precision_and_of_other_weights() -> None:
    system, model = structures(2), potential("linear").float()
    pairs = find_pairs(system, model.cutoff)
    a, b = run_program(model.program(), system, pairs), evaluate(model, system, pairs)
    assert close(a.need("forces"), b.need("forces"), 1e-4)
    assert not close(a.need("forces"), b.need("forces"), 1e-12)
    program = model.double().program()
    with torch.no_grad():
        model.coefficients[3] += 1e-3
    moved = evaluate(model, system, pairs)
    # a program is a snapshot; the calculator follows the weights
    assert not close(run_program(program, system, pairs).need("forces"), moved.need("forces"), 1e-7)
    assert close(PotentialCalculator(model)(system).need("forces"), moved.need("forces"), 1e-11)


def test_forces_are_finite_differences_of_the_energy() -> None:
    system, model = structures(3), potential("quadratic")
    forces = evaluate(model, system, find_pairs(system, model.cutoff)).need("forces")
    h = 1e-4
    for atom, axis in ((3, 0), (7, 2), (20, 1)):
        energies = []
        for sign in (1.0, -1.0):
            moved = system.positions.clone()
            moved[atom, axis] += sign * h
            there = system.replace(positions=moved)
            pairs = find_pairs(there, model.cutoff)
            energies.append(evaluate(model, there, pairs, forces=False).need("energy").sum())
        slope = float(energies[0] - energies[1]) / (2 * h)
        assert float(forces[atom, axis]) == pytest.approx(-slope, abs=1e-6 * max(1.0, abs(slope)))


def labelled(source: Snap, n: int) -> Dataset:
    out = []
    for seed in range(n):
        system = structures(seed)
        for atoms in system.to_ase()[2:]:
            one = System.from_ase(atoms)
            results = evaluate(source, one, find_pairs(one, source.cutoff))
            out.append(Labelled(system=one, results=results.replace(energies=None), level_of_theory="SNAP"))
    return Dataset(out)


@pytest.mark.parametrize("kind", ["linear", "quadratic"])
def test_planted_potential_is_found(kind: str) -> None:
    source = potential(kind, seed=9)
    data = labelled(source, 14)
    fit = LeastSquares(scale_columns=True, batch_size=6).fit(potential(kind), data)
    assert fit.rank == len(source.coefficients)
    test = labelled(source, 16)[-3:]
    found = errors(PotentialCalculator(fit.potential), test)
    assert found.values["forces_rmse_meV_per_A"] < 1e-4
    unfitted = errors(PotentialCalculator(potential(kind)), test)
    assert unfitted.values["forces_rmse_meV_per_A"] > 1.0


@pytest.mark.parametrize(
    ("name", "element", "energy", "forces"),
    [
        ("Si_Zuo_JPCA2020", "Si", 6.44, 133.0),
        ("Si_Zuo_JPCA2020.quadratic", "Si", 3.81, 116.0),
        ("Mo_Zuo_JPCA2020", "Mo", 5.49, 207.0),
    ],
)
def test_published_errors_of_published_coefficients(
    name: str, element: str, energy: float, forces: float, data_dir: Path
) -> None:
    """Test errors on mlearn, meV/atom and meV/Å, of the potentials of Zuo et al. (2020)."""
    stem = data_dir / "potentials" / "lammps" / name
    weights = load_lammps_snap(f"{stem}.snapcoeff", f"{stem}.snapparam")
    model = Snap(**weights.arguments)
    model.load_state_dict(weights.tensors)
    file = data_dir / "mlearn" / element / "test.xyz"
    test = read(file, level_of_theory="PBE (VASP)", stress_key="stress")
    found = errors(PotentialCalculator(model), test).values
    assert found["energy_mae_meV_per_atom"] == pytest.approx(energy, abs=0.01)
    assert found["forces_mae_meV_per_A"] == pytest.approx(forces, abs=0.7)
    with torch.no_grad():
        model.coefficients[2] *= 1.3
    worse = errors(PotentialCalculator(model), test).values
    assert worse["energy_mae_meV_per_atom"] > energy + 0.05


def test_mixed_weights_of_frames_reach_the_fit() -> None:
    """A frame of weight zero does not act: its labels may be wrong."""
    source = potential("linear", seed=9)
    data = labelled(source, 8)
    wrong = data[0].results.replace(energy=data[0].results.need("energy") + 5.0)
    zero = dict.fromkeys(("energy", "forces", "stress"), 0.0)
    spoilt = [replace(data[0], results=wrong, weights=w) for w in (zero, {})]
    fits = [LeastSquares().fit(potential("linear"), Dataset([f, *data[1:]])).potential for f in spoilt]
    system = data[2].system
    pairs = find_pairs(system, source.cutoff)
    energies = [float(evaluate(p, system, pairs, forces=False).need("energy")) for p in (source, *fits)]
    assert energies[1] == pytest.approx(energies[0], abs=1e-6)
    assert abs(energies[2] - energies[0]) > 1e-4
