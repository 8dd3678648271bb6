"""A Lennard-Jones fluid: order of the energy's fluctuations, the pressure as a derivative of free energy, and
states whose equation of state NIST has tabulated."""

from typing import Any

import numpy as np
import pytest
import torch
from ensemble_checks import FS, KELVIN, watched
from lennard_jones_fluid import TIMESTEP, boxes, lennard_jones, molten

from rikiba.md.ensembles.langevin import Langevin
from rikiba.md.ensembles.nve import NVE
from rikiba.md.reporters.base import Snapshot
from rikiba.md.reporters.in_memory import InMemory
from rikiba.md.simulation import Simulation
from rikiba.md.state import State
from rikiba.potentials.pair import Truncation


def fluctuation(start: State, truncation: Truncation, h: float, time: float = 2.4) -> float:
    """Standard deviation in time of the total energy at constant energy, root mean square of all boxes."""
    kept, _ = watched(
        lennard_jones(truncation=truncation), NVE(), start, h, round(time / h), 1, positions=False
    )
    energy = kept.potential_energy + kept.kinetic_energy
    return float(energy.std(0).square().mean().sqrt())


def test_fluctuations_fall_with_the_square_of_the_timestep() -> None:
    """δE(h₁)/δE(h₂) = (h₁/h₂)² within a tenth for three timesteps; never for a potential that is cut."""
    start = molten(boxes([0.7] * 4, [1.2] * 4), [1.2] * 4, 200, lennard_jones())
    steps = (0.006, 0.006 / 2**0.5, 0.003)
    smooth = [fluctuation(start, "smooth", h) for h in steps]
    for a, b in zip(smooth[1:], smooth[:-1], strict=True):
        assert b / a == pytest.approx(2.0, rel=0.1), smooth
    cut = [fluctuation(start, "cut", h) for h in steps]
    assert cut[0] / cut[2] < 2.0 and cut[2] > 3 * smooth[2], (cut, smooth)


class Pressure(InMemory):
    """Keeps the pressure, eV/Å³, beside the positions."""

    def __init__(self, interval: int) -> None:
        super().__init__(interval=interval, stress=True)
        self.pressures: list[torch.Tensor] = []

    def report(self, snapshot: Snapshot) -> str | None:
        from rikiba.core import units

        self.pressures.append(snapshot.pressure_GPa * units.gigapascal)
        return super().report(snapshot)


def observed(
    calculator: Any, state: State, temperatures: list[float], steps: int, interval: int
) -> tuple[torch.Tensor, Pressure, Simulation]:
    """Pressures [times, systems] under friction and noise, the reporter and the run."""
    bath = Langevin(temperature_K=tuple(t * KELVIN for t in temperatures), friction_per_ps=1.0 / (FS * 1e-3))
    kept = Pressure(interval)
    run = Simulation(calculator, bath, state, timestep_fs=TIMESTEP * FS, reporters=[kept]).run(steps)
    return torch.stack(kept.pressures), kept, run


def test_pressure_is_the_derivative_of_the_free_energy() -> None:
    """−ΔF/ΔV between two volumes by Bennett's ratio (doi:10.1016/0021-9991(76)90078-4), from energies of
    scaled boxes alone, is the mean of the two pressures; without the motion of the atoms it is not."""
    n, kt, replicas, shrink = 32, 1.3, 16, 0.985
    densities = [0.6] * replicas + [0.6 / shrink] * replicas
    temperatures = [kt] * 2 * replicas
    calculator = lennard_jones()
    state = molten(boxes(densities, temperatures), temperatures, 250, calculator)
    pressures, kept, run = observed(calculator, state, temperatures, 600, 15)
    system = run.state.system
    ratio = torch.tensor([shrink] * replicas + [1.0 / shrink] * replicas, dtype=torch.float64) ** (1 / 3)
    other, scaling = lennard_jones(), ratio[system.system_index][:, None]
    work = []
    for frame in kept.positions:
        scaled = system.replace(positions=frame * scaling, cell=system.cell * ratio[:, None, None])
        work.append(other(scaled, forces=False).need("energy") - calculator(
            system.replace(positions=frame), forces=False
        ).need("energy") - 3 * n * kt * torch.log(ratio))  # fmt: skip
    forward, backward = (w.flatten().numpy() / kt for w in torch.stack(work).split(replicas, 1))
    low, high = -50.0, 50.0
    for _ in range(60):
        guess = 0.5 * (low + high)
        excess = (1 / (1 + np.exp(forward - guess))).sum() - (1 / (1 + np.exp(backward + guess))).sum()
        low, high = (low, guess) if excess > 0 else (guess, high)
    volume = system.volume[[0, -1]]
    by_work = -kt * guess / float(volume[1] - volume[0])
    each = pressures.mean(0)
    halves = each[:replicas].mean(), each[replicas:].mean()
    error = float((each[:replicas].var() + each[replicas:].var()).sqrt() / 2 / replicas**0.5)
    mean = 0.5 * float(sum(halves))
    assert error < 0.04 and abs(by_work - mean) < 4 * error, (by_work, mean, error)
    assert abs(by_work - (mean - 0.6 * kt)) > 10 * error  # the virial alone


