"""Labelled files in and out, and what happens with bad ones."""

from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms, units
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.db import connect
from ase.io import read as ase_read
from ase.io import write as ase_write
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rikiba.data import extxyz, formats
from rikiba.data.dataset import Dataset, Labelled
from rikiba.data.extxyz import FormatError

GOOD = """2
Properties=species:S:1:pos:R:3:forces:R:3 energy=-1.5 pbc="F F F"
H 0 0 0 0.1 0 0
H 0 0 0.74 -0.1 0 0
"""


def put(folder: Path, text: str, name: str = "set.xyz") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def same(a: Labelled, b: Labelled, rtol: float = 0.0) -> None:
    for name in ("positions", "cell", "numbers", "pbc"):
        assert torch.equal(getattr(a.system, name), getattr(b.system, name)), name
    for name in ("charge", "spin", "magmoms", "tags"):
        x, y = getattr(a.system, name), getattr(b.system, name)
        assert (x is None) == (y is None), name
        assert x is None or torch.equal(x, y), name
    assert {q.name for q in a.results.present()} == {q.name for q in b.results.present()}
    for q in a.results.present():
        torch.testing.assert_close(
            getattr(a.results, q.name), getattr(b.results, q.name), rtol=rtol, atol=rtol
        )
    assert (a.level_of_theory, a.group, a.weights, a.noise) == (
        b.level_of_theory,
        b.group,
        b.weights,
        b.noise,
    )


words = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), max_size=12)


