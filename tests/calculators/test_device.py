"""Inference on a device other than the CPU, on one that is pretended: nothing may mix the two."""

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from ase.build import bulk, molecule
from pretended_device import DEVICE, Pretend, There

from rikiba.calculators.ase import as_ase
from rikiba.calculators.autograd import PotentialCalculator
from rikiba.calculators.committee import Committee
from rikiba.core.system import System
from rikiba.kernels.matmul_precision import matmul_precision
from rikiba.md.ensembles.langevin import Langevin
from rikiba.md.simulation import Simulation
from rikiba.md.state import State
from rikiba.potentials.base import Potential
from rikiba.potentials.behler_parrinello import BehlerParrinello
from rikiba.potentials.mace import MACE
from rikiba.potentials.nequip import NequIP
from rikiba.potentials.painn import PaiNN
from rikiba.potentials.schnet import SchNet

KINDS = (MACE, NequIP, SchNet, PaiNN, BehlerParrinello)


@pytest.fixture
def there() -> Iterator[Pretend]:
    with Pretend() as device:
        yield device


def silica() -> System:
    crystal = bulk("Si", cubic=True)
    crystal.rattle(0.1, seed=1)
    crystal.numbers[:3] = 8
    return System.from_ase([crystal, crystal[:3]])


def test_mixing_devices_raises(there: Pretend) -> None:
    """Negative control: what a GPU would refuse is refused, what would move is counted."""
    x, y = torch.ones(3, device=DEVICE), torch.ones(3)
    assert isinstance(x, There) and x.device == DEVICE and isinstance(y, torch.Tensor)
    with pytest.raises(RuntimeError, match="two devices"):
        x + y
    with pytest.raises(RuntimeError, match="two devices"):
        y[x.long()]
    with pytest.raises(TypeError, match="no array"):
        x.numpy()
    assert (x + y.to(DEVICE)).tolist() == [2.0] * 3 and bool((x > 0).all())
    assert there.counts == {"to_device": 1, "to_host": 1, "waits": 1}


@pytest.mark.parametrize("kind", KINDS)
def test_a_potential_computes_where_it_is(kind: Any, there: Pretend) -> None:
    system = silica()
    for potential in (p.double() for p in kind.examples()):
        moved = copy.deepcopy(potential).to(DEVICE)
        assert moved.device == DEVICE
        expected = PotentialCalculator(potential, use_program=False)(system, stress=False)
        calculator = PotentialCalculator(moved)
        calculator(system.to(DEVICE))
        there.counts.clear()
        found = calculator(system.to(DEVICE))
        # the structure's five tensors, and constants of the harmonics; the numbers of atoms of each type
        assert there.counts["to_device"] <= 5 + 2 and there.counts["to_host"] <= 1
        assert there.counts["waits"] <= 20
        assert found.need("forces").device == DEVICE
        for name in ("energy", "energies", "forces"):
            torch.testing.assert_close(found.need(name).cpu(), expected.need(name), rtol=1e-10, atol=1e-11)


def test_results_come_back_to_the_structure(there: Pretend) -> None:
    """A structure on the CPU, also through ASE; a committee."""
    system = silica()[0]
    members = [MACE.examples()[0].double(), MACE.examples()[0].double()]
    with torch.no_grad():
        members[1].embedding.mul_(1.1)
    exact = PotentialCalculator(members[0], use_program=False)(system, stress=True)
    spread = Committee(members)(system).spread
    moved = [m.to(DEVICE) for m in members]
    found = PotentialCalculator(moved[0])(system, stress=True)
    for name in ("energy", "forces", "stress"):
        assert found.need(name).device.type == "cpu" and not isinstance(found.need(name), There)
        torch.testing.assert_close(found.need(name), exact.need(name), rtol=1e-10, atol=1e-11)
    graph = PotentialCalculator(moved[0]).graph
    leaf = system.positions.clone().requires_grad_()
    (slope,) = torch.autograd.grad(graph(system.replace(positions=leaf)).need("energy").sum(), leaf)
    torch.testing.assert_close(-slope, exact.need("forces"), rtol=1e-9, atol=1e-10)
    atoms = system.to_ase()[0]
    atoms.calc = as_ase(PotentialCalculator(moved[0]))
    torch.testing.assert_close(torch.from_numpy(atoms.get_forces()), exact.need("forces"))
    again = Committee(moved)(system).spread
    assert spread is not None and again is not None
    torch.testing.assert_close(again.need("forces"), spread.need("forces"))


def test_dynamics_stay_on_the_device(there: Pretend) -> None:
    potential: Potential = SchNet.examples()[0].double()
    atoms = molecule("H2O")
    atoms.numbers[:] = [8, 14, 14]
    ends = []
    for device in (torch.device("cpu"), DEVICE):
        state = State.of(System.from_ase(atoms).to(device), seed=3)
        simulation = Simulation(
            PotentialCalculator(potential.to(device)),
            Langevin(temperature_K=300.0, friction_per_ps=5.0),
            state,
            timestep_fs=0.5,
        )
        simulation.run(3)
        there.counts.clear()
        simulation.run(2)
        ends.append(simulation.state.system.positions)
    assert ends[1].device == DEVICE
    torch.testing.assert_close(ends[1].cpu(), ends[0], rtol=1e-12, atol=1e-12)
    # a step copies nothing there; the one copy back may be a report
    assert there.counts["to_device"] == 0 and there.counts["to_host"] <= 1


def test_precision_is_set_and_put_back() -> None:
    matmul = torch.backends.cuda.matmul
    name = "fp32_precision" if hasattr(matmul, "fp32_precision") else "allow_tf32"
    before = getattr(matmul, name)
    gpu = torch.device("cuda", 0)
    with matmul_precision("tf32", gpu, torch.float32):
        assert getattr(matmul, name) in ("tf32", True)
        with matmul_precision("full", gpu, torch.float32):
            assert getattr(matmul, name) in ("ieee", False)
        assert getattr(matmul, name) in ("tf32", True)
    assert getattr(matmul, name) == before
    with pytest.raises(RuntimeError, match="inside"), matmul_precision("tf32", gpu, torch.float32):
        raise RuntimeError("inside")
    assert getattr(matmul, name) == before
    with (
        pytest.raises(ValueError, match="float32"),
        matmul_precision("tf32", gpu, torch.float64),
    ):
        pass


def test_precision_needs_a_gpu() -> None:
    potential = SchNet.examples()[0].float()
    with pytest.raises(ValueError, match="'full' or 'tf32'"):
        PotentialCalculator(potential, precision="bf16")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="CUDA device"):
        PotentialCalculator(potential, precision="tf32")(silica())
