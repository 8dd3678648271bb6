"""Labelled data in and out: extended XYZ, ASE db and traj, MD17-style npz, DeePMD npy folders, ANI HDF5.

Nothing is guessed: a label is read from the key that was named, and a key that is not there is an error
which lists those that are. Structures without labels (POSCAR, CIF, PDB, SDF, LAMMPS data …) go through
`read_structures`.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from . import array_formats, extxyz
from .dataset import Dataset, Labelled
from .extxyz import FormatError, RawFrame
from .labels import EnergyUnit, Inventory, Keys, StressUnit, label


def read(
    path: str | Path | Sequence[str | Path],
    *,
    level_of_theory: str | None = None,
    energy_key: str = "energy",
    forces_key: str = "forces",
    stress_key: str | None = None,
    virial_key: str | None = None,
    charge_key: str = "charge",
    spin_key: str = "spin",
    group_key: str = "group",
    group: str | None = None,
    need: Sequence[str] = ("energy", "forces"),
    other: Mapping[str, str] | None = None,
    energy_unit: EnergyUnit | None = None,
    stress_unit: StressUnit = "eV/Å^3",
    compression_positive: bool = False,
    format: str | None = None,
) -> Dataset:
    """Read labelled frames into memory (`data.streaming.convert` for sets that do not fit).

    Args:
        path: a file, or several
        level_of_theory: the method that made the labels; may stand in the file's info instead
        energy_key: key of the total energy
        forces_key: key of the forces
        stress_key: key of the stress, ASE's sign; not read unless named
        virial_key: key of the virial −∂E/∂ε; not read unless named
        charge_key: info key of the total charge, e
        spin_key: info key of the multiplicity 2S+1
        group_key: info key whose value names a frame's trajectory or parent structure
        group: one group name for all frames, instead of group_key
        need: labels that every frame must have
        other: further labels, quantity → key, e.g. charges → ref_charges
        energy_unit: unit of energies, forces (per Å) and virials; eV unless the format says otherwise
        stress_unit: unit of the stress
        compression_positive: the stress in the file is positive under compression
        format: extxyz, db, traj, npz, deepmd, ani_h5, trajectory_h5 (a simulation's); by the file's name and
            content where not given

    Raises FormatError for a file that is malformed, ValueError for a label that is absent, not finite or of
    the wrong shape, and for a level of theory that is missing or contradicts the file's.
    """
    keys = Keys(
        energy=energy_key,
        forces=forces_key,
        stress=stress_key,
        virial=virial_key,
        charge=charge_key,
        spin=spin_key,
        group=group_key,
        other=dict(other or {}),
        energy_unit=energy_unit,
        stress_unit=stress_unit,
        compression_positive=compression_positive,
    )
    paths = [path] if isinstance(path, (str, Path)) else list(path)
    frames = []
    for one in paths:
        frames += list(
            iterate(one, level_of_theory=level_of_theory, keys=keys, group=group, need=need, format=format)
        )
    return Dataset(frames, ", ".join(Path(p).stem for p in paths))


def from_ase(
    frames: Sequence[Atoms],
    *,
    level_of_theory: str | None = None,
    group: str | None = None,
    need: Sequence[str] = ("energy", "forces"),
    stress: bool = True,
) -> Dataset:
    """Labelled ASE structures, as a reference returns them, as a Dataset.

    Args:
        frames: each with a calculator that holds its results
        level_of_theory: the method; may stand in each frame's info instead
        group: one group name for all frames; otherwise each frame's `info['group']`
        need: labels that every frame must have
        stress: take the stress where a frame has one

    Charges, dipole, magnetic moments and atomic energies come along where the calculator holds them. Raises
    ValueError as `read` does.
    """
    out = []
    for k, atoms in enumerate(frames):
        raw = _raw(atoms, f"frame {k}")
        other: dict[str, str] = {
            q: q for q in ("charges", "magmoms", "dipole", "energies") if q in raw.results
        }
        keys = Keys(stress="stress" if stress else None, other=other)
        out.append(label(raw, keys, level_of_theory, group, need))
    return Dataset(out)


def iterate(
    path: str | Path,
    *,
    level_of_theory: str | None = None,
    keys: Keys | None = None,
    group: str | None = None,
    need: Sequence[str] = ("energy", "forces"),
    format: str | None = None,
) -> Iterator[Labelled]:
    """The labelled frames of a file, one in memory at a time; the arguments are those of `read`."""
    keys = keys or Keys()
    unknown = sorted(set(need) - {"energy", "forces", "stress"} - set(keys.other))
    if unknown:
        raise ValueError(
            f"need has '{unknown[0]}'; allowed are energy, forces, stress and the names in other."
        )
    if "stress" in need and not (keys.stress or keys.virial):
        raise ValueError("Stress is needed: name stress_key (ASE's sign) or virial_key.")
    inventory = Inventory()
    for raw in raw_frames(path, keys, format):
        frame = label(raw, keys, level_of_theory, group, need)
        inventory.add(raw, frame.results)
        yield frame
    inventory.finish(Path(path).name, keys)


def raw_frames(path: str | Path, keys: Keys | None = None, format: str | None = None) -> Iterator[RawFrame]:
    """Structures with everything that stood beside them, under the names of the file."""
    path, keys = Path(path), keys or Keys()
    if not path.exists():
        raise FileNotFoundError(f"There is no file {path}.")
    kind = format or _format_of(path)
    if kind == "extxyz":
        return extxyz.iterate(path)
    if kind == "npz":
        return array_formats.npz(path, keys.energy_unit)
    if kind == "deepmd":
        return array_formats.deepmd(path)
    if kind == "trajectory_h5":
        return array_formats.trajectory_h5(path)
    if kind == "ani_h5":
        return array_formats.ani_h5(path, keys.energy_unit)
    if kind in ("db", "traj"):
        return _ase_frames(path, kind)
    raise FormatError(f"Format '{kind}' holds no labels that are known here; labelled formats are {_KNOWN}.")


_SUFFIXES = {
    ".xyz": "extxyz",
    ".extxyz": "extxyz",
    ".db": "db",
    ".traj": "traj",
    ".npz": "npz",
    ".h5": "ani_h5",
    ".hdf5": "ani_h5",
}
_KNOWN = "extxyz, db, traj, npz, deepmd, ani_h5, trajectory_h5"


def _format_of(path: Path) -> str:
    if path.is_dir():
        return "deepmd"
    if path.suffix not in _SUFFIXES:
        raise FormatError(
            f"{path.name}: the format does not follow from the ending; labelled formats are {_KNOWN}. "
            f"Name it with format=…, or read bare structures with read_structures."
        )
    if _SUFFIXES[path.suffix] == "ani_h5" and array_formats.is_trajectory(path):
        return "trajectory_h5"
    return _SUFFIXES[path.suffix]


def _ase_frames(path: Path, kind: str) -> Iterator[RawFrame]:
    """Frames of an ASE database or trajectory; what a calculator left is under `results`."""
    if kind == "db":
        from ase.db import connect

        images = ((row.toatoms(add_additional_information=True), row.id) for row in connect(path).select())
    else:
        from ase.io.trajectory import Trajectory

        try:
            images = ((atoms, k) for k, atoms in enumerate(Trajectory(path)))
        except Exception as error:
            raise FormatError(f"{path.name} is not an ASE trajectory: {error}") from error
    label = "row" if kind == "db" else "frame"
    for atoms, k in images:
        yield _raw(atoms, f"{path.name}, {label} {k}")


def _raw(atoms: Atoms, where: str) -> RawFrame:
    """An ASE structure taken apart: the bare structure, its info and arrays, and its calculator's results."""
    from ase.calculators.calculator import all_properties

    results = {}
    if atoms.calc is not None:
        held = getattr(atoms.calc, "results", {})
        results = {name: held[name] for name in all_properties if held.get(name) is not None}
    info = dict(atoms.info)
    info.update(info.pop("key_value_pairs", {}))
    info.update(info.pop("data", {}))
    info.pop("unique_id", None)
    standard = ("numbers", "positions", "initial_magmoms", "tags", "momenta", "masses", "initial_charges")
    arrays = {name: v for name, v in atoms.arrays.items() if name not in standard}
    plain = Atoms(numbers=atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
    if atoms.has("tags"):
        plain.set_tags(atoms.get_tags())
    if atoms.has("initial_magmoms"):
        plain.set_initial_magnetic_moments(atoms.get_initial_magnetic_moments())
    return RawFrame(atoms=plain, where=where, info=info, arrays=arrays, results=results)


def read_structures(path: str | Path, format: str | None = None) -> list[Atoms]:
    """Structures without labels from any format ASE reads (POSCAR, CIF, PDB, SDF, LAMMPS data and dump …).

    Of an extended XYZ's metadata `charge`, `spin` and the provenance `structure` are kept. Raises
    FormatError, with ASE's reason, for a file that cannot be read.
    """
    from ase.io import read as ase_read

    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"There is no file {path}.")
    if (format or path.suffix.lstrip(".")) in ("xyz", "extxyz"):
        return [_held(_described(frame), frame) for frame in extxyz.iterate(path)]
    if path.suffix in (".h5", ".hdf5") and array_formats.is_trajectory(path):
        return [frame.atoms for frame in array_formats.trajectory_h5(path)]
    try:
        images = ase_read(path, index=":", format=format)
    except Exception as error:
        raise FormatError(
            f"{path.name} cannot be read{f' as {format}' if format else ''}: {error}"
        ) from error
    if not images:
        raise FormatError(f"{path.name} holds no structure.")
    return list(images)


def _described(frame: RawFrame) -> Atoms:
    """The structure with what belongs to it rather than to its labels: charge, spin and provenance."""
    frame.atoms.info |= {k: frame.info[k] for k in ("charge", "spin", "structure") if k in frame.info}
    return frame.atoms


def _held(atoms: Atoms, frame: RawFrame) -> Atoms:
    """The structure with what its column `move_mask` holds (0: does not move) as ASE's constraints."""
    from ase.constraints import FixAtoms, FixCartesian

    mask = frame.arrays.get("move_mask")
    if mask is not None:
        moves = np.asarray(mask, dtype=bool).reshape(len(atoms), -1)
        still = np.flatnonzero(~moves.any(1))
        partly = np.flatnonzero(moves.any(1) & ~moves.all(1))
        held = [FixAtoms(still)] if len(still) else []
        atoms.set_constraint([*held, *(FixCartesian([k], mask=~moves[k]) for k in partly)])
    return atoms


def write(path: str | Path, dataset: Sequence[Labelled], format: str | None = None) -> Path:
    """Write labelled frames as extended XYZ, ASE db or ASE traj; an existing file is replaced.

    Level of theory, group, weights and noise go into info, so that `read` finds them. Extended XYZ keeps
    every bit.
    """
    path = Path(path)
    kind = format or _format_of(path)
    if kind not in ("extxyz", "db", "traj"):
        raise ValueError(f"Labelled data are written as extxyz, db or traj; '{kind}' is not one of them.")
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.stem}.part{path.suffix}")
    part.unlink(missing_ok=True)
    if kind == "extxyz":
        with part.open("w", encoding="utf-8") as file:
            for frame in dataset:
                extxyz.write_frame(file, *_outgoing(frame))
    else:
        _write_ase(part, dataset, kind)
    part.replace(path)
    return path


