"""Do atoms stay where chemistry wants them when the potential is let run?"""

from typing import Any

import numpy as np
import torch
from ase import Atoms

from rikiba.calculators.base import Calculator
from rikiba.core.record import Curve, Figure, Record, Table, Verdict
from rikiba.core.system import System
from rikiba.md.ase_constraints import attached
from rikiba.md.contacts import closest_contacts
from rikiba.md.drift import drift
from rikiba.md.ensembles.langevin import Langevin
from rikiba.md.ensembles.nve import NVE
from rikiba.md.limits import SimulationError
from rikiba.md.reporters.in_memory import InMemory
from rikiba.md.simulation import Simulation
from rikiba.md.state import State, maxwell_boltzmann
from rikiba.properties.bond_lengths import Bonds, find_bonds
from rikiba.properties.trajectories import Trajectory


def survival(
    calculator: Calculator,
    atoms: Atoms,
    *,
    temperature_K: float = 300.0,
    timestep_fs: float = 0.5,
    nvt_ps: float = 2.0,
    nve_ps: float = 1.0,
    friction_per_ps: float = 1.0,
    replicas: int = 4,
    stretch: float = 1.5,
    contact: float = 0.6,
    tolerance_meV_per_atom_per_ns: float = 10.0,
    bonds_must_hold: bool = True,
    seed: int = 0,
) -> Record:
    """Replicas are heated at constant temperature, then run at constant energy; the Record says who survived.

    A replica dies where a number is not finite, two atoms come closer than `contact` × the sum of their
    covalent radii, or (where `bonds_must_hold`) a bond of the start grows beyond `stretch` × its length. The
    verdict is 'fail' for a death or a drift of the energy, 'undecided' where all live but the run is too
    short to tell the drift.

    Args:
        calculator: what is tested.
        atoms: the start, near a minimum.
        temperature_K: of the thermostat.
        timestep_fs: of both runs.
        nvt_ps: length at constant temperature, each replica.
        nve_ps: length at constant energy, each replica.
        friction_per_ps: of the thermostat.
        replicas: copies with their own velocities and noise, run as one batch.
        stretch: bond length, relative to the start, that counts as broken.
        contact: distance, relative to the sum of covalent radii, that counts as fused.
        tolerance_meV_per_atom_per_ns: drift that counts as none.
        bonds_must_hold: False where bonds may break (liquids of reacting species, surfaces).
        seed: of velocities and noise.
    """
    system = System.from_ase([atoms] * replicas)
    held = attached([atoms] * replicas)
    state = maxwell_boltzmann(system, temperature_K, seed=seed, constraints=held)
    thermostat = Langevin(temperature_K=temperature_K, friction_per_ps=friction_per_ps)
    every = max(1, round(5.0 / timestep_fs))
    hot, hot_error = _run(calculator, thermostat, state, timestep_fs, nvt_ps, every)
    cold: InMemory | None = None
    cold_error = ""
    if not hot_error:
        # constant energy goes on from the thermostat's last state, without its drift
        last = system.replace(positions=hot.positions[-1])
        free = State.of(last, hot.velocities[-1], seed=seed).constrained(held)
        cold, cold_error = _run(calculator, NVE(), free, timestep_fs, nve_ps, 1)
    ran = [r for r in (hot, cold) if r is not None and len(r) > 0]
    positions = torch.cat([r.positions for r in ran]).numpy()
    bonds = find_bonds(system[0])
    deaths = [
        _death(t, bonds if bonds_must_hold else None, stretch, contact)
        for t in Trajectory.replicas(positions, system, timestep_fs=timestep_fs)
    ]
    return _record(
        deaths,
        hot_error or cold_error,
        hot,
        cold,
        len(atoms),
        {
            "temperature_K": temperature_K,
            "timestep_fs": timestep_fs,
            "nvt_ps": nvt_ps,
            "nve_ps": nve_ps,
            "replicas": replicas,
        },
        tolerance_meV_per_atom_per_ns,
    )


def _run(
    calculator: Calculator, ensemble: Any, state: State, timestep_fs: float, length_ps: float, every: int
) -> tuple[InMemory, str]:
    reporter = InMemory(interval=every, velocities=True)
    simulation = Simulation(calculator, ensemble, state, timestep_fs=timestep_fs, reporters=[reporter])
    n_steps = max(every, round(1000.0 * length_ps / timestep_fs / every) * every)
    try:
        simulation.run(n_steps)
    except SimulationError as error:
        return reporter, str(error)
    return reporter, ""


def _death(t: Trajectory, bonds: Bonds | None, stretch: float, contact: float) -> str:
    """What went wrong first in one replica; empty where nothing did."""
    if bonds is not None and len(bonds):
        lengths = bonds.lengths(t)
        broken = lengths > stretch * lengths[0]
        if broken.any():
            frame = int(np.argmax(broken.any(1)))
            b = int(np.argmax(broken[frame]))
            name, now = f"bond {bonds.i[b]}–{bonds.j[b]} ({bonds.kinds[b]})", lengths[frame, b]
            return f"{name} is {now:.2f} Å long in frame {frame}"
    for frame in range(0, t.n_frames, max(1, t.n_frames // 200)):
        close = closest_contact(t.system(frame))
        if close[0] < contact:
            return f"atoms {close[1]} and {close[2]} are at {close[0]:.2f} of their covalent distance"
    return ""


def closest_contact(system: System) -> tuple[float, int, int]:
    """(distance relative to the sum of covalent radii, i, j) of the closest pair; inf for a lone atom."""
    best = min(closest_contacts(system), key=lambda contact: contact.ratio)
    first = system.atom_rows(best.system).start
    return best.ratio, first + best.atoms[0], first + best.atoms[1]


def _record(
    deaths: list[str],
    error: str,
    hot: InMemory,
    cold: InMemory | None,
    n_atoms: int,
    settings: dict[str, Any],
    tolerance: float,
) -> Record:
    alive = sum(not d for d in deaths) if not error else 0
    values: dict[str, Any] = {**settings, "survivors": alive}
    notes = [error] if error else []
    figures: list[Figure] = []
    verdict: Verdict = "fail" if error or alive < len(deaths) else "pass"
    if len(hot):
        values["nvt_mean_temperature_K"] = float(hot.temperature_K[len(hot) // 2 :].mean())
        time = hot.time_ps[:, 0]
        curves = [Curve.of(f"replica {k}", time, hot.temperature_K[:, k]) for k in range(len(deaths))]
        figures.append(
            Figure(
                title="Temperature under the thermostat",
                x_label="time (ps)",
                y_label="T (K)",
                curves=tuple(curves),
            )
        )
    if cold is not None and not error and len(cold) > 16:
        moved = drift(
            cold.time_ps,
            cold.conserved,
            n_atoms,
            kinetic_energy_eV=cold.kinetic_energy,
            tolerance_meV_per_atom_per_ns=tolerance,
        )
        values |= {k: moved.values[k] for k in ("drift_meV_per_atom_per_ns", "finding")}
        figures += moved.figures
        notes += moved.notes
        if verdict == "pass" and moved.verdict is not None:
            verdict = moved.verdict
    return Record(
        name="stability",
        title=f"Stability at {settings['temperature_K']:g} K",
        values=values,
        tables=(
            Table(
                title="Replicas",
                columns=("replica", "fate"),
                rows=tuple(
                    (k, d or ("lost with the run" if error else "alive")) for k, d in enumerate(deaths)
                ),
            ),
        ),
        figures=tuple(figures),
        notes=tuple(notes),
        verdict=verdict,
    )
