"""Errors against an independent few lines of numpy."""

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule

from rikiba.calculators.autograd import PotentialCalculator
from rikiba.core import units
from rikiba.core.results import Results
from rikiba.core.system import System
from rikiba.data.dataset import Dataset, Labelled
from rikiba.potentials.lennard_jones import LennardJones
from rikiba.validation.errors import errors


def calculator() -> PotentialCalculator:
    symbols = ("H", "C", "O")
    return PotentialCalculator(
        LennardJones(
            epsilon_eV=dict.fromkeys(symbols, 0.01),
            sigma={"H": 1.0, "C": 1.3, "O": 1.2},
            cutoff=4.0,
        )
    )


def frame(atoms: Atoms, noise: np.ndarray, group: str, stress: bool = False) -> Labelled:
    """Labels are the calculator's own answers plus planted errors (energy per atom, forces, stress)."""
    system = System.from_ase(atoms)
    exact = calculator()(system, stress=stress)
    n = len(atoms)
    return Labelled(
        system=system,
        results=Results(
            energy=exact.need("energy") - torch.tensor([noise[0] * n]),
            forces=exact.need("forces") - torch.from_numpy(noise[1 : 1 + 3 * n].reshape(n, 3)),
            stress=exact.need("stress") - 0.01 * torch.eye(3, dtype=torch.float64) if stress else None,
        ),
        level_of_theory="GFN2-xTB (tblite 0.5.0)",
        group=group,
        noise={"energy": 0.009, "forces": 0.02},
    )


def planted(n: int = 40) -> tuple[Dataset, list[np.ndarray], list[Atoms]]:
    rng = np.random.default_rng(0)
    frames, noises, structures = [], [], []
    for k in range(n):
        atoms = molecule("CH3CH2OH" if k % 2 else "H2O")
        atoms.rattle(0.05, seed=k)
        noise = rng.normal(0.0, 0.1, 1 + 3 * len(atoms))
        frames.append(frame(atoms, noise, f"run {k % 5}"))
        noises.append(noise)
        structures.append(atoms)
    return Dataset(frames), noises, structures


@pytest.mark.parametrize("atoms_per_batch", [1, 30, 4096])
def test_numbers_are_those_of_an_independent_sum(atoms_per_batch: int) -> None:
    dataset, noises, structures = planted()
    record = errors(calculator(), dataset, atoms_per_batch=atoms_per_batch, title="test set")
    e = np.array([x[0] for x in noises]) * 1e3
    f = np.concatenate([x[1:] for x in noises]) * 1e3
    assert record["energy_mae_meV_per_atom"] == pytest.approx(np.abs(e).mean())
    assert record["energy_rmse_meV_per_atom"] == pytest.approx(np.sqrt((e**2).mean()))
    assert record["energy_mean_error_meV_per_atom"] == pytest.approx(e.mean())
    assert record["forces_mae_meV_per_A"] == pytest.approx(np.abs(f).mean())
    assert record["forces_rmse_meV_per_A"] == pytest.approx(np.sqrt((f**2).mean()))
    assert record["forces_percentiles_meV_per_A"][2] == pytest.approx(np.percentile(np.abs(f), 95))
    table = next(t for t in record.tables if t.title == "Errors of F")
    rows = {row[0]: row for row in table.rows}
    oxygen = np.concatenate(
        [x[1:].reshape(-1, 3)[a.numbers == 8].ravel() for x, a in zip(noises, structures, strict=True)]
    )
    assert rows["O"][2] == pytest.approx(1e3 * np.abs(oxygen).mean())
    group = np.concatenate([x[1:] for k, x in enumerate(noises) if k % 5 == 3]) * 1e3
    assert rows["run 3"][3] == pytest.approx(np.sqrt((group**2).mean()))
    assert "stress_mae_GPa" not in record.values


def test_title_and_axes_name_the_level_of_theory() -> None:
    record = errors(calculator(), planted(6)[0], title="test set")
    assert record.title == "Errors against GFN2-xTB (tblite 0.5.0), test set"
    assert record.figures[0].x_label == "GFN2-xTB (tblite 0.5.0) (eV/atom)"
    assert record.figures[1].diagonal
    assert "DFT" not in record.to_json()
    assert record["forces_label_noise_meV_per_A"] == pytest.approx(20.0)


def test_error_bar_comes_from_groups() -> None:
    rng = np.random.default_rng(1)
    frames = []
    for k in range(60):
        atoms = molecule("H2O")
        # every group has its own size of error, so groups are the independent samples
        noise = rng.normal(0.0, 0.05 * (1 + k % 6), 10)
        frames.append(frame(atoms, noise, f"run {k % 6}"))
    record = errors(calculator(), Dataset(frames))
    means = [1e3 * 0.05 * (1 + g) * np.sqrt(2.0 / np.pi) for g in range(6)]
    assert record.spread["forces_mae_meV_per_A"] == pytest.approx(np.std(means, ddof=1) / np.sqrt(6), rel=0.3)
    few = errors(calculator(), Dataset(frames[:3]))
    assert not few.spread
    assert any("No error bar" in n for n in few.notes)


def test_stress_and_frames_that_lack_labels() -> None:
    crystal = bulk("C", "diamond", a=3.6)
    crystal.rattle(0.02, seed=0)
    with_stress = frame(crystal, np.zeros(7), "a", stress=True)
    no_forces = Labelled(
        system=with_stress.system,
        results=Results(energy=with_stress.results.energy),
        level_of_theory=with_stress.level_of_theory,
    )
    record = errors(calculator(), Dataset([with_stress, no_forces]))
    assert record["stress_mae_GPa"] == pytest.approx(0.01 / units.gigapascal / 3.0)
    table = next(t for t in record.tables if t.title == "Errors of F")
    assert table.rows[0][1] == 6


def test_mixed_levels_are_refused() -> None:
    a = frame(molecule("H2O"), np.zeros(10), "")
    b = Labelled(system=a.system, results=a.results, level_of_theory="PBE")
    with pytest.raises(ValueError, match="several levels of theory"):
        errors(calculator(), Dataset([a, b]))
    with pytest.raises(ValueError, match="no frames"):
        errors(calculator(), Dataset([]))
