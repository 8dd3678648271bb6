"""What a search leaves behind: different minima, ranked, and the file from which it goes on."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import numpy as np
import torch

from rikiba.core.record import Curve, Figure, Record, Table
from rikiba.core.system import System
from rikiba.data.fingerprints import fingerprint

if TYPE_CHECKING:
    from ase import Atoms

FORMAT = 1


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Minimum:
    """One relaxed structure."""

    system: System
    """A single structure."""
    energy: float
    """eV; the enthalpy under pressure."""
    found: int
    """How often it was met."""
    first: int
    """Trial that met it first."""
    shape: np.ndarray
    """Its fingerprint, Å."""


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Minima:
    """Different minima by rising energy per atom. Two are one where energy and fingerprint agree."""

    energy_tolerance_eV: float = 1e-3
    """Of the whole structure."""
    distance_tolerance: float = 0.05
    """Root mean square difference of fingerprints, Å."""
    keep: int = 100
    """Lowest minima that are kept."""
    found: tuple[Minimum, ...] = ()
    trials: int = 0
    failed: int = 0
    """Trials whose relaxation did not converge, or that were refused for another reason."""
    best: tuple[tuple[int, float], ...] = ()
    """(trial, energy per atom) wherever a new lowest one was met."""
    references: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.found)

    def __getitem__(self, k: int) -> Minimum:
        return self.found[k]

    def with_trial(self, system: System, energy: float, converged: bool = True) -> "Minima":
        """These minima after one more trial that ended in `system`."""
        number = self.trials + 1
        if not converged:
            return replace(self, trials=number, failed=self.failed + 1)
        shape = fingerprint(system)
        per_atom = energy / system.n_atoms
        best = self.best
        if not best or per_atom < best[-1][1] - 1e-9:
            best = (*best, (number, per_atom))
        for k, old in enumerate(self.found):
            if self._same(old, system, energy, shape):
                lower = energy < old.energy
                kept = replace(
                    old,
                    found=old.found + 1,
                    system=system if lower else old.system,
                    energy=min(energy, old.energy),
                    shape=shape if lower else old.shape,
                )
                found = (*self.found[:k], kept, *self.found[k + 1 :])
                return replace(self, found=_ranked(found), trials=number, best=best)
        new = Minimum(system=system, energy=energy, found=1, first=number, shape=shape)
        return replace(self, found=_ranked((*self.found, new))[: self.keep], trials=number, best=best)

    def _same(self, old: Minimum, system: System, energy: float, shape: np.ndarray) -> bool:
        if abs(old.energy - energy) > self.energy_tolerance_eV:
            return False
        if not torch.equal(old.system.numbers.sort().values, system.numbers.sort().values):
            return False
        return bool(np.sqrt(((old.shape - shape) ** 2).mean()) <= self.distance_tolerance)

    def to_ase(self) -> "list[Atoms]":
        """The structures by rising energy; `info` has `energy` (eV), `found`, `first` and `rank`."""
        frames = []
        for rank, m in enumerate(self.found, 1):
            (atoms,) = m.system.to_ase()
            atoms.info |= {"energy": m.energy, "found": m.found, "first": m.first, "rank": rank}
            frames.append(atoms)
        return frames

    def record(self) -> Record:
        """The ranking, and how the lowest energy fell from trial to trial."""
        if not self.found:
            raise ValueError(
                f"None of {self.trials} trials ended in a minimum; raise the minimiser's max_steps."
            )
        lowest = self.found[0]
        rows = tuple(
            (
                rank,
                m.system.to_ase()[0].get_chemical_formula(),
                m.energy,
                1e3 * (m.energy / m.system.n_atoms - lowest.energy / lowest.system.n_atoms),
                float(m.system.volume[0] / m.system.n_atoms),
                m.found,
                m.first,
            )
            for rank, m in enumerate(self.found[:50], 1)
        )
        columns = (
            "rank",
            "formula",
            "energy (eV)",
            "above the lowest (meV/atom)",
            "volume (Å³/atom)",
            "times found",
            "first in trial",
        )
        x = [t for t, _ in self.best] + [self.trials]
        y = [e for _, e in self.best] + [self.best[-1][1]]
        figure = Figure(
            title="Lowest energy",
            x_label="trial",
            y_label="energy (eV/atom)",
            curves=(Curve.of("lowest so far", x, y, style="step"),),
        )
        notes = (f"{self.failed} of {self.trials} trials did not end in a minimum.",) if self.failed else ()
        return Record(
            name="search",
            title="Search for minima",
            values={
                "lowest_energy_eV": lowest.energy,
                "lowest_energy_eV_per_atom": lowest.energy / lowest.system.n_atoms,
                "n_minima": len(self.found),
                "n_trials": self.trials,
                "first_found_in_trial": lowest.first,
                "times_found": lowest.found,
            },
            tables=(Table(title="Minima", columns=columns, rows=rows),),
            figures=(figure,),
            notes=notes,
            references=self.references,
        )

    def to_plain(self) -> dict[str, Any]:
        """Numbers, strings and lists that `from_plain` makes the same minima of, to the bit."""
        return {
            "trials": self.trials,
            "failed": self.failed,
            "best": [list(b) for b in self.best],
            "found": [
                {"energy": m.energy, "found": m.found, "first": m.first, "structure": plain(m.system)}
                for m in self.found
            ],
        }

    def from_plain(self, data: Mapping[str, Any]) -> "Minima":
        """The minima of a file, with these tolerances."""
        found = []
        for m in data["found"]:
            system = from_plain(m["structure"])
            found.append(
                Minimum(
                    system=system,
                    energy=m["energy"],
                    found=m["found"],
                    first=m["first"],
                    shape=fingerprint(system),
                )
            )
        best = tuple((int(t), float(e)) for t, e in data["best"])
        return replace(self, found=tuple(found), trials=data["trials"], failed=data["failed"], best=best)


def _ranked(found: Sequence[Minimum]) -> tuple[Minimum, ...]:
    return tuple(sorted(found, key=lambda m: (m.energy / m.system.n_atoms, m.first)))


def plain(system: System) -> dict[str, Any]:
    """A single structure as lists; JSON keeps their bits."""
    return {
        "numbers": system.numbers.tolist(),
        "positions": system.positions.tolist(),
        "cell": system.cell[0].tolist(),
        "pbc": system.pbc[0].tolist(),
    }


def from_plain(data: Mapping[str, Any]) -> System:
    """The structure of `plain`."""
    n = len(data["numbers"])
    return System(
        positions=torch.tensor(data["positions"], dtype=torch.float64).reshape(n, 3),
        numbers=torch.tensor(data["numbers"], dtype=torch.int64),
        cell=torch.tensor([data["cell"]], dtype=torch.float64),
        pbc=torch.tensor([data["pbc"]]),
        system_index=torch.zeros(n, dtype=torch.int64),
    )


def write_state(path: str | Path, kind: str, settings: Mapping[str, Any], state: Mapping[str, Any]) -> Path:
    """Write where a search stands; the file appears whole or not at all."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with open(scratch, "w", encoding="utf-8") as file:
            json.dump({"format": FORMAT, "kind": kind, "settings": settings, "state": state}, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(scratch, path)
    finally:
        scratch.unlink(missing_ok=True)
    return path


def read_state(path: str | Path | None, kind: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Where a search stood. Raises ValueError for no file and for that of another search."""
    if path is None or not Path(path).is_file():
        raise ValueError(f"There is no file {path} to go on from; leave resume out.")
    try:
        data = json.loads(Path(path).read_text(encoding="utf-8"))
        made_by, there, state = data["kind"], data["settings"], data["state"]
        if data["format"] != FORMAT:
            raise ValueError(f"format {data['format']}, this version reads {FORMAT}")
    except (KeyError, TypeError, json.JSONDecodeError, ValueError) as error:
        raise ValueError(f"{path} is not the state of a search, or it is damaged: {error}.") from error
    now = json.loads(json.dumps(dict(settings)))
    if (made_by, there) != (kind, now):
        changed = sorted(k for k in {*there, *now} if there.get(k) != now.get(k)) or [kind]
        raise ValueError(
            f"{path} belongs to a search with other settings ({', '.join(changed)}); use the same ones."
        )
    found: dict[str, Any] = state
    return found
