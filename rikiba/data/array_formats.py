"""Array files: MD17-style npz, DeePMD npy folders, ANI-1 style HDF5."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from .extxyz import FormatError, RawFrame


def npz(path: Path, energy_unit: str | None) -> Iterator[RawFrame]:
    """Frames of one molecule: R and z (or coords and nuclear_charges), E, F (or energies, forces).

    The files of MD17 and rMD17 are in kcal/mol and kcal/mol/Å and do not say so; `energy_unit` must be given.
    Energies and forces appear as 'energy' and 'forces'.
    """
    if energy_unit is None:
        raise ValueError(
            f"{path.name}: an npz file does not state its unit; "
            f"give energy_unit='kcal/mol' (MD17, rMD17) or 'eV'."
        )
    try:
        with np.load(path, allow_pickle=False) as file:
            data = {name: file[name] for name in file.files}
    except (OSError, ValueError) as error:
        raise FormatError(f"{path.name} is not a readable npz file: {error}") from error
    positions = _first(data, ("R", "coords"), path)
    numbers = _first(data, ("z", "nuclear_charges"), path).astype(np.int64).ravel()
    n = len(positions)
    if positions.ndim != 3 or positions.shape[1:] != (len(numbers), 3):
        raise FormatError(f"{path.name}: positions have shape {positions.shape} for {len(numbers)} atoms.")
    labels = {"energy": _maybe(data, ("E", "energies")), "forces": _maybe(data, ("F", "forces"))}
    for name, values in labels.items():
        if values is not None and len(values) != n:
            raise FormatError(f"{path.name}: {len(values)} entries of {name} for {n} frames.")
    own = {"R", "coords", "z", "nuclear_charges", "E", "energies", "F", "forces"}
    info_arrays = {k: v for k, v in data.items() if k not in own and v.shape[:1] == (n,)}
    for k in range(n):
        info: dict[str, Any] = {name: _scalar(v[k]) for name, v in info_arrays.items() if v.ndim == 1}
        arrays = {}
        if labels["energy"] is not None:
            info["energy"] = float(np.asarray(labels["energy"][k]).ravel()[0])
        if labels["forces"] is not None:
            arrays["forces"] = np.asarray(labels["forces"][k], dtype=np.float64)
        atoms = Atoms(numbers=numbers, positions=positions[k])
        yield RawFrame(atoms=atoms, where=f"{path.name}, frame {k}", info=info, arrays=arrays)


def _first(data: dict[str, np.ndarray], names: tuple[str, ...], path: Path) -> np.ndarray:
    found = _maybe(data, names)
    if found is None:
        raise FormatError(
            f"{path.name} has no {' or '.join(names)}; it holds {', '.join(data) or 'nothing'}."
        )
    return found


def _maybe(data: dict[str, np.ndarray], names: tuple[str, ...]) -> np.ndarray | None:
    return next((data[n] for n in names if n in data), None)


def _scalar(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value


def deepmd(folder: Path) -> Iterator[RawFrame]:
    """A DeePMD system: type.raw, type_map.raw and set.*/{coord,box,energy,force,virial}.npy (eV, Å).

    Labels appear as 'energy', 'forces' and 'virial'; each set is a group. Raises FormatError without
    type_map.raw, which alone says the elements.
    """
    for name in ("type.raw", "type_map.raw"):
        if not (folder / name).exists():
            raise FormatError(
                f"{folder} has no {name}; a DeePMD system needs type.raw, type_map.raw and set.*."
            )
    symbols = (folder / "type_map.raw").read_text(encoding="utf-8").split()
    types = np.array((folder / "type.raw").read_text(encoding="utf-8").split(), dtype=np.int64)
    if len(types) == 0 or types.max() >= len(symbols):
        raise FormatError(f"{folder}: type.raw does not fit type_map.raw ({', '.join(symbols)}).")
    template = Atoms([symbols[t] for t in types], pbc=not (folder / "nopbc").exists())
    sets = sorted(folder.glob("set.*"))
    if not sets:
        raise FormatError(f"{folder} has no set.* folder.")
    for part in sets:
        yield from _deepmd_set(part, template, f"{folder.name}/{part.name}")


def _deepmd_set(part: Path, template: Atoms, where: str) -> Iterator[RawFrame]:
    n = len(template)
    data = {f.stem: np.load(f, allow_pickle=False) for f in sorted(part.glob("*.npy"))}
    if "coord" not in data:
        raise FormatError(f"{where} has no coord.npy.")
    if template.pbc.any() and "box" not in data:
        raise FormatError(
            f"{where} has no box.npy; put a file 'nopbc' beside type.raw where there is no cell."
        )
    frames = len(data["coord"])
    for name, width in (("coord", 3 * n), ("force", 3 * n), ("box", 9), ("virial", 9), ("energy", 1)):
        if name in data and data[name].size != frames * width:
            raise FormatError(
                f"{where}: {name}.npy holds {data[name].size} numbers, {frames * width} are needed."
            )
    for k in range(frames):
        atoms = template.copy()
        atoms.positions = data["coord"][k].reshape(n, 3)
        if template.pbc.any():
            atoms.cell = data["box"][k].reshape(3, 3)
        info: dict[str, Any] = {"group": where}
        if "energy" in data:
            info["energy"] = float(data["energy"].ravel()[k])
        if "virial" in data:
            info["virial"] = np.asarray(data["virial"][k], dtype=np.float64).reshape(3, 3)
        arrays = {}
        if "force" in data:
            arrays["forces"] = np.asarray(data["force"][k], dtype=np.float64).reshape(n, 3)
        yield RawFrame(atoms=atoms, where=f"{where}, frame {k}", info=info, arrays=arrays)


def is_trajectory(path: Path) -> bool:
    """True for an HDF5 file of a simulation, also one that is being written or whose writer was killed."""
    import h5py

    try:
        with h5py.File(path, "r", libver="latest", swmr=True) as file:
            return file.attrs.get("format") == "rikiba trajectory"
    except OSError:
        return False


def trajectory_h5(path: Path) -> Iterator[RawFrame]:
    """Every system of every frame of a simulation's HDF5 file, with velocities where they were kept.

    Labels appear as 'energy' and 'forces'; each system is a group. Frames that were not written in full when
    a run was killed are left out.
    """
    import h5py

    with h5py.File(path, "r", libver="latest", swmr=True) as file:
        growing = [name for name in file if file[name].maxshape[0] is None]
        index, numbers = file["system_index"][...], file["numbers"][...]
        pbc, masses = file["pbc"][...], file["masses"][...]
        for frame in range(min(len(file[name]) for name in growing)):
            data = {name: file[name][frame] for name in growing}
            for k in range(len(pbc)):
                own = index == k
                atoms = Atoms(numbers[own], np.asarray(data["positions"][own], float), masses=masses[own])
                atoms.set_cell(data["cell"][k])
                atoms.set_pbc(pbc[k])
                if "velocities" in data:
                    atoms.set_velocities(np.asarray(data["velocities"][own], float))
                arrays = {"forces": np.asarray(data["forces"][own], float)} if "forces" in data else {}
                info = {
                    "energy": float(data["potential_energy"][k]),
                    "step": int(data["step"]),
                    "time_ps": float(data["time_ps"][k]),
                    "group": f"{path.name}, system {k}",
                }
                yield RawFrame(
                    atoms=atoms, where=f"{path.name}, frame {frame}, system {k}", info=info, arrays=arrays
                )


def ani_h5(path: Path, energy_unit: str | None) -> Iterator[RawFrame]:
    """ANI-style HDF5: groups with atomic_numbers (or species) and coordinates; every other dataset is a label
    under its own name, e.g. 'wb97x_dz.energy' and 'wb97x_dz.forces' (hartree).

    One molecule's conformers are one group. Frames whose coordinates are all present but whose label is NaN
    (ANI-1x marks absent labels so) come without that label.
    """
    import h5py

    if energy_unit is None:
        raise ValueError(
            f"{path.name}: the file does not state its unit; give energy_unit='Ha' (ANI-1, ANI-1x) or 'eV'."
        )
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise FormatError(f"{path.name} is not a readable HDF5 file: {error}") from error
    with file:
        found: list[str] = []
        file.visititems(lambda name, item: found.append(name) if _is_molecule(item) else None)
        if not found:
            raise FormatError(f"{path.name} holds no group with coordinates and atomic_numbers (or species).")
        for name in found:
            yield from _ani_group(file[name], name, path)


def _is_molecule(item: Any) -> bool:
    return hasattr(item, "keys") and "coordinates" in item and ("atomic_numbers" in item or "species" in item)


def _ani_group(group: Any, name: str, path: Path) -> Iterator[RawFrame]:
    from ase.data import atomic_numbers

    if "atomic_numbers" in group:
        numbers = group["atomic_numbers"][()].astype(np.int64).ravel()
    else:
        words = [s.decode() if isinstance(s, bytes) else str(s) for s in group["species"][()]]
        numbers = np.array([atomic_numbers[s] for s in words], dtype=np.int64)
    positions = group["coordinates"]
    frames = len(positions)
    if positions.shape[1:] != (len(numbers), 3):
        raise FormatError(
            f"{path.name}, {name}: coordinates have shape {positions.shape} for {len(numbers)} atoms."
        )
    labels = [
        (key, group[key])
        for key in group
        if key not in ("coordinates", "atomic_numbers", "species")
        and getattr(group[key], "shape", ())[:1] == (frames,)
        and group[key].dtype.kind in "fiu"
    ]
    for k in range(frames):
        info: dict[str, Any] = {"group": name}
        arrays = {}
        for key, column in labels:
            value = np.asarray(column[k], dtype=np.float64)
            if np.isnan(value).all():
                continue
            if value.shape[:1] == (len(numbers),):
                arrays[key] = value
            else:
                info[key] = float(value) if value.ndim == 0 else value
        atoms = Atoms(numbers=numbers, positions=positions[k])
        yield RawFrame(atoms=atoms, where=f"{path.name}, {name}, frame {k}", info=info, arrays=arrays)
