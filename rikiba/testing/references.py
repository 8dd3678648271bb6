"""What every reference engine must do."""

from collections.abc import Sequence

import numpy as np
from ase import Atoms

from rikiba.reference.base import Failure, Reference

from .building import check_constructor


def check_reference(reference: Reference, frames: Sequence[Atoms], *, force_tolerance: float = 2e-3) -> None:
    """Labels come in order with their level of theory, forces belong to energies, and failures are values.

    `frames` are a few small structures that the engine can treat; forces are compared with central
    differences of the energy to `force_tolerance` (eV/Å). Raises AssertionError that says what is wrong.
    """
    name = type(reference).__name__
    check_constructor(type(reference))
    level = reference.level_of_theory
    assert isinstance(level, str) and level.strip(), f"{name} does not name its level of theory."
    copies = [a.copy() for a in frames]
    answers = reference.label(list(frames))
    assert len(answers) == len(frames), f"{name} gave {len(answers)} answers for {len(frames)} frames."
    for k, (atoms, before, answer) in enumerate(zip(frames, copies, answers, strict=True)):
        assert not isinstance(answer, Failure), f"{name} failed on frame {k}: {getattr(answer, 'reason', '')}"
        assert np.array_equal(atoms.positions, before.positions), f"{name} moves the atoms it is given."
        assert np.array_equal(answer.numbers, before.numbers), f"{name}: answer {k} is another structure."
        assert np.allclose(answer.positions, before.positions), f"{name}: answer {k} is another structure."
        assert answer.info.get("level_of_theory") == level, f"{name}: answer {k} lacks its level of theory."
        assert np.isfinite(answer.get_potential_energy()), f"{name}: the energy of frame {k} is not finite."
        assert answer.get_forces().shape == (len(atoms), 3), f"{name}: forces of frame {k} are missing."
    _check_forces(reference, frames[0], force_tolerance)
    _check_failure(reference, frames[0])
    assert reference.label([]) == [], f"{name}: no frames have no labels."


def _check_forces(reference: Reference, atoms: Atoms, tolerance: float) -> None:
    h, direction = 0.01, np.random.default_rng(0).normal(size=(len(atoms), 3))
    direction /= np.linalg.norm(direction)
    moved = []
    for s in (-h, h, 0.0):
        frame = atoms.copy()
        frame.positions += s * direction
        moved.append(frame)
    low, high, middle = reference.label(moved)
    assert isinstance(low, Atoms) and isinstance(high, Atoms) and isinstance(middle, Atoms)
    slope = (high.get_potential_energy() - low.get_potential_energy()) / (2.0 * h)
    error = abs(float((middle.get_forces() * direction).sum()) + slope)
    text = f"{type(reference).__name__}: forces and differences of the energy disagree by {error:.1e} eV/Å."
    assert error < tolerance, text


def _check_failure(reference: Reference, atoms: Atoms) -> None:
    """Two atoms in one place among good frames: a Failure in its place, and the others unharmed."""
    bad = Atoms([atoms.symbols[0]] * 2, [[0.0, 0.0, 0.0], [0.0, 0.0, 0.01]])
    name = type(reference).__name__
    try:
        answers = reference.label([atoms.copy(), bad, atoms.copy()])
    except Exception as error:
        raise AssertionError(f"{name}: a hopeless frame raised {type(error).__name__}: {error}") from error
    kinds = [isinstance(a, Failure) for a in answers]
    assert kinds == [False, True, False], (
        f"{name}: two atoms 0.01 Å apart must be a Failure and nothing else."
    )
    failure = answers[1]
    assert isinstance(failure, Failure) and failure.reason, f"{name}: a Failure says what went wrong."
