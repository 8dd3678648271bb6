"""Structures and measurements that the tests of potentials share."""

from typing import Any, TypeVar

import numpy as np
import torch
from ase import Atoms
from ase.build import molecule

from rikiba.calculators.autograd import evaluate, run_program
from rikiba.core.pairs import find_pairs
from rikiba.core.results import Results
from rikiba.core.system import System
from rikiba.data.dataset import Dataset, Labelled
from rikiba.potentials.base import Potential, Program
from rikiba.potentials.morse import Morse

Model = TypeVar("Model", bound=Potential)
MORSE = Morse(
    depth_eV={"Si-Si": 0.8, "O-Si": 1.2, "O-O": 0.5},
    alpha_per_A={"Si-Si": 1.4, "O-Si": 1.5, "O-O": 1.6},
    distance={"Si-Si": 2.3, "O-Si": 1.7, "O-O": 1.9},
    cutoff=4.0,
)


def structures(seed: int) -> System:
    """Triclinic cells smaller than the cutoff, a slab, a molecule, an isolated atom; 28 atoms."""
    rng = np.random.default_rng(seed)
    out = [Atoms("Si"), Atoms("OSi", [[0, 0, 0], [9.0, 0, 0]])]
    for n, pbc in ((3, True), (5, (True, True, False)), (17, False)):
        cell = np.diag([3.5, 4.0, 5.0]) * (1.0 if n < 10 else 1.8) + 0.5 * rng.normal(size=(3, 3))
        symbols = rng.choice(["Si", "O"], n)
        out.append(Atoms(symbols, scaled_positions=rng.random((n, 3)), cell=cell, pbc=pbc))
    return System.from_ase(out)


def close(a: torch.Tensor, b: torch.Tensor, tolerance: float) -> bool:
    scale = max(float(b.nan_to_num().abs().max()), 1.0)
    return float((a - b).nan_to_num().abs().max()) < tolerance * scale


def answer(model: Potential, atoms: Atoms | list[Atoms], *, stress: bool = False) -> Results:
    system = System.from_ase(atoms)
    return evaluate(model, system, find_pairs(system, model.cutoff), forces=True, stress=stress)


def energy(model: Potential, atoms: Atoms) -> float:
    system = System.from_ase(atoms)
    return float(evaluate(model, system, find_pairs(system, model.cutoff), forces=False).need("energy"))


def ethanol(seed: int = 0, amplitude: float = 0.1) -> Atoms:
    atoms = molecule("CH3CH2OH")
    atoms.positions += np.random.default_rng(seed).normal(0, amplitude, atoms.positions.shape)
    return atoms


def orthogonal(seed: int, improper: bool) -> np.ndarray:
    q, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    return q * np.sign(np.linalg.det(q)) * (-1 if improper else 1)


def bent(angle_degrees: float) -> Atoms:
    """O–C–O with bonds of 2.2 Å and no contact between the ends within 3 Å."""
    a = np.radians(angle_degrees)
    return Atoms("COO", [[0, 0, 0], [2.2, 0, 0], [2.2 * np.cos(a), 2.2 * np.sin(a), 0]])


def differences(
    model: Potential, atoms: Atoms, direction: np.ndarray, strain: np.ndarray, h: float = 2e-5
) -> tuple[float, float]:
    """Central differences of the energy along displacements and along a strain."""
    slopes = []
    for kind in ("positions", "cell"):
        energies = []
        for sign in (1, -1):
            moved = atoms.copy()
            if kind == "positions":
                moved.positions += sign * h * direction
            else:
                moved.set_cell(atoms.cell.array @ (np.eye(3) + sign * h * strain), scale_atoms=True)
            energies.append(energy(model, moved))
        slopes.append((energies[0] - energies[1]) / (2 * h))
    return slopes[0], slopes[1]


def derivatives_of_pair(model: Potential, symbols: str, r: float, orders: int) -> list[float]:
    """Energy of a dimer and its derivatives with respect to the distance."""
    system = System.from_ase(Atoms(symbols, [[0, 0, 0], [0, 0, r]]))
    pairs = find_pairs(system, model.cutoff)
    x = torch.tensor(r, dtype=torch.float64, requires_grad=True)
    moved = pairs.with_vectors(pairs.vectors(system).detach().sign() * x)
    value, found = model(system, moved).need("energies").sum(), []
    for _ in range(orders + 1):
        found.append(float(value.detach()))
        (value,) = torch.autograd.grad(value, x, create_graph=True)
    return found


def labelled(n: int, seed: int) -> Dataset:
    """Small clusters of O and Si with the energies and forces of a Morse potential."""
    rng = np.random.default_rng(seed)
    sites = np.array([[0, 0, 0], [1.9, 0, 0], [0, 2.0, 0], [0, 0, 2.1], [1.8, 1.9, 0.3]])
    frames = []
    for _ in range(n):
        atoms = Atoms(rng.choice(["O", "Si"], 5), sites + rng.normal(0, 0.12, sites.shape))
        results = answer(MORSE, atoms).replace(energies=None)
        frames.append(Labelled(system=System.from_ase(atoms), results=results, level_of_theory="Morse"))
    return Dataset(frames)


def with_biases(model: Model) -> Model:
    """In float64, with biases that are not zero, as they are at the start, which would hide them."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "bias" in name:
                p.add_(0.3 * torch.randn(p.shape, generator=generator))
    return model.double()


def compared(
    program: Program | None, model: Potential, system: System, cutoff: float, *, stress: bool = True
) -> tuple[Results, Results]:
    """What the program says, and what automatic differentiation of the model does."""
    assert program is not None
    pairs = find_pairs(system, cutoff)
    return run_program(program, system, pairs, stress=stress), evaluate(model, system, pairs, stress=stress)


def both(
    model: Potential, atoms: list[Atoms], cutoff: float = 4.0, **options: Any
) -> tuple[Results, Results]:
    """What the definition and its program answer; the stress too where all structures have a volume."""
    system = System.from_ase(atoms)
    program = model.program(**options)  # type: ignore[call-arg]
    found, defined = compared(program, model, system, cutoff, stress=bool(system.has_volume.all()))
    return defined, found


def difference(pair: tuple[Results, Results], name: str) -> float:
    a, b = (r.need(name).double() for r in pair)
    return float((a - b).abs().max()) if a.numel() else 0.0
