"""The conformance checks refuse classes that break their room's contract."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from torch import nn

from rikiba.calculators.ase import FromASE
from rikiba.calculators.autograd import PotentialCalculator
from rikiba.core.pairs import Pairs
from rikiba.core.record import Record
from rikiba.core.results import Results
from rikiba.core.system import System
from rikiba.md.operators import Drift, Kick, Memory, Operator
from rikiba.potentials.base import Potential
from rikiba.properties.eos import Eos
from rikiba.properties.rdf import Rdf
from rikiba.properties.trajectories import Trajectory
from rikiba.reference.base import Failure
from rikiba.testing import (
    check_calculator,
    check_operator,
    check_potential,
    check_property,
    check_reference,
    check_trajectory_property,
    examples_of,
)

# --- potentials ---------------------------------------------------------------------------------------------


class Sound(Potential):
    """ε_i = w Σ_j (1 − r²/r_c²)³.

    Args:
        elements: symbols.
        cutoff: Å.
    """

    def __init__(self, *, elements: tuple[str, ...], cutoff: float = 4.0) -> None:
        super().__init__()
        self.elements, self.cutoff = tuple(elements), cutoff
        self.weight = nn.Parameter(torch.tensor(0.7))

    def forward(self, system: System, pairs: Pairs) -> Results:
        self.types(system)
        return Results(energies=self.weight.double() * self.local(system, pairs))

    def local(self, system: System, pairs: Pairs) -> torch.Tensor:
        r = pairs.vectors(system, self.dtype).norm(dim=-1)
        f = ((1.0 - (r / self.cutoff) ** 2).clamp(min=0.0) ** 3).double()
        return f.new_zeros(system.n_atoms).index_add(0, pairs.i, f)


class Undocumented(Sound):
    """Energies without words.

    Args:
        elements: symbols.
    """


class Forgetful(Sound):
    """Does not rebuild from its arguments.

    Args:
        elements: symbols.
        cutoff: Å.
    """

    def __init__(self, *, elements: tuple[str, ...], cutoff: float = 4.0) -> None:
        super().__init__(elements=elements, cutoff=cutoff)
        self.factor = 1.0

    def forward(self, system: System, pairs: Pairs) -> Results:
        results = super().forward(system, pairs)
        return Results(energies=results.need("energies") * self.factor)


class Careless(Sound):
    """Accepts every element.

    Args:
        elements: symbols.
        cutoff: Å.
    """

    def forward(self, system: System, pairs: Pairs) -> Results:
        return Results(energies=self.weight.double() * self.local(system, pairs))


class Idle(Sound):
    """Has a parameter without influence.

    Args:
        elements: symbols.
        cutoff: Å.
    """

    def __init__(self, *, elements: tuple[str, ...], cutoff: float = 4.0) -> None:
        super().__init__(elements=elements, cutoff=cutoff)
        self.unused = nn.Parameter(torch.tensor(1.0))


class Single(Sound):
    """Sums in float32.

    Args:
        elements: symbols.
        cutoff: Å.
    """

    def forward(self, system: System, pairs: Pairs) -> Results:
        return Results(energies=super().forward(system, pairs).need("energies").float())


class WrongProgram(Sound):
    """Its fast path has another gradient.

    Args:
        elements: symbols.
        cutoff: Å.
    """

    def program(self) -> Any:
        def run(system: System, pairs: Pairs, vectors: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            energies = self.forward(system, pairs).need("energies").detach()
            return energies, 0.1 * vectors

        return run


def test_a_sound_potential_passes_and_is_left_alone() -> None:
    potential = Sound(elements=("C", "O"))
    check_potential(potential)
    assert potential.dtype == torch.float32


def test_broken_potentials_are_refused() -> None:
    forgetful = Forgetful(elements=("C", "O"))
    forgetful.factor = 2.0
    cases = {
        "not described": Undocumented(elements=("C",)),
        "gives other energies": forgetful,
        "accepts Og": Careless(elements=("C", "O")),
        "no influence": Idle(elements=("C", "O")),
        "float64": Single(elements=("C", "O")),
        "differs from autograd": WrongProgram(elements=("C", "O")),
    }
    for message, potential in cases.items():
        with pytest.raises(AssertionError, match=message):
            check_potential(potential)


def test_examples_come_from_the_signature_or_say_what_is_missing() -> None:
    assert examples_of(Sound)[0].elements == ("O", "Si")

    class Odd:
        def __init__(self, *, flavour: str) -> None: ...

    with pytest.raises(TypeError, match="examples"):
        examples_of(Odd)


# --- calculators --------------------------------------------------------------------------------------------


class Wrapped:
    """A sound calculator with one answer spoiled."""

    def __init__(self, spoil: Any) -> None:
        self.inner = PotentialCalculator(Sound(elements=("C", "O")).double())
        self.spoil = spoil

    def __call__(self, system: System, *, forces: bool = True, stress: bool = False) -> Results:
        return self.spoil(self.inner(system, forces=forces, stress=stress), system)


def test_calculators() -> None:
    frames = [molecule("CO"), molecule("CO2")]
    for k, atoms in enumerate(frames):
        atoms.rattle(0.05, seed=k)
    check_calculator(Wrapped(lambda r, s: r), frames)
    spoiled = {
        "float64": lambda r, s: r.replace(energy=r.energy.float()),
        "another energy in a batch": lambda r, s: r.replace(energy=r.energy + 0.1 * (s.n_systems - 1)),
        "fails": lambda r, s: r if r.forces is None else r.replace(forces=1.01 * r.forces),
    }
    for message, spoil in spoiled.items():
        with pytest.raises(AssertionError, match=message):
            check_calculator(Wrapped(spoil), frames)


# --- properties ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Volume:
    """Volume of the cell.

    Args:
        scale: factor.
    """

    scale: float = 1.0

    def compute(self, calculator: Any, atoms: Atoms) -> Record:
        return Record(name="volume", title="Volume", values={"volume_A3": self.scale * atoms.get_volume()})


@dataclass(frozen=True, kw_only=True)
class Meddling(Volume):
    """Volume, but moves the atoms.

    Args:
        scale: factor.
    """

    def compute(self, calculator: Any, atoms: Atoms) -> Record:
        atoms.positions += 0.1
        return super().compute(calculator, atoms)


@dataclass(frozen=True, kw_only=True)
class Erratic(Volume):
    """Another answer every time.

    Args:
        scale: factor.
    """

    def compute(self, calculator: Any, atoms: Atoms) -> Record:
        return replace(super().compute(calculator, atoms), values={"x": float(np.random.rand())})


@dataclass(kw_only=True)
class Thawed:
    """Not frozen.

    Args:
        scale: factor.
    """

    scale: float = 1.0

    def compute(self, calculator: Any, atoms: Atoms) -> Record:
        return Record(name="x", title="x", values={"x": 1.0})


def test_properties() -> None:
    atoms, calculator = bulk("Cu"), FromASE(EMT())
    check_property(Volume(), calculator, atoms)
    check_property(Eos(relax=False), calculator, atoms)
    for broken, message in ((Meddling(), "moves"), (Erratic(), "again"), (Thawed(), "frozen")):
        with pytest.raises(AssertionError, match=message):
            check_property(broken, calculator, bulk("Cu"))
    with pytest.raises(AssertionError, match="not finite"):
        check_property(Volume(scale=float("nan")), calculator, atoms)
    gas = np.random.default_rng(0).random((20, 8, 3)) * 9.0
    box = np.broadcast_to(9.0 * np.eye(3), (20, 3, 3))
    t = Trajectory(positions=gas, numbers=np.full(8, 18), timestep_fs=1.0, cell=box, pbc=(True, True, True))
    check_trajectory_property(Rdf(), t)
    with pytest.raises(AssertionError, match="analyse"):
        check_trajectory_property(Volume(), t)


# --- references ---------------------------------------------------------------------------------------------


class Engine:
    """EMT as a reference.

    Args:
        factor: multiplies forces.
    """

    level_of_theory = "EMT (test)"

    def __init__(self, *, factor: float = 1.0) -> None:
        self.factor = factor

    def label(self, frames: Any) -> list[Any]:
        return [self.one(a) for a in frames]

    def one(self, atoms: Atoms) -> Any:
        d = atoms.get_all_distances() + 10.0 * np.eye(len(atoms))
        if d.min() < 0.1:
            return Failure(atoms=atoms, reason="atoms on top of each other")
        out = atoms.copy()
        out.calc = EMT()
        energy, forces = out.get_potential_energy(), self.factor * out.get_forces()
        out.calc = SinglePointCalculator(out, energy=energy, forces=forces)
        out.info["level_of_theory"] = self.level_of_theory
        return out


class Raising(Engine):
    """Raises instead of returning a Failure.

    Args:
        factor: multiplies forces.
    """

    def one(self, atoms: Atoms) -> Any:
        answer = super().one(atoms)
        if isinstance(answer, Failure):
            raise RuntimeError("SCF not converged")
        return answer


class Anonymous(Engine):
    """Does not say its level of theory on the labels.

    Args:
        factor: multiplies forces.
    """

    def one(self, atoms: Atoms) -> Any:
        answer = super().one(atoms)
        if isinstance(answer, Atoms):
            del answer.info["level_of_theory"]
        return answer


def test_references() -> None:
    water = molecule("H2O")
    water.rattle(0.05, seed=0)
    check_reference(Engine(), [water])
    cases = ((Raising(), "hopeless"), (Anonymous(), "level of theory"), (Engine(factor=1.1), "disagree"))
    for broken, message in cases:
        with pytest.raises(AssertionError, match=message):
            check_reference(broken, [water])


# --- operators ----------------------------------------------------------------------------------------------


class InPlace(Operator):
    """Changes the velocities it is given."""

    def apply(self, state: Any, memory: Memory, dt: Any, step: Any) -> Any:
        state.velocities.mul_(0.9)
        return state, memory


class Restless(Operator):
    """Kicks although no time passes."""

    def apply(self, state: Any, memory: Memory, dt: Any, step: Any) -> Any:
        return state.replace(velocities=state.velocities + 0.1), memory


class Mixing(Operator):
    """Scales by the mean over the whole batch."""

    def apply(self, state: Any, memory: Memory, dt: Any, step: Any) -> Any:
        factor = 1.0 - dt.mean() * state.velocities.abs().mean()
        return state.replace(velocities=state.velocities * factor), memory


class Unseeded(Operator):
    """Noise from the global generator."""

    def apply(self, state: Any, memory: Memory, dt: Any, step: Any) -> Any:
        noise = torch.randn_like(state.velocities) * dt.mean()
        return state.replace(velocities=state.velocities + noise), memory


class Misshapen(Operator):
    """Remembers something that belongs to neither atoms nor systems."""

    def init(self, state: Any, step: Any) -> Memory:
        return Memory(systems={"hills": torch.zeros(7)})

    def apply(self, state: Any, memory: Memory, dt: Any, step: Any) -> Any:
        return state, memory


def test_operators() -> None:
    check_operator(Kick())
    check_operator(Drift())
    cases = {
        "changes the state": InPlace(),
        "no time passes": Restless(),
        "alone and in a batch": Mixing(),
        "not repeated": Unseeded(),
        "axis first": Misshapen(),
    }
    for message, operator in cases.items():
        with pytest.raises(AssertionError, match=message):
            check_operator(operator)
