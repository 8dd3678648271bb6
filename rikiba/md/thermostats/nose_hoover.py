"""Nosé–Hoover chains."""

from typing import Any

import torch
from torch import Tensor

from rikiba.kernels.nose_hoover_chain import SUZUKI_YOSHIDA, nose_hoover_velocities

from ..operators import Freedom, Memory, Operator, Step
from ..state import State
from ..target import Value, temperature, time_constant


class NoseHoover(Operator):
    """A chain of thermostats, the first of which acts on all velocities: deterministic and reversible.

    dp/dt = −v₁ p, dv₁/dt = (2K − N_f k_B T)/Q₁ − v₁v₂, …; Q₁ = N_f k_B T τ², Q_k = k_B T τ²
    (Martyna, Klein & Tuckerman, doi:10.1063/1.463940), advanced by a Suzuki–Yoshida product
    (doi:10.1080/00268979600100761). With K + U it conserves Σ ½Q_k v_k² + N_f k_B T x₁ + k_B T Σ_{k≥2} x_k
    at constant temperature; along a ramp the masses follow T and what is conserved is that of the moment.
    One link alone is not ergodic for stiff or few degrees of freedom; three are the usual choice.

    Args:
        temperature_K: bath temperature; one for all systems, one for each, or a ramp.
        time_constant_fs: τ, fs; the period of the exchange of heat, 20 to 50 timesteps or more.
        links: length of the chain.
        order: factors of the Suzuki–Yoshida product: 1, 3, 5 or 7.
        substeps: how often the product is applied in each step.
    """

    def __init__(
        self,
        *,
        temperature_K: Value,
        time_constant_fs: float = 100.0,
        links: int = 3,
        order: int = 3,
        substeps: int = 1,
    ) -> None:
        self.bath = temperature(temperature_K)
        self.tau = time_constant(time_constant_fs, "time_constant_fs")
        if links < 1 or substeps < 1:
            raise ValueError(f"links and substeps are at least 1; given {links} and {substeps}.")
        if order not in SUZUKI_YOSHIDA:
            raise ValueError(f"order must be one of {', '.join(map(str, SUZUKI_YOSHIDA))}; given {order}.")
        self.links, self.order, self.substeps = links, order, substeps
        shares = torch.tensor(SUZUKI_YOSHIDA[order], dtype=torch.float64) / substeps
        self.factors = shares.repeat(substeps)
        self._freedom = Freedom()
        self._known: tuple[Tensor, Tensor, Tensor] | None = None

    def init(self, state: State, step: Step) -> Memory:
        zero = torch.zeros(state.n_systems, self.links, dtype=torch.float64, device=state.time.device)
        return Memory({"chain_positions": zero, "chain_velocities": zero.clone()})

    def apply(self, state: State, memory: Memory, dt: Tensor, step: Step) -> tuple[State, Memory]:
        x, v = memory.systems["chain_positions"], memory.systems["chain_velocities"]
        dof, thermal = self._freedom.of(state), self.bath.at(state)
        x, v, moved = nose_hoover_velocities(
            x, v, self._masses(dof, thermal), dof, thermal, dt, self.factors.to(x.device),
            state.velocities, state.masses, state.system.system_index,
        )  # fmt: skip
        return state.with_velocities(moved), Memory({"chain_positions": x, "chain_velocities": v})

    def conserved(self, state: State, memory: Memory) -> Tensor:
        x, v = memory.systems["chain_positions"], memory.systems["chain_velocities"]
        dof, thermal = self._freedom.of(state), self.bath.at(state)
        kinetic = 0.5 * (self._masses(dof, thermal) * v * v).sum(1)
        return kinetic + thermal * (dof * x[:, 0] + x[:, 1:].sum(1))

    def settings(self) -> dict[str, Any]:
        return {
            "temperature_K": self.bath.settings(),
            "time_constant": self.tau,
            "links": self.links,
            "order": self.order,
            "substeps": self.substeps,
        }

    def _masses(self, dof: Tensor, thermal: Tensor) -> Tensor:
        """Q of every link, eV × time²; 1 where there is nothing to thermostat. Kept as long as both stay."""
        known = self._known
        if known is None or known[0] is not dof or known[1] is not thermal:
            one = thermal * self.tau**2
            masses = one[:, None].repeat(1, self.links)
            masses[:, 0] = dof * one
            known = self._known = (dof, thermal, torch.where(masses > 0, masses, 1.0))
        return known[2]
