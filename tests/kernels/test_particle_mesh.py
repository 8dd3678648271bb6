"""Spreading and interpolation by B-splines: definition and kernels agree, to the second derivative."""

import math

import pytest
import torch
from torch import Tensor

from rikiba.kernels import particle_mesh_cpu
from rikiba.kernels.dispatch import only_reference
from rikiba.kernels.particle_mesh import (
    ORDERS,
    evaluate_gather,
    evaluate_spread,
    gather,
    spline_weights,
    spread,
)

SHAPE = (9, 8, 11)


def drawn(n: int = 5, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    u = 40.0 * torch.rand(n, 3, generator=g, dtype=torch.float64) - 20.0
    values = torch.randn(n, generator=g, dtype=torch.float64)
    return u, values, torch.randn(SHAPE, generator=g, dtype=torch.float64)


@pytest.mark.parametrize("order", ORDERS)
def test_kernels_are_the_definition(order: int) -> None:
    u, _, mesh = drawn()
    for level in range(min(3, order)):
        found = particle_mesh_cpu.gather(level, order, u, mesh)
        torch.testing.assert_close(found, evaluate_gather(level, order, u, mesh), rtol=0, atol=1e-13)
        values = torch.randn(len(u), 3**level, dtype=torch.float64)
        on_mesh = particle_mesh_cpu.spread(level, order, SHAPE, u, values)
        wanted = evaluate_spread(level, order, SHAPE, u, values)
        torch.testing.assert_close(on_mesh, wanted, rtol=0, atol=1e-13)
        assert not torch.allclose(on_mesh, wanted.roll(1, 0))
        # each other's adjoint
        assert float((on_mesh * mesh).sum()) == pytest.approx(float((values * found).sum()), abs=1e-11)
    value, slope = torch.empty(len(u)).double(), torch.empty(len(u), 3).double()
    padded = torch.empty(9, 8, 11 + particle_mesh_cpu.LANES).double().numpy()
    particle_mesh_cpu.unfold(mesh.numpy(), padded)
    particle_mesh_cpu.gather_slopes(u.numpy(), padded, order, value.numpy(), slope.numpy())
    torch.testing.assert_close(value[:, None], evaluate_gather(0, order, u, mesh), rtol=0, atol=1e-13)
    torch.testing.assert_close(slope, evaluate_gather(1, order, u, mesh), rtol=0, atol=1e-13)


@pytest.mark.parametrize("order", ORDERS)
def test_splines(order: int) -> None:
    """Partition of unity, mean p/2, variance p/12, and derivatives by differences."""
    f = torch.rand(7, 3, dtype=torch.float64)
    w = spline_weights(f, order, 0)
    at = f[..., None] + torch.arange(order - 1, -1, -1)
    torch.testing.assert_close(w.sum(-1), torch.ones_like(f))
    torch.testing.assert_close((w * at).sum(-1), torch.full_like(f, order / 2))
    variance = (w * (at - order / 2) ** 2).sum(-1)
    torch.testing.assert_close(variance, torch.full_like(f, order / 12))
    assert not math.isclose(float(variance[0, 0]), (order + 1) / 12)
    h = 1e-5
    slope = (spline_weights(f + h, order, 0) - spline_weights(f - h, order, 0)) / (2 * h)
    torch.testing.assert_close(spline_weights(f, order, 1), slope, rtol=0, atol=1e-8)


@pytest.mark.parametrize("reference", [False, True])
def test_derivatives_of_second_order(reference: bool) -> None:
    u, values, mesh = drawn(3)
    inputs = [t.clone().requires_grad_() for t in (u, values, mesh)]

    def both(a: Tensor, v: Tensor, m: Tensor) -> tuple[Tensor, Tensor]:
        return (spread(a, v, SHAPE, 6) * torch.linspace(0, 1, 792).double().reshape(SHAPE)).sum(), gather(
            a, m, 6
        )

    def run() -> None:
        assert torch.autograd.gradcheck(both, inputs, fast_mode=True)
        assert torch.autograd.gradgradcheck(both, inputs, fast_mode=True)

    if reference:
        with only_reference():
            run()
    else:
        run()


def test_what_is_refused() -> None:
    u, values, mesh = drawn()
    for wrong in (
        lambda: spread(u, values, SHAPE, 2),
        lambda: gather(u, mesh, 9),
        lambda: spread(u, values, (4, 9, 9), 5),
        lambda: gather(u[:, :2], mesh, 4),
    ):
        with pytest.raises(ValueError, match="given"):
            wrong()
    with pytest.raises(NotImplementedError, match="forward-mode"), torch.autograd.forward_ad.dual_level():
        gather(torch.autograd.forward_ad.make_dual(u, u), mesh, 4)
