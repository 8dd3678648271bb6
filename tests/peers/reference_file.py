"""What makers of reference files share; needs numpy and ASE alone, which the peers' environments have.

A file holds the weights of a model as `state/NAME`, what the model answers for each structure as
`structures/STRUCTURE/KEY`, and what there is to know as JSON under `about`.
"""

import argparse
import json
import sys
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

Arrays = dict[str, np.ndarray]


def answers(structures: Mapping[str, Atoms], evaluate: Callable[[Atoms], Mapping[str, Any]]) -> Arrays:
    """The structures, with what a model answers for them."""
    arrays: Arrays = {}
    for name, atoms in structures.items():
        given = {
            "numbers": atoms.numbers,
            "positions": atoms.positions,
            "cell": atoms.cell.array,
            "pbc": atoms.pbc,
        }
        for key, value in (given | dict(evaluate(atoms))).items():
            arrays[f"structures/{name}/{key}"] = np.asarray(value)
    return arrays


def save(folder: Path, arrays: Arrays, about: Mapping[str, Any]) -> Path:
    """One compressed file, named after the case that `about` is of."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{about['case']}.npz"
    np.savez_compressed(path, **arrays, about=np.array(json.dumps(about)))  # type: ignore[arg-type]
    return path


def largest_forces(path: Path) -> str:
    """Of each structure in a file, in a line."""
    found = np.load(path)
    largest = {k.split("/")[1]: float(np.abs(found[k]).max()) for k in found if k.endswith("/forces")}
    return ", ".join(f"{name} {value:.3g}" for name, value in largest.items())


def named(parser: argparse.ArgumentParser, known: Collection[str]) -> argparse.Namespace:
    """The options of a command line, whose `cases` are those named, or all; one that is not known ends it."""
    parser.add_argument("cases", nargs="*", default=[], help="names of cases; all when none is given")
    options = parser.parse_args()
    for case in options.cases:
        if case not in known:
            sys.exit(f"no case {case!r}; there are: {', '.join(known)}")
    options.cases = options.cases or list(known)
    return options


def write_named(about: str | None, known: Collection[str], write: Callable[[str], Path]) -> None:
    """Write the cases named on the command line, or all."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawTextHelpFormatter)
    for case in named(parser, known).cases:
        path = write(case)
        size = path.stat().st_size / 1024
        print(f"{case}: {size:.0f} kB, largest forces {largest_forces(path)}", flush=True)
