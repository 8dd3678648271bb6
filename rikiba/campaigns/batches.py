"""Many conditions advanced in one state, each as if it were alone."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, final

import torch
from ase import Atoms

from rikiba.calculators.base import Calculator
from rikiba.core.system import System
from rikiba.execution.progress import Progress, silent
from rikiba.md import checkpoint as files
from rikiba.md.simulation import Simulation
from rikiba.md.splitting import as_splitting
from rikiba.md.state import State, maxwell_boltzmann

from .grid import Bath, Condition, Grid, digest
from .samples import Samples


@final
@dataclass(frozen=True, kw_only=True)
class Batch:
    """Conditions that share a state. It can be sent to another process."""

    conditions: tuple[Condition, ...]
    keys: tuple[str, ...]
    structures: tuple[Atoms, ...]
    """One for each condition."""
    grid: Grid
    bath: Bath
    calculator: Callable[[], Calculator]
    folder: Path

    def __len__(self) -> int:
        return len(self.conditions)

    @property
    def checkpoint(self) -> Path:
        return self.folder / "batches" / f"{digest(self.keys)[:24]}.checkpoint"

    def part(self, which: Sequence[int]) -> "Batch":
        """Some of the conditions, in the given order."""
        return replace(
            self,
            conditions=tuple(self.conditions[k] for k in which),
            keys=tuple(self.keys[k] for k in which),
            structures=tuple(self.structures[k] for k in which),
        )

    def start(self) -> State:
        """Velocities of each condition's temperature."""
        return maxwell_boltzmann(
            System.from_ase(list(self.structures)),
            [c.temperature_K for c in self.conditions],
            seed=[c.seed for c in self.conditions],
            masses=torch.cat([torch.from_numpy(a.get_masses().copy()) for a in self.structures]),
        )

    def simulation(self, calculator: Calculator, state: State, samples: Samples, **more: Any) -> Simulation:
        """The simulation of these conditions from a state."""
        return Simulation(
            calculator,
            self.bath(self.conditions),
            state,
            timestep_fs=[c.timestep_fs for c in self.conditions],
            reporters=[samples],
            checkpoint_interval=self.grid.checkpoint_interval,
            **more,
        )


def cell_file(folder: Path, key: str) -> Path:
    """Where the outcome of a condition is kept."""
    return folder / "cells" / f"{key}.npz"


def run_batch(batch: Batch, *, progress: Progress = silent) -> None:
    """Run all conditions to the end and leave each one's outcome in its file.

    A system whose numbers stop being finite is taken out, its failure written down, and the others go on
    from where they were. A batch that was interrupted goes on from its last checkpoint.
    """
    calculator, total = batch.calculator(), batch.grid.total_steps
    simulation = _begin(batch, calculator, progress)
    while True:
        try:
            simulation.run(total - simulation.state.step)
            break
        except (ArithmeticError, ValueError) as error:
            reasons = _culprits(batch, simulation)
            if not reasons:
                raise
            _forget(batch)
            for k, reason in reasons.items():
                _leave(batch, simulation, k, reason=reason)
            left = [k for k in range(len(batch)) if k not in reasons]
            if not left:
                return
            progress(f"{len(reasons)} of {len(batch)} trajectories failed: {error}")
            batch, simulation = _without(batch, simulation, left, progress)
    for k in range(len(batch)):
        _leave(batch, simulation, k)
    _forget(batch)


def _begin(batch: Batch, calculator: Calculator, progress: Progress) -> Simulation:
    """From the batch's checkpoint where there is one, else from the structures."""
    samples = Samples(grid=batch.grid, keys=batch.keys, folder=batch.folder, structures=batch.structures)
    simulation = batch.simulation(
        calculator, batch.start(), samples, checkpoint=batch.checkpoint, progress=_telling(batch, progress)
    )
    return simulation.restore(batch.checkpoint) if batch.checkpoint.is_file() else simulation


def _telling(batch: Batch, progress: Progress) -> Callable[[int, int], None]:
    name = f"Batch {digest(batch.keys)[:6]} of {len(batch)}"
    return lambda done, total: progress(name, done, total)


def _without(
    batch: Batch, simulation: Simulation, left: Sequence[int], progress: Progress
) -> tuple[Batch, Simulation]:
    """The simulation of some of the systems from the same moment, memories and samples included."""
    which = torch.tensor(left)
    samples: Samples = simulation.reporters[0].select(left)  # type: ignore[attr-defined]
    memories = {name: m.select(simulation.state.system, which) for name, m in simulation.memories.items()}
    batch = batch.part(left)
    after = batch.simulation(
        simulation.calculator,
        simulation.state[which],
        samples,
        checkpoint=batch.checkpoint,
        progress=_telling(batch, progress),
    )
    after.memories = memories
    after.save(batch.checkpoint)
    return batch, after


def _culprits(batch: Batch, simulation: Simulation) -> dict[int, str]:
    """Systems that cannot take the next step by themselves, and why."""
    found = {}
    for k in range(len(batch)):
        alone, which = batch.part([k]), torch.tensor([k])
        try:
            # as_splitting first: what the ensemble refuses is a mistake of the user's, not of this system
            integrator = as_splitting(alone.bath(alone.conditions))
            one = Simulation(
                simulation.calculator,
                integrator,
                simulation.state[which],
                timestep_fs=alone.conditions[0].timestep_fs,
            )
            memories = simulation.memories.items()
            one.memories = {name: m.select(simulation.state.system, which) for name, m in memories}
            one.run(1)
        except (ArithmeticError, ValueError) as error:
            found[k] = str(error)
    return found


def _leave(batch: Batch, simulation: Simulation, k: int, reason: str = "") -> None:
    """Write the outcome of one condition: its samples and last state."""
    samples: Samples = simulation.reporters[0]  # type: ignore[assignment]
    state = simulation.state[torch.tensor([k])]
    arrays: dict[str, Any] = {f"samples/{name}": values for name, values in samples.of(k).items()}
    arrays |= {"positions": state.system.positions, "velocities": state.velocities}
    arrays |= {"cell": state.system.cell[0], "numbers": state.system.numbers}
    meta: Mapping[str, Any] = {
        "condition": asdict(batch.conditions[k]),
        "steps_done": simulation.state.step,
        "reason": reason,
        "formula": batch.structures[k].get_chemical_formula(),
    }
    files.write(cell_file(batch.folder, batch.keys[k]), arrays, meta)


def _forget(batch: Batch) -> None:
    """Remove the batch's checkpoints."""
    for file in (
        batch.checkpoint,
        batch.checkpoint.with_name(batch.checkpoint.stem + ".last_finite.checkpoint"),
    ):
        file.unlink(missing_ok=True)
