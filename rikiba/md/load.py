"""What a cell is under from outside: a hydrostatic pressure, or a stress tensor in a reference cell."""

from dataclasses import dataclass
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor

from rikiba.core import units

from .cell import left_stretch
from .operators import Memory
from .state import State
from .target import Ramp, Target, Value, pressure

Rows = tuple[tuple[float, ...], ...]
"""A tensor as its three rows."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class StressRamp:
    """From one stress tensor to another, linear in time, and constant before and after.

    Args:
        start: three rows, GPa, until `begin_ps`.
        end: three rows, GPa, from `begin_ps + duration_ps` on.
        duration_ps: time it takes, ps.
        begin_ps: when it begins on the simulation's clock, ps.
    """

    start: Rows
    end: Rows
    duration_ps: float
    begin_ps: float = 0.0


Stress = Rows | tuple[Rows, ...] | StressRamp
"""A symmetric tensor in GPa for all systems, one for each, or a ramp; positive where it pulls."""


@final
class Load:
    """Pressure P and thermodynamic tension t: the energy P V − V₀ tr(t E) that joins K + U.

    E = ½(M Mᵀ − 1) is Green's strain of the cell h = h₀ M (rows are lattice vectors) against the reference
    cell h₀ of volume V₀ (Parrinello & Rahman, doi:10.1063/1.328693). What it pulls the
    cell with is −P V + V₀ Mᵀ t M; the stress of mean equilibrium is then −P + Mᵀ t M V₀/V, which is t − P in
    the reference cell itself and differs from it by as much as the strain elsewhere.

    Args:
        pressure: P; one for all systems, one for each, or a ramp.
        tension: t in eV/Å³, [1 or systems, 3, 3]; none is hydrostatic.
        end: with a ramp, the tension at its end.
        ramp: of the tension, from 0 (`tension`) to 1 (`end`).
        renewal: steps after which the mean cell since the last time becomes the reference cell; 0 keeps that
            of the start.
    """

    def __init__(
        self,
        pressure: Target,
        tension: Float[Tensor, "some 3 3"] | None = None,
        *,
        end: Float[Tensor, "some 3 3"] | None = None,
        ramp: Ramp | None = None,
        renewal: int = 0,
    ) -> None:
        if renewal < 0 or (renewal > 0 and tension is None):
            raise ValueError(
                f"reference_interval is a number of steps, 0 or more, of stress_GPa; given {renewal}."
            )
        self.pressure, self.tension, self.renewal = pressure, tension, renewal
        self._end, self._ramp = end, ramp

    def init(self, state: State) -> dict[str, Tensor]:
        """What a barostat remembers for it: the reference cell, the sum of cells since, work of renewals."""
        if self.tension is None:
            return {}
        if len(self.tension) not in (1, state.n_systems):
            raise ValueError(
                f"stress_GPa is one tensor, or one for each of {state.n_systems} systems; given "
                f"{len(self.tension)}."
            )
        cell = state.system.cell
        found = {"reference": cell, "renewed": torch.zeros_like(state.time)}
        return found | ({"cells": torch.zeros_like(cell)} if self.renewal else {})

    def pull(self, state: State, memory: Memory) -> Float[Tensor, "systems 3 3"]:
        """−P V + V₀ Mᵀ t M, eV: minus the derivative of the energy with respect to a strain of the cell."""
        eye = torch.eye(3, dtype=torch.float64, device=state.time.device)
        whole = -(self.pressure.at(state) * state.system.volume)[:, None, None] * eye
        if self.tension is None:
            return whole
        reference = memory.systems["reference"]
        gradient = torch.linalg.solve(reference, state.system.cell)
        pulled: Tensor = gradient.transpose(1, 2) @ self._at(state) @ gradient
        volume: Tensor = torch.linalg.det(reference).abs()
        return whole + volume[:, None, None] * pulled

    def energy(self, state: State, memory: Memory) -> Float[Tensor, "systems"]:
        """P V − V₀ tr(t E), eV, without what renewals of the reference cell have added."""
        whole = self.pressure.at(state) * state.system.volume
        if self.tension is None:
            return whole
        return whole + self._strain_energy(state, memory.systems["reference"]) - memory.systems["renewed"]

    def renew(self, state: State, memory: Memory, done: int) -> Memory:
        """The memory after `done` steps, with another reference cell where one is due."""
        if not self.renewal:
            return memory
        total = memory.systems["cells"] + state.system.cell
        if done % self.renewal:
            return memory.with_systems(cells=total)
        reference = total / self.renewal
        change = self._strain_energy(state, reference) - self._strain_energy(
            state, memory.systems["reference"]
        )
        return memory.with_systems(
            cells=torch.zeros_like(total), reference=reference, renewed=memory.systems["renewed"] + change
        )

    def settings(self) -> dict[str, Any]:
        """As plain JSON types."""
        if self.tension is None:
            return {"pressure_GPa": self.pressure.settings()}
        ramp, end = self._ramp, self._end
        return {
            "pressure_GPa": self.pressure.settings(),
            "tension": self.tension.tolist(),
            "end": None if end is None else end.tolist(),
            "ramp": None if ramp is None else [ramp.duration_ps, ramp.begin_ps],
            "reference_interval": self.renewal,
        }

    def _at(self, state: State) -> Float[Tensor, "some 3 3"]:
        """The tension at the state's time."""
        assert self.tension is not None
        start = self.tension.to(state.time.device)
        if self._ramp is None or self._end is None:
            return start
        return start + self._ramp.at(state.time)[:, None, None] * (self._end.to(start.device) - start)

    def _strain_energy(self, state: State, reference: Float[Tensor, "systems 3 3"]) -> Tensor:
        """−V₀ tr(t E)."""
        stretch = left_stretch(reference, state.system.cell)
        eye = torch.eye(3, dtype=torch.float64, device=reference.device)
        strain: Tensor = 0.5 * (stretch @ stretch - eye)
        volume: Tensor = torch.linalg.det(reference).abs()
        return -volume * (self._at(state) * strain).sum((1, 2))


