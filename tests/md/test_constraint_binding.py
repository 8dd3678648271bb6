"""What constraints amount to: degrees of freedom, refusals, structures that carry their own."""

from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase import constraints as ase_constraints
from ase.build import molecule
from constraint_cases import WATER, box
from ensemble_checks import IdealGas

from rikiba.core.system import System
from rikiba.md.ase_constraints import attached
from rikiba.md.constraints.base import Constraint
from rikiba.md.constraints.bonds import Bonds
from rikiba.md.constraints.distances import Distances
from rikiba.md.constraints.fixed_atoms import FixedAtoms
from rikiba.md.constraints.fixed_centre import FixedCentre
from rikiba.md.constraints.fixed_line import FixedLine
from rikiba.md.constraints.fixed_plane import FixedPlane
from rikiba.md.constraints.rigid_water import RigidWater
from rikiba.md.ensembles.npt import NPT
from rikiba.md.simulation import Simulation
from rikiba.md.state import State, maxwell_boltzmann

SITES = [[0.0, 0, 0], [1.5, 0.1, 0], [0.2, 1.4, 0.3], [0.1, 0.3, 1.6], [1.7, 1.5, 1.2]]
EVERY_PAIR = tuple((i, j) for i in range(5) for j in range(i + 1, 5))


def five(pbc: bool = True) -> System:
    return System.from_ase(Atoms("He5", SITES, cell=[12.0] * 3, pbc=pbc))


COUNTS: dict[str, tuple[list[Constraint], int]] = {
    "none": ([], 12),
    "centre": ([FixedCentre()], 12),
    "tetrahedron": ([Distances(pairs=EVERY_PAIR[:3] + EVERY_PAIR[4:6] + EVERY_PAIR[7:8])], 6),
    "fixed": ([FixedAtoms(atoms=(0, 1))], 9),
    "fixed centre": ([FixedAtoms(atoms=(0, 1)), FixedCentre()], 6),
    "plane of all": ([FixedPlane(normal=(0, 0, 1), above=-1.0)], 8),
    "plane of all, centre": ([FixedPlane(normal=(0, 0, 1), above=-1.0), FixedCentre()], 8),
    "plane": ([FixedPlane(normal=(0, 0, 1), atoms=(2,))], 14),
    "line": ([FixedLine(along=(1, 1, 1), atoms=(2,))], 13),
    "line, centre": ([FixedLine(along=(1, 1, 1), atoms=(2,)), FixedCentre()], 10),
    "two fixed and their distance": ([FixedAtoms(atoms=(0, 1)), Distances(pairs=((0, 1), (1, 2)))], 8),
    "distance and centre": ([Distances(pairs=((0, 1), (1, 2))), FixedCentre()], 10),
}


@pytest.mark.parametrize("case", COUNTS)
def test_degrees_of_freedom_are_counted_right(case: str) -> None:
    """Against the rank of velocities drawn at random, less the momentum where it is conserved."""
    constraints, expected = COUNTS[case]
    state = State.of(five()).constrained(constraints)
    assert state.dof.tolist() == [expected]
    rng, free = np.random.default_rng(0), (state.inverse_masses > 0)[:, None]
    drawn = [state.tangent_of(free * torch.from_numpy(rng.normal(size=(5, 3)))).flatten() for _ in range(20)]
    seen = int(torch.linalg.matrix_rank(torch.stack(drawn), rtol=1e-7))
    conserved = {"none": 3, "tetrahedron": 3, "plane of all": 2}.get(case, 0)
    assert seen - conserved == expected


def test_velocities_are_counted_like_motion() -> None:
    """Isolated rigid water: no freedom is left but what removing momentum and rotation leaves: none."""
    state = maxwell_boltzmann(System.from_ase(molecule("H2O")), 300.0, constraints=[RigidWater()])
    assert int(state.dof) == 0
    state = maxwell_boltzmann(five(pbc=False), 300.0, constraints=[FixedCentre()])
    assert int(state.dof) == 15 - 6
    assert float(state.momentum.abs().max()) < 1e-12
    wall = maxwell_boltzmann(five(), 300.0, constraints=[FixedPlane(normal=(0, 0, 1), atoms=(2,))])
    assert int(wall.dof) == 14 and float(wall.momentum.abs().max()) > 1e-3


