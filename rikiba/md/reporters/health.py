"""Watches whether a run that goes on is still right."""

import io
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from rikiba.core import units
from rikiba.core.elements import covalent_radius
from rikiba.core.pairs import find_pairs

from .. import health
from ..contacts import closest_contacts
from ..state import State
from .base import ByteOutput, Reporter, Snapshot, checked_interval, frames_of

_SERIES = ("temperature_K", "pressure_GPa", "conserved")
STILL = 0.02
"""Share of the kinetic energy in the motion of the whole that is no rounding where that motion was zeroed."""
FLYING = 44.0
"""χ² with three degrees of freedom exceeds it with a chance of 1.5e-9."""


class HealthWarning(UserWarning):
    """A run shows something that a healthy one does not."""


class Health(Reporter):
    """Warns once of each thing that a healthy run does not show, writes the frame, and stops if told to.

    At every look: atoms closer than `min_contact`; bonds that changed, atoms of a solid that left their
    sites; motion of the whole (a flying ice cube): over 2 % of the kinetic energy where momentum was zeroed,
    otherwise over 22 k_B T; a conserved quantity more than `max_departure` k_B T per atom from its start.
    At the end of every window but the first: the temperature's mean (where the bath's is given) and variance
    (over the canonical 2T²/N_f, or under it where the bath is given), growth of the variance of the
    temperature or pressure, drift of the conserved quantity. Each of these errs about once in 10⁶ windows
    of a stationary run (see `md.health`); a window with fewer than 12 independent samples is not judged.

    Args:
        path: file for the alarms; the frames go to PATH.frames.xyz. Without it there are warnings only.
        interval: steps between looks.
        window: looks in a window.
        on_alarm: warn, or stop the run as well.
        min_contact: closest distance of atoms over the sum of their covalent radii.
        bonds: bonds are to stay as they were at the start: none longer than 1.5 times its length, no new one
            shorter than 1.1 covalent distances.
        solid: atoms are to stay at their sites: root mean square displacement below 0.35 nearest distances.
        temperature_K: of the bath, where it is constant; the temperature is then to be canonical about it.
        pressure: watch the pressure as well (the stress is then evaluated at every look).
        max_departure: of the conserved quantity from its start, k_B T per atom.
        max_drift_meV_per_atom_per_ns: of the conserved quantity.
    """

    def __init__(
        self,
        *,
        path: str | Path | None = None,
        interval: int = 10,
        window: int = 200,
        on_alarm: Literal["warn", "stop"] = "warn",
        min_contact: float = 0.5,
        bonds: bool = False,
        solid: bool = False,
        temperature_K: float | None = None,
        pressure: bool = False,
        max_departure: float = 0.1,
        max_drift_meV_per_atom_per_ns: float = 100.0,
    ) -> None:
        self.interval = checked_interval(interval)
        if window < 50:
            raise ValueError(f"A window holds at least 50 looks; given {window}.")
        if on_alarm not in ("warn", "stop"):
            raise ValueError(f"on_alarm is warn or stop; given '{on_alarm}'.")
        self.needs_stress = pressure
        self.window, self.on_alarm, self.min_contact = window, on_alarm, min_contact
        self.bonds, self.solid, self.temperature_K = bonds, solid, temperature_K
        self.max_departure, self.max_drift = max_departure, max_drift_meV_per_atom_per_ns
        self._log = None if path is None else ByteOutput(path)
        self._frames = None if path is None else ByteOutput(f"{path}.frames.xyz")
        self._start: dict[str, np.ndarray] = {}
        self._looks: dict[str, list[np.ndarray]] = {name: [] for name in _SERIES}
        self._windows: list[np.ndarray] = []
        self._raised: list[str] = []

    @property
    def alarms(self) -> tuple[str, ...]:
        """'check system' of every alarm so far."""
        return tuple(self._raised)

    def report(self, snapshot: Snapshot) -> str | None:
        if not self._start:
            self._begin(snapshot)
        for name in _SERIES:
            if name != "pressure_GPa" or self.needs_stress:
                self._looks[name].append(getattr(snapshot, name).cpu().numpy().copy())
        found = [*self._structure(snapshot), *self._motion(snapshot)]
        if len(self._looks["temperature_K"]) == self.window:
            found += self._judge(snapshot)
        new = [(check, k, text) for check, k, text in found if f"{check} {k}" not in self._raised]
        for check, k, text in new:
            self._tell(snapshot, check, k, text)
        if new and self.on_alarm == "stop":
            return f"health: {new[0][0]}: {new[0][2]}"
        return None

    def _begin(self, snapshot: Snapshot) -> None:
        state = snapshot.state
        self._start = {
            "positions": state.system.positions.cpu().numpy().copy(),
            "conserved": snapshot.conserved.cpu().numpy().copy(),
            "thermal": units.boltzmann * snapshot.temperature_K.nan_to_num(0.0).cpu().numpy(),
        }
        if self.bonds or self.solid:
            radii = covalent_radius(state.system.numbers)
            pairs = find_pairs(state.system, 3.0 * float(radii.max()))
            lengths = pairs.vectors(state.system).norm(dim=-1)
            bonded = (lengths < 1.25 * (radii[pairs.i] + radii[pairs.j])) & (pairs.i < pairs.j)
            nearest = torch.full((state.system.n_atoms,), torch.inf, dtype=torch.float64)
            nearest = nearest.scatter_reduce(0, pairs.i.cpu(), lengths.cpu(), "amin")
            columns = (pairs.i, pairs.j, *pairs.shift.unbind(1))
            self._start["bonds"] = torch.stack(columns, 1)[bonded].cpu().numpy()
            self._start["lengths"] = lengths[bonded].cpu().numpy()
            self._start["nearest"] = nearest.numpy()

    def _structure(self, snapshot: Snapshot) -> Iterator[tuple[str, int, str]]:
        state = snapshot.state
        for contact in closest_contacts(state.system):
            if contact.ratio < self.min_contact:
                yield "collapse", contact.system, f"{contact}: the potential lets the structure collapse"
        if self.bonds:
            yield from self._bonds(state)
        if self.solid:
            yield from self._sites(state)

    def _bonds(self, state: State) -> Iterator[tuple[str, int, str]]:
        system, start = state.system, self._start
        i, j, *shift = torch.from_numpy(start["bonds"]).to(system.positions.device).unbind(1)
        moved = torch.stack(shift, 1).double()[:, None, :] @ system.cell[system.system_index[i]]
        now = (system.positions[j] + moved[:, 0] - system.positions[i]).norm(dim=-1).cpu().numpy()
        for b in np.flatnonzero(now > 1.5 * start["lengths"])[:1]:
            k = int(system.system_index[i[b]])
            yield "bonds", k, f"the bond of atoms {int(i[b])} and {int(j[b])} is {now[b]:.2f} Å long: broken"
        radii = covalent_radius(system.numbers)
        pairs = find_pairs(system, 2.2 * float(radii.max()))
        close = pairs.vectors(system).norm(dim=-1) < 1.1 * (radii[pairs.i] + radii[pairs.j])
        known = {(int(a), int(b)) for a, b in zip(i, j, strict=True)}
        for a, b in zip(pairs.i[close].tolist(), pairs.j[close].tolist(), strict=True):
            if a < b and (a, b) not in known:
                yield "bonds", int(system.system_index[a]), f"atoms {a} and {b} have formed a bond"
                return

    def _sites(self, state: State) -> Iterator[tuple[str, int, str]]:
        start = torch.from_numpy(self._start["positions"]).to(state.system.positions.device)
        away = state.system.positions - start
        for k in range(state.n_systems):
            rows = state.system.atom_rows(k)
            mass = state.masses[rows][:, None]
            own = away[rows] - (mass * away[rows]).sum(0) / mass.sum()
            nearest = float(np.median(self._start["nearest"][rows]))
            walked = float((own**2).sum(-1).mean().sqrt())
            if walked > 0.35 * nearest:
                yield (
                    "diffusion",
                    k,
                    f"atoms are {walked:.2f} Å from where they were (root mean square), neighbours "
                    f"{nearest:.2f} Å apart: the solid melts or flows",
                )

    def _motion(self, snapshot: Snapshot) -> Iterator[tuple[str, int, str]]:
        state = snapshot.state
        whole = 0.5 * (state.momentum**2).sum(1) / state.system.total(state.masses)
        share = (whole / snapshot.kinetic_energy.clamp(min=1e-300)).tolist()
        thermal = units.boltzmann * snapshot.temperature_K.nan_to_num(0.0)
        departure = snapshot.conserved.cpu().numpy() - self._start["conserved"]
        for k in range(state.n_systems):
            n = int(state.system.counts[k])
            kt, zeroed = float(thermal[k]), int(state.dof_removed[k]) >= 3
            flies = share[k] > STILL if zeroed else float(whole[k]) > 0.5 * FLYING * kt and n > 1
            if flies and n > 1:
                text = (
                    f"{100 * share[k]:.0f} % of the kinetic energy is motion of the whole: a flying ice cube"
                )
                yield "motion of the whole", k, text
            scale = max(kt, float(self._start["thermal"][k]))
            if not abs(departure[k]) <= self.max_departure * scale * n and scale > 0:
                text = (
                    f"the conserved quantity is {1e3 * departure[k] / n:.3g} meV/atom from its start: "
                    f"timestep too long, or forces that are not the derivative of the energy"
                )
                yield "conserved quantity", k, text

    def _judge(self, snapshot: Snapshot) -> list[tuple[str, int, str]]:
        """The window that is full; it becomes part of what later ones are compared with."""
        looks = {name: np.array(values) for name, values in self._looks.items() if values}
        self._looks = {name: [] for name in _SERIES}
        found: list[tuple[str, int, str]] = []
        dof = snapshot.state.dof.tolist()
        rows = np.full((snapshot.state.n_systems, 3, 3), np.nan)
        for k in range(snapshot.state.n_systems):
            for name in looks:
                w = health.Window.of(looks[name][:, k])
                rows[k, _SERIES.index(name)] = w.mean, w.variance, w.samples
            rows[k, 2, 1] = float(snapshot.time_ps[k])
            if self._windows and dof[k] > 0:
                found += [(check, k, text) for check, text in self._window(k, rows[k], dof[k])]
        self._windows.append(rows)
        counts = snapshot.state.system.counts.tolist()
        return found + [a for k in range(len(rows)) for a in self._drift(k, counts[k])]

    def _window(self, k: int, row: np.ndarray, dof: int) -> Iterator[tuple[str, str]]:
        now = health.Window(*row[0])
        target = now.mean if self.temperature_K is None else self.temperature_K
        canonical = 2.0 * target**2 / dof
        wide = health.variance_alarm(now, canonical, lower=self.temperature_K is not None)
        if wide is not None:
            how = "oscillates" if wide > 1 else "hardly fluctuates"
            yield (
                "temperature fluctuation",
                f"the temperature {how} about {now.mean:.0f} K: its variance is {wide:.2g} canonical ones",
            )
        if self.temperature_K is not None:
            off = health.mean_alarm(now, self.temperature_K, canonical)
            if off is not None:
                yield (
                    "temperature",
                    f"the mean temperature is {now.mean:.0f} K under a bath of {self.temperature_K:g} K",
                )
        for s in (0, 1):
            if np.isnan(row[s, 0]):
                continue
            earlier = [health.Window(*w[k, s]) for w in self._windows[1:]]
            grown = health.growth_alarm(health.Window(*row[s]), earlier)
            if grown is not None:
                what = ("temperature", "pressure")[s]
                yield f"{what} growth", f"the {what}'s variance has grown {grown:.2g}-fold: it is unstable"

    def _drift(self, k: int, n_atoms: int) -> Iterator[tuple[str, int, str]]:
        past = np.array([w[k, 2] for w in self._windows[1:]])
        if len(past) < 16:
            return
        tolerance = 1e-6 * self.max_drift * n_atoms
        slope = health.drift_alarm(past[:, 1], past[:, 0], tolerance)
        if slope is not None:
            text = f"the conserved quantity drifts by {1e6 * slope / n_atoms:.3g} meV/atom/ns"
            yield "drift", k, text

    def _tell(self, snapshot: Snapshot, check: str, k: int, text: str) -> None:
        self._raised.append(f"{check} {k}")
        line = f"step {snapshot.step}, system {k}: {check}: {text}"
        warnings.warn(line, HealthWarning, stacklevel=2)
        if self._log is None or self._frames is None:
            return
        from ase.io.extxyz import write_extxyz

        self._log.write((line + "\n").encode())
        frame = frames_of(snapshot)[k]
        frame.info["alarm"] = check
        content = io.StringIO()
        write_extxyz(content, [frame])
        self._frames.write(content.getvalue().encode())

    def memory(self) -> Mapping[str, Any]:
        kept: dict[str, Any] = {f"start_{name}": value for name, value in self._start.items()}
        kept |= {f"looks_{name}": np.array(values) for name, values in self._looks.items() if values}
        kept["windows"] = np.array(self._windows)
        kept["raised"] = np.array(self._raised, dtype=str)
        lengths = [0 if out is None else out.length() for out in (self._log, self._frames)]
        return {**kept, "lengths": np.array(lengths)}

    def restore(self, memory: Mapping[str, np.ndarray]) -> None:
        self._start = {n.removeprefix("start_"): v for n, v in memory.items() if n.startswith("start_")}
        self._looks = {name: list(memory.get(f"looks_{name}", ())) for name in _SERIES}
        self._windows = list(memory["windows"])
        self._raised = [str(v) for v in memory["raised"]]
        for out, length in zip((self._log, self._frames), memory["lengths"].tolist(), strict=True):
            if out is not None:
                out.cut(int(length))

    def close(self) -> None:
        for out in (self._log, self._frames):
            if out is not None:
                out.close()
