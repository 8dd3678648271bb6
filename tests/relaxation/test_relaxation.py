"""Minimisers against ASE's minima, in fixed and variable cells, one system and many."""

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from ase.filters import FrechetCellFilter
from ase.optimize import LBFGS

from rikiba.calculators.ase import FromASE
from rikiba.core import units
from rikiba.core.results import Results
from rikiba.core.system import System
from rikiba.relaxation.cell import VariableCell
from rikiba.relaxation.fire import Fire
from rikiba.relaxation.lbfgs import Lbfgs
from rikiba.relaxation.minimise import NotConvergedError

METHODS = (Fire, Lbfgs)


def vacancy(seed: int = 1, strained: bool = False) -> Atoms:
    atoms = bulk("Cu", cubic=True).repeat(2)
    del atoms[0]
    atoms.rattle(0.08, seed=seed)
    if strained:
        strain = np.array([[0.03, 0.02, 0.0], [0.0, -0.02, 0.01], [0.01, 0.0, 0.04]])
        atoms.set_cell(atoms.cell @ (np.eye(3) + strain), scale_atoms=True)
    return atoms


@pytest.mark.parametrize("method", METHODS)
def test_same_minimum_as_ase(method: type) -> None:
    theirs = vacancy()
    theirs.calc = EMT()
    LBFGS(theirs, logfile=None).run(fmax=1e-4)
    ours = method(fmax_eV_per_A=1e-4, max_steps=400).relax(FromASE(EMT()), System.from_ase(vacancy()))
    assert ours.converged.all() and float(ours.fmax_eV_per_A) < 1e-4
    assert float(ours.energy) == pytest.approx(theirs.get_potential_energy(), abs=1e-6)
    assert np.abs(ours.system.positions.numpy() - theirs.positions).max() < 1e-3
    assert float(ours.energies[0]) > float(ours.energies[-1]) + 0.1  # there was something to relax


@pytest.mark.parametrize(("method", "pressure"), [(Fire, 0.0), (Lbfgs, 0.0), (Lbfgs, 5.0)])
def test_strained_crystal(method: type, pressure: float) -> None:
    theirs = vacancy(strained=True)
    theirs.calc = EMT()
    LBFGS(FrechetCellFilter(theirs, scalar_pressure=pressure * units.gigapascal), logfile=None).run(fmax=1e-4)
    ours = method(fmax_eV_per_A=1e-3, smax_GPa=2e-3, cell="full", pressure_GPa=pressure).relax(
        FromASE(EMT()), System.from_ase(vacancy(strained=True))
    )
    assert ours.converged.all()
    enthalpy = theirs.get_potential_energy() + pressure * units.gigapascal * theirs.get_volume()
    assert float(ours.energies[-1]) == pytest.approx(enthalpy, abs=1e-4)
    assert float(ours.system.volume) == pytest.approx(theirs.get_volume(), rel=1e-4)
    assert np.abs(ours.to_ase()[0].cell.cellpar() - theirs.cell.cellpar()).max() < 0.02
    trace = float(torch.diagonal(ours.results.stress[0]).mean()) / units.gigapascal
    assert trace == pytest.approx(-pressure, abs=0.003)


@pytest.mark.parametrize("method", METHODS)
def test_hydrostatic_keeps_the_shape(method: type) -> None:
    atoms = vacancy(strained=True)
    ours = method(fmax_eV_per_A=0.005, smax_GPa=0.01, cell="hydrostatic").relax(
        FromASE(EMT()), System.from_ase(atoms)
    )
    assert ours.converged.all()
    ratio = np.linalg.solve(atoms.cell.array, ours.system.cell[0].numpy())
    assert np.abs(ratio - ratio[0, 0] * np.eye(3)).max() < 1e-12 and abs(ratio[0, 0] - 1) > 1e-3


def test_lattice_constant_of_perfect_crystal() -> None:
    """EMT copper from a sheared start: cubic again, at the minimum of the energy over the constant."""
    from scipy.optimize import minimize_scalar

    def energy(a: float) -> float:
        atoms = bulk("Cu", a=a)
        atoms.calc = EMT()
        return float(atoms.get_potential_energy())

    best = minimize_scalar(energy, bounds=(3.4, 3.8), method="bounded", options={"xatol": 1e-7}).x
    start = bulk("Cu", a=3.7)
    start.set_cell(
        start.cell @ (np.eye(3) + 0.03 * np.array([[0, 1, 0], [0, 0, 1], [1, 0, 1]])), scale_atoms=True
    )
    end = Lbfgs(fmax_eV_per_A=1e-4, smax_GPa=1e-3, cell="full").relax(FromASE(EMT()), System.from_ase(start))
    par = end.to_ase()[0].cell.cellpar()
    assert par[:3] == pytest.approx(best / np.sqrt(2), abs=2e-4) and par[3:] == pytest.approx(60.0, abs=0.01)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("cell", ["fixed", "full"])
