"""Atoms rain on a surface: growth of a film, with what sticks, what leaves and what it is made of."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from rikiba.calculators.base import Calculator
from rikiba.core import elements, units
from rikiba.core.record import Curve, Figure, Record, Table
from rikiba.execution.progress import Progress, silent
from rikiba.md.operators import Drift, Kick
from rikiba.md.reporters.extxyz import Extxyz
from rikiba.md.simulation import Simulation
from rikiba.md.splitting import Splitting
from rikiba.md.thermostats.zone_langevin import ZoneLangevin

from ..growth import Growth
from ..legs import thermal

ATTEMPTS = 200
"""Places above the surface that are tried for one atom."""


class Deposition:
    """Atoms arrive one by one at random times and places above a surface, fly, stick or leave.

    The substrate lies along x and y with vacuum above: its lowest zone is fixed, the next one is held at a
    temperature by Langevin friction, the rest and all that arrives follow Newton's equations. Waiting times
    are exponential with the mean 1/rate, elements are drawn with the given shares. Atoms that fly
    upwards, separated from what lies below by more than `height` + 2 Å, are taken out. Arrival rates of
    simulations are many orders of magnitude above those of experiments: diffusion between arrivals is cut
    short.

    Args:
        arrivals: atoms that arrive, in all.
        rate_per_ps: arrivals per time on the whole surface, 1/ps.
        species: element → share among the arrivals, in any unit.
        energy_eV: kinetic energy of an arriving atom.
        angle_degrees: from the surface's normal; the direction around it is random.
        temperature_K: of the thermostatted zone, and of the substrate's initial velocities.
        fixed_thickness: atoms less than this above the lowest one are fixed, Å.
        zone_thickness: atoms of the substrate less than this above the fixed ones are thermostatted, Å.
        height: how far above the highest atom the arriving ones begin, Å.
        clearance: least distance of an arriving atom from all others, Å.
        timestep_fs: integration step.
        friction_per_ps: in the thermostatted zone, 1/ps.
        settle_ps: time after the last arrival.
        interval: steps between frames.
        checkpoint_interval: steps between checkpoints.
        seed: of everything random.
    """

    references = ("10.1093/amrx/abs010",)

    def __init__(
        self,
        *,
        arrivals: int,
        rate_per_ps: float,
        species: Mapping[str, float],
        energy_eV: float,
        temperature_K: float,
        timestep_fs: float,
        fixed_thickness: float,
        zone_thickness: float,
        angle_degrees: float = 0.0,
        height: float = 8.0,
        clearance: float = 3.0,
        friction_per_ps: float = 5.0,
        settle_ps: float = 1.0,
        interval: int = 100,
        checkpoint_interval: int = 1000,
        seed: int = 0,
    ) -> None:
        if arrivals < 1 or not rate_per_ps > 0 or not energy_eV > 0 or not temperature_K > 0:
            raise ValueError("arrivals, rate_per_ps, energy_eV and temperature_K must be positive.")
        if not species or min(species.values()) <= 0:
            raise ValueError(f"species are elements with positive shares; given {dict(species)}.")
        if not 0.0 <= angle_degrees < 90.0:
            raise ValueError(f"angle_degrees is at least 0 and below 90; given {angle_degrees}.")
        if fixed_thickness <= 0 or zone_thickness <= 0 or height <= 0 or clearance < 0 or settle_ps < 0:
            raise ValueError("fixed_thickness, zone_thickness and height must be positive.")
        self.arrivals, self.rate_per_ps, self.energy_eV = arrivals, rate_per_ps, energy_eV
        self.species = {s: species[s] for s in elements.sorted_symbols(species)}
        self.angle, self.temperature_K = np.radians(angle_degrees), temperature_K
        self.fixed_thickness, self.zone_thickness = fixed_thickness, zone_thickness
        self.height, self.clearance, self.timestep_fs = height, clearance, timestep_fs
        self.friction_per_ps, self.settle_ps = friction_per_ps, settle_ps
        self.interval, self.checkpoint_interval, self.seed = interval, checkpoint_interval, seed

    def run(
        self,
        calculator: Calculator,
        atoms: Atoms,
        *,
        out: Path,
        resume: bool = False,
        progress: Progress = silent,
    ) -> list[Record]:
        """Carry it out; the trajectory stays in `growth.xyz`. Raises ValueError for what is no surface."""
        if tuple(atoms.pbc) != (True, True, False) or abs(atoms.cell.array[:2, 2]).max() > 1e-8:
            raise ValueError(
                f"A surface is periodic along x and y only (pbc = [true, true, false]); given {atoms.pbc} "
                f"with the cell {atoms.cell.array.tolist()}."
            )
        bottom = atoms.positions[:, 2] - atoms.positions[:, 2].min()
        fixed = bottom < self.fixed_thickness
        zone = np.flatnonzero(~fixed & (bottom < self.fixed_thickness + self.zone_thickness))
        if not len(zone):
            raise ValueError(f"No atom lies in the zone of zone_thickness = {self.zone_thickness:g} Å.")
        frames = Extxyz(path=out / "growth.xyz", interval=self.interval)
        kept = out / "growth.checkpoint"
        if resume and kept.is_file():
            grown, memory = Growth.load(kept)
            if not _stretch_file(out, len(grown.counts)).is_file():  # else its checkpoint knows the frames
                frames.restore(memory)
        else:
            for file in out.glob("stretch_*.checkpoint"):
                file.unlink()
            grown = self._begin(atoms, fixed)
        while grown.arrived < self.arrivals or len(grown.counts) <= self.arrivals:
            progress("Arrivals", grown.arrived, self.arrivals)
            grown = self._stretch(calculator, grown, zone, frames, out, resume)
            grown.save(kept, frames.memory())
        frames.close()
        return [self.describe(grown, len(atoms))]

    def _begin(self, atoms: Atoms, fixed: np.ndarray) -> Growth:
        from ase.constraints import FixAtoms

        held = atoms.copy()
        held.set_constraint(FixAtoms(np.flatnonzero(fixed)))
        state = thermal(held, self.temperature_K, self.seed)
        return Growth(state=state, labels=-1 - np.arange(len(atoms)))

    def _stretch(
        self, calculator: Calculator, grown: Growth, zone: np.ndarray, frames: Extxyz, out: Path, resume: bool
    ) -> Growth:
        """From one arrival to the next: a waiting time (after the last, the time to settle)."""
        k = len(grown.counts)
        rng = np.random.default_rng([self.seed, k])
        if k < self.arrivals:
            grown = self._arrival(grown, rng)
            wait = rng.exponential(1.0 / self.rate_per_ps)
        else:
            wait = self.settle_ps
        n_steps = max(1, round(1e3 * wait / self.timestep_fs))
        place = {int(label): i for i, label in enumerate(grown.labels)}
        inside = [place[-1 - int(z)] for z in zone if -1 - int(z) in place]
        bath = ZoneLangevin(
            temperature_K=self.temperature_K, friction_per_ps=self.friction_per_ps, atoms=inside
        )
        file, last = _stretch_file(out, k), grown.state.step + n_steps
        simulation = Simulation(
            calculator,
            Splitting("BAOAB", {"B": Kick(), "A": Drift(), "O": bath}),
            grown.state,
            timestep_fs=self.timestep_fs,
            reporters=[frames],
            checkpoint=file,
            checkpoint_interval=self.checkpoint_interval,
        )
        if resume and file.is_file():
            simulation.restore(file)
        simulation.run(max(0, last - simulation.state.step))
        _stretch_file(out, k - 1).unlink(missing_ok=True)
        state = simulation.state
        grown = replace(grown, state=state).without(self._gone(state, grown.labels))
        counts = (*grown.counts, (float(state.time[0]), grown.state.system.n_atoms))
        return replace(grown, counts=counts)

    def _arrival(self, grown: Growth, rng: np.random.Generator) -> Growth:
        """One more atom above the surface, away from all others. Raises ArithmeticError where none fits."""
        symbol = str(rng.choice(list(self.species), p=_shares(self.species)))
        number = elements.number(symbol)
        mass = float(elements.masses(grown.state.system.numbers.new_tensor([number]))[0])
        frame = grown.state.system.to_ase()[0]
        for _ in range(ATTEMPTS):
            place = rng.random(2) @ frame.cell.array[:2]
            place[2] = frame.positions[:, 2].max() + self.height * (1.0 + rng.random() / self.height)
            probe = frame + Atoms(numbers=[number], positions=[place])
            if probe.get_distances(-1, range(len(frame)), mic=True).min() >= self.clearance:
                break
        else:
            raise ArithmeticError(
                f"No place {self.clearance:g} Å away from all other atoms was found {self.height:g} Å above "
                f"the surface; raise height or lower clearance."
            )
        around = 2.0 * np.pi * rng.random()
        across = np.sin(self.angle) * np.array([np.cos(around), np.sin(around), 0.0])
        direction = across - np.array([0.0, 0.0, np.cos(self.angle)])
        speed = np.sqrt(2.0 * self.energy_eV / mass)
        return grown.added(number, mass, place, speed * direction)

    def _gone(self, state: Any, labels: np.ndarray) -> np.ndarray:
        """Atoms that fly upwards, 2 Å above where the next one would begin over what they left behind."""
        z, up = state.system.positions[:, 2].numpy(), state.velocities[:, 2].numpy() > 0
        order = np.sort(z)
        gaps = np.flatnonzero(np.diff(order) > self.height + 2.0)
        top = order[gaps[0]] if len(gaps) else order[-1]
        return np.asarray((z > top + self.height + 2.0) & up)

    def describe(self, grown: Growth, n_substrate: int) -> Record:
        """Balance of atoms, sticking and composition."""
        numbers = np.array([z for _, z in grown.arrivals])
        left = {label for _, label, _ in grown.removed}
        shares, rows = _shares(self.species), []
        values: dict[str, Any] = {}
        spread: dict[str, Any] = {}
        for symbol, share in zip(self.species, shares, strict=True):
            ids = np.flatnonzero(numbers == elements.number(symbol))
            n, stuck = len(ids), sum(int(k) not in left for k in ids)
            sticking = stuck / n if n else float("nan")
            error = float(np.sqrt(sticking * (1 - sticking) / n)) if n else float("nan")
            expected = share * self.arrivals
            noise = float(np.sqrt(expected * (1 - share)))
            rows.append((symbol, n, expected, noise, stuck, sticking, error))
            values[f"sticking_{symbol}"], spread[f"sticking_{symbol}"] = sticking, error
        sputtered = sum(label < 0 for label in left)
        final = grown.state.system.n_atoms
        balanced = final == n_substrate + grown.arrived - len(grown.removed)
        time, count = np.array(grown.counts).T
        columns = ("element", "arrived", "expected", "±", "stuck", "sticking", "± ")
        return Record(
            name="deposition",
            title="Deposition",
            values={
                "n_substrate": n_substrate,
                "n_arrived": grown.arrived,
                "n_left": len(grown.removed),
                "n_left_of_substrate": sputtered,
                "n_final": final,
                "balanced": bool(balanced),
                **values,
            },
            spread=spread,
            tables=(Table(title="Elements", columns=columns, rows=tuple(rows)),),
            figures=(
                Figure(
                    title="Growth",
                    x_label="time (ps)",
                    y_label="atoms",
                    curves=(Curve.of("present", time / units.picosecond, count),),
                ),
            ),
            notes=("± of arrivals is the standard deviation of drawing elements with the requested shares.",),
            verdict="pass" if balanced else "fail",
            references=self.references,
        )


def _stretch_file(out: Path, k: int) -> Path:
    """The checkpoint of the k-th stretch."""
    return out / f"stretch_{k:05d}.checkpoint"


def _shares(species: Mapping[str, float]) -> np.ndarray:
    weights = np.array(list(species.values()), float)
    return np.asarray(weights / weights.sum())
