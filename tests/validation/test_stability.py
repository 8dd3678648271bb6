"""Survival: a bound molecule lives, an unbound one and a collapsing one do not."""

import pytest
from ase import Atoms
from ase.build import bulk

from rikiba.calculators.autograd import PotentialCalculator
from rikiba.core.system import System
from rikiba.potentials.lennard_jones import LennardJones
from rikiba.potentials.morse import Morse
from rikiba.validation.stability import closest_contact, survival


def morse(depth: float) -> PotentialCalculator:
    return PotentialCalculator(
        Morse(
            depth_eV={"N-N": depth},
            alpha_per_A={"N-N": 2.0},
            distance={"N-N": 1.1},
            cutoff=6.0,
            switch_from=5.0,
        )
    )


def test_a_bound_molecule_lives_and_conserves_energy() -> None:
    record = survival(
        morse(9.8),
        Atoms("N2", [[0, 0, 0], [0, 0, 1.1]]),
        timestep_fs=0.25,
        nvt_ps=0.5,
        nve_ps=0.5,
        replicas=4,
    )
    assert record["survivors"] == 4
    assert record.verdict in ("pass", "undecided")
    assert record["nvt_mean_temperature_K"] == pytest.approx(300.0, rel=0.9)


def test_a_weak_bond_breaks() -> None:
    record = survival(
        morse(0.05),
        Atoms("N2", [[0, 0, 0], [0, 0, 1.1]]),
        temperature_K=2000.0,
        timestep_fs=0.5,
        nvt_ps=1.0,
        nve_ps=0.1,
        friction_per_ps=20.0,
        replicas=3,
    )
    assert record.verdict == "fail"
    assert record["survivors"] < 3
    assert any("bond" in row[1] for row in record.tables[0].rows)


def test_a_reckless_timestep_is_caught() -> None:
    """Energy is not conserved at 4 fs with a 14 fs vibration: a death or a drift, never a pass."""
    record = survival(
        morse(9.8), Atoms("N2", [[0, 0, 0], [0, 0, 1.1]]), timestep_fs=7.0, nvt_ps=0.5, nve_ps=1.0, replicas=2
    )
    assert record.verdict == "fail"


def test_a_crystal_whose_bonds_are_not_watched() -> None:
    lj = PotentialCalculator(LennardJones(epsilon_eV={"Ar": 0.0104}, sigma={"Ar": 3.4}, cutoff=6.5))
    atoms = bulk("Ar", "fcc", a=5.3, cubic=True).repeat(2)
    record = survival(
        lj,
        atoms,
        temperature_K=20.0,
        timestep_fs=4.0,
        nvt_ps=1.0,
        nve_ps=1.0,
        replicas=1,
        bonds_must_hold=False,
    )
    assert record["survivors"] == 1
    assert record.verdict != "fail"


def test_closest_contact() -> None:
    ratio, i, j = closest_contact(System.from_ase(Atoms("N2", [[0, 0, 0], [0, 0, 0.71]])))
    assert ratio == pytest.approx(0.5)
    assert {i, j} == {0, 1}
