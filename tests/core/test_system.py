"""System: round trips, derived quantities, selection, errors."""

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, fcc111, molecule
from hypothesis import given, settings
from hypothesis import strategies as st

from rikiba.core import units
from rikiba.core.results import Results
from rikiba.core.system import System


def random_atoms(seed: int) -> Atoms:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 7))
    pbc = rng.random(3) < 0.5
    cell = np.eye(3) * 5 + rng.normal(size=(3, 3))
    if not pbc.any() and rng.random() < 0.5:
        cell[:] = 0
    return Atoms(numbers=rng.integers(1, 90, n), positions=rng.normal(size=(n, 3)) * 9, cell=cell, pbc=pbc)


@given(st.lists(st.integers(0, 10_000), min_size=1, max_size=4))
@settings(max_examples=30, deadline=None)
def test_ase_round_trip(seeds: list[int]) -> None:
    frames = [random_atoms(s) for s in seeds]
    for k, a in enumerate(frames):
        a.info.update(name=f"frame {k}", charge=float(k), nested={"a": 1})
    system = System.from_ase(frames)
    for before, after in zip(frames, system.to_ase(), strict=True):
        assert before == after
        assert before.info == after.info
    derived = [(a.get_volume() if a.cell.rank == 3 else 0.0, a.get_masses().sum()) for a in frames]
    np.testing.assert_allclose(system.volume, [v for v, _ in derived], rtol=1e-12)
    np.testing.assert_allclose(system.total(system.masses), [m for _, m in derived], rtol=1e-12)
    np.testing.assert_allclose(
        system.centre_of_mass, [a.get_center_of_mass() for a in frames], rtol=1e-9, atol=1e-9
    )


def test_optional_fields_travel() -> None:
    a = molecule("H2O")
    a.set_tags([1, 2, 3])
    a.set_initial_magnetic_moments([0.5, 0, -1])
    a.info["spin"] = 3
    back = System.from_ase(a).to_ase()[0]
    assert back.get_tags().tolist() == [1, 2, 3]
    assert back.get_initial_magnetic_moments().tolist() == [0.5, 0, -1]
    assert back.info["spin"] == 3


def test_density_of_silicon() -> None:
    """8 × 28.085 u in (5.431 Å)³ is 2.329 g/cm³."""
    assert float(System.from_ase(bulk("Si", cubic=True, a=5.431)).density_g_cm3) == pytest.approx(
        2.329, abs=1e-3
    )


def test_dipole_of_two_charges() -> None:
    s = System.from_ase(Atoms("NaCl", positions=[[0, 0, 0], [0, 0, 2.0]]))
    q = torch.tensor([1.0, -1.0], dtype=torch.float64)
    assert float(s.dipole(q)[0, 2]) / units.debye == pytest.approx(-2.0 / 0.20819434)


def test_empty_and_single() -> None:
    empty = System.from_ase(Atoms())
    assert (empty.n_atoms, empty.n_systems) == (0, 1)
    assert float(empty.total(empty.masses)) == 0.0
    assert System.from_ase([]).n_systems == 0


def test_select_and_concatenate() -> None:
    frames = [molecule("H2O"), bulk("Cu"), fcc111("Al", (1, 1, 2), vacuum=5)]
    s = System.from_ase(frames)
    chosen = s[[2, 0]].to_ase()
    assert chosen[0] == frames[2] and chosen[1] == frames[0]
    again = System.cat([s[0], s[1:]])
    assert torch.equal(again.positions, s.positions) and torch.equal(again.system_index, s.system_index)
    with pytest.raises(ValueError, match="lack 'charge'"):
        System.cat([s[0], s[0].replace(charge=torch.ones(1, dtype=torch.float64))])


def test_totals_count_owned_atoms_only() -> None:
    s = System.from_ase([molecule("H2O"), molecule("H2")])
    ones = torch.ones(5)
    assert s.total(ones).tolist() == [3.0, 2.0]
    ghosts = s.replace(owned=torch.tensor([True, False, False, True, True]))
    assert ghosts.total(ones).tolist() == [1.0, 2.0]


@pytest.mark.parametrize(
    ("atoms", "message"),
    [
        (Atoms("H", positions=[[np.nan, 0, 0]]), "not finite"),
        (Atoms("H", pbc=[True, False, False]), "lattice vector is zero"),
        (Atoms("H", cell=[[1, 0, 0], [2, 0, 0], [0, 0, 1]], pbc=True), "linearly dependent"),
    ],
)
def test_impossible_structures(atoms: Atoms, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        System.from_ase([molecule("H2O"), atoms])


def test_results_reach_ase() -> None:
    frames = [molecule("H2O"), molecule("N2")]
    s = System.from_ase(frames)
    r = Results(energy=torch.tensor([1.0, 2.0]), forces=torch.arange(15.0).reshape(5, 3))
    out = s.to_ase(r)
    assert out[1].get_potential_energy() == 2.0
    assert out[1].get_forces().tolist() == [[9, 10, 11], [12, 13, 14]]


def test_results_arithmetic_and_selection() -> None:
    s = System.from_ase([molecule("H2O"), molecule("N2")])
    r = Results(
        energy=torch.tensor([1.0, 2.0]),
        forces=torch.ones(5, 3),
        spread=Results(energy=torch.tensor([3.0, 4.0])),
    )
    doubled = r * -2.0
    assert doubled.need("energy").tolist() == [-2.0, -4.0]
    assert doubled.spread is not None and doubled.spread.need("energy").tolist() == [6.0, 8.0]
    both = r + r
    assert both.spread is not None
    torch.testing.assert_close(both.spread.need("energy"), torch.tensor([3.0, 4.0]) * 2**0.5)
    assert r.select(s, [1]).need("forces").shape == (2, 3)
    with pytest.raises(ValueError, match="only one side has 'forces'"):
        r + Results(energy=torch.ones(2))
    with pytest.raises(ValueError, match="'stress' is needed but these results hold energy, forces"):
        r.need("stress")


def test_results_select_counts_from_the_end_and_may_select_nothing() -> None:
    s = System.from_ase([molecule("H2O"), molecule("N2")])
    r = Results(energy=torch.tensor([1.0, 2.0]), forces=torch.arange(15.0).reshape(5, 3))
    last = r.select(s, [-1])
    assert last.need("energy").tolist() == [2.0]
    assert last.need("forces").tolist() == [[9, 10, 11], [12, 13, 14]]
    none = r.select(s, [])
    assert none.need("energy").shape == (0,) and none.need("forces").shape == (0, 3)
    with pytest.raises(IndexError):
        r.select(s, [2])
