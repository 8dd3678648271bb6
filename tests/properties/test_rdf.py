"""g(r) against the ideal gas and a perfect crystal."""

import numpy as np
import pytest
from ase.build import bulk

from rikiba.properties.rdf import Rdf, half_width
from rikiba.properties.trajectories import Trajectory

TRICLINIC = np.array([[11.0, 0.0, 0.0], [3.0, 10.0, 0.0], [-2.0, 2.5, 9.0]])


def gas(n_frames: int, numbers: list[int], seed: int) -> Trajectory:
    rng = np.random.default_rng(seed)
    positions = rng.random((n_frames, len(numbers), 3)) @ TRICLINIC
    return Trajectory(
        positions=positions,
        numbers=np.array(numbers),
        timestep_fs=1.0,
        cell=np.broadcast_to(TRICLINIC, (n_frames, 3, 3)),
        pbc=(True, True, True),
    )


@pytest.mark.parametrize("r_max", [None, 9.0])
def test_ideal_gas_is_one_for_few_atoms_in_a_triclinic_cell(r_max: float | None) -> None:
    # with 5 atoms the N² normalisation would give 0.8
    t = gas(1500, [18] * 5, 1)
    curve = Rdf(r_max=r_max, bin_width=0.3).analyse(t).figures[0].curves[0]
    g, error = np.array(curve.y), np.array(curve.error)
    assert 0.3 * (len(g)) == pytest.approx(r_max or 4.28, abs=0.3)
    deviation = (g - 1.0)[3:] / error[3:]
    assert np.abs(deviation).max() < 4.0
    assert 0.5 < deviation.std() < 1.5
    assert np.average(g[3:], weights=error[3:] ** -2) == pytest.approx(1.0, abs=0.02)


def test_partials_of_a_mixture_are_one() -> None:
    record = Rdf(bin_width=0.5).analyse(gas(1500, [11] * 3 + [17] * 4, 2))
    assert [c.label for c in record.figures[0].curves] == ["Na-Na", "Na-Cl", "Cl-Cl"]
    for c in record.figures[0].curves:
        assert np.abs((np.array(c.y[3:]) - 1.0) / np.array(c.error[3:])).max() < 4.5


def test_shells_of_fcc() -> None:
    atoms = bulk("Cu", "fcc", a=3.6, cubic=True).repeat(3)
    atoms.rattle(1e-4, seed=0)
    t = Trajectory.from_ase([atoms, atoms], timestep_fs=1.0)
    n = Rdf(bin_width=0.1).analyse(t).figures[1].curves[0]
    at = dict(zip(np.round(n.x, 6).tolist(), n.y, strict=True))
    # 12 at a/√2 = 2.546, 6 at a = 3.6, 24 at a·√(3/2) = 4.409 Å
    assert at[3.0] == pytest.approx(12.0)
    assert at[4.0] == pytest.approx(18.0)
    assert at[4.8] == pytest.approx(42.0)


def test_half_width_of_a_skewed_cell() -> None:
    assert half_width(np.array([[10.0, 0, 0], [9.0, 10.0, 0], [0, 0, 30.0]])) == pytest.approx(
        0.5 * 100.0 / np.hypot(9.0, 10.0)
    )


def test_a_molecule_is_refused() -> None:
    t = Trajectory(positions=np.random.rand(3, 2, 3), numbers=np.array([1, 1]), timestep_fs=1.0)
    with pytest.raises(ValueError, match="periodic"):
        Rdf().analyse(t)
