"""Structures at the edge of what can be asked for, on every registered potential."""

import copy
from math import isinf

import numpy as np
import pytest
import torch
from ase import Atoms

from rikiba.calculators.autograd import PotentialCalculator, evaluate
from rikiba.core import registry
from rikiba.core.pairs import find_pairs
from rikiba.core.results import Results
from rikiba.core.system import System
from rikiba.potentials.base import Potential
from rikiba.potentials.pair import PairPotential

CASES = [
    (name, k)
    for name in registry.names("potentials")
    for k in range(len(registry.load("potentials", name).examples()))
]


def example(case: tuple[str, int]) -> Potential:
    potential: Potential = registry.load("potentials", case[0]).examples()[case[1]]
    return potential.double()


def si_o() -> list[Atoms]:
    """One atom, none, a wire, a crystal and two atoms too far apart to feel each other."""
    rng = np.random.default_rng(0)
    crystal = np.array([[0, 0, 0], [2.2, 0, 0], [0, 2.2, 0], [0, 0, 2.2], [2.2, 2.2, 2.2]])
    return [
        Atoms("Si"),
        Atoms(),
        Atoms("SiO2", positions=[[0, 0, 0], [1.7, 0.2, 0], [0, 1.8, 0.3]], cell=[4, 0, 0], pbc=[1, 0, 0]),
        Atoms(
            "Si2O3", positions=crystal + rng.normal(scale=0.1, size=(5, 3)), cell=np.eye(3) * 4.4, pbc=True
        ),
        Atoms("O2", positions=[[0, 0, 0], [30, 0, 0]]),
    ]


def frames(potential: Potential) -> list[Atoms]:
    """The same of elements that the potential knows; of a fixed topology, other copies of it."""
    own = potential.trial_structures()
    if own is not None:
        moved = [a.copy() for a in own]
        for atoms in moved:
            atoms.rattle(0.02, seed=1)
        return [own[0], Atoms(cell=own[0].cell, pbc=own[0].pbc), moved[0], own[-1], moved[-1]]
    found = si_o()
    if isinf(potential.receptive_field):  # sums over all charges need three periodic axes or none
        found = [a for a in found if a.pbc.all() or not a.pbc.any()]
    if not {"Si", "O"} <= set(potential.elements):
        names = {"Si": potential.elements[0], "O": potential.elements[-1]}
        for atoms in found:
            atoms.symbols = [names[s] for s in atoms.get_chemical_symbols()]
    return found


@pytest.mark.parametrize("case", CASES)
def test_a_mixed_batch_is_its_parts(case: tuple[str, int]) -> None:
    potential = example(case)
    systems = [System.from_ase(f) for f in frames(potential)]
    whole = System.cat(systems)
    together = evaluate(potential, whole, find_pairs(whole, potential.cutoff))
    apart = Results.cat([evaluate(potential, s, find_pairs(s, potential.cutoff)) for s in systems])
    for name in ("energy", "forces"):
        torch.testing.assert_close(together.need(name), apart.need(name), rtol=0, atol=1e-10)
    assert together.need("energy")[1] == 0


@pytest.mark.parametrize("case", CASES)
def test_one_calculator_takes_one_after_another(case: tuple[str, int]) -> None:
    potential = example(case)
    calculator = PotentialCalculator(potential)
    for _ in range(2):
        for atoms in frames(potential):
            system = System.from_ase(atoms)
            fresh = evaluate(potential, system, find_pairs(system, potential.cutoff))
            torch.testing.assert_close(
                calculator(system).need("forces"), fresh.need("forces"), rtol=0, atol=1e-10
            )


@pytest.mark.parametrize("case", CASES)
def test_a_longer_pair_list_changes_nothing(case: tuple[str, int]) -> None:
    potential = example(case)
    if isinstance(potential, PairPotential):
        potential.truncation = "cut"
    system = System.from_ase(frames(potential)[3])
    own, longer = (evaluate(potential, system, find_pairs(system, potential.cutoff + x)) for x in (0.0, 1.5))
    for name in ("energy", "forces"):
        torch.testing.assert_close(longer.need(name), own.need(name), rtol=0, atol=1e-10)


@pytest.mark.parametrize("case", CASES)
def test_constants_survive_single_precision(case: tuple[str, int]) -> None:
    """Only parameters may be rounded: with them put back, the energy is what it was."""
    potential = example(case)
    there = copy.deepcopy(potential).float()
    back = there.double()
    for p, q in zip(back.parameters(), potential.parameters(), strict=True):
        p.data = q.data.clone()
    system = System.from_ase(frames(potential))
    pairs = find_pairs(system, potential.cutoff)
    assert torch.equal(
        evaluate(back, system, pairs).need("energy"), evaluate(potential, system, pairs).need("energy")
    )
