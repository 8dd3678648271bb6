"""A run: a calculator, an integrator and a state, with reports, checkpoints and bit-for-bit restart."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from rikiba.calculators.base import Calculator, NonFiniteError
from rikiba.core import units
from rikiba.core.results import Results
from rikiba.core.system import System

from . import checkpoint as files
from .constraints.base import ConstraintError
from .limits import Breach, Limits, OutputError, SimulationError, likely_cause
from .operators import Memory, Step
from .reporters.base import Reporter, Snapshot
from .splitting import Ensemble, Splitting, as_splitting
from .state import State, per_system

WIDE = Limits.wide()
_STATE_FIELDS = ("velocities", "masses", "inverse_masses", "seeds", "dof_removed", "time")


@runtime_checkable
class Remembers(Protocol):
    """A calculator with memory of its own (bias hills, a charge guess) that a checkpoint must hold."""

    def memory(self) -> dict[str, Any]: ...

    def restore(self, memory: dict[str, np.ndarray]) -> None: ...


class Evaluator:
    """A calculator whose last results are kept until positions or cell change."""

    def __init__(self, calculator: Calculator) -> None:
        self.calculator = calculator
        self.n_calls = 0
        self._key: tuple[Tensor, Tensor] | None = None
        self._results: Results | None = None

    def __call__(self, system: System, stress: bool = False, stress_welcome: bool = False) -> Results:
        """Results with the stress if needed; if merely welcome, only where there is something to evaluate."""
        kept = self.kept(system)
        if kept is not None and (kept.stress is not None or not stress):
            return kept
        self.n_calls += 1
        try:
            results = self.calculator(system, forces=True, stress=stress or stress_welcome)
        except ValueError as error:
            _require_finite_places(system, error)
            raise
        if results.need("forces").dtype != torch.float64:
            results = results.replace(forces=results.need("forces").double())
        self.keep(system, results)
        return results

    def kept(self, system: System) -> Results | None:
        """Results already known for this configuration."""
        if self._key is None or self._key[0] is not system.positions or self._key[1] is not system.cell:
            return None
        return self._results

    def keep(self, system: System, results: Results) -> None:
        self._key, self._results = (system.positions, system.cell), results


class Simulation:
    """Molecular dynamics of one or many systems.

    Restart is bit for bit: a run that is stopped or killed at any moment, restored from its checkpoint and
    continued equals one that was never stopped, files of the reporters included. What reporters wrote stays
    on disk; at most the steps since the last checkpoint are done again. Pair lists need no saving because the
    pairs that a calculator evaluates do not depend on when its list was built.

    Args:
        calculator: gives energy and forces.
        integrator: a `Splitting`, or a named ensemble such as `NVE()` or `Langevin(temperature_K=300)`.
        state: positions and velocities to start from.
        timestep_fs: fs; one for all systems or one for each.
        reporters: called at step 0 and every `interval` steps.
        checkpoint: file for checkpoints, the first at the start; none are written without it.
        checkpoint_interval: steps between checkpoints.
        limits: where the run is stopped with an error; none checks for finite numbers only.
        progress: called with (steps done, steps asked for) some hundred times a run.
    """

    def __init__(
        self,
        calculator: Calculator,
        integrator: Splitting | Ensemble,
        state: State,
        *,
        timestep_fs: float | Sequence[float],
        reporters: Sequence[Reporter] = (),
        checkpoint: str | Path | None = None,
        checkpoint_interval: int = 1000,
        limits: Limits | None = WIDE,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        self.splitting = as_splitting(integrator)
        if not self.splitting.conserves_momentum:
            state = state.replace(dof_removed=torch.zeros_like(state.dof_removed))
        self.state = state
        self.dt = per_system(timestep_fs, state.n_systems, state.time.device) * units.femtosecond
        if not bool((self.dt > 0).all()) or not bool(self.dt.isfinite().all()):
            raise ValueError(f"timestep_fs must be positive; given {timestep_fs}.")
        if checkpoint_interval < 1:
            raise ValueError(f"checkpoint_interval is at least 1 step; given {checkpoint_interval}.")
        self.reporters = tuple(reporters)
        self.checkpoint = None if checkpoint is None else Path(checkpoint)
        self.checkpoint_interval = checkpoint_interval
        self.limits = limits
        self.progress = progress
        self.stopped: str | None = None
        """Why a reporter stopped the last run; None if none did."""
        self.evaluator = Evaluator(calculator)
        self.memories = self.splitting.init(state, self._step())
        self._reported: dict[int, int] = {}
        self._saved: tuple[int, Path] | None = None

    @property
    def calculator(self) -> Calculator:
        return self.evaluator.calculator

    @property
    def results(self) -> Results:
        """Results at the current positions (evaluated only if not yet known)."""
        due = self._stress_due(self.state.step)
        return self.evaluator(self.state.system, due, due or self.splitting.needs_stress)

    @property
    def snapshot(self) -> Snapshot:
        """Energies, temperature and conserved quantity at this moment."""
        return Snapshot(self.state, self.results, self.splitting, self.memories)

    def run(self, n_steps: int) -> "Simulation":
        """Advance by n_steps; returns itself.

        Raises SimulationError, naming the step, the systems and atoms at fault, the likely cause and the last
        good checkpoint, where a number is not finite or a limit is broken; the state is then the last finite
        one. Raises OutputError where a file cannot be written: run again once it can, or restore.
        """
        if n_steps < 0:
            raise ValueError(f"n_steps is at least 0; given {n_steps}.")
        self.stopped = None
        tell_every = max(1, n_steps // 200)
        self._guarded(self._report)
        if self.checkpoint is not None and self._saved is None:
            self._guarded(self._check)
            self._keep()
        for done in range(1, n_steps + 1):
            if self._is_stopped():
                break
            self._guarded(self._advance)
            self._guarded(self._report)
            step = self.state.step
            saves = self.checkpoint is not None and step % self.checkpoint_interval == 0
            if saves or (self.limits is not None and step % self.limits.interval == 0):
                self._guarded(self._check)
            if saves:
                self._keep()
            if self.progress is not None and (done % tell_every == 0 or done == n_steps):
                self.progress(done, n_steps)
        if self.checkpoint is not None and (self._saved is None or self._saved[0] != self.state.step):
            self._guarded(self._check)
            self._keep()
        return self

    def only(self, systems: Sequence[int], **changes: Any) -> "Simulation":
        """A new simulation of some of the systems that goes on from this state, e.g. without a failed one.

        `changes` are constructor arguments of the new one: `reporters` and `checkpoint` (it has none unless
        given: files hold all systems), a `calculator` or an `integrator` whose values are one for each
        system. Where no sum over atoms of several systems is rounded differently, what the systems do has the
        bits it would have had in company.
        """
        which = torch.as_tensor(list(systems), dtype=torch.int64, device=self.state.time.device)
        given: dict[str, Any] = {
            "calculator": self.calculator,
            "integrator": self.splitting,
            "timestep_fs": (self.dt[which] / units.femtosecond).tolist(),
            "limits": self.limits,
            "checkpoint_interval": self.checkpoint_interval,
            **changes,
        }
        rest = Simulation(state=self.state[which], **given)
        rest.dt = self.dt[which]
        rest.memories = {k: m.select(self.state.system, which) for k, m in self.memories.items()}
        return rest

    def resume(self) -> bool:
        """Restore the checkpoint if there is one; False where the run has to begin at its beginning."""
        if self.checkpoint is None or not self.checkpoint.is_file():
            return False
        self.restore(self.checkpoint)
        return True

    def close(self) -> None:
        """Close the reporters' files."""
        for reporter in self.reporters:
            reporter.close()

    def _is_stopped(self) -> bool:
        return self.stopped is not None

    def _step(self) -> Step:
        due = self.splitting.needs_stress or self._stress_due(self.state.step + 1)
        return Step(self.evaluator, self.state.step, due)

    def _stress_due(self, step: int) -> bool:
        return any(r.needs_stress and step % r.interval == 0 for r in self.reporters)

    def _advance(self) -> None:
        state, memories = self.splitting.advance(self.state, self.memories, self.dt, self._step())
        if not math.isfinite(state.velocities.sum().item()):
            raise _not_finite(state)
        self.state, self.memories = state, memories

    def _report(self) -> None:
        step = self.state.step
        due = [k for k, r in enumerate(self.reporters) if step % r.interval == 0]
        due = [k for k in due if self._reported.get(k) != step]
        snapshot = self.snapshot if due else None
        for k in due:
            assert snapshot is not None
            try:
                reason = self.reporters[k].report(snapshot)
            except OSError as error:
                raise self._unwritten(type(self.reporters[k]).__name__, error) from error
            self._reported[k] = step
            self.stopped = self.stopped or reason

    def _check(self) -> None:
        if self.limits is not None:
            self.limits.check(self.state)

    def _keep(self) -> None:
        """The regular checkpoint."""
        assert self.checkpoint is not None
        try:
            self.save(self.checkpoint)
        except OSError as error:
            raise self._unwritten("The checkpoint", error) from error

    def _guarded(self, action: Callable[[], None]) -> None:
        try:
            action()
        except (NonFiniteError, Breach, ConstraintError) as error:
            systems, atoms = getattr(error, "systems", ()), getattr(error, "atoms", ())
            cause = error.cause if isinstance(error, Breach) else ""
            cause = cause or likely_cause(self.state, self.dt, systems)
            text = self._last_words(f"{error} Likely cause: {cause}.")
            raise SimulationError(text, step=self.state.step, systems=systems, atoms=atoms) from error
        except OutputError:
            raise
        except Exception as error:
            error.add_note(self._last_words("", keep=False))
            raise

    def _last_words(self, reason: str, keep: bool = True) -> str:
        text = f"The run stopped in the step after step {self.state.step}: {reason}"
        if self.checkpoint is not None and keep:
            failed = self.checkpoint.with_name(self.checkpoint.stem + ".last_finite" + self.checkpoint.suffix)
            try:
                self.save(failed, _remember=False)
                text += f" The last finite state is in {failed}."
            except OSError as error:
                text += f" The last finite state could not be written to {failed}: {error}."
        return text + self._last_good()

    def _last_good(self) -> str:
        if self._saved is None:
            return ""
        return f" The last good checkpoint is {self._saved[1]} (step {self._saved[0]})."

    def _unwritten(self, what: str, error: OSError) -> OutputError:
        return OutputError(
            f"The run stopped at step {self.state.step}: {what} could not be written: {error}. Likely cause: "
            f"the disk or a quota is full. Nothing that was written before is lost.{self._last_good()} Make "
            f"room and go on from there."
        )

    def save(self, path: str | Path, *, _remember: bool = True) -> Path:
        """Write everything with memory: state, operators, results, calculator, reporters. Atomic."""
        system = self.state.system
        arrays: dict[str, Any] = {"state/positions": system.positions, "state/cell": system.cell}
        arrays["state/numbers"] = system.numbers
        arrays["state/system_index"] = system.system_index
        arrays.update({f"state/{name}": getattr(self.state, name) for name in _STATE_FIELDS})
        arrays["dt"] = self.dt
        for letter, memory in self.memories.items():
            arrays.update({f"memory/{letter}/systems/{name}": t for name, t in memory.systems.items()})
            arrays.update({f"memory/{letter}/atoms/{name}": t for name, t in memory.atoms.items()})
        results = self.evaluator.kept(system)
        if results is not None:
            arrays.update({f"results/{q.name}": getattr(results, q.name) for q in results.present()})
        if isinstance(self.calculator, Remembers):
            arrays.update({f"calculator/{name}": v for name, v in self.calculator.memory().items()})
        for k, reporter in enumerate(self.reporters):
            arrays.update({f"reporter/{k}/{name}": v for name, v in reporter.memory().items()})
        path = files.write(path, arrays, self._meta())
        if _remember:
            self._saved = (self.state.step, path)
        return path

    def _meta(self) -> dict[str, Any]:
        return {
            "step": self.state.step,
            "reported": [self._reported.get(k, -1) for k in range(len(self.reporters))],
            "integrator": self.splitting.settings(),
            "reporters": [type(r).__name__ for r in self.reporters],
            "constraints": None if self.state.constraints is None else self.state.constraints.digest(),
        }

    def restore(self, path: str | Path) -> "Simulation":
        """Go back to a checkpoint of a simulation that was built with the same arguments; returns itself.

        Raises ValueError where structures, integrator, timestep or reporters differ from the checkpoint's.
        """
        arrays, meta = files.read(path)
        self._check_same(Path(path), arrays, meta)
        put = lambda a: torch.from_numpy(a).to(self.state.time.device)  # noqa: E731
        saved = files.under(arrays, "state")
        system = self.state.system.replace(positions=put(saved["positions"]), cell=put(saved["cell"]))
        fields = {name: put(saved[name]) for name in _STATE_FIELDS}
        self.state = self.state.replace(system=system, step=int(meta["step"]), **fields)
        self.dt = put(arrays["dt"])
        for letter in self.memories:
            kept = files.under(arrays, f"memory/{letter}")
            self.memories[letter] = Memory(
                {name: put(v) for name, v in files.under(kept, "systems").items()},
                {name: put(v) for name, v in files.under(kept, "atoms").items()},
            )
        results: dict[str, Any] = {name: put(v) for name, v in files.under(arrays, "results").items()}
        if results:
            self.evaluator.keep(system, Results(**results))
        if isinstance(self.calculator, Remembers):
            self.calculator.restore(files.under(arrays, "calculator"))
        for k, reporter in enumerate(self.reporters):
            reporter.restore(files.under(arrays, f"reporter/{k}"))
        self._reported = dict(enumerate(meta["reported"]))
        self._saved = (self.state.step, Path(path))
        return self

    def _check_same(self, path: Path, arrays: dict[str, np.ndarray], meta: dict[str, Any]) -> None:
        system, now = self.state.system, self._meta()
        same_atoms = np.array_equal(arrays["state/numbers"], system.numbers.cpu().numpy()) and np.array_equal(
            arrays["state/system_index"], system.system_index.cpu().numpy()
        )
        if not same_atoms:
            raise ValueError(
                f"{path} holds other atoms than this simulation; restart with the same structures."
            )
        for what in ("integrator", "reporters", "constraints"):
            if meta.get(what) != now[what]:
                raise ValueError(
                    f"{path} was written with {what} {meta.get(what)}; this simulation has {now[what]}."
                )
        if not np.array_equal(arrays["dt"], self.dt.cpu().numpy()):
            raise ValueError(
                f"{path} was written with timestep_fs {(arrays['dt'] / units.femtosecond).tolist()}; this "
                f"simulation has {(self.dt / units.femtosecond).tolist()}."
            )


def _require_finite_places(system: System, error: ValueError) -> None:
    """Raise NonFiniteError where a calculator refused positions or a cell that are not finite."""
    atoms = (~system.positions.isfinite()).any(1).nonzero().flatten()
    cells = (~system.cell.isfinite()).any(2).any(1).nonzero().flatten()
    owners = tuple(torch.cat([system.system_index[atoms], cells]).unique().tolist())
    if owners:
        what = f"atoms {atoms.tolist()[:8]}" if len(atoms) else "the cell"
        raise NonFiniteError(
            f"the place of {what} (system {owners[0]}) is not finite.", owners, tuple(atoms.tolist())
        ) from error


def _not_finite(state: State) -> NonFiniteError:
    bad = (~state.velocities.isfinite()).any(1).nonzero().flatten()
    if len(bad) == 0:
        return NonFiniteError("velocities are so large that their sum overflows.")
    atom, owners = int(bad[0]), state.system.system_index[bad]
    return NonFiniteError(
        f"the velocity of atom {atom} (system {int(owners[0])}) is not finite.",
        tuple(owners.unique().tolist()),
        tuple(bad.tolist()),
    )
