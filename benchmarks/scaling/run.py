"""Cost against size, additivity and locality of every registered potential.

    python benchmarks/scaling/run.py                       # every family that has no row yet
    python benchmarks/scaling/run.py --only mace schnet    # these again
    python benchmarks/scaling/run.py --seconds 5           # no call longer than 5 s

One thread of torch, processor time. Each family is the first of its `examples()`, arguments of `SETTINGS`
changed where it has some: untrained weights of a modest size. A new file in rikiba/potentials gets its row
without a change here. Rows are written as they come, so an interrupted run goes on where it stopped.
"""

import argparse
import copy
import json
import os
import platform
import time
from collections.abc import Sequence
from dataclasses import asdict
from math import isinf
from pathlib import Path
from typing import Any

import torch
from ase import Atoms
from ase.build import bulk

from rikiba.calculators.autograd import PotentialCalculator
from rikiba.core import registry
from rikiba.potentials.base import Potential
from rikiba.testing.building import examples_of
from rikiba.validation.checks import Subject, default_structures
from rikiba.validation.locality import excess_of_two
from rikiba.validation.scaling import (
    atoms_within,
    exponent,
    halo_atoms,
    influence,
    near_size,
    rod,
    times_by_size,
)

RESULTS = Path(__file__).resolve().with_name("results.json")

SIZES = (100, 300, 1000, 3000, 10_000)
"""Numbers of atoms, about."""

MOVE = (0.15, -0.1, 0.2)
"""Å, of the atom whose influence is measured."""

GAP = 2.0
"""Å beyond the receptive field between two fragments."""

ROUNDING = 1e-14
"""eV and eV/Å: changes that another order of the same sums makes."""

SETTINGS: dict[str, dict[str, Any]] = {
    "allegro": {"cutoff": 4.5, "scalar_channels": 32, "tensor_channels": 8},
    "ani": {"hidden": (32, 16)},
    "behler_parrinello": {"n_radial": 8, "hidden": (16, 16)},
    "chgnet": {"cutoff": 4.5, "channels": 32},
    "coulomb": {"cutoff": 9.0, "tolerance": 1e-5, "order": 6},
    "deep_potential": {"embedding": (8, 16), "fitting": (32, 32)},
    "equivariant_transformer": {"cutoff": 4.5, "channels": 32},
    "gap": {
        "terms": [{"kind": "soap", "cutoff": 4.0, "n_max": 4, "l_max": 3, "n_sparse": 50, "delta": 0.5}],
        "variance": "none",
    },
    "hdnnp_3g": {"ewald_tolerance": 1e-6},
    "hdnnp_4g": {"ewald_tolerance": 1e-6},
    "m3gnet": {"cutoff": 4.5, "channels": 32},
    "mace": {"cutoff": 4.5, "channels": 32, "correlation": 3, "radial_widths": (32,)},
    "nequip": {"cutoff": 4.5, "channels": 16, "l_max": 1, "n_layers": 3, "radial_widths": (32,)},
    "painn": {"cutoff": 4.5, "channels": 64, "n_layers": 3},
    "schnet": {"cutoff": 4.5, "channels": 64, "n_layers": 3, "n_radial": 20},
    "snap": {"twojmax": 6},
    "tensornet": {"cutoff": 4.5, "channels": 32},
}
"""Arguments changed from those of the family's first example."""


def instance(name: str) -> Potential:
    """The family at a modest size."""
    cls = registry.load("potentials", name)
    example: Potential = examples_of(cls)[0]
    changed = SETTINGS.get(name)
    return example if changed is None else cls(**{**example.arguments, **changed})


def silica() -> Atoms:
    """β-cristobalite, idealised, of the density that it has: 24 atoms in a cube of 7.16 Å."""
    silicon = bulk("Si", "diamond", a=7.16, cubic=True)
    bridges = []
    for i in range(len(silicon)):
        distance = silicon.get_distances(i, range(len(silicon)), mic=True)
        vectors = silicon.get_distances(i, range(len(silicon)), mic=True, vector=True)
        near = [j for j in range(len(silicon)) if i < j and distance[j] < 3.2]
        bridges += [silicon.positions[i] + 0.5 * vectors[j] for j in near]
    out: Atoms = silicon + Atoms(["O"] * len(bridges), bridges)
    out.wrap()
    return out


def crystal(elements: Sequence[str], cutoff: float) -> tuple[str, Atoms]:
    """A crystal of elements that the potential knows, with its name."""
    known = set(elements)
    if {"Si", "O"} <= known:
        return "silica", silica()
    if "Si" in known:
        return "silicon", bulk("Si", "diamond", a=5.431, cubic=True)
    if {"Na", "Cl"} <= known:
        return "rock salt", bulk("NaCl", "rocksalt", a=5.64, cubic=True)
    if {"Ni", "Cu"} <= known:
        alloy = bulk("Ni", "fcc", a=3.57, cubic=True)
        alloy.symbols[:2] = "Cu"
        return "copper–nickel", alloy
    return "any", default_structures(elements, cutoff)["triclinic crystal"]


def exemption(potential: Potential) -> str | None:
    """Why cost, additivity and locality are not required of it; None where they are."""
    if potential.fixed_topology:
        return "its atoms have places in one topology: no other sizes"
    if not potential.additive:
        return "charge is shared out over all atoms, however far apart"
    if isinf(potential.receptive_field):
        return "acts at any distance (long-range sums)"
    return None


