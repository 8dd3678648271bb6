"""Neighbour pairs against brute force; the skin never changes an answer."""

import itertools

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, make_supercell, molecule
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from rikiba.core.pairs import PairFinder, Pairs, find_pairs
from rikiba.core.system import System


def brute_force(atoms: Atoms, cutoff: float) -> list[tuple[int, ...]]:
    """Every image that can matter, by enumeration; O(N² images)."""
    reach = [0, 0, 0]
    if atoms.pbc.any():
        cell = np.where(atoms.pbc[:, None], atoms.cell.array, 0)
        # the fractional spread of unwrapped positions plus the cutoff, through the pseudo-inverse
        inverse = np.linalg.pinv(cell)
        spread = np.ptp(atoms.positions @ inverse, axis=0)
        widths = np.linalg.norm(inverse, axis=0)
        reach = [
            int(np.ceil(s + cutoff * w)) + 1 if p else 0
            for s, w, p in zip(spread, widths, atoms.pbc, strict=True)
        ]
    found = []
    for shift in itertools.product(*(range(-n, n + 1) for n in reach)):
        offset = np.array(shift) @ atoms.cell.array
        d = atoms.positions[None] + offset - atoms.positions[:, None]
        r = np.linalg.norm(d, axis=-1)
        if shift == (0, 0, 0):
            np.fill_diagonal(r, np.inf)
        found += [(int(i), int(j), *shift) for i, j in zip(*np.nonzero(r < cutoff), strict=True)]
    return sorted(found)


def listed(pairs: Pairs) -> list[tuple[int, ...]]:
    return [tuple(row) for row in torch.cat([pairs.i[:, None], pairs.j[:, None], pairs.shift], 1).tolist()]


@st.composite
def structures(draw: st.DrawFn) -> Atoms:
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n = draw(st.integers(1, 6))
    pbc = [draw(st.booleans()) for _ in range(3)]
    cell = np.eye(3) * rng.uniform(2.0, 6.0) + rng.normal(scale=1.0, size=(3, 3))
    if abs(np.linalg.det(cell)) < 6:
        cell = np.eye(3) * 3
    return Atoms(numbers=[1] * n, positions=rng.normal(scale=4, size=(n, 3)), cell=cell, pbc=pbc)


@given(structures(), st.floats(0.5, 6.0))
@settings(max_examples=200, deadline=None)
def test_equal_to_brute_force_and_canonical(atoms: Atoms, cutoff: float) -> None:
    expected = brute_force(atoms, cutoff)
    # at the very cutoff rounding decides, and either answer is right
    assume(brute_force(atoms, cutoff - 1e-9) == brute_force(atoms, cutoff + 1e-9))
    assert listed(find_pairs(System.from_ase(atoms), cutoff)) == expected


def test_brute_force_notices_a_missing_pair() -> None:
    atoms = bulk("Cu")
    assert listed(find_pairs(System.from_ase(atoms), 3.0))[1:] != brute_force(atoms, 3.0)


def test_batch_equals_each_alone() -> None:
    frames = [molecule("CH3CH2OH"), bulk("Si"), bulk("Cu", cubic=True), Atoms("He")]
    together = find_pairs(System.from_ase(frames), 5.0)
    alone = Pairs.cat([find_pairs(System.from_ase(a), 5.0) for a in frames])
    assert listed(together) == listed(alone)


def test_one_atom_cell_sees_its_images() -> None:
    """One fcc atom with a cutoff of 6 Å has the neighbours of the large supercell (SYS-05)."""
    small, large = bulk("Cu", a=3.6), bulk("Cu", a=3.6) * (7, 7, 7)
    n_small = len(find_pairs(System.from_ase(small), 6.0))
    pairs = find_pairs(System.from_ase(large), 6.0)
    assert n_small == int(torch.bincount(pairs.i)[0]) > 50


def test_skewed_cell_of_short_height() -> None:
    flat = Atoms("Cu", cell=[[2.5, 0, 0], [9.0, 1.2, 0], [0, 0, 8]], pbc=True)
    assert listed(find_pairs(System.from_ase(flat), 4.0)) == brute_force(flat, 4.0)


def test_same_crystal_in_two_skewed_cells() -> None:
    a = bulk("Cu", cubic=True)
    b = make_supercell(a, [[1, 0, 0], [2, 1, 0], [-1, 3, 1]], wrap=False)
    lengths = [find_pairs(s, 5.5).vectors(s).norm(dim=-1).sort().values for s in map(System.from_ase, (a, b))]
    torch.testing.assert_close(lengths[0], lengths[1], rtol=0, atol=1e-10)


def test_vectors_reach_the_right_image_and_differentiate() -> None:
    atoms = bulk("Si") * (2, 1, 1)
    atoms.rattle(0.3, seed=1)
    system = System.from_ase(atoms)
    pairs = find_pairs(system, 4.0)
    x = system.positions.clone().requires_grad_()
    cell = system.cell.clone().requires_grad_()
    r = pairs.vectors(system.replace(positions=x, cell=cell))
    assert float(r.detach().norm(dim=-1).max()) < 4.0
    assert torch.autograd.gradcheck(
        lambda p, c: pairs.vectors(system.replace(positions=p, cell=c)), (x, cell)
    )


