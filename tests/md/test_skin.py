"""A skin changes the cost of a run and nothing else: trajectories are bit for bit those of skin 0."""

import pytest
import torch
from ase.build import bulk
from md_toys import LennardJones

from rikiba.core.pairs import PairFinder, Pairs
from rikiba.core.system import System
from rikiba.md.ensembles.nve import NVE
from rikiba.md.reporters.in_memory import InMemory
from rikiba.md.simulation import Simulation
from rikiba.md.state import State, maxwell_boltzmann


def start(speed: float) -> State:
    """Argon with one atom shot through the crystal, across the periodic boundary, at `speed` (internal)."""
    state = maxwell_boltzmann(
        System.from_ase(bulk("Ar", "fcc", 5.6, cubic=True).repeat((3, 3, 3))), 80.0, seed=1
    )
    velocities = state.velocities.clone()
    velocities[17] = speed * torch.tensor([0.83, 0.31, 0.46], dtype=torch.float64)
    return State.of(state.system, velocities)


def run(calculator: LennardJones, speed: float, steps: int) -> tuple[torch.Tensor, torch.Tensor]:
    keep = InMemory(interval=1, velocities=True)
    Simulation(calculator, NVE(), start(speed), timestep_fs=2.0, reporters=[keep]).run(steps)
    return keep.positions, keep.velocities


@pytest.mark.parametrize("speed", [0.0, 0.5, 2.0])
def test_trajectory_equals_that_without_skin(speed: float) -> None:
    """At speed 2 the atom covers 0.4 Å in its first step, more than either skin allows in two."""
    none = run(LennardJones(skin=0.0, cutoff=6.5), speed, 60)
    for skin in (0.3, 1.0):
        calculator = LennardJones(skin=skin, cutoff=6.5)
        with_skin = run(calculator, speed, 60)
        assert torch.equal(none[0], with_skin[0]) and torch.equal(none[1], with_skin[1])
        if speed < 2:
            assert calculator.pairs.n_builds < 40 < calculator.pairs.n_calls
    if speed == 2:
        assert float((none[0][-1, 17] - none[0][0, 17]).norm()) > 5.0  # past its nearest neighbours


class Careless(PairFinder):
    """Negative control: rebuilds every tenth call, whatever has moved."""

    def __call__(self, system: System) -> Pairs:
        if self.n_calls % 10 == 0:
            self.reset()
        self.n_calls += 1
        if self._candidates is None:
            return super().__call__(system)
        return self._current().pairs(system)


def test_a_careless_list_is_caught() -> None:
    calculator = LennardJones(cutoff=6.5)
    calculator.pairs = Careless(6.5, 0.3)
    assert not torch.equal(run(calculator, 2.0, 60)[0], run(LennardJones(skin=0.0, cutoff=6.5), 2.0, 60)[0])
