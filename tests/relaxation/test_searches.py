"""Searches for minima against known ones; resumed searches equal uninterrupted ones."""

from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.cluster import Icosahedron

from rikiba.calculators.autograd import PotentialCalculator
from rikiba.core import units
from rikiba.core.results import Results
from rikiba.core.system import System
from rikiba.data.packing import PairDistances
from rikiba.potentials.lennard_jones import LennardJones
from rikiba.potentials.stillinger_weber import StillingerWeber
from rikiba.relaxation.lbfgs import Lbfgs
from rikiba.relaxation.random_structures import random_crystal
from rikiba.relaxation.ranking import Minima
from rikiba.relaxation.searches.basin_hopping import BasinHopping
from rikiba.relaxation.searches.random_search import RandomSearch

LJ13, LJ38, LJ55 = -44.326801419534, -173.928426590629, -279.248470463021
"""Global minima, ε (Wales & Doye, doi:10.1021/jp970984n; Cambridge Cluster Database)."""


def lennard_jones() -> PotentialCalculator:
    """In units of ε = 1 eV and σ = 1 Å; no pair is beyond the cutoff, none searched for twice."""
    potential = LennardJones(epsilon_eV={"Ar": 1.0}, sigma={"Ar": 1.0}, cutoff=50.0, truncation="cut")
    return PotentialCalculator(potential, skin=10.0)


def hopping(
    n: int, *, hops: int, walkers: int, seed: int, scatter: float | None, stop: float | None = None
) -> BasinHopping:
    return BasinHopping(
        temperature_K=0.8 / units.boltzmann,
        hops=hops,
        walkers=walkers,
        displacement=0.4,
        scatter=scatter,
        container=2.5 * n ** (1 / 3),
        stop_below_eV=stop,
        minimiser=Lbfgs(fmax_eV_per_A=1e-3, max_steps=400, first_curvature=100.0),
        seed=seed,
    )


def point(n: int) -> System:
    return System.from_ase(Atoms(f"Ar{n}", positions=np.zeros((n, 3))))


