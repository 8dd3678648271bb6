"""Energies and temperature as a table."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .base import ByteOutput, Reporter, Snapshot, checked_interval

_COLUMNS = (
    "step",
    "time_ps",
    "system",
    "potential_eV",
    "kinetic_eV",
    "total_eV",
    "conserved_eV",
    "temperature_K",
    "degrees_of_freedom",
)


class Thermo(Reporter):
    """A CSV table with one row per reported step and system; numbers round-trip exactly.

    Args:
        path: file to write.
        interval: steps between rows.
        pressure: also report the pressure (the stress is then evaluated at reported steps).
    """

    def __init__(self, *, path: str | Path, interval: int = 10, pressure: bool = False) -> None:
        self.interval = checked_interval(interval)
        self.needs_stress = pressure
        self._out = ByteOutput(path)

    def report(self, snapshot: Snapshot) -> str | None:
        potential, kinetic = snapshot.potential_energy, snapshot.kinetic_energy
        columns = [
            snapshot.time_ps,
            potential,
            kinetic,
            potential + kinetic,
            snapshot.conserved,
            snapshot.temperature_K,
            snapshot.dof,
            *([snapshot.pressure_GPa] if self.needs_stress else []),
        ]
        values = [c.tolist() for c in columns]
        rows = []
        if not self._out.started:
            rows.append(",".join((*_COLUMNS, *(["pressure_GPa"] if self.needs_stress else []))))
        for k, (time, *rest) in enumerate(zip(*values, strict=True)):
            rows.append(",".join([str(snapshot.step), f"{time:.9g}", str(k), *map(repr, rest)]))
        self._out.write(("\n".join(rows) + "\n").encode())
        return None

    def memory(self) -> Mapping[str, Any]:
        return {"length": self._out.length()}

    def restore(self, memory: Mapping[str, np.ndarray]) -> None:
        self._out.cut(int(memory["length"]))

    def close(self) -> None:
        self._out.close()
