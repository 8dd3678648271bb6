"""Particle-mesh Ewald against Ewald's sum, lattice constants, NIST's water, and its own derivatives."""

import math
import time
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from charged_structures import LATTICES, random_gas, random_salt, water
from torch import Tensor

from rikiba.core import units
from rikiba.core.pairs import find_pairs
from rikiba.core.system import System
from rikiba.electrostatics.ewald import Ewald
from rikiba.electrostatics.exclusions import exclusion_energies
from rikiba.electrostatics.pme import ParticleMeshEwald
from rikiba.electrostatics.splitting import ChargedCellWarning, EwaldSplitting
from rikiba.kernels.dispatch import only_reference

Case = tuple[System, Tensor]


def case(atoms: Atoms, charges: Any) -> Case:
    return System.from_ase(atoms), torch.as_tensor(np.array(charges), dtype=torch.float64)


def total(method: EwaldSplitting, given: Case) -> float:
    system, q = given
    return float(method(system, find_pairs(system, method.cutoff), q).total().sum())


def forces(method: EwaldSplitting, given: Case, *, near: bool = False) -> Tensor:
    """Of the reciprocal sum, or of everything."""
    system, q = given
    r = system.positions.clone().requires_grad_()
    moving = system.replace(positions=r)
    if near:
        energy = method(moving, find_pairs(system, method.cutoff), q).total().sum()
    else:
        energy = method.reciprocal(moving, q).sum()
    return -torch.autograd.grad(energy, r)[0]


def rms(f: Tensor) -> float:
    return float((f * f).sum(1).mean().sqrt())


@pytest.mark.parametrize("name", LATTICES)
def test_madelung_constants(name: str) -> None:
    atoms, charges, constant, distance = LATTICES[name]
    tight = ParticleMeshEwald(cutoff=8.0, tolerance=1e-11, order=8)
    wanted = -units.coulomb_constant * constant / distance
    assert total(tight, case(atoms, charges)) == pytest.approx(wanted, rel=1e-9)
    assert total(replace(tight, spacing=0.5, order=4), case(atoms, charges)) != pytest.approx(
        wanted, rel=1e-7
    )


@cache
def exact(alpha: float) -> tuple[Case, Tensor]:
    """A triclinic gas and its reciprocal forces to rounding."""
    given = case(*random_gas(40, 0, skew=1.0))
    return given, forces(Ewald(alpha=alpha, k_cutoff=11.0 * alpha), given)


@pytest.mark.parametrize("order", [4, 5, 6, 8])
def test_forces_converge_with_order_and_mesh(order: int) -> None:
    """The error falls with h^(p − 1): one power is lost by differentiating the splines."""
    given, wanted = exact(0.5)
    errors = []
    for points in (14, 28):
        method = ParticleMeshEwald(alpha=0.5, order=order, mesh=(points,) * 3)
        errors.append(rms(forces(method, given) - wanted))
    slope = math.log2(errors[0] / errors[1])
    assert order - 1.3 < slope < order + 1.2
    better = rms(
        forces(ParticleMeshEwald(alpha=0.5, order=min(order + 2, 8), mesh=(28,) * 3), given) - wanted
    )
    assert better < 0.2 * errors[1] or order == 8


def test_the_error_stated_is_the_error_found() -> None:
    """Of the pairs and of the mesh, within a factor of two for charges without order."""
    for seed, skew in ((1, 0.0), (2, 1.0)):
        given = case(*random_gas(200, seed, skew))
        for order, spacing in ((4, 0.7), (6, 1.0)):
            method = ParticleMeshEwald(cutoff=6.0, alpha=0.4, order=order, spacing=spacing)
            near, mesh = (float(x) for x in method.force_error(*given))
            found = rms(forces(method, given) - forces(Ewald(alpha=0.4, k_cutoff=4.4), given))
            assert 0.5 < found / mesh < 2.0
        wide = replace(method, cutoff=11.0)
        f = [forces(m, given, near=True) for m in (method, wide)]
        assert 0.5 < rms(f[0] - f[1]) / near < 2.0


def salt() -> Case:
    atoms = bulk("NaCl", "rocksalt", a=5.64, cubic=True) * (2, 2, 2)
    atoms.rattle(0.2, seed=1)
    return case(atoms, np.where(atoms.numbers == 11, 1.0, -1.0))


