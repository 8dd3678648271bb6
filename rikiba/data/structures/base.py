"""What a builder of starting structures offers, and how a structure says where it comes from."""

import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from ase import Atoms

from rikiba.core import registry, units


@runtime_checkable
class Builder(Protocol):
    """Describes one structure completely; a frozen dataclass whose fields are keys of [structure]."""

    def build(self) -> Atoms:
        """The structure, the same at every call. Raises ValueError where the fields do not make one."""
        ...


def specification(value: Any) -> Any:
    """A builder as a configuration would write it, {"kind": …, …}, its own builders likewise."""
    if isinstance(value, Builder) and not isinstance(value, type):
        kind = registry.name_of("data.structures", type(value))
        arguments = {f.name: specification(getattr(value, f.name)) for f in fields(value)}  # type: ignore[arg-type]
        return {"kind": kind} | {k: v for k, v in arguments.items() if v is not None}
    if isinstance(value, Mapping):
        return {str(k): specification(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [specification(v) for v in value]
    return str(value) if isinstance(value, Path) else value


def anchored(value: Any, folder: Path) -> Any:
    """A builder (and those inside it) with its relative paths taken from `folder`."""
    if isinstance(value, Path):
        return folder / value
    if isinstance(value, Mapping):
        return {k: anchored(v, folder) for k, v in value.items()}
    if is_dataclass(value) and isinstance(value, Builder) and not isinstance(value, type):
        return replace(value, **{f.name: anchored(getattr(value, f.name), folder) for f in fields(value)})
    return value


def made(builder: Builder, atoms: Atoms, **facts: Any) -> Atoms:
    """The structure with its provenance in `info`: `structure`, the specification as JSON, and `facts`.

    A periodic structure gets its `density_g_cm3`.
    """
    for passing in ("occupancy", "adsorbate_info"):
        atoms.info.pop(passing, None)
    atoms.calc = None
    if atoms.pbc.all():
        atoms.info["density_g_cm3"] = density_g_cm3(atoms)
    else:
        atoms.info.pop("density_g_cm3", None)
    atoms.info.update(facts)
    atoms.info["structure"] = json.dumps(specification(builder), ensure_ascii=False)
    return atoms


def density_g_cm3(atoms: Atoms) -> float:
    """Mass density of a periodic structure, g/cm³."""
    return float(atoms.get_masses().sum() / atoms.get_volume() / units.gram_per_cubic_centimetre)


def cubic_box(mass: float, density: float) -> float:
    """Edge in Å of the cube that holds `mass` (u) at `density` (g/cm³)."""
    if not density > 0:
        raise ValueError(f"A density is positive; given {density} g/cm³.")
    return float((mass / (density * units.gram_per_cubic_centimetre)) ** (1.0 / 3.0))


def known_elements(formula: str) -> dict[str, int]:
    """Element → number of atoms of a chemical formula. Raises ValueError for what is none."""
    from ase.data import atomic_numbers
    from ase.formula import Formula

    try:
        count: dict[str, int] = Formula(formula).count()
    except ValueError as error:
        raise ValueError(f"'{formula}' is no chemical formula; write one such as Si or NaCl.") from error
    unknown = sorted(s for s in count if not atomic_numbers.get(s))
    if unknown or not count:
        raise ValueError(
            f"formula '{formula}' has no element {', '.join(unknown)}; write one such as Si."
            if unknown
            else "The formula is empty; write one such as Si."
        )
    return count


def require_periodic(atoms: Atoms, what: str) -> None:
    """Raise ValueError unless the structure is periodic along three axes."""
    if not atoms.pbc.all():
        raise ValueError(f"{what} needs a structure that is periodic along three axes; pbc is {atoms.pbc}.")
