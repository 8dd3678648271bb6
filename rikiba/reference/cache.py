"""Labels that are made once: a cache on disk, addressed by the content of the structure."""

import hashlib
import json
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from .base import Failure, Reference
from .believable import labelled

_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS labels (key TEXT PRIMARY KEY, header TEXT NOT NULL, numbers BLOB NOT NULL)"
)


def content_key(atoms: Atoms, fingerprint: str) -> str:
    """SHA-256 of the method and of numbers, positions, cell, pbc, charge, spin and moments, bit for bit."""
    digest = hashlib.sha256()
    moments = atoms.get_initial_magnetic_moments() if atoms.has("initial_magmoms") else np.zeros(len(atoms))
    spin = atoms.info.get("spin")
    header = [fingerprint, float(atoms.info.get("charge", 0.0)), None if spin is None else int(spin)]
    digest.update(json.dumps(header).encode())
    digest.update(np.ascontiguousarray(atoms.numbers, dtype="<i8").tobytes())
    for array in (atoms.positions, atoms.cell.array, moments):
        digest.update(
            (np.ascontiguousarray(array, dtype="<f8") + 0.0).tobytes()
        )  # + 0.0: −0 and 0 are one number
    digest.update(np.asarray(atoms.pbc, dtype="u1").tobytes())
    return digest.hexdigest()


class Cached:
    """A reference whose answers are kept in `folder/labels.sqlite`; the same structure is labelled once.

    Each answer is stored as soon as it is known, in one transaction, so that a killed job continues where it
    stopped. Failures are kept only where they are deterministic. Several processes may share a folder on a
    local disk. A hit is a copy of the asked structure (its info included) with the stored labels.
    """

    def __init__(self, *, reference: Reference, folder: str | Path) -> None:
        """
        Args:
            reference: who labels what is not in the cache
            folder: where the cache lives; created if absent
        """
        self.reference, self.folder = reference, Path(folder)
        self.n_hits = 0
        self.n_misses = 0
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._connect() as database:
            database.execute(_SCHEMA)

    @property
    def level_of_theory(self) -> str:
        return self.reference.level_of_theory

    @property
    def fingerprint(self) -> str:
        return getattr(self.reference, "fingerprint", self.level_of_theory)

    def ase_calculator(self) -> Any:
        """The wrapped reference's ASE calculator (its calls are not cached)."""
        return self.reference.ase_calculator()  # type: ignore[attr-defined]

    def __len__(self) -> int:
        """Answers stored, at any level of theory."""
        database = self._connect()
        try:
            return int(database.execute("SELECT COUNT(*) FROM labels").fetchone()[0])
        finally:
            database.close()

    def label(self, frames: Sequence[Atoms]) -> list[Atoms | Failure]:
        """One labelled copy or Failure per frame, in order; new structures go to the wrapped reference."""
        fingerprint, level = self.fingerprint, self.level_of_theory
        keys = [content_key(atoms, fingerprint) for atoms in frames]
        database = self._connect()
        try:
            answers = {k: self._find(database, keys[k], frames[k], level) for k in range(len(frames))}
            first: dict[str, int] = {}
            for k, answer in answers.items():
                if answer is None:
                    first.setdefault(keys[k], k)
            self.n_misses += len(first)
            self.n_hits += len(frames) - len(first)
            asked = list(first.values())
            for position, answer in self._new([frames[k] for k in asked]):
                answers[asked[position]] = answer
                self._store(database, keys[asked[position]], answer)
        finally:
            database.close()
        return [_copy(answers[k] or answers[first[keys[k]]], frames[k], level) for k in range(len(frames))]

    def _new(self, frames: Sequence[Atoms]) -> Iterator[tuple[int, Atoms | Failure]]:
        if hasattr(self.reference, "stream"):
            yield from self.reference.stream(frames)
        else:
            for k, atoms in enumerate(frames):
                yield k, self.reference.label([atoms])[0]

    def _connect(self) -> sqlite3.Connection:
        database = sqlite3.connect(self.folder / "labels.sqlite", timeout=60.0)
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("PRAGMA synchronous=NORMAL")
        return database

    def _find(
        self, database: sqlite3.Connection, key: str, atoms: Atoms, level: str
    ) -> Atoms | Failure | None:
        row = database.execute("SELECT header, numbers FROM labels WHERE key = ?", (key,)).fetchone()
        if row is None:
            return None
        header = json.loads(row[0])
        if "failure" in header:
            return Failure(atoms=atoms, reason=header["failure"], deterministic=True)
        flat = np.frombuffer(row[1], dtype="<f8")
        values: dict[str, Any] = {}
        start = 0
        for name, shape in header["values"].items():
            size = int(np.prod(shape))
            part = flat[start : start + size].reshape(shape)
            values[name] = float(part) if not shape else np.array(part)
            start += size
        return labelled(atoms, level, values)

    def _store(self, database: sqlite3.Connection, key: str, answer: Atoms | Failure) -> None:
        if isinstance(answer, Failure):
            if not answer.deterministic:
                return
            header: dict[str, Any] = {"failure": answer.reason}
            numbers = b""
        else:
            arrays = {k: np.asarray(v, dtype="<f8") for k, v in answer.calc.results.items() if v is not None}
            header = {"values": {k: list(v.shape) for k, v in arrays.items()}}
            numbers = b"".join(v.tobytes() for v in arrays.values())
        with database:
            database.execute(
                "INSERT OR REPLACE INTO labels VALUES (?, ?, ?)", (key, json.dumps(header), numbers)
            )


def _copy(answer: Atoms | Failure | None, atoms: Atoms, level: str) -> Atoms | Failure:
    """The answer for this very frame object (a repeated structure may carry another info)."""
    assert answer is not None
    if isinstance(answer, Failure):
        return Failure(atoms=atoms, reason=answer.reason, deterministic=answer.deterministic)
    return labelled(atoms, level, dict(answer.calc.results))
