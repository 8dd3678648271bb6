"""Stress of single atoms: every partition has the same sum, and they differ."""

from typing import get_args

import pytest
import torch
from ase import Atoms
from ase.build import bulk

from rikiba.calculators.atomic_stress import Partition, atomic_stress, atomic_virials
from rikiba.calculators.autograd import PotentialCalculator
from rikiba.core.system import System
from rikiba.potentials.lennard_jones import LennardJones
from rikiba.potentials.stillinger_weber import StillingerWeber

PARTITIONS: tuple[Partition, ...] = get_args(Partition)
ARGON = LennardJones(epsilon_eV={"Ar": 0.0104}, sigma={"Ar": 3.4}, cutoff=7.0)


def shaken(atoms: Atoms, seed: int) -> Atoms:
    atoms.rattle(0.15, seed=seed)
    return atoms


CASES = {
    "argon": (ARGON, bulk("Ar", "fcc", a=5.2, cubic=True).repeat(2)),
    "silicon": (StillingerWeber(), bulk("Si", "diamond", a=5.43, cubic=True)),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("partition", PARTITIONS)
def test_every_partition_sums_to_the_stress(name: str, partition: Partition) -> None:
    potential, atoms = CASES[name]
    system = System.from_ase([shaken(atoms.copy(), k) for k in (1, 2)])
    whole = PotentialCalculator(potential)(system, stress=True).need("stress")
    each = atomic_stress(potential, system, partition=partition)
    mean = system.total(each) / system.counts[:, None, None]
    torch.testing.assert_close(mean, whole, rtol=1e-10, atol=1e-12)
    volumes = torch.rand(system.n_atoms, dtype=torch.float64) + 1.0
    given = atomic_stress(potential, system, partition=partition, volumes=volumes)
    summed = system.total(given * volumes[:, None, None]) / system.volume[:, None, None]
    torch.testing.assert_close(summed, whole, rtol=1e-10, atol=1e-12)


def test_partitions_differ_for_many_bodies_only() -> None:
    apart = {}
    for name, (potential, atoms) in CASES.items():
        system = System.from_ase(shaken(atoms.copy(), 1))
        found = [atomic_virials(potential, system, partition=p) for p in PARTITIONS]
        apart[name] = max(float((w - found[0]).abs().max()) for w in found) / float(found[0].abs().max())
    assert apart["argon"] < 1e-12 and apart["silicon"] > 0.01


def test_energy_partition_is_the_strain_derivative_of_each_energy() -> None:
    potential, atoms = CASES["silicon"]
    atoms, h = shaken(atoms.copy(), 3), 1e-5
    found = atomic_virials(potential, System.from_ase(atoms), partition="energy")

    def energies(sign: float) -> torch.Tensor:
        strained = atoms.copy()
        deformation = torch.eye(3, dtype=torch.float64)
        deformation[0, 1] += sign * h
        strained.set_cell(atoms.cell.array @ deformation.T.numpy(), scale_atoms=True)
        return PotentialCalculator(potential)(System.from_ase(strained)).need("energies")

    slope = (energies(1.0) - energies(-1.0)) / (2 * h)
    torch.testing.assert_close(found[:, 0, 1], slope, rtol=1e-6, atol=1e-7)


def test_what_makes_no_sense_is_refused() -> None:
    system = System.from_ase(CASES["argon"][1])
    with pytest.raises(ValueError, match="half"):
        atomic_virials(ARGON, system, partition="voronoi")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="positive"):
        atomic_stress(ARGON, system, volumes=torch.zeros(system.n_atoms))
    with pytest.raises(ValueError, match="give `volumes`"):
        atomic_stress(ARGON, System.from_ase(Atoms("Ar2", [[0, 0, 0], [0, 0, 4]])))
    long = LennardJones(
        epsilon_eV={"Ar": 0.01}, sigma={"Ar": 3.4}, cutoff=7.0, truncation="cut", tail_correction=True
    )
    with pytest.raises(ValueError, match="divided among atoms"):
        atomic_virials(long, system)
