"""The Triton kernels and whole potentials on a CUDA device; skipped where there is none."""

import copy
from typing import Any

import pytest
import torch
from ase.build import bulk
from test_pair_convolution import inputs as pair_inputs
from test_pair_convolution import plan as pair_plan
from test_symmetric_contraction import inputs as product_inputs
from test_symmetric_contraction import plan as product_plan
from torch import Tensor

from rikiba.calculators.autograd import PotentialCalculator, evaluate
from rikiba.core.pairs import find_pairs
from rikiba.core.system import System
from rikiba.kernels.dispatch import only_reference
from rikiba.kernels.grouping import TypeGroups, group_by_type, segment_sum
from rikiba.kernels.pair_convolution import pair_convolution
from rikiba.kernels.radial_table import radial_table
from rikiba.kernels.symmetric_contraction import symmetric_contraction
from rikiba.md.ensembles.nve import NVE
from rikiba.md.simulation import Simulation
from rikiba.md.state import State
from rikiba.potentials.mace import MACE
from rikiba.potentials.nequip import NequIP
from rikiba.potentials.painn import PaiNN
from rikiba.potentials.schnet import SchNet

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
DEVICE = torch.device("cuda")
CLOSE = {torch.float64: 1e-11, torch.float32: 3e-5}


@pytest.fixture(autouse=True)
def with_triton() -> None:
    pytest.importorskip("triton", reason="needs Triton: pip install 'rikiba[gpu]'")


def derivatives(out: Tensor, leaves: tuple[Tensor, ...]) -> list[Tensor]:
    """A value, its gradient, and the gradient of a function of that."""
    first = torch.autograd.grad((out * (out * 0.1).cos()).sum(), leaves, create_graph=True)
    second = torch.autograd.grad(sum((x * (x * 0.1).cos()).sum() for x in first), leaves)
    return [out.detach(), *(x.detach() for x in first), *second]


def compare(found: list[Tensor], again: list[Tensor], plain: list[Tensor], dtype: torch.dtype) -> None:
    """Equal to the definition to rounding, and to itself in every bit."""
    assert len(found) == len(plain)
    for x, y, z in zip(found, again, plain, strict=True):
        assert x.device.type == DEVICE.type and torch.equal(x, y)
        scale = max(1.0, float(z.abs().max()))
        torch.testing.assert_close(x, z, rtol=0.0, atol=scale * CLOSE[dtype] * 10)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(
    ("degrees", "channels"), [((3, 0, 3), 128), ((3, 1, 3), 64), ((2, 2, 2), 33), ((1, 1, 1), 1)]
)
def test_pair_convolution(degrees: tuple[int, int, int], channels: int, dtype: torch.dtype) -> None:
    p = pair_plan(*degrees).to(torch.zeros(1, dtype=dtype, device=DEVICE))
    i, j, *rest = pair_inputs(p, 700, 40, channels, dtype)
    i, j = i.to(DEVICE), j.to(DEVICE)
    leaves = tuple((x.detach() * 0.3).to(DEVICE).requires_grad_() for x in rest)

    def run() -> list[Tensor]:
        return derivatives(pair_convolution(p, i, j, *leaves, 41), leaves)

    found, again = run(), run()
    with only_reference():
        plain = run()
    compare(found, again, plain, dtype)
    assert not torch.allclose(found[0], plain[0].roll(1, 0))  # negative control


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(
    ("l_max", "order", "degrees", "channels"), [(3, 3, (0,), 128), (2, 3, (0, 1), 50), (1, 4, (0, 1), 8)]
)
def test_symmetric_contraction(
    l_max: int, order: int, degrees: tuple[int, ...], channels: int, dtype: torch.dtype
) -> None:
    p = product_plan(l_max, order, degrees).to(torch.zeros(1, dtype=dtype, device=DEVICE))
    types, a, w = product_inputs(p, 70, channels, 3)
    leaves = tuple((0.3 * x.detach()).to(DEVICE, dtype).requires_grad_() for x in (a, *w))
    groups = group_by_type(types.to(DEVICE), 3)

    def run(groups: TypeGroups = groups) -> list[Tensor]:
        return derivatives(symmetric_contraction(p, leaves[0], leaves[1:], groups), leaves)

    found, again = run(), run()
    with only_reference():
        plain, other = run(), run(group_by_type((types.to(DEVICE) + 1) % 3, 3))
    compare(found, again, plain, dtype)
    assert not torch.allclose(found[0], other[0])  # negative control


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_radial_table_and_sums(dtype: torch.dtype) -> None:
    g = torch.Generator().manual_seed(3)
    coefficients = torch.randn((2, 50, 6, 300), generator=g).to(DEVICE, dtype)
    r = (0.5 + 4.9 * torch.rand(500, generator=g)).to(DEVICE, dtype).requires_grad_()
    kind = torch.randint(0, 2, (500,), generator=g).to(DEVICE)
    index = torch.randint(0, 60, (500,), generator=g).to(DEVICE)

    def run() -> list[Tensor]:
        rows = radial_table(coefficients, 0.5, 0.1, r, kind)
        return derivatives(segment_sum(0.01 * rows, index, 61), (r,))

    found, again = run(), run()
    with only_reference():
        plain = run()
    assert torch.equal(found[0], again[0])
    for x, z in zip(found, plain, strict=True):
        torch.testing.assert_close(x, z, rtol=0.0, atol=100 * CLOSE[dtype] * max(1.0, float(z.abs().max())))


