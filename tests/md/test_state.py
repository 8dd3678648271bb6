"""States: temperature, degrees of freedom, Maxwell–Boltzmann velocities."""

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from ase.constraints import FixAtoms, FixInternals
from scipy import stats

from rikiba.core import units
from rikiba.core.system import System
from rikiba.md.state import State, maxwell_boltzmann


def gas(n_systems: int, n_atoms: int, pbc: bool) -> System:
    rng = np.random.default_rng(0)
    one = lambda: Atoms("H" * n_atoms, rng.uniform(0, 9, (n_atoms, 3)), cell=[9, 9, 9], pbc=pbc)  # noqa: E731
    return System.from_ase([one() for _ in range(n_systems)])


@pytest.mark.parametrize(
    ("n_atoms", "pbc", "removed"), [(3, True, 3), (4, False, 6), (2, False, 5), (1, False, 3)]
)
def test_mean_temperature_with_the_right_dof(n_atoms: int, pbc: bool, removed: int) -> None:
    state = maxwell_boltzmann(gas(1500, n_atoms, pbc), 300.0, seed=1)
    assert (state.dof_removed == removed).all() and (state.dof == 3 * n_atoms - removed).all()
    assert state.momentum.abs().max() < 1e-12
    if not pbc:
        assert state.angular_momentum.abs().max() < 1e-10
    dof = 3 * n_atoms - removed
    if dof == 0:
        assert state.temperature_K.isnan().all()
        return
    error = 300.0 * (2 / dof / 1500) ** 0.5
    assert abs(float(state.temperature_K.mean()) - 300) < 4 * error
    wrong = 2 * state.kinetic_energy / (3 * n_atoms * units.boltzmann)  # negative control: nothing subtracted
    assert float(wrong.mean()) == pytest.approx(300 * dof / (3 * n_atoms), rel=0.1)
    assert abs(float(wrong.mean()) - 300) > 10 * error


def test_kinetic_energy_distribution() -> None:
    """K/kT follows a gamma distribution of shape N_f/2; with the wrong N_f it does not."""
    state = maxwell_boltzmann(gas(2000, 4, True), 77.0, seed=3)
    k = (state.kinetic_energy / (units.boltzmann * 77.0)).numpy()
    assert stats.kstest(k, stats.gamma(a=9 / 2).cdf).pvalue > 1e-3
    assert stats.kstest(k, stats.gamma(a=12 / 2).cdf).pvalue < 1e-6


def test_components_are_gaussian_and_scale_with_mass() -> None:
    system = System.from_ase(Atoms("HAr" * 2000, np.zeros((4000, 3)), cell=[9, 9, 9], pbc=True))
    v = maxwell_boltzmann(system, 500.0, seed=2, remove_momentum=False).velocities
    for part, mass in ((v[0::2], system.masses[0]), (v[1::2], system.masses[1])):
        scaled = part / torch.sqrt(units.boltzmann * 500.0 / mass)
        assert stats.kstest(scaled.flatten().numpy(), "norm").pvalue > 1e-3


def test_temperatures_and_seeds_of_each_system() -> None:
    system = gas(3, 200, True)
    state = maxwell_boltzmann(system, (10.0, 0.0, 1000.0), seed=[5, 6, 5])
    assert torch.allclose(
        state.temperature_K, torch.tensor([10.0, 0.0, 1000.0]).double(), rtol=0.25, atol=1e-9
    )
    assert torch.allclose(state.velocities[:200] * 10, state.velocities[400:], rtol=1e-12)
    assert maxwell_boltzmann(system, 10.0, seed=4).seeds.tolist() == [4, 5, 6]


def test_linear_molecule_keeps_two_rotations() -> None:
    assert maxwell_boltzmann(System.from_ase(molecule("CO2")), 300.0).dof_removed.tolist() == [5]
    assert maxwell_boltzmann(System.from_ase(molecule("H2O")), 300.0).dof_removed.tolist() == [6]
    assert maxwell_boltzmann(
        System.from_ase(molecule("H2O")), 300.0, remove_rotation=False
    ).dof_removed.tolist() == [3]


def test_momentum_dof_is_detected() -> None:
    system = gas(1, 5, True)
    v = torch.randn(5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert State.of(system, v).dof_removed.tolist() == [0]
    assert State.of(system, v - v.mean(0)).dof_removed.tolist() == [3]
    assert State.of(system, torch.cat([v[:4] - v[:4].mean(0), torch.zeros(1, 3)])).dof_removed.tolist() == [3]
    assert State.of(system, fixed=torch.tensor([True] + [False] * 4)).dof_removed.tolist() == [0]


def test_ase_round_trip() -> None:
    atoms = bulk("Cu", cubic=True)
    rng = np.random.default_rng(0)
    v = rng.normal(size=(4, 3))
    v[1] = 0
    atoms.set_velocities(v)
    atoms.set_constraint(FixAtoms([1]))
    state = State.from_ase([atoms, bulk("Al", cubic=True)])
    assert state.dof.tolist() == [9, 9]  # three free atoms; four atoms at rest
    back = state.to_ase()
    assert np.allclose(back[0].get_velocities(), v) and back[0].constraints[0].get_indices().tolist() == [1]
    assert float(state.kinetic_energy[0]) == pytest.approx(atoms.get_kinetic_energy())
    atoms.set_constraint(FixInternals(bonds=[[2.5, [0, 1]]]))
    with pytest.raises(ValueError, match="FixAtoms"):
        State.from_ase(atoms)


def test_selection() -> None:
    state = maxwell_boltzmann(gas(4, 3, True), 300.0, seed=9)
    part = state[[2, 0]]
    assert torch.equal(part.velocities, torch.cat([state.velocities[6:9], state.velocities[0:3]]))
    assert part.seeds.tolist() == [11, 9]


def test_bad_input() -> None:
    system = gas(2, 3, True)
    for kwargs, message in (
        ({"masses": torch.zeros(6)}, "masses"),
        ({"velocities": torch.full((6, 3), torch.nan)}, "velocities"),
        ({"fixed": torch.ones(5, dtype=torch.bool)}, "fixed"),
        ({"seed": [1, 2, 3]}, "seed"),
    ):
        with pytest.raises(ValueError, match=message):
            State.of(system, **kwargs)
    with pytest.raises(ValueError, match="Fixed atoms"):
        State.of(system, torch.ones(6, 3), fixed=torch.ones(6, dtype=torch.bool))
    with pytest.raises(ValueError, match="temperature_K"):
        maxwell_boltzmann(system, -5.0)
