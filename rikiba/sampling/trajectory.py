"""A file of the configurations that Monte Carlo visits, cut back at a restart."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, final, runtime_checkable

import numpy as np
from jaxtyping import Float
from torch import Tensor

from rikiba.core.system import System
from rikiba.md.reporters.base import ByteOutput, checked_interval


@runtime_checkable
class Observer(Protocol):
    """Sees every `interval`-th configuration, the first included."""

    interval: int

    def observe(self, step: int, system: System, energy: Float[Tensor, "systems"]) -> None: ...

    def memory(self) -> Mapping[str, Any]:
        """What is needed to go back to this moment."""
        ...

    def restore(self, memory: Mapping[str, np.ndarray]) -> None: ...

    def close(self) -> None: ...


@final
class Trajectory:
    """Extended XYZ, the systems of a batch one after another, with `energy`, `step` and `system`.

    Args:
        path: file to write.
        interval: steps between frames.
    """

    def __init__(self, *, path: str | Path, interval: int = 100) -> None:
        self.interval = checked_interval(interval)
        self._out = ByteOutput(path)

    def observe(self, step: int, system: System, energy: Float[Tensor, "systems"]) -> None:
        from rikiba.data.extxyz import write_frame

        text = io.StringIO()
        for k, atoms in enumerate(system.to_ase()):
            info = {**atoms.info, "energy": float(energy[k]), "step": step, "system": k}
            write_frame(text, atoms, info, {})
        self._out.write(text.getvalue().encode())

    def memory(self) -> Mapping[str, Any]:
        return {"length": self._out.length()}

    def restore(self, memory: Mapping[str, np.ndarray]) -> None:
        self._out.cut(int(memory["length"]))

    def close(self) -> None:
        self._out.close()