def tail(density: float, cutoff: float) -> tuple[float, float]:
    """Energy per atom and pressure of a uniform fluid beyond the cutoff."""
    c3, c9 = cutoff**-3, cutoff**-9
    return 8 / 3 * np.pi * density * (c9 / 3 - c3), 16 / 3 * np.pi * density**2 * (2 / 3 * c9 - c3)


NIST = {
    "liquid, T* = 0.85": (0.85, 0.82, -5.7947, 0.55355, 3.0),
    "liquid, T* = 0.90": (0.90, 0.86, -5.9753, 1.5781, 3.0),
    "dense liquid": (0.90, 0.90, -6.1773, 2.5848, 3.0),
    "gas, T* = 0.90": (0.90, 0.009, -0.089936, 7.6363e-3, 3.0),
    "gas, T* = 0.85": (0.85, 0.001, -0.010317, 8.4402e-4, 3.0),
}
"""(T*, ρ*, U*/N, p*, cutoff) of NIST's Monte Carlo runs with the tail correction (doi:10.18434/T4M88Q)."""
SHIFTED = {
    "T* = 0.75": (0.75, 0.005, -4.200e-2, 3.641e-3, 2.5),
    "T* = 1.00": (1.0, 0.001, -6.704e-3, 9.967e-4, 2.5),
    "T* = 1.50": (1.5, 0.001, -5.333e-3, 1.498e-3, 2.5),
}
"""The same of NIST's molecular dynamics of the fluid with linear forces, force-shifted at 2.5 σ."""


def state_point(
    point: tuple[float, ...], truncation: Truncation, repeat: int, replicas: int, steps: int
) -> tuple[np.ndarray, np.ndarray]:
    """(energy, its error) per atom and (pressure, its error) of one tabulated state."""
    temperature, density, _, _, cutoff = point
    temperatures = [temperature] * replicas
    calculator = lennard_jones(cutoff, truncation, skin=0.5)
    hot = molten(
        boxes([density] * replicas, [2.0] * replicas, repeat), [2.0] * replicas, steps // 8, calculator
    )
    state = molten(hot, temperatures, steps // 4, calculator)
    pressures, kept, run = observed(calculator, state, temperatures, steps, 10)
    of = (kept.potential_energy / run.state.system.counts, pressures)
    shift = tail(density, cutoff) if truncation == "cut" else (0.0, 0.0)
    means = [x.mean(0).numpy() + s for x, s in zip(of, shift, strict=True)]
    return tuple(np.array([m.mean(), m.std(ddof=1) / replicas**0.5]) for m in means)  # type: ignore[return-value]


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in NIST if "liquid" in n])
def test_liquids_of_nist(name: str) -> None:
    """Energies within four errors and 0.003 ε, pressures within four and 0.02 ε/σ³ (boxes of 256 atoms)."""
    energy, pressure = state_point(NIST[name], "cut", 4, 4, 3000)
    assert abs(energy[0] - NIST[name][2]) < 4 * energy[1] + 0.003, energy
    assert abs(pressure[0] - NIST[name][3]) < 4 * pressure[1] + 0.02, pressure
    assert pressure[1] < 0.1


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in NIST if "gas" in n])
def test_gases_of_nist(name: str) -> None:
    energy, pressure = state_point(NIST[name], "cut", 2, 24, 6000)
    assert abs(energy[0] - NIST[name][2]) < 4 * energy[1]
    assert abs(pressure[0] - NIST[name][3]) < 4 * pressure[1]
    assert pressure[1] < 0.03 * pressure[0]


@pytest.mark.slow
@pytest.mark.parametrize("name", SHIFTED)
def test_gases_with_shifted_forces_of_nist(name: str) -> None:
    energy, pressure = state_point(SHIFTED[name], "force_shift", 2, 24, 6000)
    assert abs(energy[0] - SHIFTED[name][2]) < 4 * energy[1]
    assert abs(pressure[0] - SHIFTED[name][3]) < 4 * pressure[1]


def test_a_liquid_of_nist_in_short() -> None:
    """One liquid in boxes of 108 atoms; without its tail it would be seen."""
    point = NIST["liquid, T* = 0.90"]
    energy, pressure = state_point(point, "cut", 3, 3, 400)
    assert abs(energy[0] - point[2]) < 4 * energy[1] + 0.02, energy
    assert abs(pressure[0] - point[3]) < 4 * pressure[1] + 0.1, pressure
    assert energy[1] < 0.05 and pressure[1] < 0.3
    no_tail = tail(point[1], point[4])
    assert abs(no_tail[0]) > 4 * energy[1] + 0.02 and abs(no_tail[1]) > 0.4