def test_default_and_tight_accuracy() -> None:
    for given in (salt(), case(*random_gas(60, 3))):
        wanted = forces(Ewald(cutoff=9.0, tolerance=1e-13), given, near=True)
        assert rms(forces(ParticleMeshEwald(), given, near=True) - wanted) < 1e-4 * rms(wanted)
        tight = ParticleMeshEwald(tolerance=3e-10, order=8)
        assert rms(forces(tight, given, near=True) - wanted) < 1e-8 * rms(wanted)
        loose = ParticleMeshEwald(tolerance=1e-3)
        assert rms(forces(loose, given, near=True) - wanted) > 1e-4 * rms(wanted)


def test_nothing_depends_on_the_splitting_the_origin_or_the_cell_chosen() -> None:
    atoms, charges = random_salt(7)
    one = ParticleMeshEwald(cutoff=7.0, tolerance=1e-10, order=8)
    other = replace(one, cutoff=9.0)
    system, q = case(atoms, charges)
    terms = [m(system, find_pairs(system, m.cutoff), q) for m in (one, other)]
    torch.testing.assert_close(terms[0].total(), terms[1].total(), rtol=0, atol=1e-7)
    assert not torch.allclose(terms[0].real, terms[1].real, atol=1e-5)
    moved, same = atoms.copy(), atoms.copy()
    moved.positions += [0.7, -9.0, 3.0]
    same.set_cell(np.array([[1, 0, 0], [1, 1, 0], [0, -1, 1]]) @ atoms.cell.array)
    for changed in (moved, same):
        assert total(one, case(changed, charges)) == pytest.approx(float(terms[0].total().sum()), abs=1e-7)


NIST = {
    "triclinic": (
        "spce_triclinic_sample_periodic1.xyz",
        [
            [30, 0, 0],
            [7.764571353075622, 28.97777478867205, 0],
            [-2.6146722824297473, -4.692615336756641, 29.51512917398008],
        ],
        {"real": -6046.43627, "fourier": 371.46525, "self": -96297.75579, "intra": 95078.89447},
    ),
    "monoclinic": (
        "spce_monoclinic_sample_periodic4.xyz",
        [[36, 0, 0], [0, 36, 0], [18.0, 0, 31.17691453623979]],
        {"real": -1425.614389, "fourier": 185.609550, "self": -24074.443366, "intra": 23769.718311},
    ),
}  # fmt: skip
"""SPC/E in skewed cells, kJ/mol (NIST, doi:10.18434/T4M88Q), α = 0.285/Å: file, cell, terms.

The sum is over seven waves each way, those with k < 2π · 7/(least of l_x, l_y, l_z).
"""


@pytest.mark.parametrize("sample", NIST)
def test_water_of_nist_in_a_skewed_cell(sample: str, data_dir: Path) -> None:
    name, cell, wanted = NIST[sample]
    alpha = 0.285
    atoms, charges, inside = water(data_dir, name, cell)
    given = case(atoms, charges)
    system, q = given
    method = ParticleMeshEwald(cutoff=10.0, alpha=alpha, spacing=0.8, order=8)
    first, second = torch.tensor(inside).T
    pairs = find_pairs(system, 10.0)
    apart = pairs.i // 3 != pairs.j // 3
    near = replace(pairs, i=pairs.i[apart], j=pairs.j[apart], shift=pairs.shift[apart])
    terms = method(system, near, q)
    kj = 1.0 / units.kilojoule_per_mole
    found = {
        "real": float(terms.real.sum()) * kj,
        "self": float(terms.self_interaction.sum()) * kj,
        "fourier": float(terms.reciprocal.sum()) * kj,
    }
    assert found["real"] == pytest.approx(wanted["real"], rel=2e-6)
    assert found["self"] == pytest.approx(wanted["self"], rel=2e-6)
    ended = 2.0 * math.pi * 7.0 / float(np.diag(cell).min()) - 1e-9
    k, weight = Ewald(alpha=alpha, k_cutoff=ended).waves(system.cell[0])
    seven = ((k @ system.cell[0].T / (2.0 * math.pi)).round().abs() <= 7).all(1)
    phase = system.positions @ k[seven].T
    square = (q @ torch.cos(phase)) ** 2 + (q @ torch.sin(phase)) ** 2
    theirs = 0.5 * float(weight[seven] @ square) * kj
    full = float(Ewald(alpha=alpha, k_cutoff=2.6).reciprocal(system, q).sum()) * kj
    assert theirs == pytest.approx(wanted["fourier"], rel=1e-6)
    assert found["fourier"] == pytest.approx(full, rel=1e-6)
    assert full != pytest.approx(theirs, rel=1e-3)  # what they leave out
    # all pairs summed, then molecules' own taken out: the same energy
    whole = method(system, pairs, q).total().sum() + exclusion_energies(system, first, second, q).sum()
    summed = found["real"] + found["self"] + found["fourier"] + wanted["intra"]
    assert float(whole) * kj == pytest.approx(summed, abs=1e-4 * abs(summed))


