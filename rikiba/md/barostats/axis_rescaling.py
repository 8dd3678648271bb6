"""Constant pressure on chosen axes of the cell, each moved by itself, by overdamped stochastic dynamics."""

from typing import Any

import torch
from torch import Tensor

from ..operators import Memory, Step
from ..state import State
from ..target import Value
from .anisotropic_cell_rescaling import AnisotropicCellRescaling


class AxisRescaling(AnisotropicCellRescaling):
    """The lengths of a box along chosen axes follow a pressure; the others stay as they are.

    With ε_i = ln L_i:  dε_i = μ (V(P_ii − P₀) + k_B T) dt + √(2 k_B T μ) dW_i,  μ = β_T/(3 τ_P V₀) with the
    volume V₀ of the start; positions scale with L_i, velocities with 1/L_i. It samples exp(−(H + P₀V)/k_B T)
    with dL_i, relaxes without oscillating from any start, and its rate does not fall with the temperature, as
    that of a cell with inertia would. Use it with a thermostat; it stands last in a word, at the cost of one
    more evaluation for each move. The construction is that of stochastic cell rescaling (Bernetti & Bussi,
    doi:10.1063/5.0020514) with ε_i in place of √V; the noise is additive, so nothing depends on its reading.

    Args:
        pressure_GPa: P₀ on each of the axes; one for all systems, one for each, or a ramp.
        temperature_K: of the noise: that of the thermostat.
        axes: the axes that move, letters of xyz.
        time_constant_fs: τ_P, fs.
        compressibility_per_GPa: β_T of the material, roughly, 1/GPa; sets the rate only.
        interval: steps between moves.
    """

    def __init__(
        self,
        *,
        pressure_GPa: Value,
        temperature_K: Value,
        axes: str = "xyz",
        time_constant_fs: float = 1000.0,
        compressibility_per_GPa: float = 0.1,
        interval: int = 10,
    ) -> None:
        if not axes or set(axes) - set("xyz") or len(set(axes)) < len(axes):
            raise ValueError(f"axes are letters of 'xyz', each once; given '{axes}'.")
        super().__init__(
            temperature_K=temperature_K,
            pressure_GPa=pressure_GPa,
            cell="orthogonal",
            time_constant_fs=time_constant_fs,
            compressibility_per_GPa=compressibility_per_GPa,
            interval=interval,
        )
        self.axes = "".join(sorted(axes))

    @classmethod
    def examples(cls) -> "list[AnisotropicCellRescaling]":
        """All axes."""
        return [cls(temperature_K=300.0, pressure_GPa=0.0)]

    def init(self, state: State, step: Step) -> Memory:
        memory = super().init(state, step)
        diagonal = torch.diag_embed(torch.diagonal(state.system.cell, dim1=1, dim2=2))
        if bool((state.system.cell - diagonal).abs().max() > 1e-8):
            raise ValueError("AxisRescaling needs cells of right angles along x, y and z.")
        return memory

    def settings(self) -> dict[str, Any]:
        return {**super().settings(), "axes": self.axes}

    def allowed(self, change: Tensor) -> Tensor:
        moving = torch.tensor([float(a in self.axes) for a in "xyz"], dtype=change.dtype)
        return torch.diag_embed(torch.diagonal(change, dim1=1, dim2=2) * moving.to(change.device))
