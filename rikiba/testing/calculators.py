"""What every calculator must do."""

from collections.abc import Mapping, Sequence

import torch
from ase import Atoms

from rikiba.calculators.base import Calculator
from rikiba.core.system import System
from rikiba.validation.checks import Precision, Subject, named

from .potentials import check_physics

PHYSICS = (
    "force_consistency",
    "closed_path",
    "stress_consistency",
    "net_force",
    "translation",
    "rotation",
    "permutation",
)


def check_calculator(
    calculator: Calculator,
    structures: Mapping[str, Atoms] | Sequence[Atoms],
    *,
    precision: Precision = "float64",
    cutoff: float | None = None,
) -> None:
    """Shapes, batches and physics of a calculator on the given structures; AssertionError says what is wrong.

    `precision` is 'iterative' for self-consistent methods, whose noise needs looser thresholds.
    """
    found, name = named(structures), type(calculator).__name__
    frames = list(found.values())
    system = System.from_ase(frames)
    before = system.positions.clone()
    results = calculator(system, forces=True)
    assert results.energy is not None and results.energy.shape == (len(frames),), (
        f"{name}: energy is [systems]."
    )
    assert results.energy.dtype == torch.float64, f"{name}: energy must be float64."
    assert results.forces is not None and results.forces.shape == (system.n_atoms, 3), (
        f"{name}: forces [atoms 3]."
    )
    assert not results.energy.requires_grad, f"{name}: results must be detached."
    assert torch.equal(system.positions, before), f"{name} changes the structures it is given."
    assert calculator(system, forces=False).energy is not None, f"{name} gives no energy without forces."
    subject = Subject.of(calculator, cutoff=cutoff, precision=precision)
    limit = 10.0 * subject.tolerance.energy * max(len(a) for a in frames)
    for k, atoms in enumerate(frames):
        alone = calculator(System.from_ase(atoms)).need("energy")[0]
        difference = abs(float(results.energy[k] - alone))
        assert difference <= limit, (
            f"{name}: structure {k} has another energy in a batch, by {difference:.1e} eV."
        )
    check_physics(subject, found, PHYSICS)
