"""Constraints in motion: residuals, exact periods, order, reversal, restart, batches, what stands still."""

from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import fcc111, molecule
from constraint_cases import SHAPE, WATER, WIDE, Gravity, box, light_water
from ensemble_checks import FS, IdealGas, Springs, watched
from md_toys import LennardJones

from rikiba.core.system import System
from rikiba.md.constraints.base import Constraint
from rikiba.md.constraints.bonds import Bonds
from rikiba.md.constraints.distances import Distances
from rikiba.md.constraints.fixed_atoms import FixedAtoms
from rikiba.md.constraints.fixed_centre import FixedCentre
from rikiba.md.constraints.fixed_line import FixedLine
from rikiba.md.constraints.fixed_plane import FixedPlane
from rikiba.md.ensembles.csvr import Csvr
from rikiba.md.ensembles.gjf import Gjf
from rikiba.md.ensembles.langevin import Langevin
from rikiba.md.ensembles.nose_hoover import NoseHoover
from rikiba.md.ensembles.npt import NPT
from rikiba.md.ensembles.nve import NVE
from rikiba.md.simulation import Simulation, SimulationError
from rikiba.md.state import State, maxwell_boltzmann

TRIANGLE = ((0, 1), (0, 2), (1, 2))


def soft() -> LennardJones:
    return LennardJones(epsilon=0.01, sigma=1.3, cutoff=3.0)


def liquid(constraints: tuple[Constraint, ...] = (WATER,), seed: int = 3, kelvin: float = 300.0) -> State:
    return maxwell_boltzmann(System.from_ase(box()), kelvin, seed=seed, constraints=constraints)


def rotor() -> State:
    """Two masses of 1, 1 Å apart, that turn about their centre by 0.5 a unit of time."""
    system = System.from_ase(Atoms("H2", [[0, 0, 0], [1.0, 0, 0]]))
    v = torch.tensor([[0, -0.25, 0], [0, 0.25, 0]]).double()
    return State.of(system, v, masses=torch.ones(2)).constrained([Distances(pairs=((0, 1),))])


@pytest.mark.parametrize("h", [0.1, 0.4])
def test_a_rigid_rotor_has_its_exact_period(h: float) -> None:
    """RATTLE turns a free rotor by arcsin(ωh) a step, exactly, at constant speed."""
    run = Simulation(IdealGas(), NVE(), rotor(), timestep_fs=h * FS).run(40)
    r = run.state.system.positions[1] - run.state.system.positions[0]
    angle = 40 * np.arcsin(0.5 * h)
    expected = torch.tensor([np.cos(angle), np.sin(angle), 0.0])
    torch.testing.assert_close(r, expected, rtol=0, atol=1e-8)
    assert float(run.state.kinetic_energy) == pytest.approx(0.0625, rel=1e-8)


