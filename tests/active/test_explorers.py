"""Explorers give frames in groups, reproducibly, and at the temperature asked for."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule

from rikiba.active.explorers.molecular_dynamics import MolecularDynamics
from rikiba.active.explorers.random_displacements import RandomDisplacements
from rikiba.calculators.autograd import PotentialCalculator
from rikiba.calculators.base import NonFiniteError
from rikiba.core.results import Results
from rikiba.core.system import System
from rikiba.potentials.morse import Morse


def copper() -> tuple[PotentialCalculator, Atoms]:
    morse = Morse(depth_eV={"Cu-Cu": 0.34}, alpha_per_A={"Cu-Cu": 1.36}, distance={"Cu-Cu": 2.87}, cutoff=5.0)
    return PotentialCalculator(morse), bulk("Cu", cubic=True) * (2, 1, 1)


def test_trajectories_are_groups_and_parts_are_the_whole() -> None:
    calculator, seed = copper()
    explorer = MolecularDynamics(
        temperatures_K=(300.0, 900.0), trajectories=2, duration_fs=60, interval_fs=10
    )
    whole = explorer.explore(calculator, [seed])
    parts = [frame for part in explorer.parts() for frame in part.explore(calculator, [seed])]
    assert [f.info["group"] for f in whole] == [f.info["group"] for f in parts]
    for a, b in zip(whole, parts, strict=True):
        np.testing.assert_array_equal(a.positions, b.positions)
    groups = {f.info["group"] for f in whole}
    assert groups == {"md 300 K 1", "md 300 K 2", "md 900 K 1", "md 900 K 2"}
    assert len(whole) == 4 * 6
    first = {g: next(f.positions for f in whole if f.info["group"] == g) for g in groups}
    assert np.abs(first["md 300 K 1"] - first["md 300 K 2"]).max() > 1e-3

    def spread(t: float) -> float:
        own = [f for f in whole if f.info["temperature_K"] == t]
        return float(np.std([f.positions - seed.positions for f in own]))

    assert spread(900.0) > 1.2 * spread(300.0)


def test_a_calculator_that_gives_up_ends_its_trajectory() -> None:
    calculator, seed = copper()
    calls = [0]

    def tired(system: System, *, forces: bool = True, stress: bool = False) -> Results:
        calls[0] += 1
        if calls[0] > 80:
            raise NonFiniteError("no answer")
        return calculator(system, forces=forces, stress=stress)

    frames = MolecularDynamics(temperatures_K=(300.0,), trajectories=1, duration_fs=200).explore(
        tired, [seed]
    )
    assert 1 <= len(frames) < 20
    assert "no answer" in frames[-1].info["stopped"]


def test_displacements_have_the_amplitude_and_keep_the_group() -> None:
    calculator, seed = copper()
    seed.info["group"] = "parent"
    frames = RandomDisplacements(amplitude=0.05, frames=200).explore(calculator, [seed])
    assert {f.info["group"] for f in frames} == {"parent"}
    d = np.array([f.positions - seed.positions for f in frames])
    # 200 × 8 × 3 normal numbers: relative error of their deviation is 1/√(2·4800) ≈ 1 %
    assert d.std() == pytest.approx(0.05, rel=0.04)


def test_displacements_keep_atoms_apart() -> None:
    calculator, _ = copper()
    water = molecule("H2O")
    frames = RandomDisplacements(amplitude=0.25, frames=60, min_distance=0.7).explore(calculator, [water])
    shortest = min(f.get_distance(0, k) for f in frames for k in (1, 2))
    assert shortest >= 0.7
    loose = RandomDisplacements(amplitude=0.25, frames=60, min_distance=0.01).explore(calculator, [water])
    assert min(f.get_distance(0, k) for f in loose for k in (1, 2)) < shortest


@pytest.mark.parametrize(
    "build",
    [
        lambda: MolecularDynamics(temperatures_K=()),
        lambda: MolecularDynamics(temperatures_K=(-1.0,)),
        lambda: MolecularDynamics(interval_fs=0.1),
        lambda: RandomDisplacements(amplitude=0.0),
        lambda: RandomDisplacements(frames=0),
    ],
)
def test_bad_arguments(build) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match="given"):
        build()
