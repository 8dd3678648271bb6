"""What a potential costs as elements are added: parameters, memory and time of every learned family.

    python benchmarks/species/run.py                    # every family that has no row yet
    python benchmarks/species/run.py --only mace ani    # these again

Each family is the first of its `examples()`, with as many elements as it is asked to know: hydrogen, then
evenly through the periodic table up to curium (96). One structure of 128 atoms, which has them all, is
evaluated (energy and forces, processor time, one thread, the least of several calls). A family stops where
the next size would have more than `MOST` parameters, as far as its growth so far tells.
"""

import argparse
import json
import os
import platform
import time
import warnings
from collections.abc import Sequence
from itertools import chain
from math import log
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.build import bulk
from ase.data import chemical_symbols

from rikiba.calculators.autograd import PotentialCalculator
from rikiba.core import registry
from rikiba.core.system import System
from rikiba.potentials.base import Potential
from rikiba.testing.building import examples_of

RESULTS = Path(__file__).resolve().with_name("results.json")
COUNTS = (2, 6, 16, 40, 96)
MOST = 2e7
LEFT_OUT = ("sum", "pair_basis", "magnetic_hdnnp")
"""No families of their own; and one whose structures need spins."""


def elements(count: int) -> tuple[str, ...]:
    """So many symbols up to curium, evenly, H among them."""
    numbers = np.unique(np.linspace(1, 96, count).round().astype(int))
    return tuple(chemical_symbols[z] for z in numbers)


def instance(name: str, symbols: Sequence[str]) -> Potential:
    """The family's first example, of other elements."""
    cls = registry.load("potentials", name)
    arguments = {k: v for k, v in examples_of(cls)[0].arguments.items() if not speaks_of_elements(v)}
    potential: Potential = cls(**{**arguments, "elements": symbols})
    return potential


def speaks_of_elements(value: Any) -> bool:
    """Whether an argument belongs to the example's own elements, as weights or charges by symbol do."""
    return isinstance(value, dict) and set(value) <= set(chemical_symbols)


def crystal(symbols: Sequence[str]) -> Atoms:
    """128 sites of a face-centred cubic crystal, rattled, the elements in turn, in no order."""
    atoms = bulk("Cu", "fcc", a=4.6) * (4, 4, 8)
    atoms.symbols = np.random.default_rng(0).permutation(np.resize(symbols, len(atoms)))
    atoms.rattle(0.05, seed=0)
    return atoms


def prepared(potential: Potential, system: System) -> Potential:
    """With sparse points or scales from the structure, where the family takes them from data."""
    from rikiba.core.pairs import find_pairs

    potential.prepare([(system, find_pairs(system, potential.cutoff))])
    return potential


def measured(name: str) -> dict[str, Any]:
    """The row of one family."""
    rows: list[dict[str, Any]] = []
    for count in COUNTS:
        if len(rows) > 1 and rows[-1]["numbers"] * (count / rows[-1]["elements"]) ** growth(rows) > MOST:
            break
        symbols = elements(count)
        system = System.from_ase(crystal(symbols))
        began = time.process_time()
        potential = prepared(instance(name, symbols), system)
        built = time.process_time() - began
        tensors = {id(t): t for t in chain(potential.parameters(), potential.buffers())}.values()
        calculator = PotentialCalculator(potential)
        calculator(system)
        times = []
        for _ in range(5):
            began = time.process_time()
            calculator(system)
            times.append(time.process_time() - began)
        rows.append({
            "elements": count,
            "parameters": sum(p.numel() for p in potential.parameters()),
            "numbers": sum(t.numel() for t in tensors),
            "megabytes": sum(t.numel() * t.element_size() for t in tensors) / 1e6,
            "build_s": built,
            "call_ms": 1e3 * min(times),
        })  # fmt: skip
    return {"family": name, "sizes": rows, "growth": growth(rows), "load": os.getloadavg()[0]}


def growth(rows: Sequence[dict[str, Any]]) -> float:
    """Exponent of the parameters between the last two sizes."""
    a, b = rows[-2:]
    return log(b["numbers"] / a["numbers"]) / log(b["elements"] / a["elements"])


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Cost of families against the number of elements.")
    every = registry.names("potentials")
    learned = [n for n in every if registry.load("potentials", n).learned and n not in LEFT_OUT]
    parser.add_argument("--only", nargs="+", metavar="FAMILY", choices=learned, help="these, again")
    parser.add_argument("--output", type=Path, default=RESULTS)
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", message="The data have")  # fewer environments than sparse points
    rows = json.loads(given.output.read_text())["families"] if given.output.exists() else {}
    for name in given.only or [n for n in learned if n not in rows]:
        rows[name] = measured(name)
        about = {"processor": platform.processor() or platform.machine(), "threads": 1}
        found = {"about": about, "families": {n: rows[n] for n in sorted(rows)}}
        given.output.write_text(json.dumps(found, indent=1) + "\n")
        last = rows[name]["sizes"][-1]
        print(f"{name}: n^{rows[name]['growth']:.2f}; {last}", flush=True)


if __name__ == "__main__":
    main()
