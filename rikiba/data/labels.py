"""From what stands in a file to labels: named keys, units and signs, and errors that say what was found."""

import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, final

import numpy as np
import torch
from ase import Atoms

from rikiba.core import units
from rikiba.core.results import QUANTITIES, Results
from rikiba.core.system import System

from .dataset import Labelled
from .extxyz import FormatError, RawFrame

ENERGY_UNITS = {
    "eV": 1.0,
    "kcal/mol": units.kilocalorie_per_mole,
    "kJ/mol": units.kilojoule_per_mole,
    "Ha": units.hartree,
    "Ry": units.rydberg,
}
STRESS_UNITS = {"eV/Å^3": 1.0, "GPa": units.gigapascal, "kbar": 1000.0 * units.bar}
EnergyUnit = Literal["eV", "kcal/mol", "kJ/mol", "Ha", "Ry"]
StressUnit = Literal["eV/Å^3", "GPa", "kbar"]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Keys:
    """Where a file keeps its labels and in which unit; lengths are Å.

    `energy_unit` applies to energies (those of atoms too), to forces (per Å) and to virials. A stress is
    ASE's (tension > 0) unless `compression_positive`; a virial is −∂E/∂ε = −stress·V. Stress and virial are
    read only where their key is named, as 6 Voigt numbers (xx yy zz yz xz xy), 9 numbers or a 3×3 matrix.
    """

    energy: str = "energy"
    forces: str = "forces"
    stress: str | None = None
    virial: str | None = None
    charge: str = "charge"
    spin: str = "spin"
    group: str = "group"
    other: Mapping[str, str] = field(default_factory=dict)
    """Further labels: quantity ('charges', 'dipole', 'magmoms', 'energies') → key."""
    energy_unit: EnergyUnit | None = None
    stress_unit: StressUnit = "eV/Å^3"
    compression_positive: bool = False

    def __post_init__(self) -> None:
        if self.stress and self.virial:
            raise ValueError("Name stress_key or virial_key, not both.")
        for name in self.other:
            if name not in QUANTITIES or name in ("energy", "forces", "stress"):
                allowed = sorted(set(QUANTITIES) - {"energy", "forces", "stress"})
                raise ValueError(f"other has '{name}'; further labels are {', '.join(allowed)}.")
        for unit, known in ((self.energy_unit, ENERGY_UNITS), (self.stress_unit, STRESS_UNITS)):
            if unit is not None and unit not in known:
                raise ValueError(f"Unit '{unit}' is not known; allowed are {', '.join(known)}.")


def label(
    raw: RawFrame, keys: Keys, level_of_theory: str | None, group: str | None, need: Sequence[str]
) -> Labelled:
    """A raw frame with its labels found and checked; raises ValueError that names the frame."""
    info = dict(raw.info)
    level = _level_of_theory(raw, info.pop("level_of_theory", None), level_of_theory)
    factor = ENERGY_UNITS[keys.energy_unit or "eV"]
    n = len(raw.atoms)
    found: dict[str, np.ndarray | None] = {
        "energy": _scaled(_array(raw, "energy", keys.energy, ()), factor),
        "forces": _scaled(_array(raw, "forces", keys.forces, (n, 3)), factor),
        "stress": _stress(raw, keys, factor),
    }
    for name, key in keys.other.items():
        shape = QUANTITIES[name].shape
        value = _array(raw, name, key, (n, *shape) if QUANTITIES[name].per == "atom" else shape)
        found[name] = _scaled(value, factor if name == "energies" else 1.0)
    for name in need:
        if found[name] is None:
            raise ValueError(_missing(raw, name, _key_of(keys, name)))
    used = {keys.energy, keys.forces, keys.stress, keys.virial, keys.charge, keys.spin, *keys.other.values()}
    own_group = info.pop(keys.group, None)
    charge, spin = _array(raw, "charge", keys.charge, ()), _array(raw, "spin", keys.spin, ())
    weights, noise = _prefixed(info, "weight_"), _prefixed(info, "noise_")
    atoms = raw.atoms.copy()
    atoms.info = {k: v for k, v in info.items() if k not in used}
    if charge is not None:
        atoms.info["charge"] = float(charge)
    if spin is not None:
        atoms.info["spin"] = round(float(spin))
    return Labelled(
        system=_system(atoms, raw.where),
        results=_results(found),
        level_of_theory=level,
        group=group if group is not None else "" if own_group is None else str(own_group),
        source=raw.where,
        weights=weights,
        noise=noise,
    )


def _system(atoms: Atoms, where: str) -> System:
    try:
        system = System.from_ase(atoms)
    except ValueError as error:
        raise FormatError(f"{where}: {error}") from error
    # charge and spin live in their own fields
    info = {k: v for k, v in atoms.info.items() if k not in ("charge", "spin")}
    return system.replace(info=(info,))


def _results(found: Mapping[str, np.ndarray | None]) -> Results:
    values: dict[str, Any] = {}
    for name, value in found.items():
        if value is not None:
            tensor = torch.from_numpy(np.array(value, dtype=np.float64))
            values[name] = tensor if QUANTITIES[name].per == "atom" else tensor[None]
    return Results(**values)


def _prefixed(info: dict[str, Any], prefix: str) -> dict[str, float]:
    names = [k for k in info if k.startswith(prefix)]
    return {k[len(prefix) :]: float(info.pop(k)) for k in names}