@pytest.mark.parametrize("options", [{}, {"dielectric": 1.0}, {"slab_axis": 1}], ids=str)
def test_derivatives_of_first_and_second_order(options: dict[str, Any]) -> None:
    """Positions, charges and cell; the wrong sign of the strain derivative is told apart."""
    atoms, charges = random_salt(4)
    system, q = case(atoms, charges)
    method = ParticleMeshEwald(cutoff=4.0, alpha=0.6, order=6, mesh=(8, 8, 10), allow_charged=True, **options)
    pairs = find_pairs(system, 4.0)

    def energy(r: Tensor, charge: Tensor, cell: Tensor) -> Tensor:
        moved = system.replace(positions=r, cell=cell)
        return method.reciprocal(moved, charge) + method.boundary(moved, charge)

    inputs = [x.clone().requires_grad_() for x in (system.positions, q, system.cell)]
    assert torch.autograd.gradcheck(energy, inputs, fast_mode=True)
    assert torch.autograd.gradgradcheck(energy, inputs, fast_mode=True, atol=1e-4)
    with only_reference():
        plain = torch.autograd.grad(energy(*inputs).sum(), inputs)
    for a, b in zip(plain, torch.autograd.grad(energy(*inputs).sum(), inputs), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-11)
    # the charges' gradient is the potential: E is a quadratic form
    with pytest.warns(ChargedCellWarning) if abs(sum(charges)) > 1e-6 else _nothing():
        each = method(system, pairs, inputs[1]).total()
    (potential,) = torch.autograd.grad(each.sum(), inputs[1])
    torch.testing.assert_close(0.5 * inputs[1] * potential, each, rtol=0, atol=1e-10)


def _nothing() -> Any:
    from contextlib import nullcontext

    return nullcontext()


def test_stress_is_the_derivative_by_strain() -> None:
    given = salt()
    system, q = given
    method = ParticleMeshEwald(cutoff=5.5, tolerance=1e-9, order=8, mesh=(48, 48, 48))
    g = torch.Generator().manual_seed(0)
    direction = torch.randn(3, 3, generator=g, dtype=torch.float64)
    direction = 0.5 * (direction + direction.T)

    def strained(size: Tensor) -> Tensor:
        f = torch.eye(3, dtype=torch.float64) + size * direction
        changed = system.replace(positions=system.positions @ f, cell=system.cell @ f)
        return method(changed, pairs, q).total().sum()

    pairs = find_pairs(system, 5.5)
    zero = torch.zeros((), dtype=torch.float64, requires_grad=True)
    energy = strained(zero)
    (slope,) = torch.autograd.grad(energy, zero)
    h = torch.tensor(1e-4, dtype=torch.float64)
    numeric = float(strained(h) - strained(-h)) / 2e-4
    assert float(slope) == pytest.approx(numeric, rel=1e-6)
    assert float(slope) != pytest.approx(-numeric, rel=1e-1)
    direction = torch.eye(3, dtype=torch.float64)
    zero = torch.zeros((), dtype=torch.float64, requires_grad=True)
    (trace,) = torch.autograd.grad(strained(zero), zero)
    # E ∝ 1/length; pairs that end at the cutoff keep it to the tolerance
    assert float(trace) == pytest.approx(-float(energy.detach()), rel=1e-6)