def _info_of(frame: Labelled) -> dict[str, Any]:
    info = dict(frame.system.info[0]) if frame.system.info else {}
    info["level_of_theory"] = frame.level_of_theory
    if frame.group:
        info["group"] = frame.group
    if frame.system.charge is not None:
        info["charge"] = float(frame.system.charge[0])
    if frame.system.spin is not None:
        info["spin"] = int(frame.system.spin[0])
    info |= {f"weight_{k}": v for k, v in frame.weights.items()}
    return info | {f"noise_{k}": v for k, v in frame.noise.items()}


def _outgoing(frame: Labelled) -> tuple[Atoms, dict[str, Any], dict[str, np.ndarray]]:
    atoms = frame.system.to_ase()[0]
    info, arrays = _info_of(frame), {}
    for q in frame.results.present():
        value = getattr(frame.results, q.name).detach().cpu().numpy()
        if q.per == "atom":
            arrays[q.name] = value
        else:
            info[q.name] = float(value[0]) if value.ndim == 1 else value[0]
    return atoms, info, arrays


def _write_ase(path: Path, dataset: Sequence[Labelled], kind: str) -> None:
    def labelled(frame: Labelled) -> Atoms:
        atoms = frame.system.to_ase(frame.results)[0]
        atoms.info = _info_of(frame)
        return atoms

    if kind == "traj":
        from ase.io.trajectory import Trajectory

        with Trajectory(path, "w") as trajectory:
            for frame in dataset:
                trajectory.write(labelled(frame))
        return
    from ase.db import connect

    with connect(path, append=False) as database:
        for frame in dataset:
            atoms = labelled(frame)
            database.write(atoms, data=atoms.info)