def test_batch_equals_single(method: type, cell: str) -> None:
    frames = [vacancy(1, True), bulk("Al", cubic=True), bulk("Ni", cubic=True)]
    frames[1].rattle(0.05, seed=3)
    frames[2].rattle(0.1, seed=4)
    if method is Fire and cell == "full":
        frames = frames[1:]  # time
    minimiser = method(fmax_eV_per_A=2e-3, smax_GPa=0.01, cell=cell)
    batch = minimiser.relax(FromASE(EMT()), System.from_ase(frames))
    assert batch.converged.all() and len(set(batch.n_steps.tolist())) > 1
    for k, atoms in enumerate(frames):
        one = minimiser.relax(FromASE(EMT()), System.from_ase(atoms))
        assert int(one.n_steps) == int(batch.n_steps[k])
        assert float(one.energy) == pytest.approx(float(batch.energy[k]), abs=1e-8)
        assert torch.allclose(one.system.positions, batch.system[k].positions, atol=1e-6)


@pytest.mark.parametrize("cell", ["fixed", "hydrostatic"])
def test_converged_systems_are_left_out(cell: str) -> None:
    """Later calls see fewer structures; what was left out comes back in its place, as it ended."""
    frames = [bulk("Cu", a=a, cubic=True) for a in (3.7, 3.5899, 3.5, 3.5899)]
    for atoms, far in zip(frames, (0.1, 0.0, 0.2, 0.0), strict=True):
        atoms.rattle(far, seed=5)
    emt, seen = FromASE(EMT()), []

    def counted(system: System, **what: bool) -> Results:
        seen.append(system.n_systems)
        return emt(system, **what)

    system = System.from_ase(frames)
    fixed = torch.arange(system.n_atoms) % 4 == 0
    end = Lbfgs(fmax_eV_per_A=5e-3, smax_GPa=0.1, cell=cell).relax(counted, system, fixed=fixed)
    assert end.converged.all() and seen[:2] == [4, 2] and 1 in seen
    assert end.n_steps.tolist()[1::2] == [0, 0] and min(end.n_steps.tolist()[::2]) > 1
    again = emt(end.system, stress=cell != "fixed")
    torch.testing.assert_close(end.results.forces, again.forces, rtol=0, atol=1e-12)
    torch.testing.assert_close(end.energies[-1], again.energy, rtol=0, atol=1e-12)
    assert torch.equal(end.energies[0, 1::2], end.energies[-1, 1::2])
    assert torch.equal(end.system.positions[fixed], system.positions[fixed]) == (cell == "fixed")
    for k in (0, 2):
        one = Lbfgs(fmax_eV_per_A=5e-3, smax_GPa=0.1, cell=cell).relax(
            emt, system[k], fixed=fixed[system.atom_rows(k)]
        )
        torch.testing.assert_close(end.system[k].positions, one.system.positions, rtol=0, atol=1e-9)


@pytest.mark.parametrize("method", METHODS)
def test_lennard_jones_cluster(method: type) -> None:
    """LJ13: −44.326801 ε (Wales & Doye, doi:10.1021/jp970984n), from a rattled icosahedron."""
    from ase.cluster import Icosahedron

    atoms = Icosahedron("Ar", 2, latticeconstant=1.5)
    atoms.rattle(0.05, seed=1)
    atoms.cell, atoms.pbc = None, False
    lj = FromASE(LennardJones(sigma=1.0, epsilon=1.0, rc=100.0))
    end = (
        method(fmax_eV_per_A=1e-4, max_steps=500, max_move=0.05)
        .relax(lj, System.from_ase(atoms))
        .require_converged()
    )
    assert float(end.energy) == pytest.approx(-44.326801, abs=2e-5)  # ASE shifts each pair by −4 rc⁻⁶ = 4e-12


@pytest.mark.parametrize("method", METHODS)
def test_fixed_atoms_stay(method: type) -> None:
    system = System.from_ase(vacancy())
    fixed = torch.arange(system.n_atoms) < 10
    end = method(fmax_eV_per_A=0.01).relax(FromASE(EMT()), system, fixed=fixed)
    assert end.converged.all()
    assert torch.equal(end.system.positions[fixed], system.positions[fixed])
    assert float(end.results.forces[fixed].norm(dim=1).max()) > 0.05  # they do feel forces