def test_momentum_is_kept_to_the_error_or_exactly() -> None:
    given = case(*random_gas(60, 5))
    wanted = forces(Ewald(alpha=0.4, k_cutoff=4.4), given)
    method = ParticleMeshEwald(cutoff=6.0, alpha=0.4, spacing=1.0)
    found = forces(method, given)
    error = rms(found - wanted)
    net = float(found.sum(0).norm())
    assert 1e-3 * error < net < 5.0 * math.sqrt(60) * error
    even = forces(replace(method, remove_net_force=True), given)
    assert float(even.sum(0).norm()) < 1e-11
    torch.testing.assert_close(even, found - found.mean(0), rtol=0, atol=1e-12)


def test_the_surface_term_is_the_energy_of_the_dipole() -> None:
    atoms, charges = random_salt(5)
    conductor = ParticleMeshEwald(cutoff=6.0)
    vacuum = total(replace(conductor, dielectric=1.0), case(atoms, charges))
    moment = np.array(charges) @ atoms.positions
    expected = units.coulomb_constant * 2 * np.pi * moment @ moment / (3 * atoms.get_volume())
    assert vacuum - total(conductor, case(atoms, charges)) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("net", [0.0, 0.5])
def test_a_slab_does_not_feel_how_much_vacuum_there_is(net: float) -> None:
    """Two polar layers, neutral and charged; the bare sum feels it."""

    def energy(length: float, method: EwaldSplitting) -> float:
        atoms = Atoms(
            "NaClNaCl", [[0, 0, 5], [2.6, 2.5, 5.6], [0.1, 2.4, 7.9], [2.5, 0, 9]], cell=[5.2, 5.0, length],
            pbc=[True, True, not isinstance(method, Ewald)],
        )  # fmt: skip
        return total(method, case(atoms, [1.0, -1.0 + net, 1.0, -1.0]))

    ewald = Ewald(cutoff=6.0, tolerance=1e-11, slab_axis=2, allow_charged=True)
    mesh = ParticleMeshEwald(cutoff=6.0, tolerance=1e-9, order=8, slab_axis=2, allow_charged=True)
    with pytest.warns(ChargedCellWarning) if net else _nothing():
        values = [energy(length, ewald) for length in (24.0, 37.0)]
        assert values[1] == pytest.approx(values[0], abs=1e-7)
        assert energy(31.0, mesh) == pytest.approx(values[0], abs=1e-5)
        bare = replace(mesh, slab_axis=None)
        assert abs(energy(24.0, bare) - energy(37.0, bare)) > 0.05


def test_a_slabs_term_of_nist_water(data_dir: Path) -> None:
    """2π k_e M_x²/V of SPC/E sample 1, kJ/mol, as FEASST (doi:10.18434/M3S095) has it in its tests."""
    atoms, charges, _ = water(data_dir, "spce_sample_config_periodic1.xyz", [20.0] * 3)
    system, q = case(atoms, charges)
    term = ParticleMeshEwald(slab_axis=0).boundary(system, q).sum()
    assert float(term) / units.kilojoule_per_mole == pytest.approx(0.7621099816966812, rel=2e-7)


def test_a_plain_cutoff_is_wrong() -> None:
    """Rock salt summed to a radius: errors of eV per ion that do not fall as the radius grows."""
    atoms = bulk("NaCl", "rocksalt", a=5.64)
    system, q = case(atoms, [1.0, -1.0])
    exact_energy = -units.coulomb_constant * 1.747564594633182 / 2.82
    errors = []
    for cutoff in np.linspace(10.0, 30.0, 21):
        pairs = find_pairs(system, float(cutoff))
        r = pairs.vectors(system).norm(dim=-1)
        cut = 0.5 * units.coulomb_constant * (q[pairs.i] * q[pairs.j] / r).sum()
        errors.append(abs(float(cut) - exact_energy))
    assert np.mean(errors[-10:]) > 2.0 and np.mean(errors[-10:]) > 0.5 * np.mean(errors[:10])
    assert abs(total(ParticleMeshEwald(), (system, q)) - exact_energy) < 1e-3


