"""What single precision costs."""

import numpy as np
import torch
from ase import Atoms
from jaxtyping import Float

from rikiba.calculators.base import Calculator
from rikiba.core.system import System
from rikiba.md.ensembles.nve import NVE
from rikiba.md.reporters.in_memory import InMemory
from rikiba.md.simulation import Simulation
from rikiba.md.state import maxwell_boltzmann

from .checks import Check, Subject


def single_against_double(subject: Subject, atoms: Atoms) -> list[Check]:
    """What a potential loses in float32: in one force call, and over a few steps at constant energy."""
    if subject.potential is None or next(iter(subject.potential.parameters()), None) is None:
        return [Check.skipped("float32 against float64", "no parameters whose precision could be changed")]
    single, double = subject.at_precision(torch.float32), subject.at_precision(torch.float64)
    return [one_call(single, double, atoms), constant_energy(single, double, atoms)]


def one_call(single: Subject, double: Subject, atoms: Atoms) -> Check:
    """Largest force difference between float32 and float64 copies of a potential, beside the energy's."""
    name = "float32 against float64"
    f, g = single.forces([atoms])[0], double.forces([atoms])[0]
    e = abs(single.energies([atoms])[0] - double.energies([atoms])[0]) / len(atoms)
    scale = max(float(np.abs(g).max()), 1.0)
    error = float(np.abs(f - g).max())
    note = f"ΔF {error:.1e} eV/Å, ΔE {e:.1e} eV/atom"
    return Check.against(name, error / scale, 1e-3, "relative", note=note)


def constant_energy(
    single: Subject,
    double: Subject,
    atoms: Atoms,
    *,
    temperature_K: float = 300.0,
    timestep_fs: float = 0.5,
    steps: int = 40,
    tolerance_meV_per_atom: float = 0.1,
) -> Check:
    """Largest difference in the change of total energy between both precisions, from the same start.

    Both runs share the oscillation that the timestep causes, so what is left is the precision's. The note
    gives the drift of each, a straight line through H(t).
    """
    h32, h64 = (
        total_energy(s.calculator, atoms, temperature_K=temperature_K, timestep_fs=timestep_fs, steps=steps)
        for s in (single, double)
    )
    time_ps = 1e-3 * timestep_fs * np.arange(steps + 1)
    drift32, drift64 = (float(np.polyfit(time_ps, h, 1)[0]) for h in (h32, h64))
    note = f"NVE drift {drift32:.2g} meV/atom/ps in float32, {drift64:.2g} in float64, over {steps} steps"
    return Check.against(
        "energy is conserved in float32 as in float64",
        float(np.abs(h32 - h64).max()),
        tolerance_meV_per_atom,
        "meV/atom",
        note=note,
    )


def total_energy(
    calculator: Calculator, atoms: Atoms, *, temperature_K: float, timestep_fs: float, steps: int
) -> Float[np.ndarray, "frames"]:
    """H(t) − H(0) at constant energy, meV/atom; the initial velocities depend on the atoms alone."""
    state = maxwell_boltzmann(System.from_ase(atoms), temperature_K, seed=0)
    kept = InMemory(positions=False)
    Simulation(calculator, NVE(), state, timestep_fs=timestep_fs, reporters=[kept]).run(steps)
    energy = kept.conserved[:, 0].numpy()
    return 1e3 * (energy - energy[0]) / len(atoms)