def silica() -> System:
    crystal = bulk("Si", cubic=True).repeat(2)
    crystal.rattle(0.1, seed=1)
    crystal.numbers[::3] = 8
    return System.from_ase([crystal, crystal[:3]])


@pytest.mark.parametrize("kind", [MACE, NequIP, SchNet, PaiNN])
def test_potentials(kind: Any) -> None:
    """Energies and forces as on the CPU, for structures on either; gradients of a loss on forces."""
    system = silica()
    for potential in (p.double() for p in kind.examples()):
        moved = copy.deepcopy(potential).to(DEVICE)
        assert moved.program() is None
        expected = PotentialCalculator(potential, use_program=False)(system)
        calculator = PotentialCalculator(moved)
        for given in (system, system.to(DEVICE)):
            found, again = calculator(given), calculator(given)
            for name in ("energies", "forces"):
                assert found.need(name).device == given.positions.device
                assert torch.equal(found.need(name), again.need(name))
                torch.testing.assert_close(found.need(name).cpu(), expected.need(name), rtol=1e-9, atol=1e-10)
        slopes = []
        for one, where in ((potential, system), (moved, system.to(DEVICE))):
            pairs = find_pairs(where, one.cutoff)
            loss = evaluate(one, where, pairs, create_graph=True).need("forces").square().sum()
            weights = [w for w in one.parameters() if w.requires_grad]
            slopes.append(torch.autograd.grad(loss, weights, allow_unused=True))
        for x, y in zip(*slopes, strict=True):
            assert (x is None) == (y is None)
            if x is not None and y is not None:
                bound = 1e-9 * max(1.0, float(x.abs().max()))
                torch.testing.assert_close(y.cpu(), x, rtol=1e-7, atol=bound)


def test_precision() -> None:
    """TF32 rounds, a little; without it float32 does not."""
    system = silica()
    potential = MACE.examples()[0]
    exact = PotentialCalculator(copy.deepcopy(potential).double(), use_program=False)(system).need("forces")
    moved = potential.to(DEVICE)
    scale = float(exact.abs().max())
    error = {
        p: float((PotentialCalculator(moved, precision=p)(system).need("forces") - exact).abs().max()) / scale
        for p in ("full", "tf32")
    }
    assert error["full"] < 1e-4 and error["tf32"] < 3e-2
    if torch.cuda.get_device_capability() >= (8, 0):
        assert error["tf32"] > error["full"]


def test_dynamics() -> None:
    potential = SchNet.examples()[0].double()
    ends = []
    for device in (torch.device("cpu"), DEVICE):
        state = State.of(silica().to(device), seed=3)
        simulation = Simulation(PotentialCalculator(potential.to(device)), NVE(), state, timestep_fs=0.5)
        simulation.run(20)
        ends.append(simulation.state.system.positions.cpu())
    torch.testing.assert_close(ends[1], ends[0], rtol=0.0, atol=1e-9)
    assert float((ends[0] - silica().positions).abs().max()) > 1e-5
