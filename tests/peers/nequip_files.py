"""Reading what make_reference.py of nequip and of nequip-allegro wrote, and comparing with it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms

from rikiba.calculators.autograd import evaluate, run_program
from rikiba.core.pairs import find_pairs
from rikiba.core.system import System
from rikiba.potentials.base import Potential, Program


def load(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    with np.load(path) as f:
        arrays = dict(f)
    return arrays, json.loads(str(arrays["about"]))


def state_of(arrays: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    return {k[6:]: torch.as_tensor(v) for k, v in arrays.items() if k.startswith("state/")}


def worst(
    model: Potential, arrays: dict[str, np.ndarray], about: dict[str, Any], program: Program | None = None
) -> dict[str, float]:
    """Largest difference in energies (eV per atom), forces (eV/Å) and stress (eV/Å³) over all structures."""
    out = {"energies": 0.0, "forces": 0.0, "stress": 0.0}
    for name in about["structures"]:
        s = {k.split("/")[2]: v for k, v in arrays.items() if k.startswith(f"structures/{name}/")}
        atoms = Atoms(numbers=s["numbers"], positions=s["positions"], cell=s["cell"], pbc=s["pbc"])
        system = System.from_ase(atoms)
        pairs = find_pairs(system, model.cutoff)
        if program is None:
            found = evaluate(model, system, pairs, forces=True, stress=True)
        else:
            found = run_program(program, system, pairs, stress=True)
        expected = {"energies": s["node_energy"], "forces": s["forces"]}
        if "stress" in s:
            expected["stress"] = s["stress"][None]
        for key, value in expected.items():
            out[key] = max(out[key], float(np.abs(found.need(key).numpy() - value).max()))
    return out