def test_a_batch_is_its_systems_and_meshes_follow_cells() -> None:
    cases = [random_salt(k) for k in range(3)]
    method = ParticleMeshEwald(cutoff=6.0)
    system, q = case([a for a, _ in cases], np.concatenate([c for _, c in cases]))  # type: ignore[arg-type]
    together = method(system, find_pairs(system, 6.0), q).total()
    for k, (atoms, charges) in enumerate(cases):
        alone = total(method, case(atoms, charges))
        assert float(together[system.atom_rows(k)].sum()) == pytest.approx(alone, abs=1e-10)
    loose = ParticleMeshEwald(tolerance=1e-2)
    assert loose.mesh_spacing == 1.0 and ParticleMeshEwald(tolerance=1e-7).mesh_spacing < 0.5
    shape = loose.shape(torch.diag(torch.tensor([7.0, 20.5, 33.0])).double())
    assert shape == (8, 24, 36) and ParticleMeshEwald(mesh=(9, 8, 7)).shape(torch.eye(3)) == (9, 8, 7)
    empty = System.from_ase([])
    assert method.reciprocal(empty, torch.zeros(0).double()).shape == (0,)


def test_what_is_refused() -> None:
    for wrong in ({"order": 3}, {"order": 9}, {"mesh": (4, 8, 8)}, {"spacing": 0.0}, {"slab_axis": 3}):
        with pytest.raises(ValueError, match="given"):
            ParticleMeshEwald(**wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="surrounds"):
        ParticleMeshEwald(slab_axis=0, dielectric=1.0)
    charged = case(bulk("H", "sc", a=3.0), [1.0])
    with pytest.raises(ValueError, match="allow_charged"):
        total(ParticleMeshEwald(), charged)
    with pytest.warns(ChargedCellWarning, match="background"):
        found = total(ParticleMeshEwald(cutoff=8.0, tolerance=1e-10, order=8, allow_charged=True), charged)
    assert found == pytest.approx(-1.4186487397403 * units.coulomb_constant / 3.0, rel=1e-8)
    with pytest.raises(ValueError, match="depends on the origin"):
        total(ParticleMeshEwald(allow_charged=True, dielectric=1.0), charged)
    slab = Atoms("NaCl", [[0, 0, 0], [0, 0, 2.5]], cell=[5, 5, 9], pbc=[True, True, False])
    with pytest.raises(ValueError, match="vacuum"):
        total(ParticleMeshEwald(cutoff=8.0, slab_axis=2), case(slab, [1.0, -1.0]))
    with pytest.raises(ValueError, match="three axes"):
        total(ParticleMeshEwald(cutoff=8.0), case(slab, [1.0, -1.0]))
    with pytest.raises(ValueError, match="named by slab_axis"):
        total(ParticleMeshEwald(cutoff=8.0, slab_axis=1), case(slab, [1.0, -1.0]))


def test_excluded_pairs() -> None:
    """Taken out of a sum in full or in part, across the boundary of the cell too."""
    wide = Atoms("NaCl", [[0.2, 0, 0], [11.6, 0, 0.3]], cell=[12, 13, 14], pbc=True)
    system, q = case(wide, [1.0, -0.5])
    pair = torch.tensor([0]), torch.tensor([1])
    r = math.sqrt(0.6**2 + 0.3**2)
    found = exclusion_energies(system, *pair, q)
    torch.testing.assert_close(found, torch.full((2,), 0.25 * units.coulomb_constant / r).double())
    kept = exclusion_energies(system, *pair, q, torch.tensor([0.75]).double())
    torch.testing.assert_close(kept, 0.25 * found)
    molecule = system.replace(pbc=torch.zeros(1, 3).bool())
    far = float(exclusion_energies(molecule, *pair, q).sum())
    assert far == pytest.approx(0.5 * units.coulomb_constant / math.hypot(11.4, 0.3))
    with pytest.raises(ValueError, match="half the cell"):
        exclusion_energies(
            system.replace(positions=torch.tensor([[0.0, 0, 0], [5.9, 6, 0]]).double()), *pair, q
        )
    with pytest.raises(ValueError, match="two different atoms"):
        exclusion_energies(system, pair[0], pair[0], q)


@pytest.mark.slow
def test_time_grows_as_n_log_n() -> None:
    """Eight times the charges in less than sixteen times the processor's time (Ewald's sum: 23 at best)."""

    def seconds(n: int) -> float:
        given = case(*random_gas(n, 0))
        method = ParticleMeshEwald(tolerance=1e-4)
        forces(method, given)
        found = []
        for _ in range(3):
            start = time.process_time()
            forces(method, given)
            found.append(time.process_time() - start)
        return min(found)

    assert seconds(32_000) < 16.0 * seconds(4_000)
