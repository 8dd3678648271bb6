"""Metropolis Monte Carlo of many systems at once."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar, final

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from rikiba.calculators.base import Calculator
from rikiba.core import units
from rikiba.core.record import Curve, Figure, Record, Table
from rikiba.core.system import System
from rikiba.kernels.random import PER_SYSTEM, uniforms
from rikiba.md import checkpoint as files
from rikiba.md.drift import correlation_frames
from rikiba.md.state import per_system, per_system_seeds

from .moves.base import Move, Proposal, Scene
from .trajectory import Observer

_CHOICE, _TRIAL = 0, 1
"""Streams of random numbers: which move is tried (the same for all systems), and the trial itself."""
_TUNED_AFTER = 50
"""Trials of a move between two changes of its step size."""


@final
class MonteCarlo:
    """Metropolis sampling at constant temperature, and pressure where a move changes the volume.

    At each step all systems try the same move; a system accepts with probability
    min(1, w exp(−β(ΔU + PΔV))), w being the move's own weight (Metropolis, Rosenbluth, Rosenbluth, Teller &
    Teller, doi:10.1063/1.1699114; Hastings, doi:10.1093/biomet/57.1.97). Which move is drawn with a
    probability that does not depend on the configurations. Random numbers are functions of a system's seed
    and the step, so a system's path does not depend on its companions in the batch. Step sizes are tuned
    towards `acceptance` during the first `equilibration_steps` only, because tuning breaks detailed balance;
    samples are kept after them.

    Args:
        calculator: energies; forces are never asked for.
        system: one or many structures; molecules whole.
        moves: trial moves with their relative weights.
        temperature_K: one for all systems or one for each.
        pressure_GPa: needed where a move changes the volume, refused otherwise.
        seed: one for each system, or one integer s, which gives system k the seed s + k.
        equilibration_steps: steps before samples are kept.
        acceptance: ratio that step sizes are tuned to.
        interval: steps between samples of energy and volume.
        molecules: number of the molecule of each atom, ascending over the batch, for moves of molecules.
        fixed: True for atoms that never move.
        observers: see configurations during the run.
        checkpoint: file that is written every `checkpoint_interval` steps and at the end.
        checkpoint_interval: steps.
        progress: called with (steps done, steps asked for).

    Raises ValueError where moves do not apply to the systems or the arguments contradict each other.
    """

    references: ClassVar[tuple[str, ...]] = ("10.1063/1.1699114", "10.1093/biomet/57.1.97")

    def __init__(
        self,
        calculator: Calculator,
        system: System,
        moves: Sequence[Move],
        *,
        temperature_K: float | Sequence[float],
        pressure_GPa: float | Sequence[float] | None = None,
        seed: int | Sequence[int] = 0,
        equilibration_steps: int = 0,
        acceptance: float = 0.4,
        interval: int = 10,
        molecules: Int[Tensor, "atoms"] | None = None,
        fixed: Bool[Tensor, "atoms"] | None = None,
        observers: Sequence[Observer] = (),
        checkpoint: str | Path | None = None,
        checkpoint_interval: int = 10_000,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        n, device = system.n_systems, system.positions.device
        _check_numbers(moves, equilibration_steps, acceptance, interval, checkpoint_interval)
        temperature = per_system(temperature_K, n, device)
        if not bool((temperature > 0).all()):
            raise ValueError(f"temperature_K must be positive; given {temperature_K}.")
        scales = any(m.changes_volume for m in moves)
        if scales != (pressure_GPa is not None):
            raise ValueError(
                "A move that changes the volume needs pressure_GPa."
                if scales
                else "pressure_GPa acts where a move changes the volume; there is none among the moves."
            )
        self.calculator, self.moves, self.observers = calculator, tuple(moves), tuple(observers)
        self.system, self.step = system, 0
        self.beta = 1.0 / (units.boltzmann * temperature)
        self.pressure = (
            per_system(0.0 if pressure_GPa is None else pressure_GPa, n, device) * units.gigapascal
        )
        self.seeds = per_system_seeds(seed, n, device)
        self.equilibration_steps, self.acceptance, self.interval = equilibration_steps, acceptance, interval
        self.checkpoint = None if checkpoint is None else Path(checkpoint)
        self.checkpoint_interval, self.progress = checkpoint_interval, progress
        still = torch.zeros_like(system.numbers, dtype=torch.bool) if fixed is None else fixed
        scene = Scene(system=system, fixed=still, molecules=_checked(molecules, system))
        self._plans = [m.prepare(scene) for m in moves]
        self._chances = np.cumsum([m.weight for m in moves]) / sum(m.weight for m in moves)
        first = torch.tensor([m.size for m in moves], dtype=torch.float64, device=device)
        self.sizes: Float[Tensor, "moves systems"] = first[:, None].repeat(1, n)
        zero = torch.zeros((len(moves), n), dtype=torch.int64, device=device)
        self._tried, self._accepted = zero.clone(), zero.clone()
        self._window_tried, self._window_accepted = zero.clone(), zero.clone()
        self.energy: Float[Tensor, systems] = self._energy(system)
        self._samples: list[tuple[int, Tensor, Tensor]] = []
        self._seen = -1
        self._none = torch.full((n,), PER_SYSTEM, dtype=torch.int64, device=device)

    def run(self, n_steps: int) -> "MonteCarlo":
        """Advance by n_steps; returns itself."""
        if n_steps < 0:
            raise ValueError(f"n_steps is at least 0; given {n_steps}.")
        tell_every = max(1, n_steps // 200)
        self._observe()
        for done in range(1, n_steps + 1):
            self._advance()
            self._observe()
            if self.checkpoint is not None and self.step % self.checkpoint_interval == 0:
                self.save(self.checkpoint)
            if self.progress is not None and (done % tell_every == 0 or done == n_steps):
                self.progress(done, n_steps)
        if self.checkpoint is not None:
            self.save(self.checkpoint)
        return self

    def close(self) -> None:
        """Close the observers' files."""
        for observer in self.observers:
            observer.close()

    def _energy(self, system: System) -> Float[Tensor, "systems"]:
        return self.calculator(system, forces=False).need("energy").double()

    def _advance(self) -> None:
        key = self.seeds.new_zeros(1)
        which = float(uniforms(key, key, self.step, _CHOICE, 1)[0, 0])
        k = min(int(np.searchsorted(self._chances, which)), len(self.moves) - 1)
        move = self.moves[k]
        u = uniforms(self.seeds, self._none, self.step, _TRIAL, move.n_uniforms + 1)
        trial = move.propose(self._plans[k], self.system, self.sizes[k], u[:, 1:])
        energy = self._energy(trial.system)
        accepted = self._accepts(trial, energy, u[:, 0])
        atoms = accepted[self.system.system_index][:, None]
        self.system = self.system.replace(
            positions=torch.where(atoms, trial.system.positions, self.system.positions),
            cell=torch.where(accepted[:, None, None], trial.system.cell, self.system.cell),
        )
        self.energy = torch.where(accepted, energy, self.energy)
        self.step += 1
        if self.step > self.equilibration_steps:
            self._tried[k] += 1
            self._accepted[k] += accepted
        else:
            self._tune(k, accepted)

    def _accepts(
        self, trial: Proposal, energy: Float[Tensor, "systems"], u: Float[Tensor, "systems"]
    ) -> Bool[Tensor, "systems"]:
        """Where ln u ≤ ln w − β(ΔU + PΔV)."""
        work = energy - self.energy
        if bool((self.pressure != 0).any()):
            work = work + self.pressure * (trial.system.volume - self.system.volume)
        return trial.possible & (torch.log(u) <= trial.log_weight - self.beta * work)

    def _tune(self, k: int, accepted: Bool[Tensor, "systems"]) -> None:
        """Make a move's steps longer or shorter, by at most a factor 2, after `_TUNED_AFTER` trials."""
        self._window_tried[k] += 1
        self._window_accepted[k] += accepted
        if int(self._window_tried[k, 0]) < _TUNED_AFTER:
            return
        ratio = self._window_accepted[k].double() / self._window_tried[k]
        factor = (ratio / self.acceptance).clamp(0.5, 2.0)
        self.sizes[k] = (self.sizes[k] * factor).clamp(max=self.moves[k].largest)
        self._window_tried[k] = 0
        self._window_accepted[k] = 0

    def _observe(self) -> None:
        if self._seen == self.step:
            return
        self._seen = self.step
        if self.step >= self.equilibration_steps and self.step % self.interval == 0:
            self._samples.append((self.step, self.energy, self.system.volume))
        for observer in self.observers:
            if self.step % observer.interval == 0:
                observer.observe(self.step, self.system, self.energy)

    @property
    def sampled_steps(self) -> Int[np.ndarray, "samples"]:
        """Steps after equilibration at which samples were kept."""
        return np.array([step for step, _, _ in self._samples], dtype=np.int64)

    @property
    def energies(self) -> Float[np.ndarray, "samples systems"]:
        """Potential energy of the samples, eV."""
        return self._stacked([energy for _, energy, _ in self._samples])

    @property
    def volumes(self) -> Float[np.ndarray, "samples systems"]:
        """Volume of the samples, Å³; 0 where a system has none."""
        return self._stacked([volume for _, _, volume in self._samples])

    def _stacked(self, rows: Sequence[Tensor]) -> np.ndarray:
        return np.array([r.cpu().numpy() for r in rows]).reshape(len(rows), self.system.n_systems)

    @property
    def acceptance_ratios(self) -> dict[str, Float[np.ndarray, "systems"]]:
        """Move → accepted share of its trials after equilibration; NaN where it was not tried."""
        tried = torch.where(self._tried > 0, self._tried.double(), torch.nan)
        ratio = (self._accepted / tried).cpu().numpy()
        return {name: ratio[k] for k, name in enumerate(self._names())}

    def _names(self) -> list[str]:
        kinds = [type(m).__name__ for m in self.moves]
        return [f"{n} {k + 1}" if kinds.count(n) > 1 else n for k, n in enumerate(kinds)]

    def save(self, path: str | Path) -> Path:
        """Write everything that the next step depends on, and the samples. Atomic."""
        arrays: dict[str, Any] = {
            "positions": self.system.positions,
            "cell": self.system.cell,
            "numbers": self.system.numbers,
            "system_index": self.system.system_index,
            "energy": self.energy,
            "seeds": self.seeds,
            "beta": self.beta,
            "pressure": self.pressure,
            "sizes": self.sizes,
            "counts": torch.stack([self._tried, self._accepted, self._window_tried, self._window_accepted]),
            "samples/steps": self.sampled_steps,
            "samples/energies": self.energies,
            "samples/volumes": self.volumes,
        }
        for k, observer in enumerate(self.observers):
            arrays.update({f"observer/{k}/{name}": v for name, v in observer.memory().items()})
        return files.write(path, arrays, {"step": self.step, "seen": self._seen, **self._meta()})

    def _meta(self) -> dict[str, Any]:
        return {
            "moves": [[type(m).__name__, m.weight] for m in self.moves],
            "equilibration_steps": self.equilibration_steps,
            "observers": [type(o).__name__ for o in self.observers],
        }

    def restore(self, path: str | Path) -> "MonteCarlo":
        """Go back to a checkpoint of a run that was built with the same arguments; returns itself.

        Raises ValueError where atoms, moves, conditions or observers differ from the checkpoint's.
        """
        arrays, meta = files.read(path)
        self._check_same(Path(path), arrays, meta)
        put = lambda name: torch.from_numpy(arrays[name]).to(self.energy.device)  # noqa: E731
        self.system = self.system.replace(positions=put("positions"), cell=put("cell"))
        self.energy, self.seeds, self.sizes = put("energy"), put("seeds"), put("sizes")
        self._tried, self._accepted, self._window_tried, self._window_accepted = put("counts").unbind(0)
        energies, volumes = put("samples/energies"), put("samples/volumes")
        steps = arrays["samples/steps"].tolist()
        self._samples = [(s, energies[k], volumes[k]) for k, s in enumerate(steps)]
        for k, observer in enumerate(self.observers):
            observer.restore(files.under(arrays, f"observer/{k}"))
        self.step, self._seen = int(meta["step"]), int(meta["seen"])
        return self

    def _check_same(self, path: Path, arrays: dict[str, np.ndarray], meta: dict[str, Any]) -> None:
        for name, now in {
            "numbers": self.system.numbers,
            "system_index": self.system.system_index,
            "beta": self.beta,
            "pressure": self.pressure,
        }.items():
            if not np.array_equal(arrays[name], now.cpu().numpy()):
                raise ValueError(
                    f"{path} was written by a run with another {name}; restore it with the same structures, "
                    f"temperature and pressure."
                )
        for what, value in self._meta().items():
            if meta[what] != value:
                raise ValueError(f"{path} was written with {what} {meta[what]}; this run has {value}.")

    def record(self) -> Record:
        """Means with standard errors (correlation times accounted for), acceptance, and the energy's path.

        Raises ValueError where fewer than two samples were kept.
        """
        if len(self._samples) < 2:
            raise ValueError(
                f"{len(self._samples)} samples were kept after {self.equilibration_steps} steps of "
                f"equilibration; run longer or set a smaller interval."
            )
        values: dict[str, Any] = {"n_steps": self.step, "n_samples": len(self._samples)}
        spread: dict[str, Any] = {}
        measured = {"mean_energy_eV": self.energies}
        if any(m.changes_volume for m in self.moves):
            measured["mean_volume_A3"] = self.volumes
        for name, series in measured.items():
            values[name] = series.mean(0).tolist()
            spread[name] = [standard_error(s) for s in series.T]
        ratios = self.acceptance_ratios
        rows = tuple(
            (name, float(self.sizes[k].mean()), float(np.nanmean(ratios[name])) if tried else float("nan"))
            for k, name in enumerate(self._names())
            for tried in [bool((self._tried[k] > 0).any())]
        )
        curves = [
            Curve.of(f"system {k}", self.sampled_steps, self.energies[:, k])
            for k in range(min(16, self.system.n_systems))
        ]
        return Record(
            name="monte_carlo",
            title="Monte Carlo",
            values=values,
            spread=spread,
            tables=(Table(title="Moves", columns=("move", "step size", "accepted"), rows=rows),),
            figures=(Figure(title="Energy", x_label="step", y_label="U (eV)", curves=tuple(curves)),),
            notes=(f"The first {self.equilibration_steps} steps tuned the moves and were left out.",)
            if self.equilibration_steps
            else (),
            references=self._references(),
        )

    def _references(self) -> tuple[str, ...]:
        own = [d for m in self.moves for d in getattr(m, "references", ())]
        return tuple(dict.fromkeys([*self.references, *own]))


