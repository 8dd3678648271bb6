"""SOAP and GAP against QUIP; how the values were made stands in quippy/README.md."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.io import read

from rikiba.calculators.autograd import PotentialCalculator
from rikiba.core.pairs import find_pairs
from rikiba.core.results import Results
from rikiba.core.system import System
from rikiba.data.dataset import Dataset, Labelled
from rikiba.descriptors.soap import Soap
from rikiba.interop.quip_gap import _integers, _options, _places, load_quip_gap
from rikiba.potentials.gap import Gap
from rikiba.training.gaussian_process import SparseGaussianProcess

HERE = Path(__file__).parent / "quippy" / "reference"
REFERENCE = json.loads((HERE / "values.json").read_text())
FRAMES = [Atoms(f["symbols"], f["positions"], cell=f["cell"], pbc=True) for f in REFERENCE["frames"]]
NOISE = {
    "energy_sigma": 0.002,
    "forces_sigma": 0.1,
    "virial_sigma": 0.05,
    "group_sigmas": {"hot": {"energy_sigma": 0.004, "forces_sigma": 0.2, "virial_sigma": 0.1}},
}


def loaded(**more) -> Gap:
    weights = load_quip_gap(HERE / "gap.xml")
    potential = Gap(**weights.arguments | more)
    potential.load_state_dict(weights.tensors)
    return potential


def training() -> Dataset:
    out = []
    for atoms in read(HERE / "training.xyz", ":"):
        info, forces = dict(atoms.info), torch.from_numpy(atoms.arrays["my_force"])
        atoms.info = {}
        system = System.from_ase(atoms)
        virial = info.get("my_virial")
        stress = None if virial is None else -torch.from_numpy(virial.reshape(1, 3, 3)) / system.volume
        results = Results(energy=torch.tensor([info["my_energy"]]), forces=forces, stress=stress)
        out.append(
            Labelled(system=system, results=results, level_of_theory="made up", group=info["config_type"])
        )
    return Dataset(out)


@pytest.mark.parametrize("name", list(REFERENCE["soap"]))
def test_power_spectrum(name: str) -> None:
    _, options = _options(REFERENCE["settings"][name])
    numbers = _integers(options["species_Z"])
    system = training()[0].system
    soap = Soap(
        elements=[str(z) for z in sorted(numbers)],
        cutoff=float(options["cutoff"]),
        n_max=int(options["n_max"]),
        l_max=int(options["l_max"]),
        atom_sigma=float(options["atom_sigma"]),
        transition_width=0.8,
        envelope="cosine",
    )
    kinds = torch.full((10,), -1)
    kinds[sorted(numbers)] = torch.arange(len(numbers))
    pairs, types, carbon = find_pairs(system, soap.cutoff), kinds[system.numbers], system.numbers == 6
    kept = carbon[pairs.i] & (types[pairs.j] >= 0)
    centre = (carbon.cumsum(0) - 1)[pairs.i[kept]]
    found = soap(pairs.vectors(system)[kept], centre, types[pairs.j[kept]], types[carbon])
    place = _places([sorted(numbers).index(z) for z in numbers], soap.n_max, soap.l_max)
    expected = torch.tensor(REFERENCE["soap"][name], dtype=torch.float64)
    assert torch.allclose(found, expected[:, place], rtol=0, atol=1e-12)
    if len(numbers) > 1:
        assert not torch.allclose(found, expected, rtol=0, atol=1e-2)


@pytest.mark.parametrize("use_program", [True, False])
def test_energies_forces_and_stress(use_program: bool) -> None:
    calculator = PotentialCalculator(loaded(), use_program=use_program)
    for atoms, expected in zip(FRAMES, REFERENCE["frames"], strict=True):
        found = calculator(System.from_ase(atoms), stress=True)
        assert abs(float(found.energy) - expected["energy"]) < 1e-6 * len(atoms)
        assert np.abs(found.forces.numpy() - expected["forces"]).max() < 1e-6
        stress = np.array(expected["stress"])[[0, 5, 4, 5, 1, 3, 4, 3, 2]].reshape(3, 3)
        assert np.abs(found.stress[0].numpy() - stress).max() < 1e-7
    # negative control: the C² envelope is another potential
    other = loaded(envelope="polynomial")
    found = PotentialCalculator(other)(System.from_ase(FRAMES[0]))
    assert abs(float(found.energy) - REFERENCE["frames"][0]["energy"]) > 1e-2


def test_predictive_variance() -> None:
    expected = np.array(REFERENCE["frames"][0]["variance"])
    spread = PotentialCalculator(loaded(variance="sparse"))(System.from_ase(FRAMES[0])).spread
    assert np.abs(spread.energies.numpy() ** 2 - expected).max() < 1e-6
    assert expected.max() > 0.1 and expected.min() < 1e-3


def test_fit_to_the_same_data() -> None:
    """The same sparse points and noise give the same potential; as far as rounding in QUIP's α allows."""
    reference, data = loaded(), training()
    fit = SparseGaussianProcess(**NOISE, choose_points=False).fit(reference, data)
    blind = Gap(**reference.arguments)
    blind.load_state_dict(reference.state_dict())
    with torch.no_grad():
        blind.coefficients.zero_()
    again = SparseGaussianProcess(**NOISE, choose_points=False).fit(blind, data)
    assert torch.allclose(again.potential.coefficients, fit.potential.coefficients, rtol=0, atol=1e-9)
    for k in (0, 2):
        found = PotentialCalculator(fit.potential)(System.from_ase(FRAMES[k]))
        expected = REFERENCE["frames"][k]
        assert abs(float(found.energy) - expected["energy"]) < 1e-4
        assert np.abs(found.forces.numpy() - expected["forces"]).max() < 1e-3
    # negative control: noise that is the same for all groups
    other = SparseGaussianProcess(**NOISE | {"group_sigmas": None}, choose_points=False).fit(reference, data)
    found = PotentialCalculator(other.potential)(System.from_ase(FRAMES[0]))
    assert np.abs(found.forces.numpy() - REFERENCE["frames"][0]["forces"]).max() > 1e-2


@pytest.mark.parametrize(
    ("old", "new", "word"),
    [
        ('do_core="F"', 'do_core="T"', "core potential"),
        ("soap n_max=3", "soap_turbo n_max=3", "soap_turbo"),
        ('signal_mean=".00000000000000000E+000"', 'signal_mean="1.0"', "mean"),
        ('n_sparseX="6"', 'n_sparseX="7"', "announces 7"),
        ("central_weight=1.0", "central_weight=1.0 average=T", "average"),
        ("<GAP_data", "<Other", "not XML"),
    ],
)
def test_what_is_not_read_is_refused(tmp_path: Path, old: str, new: str, word: str) -> None:
    for file in HERE.glob("gap.xml*"):
        shutil.copy(file, tmp_path)
    text = (tmp_path / "gap.xml").read_text()
    assert old in text
    (tmp_path / "gap.xml").write_text(text.replace(old, new))
    with pytest.raises(ValueError, match=word):
        load_quip_gap(tmp_path / "gap.xml")


def test_sparse_points_of_another_folder_are_not_read(tmp_path: Path) -> None:
    text = (HERE / "gap.xml").read_text()
    (tmp_path / "gap.xml").write_text(text.replace('sparseX_filename="', 'sparseX_filename="../'))
    with pytest.raises(ValueError, match="should stand in"):
        load_quip_gap(tmp_path / "gap.xml")