@given(
    seed=st.integers(0, 1000),
    n=st.integers(1, 6),
    periodic=st.booleans(),
    group=words,
    value=st.one_of(
        words,
        st.integers(-(2**40), 2**40),
        st.floats(allow_nan=False),
        st.booleans(),
        st.lists(st.floats(-9, 9)),
    ),
    key=st.text("abcdefghij_=' \"", min_size=1, max_size=8),
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_extxyz_round_trip_keeps_every_bit(
    make_frame, tmp_path, seed, n, periodic, group, value, key
) -> None:
    frame = make_frame(seed, n, periodic, group=group, level=f"PBE/{group}", info={key: value})
    path = formats.write(tmp_path / "a.xyz", [frame])
    back = formats.read(path, stress_key="stress" if periodic else None)[0]
    same(frame, back)
    found = back.system.info[0][key]
    if isinstance(value, list):
        assert np.array_equal(np.ravel(found), value)
    else:
        assert found == value and type(found) is type(value)


@pytest.mark.parametrize("name", ["a.xyz", "a.db", "a.traj"])
def test_round_trip_of_all_formats_with_charge_spin_tags_weights(
    make_frame, tmp_path: Path, name: str
) -> None:
    frames = []
    for k in range(4):
        f = make_frame(k, 3 + k, True, group=f"run {k % 2}", level="PBE", info={"config_type": "liquid"})
        n = f.system.n_atoms
        system = f.system.replace(
            charge=torch.tensor([-1.0], dtype=torch.float64),
            spin=torch.tensor([2]),
            tags=torch.arange(1, n + 1),
            magmoms=torch.linspace(-1, 1, n, dtype=torch.float64),
        )
        frames.append(
            Labelled(
                system=system, results=f.results, level_of_theory="PBE", group=f.group,
                weights={"energy": 2.5}, noise={"forces": 0.01},
            )
        )  # fmt: skip
    path = formats.write(tmp_path / name, Dataset(frames))
    back = formats.read(path, stress_key="stress")
    assert len(back) == 4
    for a, b in zip(frames, back, strict=True):
        same(a, b, rtol=1e-14)
        assert b.system.info[0]["config_type"] == "liquid"
        assert name in b.source


def test_ase_reads_what_we_write_and_we_read_what_ase_writes(make_frame, tmp_path: Path) -> None:
    frames = [make_frame(k, 4, True) for k in range(3)]
    path = formats.write(tmp_path / "ours.xyz", frames)
    for a, b in zip(frames, ase_read(path, ":"), strict=True):
        assert np.array_equal(a.system.positions, b.positions)
        assert np.array_equal(a.system.cell[0], b.cell.array)
        assert float(a.results.energy) == b.get_potential_energy()
        assert np.array_equal(a.results.forces, b.get_forces())
        assert np.allclose(a.results.stress[0], b.get_stress(voigt=False), atol=1e-15)
    ase_write(tmp_path / "theirs.xyz", [f.system.to_ase(f.results)[0] for f in frames])
    back = formats.read(tmp_path / "theirs.xyz", level_of_theory="toy", stress_key="stress")
    for a, b in zip(frames, back, strict=True):
        assert np.allclose(a.system.positions, b.system.positions, atol=1e-8)
        assert np.allclose(a.results.forces, b.results.forces, atol=1e-8)
        assert np.allclose(a.results.stress, b.results.stress, atol=1e-8)


def test_a_calculator_run_arrives_in_traj_and_db(tmp_path: Path) -> None:
    atoms = bulk("Cu", cubic=True)
    atoms.rattle(0.05, seed=1)
    atoms.calc = EMT()
    energy, forces, stress = atoms.get_potential_energy(), atoms.get_forces(), atoms.get_stress(voigt=False)
    ase_write(tmp_path / "a.traj", atoms)
    with connect(tmp_path / "a.db") as db:
        db.write(atoms, level_of_theory="EMT")
    for path, level in ((tmp_path / "a.traj", "EMT"), (tmp_path / "a.db", None)):
        frame = formats.read(path, level_of_theory=level, stress_key="stress")[0]
        assert frame.level_of_theory == "EMT"
        assert float(frame.results.energy) == pytest.approx(energy, abs=1e-12)
        assert np.allclose(frame.results.forces, forces, atol=1e-12)
        assert np.allclose(frame.results.stress[0], stress, atol=1e-12)


def test_missing_forces_are_an_error_that_lists_the_keys(tmp_path: Path) -> None:
    path = put(tmp_path, GOOD.replace("forces:R:3", "dft_force:R:3"))
    with pytest.raises(
        ValueError, match=r"set\.xyz, frame 0.*no forces under 'forces'.*arrays: dft_force"
    ) as error:
        formats.read(path, level_of_theory="toy")
    assert "forces_key='dft_force'" in str(error.value) and "info: energy" in str(error.value)
    read = formats.read(path, level_of_theory="toy", forces_key="dft_force")
    assert read[0].results.forces[0, 0] == 0.1
    with pytest.raises(ValueError, match=r"no energy under 'TotEnergy'.*energy_key='energy'"):
        formats.read(path, level_of_theory="toy", energy_key="TotEnergy", forces_key="dft_force")


def test_missing_forces_in_a_traj_list_the_calculators_keys(tmp_path: Path) -> None:
    atoms = molecule("H2O")
    atoms.calc = SinglePointCalculator(atoms, energy=-1.0, dipole=np.zeros(3))
    ase_write(tmp_path / "a.traj", atoms)
    with pytest.raises(ValueError, match="calculator: energy, dipole"):
        formats.read(tmp_path / "a.traj", level_of_theory="toy")
    assert (
        formats.read(tmp_path / "a.traj", level_of_theory="toy", need=("energy",))[0].results.forces is None
    )


def test_frames_without_a_label_are_allowed_only_where_said_and_then_counted(tmp_path: Path) -> None:
    bare = '1\nProperties=species:S:1:pos:R:3 energy=-0.5 pbc="F F F"\nH 0 0 0\n'
    path = put(tmp_path, GOOD + bare)
    with pytest.raises(ValueError, match="frame 1"):
        formats.read(path, level_of_theory="toy")
    with pytest.warns(UserWarning, match="1 of 2 frames have no forces"):
        frames = formats.read(path, level_of_theory="toy", need=("energy",))
    assert frames[0].results.forces is not None and frames[1].results.forces is None


def test_level_of_theory_is_needed_and_must_agree(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="which level of theory"):
        formats.read(put(tmp_path, GOOD))
    tagged = put(tmp_path, GOOD.replace("energy=", "level_of_theory=PBE energy="))
    assert formats.read(tagged)[0].level_of_theory == "PBE"
    assert formats.read(tagged, level_of_theory="PBE")[0].level_of_theory == "PBE"
    with pytest.raises(ValueError, match="'PBE', the argument says 'BLYP'"):
        formats.read(tagged, level_of_theory="BLYP")


STRESS = np.array([[1.0, 0.6, 0.5], [0.6, 2.0, 0.4], [0.5, 0.4, 3.0]])


@pytest.mark.parametrize(
    "key, text, arguments, factor",
    [
        ("stress", "1 2 3 0.4 0.5 0.6", {"stress_key": "stress"}, 1.0),
        ("stress", "1 .6 .5 .6 2 .4 .5 .4 3", {"stress_key": "stress"}, 1.0),
        ("dft", "_JSON [[1, 0.6, 0.5], [0.6, 2, 0.4], [0.5, 0.4, 3]]", {"stress_key": "dft"}, 1.0),
        ("stress", "1 2 3 .4 .5 .6", {"stress_key": "stress", "stress_unit": "GPa"}, units.GPa),
        (
            "kB", "1 2 3 .4 .5 .6",
            {"stress_key": "kB", "stress_unit": "kbar", "compression_positive": True}, -0.1 * units.GPa,
        ),
        ("virial", "1 2 3 .4 .5 .6", {"virial_key": "virial"}, -1 / 1000.0),
        ("virial", "1 2 3 .4 .5 .6", {"virial_key": "virial", "energy_unit": "kcal/mol"}, -4.336410e-5),
    ],
)  # fmt: skip
def test_stress_and_virial_in_each_layout(
    tmp_path: Path, key: str, text: str, arguments: dict, factor: float
) -> None:
    header = f'Lattice="10 0 0 0 10 0 0 0 10" {key}="{text}" energy='
    path = put(tmp_path, GOOD.replace("energy=", header).replace('pbc="F F F"', 'pbc="T T T"'))
    if key in ("stress", "virial"):
        with pytest.warns(UserWarning, match="not read unless named"):
            assert formats.read(path, level_of_theory="toy")[0].results.stress is None
    stress = formats.read(path, level_of_theory="toy", **arguments)[0].results.stress[0].numpy()
    np.testing.assert_allclose(stress, STRESS * factor, rtol=1e-6)


def test_stress_errors(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not both"):
        formats.read(put(tmp_path, GOOD), level_of_theory="t", stress_key="a", virial_key="b")
    with pytest.raises(ValueError, match="no frame has stress under 'stress'"):
        formats.read(put(tmp_path, GOOD), level_of_theory="t", stress_key="stress")
    path = put(tmp_path, GOOD.replace("energy=", 'stress="1 2 3 4" energy='))
    with pytest.raises(ValueError, match="shape"):
        formats.read(path, level_of_theory="t", stress_key="stress")
    path = put(tmp_path, GOOD.replace("energy=", 'virial="1 2 3 4 5 6" energy='))
    with pytest.raises(ValueError, match="the cell has no volume"):
        formats.read(path, level_of_theory="t", virial_key="virial")
    with pytest.raises(ValueError, match="name stress_key"):
        formats.read(put(tmp_path, GOOD), level_of_theory="t", need=("energy", "stress"))


def test_charge_key_units_group_and_other_labels(tmp_path: Path) -> None:
    text = GOOD.replace("energy=", "total_charge=-1 spin=2 run=007 energy=").replace(
        "forces:R:3", "forces:R:3:q:R:1"
    )
    text = text.replace(" 0.1 0 0\n", " 0.1 0 0 0.25\n").replace("-0.1 0 0\n", "-0.1 0 0 -0.25\n")
    frame = formats.read(
        put(tmp_path, text), level_of_theory="t", charge_key="total_charge", group_key="run",
        other={"charges": "q"}, energy_unit="kcal/mol",
    )[0]  # fmt: skip
    assert frame.system.charge.tolist() == [-1.0] and frame.system.spin.tolist() == [2]
    assert frame.results.charges.tolist() == [0.25, -0.25]
    assert float(frame.results.energy) == pytest.approx(-1.5 * 0.0433641, rel=1e-6)
    assert float(frame.results.forces[0, 0]) == pytest.approx(0.1 * 0.0433641, rel=1e-6)
    assert formats.read(put(tmp_path, text), level_of_theory="t", group="mine")[0].group == "mine"
    with pytest.raises(ValueError, match="no frame has charges under 'nope'"):
        formats.read(put(tmp_path, text), level_of_theory="t", other={"charges": "nope"})


@pytest.mark.parametrize(
    "change, message",
    [
        (("2\n", "two\n"), r"line 1\): an atom count is needed"),
        (("2\n", "3\n"), "3 atoms announced, the file ends after 2"),
        (("H 0 0 0.74 -0.1 0 0", "H 0 0 0.74 -0.1 0"), "line 4: 6 columns, 7 are declared"),
        (("H 0 0 0.74", "H 0 0 0.7x4"), "line 4: '0.7x4' under 'pos' is not of type R"),
        (("H 0 0 0.74", "Hx 0 0 0.74"), "'Hx' is not a chemical symbol"),
        (("H 0 0 0.74", "H 0 0 nan"), "frame 0.*not finite"),
        (("energy=-1.5", "energy=nan"), "frame 0.*energy 'energy' is not finite"),
        (("energy=-1.5", "energy=abc"), "'energy' is not numeric"),
        (("energy=-1.5", 'energy="1 2"'), "energy 'energy' has shape"),
        (("-0.1 0 0", "inf 0 0"), "forces 'forces' is not finite"),
        (("species:S:1", "species:S"), "is not name:type:columns"),
        (("species:S:1", "species:Q:1"), "types are S, R, I, L"),
        (("energy=-1.5", 'Lattice="1 0 0" energy=-1.5'), "Lattice needs nine numbers"),
        (("pbc=", 'Lattice="1 0 0 2 0 0 0 0 1" pbc='), "linearly dependent"),
        (('"F F F"', '"F F'), "not a key=value pair"),
        (("pos:R:3:forces:R:3", "pos:R:2:forces:R:4"), "pos:R:3"),
        (("0.74 -0.1 0 0\n", "0.74 -0.1 0 0\n\n7\n"), "text after an empty line"),
    ],
)
def test_malformed_files_name_the_line(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    assert change[0] in GOOD
    with pytest.raises(ValueError, match=message):
        formats.read(put(tmp_path, GOOD.replace(*change)), level_of_theory="toy")
    assert len(formats.read(put(tmp_path, GOOD), level_of_theory="toy")) == 1  # negative control


def test_empty_and_absent_files(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="holds no frames"):
        formats.read(put(tmp_path, ""), level_of_theory="toy")
    with pytest.raises(FileNotFoundError, match=r"nope\.xyz"):
        formats.read(tmp_path / "nope.xyz", level_of_theory="toy")
    with pytest.raises(FormatError, match="does not follow from the ending"):
        formats.read(put(tmp_path, GOOD, "set.data"), level_of_theory="toy")
    assert len(formats.read(put(tmp_path, GOOD, "set.data"), level_of_theory="toy", format="extxyz")) == 1
    with pytest.raises(FormatError, match="not an ASE trajectory"):
        formats.read(put(tmp_path, GOOD, "a.traj"), level_of_theory="toy")


def test_plain_xyz_with_a_free_comment_is_a_structure(tmp_path: Path) -> None:
    path = put(tmp_path, "1\nwater's \"oxygen\nO 0 0 0\n")
    assert formats.read_structures(path)[0].get_chemical_symbols() == ["O"]
    assert next(extxyz.iterate(path)).info == {"comment": "water's \"oxygen"}


def test_md17_npz(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    positions, energies, forces = rng.normal(size=(4, 3, 3)), rng.normal(size=4), rng.normal(size=(4, 3, 3))
    z = np.array([8, 1, 1])
    np.savez(tmp_path / "old.npz", R=positions, z=z, E=energies[:, None], F=forces)
    np.savez(tmp_path / "new.npz", coords=positions, nuclear_charges=z, energies=energies, forces=forces,
             old_indices=np.arange(4) + 7)  # fmt: skip
    for name in ("old.npz", "new.npz"):
        with pytest.raises(ValueError, match="energy_unit='kcal/mol'"):
            formats.read(tmp_path / name, level_of_theory="PBE")
        data = formats.read(tmp_path / name, level_of_theory="PBE", energy_unit="kcal/mol")
        assert len(data) == 4 and data.elements == ("H", "O")
        factor = units.kcal / units.mol
        assert np.allclose([float(f.results.energy) for f in data], energies * factor, rtol=1e-6)
        assert np.allclose(data[2].results.forces, forces[2] * factor, rtol=1e-6)
    assert data[1].system.info[0]["old_indices"] == 8
    np.savez(tmp_path / "bad.npz", R=positions, z=z[:2], E=energies, F=forces)
    with pytest.raises(FormatError, match="for 2 atoms"):
        formats.read(tmp_path / "bad.npz", level_of_theory="PBE", energy_unit="eV")
    with pytest.raises(FormatError, match="not a readable npz"):
        formats.read(put(tmp_path, "text", "t.npz"), level_of_theory="PBE", energy_unit="eV")


def test_deepmd_folder(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    folder = tmp_path / "water"
    (folder / "set.000").mkdir(parents=True)
    (folder / "type.raw").write_text("0\n1\n1\n")
    (folder / "type_map.raw").write_text("O\nH\n")
    arrays = {
        "coord": rng.normal(size=(2, 9)), "box": np.tile(np.diag([4.0, 5, 6]).ravel(), (2, 1)),
        "energy": rng.normal(size=2), "force": rng.normal(size=(2, 9)),
        "virial": np.tile(STRESS.ravel(), (2, 1)),
    }  # fmt: skip
    for name, array in arrays.items():
        np.save(folder / "set.000" / f"{name}.npy", array)
    data = formats.read(folder, level_of_theory="PBE0", virial_key="virial")
    assert data[1].system.numbers.tolist() == [8, 1, 1] and data.groups == ("water/set.000",)
    assert float(data[1].results.energy) == arrays["energy"][1]
    assert np.array_equal(data[1].results.forces.ravel(), arrays["force"][1])
    np.testing.assert_allclose(data[0].results.stress[0], -STRESS / 120.0)
    np.save(folder / "set.000" / "force.npy", arrays["force"][:1])
    with pytest.raises(FormatError, match=r"force\.npy holds 9 numbers, 18"):
        formats.read(folder, level_of_theory="PBE0")
    (folder / "type_map.raw").unlink()
    with pytest.raises(FormatError, match=r"type_map\.raw"):
        formats.read(folder, level_of_theory="PBE0")


def test_ani_hdf5(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    rng = np.random.default_rng(0)
    forces = rng.normal(size=(3, 3, 3))
    with h5py.File(tmp_path / "ani.h5", "w") as file:
        group = file.create_group("H2O")
        group["atomic_numbers"] = np.array([8, 1, 1], np.uint8)
        group["coordinates"] = rng.normal(size=(3, 3, 3)).astype(np.float32)
        group["wb97x_dz.energy"] = np.array([-76.0, np.nan, -76.2])
        group["wb97x_dz.forces"] = forces
    keys = dict(energy_key="wb97x_dz.energy", forces_key="wb97x_dz.forces", energy_unit="Ha")
    with pytest.warns(UserWarning, match="1 of 3 frames have no energy"):
        data = formats.read(tmp_path / "ani.h5", level_of_theory="wB97X/6-31G*", need=("forces",), **keys)
    assert float(data[2].results.energy) == pytest.approx(-76.2 * units.Hartree, rel=1e-8)
    assert np.allclose(data[0].results.forces, forces[0] * units.Hartree, rtol=1e-8)
    assert data[1].results.energy is None
    with pytest.raises(ValueError, match="energy_unit='Ha'"):
        formats.read(tmp_path / "ani.h5", level_of_theory="x")


@pytest.mark.parametrize(
    "name, format", [("POSCAR", "vasp"), ("a.cif", None), ("a.pdb", None), ("a.lmp", "lammps-data")]
)
def test_structures_of_other_formats(tmp_path: Path, name: str, format: str | None) -> None:
    atoms = bulk("Si", cubic=True)
    ase_write(tmp_path / name, atoms, format=format, **({"masses": True} if name == "a.lmp" else {}))
    back = formats.read_structures(tmp_path / name, format)[0]
    assert isinstance(back, Atoms) and len(back) == 8
    assert np.allclose(
        np.sort(back.get_all_distances(mic=True)), np.sort(atoms.get_all_distances(mic=True)), atol=1e-2
    )
    if name != "a.pdb":
        assert abs(back.get_volume() - atoms.get_volume()) < 1e-3


def test_a_broken_structure_file_is_one_error(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"a\.cif (cannot be read|holds no structure)"):
        formats.read_structures(put(tmp_path, "data_x\nloop_\n_atom_site_label\n", "a.cif"))
    with pytest.raises(FormatError, match="POSCAR cannot be read as vasp"):
        formats.read_structures(put(tmp_path, "Si\n1.0\n1 0\n", "POSCAR"), "vasp")


def test_published_sets_agree_with_ase(data_dir: Path) -> None:
    for name, arguments in (
        ("rmd17/ethanol/train_01.xyz", {}),
        ("mlearn/Si/test.xyz", {"stress_key": "stress"}),
    ):
        ours = formats.read(data_dir / name, level_of_theory="PBE", **arguments)
        theirs = ase_read(data_dir / name, ":")
        for a, b in zip(ours, theirs, strict=True):
            assert np.array_equal(a.system.positions, b.positions)
            assert float(a.results.energy) == b.get_potential_energy()
            assert np.array_equal(a.results.forces, b.get_forces())
            if arguments:
                assert np.allclose(a.results.stress[0], b.get_stress(voigt=False), atol=1e-14)


def test_labels_that_ase_structures_carry() -> None:
    crystal, water = bulk("Cu", cubic=True), molecule("H2O")
    crystal.info |= {"level_of_theory": "EMT", "group": "run 1"}
    crystal.calc = EMT()
    crystal.get_potential_energy(), crystal.get_stress()
    water.calc = SinglePointCalculator(water, energy=-1.0, forces=np.ones((3, 3)), charges=[-0.8, 0.4, 0.4])
    data = Dataset.from_ase([crystal], name="mine")
    assert (data[0].group, data[0].level_of_theory, data.name) == ("run 1", "EMT", "mine")
    assert np.allclose(data[0].results.stress[0], crystal.get_stress(voigt=False))
    assert Dataset.from_ase([water], level_of_theory="t")[0].results.charges.tolist() == [-0.8, 0.4, 0.4]
    with pytest.raises(ValueError, match="frame 1: which level of theory"):
        Dataset.from_ase([crystal, water])
    water.calc = SinglePointCalculator(water, energy=-1.0)
    with pytest.raises(ValueError, match="frame 0: no forces"):
        Dataset.from_ase([water], level_of_theory="t")


def test_energies_of_atoms_follow_the_energy_unit(tmp_path: Path) -> None:
    text = GOOD.replace("forces:R:3", "forces:R:3:parts:R:1").replace("0.1 0 0", "0.1 0 0 -1.0")
    path = put(
        tmp_path, text.replace("-0.1 0 0 -1.0", "-0.1 0 0 -0.5").replace("-0.1 0 0\n", "-0.1 0 0 -0.5\n")
    )
    data = formats.read(path, level_of_theory="x", energy_unit="Ha", other={"energies": "parts"})
    torch.testing.assert_close(data[0].results.energies.sum(), data[0].results.energy[0])
