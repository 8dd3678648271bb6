"""Import deepmd-kit's PyTorch backend under a torch that its library of extra operations was not built for.

The library (communication and tables of compressed models) is not loaded; nothing here uses it.
"""

from pathlib import Path
from typing import Any

import numpy as np


def backend() -> Any:
    """The module `deepmd.pt.model.model`."""
    import deepmd.env

    deepmd.env.SHARED_LIB_DIR = Path("not-loaded")
    import deepmd.pt.model.model as found

    return found


def evaluate(model: Any, atoms: Any) -> dict[str, np.ndarray]:
    """Energy, energies per atom, forces and, where periodic, stress: eV, eV/Å, eV/Å³."""
    import torch

    names = model.get_type_map()
    types = torch.tensor([[names.index(s) for s in atoms.symbols]])
    box = torch.tensor(atoms.cell.array).reshape(1, 9) if atoms.pbc.all() else None
    positions = torch.tensor(atoms.positions).reshape(1, -1).requires_grad_()
    found = model(positions, types, box=box)
    out = {
        "energy": found["energy"].detach().numpy().reshape(()),
        "node_energy": found["atom_energy"].detach().numpy().reshape(-1),
        "forces": found["force"].detach().numpy()[0],
    }
    if atoms.pbc.all():
        # theirs is −∂E/∂strain
        out["stress"] = -found["virial"].detach().numpy().reshape(3, 3) / atoms.get_volume()
    return out