def additivity(subject: Subject, block: Atoms) -> dict[str, Any]:
    """Two halves of a block, cut from the crystal, beyond each other's reach."""
    block = block.copy()
    block.pbc = False
    half = len(block) // 3
    energy, force, largest = excess_of_two(subject, block[:half], block[half:], GAP + subject.receptive_field)
    error, t = abs(energy) / len(block), subject.tolerance
    sound = error <= t.energy and force <= t.force * max(largest, 1.0)
    return {
        "energy_eV_per_atom": error,
        "forces_eV_per_A": force,
        "atoms": len(block),
        "verdict": "pass" if sound else "fail",
    }


def locality(subject: Subject, cell: Atoms) -> dict[str, Any]:
    """What one atom at the end of a rod changes beyond its reach (nothing) and within it (control)."""
    radius = subject.receptive_field
    atoms = rod(cell, 2.0 * radius + 6.0)
    found = influence(subject, atoms, int(atoms.positions[:, 2].argmin()), MOVE)
    energy, force = found.beyond(radius)
    reach_energy, reach_force = found.reach(above=ROUNDING)
    changed = float(found.energies.max())
    exact = energy == force == 0.0
    sound = changed > 1e6 * ROUNDING and max(energy, force) <= ROUNDING
    return {
        "atoms": len(atoms),
        "energy_beyond_eV": energy,
        "forces_beyond_twice_eV_per_A": force,
        "energy_within_eV": changed,
        "forces_within_eV_per_A": float(found.forces.max()),
        "reach_of_energy_A": reach_energy,
        "reach_of_forces_A": reach_force,
        "hops_reached": found.hops_reached(above=ROUNDING),
        "verdict": "fail" if not sound else "pass" if exact else "to rounding",
    }


def measured(name: str, potential: Potential, *, sizes: Sequence[int], limit: float) -> dict[str, Any]:
    """The row of one potential."""
    reason = exemption(potential)
    row: dict[str, Any] = {
        "family": name,
        "settings": {k: v for k, v in SETTINGS.get(name, {}).items() if k in potential.arguments},
        "learned": potential.learned,
        "precision": str(potential.dtype).removeprefix("torch."),
        "parameters": sum(p.numel() for p in potential.parameters()),
        "cutoff_A": potential.cutoff,
        "exempt": reason,
    }
    if potential.fixed_topology:
        return row
    label, cell = crystal(potential.elements, potential.cutoff)
    calculator = PotentialCalculator(potential, skin=0.0)
    done, left = times_by_size(calculator, cell, sizes, limit=limit, clock=time.process_time)
    row |= {
        "crystal": label,
        "times": [{"atoms": n, "seconds": t} for n, t in done],
        "left_out": [{"atoms": n, "expected_s": t} for n, t in left],
        "us_per_atom": 1e6 * done[-1][1] / done[-1][0],
    }
    if len(done) > 1:
        fit = exponent(*zip(*done, strict=True))
        row["exponent"] = asdict(fit) | {"verdict": "exempt" if reason else fit.verdict}
    if reason is None:
        small = near_size(cell, 100)
        subject = Subject.of(copy.deepcopy(potential).double())
        row |= {
            "receptive_field_A": potential.receptive_field,
            "atoms_in_receptive_field": atoms_within(small, potential.receptive_field),
            "halo_of_1000_atoms": halo_atoms(small, potential.receptive_field),
            "additivity": additivity(subject, small),
            "locality": locality(subject, cell),
        }
    return row


def kept(path: Path) -> dict[str, Any]:
    """Rows so far, by family."""
    return json.loads(path.read_text())["families"] if path.exists() else {}


def write(path: Path, rows: dict[str, Any]) -> None:
    """All rows, in the order of their names."""
    about = {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count(), "threads": 1}
    found = {"about": about, "families": {name: rows[name] for name in sorted(rows)}}
    path.with_suffix(".part").write_text(json.dumps(found, indent=1) + "\n")
    path.with_suffix(".part").replace(path)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Cost against size, additivity, locality of every family.")
    parser.add_argument("--only", nargs="+", metavar="FAMILY", help="these, measured again")
    parser.add_argument("--sizes", nargs="+", type=int, default=SIZES, help="numbers of atoms, about")
    parser.add_argument("--seconds", type=float, default=20.0, help="no call that would take longer")
    parser.add_argument("--output", type=Path, default=RESULTS)
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    rows = kept(given.output)
    every = registry.names("potentials")
    unknown = [n for n in given.only or () if n not in every]
    if unknown:
        parser.error(f"there is no potential '{unknown[0]}'; known are {', '.join(every)}")
    for name in given.only or [n for n in every if n not in rows]:
        began = time.perf_counter()
        row = measured(name, instance(name), sizes=given.sizes, limit=given.seconds)
        row |= {"load": os.getloadavg()[0], "wall_s": time.perf_counter() - began}
        rows[name] = row
        write(given.output, rows)
        fit = row.get("exponent")
        growth = f"N^{fit['value']:.2f}±{fit['error']:.2f}, {row['us_per_atom']:.1f} µs/atom, " if fit else ""
        verdicts = [row[k]["verdict"] for k in ("exponent", "additivity", "locality") if k in row]
        print(f"{name}: {growth}{row['exempt'] or ', '.join(verdicts)} ({row['wall_s']:.0f} s)", flush=True)


if __name__ == "__main__":
    main()
