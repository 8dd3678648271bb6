"""How long a timestep may be."""

from dataclasses import dataclass
from typing import final

import numpy as np
from ase import Atoms

from rikiba.calculators.base import Calculator
from rikiba.core.record import Curve, Figure, Record, Table
from rikiba.core.system import System
from rikiba.md.ensembles.nve import NVE
from rikiba.md.limits import SimulationError
from rikiba.md.reporters.in_memory import InMemory
from rikiba.md.simulation import Simulation
from rikiba.md.state import maxwell_boltzmann
from rikiba.md.vibration import fastest_vibration, widened


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Timestep:
    """The fastest vibration, the timestep that follows from it, and a scan at constant energy.

    Velocity Verlet conserves the energy up to a ripple ∝ Δt² and is unstable from ω_max Δt = 2 on (Swope et
    al., doi:10.1063/1.442716). The recommended step is a twentieth of the fastest period. The
    scan runs the same start at several steps, as long each in time, and reports the ripple, its order in Δt
    below the limit, and which steps fail.

    Args:
        temperature_K: of the scan's velocities.
        factors: timesteps of the scan over the recommended one.
        periods: length of each run of the scan, periods of the fastest vibration.
        seed: of the velocities.
    """

    temperature_K: float = 300.0
    factors: tuple[float, ...] = (0.5, 1.0, 2.0, 4.0, 7.0)
    periods: float = 20.0
    seed: int = 0

    def compute(self, calculator: Calculator, atoms: Atoms) -> Record:
        """Raises ValueError where nothing vibrates."""
        fastest = fastest_vibration(calculator, atoms)
        if fastest.angular_frequency == 0.0:
            raise ValueError(
                "Nothing vibrates in this structure: no force pulls its atoms back. Relax it first."
            )
        best = fastest.recommended_timestep_fs
        steps = [f * best for f in self.factors]
        ripples = [self._ripple(calculator, widened(atoms), dt, fastest.period_fs) for dt in steps]
        stable = [
            (dt, r) for dt, r in zip(steps, ripples, strict=True) if np.isfinite(r) and dt <= 4.01 * best
        ]
        order = {}
        if len(stable) > 1 and all(r > 0 for _, r in stable):
            logs = np.log(np.array(stable))
            order = {"ripple_order": float(np.polyfit(logs[:, 0], logs[:, 1], 1)[0])}
        rows = tuple(
            (dt, dt / fastest.limit_timestep_fs * 2.0, r if np.isfinite(r) else "fails")
            for dt, r in zip(steps, ripples, strict=True)
        )
        x, y = np.array(stable).T if stable else (np.array([]), np.array([]))
        return Record(
            name="timestep",
            title="Timestep",
            values={
                "recommended_timestep_fs": best,
                "limit_timestep_fs": fastest.limit_timestep_fs,
                "fastest_cm1": fastest.wavenumber_cm1,
                "fastest_period_fs": fastest.period_fs,
                "fastest_elements": list(fastest.participation),
                "scan_timestep_fs": [dt for dt, r in zip(steps, ripples, strict=True) if np.isfinite(r)],
                "scan_ripple_meV_per_atom": [r for r in ripples if np.isfinite(r)],
                "failing_timestep_fs": [
                    dt for dt, r in zip(steps, ripples, strict=True) if not np.isfinite(r)
                ],
                **order,
            },
            tables=(Table(title="Scan", columns=("timestep (fs)", "ωΔt", "ripple (meV/atom)"), rows=rows),),
            figures=(
                Figure(
                    title="Energy ripple at constant energy",
                    x_label="timestep (fs)",
                    y_label="ripple (meV/atom)",
                    curves=(Curve.of("standard deviation", x, y, style="points"),),
                    log_x=True,
                    log_y=True,
                ),
            ),
            notes=(
                "The ripple is the standard deviation of the total energy about its straight line; it grows "
                "as the square of the timestep where the integrator works.",
                "Rigid bonds are not known here: what a constraint removes may be the fastest vibration.",
            ),
            references=("10.1063/1.442716",),
        )

    def _ripple(self, calculator: Calculator, atoms: Atoms, timestep_fs: float, period_fs: float) -> float:
        """Standard deviation of the energy, meV/atom; infinite where the run fails or heats up tenfold."""
        state = maxwell_boltzmann(System.from_ase(atoms), self.temperature_K, seed=self.seed)
        kept = InMemory(positions=False)
        n = max(20, round(self.periods * period_fs / timestep_fs))
        try:
            Simulation(calculator, NVE(), state, timestep_fs=timestep_fs, reporters=[kept]).run(n)
        except SimulationError:
            return float("inf")
        energy = 1000.0 * kept.conserved[:, 0].numpy() / len(atoms)
        kinetic = kept.kinetic_energy[:, 0].numpy()
        if not np.isfinite(energy).all() or kinetic.max() > 10.0 * kinetic[0]:
            return float("inf")
        time = np.arange(len(energy))
        return float((energy - np.polyval(np.polyfit(time, energy, 1), time)).std())