def standard_error(series: Float[np.ndarray, "samples"]) -> float:
    """σ √(2τ/n), with τ the integrated correlation time in samples."""
    tau, _ = correlation_frames(series)
    return float(series.std(ddof=1) * np.sqrt(2.0 * tau / len(series)))


def consecutive_molecules(system: System, atoms_per_molecule: int) -> Int[Tensor, "atoms"]:
    """Molecule of each atom where every molecule is as many consecutive atoms.

    Raises ValueError where a system's atoms cannot be divided so.
    """
    if atoms_per_molecule < 1 or bool((system.counts % atoms_per_molecule != 0).any()):
        raise ValueError(
            f"Systems of {system.counts.tolist()} atoms cannot be divided into molecules of "
            f"{atoms_per_molecule}."
        )
    return torch.arange(system.n_atoms, device=system.numbers.device) // atoms_per_molecule


def _checked(molecules: Int[Tensor, "atoms"] | None, system: System) -> Int[Tensor, "atoms"] | None:
    if molecules is None:
        return None
    if molecules.shape != system.numbers.shape or not bool((molecules.diff() >= 0).all()):
        raise ValueError(
            f"molecules numbers the molecule of each of the {system.n_atoms} atoms in ascending order."
        )
    whole = torch.unique_consecutive(molecules, return_inverse=True)[1]
    shared = torch.unique(torch.stack([whole, system.system_index]), dim=1).shape[1]
    if shared != int(whole.max()) + 1:
        raise ValueError("A molecule lies in two systems; number the molecules of each system anew.")
    return whole


def _check_numbers(
    moves: Sequence[Move], equilibration: int, acceptance: float, interval: int, checkpoint_interval: int
) -> None:
    if not moves:
        raise ValueError("At least one move is needed.")
    if equilibration < 0 or min(interval, checkpoint_interval) < 1:
        raise ValueError("equilibration_steps ≥ 0, interval ≥ 1 and checkpoint_interval ≥ 1 are needed.")
    if not 0.0 < acceptance < 1.0:
        raise ValueError(f"acceptance is between 0 and 1; given {acceptance}.")
