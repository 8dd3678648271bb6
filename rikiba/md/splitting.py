"""An integrator as a word: operators applied one after another."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, cast, final, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from rikiba.kernels.local_motion import DRIFT, FRICTION, KICK

from .operators import Drift, Kick, Local, Memory, Operator, Step, move
from .state import State

Memories = dict[str, Memory]


class _Run:
    """Neighbouring places of a word whose operators are local: one pass over the atoms does them all."""

    def __init__(self, word: str, places: Sequence[int], operators: Mapping[str, Operator]) -> None:
        self._letters = [word[k] for k in places]
        self._operators = [cast(Local, operators[letter]) for letter in self._letters]
        self._streams = tuple(places)
        self._known: list[Tensor] = []
        self._numbers = torch.empty(0)

    def advance(self, state: State, memories: Memories, shares: Mapping[str, Tensor], step: Step) -> State:
        """The state after all of them; `memories` is written to."""
        state, kinetic = move(self._operators, self._streams, self._together(state, shares), state, step)
        for k, (letter, operator) in enumerate(zip(self._letters, self._operators, strict=True)):
            if operator.kind == FRICTION:
                memories[letter] = operator.remember(memories[letter], kinetic[k, 0], kinetic[k, 1])
        return state

    def _together(self, state: State, shares: Mapping[str, Tensor]) -> Float[Tensor, "places 2 systems"]:
        """Every operator's numbers, stacked anew only where one of them is another tensor than before."""
        found: list[Tensor] = []
        for letter, operator in zip(self._letters, self._operators, strict=True):
            found += operator.numbers(state, shares[letter])
        if len(self._known) != len(found) or any(a is not b for a, b in zip(self._known, found, strict=True)):
            self._known = found
            self._numbers = torch.stack(found).reshape(len(self._letters), 2, -1)
        return self._numbers


def _parts(word: str, operators: Mapping[str, Operator]) -> "list[int | _Run]":
    """The word in order: places of operators that go alone, and runs, which end before a kick that follows a
    drift, for its forces are those of new positions."""
    parts: list[int | list[int]] = []
    for place, letter in enumerate(word):
        operator = operators[letter]
        if not isinstance(operator, Local) or type(operator).apply is not Local.apply:
            parts.append(place)
            continue
        last = parts[-1] if parts else None
        drifted = isinstance(last, list) and any(cast(Local, operators[word[k]]).kind == DRIFT for k in last)
        if isinstance(last, list) and not (drifted and operator.kind == KICK):
            last.append(place)
        else:
            parts.append([place])
    return [p if isinstance(p, int) else _Run(word, p, operators) for p in parts]


