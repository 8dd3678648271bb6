"""A cheaper engine beneath a learned potential: its own numbers, remembered; fewer labels to learn from."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule

from rikiba.calculators.autograd import PotentialCalculator, evaluate
from rikiba.core.pairs import find_pairs
from rikiba.core.system import System
from rikiba.data.dataset import Dataset
from rikiba.data.formats import from_ase, read
from rikiba.data.statistics import computed_arguments, force_scale
from rikiba.potentials.ace import ACE
from rikiba.potentials.mace import MACE
from rikiba.potentials.reference_baseline import ReferenceBaseline
from rikiba.potentials.sum import Sum
from rikiba.potentials.zbl import Zbl
from rikiba.reference.base import Failure
from rikiba.reference.isolated_atoms import isolated_atoms
from rikiba.reference.tblite import Tblite
from rikiba.training.checkpoint import load_potential, save_potential
from rikiba.training.fixed_terms import left_to_learn
from rikiba.training.least_squares import LeastSquares
from rikiba.training.trainer import Trainer
from rikiba.validation.errors import errors

TIGHT_BINDING = {"kind": "tblite", "method": "GFN1-xTB"}


def ethanol(n: int) -> list[Atoms]:
    frames = []
    for seed in range(n):
        atoms = molecule("CH3CH2OH")
        atoms.rattle(0.05, seed=seed)
        frames.append(atoms)
    return frames


@pytest.fixture(scope="module")
def baseline() -> ReferenceBaseline:
    return ReferenceBaseline(elements=("H", "C", "O"), reference=TIGHT_BINDING)


def test_it_answers_as_the_engine_does(baseline: ReferenceBaseline) -> None:
    frames, engine = ethanol(2), Tblite(method="GFN1-xTB")
    found = PotentialCalculator(baseline)(System.from_ase(frames))
    labels = [a for a in engine.label(frames) if isinstance(a, Atoms)]
    alone = isolated_atoms(engine, ("H", "C", "O"))
    energies = [a.get_potential_energy() - sum(alone[s] for s in a.symbols) for a in labels]
    assert found.need("energy").tolist() == pytest.approx(energies, abs=1e-9)
    assert (
        np.abs(found.need("forces").numpy() - np.concatenate([a.get_forces() for a in labels])).max() < 1e-9
    )
    atom = PotentialCalculator(baseline)(System.from_ase(Atoms("O")))
    assert atom.need("energy").item() == 0.0 and max(energies) < -20.0


def test_forces_end_the_differentiation(baseline: ReferenceBaseline) -> None:
    """A Hessian without the engine's part would be wrong in silence."""
    system = System.from_ase(molecule("H2O"))
    positions = system.positions.requires_grad_()
    results = baseline(system.replace(positions=positions), find_pairs(system, 0.0))
    (gradient,) = torch.autograd.grad(results.energies.sum(), positions, create_graph=True)
    with pytest.raises(RuntimeError, match="no second derivatives"):
        gradient.square().sum().backward()


def test_no_answer_is_an_error_with_the_engines_reason(baseline: ReferenceBaseline) -> None:
    frames = [molecule("H2O"), Atoms("H2", [[0, 0, 0], [0, 0, 0.05]])]
    with pytest.raises(ValueError, match=r"GFN1-xTB.*gives no answer for H2 \(structure 1 of 2\): .*apart"):
        PotentialCalculator(baseline)(System.from_ase(frames))
    with pytest.raises(ValueError, match="isolated has no energy of O"):
        ReferenceBaseline(elements=("H", "O"), reference=TIGHT_BINDING, isolated={"H": -10.0})