def test_reverse_within_triplets() -> None:
    atoms = bulk("Si", cubic=True)
    atoms.rattle(0.1, seed=0)
    system = System.from_ase(atoms)
    pairs = find_pairs(system, 5.0)
    r = pairs.vectors(system)
    torch.testing.assert_close(r[pairs.reverse()], -r)
    near, parent = pairs.within(system, 3.0)
    assert listed(near) == listed(find_pairs(system, 3.0))
    torch.testing.assert_close(near.vectors(system), r[parent])
    with pytest.raises(ValueError, match="needs a larger list"):
        near.within(system, 4.0)
    a, b = near.triplets()
    expected = {
        (p, q) for p in range(len(near)) for q in range(len(near)) if p != q and near.i[p] == near.i[q]
    }
    assert set(zip(a.tolist(), b.tolist(), strict=True)) == expected
    one_sided = Pairs(i=near.i[:1], j=near.j[:1], shift=near.shift[:1], cutoff=3.0, n_atoms=8)
    with pytest.raises(ValueError, match="not closed under reversal"):
        one_sided.reverse()
    order, offsets = near.transposed()
    for atom in range(8):
        assert (near.j[order[offsets[atom] : offsets[atom + 1]]] == atom).all()


@pytest.mark.parametrize("moving_cell", [False, True])
def test_skin_never_changes_the_list(moving_cell: bool) -> None:
    """A random walk, with jumps across boundaries and a breathing, shearing cell (SYS-07)."""
    rng = np.random.default_rng(3)
    atoms = bulk("Cu", cubic=True) * (2, 1, 1)
    finder = PairFinder(4.0, 0.6)
    for step in range(150):
        atoms.positions += rng.normal(scale=0.02, size=atoms.positions.shape)
        if step % 40 == 7:  # one atom leaps by a lattice vector and a bit
            atoms.positions[step % len(atoms)] += atoms.cell[0] + 0.4
        if moving_cell:
            strain = np.eye(3) + rng.normal(scale=0.003, size=(3, 3)) - 0.0005 * np.eye(3)
            atoms.set_cell(atoms.cell.array @ strain, scale_atoms=True)
        system = System.from_ase(atoms)
        assert listed(finder(system)) == brute_force(atoms, 4.0), step
    assert finder.n_calls == 150
    assert 3 < finder.n_builds < 120


def test_fast_atom_is_never_missed() -> None:
    """Two atoms approach at just under and just over the allowed displacement."""
    far = Atoms("H2", positions=[[0, 0, 0], [6.0, 0, 0]])
    finder = PairFinder(3.0, 1.0)
    for x in (6.0, 5.5, 4.9, 4.4, 3.9, 3.4, 2.99, 2.0):
        far.positions[1, 0] = x
        assert len(finder(System.from_ase(far))) == (2 if x < 3.0 else 0)


def test_other_structure_resets_the_list() -> None:
    finder = PairFinder(4.0, 1.0)
    for atoms in (molecule("H2O"), molecule("CH4"), bulk("Cu"), molecule("H2O")):
        assert listed(finder(System.from_ase(atoms))) == brute_force(atoms, 4.0)


def test_cost_is_linear() -> None:
    """Slope of log t against log N stays near one (SYS-06)."""
    from time import process_time

    sizes, times = [], []
    for n in (6, 12, 20):
        system = System.from_ase(bulk("Cu", cubic=True) * (n, n, n))
        best = np.inf
        for _ in range(3):
            start = process_time()
            find_pairs(system, 4.0)
            best = min(best, process_time() - start)
        sizes.append(system.n_atoms)
        times.append(best)
    slope = np.polyfit(np.log(sizes), np.log(times), 1)[0]
    assert slope < 1.25, (sizes, times)


@pytest.mark.parametrize(("cutoff", "skin"), [(-1.0, 0.0), (3.0, -0.1), (float("nan"), 0.0)])
def test_bad_lengths(cutoff: float, skin: float) -> None:
    with pytest.raises(ValueError, match="lengths in Å"):
        PairFinder(cutoff, skin)


def test_a_structure_without_atoms_may_be_asked_for_again() -> None:
    finder = PairFinder(3.0, 0.5)
    assert [len(finder(System.from_ase(Atoms()))) for _ in range(2)] == [0, 0]


@pytest.mark.parametrize("n", [5, 100])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_positions_that_are_not_finite_have_no_neighbours(n: int, bad: float) -> None:
    system = System.from_ase(Atoms(f"Si{n}", positions=np.random.default_rng(0).normal(size=(n, 3)) * 3))
    positions = system.positions.clone()
    positions[0, 0] = bad
    with pytest.raises(ValueError, match="not finite"):
        find_pairs(system.replace(positions=positions), 3.0)


def test_rounding_at_the_cutoff_does_not_depend_on_the_skin() -> None:
    rng = np.random.default_rng(0)
    for k in range(400):
        system = System.from_ase(Atoms("Cu5", positions=rng.normal(size=(5, 3)) * 3 + 100 * (k % 5)))
        squares = (find_pairs(system, 4.0).vectors(system) ** 2).sum(-1)
        for square in squares[:3].tolist():
            for towards in (0.0, 9.0):
                cutoff = float(np.nextafter(np.sqrt(square), towards))
                plain, wide = PairFinder(cutoff)(system), PairFinder(cutoff, 0.5)(system)
                assert listed(plain) == listed(wide)


def test_periodicity_changed_in_place_is_noticed() -> None:
    system = System.from_ase(bulk("Si", cubic=True))
    finder = PairFinder(3.0, 0.5)
    assert len(finder(system)) == 32
    system.pbc[:] = False
    assert len(finder(system)) < 32


def test_lists_of_different_cutoffs_do_not_mix() -> None:
    system = System.from_ase(bulk("Si"))
    with pytest.raises(ValueError, match="one cutoff"):
        Pairs.cat([find_pairs(system, 3.0), find_pairs(system, 4.0)])