@pytest.mark.parametrize("method", METHODS)
def test_not_converged_is_said(method: type) -> None:
    frames = [vacancy(), bulk("Cu", cubic=True)]
    end = method(fmax_eV_per_A=1e-3, max_steps=2).relax(FromASE(EMT()), System.from_ase(frames))
    assert end.converged.tolist() == [False, True] and end.n_steps.tolist() == [2, 0]
    with pytest.raises(NotConvergedError, match=r"1 of 2 .*System 0 .*after 2 steps"):
        end.require_converged()
    record = end.record()
    assert record.verdict == "fail" and not record["converged"] and "System 0" in record.notes[0]
    assert record.from_json(record.to_json()).verdict == "fail"


def test_gradient_of_the_enthalpy() -> None:
    """∂H/∂(u, S) against central differences at a strained point; not without the exponential's part."""
    rng = np.random.default_rng(0)
    frames = [vacancy(1, True)[:12], bulk("Al", cubic=True)]
    frames[1].rattle(0.1, seed=1)
    system = System.from_ase(frames)
    calculator = FromASE(EMT())
    for mode in ("full", "hydrostatic"):
        pressure = torch.tensor([3.0, -2.0], dtype=torch.float64)
        space = VariableCell(system, torch.zeros(system.n_atoms, dtype=torch.bool), mode, pressure)
        shift = torch.from_numpy(rng.normal(size=tuple(space.start.shape)))
        shift[: system.n_atoms] *= 0.05
        x = space.start + shift

        def height(y: torch.Tensor, space: VariableCell = space) -> torch.Tensor:
            s = space.system(y)
            return space.objective(s, calculator(s))

        s = space.system(x)
        assert torch.allclose(torch.linalg.det(s.cell).abs(), s.volume)
        g = space.gradient(x, s, calculator(s, stress=True))
        h = 1e-4
        for row in (0, 5, system.n_atoms, system.n_atoms + 1, system.n_atoms + 4, len(x) - 1):
            for axis in range(3):
                d = torch.zeros_like(x)
                d[row, axis] = h
                slope = (height(x + d) - height(x - d)).sum() / (2 * h)
                assert float(g[row, axis]) == pytest.approx(float(slope), abs=2e-6)
        if mode == "full":
            naive = (
                space.system(x).volume[0]
                / space._scale[0]
                * (calculator(s, stress=True).stress[0] + pressure[0] * units.gigapascal * torch.eye(3))
            )
            assert (naive - g[system.n_atoms : system.n_atoms + 3]).abs().max() > 1e-4


def test_a_step_uphill_is_recovered_from() -> None:
    """A quasi-Newton step that overshoots (first curvature 50 times too small) does not end the search."""
    end = Lbfgs(fmax_eV_per_A=1e-3, first_curvature=0.2, max_move=1.0).relax(
        FromASE(EMT()), System.from_ase(vacancy())
    )
    assert end.converged.all()


class Saddle:
    """Not bounded from below: no minimum to find."""

    def __call__(self, system: System, *, forces: bool = True, stress: bool = False) -> Results:
        x = system.positions
        return Results(
            energy=system.total(x[:, 0] ** 2 - x[:, 1]),
            forces=torch.stack([-2 * x[:, 0], torch.ones(len(x)).double(), 0 * x[:, 2]], 1),
        )


@pytest.mark.parametrize("method", METHODS)
def test_without_a_minimum(method: type) -> None:
    end = method(max_steps=50).relax(Saddle(), System.from_ase(molecule("H2O")))
    assert not end.converged.any()


def test_bad_arguments() -> None:
    for kwargs, message in (
        ({"fmax_eV_per_A": 0.0}, "fmax"),
        ({"cell": "shape"}, "cell must be"),
        ({"pressure_GPa": 1.0}, "pressure"),
        ({"max_steps": -1}, "max_steps"),
        ({"max_move": 0.0}, "max_move"),
    ):
        for method in METHODS:
            with pytest.raises(ValueError, match=message):
                method(**kwargs)
    slab = bulk("Cu", cubic=True)
    slab.pbc = (True, True, False)
    with pytest.raises(ValueError, match="three periodic axes"):
        Fire(cell="full").relax(FromASE(EMT()), System.from_ase(slab))
