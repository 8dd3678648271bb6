"""Build a structure of a kind (crystal, slab, liquid, ice …) and write it with its provenance."""

import argparse
from pathlib import Path
from typing import Any

from ase import Atoms

from rikiba import config
from rikiba.core.record import Record


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("kind", help="e.g. crystal; `rikiba list structures` names all of them")
    parser.add_argument("-o", "--out", type=Path, required=True, help="file to write, e.g. copper.xyz")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        dest="settings",
        metavar="KEY=VALUE",
        help="one key of the kind (`rikiba explain structure KIND` lists them); may be repeated",
    )


def execute(arguments: argparse.Namespace) -> None:
    from rikiba.data.structures.base import anchored

    from .output import summary

    if arguments.out.is_dir():
        raise config.ConfigError(f"--out '{arguments.out}' is a folder; name the file to write.")
    table = {"kind": arguments.kind, **config.apply_settings({}, arguments.settings)}
    builder = anchored(config.build_kind("data.structures", table, where="[structure]"), Path())
    atoms = builder.build()
    written(arguments.out, atoms)
    print(summary(described(atoms, arguments.kind)))
    print(f"Written: {arguments.out}")


def written(path: Path, atoms: Atoms) -> None:
    """Extended XYZ to the last bit with everything in `info`; any other format as ASE writes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix not in (".xyz", ".extxyz"):
        from ase.io import write

        write(path, atoms)
        return
    from rikiba.data.extxyz import write_frame

    with open(path, "w", encoding="utf-8") as file:
        write_frame(file, atoms, atoms.info, {})


def described(atoms: Atoms, kind: str) -> Record:
    """What was built, as a record."""
    values: dict[str, Any] = {"formula": atoms.get_chemical_formula(), "atoms": len(atoms)}
    if atoms.pbc.any():
        values["cell_lengths_A"] = [round(float(x), 4) for x in atoms.cell.lengths()]
        values["cell_angles_degrees"] = [round(float(x), 3) for x in atoms.cell.angles()]
    plain = (str, int, float, bool, list)
    values |= {k: v for k, v in atoms.info.items() if k != "structure" and isinstance(v, plain)}
    return Record(name="structure", title=f"Structure ({kind})", values=values)
