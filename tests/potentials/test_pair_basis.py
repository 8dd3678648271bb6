"""The linear pair potential: its design rows are the derivatives of what autograd gives."""

import numpy as np
import pytest
import torch
from ase import Atoms
from hypothesis import given, settings
from hypothesis import strategies as st

from rikiba.calculators.autograd import evaluate
from rikiba.core.pairs import find_pairs
from rikiba.core.system import System
from rikiba.potentials.pair_basis import PairBasis


def structures(seed: int) -> System:
    """A skewed crystal smaller than the cutoff, and one that is periodic along two axes."""
    rng = np.random.default_rng(seed)
    out = []
    for n, pbc in ((3, True), (5, (True, True, False))):
        cell = np.diag([3.5, 4.0, 5.0]) + 0.5 * rng.normal(size=(3, 3))
        symbols = rng.choice(["Si", "O"], n)
        out.append(Atoms(symbols, scaled_positions=rng.random((n, 3)), cell=cell, pbc=pbc))
    return System.from_ase(out)


def potential(one_body: bool = True, **options) -> PairBasis:
    defaults = {"cutoff": 4.2, "n_basis": 5, "atomic_energies": {"Si": -5.0, "O": -2.0}, "seed": 3}
    return PairBasis(elements=("O", "Si"), one_body=one_body, **{**defaults, **options})


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10**6), one_body=st.booleans())
def test_design_times_coefficients_is_what_autograd_gives(seed: int, one_body: bool) -> None:
    system, model = structures(seed), potential(one_body)
    pairs = find_pairs(system, model.cutoff)
    results = evaluate(model, system, pairs, forces=True, stress=True)
    design = model.design(system, pairs, forces=True, stress=True)
    c = model.coefficients.detach()
    torch.testing.assert_close(design.energy @ c + design.offset, results.energy, rtol=0, atol=1e-11)
    torch.testing.assert_close(design.forces @ c, results.forces, rtol=0, atol=1e-11)
    torch.testing.assert_close(design.stress @ c, results.stress, rtol=0, atol=1e-12)


def test_every_single_row_is_the_response_to_its_own_coefficient() -> None:
    system, model = structures(1), potential()
    pairs = find_pairs(system, model.cutoff)
    design = model.design(system, pairs, forces=True, stress=True)
    for k in range(len(model.coefficients)):
        with torch.no_grad():
            model.coefficients.zero_()
            model.coefficients[k] = 1.0
        results = evaluate(model, system, pairs, forces=True, stress=True)
        torch.testing.assert_close(design.energy[:, k], results.energy - design.offset, rtol=0, atol=1e-11)
        torch.testing.assert_close(design.forces[..., k], results.forces, rtol=0, atol=1e-11)
        torch.testing.assert_close(design.stress[..., k], results.stress, rtol=0, atol=1e-12)


def test_forces_are_finite_differences_of_the_energy() -> None:
    system, model = structures(2), potential()
    forces = evaluate(model, system, find_pairs(system, model.cutoff)).forces
    h = 1e-4
    for atom, axis in ((0, 0), (4, 2), (6, 1)):
        energies = []
        for sign in (1.0, -1.0):
            moved = system.positions.clone()
            moved[atom, axis] += sign * h
            there = system.replace(positions=moved)
            energies.append(
                evaluate(model, there, find_pairs(there, model.cutoff), forces=False).energy.sum()
            )
        assert float(forces[atom, axis] + (energies[0] - energies[1]) / (2 * h)) == pytest.approx(
            0.0, abs=1e-6
        )


def test_energy_and_two_derivatives_vanish_at_the_cutoff() -> None:
    model = potential()
    r = torch.linspace(model.cutoff - 1e-2, model.cutoff, 11, dtype=torch.float64)
    phi, slope = model._functions(r), model._derivatives(r)
    # a C2 end: φ ∝ (r_c − r)³ and φ' ∝ (r_c − r)², so halving the distance divides by 8 and 4
    torch.testing.assert_close(phi[0] / phi[5], torch.full_like(phi[0], 8.0), rtol=0.1, atol=0)
    torch.testing.assert_close(slope[0] / slope[5], torch.full_like(phi[0], 4.0), rtol=0.1, atol=0)
    assert float(phi[-1].abs().max()) < 1e-12 and float(slope[-1].abs().max()) < 1e-12
    # negative control: well inside neither vanishes
    assert float(model._functions(r[:1] * 0 + 2.0).abs().max()) > 0.1


def test_a_pair_and_its_mirror_share_coefficients() -> None:
    model = potential(one_body=False, atomic_energies=None)
    energies = [
        float(evaluate(model, s, find_pairs(s, model.cutoff), forces=False).energy)
        for s in (System.from_ase(Atoms(o, positions=[[0, 0, 0], [0, 0, 2]])) for o in ("SiO", "OSi", "Si2"))
    ]
    assert energies[0] == pytest.approx(energies[1], abs=1e-14)
    assert abs(energies[0] - energies[2]) > 1e-6


@pytest.mark.parametrize(
    "options", [{"cutoff": 0.0}, {"n_basis": 0}, {"envelope_power": 1}, {"atomic_energies": {"Si": 1.0}}]
)
def test_bad_arguments_are_refused(options: dict) -> None:
    with pytest.raises(ValueError):
        potential(**options)