def test_thirteen_atoms_from_random_places() -> None:
    """The icosahedron, and below it nothing; hops find it where relaxing the random places does not."""
    minima = hopping(13, hops=5, walkers=4, seed=20, scatter=1.8).search(lennard_jones(), point(13))
    assert minima[0].energy == pytest.approx(LJ13, abs=2e-6)
    assert minima.trials == 4 * 6 and len(minima) > 5
    trials = [t for t, _ in minima.best]
    assert trials[-1] > 4 and all(13 * e > LJ13 + 2.8 for _, e in minima.best[:-1])  # found by a hop
    energies = [m.energy for m in minima.found]
    assert energies == sorted(energies) and minima[1].energy > LJ13 + 2.8  # the gap to the second lowest
    (atoms, *_) = minima.to_ase()
    distance = np.linalg.norm(atoms.positions - atoms.positions.mean(0), axis=1)
    assert np.sort(distance)[0] < 0.01 and np.ptp(np.sort(distance)[1:]) < 0.01  # one inside, twelve around
    record = minima.record()
    assert record["lowest_energy_eV"] == minima[0].energy and record.tables[0].rows[0][0] == 1
    early = hopping(13, hops=5, walkers=4, seed=20, scatter=1.8, stop=LJ13 + 1.0)
    assert early.search(lennard_jones(), point(13)).trials == 4 * (1 + -(-(trials[-1] - 4) // 4))


@pytest.mark.slow
def test_fifty_five_atoms() -> None:
    """The Mackay icosahedron from random places."""
    minima = hopping(55, hops=400, walkers=8, seed=0, scatter=2.7, stop=LJ55 + 1e-3).search(
        lennard_jones(), point(55)
    )
    assert minima[0].energy == pytest.approx(LJ55, abs=1e-4)


@pytest.mark.slow
def test_thirty_eight_atoms() -> None:
    """The truncated octahedron, whose funnel is narrow."""
    minima = hopping(38, hops=1500, walkers=16, seed=0, scatter=2.4, stop=LJ38 + 1e-3).search(
        lennard_jones(), point(38)
    )
    assert minima[0].energy == pytest.approx(LJ38, abs=1e-4)


def test_known_clusters_are_minima_here() -> None:
    """LJ55 from its own structure, as a check of the reference and the calculator; LJ13 likewise."""
    for shells, energy in ((2, LJ13), (3, LJ55)):
        atoms = Icosahedron("Ar", shells, latticeconstant=1.55)
        end = Lbfgs(fmax_eV_per_A=1e-4, first_curvature=100.0).relax(
            lennard_jones(), System.from_ase(Atoms(atoms.symbols, positions=atoms.positions))
        )
        assert float(end.energy) == pytest.approx(energy, abs=1e-6)


def small(folder: Path, hops: int, seed: int = 2, resume: bool = False) -> Minima:
    search = hopping(7, hops=hops, walkers=2, seed=seed, scatter=1.5)
    return search.search(lennard_jones(), point(7), file=folder / "search.json", resume=resume)


def test_a_resumed_walk_equals_an_uninterrupted_one(tmp_path: Path) -> None:
    whole = small(tmp_path / "a", 8)
    small(tmp_path / "b", 3)
    again = small(tmp_path / "b", 8, resume=True)
    assert (tmp_path / "a/search.json").read_text() == (tmp_path / "b/search.json").read_text()
    assert again.to_plain() == whole.to_plain() and whole.trials == 18
    with pytest.raises(ValueError, match=r"other settings \(seed\)"):
        small(tmp_path / "b", 8, seed=3, resume=True)
    with pytest.raises(ValueError, match="no file"):
        small(tmp_path / "c", 8, resume=True)
    (tmp_path / "b/search.json").write_text("{}")
    with pytest.raises(ValueError, match="damaged"):
        small(tmp_path / "b", 8, resume=True)


class DoubleWell:
    """One coordinate with minima at x = 0 and x = 1, the second lower by 0.1 eV."""

    def __call__(self, system: System, *, forces: bool = True, stress: bool = False) -> Results:
        x = system.positions[:, 0]
        other = (system.positions[:, 1:] ** 2).sum(-1)
        phase = 2 * np.pi * x
        energy = 0.2 * (1 - torch.cos(phase)) - 0.1 * (torch.round(x) % 2) + 0.5 * other
        slope = 0.4 * np.pi * torch.sin(phase)
        force = -torch.cat([slope[:, None], system.positions[:, 1:]], 1)
        return Results(energy=energy, forces=force)


@pytest.mark.parametrize(("kt", "low", "high"), [(1e-3, 0.99, 1.0), (0.1, 0.65, 0.80)])
def test_walkers_accept_as_metropolis_does(kt: float, low: float, high: float) -> None:
    """Between equal basins of depths 0 and 0.1 eV the lower is visited with 1/(1 + exp(−0.1/kT))."""
    search = BasinHopping(
        temperature_K=kt / units.boltzmann, hops=60, walkers=70, displacement=1.2, seed=5,
        minimiser=Lbfgs(fmax_eV_per_A=0.01, first_curvature=8.0, max_move=0.2), keep=5,
        distance_tolerance=1.0,
    )  # fmt: skip
    walk = search._first(DoubleWell(), System.cat([point(1)] * 70))
    seen = []
    for _ in range(25):
        walk = search._hopped(DoubleWell(), walk)
        seen.append(float((walk.system.positions[:, 0].round() % 2).mean()))
    assert low <= np.mean(seen[10:]) <= high


def silicon() -> PotentialCalculator:
    return PotentialCalculator(StillingerWeber())


def test_diamond_silicon_is_found_among_random_crystals() -> None:
    """SW silicon: −4.3366 eV/atom and a = 5.43095 Å, from random cells of two atoms; others lie higher."""
    search = RandomSearch(
        formula="Si2", volume_per_atom=(14.0, 26.0), structures=12, batch=12, min_distance=1.8, seed=0
    )
    minima = search.search(silicon())
    best = minima[0]
    assert best.energy / 2 == pytest.approx(-4.3366, abs=2e-4) and len(minima) >= 3
    assert (4.0 * float(best.system.volume)) ** (1 / 3) == pytest.approx(5.43095, abs=0.01)
    assert minima[1].energy / 2 > -4.30  # the next is another crystal, not diamond again
    with pytest.raises(ValueError, match="makes its own"):
        search.search(silicon(), best.system)


def test_a_resumed_search_equals_an_uninterrupted_one(tmp_path: Path) -> None:
    def run(folder: str, structures: int, resume: bool = False) -> Minima:
        search = RandomSearch(
            formula="Si2", volume_per_atom=(14.0, 26.0), structures=structures, batch=3, min_distance=1.8
        )
        return search.search(silicon(), file=tmp_path / folder / "s.json", resume=resume)

    whole = run("a", 6)
    run("b", 3)
    assert run("b", 6, resume=True).to_plain() == whole.to_plain()
    assert (tmp_path / "a/s.json").read_text() == (tmp_path / "b/s.json").read_text()


GROUPS = [
    (1, 4),
    (2, 4),
    (14, 4),
    (62, 8),
    (63, 4),
    (141, 4),
    (166, 3),
    (194, 4),
    (225, 1),
    (227, 2),
    (230, 8),
]


@pytest.mark.parametrize(("group", "n"), GROUPS)
def test_random_crystals_have_the_symmetry_asked_for(group: int, n: int) -> None:
    spglib = pytest.importorskip("spglib", reason="spglib is not installed: pip install spglib")
    least = PairDistances(1.8, {}, {"Si"})
    rng = np.random.default_rng([3, group])
    atoms = random_crystal({"Si": n}, 22.0 * n, least, rng, space_group=group)
    assert len(atoms) == n and atoms.get_volume() == pytest.approx(22.0 * n) and least.kept(atoms)
    cell = (atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers)
    found = spglib.get_symmetry(cell, symprec=1e-4)
    wanted = {"1": 1, "2": 2, "14": 4, "62": 8, "63": 8, "141": 16, "166": 12, "194": 24}.get(str(group), 48)
    assert len(found["rotations"]) % wanted == 0  # the point group's order divides that of what was found
    if group == 1:  # negative control: no symmetry where none was asked for
        assert len(found["rotations"]) == 1


def test_composition_and_distances_of_random_crystals() -> None:
    search = RandomSearch(
        formula="Na2Cl2", volume_per_atom=(20.0, 24.0), min_distance=2.2, min_distances={"Na-Cl": 2.0},
        space_groups=(1, 2, 166, 225), structures=1,
    )  # fmt: skip
    for k in range(5):
        atoms = search.generate(k)
        assert atoms.symbols.formula.count() == {"Na": 2, "Cl": 2}
        assert 80.0 <= atoms.get_volume() <= 96.0 and search.least.kept(atoms)
        assert np.array_equal(atoms.positions, search.generate(k).positions)
    assert not np.allclose(search.generate(0).cell.array, search.generate(1).cell.array)
    odd = RandomSearch(formula="Si", volume_per_atom=(20.0, 20.0), min_distance=1.8, space_groups=(227, 225))
    assert {odd.generate(k).info["space_group"] for k in range(4)} == {225}  # 227 has no single site


def test_minima_tell_structures_apart() -> None:
    """The same crystal turned and renumbered is one; another energy or shape is another."""
    from ase.build import bulk

    diamond = bulk("Si", "diamond", a=5.43)
    turned = diamond.copy()
    turned.rotate(40, (1, 2, 3), rotate_cell=True)
    turned.positions += 0.7
    turned = turned[[1, 0]]
    stretched = diamond.copy()
    stretched.set_cell(stretched.cell * [1.05, 1.0, 1 / 1.05], scale_atoms=True)
    minima = Minima(keep=2)
    for atoms, energy in (
        (diamond, -8.0),
        (turned, -8.0004),
        (stretched, -8.0),
        (diamond, -7.5),
        (diamond, -9),
    ):
        minima = minima.with_trial(System.from_ase(atoms), energy)
    minima = minima.with_trial(System.from_ase(diamond), -20.0, converged=False)
    assert [m.energy for m in minima.found] == [-9.0, -8.0004] and minima.failed == 1 and minima.trials == 6
    assert minima[1].found == 2 and minima.best[-1] == (5, -4.5)
    assert "1 of 6 trials" in minima.record().notes[0]
    with pytest.raises(ValueError, match="None of 0 trials"):
        Minima().record()


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"temperature_K": 0.0}, "must be positive"),
        ({"temperature_K": 10.0, "hops": 0}, "at least 1"),
        ({"temperature_K": 10.0, "container": -1.0}, "container must be positive"),
    ],
)
def test_basin_hopping_says_what_it_cannot_do(keys: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BasinHopping(**keys)


def test_wrong_starts_are_said() -> None:
    search = BasinHopping(temperature_K=300.0, walkers=4)
    for system in (None, System.cat([point(3)] * 3)):
        with pytest.raises(ValueError, match="one for each of 4 walkers"):
            search.search(lennard_jones(), system)
    for keys, message in (
        ({"volume_per_atom": (5.0, 2.0)}, "range of positive"),
        ({"volume_per_atom": (5.0, 6.0), "space_groups": (0,)}, "1 to 230"),
        ({"volume_per_atom": (0.5, 0.6), "structures": 1}, "keeps the least"),
    ):
        with pytest.raises(ValueError, match=message):
            RandomSearch(formula="Si2", **keys).search(silicon())  # type: ignore[arg-type]