def test_displacements_that_are_not_fed_back_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the impulse of the constraints in the velocities the rotor runs cold."""
    true = State.pulled_back
    monkeypatch.setattr(State, "pulled_back", lambda s, b, dt: true(s, b, dt).with_velocities(s.velocities))
    run = Simulation(IdealGas(), NVE(), rotor(), timestep_fs=0.4 * FS).run(40)
    assert float(run.state.kinetic_energy) < 0.03


INTEGRATORS: dict[str, Any] = {
    "verlet": NVE(),
    "position_verlet": NVE(integrator="position_verlet"),
    "langevin": Langevin(temperature_K=300.0, friction_per_ps=5.0),
    "gjf": Gjf(temperature_K=300.0, friction_per_ps=5.0),
    "nose_hoover": NoseHoover(temperature_K=300.0),
    "csvr": Csvr(temperature_K=300.0),
    "rescaling": NPT(temperature_K=300.0, pressure_GPa=0.1),
    "isotropic": NPT(temperature_K=300.0, pressure_GPa=0.1, barostat="martyna_tobias_klein"),
    "full": NPT(temperature_K=300.0, pressure_GPa=0.1, barostat="martyna_tobias_klein", cell="full"),
}
LEGS = Distances(pairs=tuple((3 * k, 3 * k + h) for k in range(8) for h in (1, 2)))


@pytest.mark.parametrize("name", INTEGRATORS)
def test_lengths_and_velocities_keep_the_constraints(name: str) -> None:
    """|r| = d and r · v = 0 to the tolerance, with SETTLE (to rounding) and with SHAKE on the legs alone."""
    for constraints, allowed in (((WATER,), 1e-13), ((LEGS,), 2e-10)):
        start = liquid(constraints)
        run = Simulation(soft(), INTEGRATORS[name], start, timestep_fs=1.0).run(20)
        length, rate = run.state.constraints.errors(run.state.system.positions, run.state.velocities)
        speed = float(run.state.velocities.norm(dim=1).max())
        assert length < allowed and rate < allowed * speed, (length, rate)
        assert float((run.state.system.positions - start.system.positions).abs().max()) > 0.01
    assert int(start.dof) == 3 * 24 - 16 - 3 and int(liquid().dof) == 3 * 24 - 24 - 3


@pytest.mark.parametrize("name", ["verlet", "position_verlet", "nose_hoover", "isotropic", "full"])
def test_conserved_quantity_is_of_second_order(name: str) -> None:
    def wandering(fs: float) -> float:
        kept, _ = watched(soft(), INTEGRATORS[name], liquid(), fs / FS, round(64 / fs), 1)
        assert float(kept.kinetic_energy.std()) > 1e-3
        return float(kept.conserved.std())

    coarse, fine = wandering(2.0), wandering(1.0)
    assert coarse / fine == pytest.approx(4.0, rel=0.35)


def pendulum(tolerance: float = 1e-10) -> tuple[State, Gravity]:
    """A double pendulum that hangs on a fixed atom."""
    system = System.from_ase(Atoms("H3", [[0, 0, 0], [1.0, 0, 0], [1.8, 0, 0.6]]))
    masses = torch.tensor([1.0, 1.0, 2.0]).double()
    hung = [Distances(pairs=((0, 1), (1, 2)), tolerance=tolerance), FixedAtoms(atoms=(0,))]
    return State.of(system, masses=masses).constrained(hung), Gravity(masses)


def test_a_double_pendulum_keeps_its_energy_to_second_order() -> None:
    state, gravity = pendulum()
    assert int(state.dof) == 4

    def wandering(h: float) -> float:
        kept, run = watched(gravity, NVE(), state, h, round(3.2 / h), 1)
        assert torch.equal(run.state.system.positions[0], state.system.positions[0])
        return float((kept.conserved - kept.conserved[0]).abs().max())

    coarse, fine = wandering(0.04), wandering(0.02)
    assert coarse < 2e-2 and coarse / fine == pytest.approx(4.0, rel=0.25)


def test_drift_falls_with_the_tolerance() -> None:
    """A loose tolerance shows as an error of the energy; a tight one leaves that of the timestep alone."""

    def error(tolerance: float) -> float:
        state, gravity = pendulum(tolerance)
        kept, _ = watched(gravity, NVE(), state, 0.005, 300, 1)
        return float((kept.conserved - kept.conserved[0]).abs().max())

    curve = [error(t) for t in (1e-2, 1e-4, 1e-7, 1e-10)]
    assert curve[0] > 5 * curve[1] > 25 * curve[2], curve
    assert curve[2] == pytest.approx(curve[3], rel=0.3), curve


def test_trajectories_run_backwards() -> None:
    start = liquid()
    there = Simulation(soft(), NVE(), start, timestep_fs=1.0).run(60).state
    back = Simulation(soft(), NVE(), there.with_velocities(-there.velocities), timestep_fs=1.0).run(60).state
    assert float((there.system.positions - start.system.positions).abs().max()) > 0.05
    torch.testing.assert_close(back.system.positions, start.system.positions, rtol=0, atol=1e-9)


@pytest.mark.parametrize("constraints", [(WATER,), (Distances(pairs=TRIANGLE), FixedCentre())])
def test_companions_do_not_matter_to_the_bit(constraints: tuple[Constraint, ...]) -> None:
    rng = np.random.default_rng(2)
    frames = [Atoms("OHH", SHAPE + rng.normal(size=3), cell=[9.0] * 3, pbc=True) for _ in range(3)]
    frames.insert(1, Atoms("OHHHe", [*SHAPE, [4.0, 4, 4]], cell=[9.0] * 3, pbc=True))
    every = maxwell_boltzmann(System.from_ase(frames), 300.0, seed=5, constraints=constraints)
    bath = Langevin(temperature_K=300.0, friction_per_ps=10.0)
    together = Simulation(IdealGas(), bath, every, timestep_fs=1.0).run(20).state
    for which in ([1], [3, 0]):
        alone = Simulation(IdealGas(), bath, every[which], timestep_fs=1.0).run(20).state
        assert torch.equal(alone.system.positions, together[which].system.positions)
        assert torch.equal(alone.velocities, together[which].velocities)
        assert torch.equal(alone.dof, together[which].dof)
    assert not torch.equal(together[0].velocities, together[2].velocities)


@pytest.mark.parametrize("name", ["langevin", "gjf", "nose_hoover", "rescaling", "full"])
def test_restart_is_bit_for_bit(name: str, tmp_path: Any) -> None:
    def build(constraints: tuple[Constraint, ...] = (LEGS,)) -> Simulation:
        return Simulation(soft(), INTEGRATORS[name], liquid(constraints), timestep_fs=1.0)

    whole, part = build().run(14), build().run(5)
    part.save(tmp_path / "a.checkpoint")
    again = build().restore(tmp_path / "a.checkpoint").run(9)
    assert torch.equal(whole.state.system.positions, again.state.system.positions)
    assert torch.equal(whole.state.velocities, again.state.velocities)
    assert torch.equal(whole.snapshot.conserved, again.snapshot.conserved)
    with pytest.raises(ValueError, match="was written with constraints"):
        build((WATER,)).restore(tmp_path / "a.checkpoint")


def slab() -> Atoms:
    atoms = fcc111("Cu", (2, 2, 3), vacuum=6.0, periodic=True)
    atoms.rattle(0.02, seed=1)
    return atoms


def test_what_is_fixed_stays_to_the_bit() -> None:
    """Fixed layers, planes and lines under noise, and a molecule tied to a fixed atom."""
    atoms = slab()
    system = System.from_ase(atoms)
    held = [
        FixedAtoms(tags=(3,)),
        FixedPlane(normal=(0, 0, 1), tags=(2,)),
        FixedLine(along=(0, 2, 0), atoms=(8,)),
        FixedPlane(normal=(1.0, 1.0, 0.0), atoms=(9,)),
        FixedPlane(normal=(0.0, 1.0, 1.0), atoms=(9,)),
        Distances(pairs=((0, 10), (4, 11))),  # to a fixed atom and to one in a plane
    ]
    state = maxwell_boltzmann(system, 900.0, seed=1, constraints=held)
    # 4 fixed, 4 lose 1, one loses 2, two planes leave a line, two distances; no momentum is conserved
    assert int(state.dof) == 3 * 8 - 4 - 2 - 2 - 2
    for integrator in (
        Langevin(temperature_K=900.0, friction_per_ps=20.0),
        Gjf(temperature_K=900.0, friction_per_ps=20.0),
    ):
        run = Simulation(Springs(torch.ones(12)), integrator, state, timestep_fs=2.0).run(60).state
        moved = run.system.positions - state.system.positions
        assert torch.equal(moved[:4], torch.zeros(4, 3).double())
        assert torch.equal(moved[4:8, 2], torch.zeros(4).double())
        assert torch.equal(moved[8, [0, 2]], torch.zeros(2).double())
        along = moved[9] / moved[9].norm()
        assert float((along.abs() - 3**-0.5).abs().max()) < 1e-9  # (1, −1, 1)/√3
        length, _ = run.constraints.errors(run.system.positions, run.velocities)
        assert length < 2e-10 and float(moved[4:].abs().max()) > 0.01


def test_a_fixed_centre_stays_under_noise() -> None:
    state = light_water(4, n=2)
    free = state.replace(constraints=None)
    bath = Langevin(temperature_K=11604.0, friction_per_ps=1e3)
    centred = State.of(free.system, free.velocities, masses=free.masses).constrained([WIDE, FixedCentre()])
    for start, stays in ((state, False), (centred, True)):
        run = Simulation(IdealGas(), bath, start, timestep_fs=0.1 * FS).run(50).state
        wandered = float((run._centre() - start._centre()).abs().max())
        assert (wandered < 1e-10) == stays, wandered


def test_what_cannot_be_held_stops_the_run(tmp_path: Any) -> None:
    for held, message in ((LEGS, "was not reached within"), (WATER, "has left its shape")):
        start = liquid((held,), kelvin=3000.0)
        run = Simulation(soft(), NVE(), start, timestep_fs=50.0, checkpoint=tmp_path / "a.checkpoint")
        with pytest.raises(SimulationError, match=rf"{message}.*last finite state"):
            run.run(5)


def test_hydrogen_bonds_of_a_molecule_are_found() -> None:
    frames = [molecule("CH3CH2OH"), molecule("H2")]
    state = maxwell_boltzmann(System.from_ase(frames), 300.0, constraints=[Bonds(lengths={"H-C": 1.1})])
    pairs, lengths = state.constraints.all_pairs()
    z = state.system.numbers[pairs].sort(1).values
    assert z.tolist().count([1, 6]) == 5 and z.tolist().count([1, 8]) == 1 and z.tolist().count([1, 1]) == 1
    assert torch.equal(lengths[z[:, 1] == 6], torch.full((5,), 1.1, dtype=torch.float64))
    assert state.dof.tolist() == [27 - 6 - 6, 6 - 1 - 5]
    r = (state.system.positions[pairs[:, 1]] - state.system.positions[pairs[:, 0]]).norm(dim=1)
    torch.testing.assert_close(r, lengths, rtol=2e-10, atol=0)
    every = System.from_ase(frames[0])
    assert len(State.of(every).constrained([Bonds(between="all")]).constraints.all_pairs()[0]) == 8
