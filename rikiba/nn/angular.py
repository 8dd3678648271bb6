"""Angular bases: an angle becomes a vector of functions."""

from math import pi, sqrt

import torch
from jaxtyping import Float
from torch import Tensor, nn

from .double_buffers import DoubleBuffers


class Fourier(DoubleBuffers):
    """[1/√2, sin ω_n θ, cos ω_n θ]/√π with ω_n = 1 … N at the start; θ = arccos((1 − ε) cos θ').

    Deng et al., doi:10.1038/s42256-023-00716-3, eq. 1. The ε is their code's: θ is not differentiable at
    straight and zero angles θ', where sin ω θ (and with trained frequencies cos ω θ) then has a kink that ε
    rounds off over an angle of √(2ε).

    Args:
        order: N.
        trainable: learn the frequencies.
        epsilon: ε.
    """

    frequencies: Tensor

    def __init__(self, *, order: int, trainable: bool = True, epsilon: float = 1e-6) -> None:
        super().__init__()
        if order < 1 or not 0.0 < epsilon < 1.0:
            raise ValueError(f"order is at least 1 and 0 < epsilon < 1; given {order} and {epsilon}.")
        self.order, self.epsilon = order, epsilon
        frequencies = torch.arange(1, order + 1, dtype=torch.float64)
        if trainable:
            self.frequencies = nn.Parameter(frequencies.to(torch.get_default_dtype()))
        else:
            self.register_buffer("frequencies", frequencies, persistent=False)

    def forward(self, cosine: Float[Tensor, "angles"]) -> Float[Tensor, "angles functions"]:
        """2N + 1 functions of each angle, from its cosine."""
        return self.of_angle(torch.arccos((1.0 - self.epsilon) * cosine))

    def of_angle(self, theta: Float[Tensor, "angles"]) -> Float[Tensor, "angles functions"]:
        """The same from θ."""
        x = theta[:, None] * self.frequencies.to(theta)
        one = torch.full_like(theta[:, None], 1.0 / sqrt(2.0))
        return torch.cat([one, torch.sin(x), torch.cos(x)], 1) / sqrt(pi)
