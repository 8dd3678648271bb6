"""What every operator of motion must do."""

from typing import Any

import torch
from ase.build import bulk
from ase.calculators.emt import EMT

from rikiba.calculators.ase import FromASE
from rikiba.calculators.base import Calculator
from rikiba.core.system import System
from rikiba.md.operators import Operator, Step
from rikiba.md.state import State, maxwell_boltzmann

from .building import check_constructor


def check_operator(
    operator: Operator, calculator: Calculator | None = None, state: State | None = None
) -> None:
    """Pure, repeatable, blind to who else is in the batch, and still when no time passes.

    The state holds at least two systems; copper with EMT at two temperatures if not given. Raises
    AssertionError that says what is wrong.
    """
    name = type(operator).__name__
    check_constructor(type(operator))
    assert set(operator.needs) <= {"forces", "stress"}, f"{name}.needs has unknown entries: {operator.needs}."
    calculator = FromASE(EMT()) if calculator is None else calculator
    state = _copper() if state is None else state
    assert state.n_systems >= 2, "check_operator needs a state of at least two systems."
    dt = torch.full_like(state.time, 0.1)
    memory = operator.init(state, _step(calculator))
    positions, velocities = state.system.positions.clone(), state.velocities.clone()
    after, remembered = operator.apply(state, memory, dt, _step(calculator))
    assert torch.equal(state.velocities, velocities), (
        f"{name} changes the state it is given; return a new one."
    )
    assert torch.equal(state.system.positions, positions), f"{name} changes the state it is given."
    assert bool(after.velocities.isfinite().all()), f"{name} gives velocities that are not finite."
    again, _ = operator.apply(state, memory, dt, _step(calculator))
    assert _same(after, again), f"{name}: the same step of the same state is not repeated."
    still, _ = operator.apply(state, memory, torch.zeros_like(dt), _step(calculator))
    moved = (still.velocities - state.velocities).abs().max() + (
        still.system.positions - positions
    ).abs().max()
    assert float(moved) < 1e-12, f"{name} moves things although no time passes."
    for what in (memory, remembered):
        _check_memory(name, what, state)
        share = operator.conserved(state, what)
        assert share.shape == (state.n_systems,), f"{name}.conserved must be [systems]."
    _check_alone(operator, calculator, state, dt, after)


def _check_memory(name: str, memory: Any, state: State) -> None:
    for kind, size in (("systems", state.n_systems), ("atoms", state.system.n_atoms)):
        for key, tensor in getattr(memory, kind).items():
            assert tensor.shape[:1] == (size,), f"{name}: memory '{key}' must have a {kind} axis first."
    which = torch.tensor([1])
    picked = memory.select(state.system, which)
    for key, tensor in picked.systems.items():
        assert torch.equal(tensor, memory.systems[key][which]), f"{name}: memory '{key}' cannot be selected."


def _check_alone(operator: Operator, calculator: Calculator, state: State, dt: Any, after: State) -> None:
    """The second system by itself takes the step that it takes in the batch."""
    alone = state[torch.tensor([1])]
    memory = operator.init(alone, _step(calculator))
    single, _ = operator.apply(alone, memory, dt[1:2], _step(calculator))
    rows = state.system.atom_rows(1)
    error = (single.velocities - after.velocities[rows]).abs().max()
    error = error + (single.system.positions - after.system.positions[rows]).abs().max()
    text = (
        f"{type(operator).__name__}: a system moves differently alone and in a batch, by {float(error):.1e}."
    )
    assert float(error) < 1e-10, text


def _step(calculator: Calculator) -> Step:
    def evaluate(system: System, stress: bool, welcome: bool) -> Any:
        return calculator(system, forces=True, stress=stress or welcome)

    return Step(evaluate, 3)


def _copper() -> State:
    crystal = bulk("Cu", "fcc", a=3.6, cubic=True)
    other = crystal.repeat((2, 1, 1))
    crystal.rattle(0.03, seed=0)
    other.rattle(0.05, seed=1)
    return maxwell_boltzmann(System.from_ase([crystal, other]), [300.0, 600.0], seed=5)


def _same(a: State, b: State) -> bool:
    return torch.equal(a.velocities, b.velocities) and torch.equal(a.system.positions, b.system.positions)
