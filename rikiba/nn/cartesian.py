"""3×3 tensors as nine components: a scalar, an axial vector and a symmetric traceless matrix.

X = Σ_m x_m B_m with B_0 = 1/√3, B_1…3 = [e_k]_×/√2 and B_4…8 symmetric traceless, orthonormal in the
Frobenius product, so that ‖X‖² = Σ_m x_m² and each irreducible part is a slice: 0, 1 … 3 and 4 … 8.
"""

from math import sqrt

import torch
from jaxtyping import Float
from torch import Tensor

from .double_buffers import DoubleBuffers
from .so3 import degrees


def cartesian_basis() -> Float[Tensor, "9 3 3"]:
    """B_0 … B_8, float64; the last five are xy, yz, zx, x²−y² and 2z²−x²−y²."""
    basis = torch.zeros(9, 3, 3, dtype=torch.float64)
    basis[0] = torch.eye(3, dtype=torch.float64) / sqrt(3.0)
    for k in range(3):
        a, b = (k + 1) % 3, (k + 2) % 3
        basis[1 + k, b, a], basis[1 + k, a, b] = sqrt(0.5), -sqrt(0.5)  # [e_k]_× v = e_k × v
        basis[4 + k, k, a] = basis[4 + k, a, k] = sqrt(0.5)
    basis[7] = torch.diag(torch.tensor([1.0, -1.0, 0.0], dtype=torch.float64)) * sqrt(0.5)
    basis[8] = torch.diag(torch.tensor([-1.0, -1.0, 2.0], dtype=torch.float64)) / sqrt(6.0)
    return basis


class CartesianTensors(DoubleBuffers):
    """Conversions between matrices [atoms, 3, 3, channels] and components [atoms, 9, channels]."""

    basis: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("basis", cartesian_basis().flatten(1), persistent=False)

    def matrices(self, x: Float[Tensor, "atoms 9 channels"]) -> Float[Tensor, "atoms 3 3 channels"]:
        """Σ_m x_m B_m."""
        return (self.basis.T.to(x) @ x).unflatten(1, (3, 3))

    def components(self, x: Float[Tensor, "atoms 3 3 channels"]) -> Float[Tensor, "atoms 9 channels"]:
        """x_m = B_m : X."""
        return self.basis.to(x) @ x.flatten(1, 2)

    def of_directions(self, unit: Float[Tensor, "pairs 3"]) -> Float[Tensor, "pairs 9"]:
        """Components of 1 + [r̂]_× + (r̂r̂ᵀ − ⅓)."""
        first = torch.full_like(unit[:, :1], sqrt(3.0))
        squares = (unit[:, :, None] * unit[:, None, :]).flatten(1) @ self.basis[4:].T.to(unit)
        return torch.cat([first, sqrt(2.0) * unit, squares], 1)


def matrix_product(
    a: Float[Tensor, "atoms 3 3 channels"], b: Float[Tensor, "atoms 3 3 channels"]
) -> Float[Tensor, "atoms 3 3 channels"]:
    """A·B for each atom and channel."""
    parts = [a[:, :, k, None] * b[:, None, k] for k in range(3)]
    return parts[0] + parts[1] + parts[2]


def squared_norm(x: Float[Tensor, "atoms 9 channels"]) -> Float[Tensor, "atoms channels"]:
    """‖X‖² = Σ_ab X_ab²."""
    return x.square().sum(1)


def squared_norms(x: Float[Tensor, "atoms 9 channels"]) -> Float[Tensor, "atoms three_channels"]:
    """‖·‖² of the three irreducible parts, one after another."""
    return torch.cat([x[:, part].square().sum(1) for part in degrees(2)], 1)
