"""What every potential must do."""

import copy
import json
from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any

import torch
from ase import Atoms

from rikiba.calculators.autograd import PotentialCalculator, evaluate, run_program, run_sweep
from rikiba.core.pairs import find_pairs
from rikiba.core.results import Results
from rikiba.core.system import System
from rikiba.potentials.base import Potential
from rikiba.validation.battery import DEFAULT, run_checks, structures_for
from rikiba.validation.checks import Subject, named

from .building import check_constructor

FITTED = ("repulsive core", "a single atom has its stated E0")
"""Checks of the physics battery that depend on parameters rather than on the architecture."""


def check_potential(
    potential: Potential, structures: Mapping[str, Atoms] | Sequence[Atoms] | None = None
) -> None:
    """Contract, rebuild, precision, training and physics of one instance; leaves it as it was.

    Runs the physics battery in float64, and again in float32 where there are parameters. Raises
    AssertionError that says what is wrong.
    """
    found = structures_for(Subject.of(potential)) if structures is None else named(structures)
    double = copy.deepcopy(potential).to(torch.float64)
    check_constructor(type(potential))
    _check_declarations(potential)
    frames = list(found.values())
    _check_results(double, frames)
    _check_rebuild(double, frames)
    _check_skin(double, frames[0])
    _check_program(double, frames)
    _check_training(double, frames)
    _check_unknown_element(double)
    check_physics(Subject.of(double), found)
    if next(iter(potential.parameters()), None) is not None:
        single = Subject.of(copy.deepcopy(potential).to(torch.float32))
        check_physics(single, found, ("force_consistency", "stress_consistency", "rotation", "permutation"))


def check_physics(
    subject: Subject, structures: Mapping[str, Atoms], names: Sequence[str] | None = None
) -> None:
    """The physics battery without what only a fit can promise; AssertionError lists every failure."""
    wanted = tuple(n for n in DEFAULT if n != "short_range") if names is None else tuple(names)
    checks, _ = run_checks(subject, structures, wanted)
    failed = [c for c in checks if c.passed is False and not c.name.startswith(FITTED)]
    text = "\n".join(
        f"  {c.name} [{c.structure}]: {c.value:.3g} > {c.threshold:.3g} {c.unit} {c.note}" for c in failed
    )
    assert not failed, f"{subject.name} ({subject.precision}) fails:\n{text}"
    assert any(c.passed for c in checks), f"{subject.name}: no check applied."


def _check_declarations(p: Potential) -> None:
    name = type(p).__name__
    assert p.elements and all(isinstance(s, str) for s in p.elements), f"{name}.elements must be symbols."
    assert isfinite(p.cutoff) and p.cutoff >= 0, f"{name}.cutoff must be a length in Å; it is {p.cutoff}."
    assert p.receptive_field >= p.cutoff, f"{name}.receptive_field is below its cutoff."
    assert isinstance(p.references, tuple), f"{name}.references must be a tuple of DOIs."


def _check_results(p: Potential, frames: list[Atoms]) -> None:
    name, system = type(p).__name__, System.from_ase(frames)
    results = p(system, find_pairs(system, p.cutoff))
    assert isinstance(results, Results), f"{name}.forward must return Results, not {type(results).__name__}."
    assert results.energies is not None or results.energy is not None, f"{name}.forward sets no energies."
    if results.energies is not None:
        assert results.energies.shape == (system.n_atoms,), f"{name}: energies must be [atoms]."
        assert results.energies.dtype == torch.float64, f"{name}: energies must be float64 (they are summed)."
    assert results.forces is None, f"{name}.forward must not set forces; they follow from the energy."


def _check_rebuild(p: Potential, frames: list[Atoms]) -> None:
    """Arguments and weights are the whole potential."""
    name = type(p).__name__
    weights = {k: v.clone() for k, v in p.state_dict().items()}
    if not _holds_potentials(p.arguments):
        arguments = json.loads(json.dumps(p.arguments, default=_as_json))
        try:
            again = type(p)(**arguments)
        except Exception as error:
            raise AssertionError(f"{name} cannot be built again from its arguments: {error}") from error
    else:
        again = type(p)(**p.arguments)
    again = again.to(torch.float64)
    again.load_state_dict(weights)
    system = System.from_ase(frames)
    a, b = (PotentialCalculator(q)(system).need("energy") for q in (p, again))
    assert torch.equal(a, b), f"{name}: built again from arguments and weights it gives other energies."


def _check_skin(p: Potential, atoms: Atoms) -> None:
    """Results do not depend on how far the pair list was searched."""
    system = System.from_ase(atoms)
    a, b = (PotentialCalculator(p, skin=s)(system) for s in (0.0, 1.0))
    same = torch.equal(a.need("energy"), b.need("energy")) and torch.equal(a.need("forces"), b.need("forces"))
    assert same, f"{type(p).__name__}: results depend on the skin of the pair list."


def _check_program(p: Potential, frames: list[Atoms]) -> None:
    program, from_positions = p.program(), p.position_program()
    if program is None and from_positions is None:
        return
    system = System.from_ase([f for f in frames if f.pbc.all()] or frames[:1])
    pairs = find_pairs(system, p.cutoff)
    stress = bool(system.has_volume.all())
    a = evaluate(p, system, pairs, stress=stress)
    if program is not None:
        b = run_program(program, system, pairs, stress=stress)
    else:
        assert from_positions is not None
        b = run_sweep(from_positions, system, pairs, stress=stress)
    for key in ("energy", "forces", *(("stress",) if stress else ())):
        x, y = a.need(key), b.need(key)
        scale = max(float(x.abs().max()), 1.0)
        error = float((x - y).abs().max()) / scale
        assert error < 1e-9, f"{type(p).__name__}.program() differs from autograd in {key} by {error:.1e}."


def _check_training(p: Potential, frames: list[Atoms]) -> None:
    """A loss on all that is predicted gives every trainable parameter a finite gradient."""
    parameters = {n: q for n, q in p.named_parameters() if q.requires_grad}
    if not parameters or not p.learned:
        return
    name, system = type(p).__name__, System.from_ase(frames)
    results = evaluate(p, system, find_pairs(system, p.cutoff), create_graph=True)
    loss = sum((getattr(results, q.name) ** 2).sum() for q in results.present() if q.name != "energies")
    gradients = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
    for key, g in zip(parameters, gradients, strict=True):
        assert g is not None, f"{name}: parameter '{key}' has no influence on the results."
        assert bool(g.isfinite().all()), f"{name}: the gradient of '{key}' is not finite."


def _check_unknown_element(p: Potential) -> None:
    other = next(s for s in ("Og", "Lr", "No") if s not in p.elements)
    system = System.from_ase(Atoms([other, p.elements[0]], [[0, 0, 0], [0, 0, 1.5]]))
    try:
        p(system, find_pairs(system, p.cutoff))
    except ValueError:
        return
    raise AssertionError(
        f"{type(p).__name__} accepts {other}, which it does not know; call self.types(system)."
    )


def _holds_potentials(value: Any) -> bool:
    if isinstance(value, Potential):
        return True
    if isinstance(value, Mapping):
        return any(_holds_potentials(v) for v in value.values())
    return isinstance(value, (list, tuple)) and any(_holds_potentials(v) for v in value)


def _as_json(value: Any) -> Any:
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} cannot be stored in a checkpoint's recipe")
