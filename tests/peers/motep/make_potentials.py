"""Coefficient files of random potentials, written by this project, for motep to read.

Run with this project's interpreter::

    python tests/peers/motep/make_potentials.py

Writes ``reference/<name>.mtp``; `potential(name)` is the potential that each was written from.
"""

from pathlib import Path

import torch

from rikiba.interop.mlip import write_mlip
from rikiba.potentials.mtp import Mtp

FOLDER = Path(__file__).parent / "reference"
ARGUMENTS = {
    "level8": {"elements": ["Si"], "level": 8, "cutoff": 5.0, "r_min": 2.0, "scaling": 1.0},
    "level12": {"elements": ["O", "Si"], "level": 12, "cutoff": 4.5, "r_min": 1.3, "n_radial": 6},
    "level16": {"elements": ["Si"], "level": 16, "cutoff": 5.0, "r_min": 1.9},
}


def potential(name: str) -> Mtp:
    """Coefficients rounded, so that they do not depend on the machine."""
    made = Mtp(**ARGUMENTS[name], envelope_power=2, seed=len(name) + ARGUMENTS[name]["level"])
    with torch.no_grad():
        made.coefficients[: len(made.elements)] = -1.5
        for p in made.parameters():
            p.copy_((p * 2**20).round() / 2**20)
    return made


if __name__ == "__main__":
    for name in ARGUMENTS:
        write_mlip(potential(name), FOLDER / f"{name}.mtp")