@final
class Splitting:
    """A product of operators, e.g. `Splitting("BAOAB", {"B": Kick(), "A": Drift(), "O": Langevin(…)})`.

    A letter met n times in the word gets Δt/n each time, so that the word advances every part by Δt. "BAB"
    is velocity Verlet and "ABA" position Verlet; a palindrome is of second order.

    Args:
        word: the order of application within a step, read from the left.
        operators: the operator of each letter.

    Raises ValueError for letters without an operator and operators without a letter.
    """

    def __init__(self, word: str, operators: Mapping[str, Operator]) -> None:
        missing, idle = sorted(set(word) - set(operators)), sorted(set(operators) - set(word))
        if not word or missing or idle:
            raise ValueError(
                f"The word '{word}' and its operators must have the same letters; without an operator: "
                f"{missing or 'none'}, without a place in the word: {idle or 'none'}."
            )
        self.word = word
        self.operators = dict(operators)
        self.conserves_momentum = all(op.conserves_momentum for op in self.operators.values())
        self.needs_stress = any("stress" in op.needs for op in self.operators.values())
        self._counts = Counter(word)
        self._parts = _parts(word, self.operators)
        self._shares: tuple[Tensor, dict[str, Tensor]] | None = None

    def init(self, state: State, step: Step) -> Memories:
        """The memory of every operator at the start."""
        return {
            letter: op.init(state, step.at(self.word.index(letter))) for letter, op in self.operators.items()
        }

    def advance(
        self, state: State, memories: Memories, dt: Float[Tensor, "systems"], step: Step
    ) -> tuple[State, Memories]:
        """The state and memories one timestep later."""
        shares = self._share(dt)
        memories = dict(memories)
        if state.constraints is not None:
            return self._on_constraints(state, memories, shares, step).after(dt), memories
        for part in self._parts:
            if isinstance(part, _Run):
                state = part.advance(state, memories, shares, step)
            else:
                operator, letter = self.operators[self.word[part]], self.word[part]
                state, memories[letter] = operator.apply(
                    state, memories[letter], shares[letter], step.at(part)
                )
        return state.after(dt), memories

    def _on_constraints(
        self, state: State, memories: Memories, shares: Mapping[str, Tensor], step: Step
    ) -> State:
        """The state after all places, put back onto its constraints at each; `memories` is written to."""
        for place, letter in enumerate(self.word):
            operator, before = self.operators[letter], state
            state, memories[letter] = operator.apply(before, memories[letter], shares[letter], step.at(place))
            if not operator.keeps_constraints:
                state, memories[letter] = _held(operator, before, state, memories[letter], shares[letter])
        return state

    def conserved(self, state: State, memories: Memories) -> Float[Tensor, "systems"]:
        """Σ over operators of their part of the conserved quantity beside kinetic + potential energy, eV."""
        parts = [op.conserved(state, memories[letter]) for letter, op in self.operators.items()]
        return torch.stack(parts).sum(0)

    def kinetic_energy(self, state: State, memories: Memories) -> Float[Tensor, "systems"]:
        """Kinetic energy for the temperature: an operator's unbiased one if it has any, else of the state."""
        for letter, op in self.operators.items():
            sampled = op.kinetic_energy(memories[letter])
            if sampled is not None:
                return sampled
        return state.kinetic_energy

    def settings(self) -> dict[str, Any]:
        """The word and every operator's parameters: what a restart must share."""
        parts = {letter: [type(op).__name__, op.settings()] for letter, op in sorted(self.operators.items())}
        return {"word": self.word, "operators": parts}

    def _share(self, dt: Tensor) -> dict[str, Tensor]:
        if self._shares is None or self._shares[0] is not dt:
            self._shares = (dt, {letter: dt / count for letter, count in self._counts.items()})
        return self._shares[1]


def _held(
    operator: Operator, before: State, after: State, memory: Memory, dt: Float[Tensor, "systems"]
) -> tuple[State, Memory]:
    """What an operator did, put back onto the constraints: positions after a drift, velocities after every
    change of either. Of BAOAB this makes g-BAOAB (Leimkuhler & Matthews, doi:10.1098/rspa.2016.0138)."""
    if after.system.cell is not before.system.cell:
        raise ValueError(
            f"{type(operator).__name__} moves the cell and does not say how it keeps constraints "
            f"(keeps_constraints); use one of md.barostats, or leave the constraints out."
        )
    if after.system.positions is not before.system.positions:
        after = after.pulled_back(before, dt)
    elif after.velocities is before.velocities:
        return after, memory
    held = after.tangent()
    if memory.systems:
        memory = operator.after_constraints(memory, held.kinetic_energy - after.kinetic_energy)
    return held, memory


@runtime_checkable
class Ensemble(Protocol):
    """A named choice of integrator, as a configuration writes it; files of `md/ensembles`."""

    def splitting(self) -> Splitting: ...


def as_splitting(integrator: "Splitting | Ensemble") -> Splitting:
    """The splitting itself or that of an ensemble; raises TypeError for anything else."""
    if isinstance(integrator, Splitting):
        return integrator
    if hasattr(integrator, "splitting"):
        return integrator.splitting()
    raise TypeError(
        f"{type(integrator).__name__} is not an integrator. Give a Splitting, or an ensemble such as NVE() "
        f"or Langevin(temperature_K=300) of rikiba.md.ensembles (an operator alone moves no atoms)."
    )


def velocity_verlet() -> Splitting:
    """Kick–drift–kick (Swope et al., doi:10.1063/1.442716)."""
    return Splitting("BAB", {"B": Kick(), "A": Drift()})


def position_verlet() -> Splitting:
    """Drift–kick–drift (Tuckerman, Berne & Martyna, doi:10.1063/1.463137)."""
    return Splitting("ABA", {"A": Drift(), "B": Kick()})


def langevin_baoab(
    *, temperature_K: float | tuple[float, ...], friction_per_ps: float | tuple[float, ...] = 1.0
) -> Splitting:
    """BAOAB Langevin dynamics (Leimkuhler & Matthews, doi:10.1093/amrx/abs010)."""
    from .thermostats.langevin import Langevin

    thermostat = Langevin(temperature_K=temperature_K, friction_per_ps=friction_per_ps)
    return Splitting("BAOAB", {"B": Kick(), "A": Drift(), "O": thermostat})
