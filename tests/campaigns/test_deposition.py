"""Growth on a surface: cold argon sticks, fast argon bounces or sputters; balance, ratio, zones, restart."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import fcc100
from ase.io import read

from rikiba.calculators.autograd import PotentialCalculator
from rikiba.campaigns.growth import Growth
from rikiba.campaigns.protocols.deposition import Deposition
from rikiba.core import units
from rikiba.core.system import System
from rikiba.md.operators import Drift, Kick
from rikiba.md.reporters.in_memory import InMemory
from rikiba.md.simulation import Simulation
from rikiba.md.splitting import Splitting
from rikiba.md.state import maxwell_boltzmann
from rikiba.md.thermostats.zone_langevin import ZoneLangevin
from rikiba.potentials.lennard_jones import LennardJones


def calculator() -> PotentialCalculator:
    return PotentialCalculator(
        LennardJones(epsilon_eV={"Ar": 0.0104, "Kr": 0.014}, sigma={"Ar": 3.4, "Kr": 3.65}, cutoff=7.0)
    )


def surface() -> Atoms:
    atoms = fcc100("Ar", (3, 3, 4), a=5.3, vacuum=12.0)
    atoms.pbc = (True, True, False)
    atoms.info.clear()
    del atoms.arrays["tags"]
    return atoms


def rain(**more: Any) -> Deposition:
    settings: dict[str, Any] = {
        "arrivals": 8, "rate_per_ps": 1.0, "species": {"Ar": 1.0, "Kr": 3.0}, "energy_eV": 0.01,
        "temperature_K": 10.0, "timestep_fs": 8.0, "fixed_thickness": 1.0, "zone_thickness": 3.0,
        "height": 6.0, "settle_ps": 4.0, "interval": 50, "checkpoint_interval": 40, "seed": 5,
    }  # fmt: skip
    return Deposition(**{**settings, **more})


def test_slow_atoms_stick_and_fast_ones_leave(tmp_path: Path) -> None:
    (slow,) = rain().run(calculator(), surface(), out=tmp_path / "slow")
    assert slow["n_arrived"] == 8 and slow["n_left"] == 0 and slow["n_final"] == 36 + 8
    assert slow.verdict == "pass" and slow["sticking_Ar"] == slow["sticking_Kr"] == 1.0
    fast = rain(energy_eV=20.0, timestep_fs=2.0, rate_per_ps=3.0, species={"Ar": 1.0}, settle_ps=4.0)
    (sputtered,) = fast.run(calculator(), surface(), out=tmp_path / "fast")
    assert sputtered["n_left"] > 2 and sputtered["balanced"]
    assert sputtered["n_final"] == 36 + 8 - sputtered["n_left"]
    # zones: what is fixed has not moved
    frames = read(tmp_path / "slow" / "growth.xyz", index=":")
    low = surface().positions[:, 2] < surface().positions[:, 2].min() + 1.0
    assert len(frames[0]) == 37 and len(frames[-1]) == 44
    np.testing.assert_allclose(frames[-1].positions[:36][low], surface().positions[low], atol=1e-7)


def test_elements_arrive_in_the_requested_ratio() -> None:
    """1000 drawn arrivals: shares within three standard deviations; energy and angle as asked for."""
    protocol = rain(arrivals=1000, angle_degrees=60.0, energy_eV=0.5)
    start = protocol._begin(surface(), np.zeros(36, dtype=bool))
    drawn = []
    for k in range(1000):
        grown = protocol._arrival(start, np.random.default_rng([5, k]))
        drawn.append(int(grown.state.system.numbers[-1]))
        if k < 20:
            v, m = grown.state.velocities[-1], float(grown.state.masses[-1])
            assert 0.5 * m * float(v @ v) == pytest.approx(0.5)
            assert float(-v[2] / v.norm()) == pytest.approx(0.5)
            assert float(grown.state.system.positions[-1, 2]) > surface().positions[:, 2].max() + 5.9
    krypton = np.mean(np.array(drawn) == 36)
    assert abs(krypton - 0.75) < 3 * np.sqrt(0.75 * 0.25 / 1000)
    assert abs(krypton - 0.5) > 10 * np.sqrt(0.25 / 1000)


def test_a_growing_system_goes_on_bit_for_bit(tmp_path: Path) -> None:
    (whole,) = rain(arrivals=3, settle_ps=1.0).run(calculator(), surface(), out=tmp_path / "whole")

    class Stopping:
        """A calculator that is stopped by hand at a call."""

        def __init__(self, at: int) -> None:
            self.inner, self.left = calculator(), at

        def __call__(self, system: System, *, forces: bool = True, stress: bool = False) -> Any:
            self.left -= 1
            if self.left < 0:
                raise KeyboardInterrupt
            return self.inner(system, forces=forces, stress=stress)

    n_steps = Growth.load(tmp_path / "whole" / "growth.checkpoint")[0].state.step
    for at in (n_steps // 4, n_steps // 2, n_steps - 5):
        folder = tmp_path / f"{at}"
        with pytest.raises(KeyboardInterrupt):
            rain(arrivals=3, settle_ps=1.0).run(Stopping(at), surface(), out=folder)
        (again,) = rain(arrivals=3, settle_ps=1.0).run(calculator(), surface(), out=folder, resume=True)
        assert again.to_json() == whole.to_json()
        assert (folder / "growth.xyz").read_bytes() == (tmp_path / "whole" / "growth.xyz").read_bytes()
        a, b = (Growth.load(f / "growth.checkpoint")[0] for f in (folder, tmp_path / "whole"))
        assert torch.equal(a.state.velocities, b.state.velocities) and a.state.step == b.state.step


def test_only_the_zone_is_thermostatted() -> None:
    """Free particles: those of the zone reach the bath's temperature, the others keep their velocities."""
    system = System.from_ase([Atoms("H600", np.arange(1800).reshape(600, 3) * 5.0)])
    state = maxwell_boltzmann(system, 100.0, seed=1, remove_momentum=False)
    zone = list(range(0, 600, 2))
    bath = ZoneLangevin(temperature_K=900.0, friction_per_ps=20.0, atoms=zone)
    free = PotentialCalculator(LennardJones(epsilon_eV={"H": 0.0}, sigma={"H": 1.0}, cutoff=2.0))
    word = Splitting("BAOAB", {"B": Kick(), "A": Drift(), "O": bath})
    kept = InMemory(interval=10, positions=False, velocities=True)
    Simulation(free, word, state, timestep_fs=2.0, reporters=[kept]).run(600)
    speeds = (kept.velocities[20:, zone] ** 2).mean() * float(state.masses[0]) / units.boltzmann
    assert float(speeds) == pytest.approx(900.0, rel=0.05)
    assert torch.equal(kept.velocities[-1, 1::2], state.velocities[1::2])


def test_what_makes_no_sense_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="positive shares"):
        rain(species={"Ar": 0.0})
    with pytest.raises(ValueError, match="below 90"):
        rain(angle_degrees=90.0)
    flat = surface()
    flat.pbc = True
    with pytest.raises(ValueError, match="periodic along x and y only"):
        rain().run(calculator(), flat, out=tmp_path)
    with pytest.raises(ValueError, match="zone_thickness"):
        rain(zone_thickness=0.1).run(calculator(), surface(), out=tmp_path)