def _level_of_theory(raw: RawFrame, own: Any, given: str | None) -> str:
    if own is not None and given is not None and str(own) != given:
        raise ValueError(f"{raw.where}: the file says level of theory '{own}', the argument says '{given}'.")
    level = given if own is None else str(own)
    if not level:
        raise ValueError(
            f"{raw.where}: which level of theory made these labels? Say it with level_of_theory='…' "
            f"(e.g. 'PBE/def2-SVP') or in the file's info under level_of_theory."
        )
    return level


def _array(raw: RawFrame, name: str, key: str, shape: tuple[int, ...]) -> np.ndarray | None:
    """The value under a key, wherever it stands, as finite float64 of the wanted shape; None if absent."""
    hits = [np.asarray(place[key]) for place in (raw.results, raw.info, raw.arrays) if key in place]
    if not hits:
        return None
    if any(h.dtype.kind not in "fiu" for h in hits):
        raise ValueError(f"{raw.where}: '{key}' is not numeric; found {hits[0].ravel()[:3].tolist()}.")
    values = [h.astype(np.float64) for h in hits]
    if any(v.shape != values[0].shape or not np.allclose(v, values[0]) for v in values[1:]):
        raise ValueError(f"{raw.where}: '{key}' stands in two places with different values.")
    value = values[0]
    if value.size == int(np.prod(shape)) and value.ndim <= 1 and len(shape) <= 1:
        value = value.reshape(shape)
    if shape != (-1,) and value.shape != shape:
        raise ValueError(f"{raw.where}: {name} '{key}' has shape {value.shape}; {shape} is needed.")
    if not np.isfinite(value).all():
        raise ValueError(f"{raw.where}: {name} '{key}' is not finite. Remove the frame or label it again.")
    return value


def _scaled(value: np.ndarray | None, factor: float) -> np.ndarray | None:
    return None if value is None else value * factor


def _stress(raw: RawFrame, keys: Keys, energy_factor: float) -> np.ndarray | None:
    key = keys.stress or keys.virial
    if key is None:
        return None
    value = next((p[key] for p in (raw.results, raw.info, raw.arrays) if key in p), None)
    if value is None:
        return None
    flat = np.asarray(value)
    if flat.dtype.kind not in "fiu" or flat.shape not in ((6,), (9,), (3, 3)):
        raise ValueError(
            f"{raw.where}: '{key}' has shape {flat.shape}; 6 (Voigt), 9 or 3×3 numbers are needed."
        )
    if not np.isfinite(flat).all():
        raise ValueError(f"{raw.where}: stress '{key}' is not finite. Remove the frame or label it again.")
    voigt = flat.astype(np.float64)
    matrix = voigt[[0, 5, 4, 5, 1, 3, 4, 3, 2]].reshape(3, 3) if flat.shape == (6,) else voigt.reshape(3, 3)
    if keys.virial:
        volume = abs(np.linalg.det(raw.atoms.cell.array))
        if volume < 1e-12:
            raise ValueError(
                f"{raw.where}: a virial needs a cell to become a stress; the cell has no volume."
            )
        return -matrix * energy_factor / volume
    return matrix * STRESS_UNITS[keys.stress_unit] * (-1.0 if keys.compression_positive else 1.0)


def _key_of(keys: Keys, name: str) -> str:
    if name == "stress":
        return keys.stress or keys.virial or ""
    return keys.energy if name == "energy" else keys.forces if name == "forces" else keys.other[name]


_LOOKS_LIKE = {"energy": "energ|^e$|^e0$", "forces": "forc|grad|^f$", "stress": "stress|virial|sigma"}


def _missing(raw: RawFrame, name: str, key: str) -> str:
    """The message for a label that is not under its key."""
    places = {"info": raw.info, "arrays": raw.arrays, "calculator": raw.results}
    listing = "; ".join(f"{k}: {', '.join(map(str, v)) or 'none'}" for k, v in places.items())
    pattern = _LOOKS_LIKE.get(name, name)
    near = [k for place in places.values() for k in place if re.search(pattern, str(k), re.I)]
    hint = f" Did you mean {name}_key='{near[0]}'?" if near else ""
    return (
        f"{raw.where}: no {name} under '{key}'. Keys found are {listing}.{hint} "
        f"If frames without {name} are meant to be read, leave it out of need."
    )


class Inventory:
    """What a file turned out to hold; says at the end what was left out or is only partly there."""

    def __init__(self) -> None:
        self.total = 0
        self.have: dict[str, int] = {}
        self.stress_like: set[str] = set()

    def add(self, raw: RawFrame, results: Results) -> None:
        self.total += 1
        for q in results.present():
            self.have[q.name] = self.have.get(q.name, 0) + 1
        if results.stress is None:
            keys = [k for place in (raw.results, raw.info) for k in place]
            self.stress_like |= {str(k) for k in keys if re.fullmatch(".*(stress|virial).*", str(k), re.I)}

    def finish(self, name: str, keys: Keys) -> None:
        if self.total == 0:
            raise FormatError(f"{name} holds no frames.")
        for label in ("stress", *keys.other):
            named = label != "stress" or keys.stress or keys.virial
            if named and not self.have.get(label):
                raise ValueError(f"{name}: no frame has {label} under '{_key_of(keys, label)}'.")
        for label, count in self.have.items():
            if count < self.total:
                warnings.warn(
                    f"{name}: {self.total - count} of {self.total} frames have no {label}.", stacklevel=4
                )
        arrays = {k for k in self.stress_like if not re.search("unit|style|sign", k)}
        if arrays and not (keys.stress or keys.virial):
            warnings.warn(
                f"{name} holds {', '.join(sorted(arrays))}, which is not read unless named "
                f"(stress_key with ASE's sign and its unit, or virial_key).",
                stacklevel=4,
            )
