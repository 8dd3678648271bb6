"""Pull, compress or shear a solid at a constant rate: stress against strain."""

from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from jaxtyping import Float

from rikiba.calculators.base import Calculator
from rikiba.core.record import Curve, Figure, Record, Table
from rikiba.execution.progress import Progress, silent
from rikiba.md.barostats.axis_rescaling import AxisRescaling
from rikiba.md.deformation import AXES, Axis
from rikiba.md.deformation import Deformation as Strain
from rikiba.md.operators import Drift, Kick, Operator
from rikiba.md.reporters.extxyz import Extxyz
from rikiba.md.reporters.in_memory import InMemory
from rikiba.md.splitting import Splitting
from rikiba.md.thermostats.csvr import Csvr

from ..legs import Legs, thermal


class Deformation:
    """Strain at a constant rate and temperature, lateral stress held at a pressure, or lateral lengths kept.

    The cell is deformed in small moves that carry the atoms along. With a lateral pressure the lengths
    across a pulled axis follow it, each by itself, so that the first slope is Young's modulus along the
    axis; without one their lengths stay, and the slope is C_ii. A sheared cell keeps its other lengths, and
    the slope is C_44 in a cubic crystal along its axes. Before, the cell is
    equilibrated at the lateral pressure. Strain rates of simulations are many orders of magnitude above
    those of experiments: repeat with a slower one and compare.

    Args:
        axis: x, y or z is pulled (pushed where the rate is negative); xy, xz or yz is sheared.
        strain: how far, as a positive number.
        rate_per_ps: of the strain, 1/ps; negative to compress.
        temperature_K: of the thermostat (stochastic velocity rescaling).
        timestep_fs: integration step.
        lateral_pressure_GPa: of the directions across the axis, and of all before; none keeps every length.
        equilibration_ps: time before the deformation.
        replicas: independent runs, advanced together; their scatter is the error.
        fit_strain: the first slope is that of a parabola through strains up to this one.
        interval: steps between samples.
        move_interval: steps between moves of the cell.
        checkpoint_interval: steps between checkpoints.
        time_constant_fs: of the thermostat, fs.
        pressure_time_constant_fs: of the lateral lengths, fs; far below the time of the deformation.
        compressibility_per_GPa: of the material, roughly, 1/GPa; sets how fast lateral lengths follow.
        seed: of velocities.
    """

    references = ("10.1063/5.0020514", "10.1063/1.2408420")

    def __init__(
        self,
        *,
        axis: Axis,
        strain: float,
        rate_per_ps: float,
        temperature_K: float,
        timestep_fs: float,
        lateral_pressure_GPa: float | None = 0.0,
        equilibration_ps: float = 1.0,
        replicas: int = 1,
        fit_strain: float = 0.01,
        interval: int = 10,
        move_interval: int = 5,
        checkpoint_interval: int = 1000,
        time_constant_fs: float = 100.0,
        pressure_time_constant_fs: float = 200.0,
        compressibility_per_GPa: float = 0.1,
        seed: int = 0,
    ) -> None:
        if not strain > 0 or not fit_strain > 0 or rate_per_ps == 0 or not temperature_K > 0:
            raise ValueError(
                "strain, fit_strain and temperature_K must be positive and rate_per_ps not 0; given "
                f"{strain}, {fit_strain}, {temperature_K}, {rate_per_ps}."
            )
        if rate_per_ps < 0 and len(axis) == 1 and strain >= 1:
            raise ValueError(f"A compression leaves nothing at a strain of 1; given {strain}.")
        if equilibration_ps < 0 or replicas < 1:
            raise ValueError("equilibration_ps is at least 0 and replicas at least 1.")
        self.axis, self.strain, self.rate_per_ps = axis, strain, rate_per_ps
        self.temperature_K, self.timestep_fs, self.seed = temperature_K, timestep_fs, seed
        self.lateral_pressure_GPa, self.equilibration_ps = lateral_pressure_GPa, equilibration_ps
        self.replicas, self.fit_strain = replicas, fit_strain
        self.interval, self.checkpoint_interval = interval, checkpoint_interval
        self.time_constant_fs = time_constant_fs
        self.pressure_time_constant_fs = pressure_time_constant_fs
        self.compressibility_per_GPa = compressibility_per_GPa
        self.move_interval = move_interval
        self.operator = Strain(axis=axis, rate_per_ps=rate_per_ps, interval=move_interval)
        self.n_steps = round(1e3 * strain / abs(rate_per_ps) / timestep_fs)
        inside = self.n_steps * min(1.0, fit_strain / strain) / interval
        if inside < 8:
            raise ValueError(
                f"Only {int(inside)} samples lie within fit_strain = {fit_strain:g}; at least 8 are needed: "
                f"take a slower rate or a shorter interval."
            )

    def equilibrating(self) -> Splitting:
        """Before the deformation: all lengths at the lateral pressure, or none moves."""
        return self._word("xyz", {})

    def deforming(self) -> Splitting:
        """The deformation: lengths across a pulled axis at their pressure, or none but the strained one."""
        return self._word("xyz".replace(self.axis, "") if len(self.axis) == 1 else "", {"D": self.operator})

    def _word(self, axes: str, last: dict[str, Operator]) -> Splitting:
        thermostat = Csvr(temperature_K=self.temperature_K, time_constant_fs=self.time_constant_fs)
        letters: dict[str, Operator] = {"B": Kick(), "A": Drift(), "T": thermostat}
        if axes and self.lateral_pressure_GPa is not None:
            letters["C"] = AxisRescaling(
                pressure_GPa=self.lateral_pressure_GPa,
                temperature_K=self.temperature_K,
                axes=axes,
                time_constant_fs=self.pressure_time_constant_fs,
                compressibility_per_GPa=self.compressibility_per_GPa,
                interval=self.move_interval,
            )
        letters |= last
        return Splitting("BABT" + "".join(c for c in "CD" if c in letters), letters)

    def run(
        self,
        calculator: Calculator,
        atoms: Atoms,
        *,
        out: Path,
        resume: bool = False,
        progress: Progress = silent,
    ) -> list[Record]:
        """Carry it out; the trajectory stays in `deformation.xyz`.

        Raises ValueError without three periodic axes, and for a lateral pressure on a skew cell.
        """
        if self.lateral_pressure_GPa is not None and not _is_box(atoms):
            raise ValueError(
                f"A lateral pressure needs a cell of right angles along x, y and z; given {atoms.cell.array}."
            )
        legs = Legs(
            calculator=calculator,
            out=out,
            timestep_fs=self.timestep_fs,
            checkpoint_interval=self.checkpoint_interval,
            progress=progress,
        ).begin(resume)
        state = thermal(atoms, self.temperature_K, self.seed, self.replicas)
        before = round(1e3 * self.equilibration_ps / self.timestep_fs)
        if before:
            state = legs.run("equilibration", self.equilibrating(), state, before).state
        kept = InMemory(interval=self.interval, positions=False, cells=True, stress=True)
        frames = Extxyz(path=out / "deformation.xyz", interval=max(1, self.n_steps // 100))
        legs.run("deformation", self.deforming(), state, self.n_steps, (kept, frames))
        return [self.describe(kept)]

    def describe(self, kept: InMemory) -> Record:
        """Stress against strain, its first slope, the largest stress, and Poisson's ratio."""
        i, j = AXES[self.axis]
        cells, stress = kept.cells.numpy(), kept.stress_GPa.numpy()
        gradient = np.linalg.inv(cells[0]) @ cells  # r(t) = r(0) F, rows
        eye = np.eye(3)
        strain = gradient[:, :, j, i] - eye[j, i]
        pull = stress[:, :, i, j]
        slopes = [self._slope(e, s) for e, s in zip(strain.T, pull.T, strict=True)]
        values: dict[str, Any] = {
            "axis": self.axis,
            "slope_GPa": float(np.mean([s for s, _ in slopes])),
            "slope_is": self.meaning,
            "start_stress_GPa": float(pull[0].mean()),
            "largest_stress_GPa": float(np.abs(pull.mean(1)).max()),
            "strain_at_largest_stress": float(strain.mean(1)[np.abs(pull.mean(1)).argmax()]),
            "rate_per_ps": self.rate_per_ps,
            "temperature_K": float(kept.temperature_K.mean()),
            "replicas": self.replicas,
        }
        spread: dict[str, Any] = {"slope_GPa": _error([s for s, _ in slopes], [e for _, e in slopes])}
        lateral = [k for k in range(3) if i == j and k != i]
        if self.lateral_pressure_GPa is not None and lateral:
            across = np.mean([gradient[:, :, k, k] - 1.0 for k in lateral], axis=0)
            fits = [self._slope(e, c) for e, c in zip(strain.T, across.T, strict=True)]
            values["poisson_ratio"] = -float(np.mean([s for s, _ in fits]))
            spread["poisson_ratio"] = _error([s for s, _ in fits], [e for _, e in fits])
        return Record(
            name="deformation",
            title=f"Deformation along {self.axis}",
            values=values,
            spread=spread,
            tables=(_table(strain, pull),),
            figures=(_figure(strain, pull, self.axis),),
            notes=(
                f"The slope at zero strain is that of a parabola through strains up to {self.fit_strain:g}.",
                "Errors are the scatter of the replicas; of one replica, those of the fit to samples taken "
                "as independent, which is a lower bound.",
            ),
            references=self.references,
        )

    @property
    def meaning(self) -> str:
        """What the first slope is."""
        if len(self.axis) > 1:
            return "shear modulus at fixed lengths"
        if self.lateral_pressure_GPa is None:
            return "elastic constant at fixed lateral lengths"
        return "Young's modulus"

    def _slope(
        self, strain: Float[np.ndarray, "frames"], y: Float[np.ndarray, "frames"]
    ) -> tuple[float, float]:
        """dy/de at e = 0 and its error, from y = a + b e + c e²."""
        inside = np.abs(strain) <= self.fit_strain * (1 + 1e-9)
        fit, covariance = np.polyfit(strain[inside], y[inside], 2, cov=True)
        return float(fit[1]), float(np.sqrt(covariance[1, 1]))


def _error(values: list[float], own: list[float]) -> float:
    """Standard error of the mean, from the scatter where there are at least three."""
    if len(values) >= 3:
        return float(np.std(values, ddof=1) / np.sqrt(len(values)))
    return float(np.sqrt(np.sum(np.square(own))) / len(own))


def _is_box(atoms: Atoms) -> bool:
    cell = atoms.cell.array
    return bool(atoms.pbc.all()) and np.allclose(cell, np.diag(np.diag(cell)), atol=1e-8)


def _table(strain: np.ndarray, pull: np.ndarray) -> Table:
    every = max(1, len(strain) // 50)
    n = pull.shape[1]
    error = pull.std(1, ddof=1) / np.sqrt(n) if n > 1 else np.full(len(pull), np.nan)
    rows = np.stack([strain.mean(1), pull.mean(1), error], 1)[::every]
    return Table(
        title="Stress and strain",
        columns=("strain", "stress (GPa)", "±"),
        rows=tuple(tuple(float(v) for v in row) for row in rows),
    )


def _figure(strain: np.ndarray, pull: np.ndarray, axis: str) -> Figure:
    curves = [Curve.of(f"replica {k}", strain[:, k], pull[:, k]) for k in range(min(pull.shape[1], 8))]
    return Figure(title="Stress", x_label=f"strain {axis}", y_label="stress (GPa)", curves=tuple(curves))