def test_each_structure_is_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Epochs of training cost no further answers; a charge makes another structure."""
    baseline = ReferenceBaseline(elements=("H", "O"), reference=TIGHT_BINDING)
    asked: list[Atoms] = []
    label = baseline.reference.label

    def counting(frames: Any) -> list[Atoms | Failure]:
        asked.extend(frames)
        return label(frames)

    monkeypatch.setattr(baseline.reference, "label", counting)
    engine = Tblite(method="GFN2-xTB")
    frames = [molecule("H2O") for _ in range(4)]
    for seed, atoms in enumerate(frames):
        atoms.rattle(0.05, seed=seed)
    data = from_ase([a for a in engine.label(frames) if isinstance(a, Atoms)])
    network = MACE(elements=("H", "O"), cutoff=3.0, channels=4, max_L=0, l_max=1, correlation=1)
    Trainer(max_epochs=3, batch_size=2).fit(Sum(terms=[network, baseline]), data, None)
    assert len(asked) == 4 + 2  # and the single atoms
    ion = frames[0].copy()
    ion.info["charge"] = 1.0
    PotentialCalculator(baseline)(System.from_ase([frames[0], ion]))
    assert len(asked) == 7


def test_a_folder_keeps_answers_for_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    system, given = System.from_ase(molecule("H2O")), {"elements": ("H", "O"), "reference": TIGHT_BINDING}
    first = PotentialCalculator(ReferenceBaseline(**given, cache=str(tmp_path)))(system)  # type: ignore[arg-type]
    monkeypatch.setattr(Tblite, "label", lambda self, frames: pytest.fail("asked again"))
    again = PotentialCalculator(ReferenceBaseline(**given, cache=str(tmp_path)))(system)  # type: ignore[arg-type]
    assert torch.equal(first.need("energy"), again.need("energy"))


def test_what_is_remembered_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rikiba.potentials.reference_baseline._REMEMBERED_ATOMS", 7)
    baseline = ReferenceBaseline(elements=("H", "O"), reference=TIGHT_BINDING)
    for k in range(4):
        atoms = molecule("H2O")
        atoms.rattle(0.05, seed=k)
        PotentialCalculator(baseline)(System.from_ase(atoms))
    assert len(baseline._memory.answers) == 2


def test_a_sum_is_compiled_and_saved_with_its_baseline(baseline: ReferenceBaseline, tmp_path: Path) -> None:
    network = MACE(elements=("H", "C", "O"), cutoff=4.0, channels=8, max_L=1, l_max=2, correlation=2)
    whole = Sum(terms=[network.double(), baseline])
    system = System.from_ase(ethanol(2))
    a, b = evaluate(whole, system, find_pairs(system, 4.0)), PotentialCalculator(whole)(system)
    assert whole.position_program() is not None
    assert (a.need("forces") - b.need("forces")).abs().max() < 1e-9
    again = load_potential(save_potential(tmp_path / "delta.npz", whole))
    c = PotentialCalculator(again)(system)
    assert torch.equal(b.need("energy"), c.need("energy")) and torch.equal(b.need("forces"), c.need("forces"))
    without = PotentialCalculator(network)(system)
    assert (a.need("energy") - without.need("energy")).abs().min() > 1.0


def fitted(train: Dataset, baseline: ReferenceBaseline | None) -> PotentialCalculator:
    shape: dict[str, Any] = {"cutoff": 4.0, "order": 2, "total_degree": (10, 9)}
    bare = ACE(elements=train.elements, **shape)
    left = train if baseline is None else left_to_learn(Sum(terms=[bare, baseline]), train)
    found = computed_arguments(left, 4.0)
    ace = ACE(elements=train.elements, atomic_energies=found["atomic_energies"], **shape)
    whole = ace if baseline is None else Sum(terms=[ace, baseline])
    return PotentialCalculator(LeastSquares(energy_weight=100.0, ridge=1e-8).fit(whole, train).potential)


def test_scale_is_that_of_the_difference(baseline: ReferenceBaseline) -> None:
    """Of what is left over a baseline; a core that only adds to the forces is none."""
    labels = [a for a in Tblite(method="GFN2-xTB").label(ethanol(3)) if isinstance(a, Atoms)]
    data = from_ase(labels)
    network = ACE(elements=("H", "C", "O"), cutoff=3.0, order=1, total_degree=(4,))
    left = left_to_learn(Sum(terms=[network, baseline]), data)
    forces = torch.cat([f.results.need("forces") for f in left])
    expected = (
        np.concatenate([a.get_forces() for a in labels])
        - torch.cat([PotentialCalculator(baseline)(f.system).need("forces") for f in data]).numpy()
    )
    assert np.abs(forces.numpy() - expected).max() < 1e-9
    assert force_scale(left) < 0.5 * force_scale(data)
    assert left_to_learn(Sum(terms=[network, Zbl(elements=("H", "C", "O"))]), data) is data
    assert left_to_learn(network, data) is data


@pytest.mark.filterwarnings("ignore:The compositions")
def test_a_difference_needs_fewer_labels(data_dir: Path) -> None:
    """20 labels of PBE ethanol over GFN2-xTB beat 200 without (rMD17, doi:10.1088/2632-2153/abba6f)."""
    folder = data_dir / "rmd17" / "ethanol"
    train = read(folder / "train_01.xyz", level_of_theory="PBE")
    test = read(folder / "test_01.xyz", level_of_theory="PBE")[:60]
    baseline = ReferenceBaseline(elements=train.elements, reference={"kind": "tblite"})
    errors_of = {n: errors(fitted(train[:n], b), test) for n, b in ((20, baseline), (200, None))}
    delta, direct = (errors_of[n]["forces_mae_meV_per_A"] for n in (20, 200))
    assert delta < 40.0 < 80.0 < direct
    assert errors_of[20]["energy_mae_meV_per_atom"] < 0.6 * errors_of[200]["energy_mae_meV_per_atom"]
