"""Keeps frames in memory."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .base import Reporter, Snapshot, checked_interval

_SCALARS = ("time_ps", "potential_energy", "kinetic_energy", "temperature_K", "conserved")


class InMemory(Reporter):
    """Positions, energies and temperature of every interval-th step, as tensors.

    `steps` [frames]; `time_ps`, `potential_energy`, `kinetic_energy`, `conserved` (eV) and `temperature_K`
    [frames systems]; where kept, `positions` (Å), `velocities` (internal), `forces` (eV/Å) [frames atoms 3]
    and `cells` (Å), `stress_GPa` (tension positive, motion included) [frames systems 3 3].

    Args:
        interval: steps between frames.
        positions: keep positions.
        velocities: keep velocities.
        forces: keep forces.
        cells: keep cells.
        stress: keep the stress.
    """

    def __init__(
        self,
        *,
        interval: int = 1,
        positions: bool = True,
        velocities: bool = False,
        forces: bool = False,
        cells: bool = False,
        stress: bool = False,
    ) -> None:
        self.interval = checked_interval(interval)
        self.needs_stress = stress
        kept = {"positions": positions, "velocities": velocities, "forces": forces, "cells": cells}
        kept["stress_GPa"] = stress
        self._fields = (*_SCALARS, *(name for name, wanted in kept.items() if wanted))
        self._steps: list[int] = []
        self._frames: dict[str, list[Tensor]] = {name: [] for name in self._fields}

    def report(self, snapshot: Snapshot) -> str | None:
        self._steps.append(snapshot.step)
        sources = {
            "positions": snapshot.state.system.positions,
            "velocities": snapshot.state.velocities,
            "forces": snapshot.results.forces,
            "cells": snapshot.state.system.cell,
        }
        for name in self._fields:
            value = sources[name] if name in sources else getattr(snapshot, name)
            assert value is not None
            self._frames[name].append(value.detach().cpu().clone())
        return None

    @property
    def steps(self) -> Tensor:
        return torch.tensor(self._steps)

    def __getattr__(self, name: str) -> Tensor:
        frames = self.__dict__.get("_frames", {})
        if name not in frames:
            raise AttributeError(f"This reporter keeps {', '.join(frames)}; not '{name}'.")
        return torch.stack(frames[name]) if frames[name] else torch.zeros(0)

    def __len__(self) -> int:
        return len(self._steps)

    def memory(self) -> Mapping[str, Any]:
        return {"steps": self.steps, **{name: getattr(self, name) for name in self._fields}}

    def restore(self, memory: Mapping[str, np.ndarray]) -> None:
        self._steps = memory["steps"].tolist()
        n = len(self._steps)
        self._frames = {
            name: list(torch.from_numpy(memory[name]).unbind(0)) if n else [] for name in self._fields
        }

    def close(self) -> None:
        pass