def load(
    pressure_GPa: Value | None,
    stress_GPa: Stress | None,
    *,
    reference_interval: int = 0,
    directions: str = "full",
) -> Load:
    """The load of one of two arguments: a hydrostatic pressure, or a stress tensor σ.

    Of a tensor P = −tr σ/3 stays a pressure in any cell and σ + P is the tension. Raises ValueError where
    both or none is given, for a tensor that is not symmetric, finite and three by three, and for one that
    asks of the cell what `directions` ('isotropic', 'orthogonal', 'full') does not allow.
    """
    if (pressure_GPa is None) == (stress_GPa is None):
        raise ValueError(
            f"Give pressure_GPa (hydrostatic) or stress_GPa (a symmetric tensor, positive where it pulls), "
            f"one of them; given pressure_GPa = {pressure_GPa} and stress_GPa = {stress_GPa}."
        )
    if stress_GPa is None:
        assert pressure_GPa is not None
        return Load(pressure(pressure_GPa), renewal=reference_interval)
    if not isinstance(stress_GPa, StressRamp):
        mean, tension = _split(stress_GPa, directions)
        each = tuple((-mean).tolist())
        return Load(pressure(each[0] if len(each) == 1 else each), tension, renewal=reference_interval)
    (mean, tension), (last, end) = (_split((s,), directions) for s in (stress_GPa.start, stress_GPa.end))
    times = {"duration_ps": stress_GPa.duration_ps, "begin_ps": stress_GPa.begin_ps}
    outside = Ramp(start=-float(mean), end=-float(last), **times)
    return Load(
        pressure(outside), tension, end=end, ramp=Ramp(start=0.0, end=1.0, **times),
        renewal=reference_interval,
    )  # fmt: skip


def _split(stress_GPa: Any, directions: str) -> tuple[Float[Tensor, "some"], Float[Tensor, "some 3 3"]]:
    """(tr σ/3 in GPa, σ − tr σ/3 in eV/Å³)."""
    try:
        given = torch.tensor(stress_GPa, dtype=torch.float64)
    except (ValueError, TypeError):
        given = torch.empty(0)
    tensors = given[None] if given.dim() == 2 else given
    wanted = "stress_GPa is a symmetric tensor of three rows of three finite numbers in GPa, or one for each"
    if tensors.dim() != 3 or tensors.shape[1:] != (3, 3) or not bool(tensors.isfinite().all()):
        raise ValueError(f"{wanted} system; given {stress_GPa}.")
    if float((tensors - tensors.transpose(1, 2)).abs().max()) > 1e-12 * float(tensors.abs().max()):
        raise ValueError(f"{wanted} system; given {stress_GPa}, whose rows and columns differ.")
    mean = torch.diagonal(tensors, dim1=1, dim2=2).mean(1)
    rest = tensors - mean[:, None, None] * torch.eye(3, dtype=torch.float64)
    shear = rest - torch.diag_embed(torch.diagonal(rest, dim1=1, dim2=2))
    if directions == "isotropic" or (directions == "orthogonal" and bool((shear != 0).any())):
        raise ValueError(
            f"cell = '{directions}' cannot follow stress_GPa = {stress_GPa}: use cell = 'full'"
            f"{', or pressure_GPa' if directions == 'isotropic' else ' for shear'}."
        )
    return mean, rest * units.gigapascal
