"""A million steps at constant energy of 64 atoms: does anything drift, does anything break?

    python benchmarks/long_nve/run.py lennard_jones [--steps 1000000] [--folder runs/long_nve]
    python benchmarks/long_nve/run.py schnet
    python benchmarks/long_nve/run.py snap

`lennard_jones` is argon at 40 K with 4 fs; `schnet` and `snap` are silicon at 300 K with 1.5 fs, a small
SchNet trained for half a minute (float32, tabulated) and a linear SNAP fitted in a few seconds, both to
Stillinger and Weber's potential. A run that was killed goes on from its checkpoint when the same line is
given again. Drift, interval and verdict, the alarms of the health monitor and time go into results.json
beside this file.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch
from ase import Atoms
from ase.build import bulk

from rikiba.calculators.autograd import PotentialCalculator
from rikiba.core.system import System
from rikiba.data import formats
from rikiba.data.dataset import Dataset
from rikiba.data.statistics import computed_arguments
from rikiba.md.drift import drift
from rikiba.md.ensembles.nve import NVE
from rikiba.md.limits import Limits
from rikiba.md.reporters.hdf5 import Hdf5, read_hdf5
from rikiba.md.reporters.health import Health
from rikiba.md.simulation import Simulation
from rikiba.md.state import maxwell_boltzmann
from rikiba.potentials.base import Potential
from rikiba.potentials.lennard_jones import LennardJones
from rikiba.potentials.schnet import SchNet
from rikiba.potentials.snap import Snap
from rikiba.potentials.stillinger_weber import StillingerWeber
from rikiba.training.least_squares import LeastSquares
from rikiba.training.trainer import Trainer

HERE = Path(__file__).resolve().parent
TOLERANCE = 1.0
"""meV/atom/ns."""


def argon() -> tuple[PotentialCalculator, Atoms, float, float]:
    """Calculator, structure, temperature (K) of the velocities, timestep (fs)."""
    potential = LennardJones(epsilon_eV={"Ar": 0.0104}, sigma={"Ar": 3.4}, cutoff=8.0)
    return PotentialCalculator(potential), bulk("Ar", "fcc", a=5.3, cubic=True).repeat((4, 2, 2)), 80.0, 4.0


def silicon_frames() -> Dataset:
    """Rattled crystals with the energies and forces of Stillinger and Weber's potential."""
    teacher = PotentialCalculator(StillingerWeber())
    frames = []
    for k in range(24):
        atoms = bulk("Si", "diamond", a=5.431 * (0.97 + 0.0025 * k), cubic=True)
        atoms.rattle(0.05 + 0.01 * (k % 10), seed=k)
        system = System.from_ase(atoms)
        frames += system.to_ase(teacher(system))
    return formats.from_ase(frames, level_of_theory="Stillinger-Weber", group="rattled")


def silicon(potential: Potential) -> tuple[PotentialCalculator, Atoms, float, float]:
    return PotentialCalculator(potential), bulk("Si", "diamond", a=5.431, cubic=True).repeat(2), 600.0, 1.5


def snap() -> tuple[PotentialCalculator, Atoms, float, float]:
    model = Snap(elements=("Si",), cutoff=4.7, twojmax=6)
    return silicon(LeastSquares(ridge=1e-10).fit(model, silicon_frames()).potential)


def schnet() -> tuple[PotentialCalculator, Atoms, float, float]:
    data = silicon_frames()
    known = computed_arguments(data, 4.5)
    given = {name: known[name] for name in ("elements", "atomic_energies", "scale", "shift")}
    model = SchNet(**given, cutoff=4.5, channels=32, n_layers=2)
    trainer = Trainer(batch_size=4, max_epochs=400, learning_rate=0.005)
    return silicon(trainer.fit(model, data).potential)


SYSTEMS = {"lennard_jones": argon, "schnet": schnet, "snap": snap}


def run(name: str, steps: int, folder: Path) -> dict[str, Any]:
    torch.set_num_threads(1)
    calculator, atoms, kelvin, timestep = SYSTEMS[name]()
    assert len(atoms) == 64
    folder.mkdir(parents=True, exist_ok=True)
    store = Hdf5(path=folder / f"{name}.h5", interval=200, velocities=False, single_precision=True)
    watch = Health(path=folder / f"{name}.alarms", interval=200, window=100, solid=True)
    simulation = Simulation(
        calculator,
        NVE(),
        maxwell_boltzmann(System.from_ase(atoms), kelvin, seed=1),
        timestep_fs=timestep,
        reporters=[store, watch],
        checkpoint=folder / f"{name}.checkpoint",
        checkpoint_interval=20000,
        limits=Limits(interval=1000),
    )
    simulation.resume()
    done, began = simulation.state.step, time.perf_counter()
    simulation.run(max(0, steps - done)).close()
    seconds = time.perf_counter() - began
    kept = read_hdf5(folder / f"{name}.h5")
    energy = kept["potential_energy"] + kept["kinetic_energy"]
    record = drift(
        kept["time_ps"],
        energy,
        len(atoms),
        kinetic_energy_eV=kept["kinetic_energy"],
        tolerance_meV_per_atom_per_ns=TOLERANCE,
    )
    wanted = (
        "drift_meV_per_atom_per_ns", "drift_low_meV_per_atom_per_ns", "drift_high_meV_per_atom_per_ns",
        "drift_per_kinetic_width_per_ns", "oscillation_amplitude_meV_per_atom", "length_ps", "finding",
        "behaviour",
    )  # fmt: skip
    return {
        "steps": simulation.state.step,
        "atoms": len(atoms),
        "timestep_fs": timestep,
        "mean_temperature_K": float(kept["temperature_K"].mean()),
        **{key: record[key] for key in wanted},
        "verdict": record.verdict,
        "alarms": list(watch.alarms),
        "milliseconds_per_step_of_this_part": 1e3 * seconds / max(1, simulation.state.step - done),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("system", choices=SYSTEMS)
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path, default=Path("runs/long_nve"))
    parser.add_argument("--results", type=Path, default=HERE / "results.json")
    given = parser.parse_args()
    found = run(given.system, given.steps, given.folder)
    known = json.loads(given.results.read_text()) if given.results.exists() else {}
    given.results.write_text(json.dumps({**known, given.system: found}, indent=1) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
