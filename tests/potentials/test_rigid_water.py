"""Rigid water: NIST's reference energies, geometry, the place M, published dimers."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms

from rikiba.calculators.autograd import evaluate
from rikiba.core import units
from rikiba.core.pairs import find_pairs
from rikiba.core.system import System
from rikiba.electrostatics import ewald as summation
from rikiba.potentials.rigid_water import MODELS, RigidWater
from rikiba.potentials.topology import TopologyError


def nist(data_dir: Path, name: str, cell: Any) -> Atoms:
    """NIST's SPC/E molecules."""
    lines = (data_dir / "nist_srsw" / name).read_text().split("\n")[2:]
    places = [[float(x) for x in line.split()[1:4]] for line in lines if line.strip()]
    return Atoms("OHH" * (len(places) // 3), places, cell=cell, pbc=True)


def nist_terms(atoms: Atoms, unit: float, **settings: Any) -> dict[str, float]:
    potential = RigidWater(model="spce", cutoff=10.0, truncation="cut", tail_correction=True, **settings)
    system = System.from_ase(atoms)
    terms = potential.energy_terms(system, find_pairs(system, potential.cutoff))
    return {name: float(value.sum()) / unit for name, value in terms.items()}


def test_spce_configuration_of_nist(data_dir: Path) -> None:
    """Sample 1 (doi:10.18434/T4M88Q), every term and the total, K: to all digits published."""
    atoms = nist(data_dir, "spce_sample_config_periodic1.xyz", [20.0] * 3)
    waves = {"ewald_alpha": 0.28, "ewald_k_cutoff": 2 * math.pi / 20.0 * math.sqrt(26.5)}
    found = nist_terms(atoms, units.boltzmann, **waves)
    published = {
        "lennard_jones": 9.95387e4,
        "lennard_jones_tail": -8.23715e2,
        "coulomb_real": -5.58889e5,
        "coulomb_reciprocal": 6.27009e3,
        "coulomb_self": -2.84469e6,
        "coulomb_excluded": 2.80999e6,
    }
    assert set(found) == set(published)
    for name, value in published.items():
        assert float(f"{found[name]:.5e}") == value, name
    assert float(f"{sum(found.values()):.5e}") == pytest.approx(-4.88604e5, abs=1.1)
    other = nist_terms(atoms, units.boltzmann, **waves | {"ewald_alpha": 0.281})
    assert float(f"{other['coulomb_real']:.5e}") != published["coulomb_real"]


SKEWED = {
    "triclinic": (
        "spce_triclinic_sample_periodic1.xyz",
        (
            30.0,
            28.97777478867205,
            29.51512917398008,
            7.764571353075622,
            -2.6146722824297473,
            -4.692615336756641,
        ),
        (931.15451, -34.16569, 371.46525, -6046.43627, 95078.89447, -96297.75579),
        1e-7,
    ),
    "monoclinic": (
        "spce_monoclinic_sample_periodic4.xyz",
        (36.0, 36.0, 31.17691453623979, 0.0, 18.0, 0.0),
        (208.070258, -1.356014, 185.609550, -1425.614389, 23769.718311, -24074.443366),
        4e-6,
    ),
}
"""File, (lx, ly, lz, xy, xz, yz), energies in kJ/mol (FEASST plugin/charge/test), how exactly they agree:
those of the monoclinic cell were made with constants of fewer digits."""


@pytest.mark.parametrize("name", SKEWED)
def test_skewed_cells_of_nist(name: str, data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """α = 0.285/Å, r_c = 10 Å; waves |n_i| ≤ 7 within 2π·7 over the shortest of lx, ly, lz, as FEASST has."""
    file, (lx, ly, lz, xy, xz, yz), published, exact = SKEWED[name]
    atoms = nist(data_dir, file, [[lx, 0, 0], [xy, ly, 0], [xz, yz, lz]])
    all_waves = summation.integer_waves

    def up_to_seven(cell: torch.Tensor, k_cutoff: float) -> torch.Tensor:
        found = all_waves(cell, k_cutoff)
        return found[(found.abs() <= 7).all(1)]

    monkeypatch.setattr(summation, "integer_waves", up_to_seven)
    k_cutoff = 2 * math.pi * 7 / min(lx, ly, lz) * math.sqrt(1.0 - 1e-7)
    found = nist_terms(atoms, units.kilojoule_per_mole, ewald_alpha=0.285, ewald_k_cutoff=k_cutoff)
    names = ("lennard_jones", "lennard_jones_tail", "coulomb_reciprocal", "coulomb_real", "coulomb_excluded",
             "coulomb_self")  # fmt: skip
    for term, value in zip(names, published, strict=True):
        assert found[term] == pytest.approx(value, rel=exact, abs=1e-5), term


@pytest.mark.parametrize("model", MODELS)
def test_geometry(model: Any) -> None:
    """Distances that dynamics must keep, for every molecule; the published angle and place of M."""
    potential = RigidWater(model=model, cutoff=None, electrostatics="all_pairs")
    one = potential.molecule()
    system = System.from_ase(one + one)
    pairs, lengths = potential.rigid_distances(system)
    assert pairs.tolist() == [[0, 1], [0, 2], [1, 2], [3, 4], [3, 5], [4, 5]]
    r = (system.positions[pairs[:, 1]] - system.positions[pairs[:, 0]]).norm(dim=1)
    torch.testing.assert_close(r, lengths, rtol=1e-14, atol=0)
    assert one.get_angle(1, 0, 2) == pytest.approx(potential.model.angle_deg, abs=1e-10)
    charges = potential.non_bonded.charges
    assert float(charges.sum()) == pytest.approx(0.0, abs=1e-14)
    if potential.model.site_distance:
        moved = potential.non_bonded.displacements(potential.place(System.from_ase(one)))
        expected = potential.model.site_distance * torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64)
        torch.testing.assert_close(moved[0], expected, rtol=1e-14, atol=1e-15)
        assert float(moved[1:].abs().max()) == 0.0


def test_parameters_from_the_coefficients_of_the_paper() -> None:
    """A and C of TIP3P and TIP4P, A and B of SPC give the σ (Å) and ε (kcal/mol, kJ/mol) that are quoted."""
    for name, sigma, epsilon in (("tip3p", 3.1506, 0.1521), ("tip4p", 3.1536, 0.1550)):
        m = MODELS[name]  # type: ignore[index]
        assert m.sigma == pytest.approx(sigma, abs=6e-5)
        assert m.epsilon_eV / units.kilocalorie_per_mole == pytest.approx(epsilon, abs=6e-5)
    # NIST's SPC/E: σ = 3.16555789 Å, ε/k_B = 78.19743111 K
    assert MODELS["spce"].sigma == pytest.approx(3.16555789, abs=5e-9)
    assert MODELS["spce"].epsilon_eV / units.boltzmann == pytest.approx(78.19743111, rel=1e-7)
    assert MODELS["spc"].hydrogen_charge_e < MODELS["spce"].hydrogen_charge_e


def test_forces_on_m_reach_the_atoms() -> None:
    """Net force and torque of a cluster vanish; with M's force left on oxygen alone the torque would not."""
    potential = RigidWater(model="tip4p_2005", cutoff=None, electrostatics="all_pairs")
    atoms = potential.trial_structures()[1]
    system = System.from_ase(atoms)
    pairs = find_pairs(system, potential.cutoff)
    forces = evaluate(potential, system, pairs).need("forces").numpy()
    torque = np.cross(atoms.positions, forces).sum(0)
    assert np.abs(forces.sum(0)).max() < 1e-12 and np.abs(torque).max() < 1e-12
    shift = potential.non_bonded.displacements(potential.place(system))
    sites = (system.positions + shift).detach().requires_grad_()
    q = potential.non_bonded.charges.repeat(3)
    i, j = torch.tensor([(a, b) for a in range(9) for b in range(9) if a // 3 != b // 3]).T
    coulomb = 0.5 * (q[i] * q[j] / (sites[i] - sites[j]).norm(dim=1)).sum()
    (slope,) = torch.autograd.grad(coulomb, sites)
    assert np.abs(np.cross(atoms.positions, -slope.numpy()).sum(0)).max() > 1e-4


def test_what_is_refused() -> None:
    with pytest.raises(ValueError, match="tip5p"):
        RigidWater(model="tip5p")  # type: ignore[arg-type]
    potential = RigidWater(model="tip4p", cutoff=5.0)
    stretched = potential.molecule()
    stretched.set_cell([12.0] * 3)
    stretched.pbc = True
    stretched.positions[1] *= 3.0
    system = System.from_ase(stretched)
    with pytest.raises(TopologyError, match="not in its geometry"):
        potential(system, find_pairs(system, potential.cutoff))
    wrong = System.from_ase(stretched[[1, 0, 2]])
    with pytest.raises(TopologyError, match="topology has O"):
        potential(wrong, find_pairs(wrong, potential.cutoff))
