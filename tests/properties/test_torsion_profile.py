"""Torsions: geometry, and relaxed profiles of a potential with a known torsion."""

import numpy as np
import pytest
import torch
from ase.build import molecule

from rikiba.core.results import Results
from rikiba.core.system import System
from rikiba.properties.torsion_profile import (
    TorsionProfile,
    dihedral_angle,
    dihedral_angles,
    find_dihedral,
    rotated,
    rotating_side,
)


class Springs:
    """Harmonic bonds and 1–3 distances of one molecule plus V(1 − cos nφ)/2 on one dihedral."""

    def __init__(self, atoms, chain, barrier: float, fold: int) -> None:
        self.chain, self.barrier, self.fold = chain, barrier, fold
        d = atoms.get_all_distances()
        self.i, self.j = np.nonzero(np.triu(d < 2.3, 1))
        # 1–4 distances change with the torsion and must stay free
        self.r0 = torch.from_numpy(d[self.i, self.j])

    def __call__(self, system: System, *, forces: bool = True, stress: bool = False) -> Results:
        with torch.enable_grad():
            x = system.positions.detach().requires_grad_()
            x_parts = x.reshape(system.n_systems, -1, 3)
            r = (x_parts[:, self.j] - x_parts[:, self.i]).norm(dim=-1)
            phi = dihedral_angles(x_parts, self.chain)
            energy = (10.0 * (r - self.r0) ** 2).sum(1) + 0.5 * self.barrier * (
                1.0 - torch.cos(self.fold * phi)
            )
            (g,) = torch.autograd.grad(energy.sum(), x)
        return Results(energy=energy.detach(), forces=-g)


def test_angles_and_rotation() -> None:
    atoms = molecule("H2O2")
    chain = find_dihedral(atoms)
    assert atoms.symbols[list(chain)].get_chemical_formula(mode="reduce") == "HO2H"
    side = rotating_side(atoms, chain)
    assert side == [chain[3]] or set(side) == {chain[2], chain[3]}
    for target in (-3.0, -1.0, 0.3, 2.0):
        turned = rotated(atoms, chain, side, target)
        assert dihedral_angle(turned.positions, chain) == pytest.approx(target, abs=1e-12)
        assert turned.get_dihedral(*chain) == pytest.approx(np.degrees(target) % 360.0, abs=1e-9)
        kept = np.abs(turned.get_all_distances() - atoms.get_all_distances())
        assert kept[:3, :3].max() < 1e-12 or len(side) == 1


def test_ethanol_prefers_the_heavy_chain_and_rings_are_refused() -> None:
    ethanol = molecule("CH3CH2OH")
    _, j, k, _ = find_dihedral(ethanol)
    assert sorted(ethanol.symbols[[j, k]]) == ["C", "O"]
    with pytest.raises(ValueError, match="ring"):
        rotating_side(molecule("C6H6"), (0, 1, 2, 3))
    with pytest.raises(ValueError, match="rotatable"):
        find_dihedral(molecule("H2O"))


@pytest.mark.parametrize("relax", [True, False])
def test_profile_of_a_planted_torsion(relax: bool) -> None:
    """The only φ-dependent term is the planted one, so profile and barrier are known."""
    atoms = molecule("H2O2")
    chain = find_dihedral(atoms)
    calculator = Springs(atoms, chain, barrier=0.2, fold=3)
    record = TorsionProfile(n_points=24, relax=relax, force_tolerance=1e-4).compute(calculator, atoms)
    phi = np.radians(record["angles_degree"])
    assert record["energies_meV"] == pytest.approx(100.0 * (1.0 - np.cos(3.0 * phi)), abs=0.3)
    assert record["barrier_meV"] == pytest.approx(200.0, abs=8.0)
    assert len(record["minima_degree"]) == 3
