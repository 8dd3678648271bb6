"""What a dataset says about a potential's constructor."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk

from rikiba.core.results import Results
from rikiba.core.system import System
from rikiba.data.dataset import Dataset, Labelled
from rikiba.data.statistics import (
    atomic_energies,
    average_neighbours,
    computed_arguments,
    energy_shift,
    force_scale,
)

E0 = {"H": -13.0, "C": -1030.0, "O": -2040.0}


def frame(
    formula: str, shift: float = 0.0, force: float = 1.0, seed: int = 0, **keywords: object
) -> Labelled:
    rng = np.random.default_rng(seed)
    atoms = Atoms(formula, **keywords)
    atoms.positions = rng.uniform(0, 4, (len(atoms), 3))
    energy = sum(E0[s] for s in atoms.get_chemical_symbols()) + shift * len(atoms)
    results = Results(
        energy=torch.tensor([energy], dtype=torch.float64), forces=torch.full((len(atoms), 3), force).double()
    )
    return Labelled(system=System.from_ase(atoms), results=results, level_of_theory="toy", source=formula)


def test_least_squares_recovers_planted_atomic_energies() -> None:
    data = Dataset([frame(f, seed=k) for k, f in enumerate(["H2O", "CO2", "CH4", "C2H6O", "H2O2"])])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = atomic_energies(data)
    assert list(found) == ["H", "C", "O"]
    assert found == pytest.approx(E0, abs=1e-6)


def test_undetermined_energies_are_minimum_norm_with_a_warning_that_names_them() -> None:
    data = Dataset([frame("C2H6O", seed=k) for k in range(4)])
    with pytest.warns(UserWarning, match=r"fix 1 of the 3 atomic energies of H, C, O; undetermined: .* H"):
        found = atomic_energies(data)
    counts = np.array([6, 2, 1])
    target = 6 * E0["H"] + 2 * E0["C"] + E0["O"]
    assert np.dot(counts, list(found.values())) == pytest.approx(target, abs=1e-8)
    np.testing.assert_allclose(
        list(found.values()), counts * target / (counts @ counts), rtol=1e-9
    )  # minimum norm
    with pytest.warns(UserWarning, match=r"fix 2 of the 3.*undetermined") as caught:
        atomic_energies(Dataset([frame("C2H6O"), frame("C2H6O2")]))
    assert "O" not in str(caught[0].message).split("undetermined:")[1].split(".")[0].replace("O;", "")


def test_given_and_contained_isolated_atoms_come_first() -> None:
    data = Dataset([frame("H2O", shift=-3.0), frame("CH4", shift=-3.0), frame("H"), frame("C"), frame("O")])
    assert atomic_energies(data) == pytest.approx(E0)
    assert energy_shift(data, E0) == pytest.approx(-3.0)
    given = atomic_energies(data, {"H": -99.0, "C": -98.0, "O": -97.0})
    assert given == {"H": -99.0, "C": -98.0, "O": -97.0}
    partly = atomic_energies(Dataset([frame("H2O")]), {"H": -13.0})
    assert partly["O"] == pytest.approx(E0["O"])
    with pytest.raises(ValueError, match="this isolated H atom has"):
        atomic_energies(Dataset([frame("H"), frame("H", shift=0.1)]))
    with pytest.raises(ValueError, match="not a chemical symbol"):
        atomic_energies(data, {"Xx": 1.0})


def test_periodic_single_atoms_are_isolated_only_where_said() -> None:
    cell = dict(cell=[9, 9, 9], pbc=True)
    said = frame("H", **cell, info={"config_type": "IsolatedAtom"})
    assert atomic_energies(Dataset([said]))["H"] == pytest.approx(-13.0)
    crystal = frame("H", shift=-5.0, **cell)
    assert atomic_energies(Dataset([crystal, said]))["H"] == pytest.approx(-13.0)
    assert energy_shift(Dataset([crystal, said]), E0) == pytest.approx(-5.0)


@pytest.mark.parametrize("cutoff, neighbours", [(3.0, 12), (4.0, 18), (4.6, 42)])
def test_neighbours_of_fcc(cutoff: float, neighbours: int) -> None:
    # shells of fcc with a = 3.61 Å: 12 at 2.55, 6 at 3.61, 24 at 4.42 Å
    results = Results(energy=torch.zeros(1), forces=torch.zeros((1, 3)))
    copper = Labelled(system=System.from_ase(bulk("Cu", a=3.61)), results=results, level_of_theory="toy")
    assert average_neighbours(Dataset([copper]), cutoff) == neighbours
    alone = frame("H")
    assert average_neighbours(Dataset([copper, alone]), cutoff) == neighbours
    with pytest.raises(ValueError, match="too short"):
        average_neighbours(Dataset([alone]), cutoff)


def test_scale_of_forces_and_its_fallbacks() -> None:
    data = Dataset([frame("H2O", force=3.0), frame("CH4", force=4.0)])
    assert force_scale(data) == pytest.approx(np.sqrt((9 * 3 + 16 * 5) / 8))
    still = Dataset([frame("H2O", shift=s, force=0.0) for s in (-1.0, 1.0)])
    with pytest.warns(UserWarning, match="no forces that could set a scale"):
        assert force_scale(still) == pytest.approx(1.0)
    with pytest.warns(UserWarning, match="neither do energies vary"):
        assert force_scale(still[:1]) == 1.0


def test_all_arguments_together() -> None:
    data = Dataset([frame("H2O", shift=-3.0), frame("CH4", shift=-2.0, seed=1)])
    arguments = computed_arguments(data, 5.0, isolated=E0)
    assert arguments["elements"] == ("H", "C", "O")
    assert arguments["atomic_energies"] == E0 and arguments["shift"] == pytest.approx(-2.5)
    assert arguments["scale"] == 1.0 and arguments["avg_num_neighbors"] > 1
    with pytest.raises(ValueError, match="empty"):
        computed_arguments(Dataset([]), 5.0)
    without = Labelled(system=data[0].system, results=Results(), level_of_theory="toy")
    with pytest.raises(ValueError, match="No frame has an energy"):
        computed_arguments(Dataset([without]), 5.0)


def test_an_ion_is_no_reference_of_its_element() -> None:
    ion = frame("H", shift=13.6)
    ion = replace(ion, system=ion.system.replace(charge=torch.tensor([1.0], dtype=torch.float64)))
    assert atomic_energies(Dataset([ion, frame("H")]))["H"] == E0["H"]