WRONG: dict[str, tuple[list[Constraint], str]] = {
    "ten distances": ([Distances(pairs=EVERY_PAIR)], "say only 9 different things"),
    "two lengths": (
        [Distances(pairs=((0, 1), (1, 0)), lengths=(1.5, 1.6))],
        "to be 1.5 and 1.6",
    ),
    "itself": ([Distances(pairs=((1, 1),))], "itself"),
    "too far": ([Distances(pairs=((0, 1),), lengths=(9.0,), max_iterations=2)], "too far from its"),
    "no such atom": ([FixedAtoms(atoms=(5,))], "from 0 to 4"),
    "nothing chosen": ([FixedAtoms(elements=("He",), above=8.0)], "No atom of structure 0"),
    "nothing said": ([FixedAtoms()], "Say which atoms"),
    "no tags": ([FixedAtoms(tags=(1,))], "has none"),
    "no water": ([RigidWater()], "no water molecule"),
    "no hydrogen": ([Bonds()], "no bond"),
    "tied centre": ([FixedAtoms(atoms=(0,)), Distances(pairs=((0, 1),)), FixedCentre()], "fixed_centre"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_is_refused(case: str) -> None:
    constraints, message = WRONG[case]
    with pytest.raises(ValueError, match=message):
        State.of(five()).constrained(constraints)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Distances(pairs=()),
        lambda: Distances(pairs=((0, 1),), lengths=(-1.0,)),
        lambda: Distances(pairs=((0, 1),), tolerance=0.5),
        lambda: Bonds(lengths={"C": 1.0}),
        lambda: Bonds(between="some"),  # type: ignore[arg-type]
        lambda: RigidWater(angle_deg=180.0),
        lambda: FixedPlane(normal=(0, 0, 0), atoms=(1,)),
    ],
)
def test_arguments_that_make_no_sense_are_refused(wrong: Any) -> None:
    with pytest.raises(ValueError, match="given"):
        wrong()


def test_linear_molecules_and_endless_chains_are_refused() -> None:
    line = System.from_ase(molecule("CO2"))
    with pytest.raises(ValueError, match="say only 2 different"):
        State.of(line).constrained([Distances(pairs=((0, 1), (0, 2), (1, 2)))])
    chain = Atoms("He4", [[1.5 * k, 0, 0] for k in range(4)], cell=[6.0, 9, 9], pbc=True)
    pairs = ((0, 1), (1, 2), (2, 3))
    assert int(State.of(System.from_ase(chain)).constrained([Distances(pairs=pairs)]).dof) == 12 - 3 - 3
    with pytest.raises(ValueError, match="closes through the periodic boundary"):
        State.of(System.from_ase(chain)).constrained([Distances(pairs=(*pairs, (3, 0)))])


def test_molecules_are_made_whole_by_lattice_vectors() -> None:
    loose = System.from_ase(box(shear=0.1))
    whole = State.of(loose).constrained([WATER])
    r = whole.system.positions.reshape(-1, 3, 3)
    assert float((r[:, 1:] - r[:, :1]).norm(dim=-1).max()) < 1.01
    moved = torch.linalg.solve(loose.cell[0].T, (whole.system.positions - loose.positions).T).T
    assert float((moved - moved.round()).abs().max()) < 1e-9 and float(moved.abs().max()) > 0.5


def test_barostats_say_what_they_allow() -> None:
    npt = NPT(temperature_K=300.0, pressure_GPa=0.0)
    for held, message in (
        ([FixedPlane(normal=(0, 0, 1), atoms=(1,))], "fixed atoms, planes and lines"),
        ([FixedCentre()], "leave fixed_centre out"),
    ):
        state = maxwell_boltzmann(five(), 300.0, constraints=held)
        with pytest.raises(ValueError, match=message):
            Simulation(IdealGas(), npt, state, timestep_fs=1.0)


def carrying() -> Atoms:
    atoms = Atoms("He5", SITES, cell=[12.0] * 3, pbc=True)
    atoms.set_constraint(
        [
            ase_constraints.FixAtoms([4]),
            ase_constraints.FixBondLength(0, 1),
            ase_constraints.FixedPlane([2], [0, 0, 1]),
            ase_constraints.FixedLine([3], [1, 1, 0]),
        ]
    )
    return atoms


def test_structures_bring_their_constraints() -> None:
    moved = carrying()
    moved.set_constraint(ase_constraints.FixCartesian([0, 1], mask=(False, True, True)))
    free = Atoms("He5", SITES, cell=[12.0] * 3, pbc=True)
    free.set_constraint(ase_constraints.FixCom())
    frames = [carrying(), moved, free]
    state = State.from_ase(frames)
    assert state.dof.tolist() == [12 - 1 - 1 - 2, 15 - 4, 12]
    drawn = maxwell_boltzmann(System.from_ase(frames), 300.0, constraints=attached(frames))
    assert drawn.dof.tolist() == state.dof.tolist()
    assert drawn.velocities[4].tolist() == [0, 0, 0] and float(drawn.velocities[2, 2]) == 0
    assert float(drawn.velocities[3, 0]) == pytest.approx(float(drawn.velocities[3, 1]))
    assert drawn.velocities[5, 1:].tolist() == [0, 0]
    again = State.from_ase(drawn.to_ase())
    assert again.dof.tolist() == state.dof.tolist()
    torch.testing.assert_close(again.velocities, drawn.velocities, rtol=0, atol=1e-12)
    assert State.from_ase(Atoms("He")).constraints is None


def test_an_unknown_constraint_is_not_ignored() -> None:
    atoms = carrying()
    atoms.set_constraint(ase_constraints.Hookean(0, 1, k=1.0, rt=1.0))
    with pytest.raises(ValueError, match="Hookean"):
        State.from_ase(atoms)
