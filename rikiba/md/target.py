"""What a bath holds: a constant, one for each system, or a value that changes in time."""

from dataclasses import dataclass
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor

from rikiba.core import units

from .state import State, per_system


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Ramp:
    """From one value to another, linear in time, and constant before and after.

    Args:
        start: value until `begin_ps`.
        end: value from `begin_ps + duration_ps` on.
        duration_ps: time it takes, ps.
        begin_ps: when it begins on the simulation's clock, ps.
    """

    start: float
    end: float
    duration_ps: float
    begin_ps: float = 0.0

    def __post_init__(self) -> None:
        if not self.duration_ps > 0:
            raise ValueError(f"duration_ps must be positive; given {self.duration_ps}.")

    def at(self, time: Float[Tensor, "systems"]) -> Float[Tensor, "systems"]:
        """The value at a time in internal units."""
        begin = self.begin_ps * units.picosecond
        done = ((time - begin) / (self.duration_ps * units.picosecond)).clamp(0.0, 1.0)
        return self.start + (self.end - self.start) * done


Value = float | tuple[float, ...] | Ramp
"""One number for all systems, one for each, or a ramp."""


@final
class Target:
    """The value that a thermostat or barostat aims at, as a tensor over systems.

    Args:
        value: a number, one for each system, or a ramp.
        name: of the argument, for messages.
        unit: factor to internal units.
        least: smallest value allowed; none is no bound.
    """

    def __init__(self, value: Value, name: str, *, unit: float = 1.0, least: float | None = 0.0) -> None:
        self.value, self.unit = value, unit
        ends = (value.start, value.end) if isinstance(value, Ramp) else value
        numbers = torch.as_tensor(ends, dtype=torch.float64)
        if not bool(numbers.isfinite().all()) or (least is not None and not bool((numbers >= least).all())):
            bound = "" if least is None else f" and at least {least:g}"
            raise ValueError(f"{name} must be finite{bound}; given {value}.")
        self._constant: Tensor | None = None

    @property
    def changes(self) -> bool:
        """True for a ramp."""
        return isinstance(self.value, Ramp)

    def at(self, state: State) -> Float[Tensor, "systems"]:
        """In internal units, at the state's time."""
        if isinstance(self.value, Ramp):
            return self.unit * self.value.at(state.time)
        kept = self._constant
        if kept is None or kept.shape != state.time.shape or kept.device != state.time.device:
            kept = self._constant = self.unit * per_system(self.value, state.n_systems, state.time.device)
        return kept

    def settings(self) -> Any:
        """As plain JSON types."""
        if isinstance(self.value, Ramp):
            return [self.value.start, self.value.end, self.value.duration_ps, self.value.begin_ps]
        return torch.as_tensor(self.value, dtype=torch.float64).tolist()


def temperature(value: Value, name: str = "temperature_K") -> Target:
    """k_B T in eV of a temperature in K."""
    return Target(value, name, unit=units.boltzmann)


def pressure(value: Value, name: str = "pressure_GPa") -> Target:
    """Pressure in eV/Å³ of one in GPa."""
    return Target(value, name, unit=units.gigapascal, least=None)


def time_constant(value: float, name: str) -> float:
    """Internal time of one in fs; raises ValueError unless it is positive."""
    if not 0.0 < value < float("inf"):
        raise ValueError(f"{name} must be a positive time in fs; given {value}.")
    return value * units.femtosecond
