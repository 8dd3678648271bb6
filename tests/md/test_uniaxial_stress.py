"""A crystal under another pressure along one axis takes the shape that its compliances say."""

import numpy as np
import pytest
from ase.build import bulk

from rikiba.calculators.autograd import PotentialCalculator
from rikiba.core.system import System
from rikiba.md.barostats.axis_rescaling import AxisRescaling
from rikiba.md.operators import Drift, Kick
from rikiba.md.reporters.in_memory import InMemory
from rikiba.md.simulation import Simulation
from rikiba.md.splitting import Splitting
from rikiba.md.state import maxwell_boltzmann
from rikiba.md.thermostats.langevin import Langevin
from rikiba.potentials.lennard_jones import LennardJones
from rikiba.properties.elastic import Elastic

A0, KELVIN, LOAD_GPA = 5.25055404, 0.05, 0.02
"""Lattice constant without stress, Å."""


def test_strains_are_stress_times_compliance() -> None:
    """Pushed in four copies and pulled in four: ε_x = −P S₁₁, ε_y = ε_z = −P S₁₂, and the stress is −P."""
    calculator = PotentialCalculator(LennardJones(epsilon_eV={"Ar": 0.0104}, sigma={"Ar": 3.4}, cutoff=7.5))
    c = np.array(Elastic().compute(calculator, bulk("Ar", "fcc", A0, cubic=True))["C_GPa"])
    c11, c12 = c[0, 0], c[0, 1]
    compliance = np.linalg.inv(c)[:3, 0]
    loads = [LOAD_GPA] * 4 + [-LOAD_GPA] * 4
    cell = {"temperature_K": KELVIN, "time_constant_fs": 100.0, "compressibility_per_GPa": 0.35}
    word = Splitting(
        "BAOABXS",
        {
            "B": Kick(),
            "A": Drift(),
            "O": Langevin(temperature_K=KELVIN, friction_per_ps=2.0),
            "X": AxisRescaling(pressure_GPa=tuple(loads), axes="x", **cell),
            "S": AxisRescaling(pressure_GPa=0.0, axes="yz", **cell),
        },
    )
    frames = [bulk("Ar", "fcc", A0, cubic=True).repeat(2)] * 8
    state = maxwell_boltzmann(System.from_ase(frames), KELVIN, seed=3)
    kept = InMemory(interval=20, positions=False, cells=True, stress=True)
    Simulation(calculator, word, state, timestep_fs=6.0, reporters=[kept]).run(1200)
    lengths = kept.cells.diagonal(dim1=2, dim2=3).numpy()[30:].mean(0) / (2 * A0)
    strain = (lengths[:4].mean(0) - lengths[4:].mean(0)) / 2.0
    assert strain == pytest.approx(-LOAD_GPA * compliance, rel=0.05)
    stress = kept.stress_GPa.diagonal(dim1=2, dim2=3).numpy()[30:].mean(0).reshape(2, 4, 3).mean(1)
    assert -stress[:, 0] == pytest.approx([LOAD_GPA, -LOAD_GPA], rel=0.05)
    assert np.abs(stress[:, 1:]).max() < 0.05 * LOAD_GPA
    # negative control: the other strains are not those of a crystal without transverse contraction
    assert abs(compliance[1]) > 0.2 * compliance[0] and c11 > c12
