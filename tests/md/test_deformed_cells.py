"""Cells that are strained, or of which one length moves: exact strains, exact distribution."""

import numpy as np
import pytest
import torch
from ase.build import bulk
from ensemble_checks import FS, KELVIN, IdealGas, deviation, gas, watched
from md_toys import LennardJones

from rikiba.core import units
from rikiba.core.system import System
from rikiba.md.barostats.axis_rescaling import AxisRescaling
from rikiba.md.deformation import Deformation as Strain
from rikiba.md.operators import Drift, Kick
from rikiba.md.simulation import Simulation
from rikiba.md.splitting import Splitting
from rikiba.md.state import maxwell_boltzmann
from rikiba.md.thermostats.langevin import Langevin


def test_the_strain_is_what_was_asked_for() -> None:
    state = maxwell_boltzmann(
        System.from_ase([bulk("Ar", "fcc", 5.3, cubic=True).repeat(2)] * 2), 5.0, seed=1
    )
    for axis, rate in (("y", -0.05), ("xz", 0.05)):
        word = {"B": Kick(), "A": Drift(), "D": Strain(axis=axis, rate_per_ps=rate, interval=5)}  # type: ignore[arg-type]
        end = Simulation(LennardJones(), Splitting("BABD", word), state, timestep_fs=(2.0, 4.0)).run(50).state
        gradient = torch.linalg.inv(state.system.cell) @ end.system.cell
        for k, dt in enumerate((2.0, 4.0)):
            expected = np.eye(3)
            expected[(1, 1) if axis == "y" else (2, 0)] += rate * 50 * dt / 1000
            np.testing.assert_allclose(gradient[k], expected, atol=1e-12)
    still = {"A": Drift(), "D": Strain(axis="xy", rate_per_ps=0.1, interval=1)}
    cold = state.replace(velocities=torch.zeros_like(state.velocities))
    moved = Simulation(LennardJones(), Splitting("AD", still), cold, timestep_fs=1.0).run(10).state
    scaled = moved.system.positions @ torch.linalg.inv(moved.system.cell[0])
    before = cold.system.positions @ torch.linalg.inv(cold.system.cell[0])
    assert (scaled - before).abs().max() < 1e-12  # atoms are carried along


def test_only_the_named_axis_follows_the_pressure_and_has_its_distribution() -> None:
    """An ideal gas in a box of one moving length: V is Gamma(N + 1) distributed with the scale k_B T/P.

    With Langevin's friction, all N atoms are free and P(L) ∝ L^N exp(−PV/k_B T).
    """
    n_atoms, n_systems, edge = 4, 200, 10.0
    state = gas(n_atoms, n_systems, edge)
    expected = n_atoms + 1
    target = expected / edge**3 / units.gigapascal
    box = AxisRescaling(
        pressure_GPa=target, temperature_K=KELVIN, axes="y", time_constant_fs=1.5 * FS,
        compressibility_per_GPa=1 / target, interval=1,
    )  # fmt: skip
    bath = Langevin(temperature_K=KELVIN, friction_per_ps=2.0 * units.picosecond)  # mixes what never collides
    word = {"A": Drift(), "O": bath, "C": box}
    kept, _ = watched(IdealGas(), Splitting("AOC", word), state, 0.05, 1600, 10, positions=False, cells=True)
    lengths = torch.diagonal(kept.cells, dim1=2, dim2=3)[20:]
    assert bool((lengths[..., [0, 2]] == edge).all())
    volume = lengths[..., 1].numpy() * edge**2
    scale = edge**3 / expected
    mean, width = deviation(volume / scale, expected, expected)
    assert abs(mean) < 3.5 and abs(width) < 3.5
    # negative control: the distribution without the volume of the box in its measure is told apart
    wrong, _ = deviation(volume / scale, expected - 1, expected - 1)
    assert abs(wrong) > 6
    with pytest.raises(ValueError, match="each once"):
        AxisRescaling(pressure_GPa=0.0, temperature_K=1.0, axes="xx")
