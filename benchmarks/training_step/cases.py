"""What is trained in the comparison: structures and models, with no more than ASE imported."""

from collections.abc import Callable
from time import process_time
from typing import Any

from ase import Atoms
from ase.build import bulk, molecule

CUTOFF = 5.0

CASES: dict[str, dict[str, Any]] = {
    "MACE 128x0e": {"peer": "mace", "channels": 128, "max_L": 0, "structure": "4 x Si64"},
    "MACE 128x0e+128x1o": {"peer": "mace", "channels": 128, "max_L": 1, "structure": "4 x Si64"},
    "NequIP 64, l=1": {"peer": "nequip", "channels": 64, "l_max": 1, "structure": "4 x Si64"},
    "SchNet 128": {"peer": "schnetpack", "model": "SchNet", "channels": 128, "structure": "4 x Si64"},
    "PaiNN 128": {"peer": "schnetpack", "model": "PaiNN", "channels": 128, "structure": "4 x Si64"},
    "MACE 16x0e+16x1o, ethanol": {"peer": "mace", "channels": 16, "max_L": 1, "structure": "5 x ethanol"},
    "MACE 32x0e+32x1o, ethanol": {"peer": "mace", "channels": 32, "max_L": 1, "structure": "5 x ethanol"},
}


def frames(structure: str) -> list[Atoms]:
    """Rattled copies; 28 neighbours an atom in silicon."""
    count, name = structure.split(" x ")
    made = []
    for k in range(int(count)):
        atoms = molecule("CH3CH2OH") if name == "ethanol" else bulk("Si", a=5.431, cubic=True).repeat(2)
        atoms.rattle(0.05, seed=k)
        made.append(atoms)
    return made


def seconds(task: Callable[[], Any], calls: int) -> list[float]:
    """Processor time of each call: one thread does all the work, and others on the machine do not count."""
    found = []
    for _ in range(calls):
        start = process_time()
        task()
        found.append(process_time() - start)
    return found
