"""What single precision costs."""

import numpy as np
import torch
from ase import Atoms

from .checks import Check, Subject


def single_against_double(subject: Subject, atoms: Atoms) -> Check:
    """Largest force difference between float32 and float64 copies of a potential, beside the energy's."""
    name = "float32 against float64"
    if subject.potential is None or next(iter(subject.potential.parameters()), None) is None:
        return Check.skipped(name, "no parameters whose precision could be changed")
    single, double = subject.at_precision(torch.float32), subject.at_precision(torch.float64)
    f, g = single.forces([atoms])[0], double.forces([atoms])[0]
    e = abs(single.energies([atoms])[0] - double.energies([atoms])[0]) / len(atoms)
    scale = max(float(np.abs(g).max()), 1.0)
    error = float(np.abs(f - g).max())
    note = f"ΔF {error:.1e} eV/Å, ΔE {e:.1e} eV/atom"
    return Check.against(name, error / scale, 1e-3, "relative", note=note)
