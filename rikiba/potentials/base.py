"""The contract of a potential: energies from a System and its Pairs. Nothing else.

Forces, stress, batching, precision, devices, files, training and MD are other rooms' work. A potential reads
geometry through `pairs.vectors(system, dtype)` only, so that its calculator gets ∂E/∂r_ij; one that also
depends on positions or cell directly (reciprocal space, global charges) says `uses_positions = True`.
"""

import math
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import Any, ClassVar, Protocol, runtime_checkable

import torch
from ase import Atoms
from jaxtyping import Float, Int
from torch import Tensor, nn

from rikiba.core import elements as periodic_table
from rikiba.core.pairs import Pairs
from rikiba.core.results import Results
from rikiba.core.system import System
from rikiba.nn.radial_spline import RadialSpline


class Program(Protocol):
    """Raw-kernel inference of one potential: forward and reverse sweep with no framework between."""

    def __call__(
        self, system: System, pairs: Pairs, vectors: Float[Tensor, "pairs 3"]
    ) -> tuple[Float[Tensor, "atoms"], Float[Tensor, "pairs 3"]]:
        """(energies per atom in eV, ∂E/∂r_ij in eV/Å), both float64."""
        ...


@runtime_checkable
class PositionProgram(Protocol):
    """Raw-kernel inference from positions and cell to forces, whatever the energy depends on them by."""

    def sweep(
        self, system: System, pairs: Pairs
    ) -> tuple[Float[Tensor, "atoms"], Float[Tensor, "atoms 3"], Float[Tensor, "systems 3 3"]]:
        """(energies per atom in eV, forces in eV/Å, ∂E/∂ε before symmetrisation in eV), float64.

        `pairs` may be candidates: all that lie within the cutoff, and others, each in both directions.
        """
        ...


@runtime_checkable
class SweepingProgram(Program, PositionProgram, Protocol):
    """A program that also goes from positions to forces itself, and leaves out pairs beyond its cutoff."""


class EnsembleProgram(Program, Protocol):
    """A program that also gives the spread of its members."""

    def with_spread(
        self, system: System, pairs: Pairs, vectors: Float[Tensor, "pairs 3"]
    ) -> tuple[Float[Tensor, "atoms"], Float[Tensor, "pairs 3"], Results | None]:
        """(energies per atom in eV, ∂E/∂r_ij in eV/Å, spread), float64."""
        ...


@runtime_checkable
class TellingProgram(Program, Protocol):
    """A program that also finds other quantities than energies."""

    def further(self) -> Mapping[str, Tensor]:
        """Fields of `Results` that the last call found (charges, magmoms …)."""
        ...


@runtime_checkable
class DifferentiableProgram(Program, Protocol):
    """A program that also differentiates by the parameters of its potential."""

    def parameter_gradient(
        self,
        system: System,
        pairs: Pairs,
        vectors: Float[Tensor, "pairs 3"],
        of_energies: Float[Tensor, "atoms"],
        along: Float[Tensor, "pairs 3"],
    ) -> dict[str, Tensor]:
        """Gradient of Σ_a of_energies_a E_a + Σ_p along_p·∂E/∂r_p by parameter name, float64."""
        ...


def tabulated_program(build: Callable[[bool], Program], dtype: torch.dtype, tabulate: bool | None) -> Program:
    """`build(tables)`, a program with tables in place of radial networks or with the networks themselves.

    True: with tables; raises the ValueError of tables that are refused. False: without. None: with tables
    in float32 only, and without, with a warning, where they are refused.
    """
    if tabulate is not None:
        return build(tabulate)
    if dtype != torch.float32:
        return build(False)
    try:
        return build(True)
    except ValueError as refusal:
        warnings.warn(f"{refusal} The networks are kept.", RuntimeWarning, stacklevel=3)
    return build(False)


class Potential(nn.Module, ABC):
    """An interatomic potential. A subclass writes a keyword-only `__init__` and `forward`.

    `__init__` must set `self.elements` (symbols) and `self.cutoff` (Å). Its keyword arguments are recorded
    in `arguments` and are, with the weights, everything a checkpoint holds; so they are numbers, strings,
    booleans, lists, mappings of these, or other potentials. Per-element energies belong in
    `rikiba.nn.atomic_energies.AtomicEnergies`, which keeps them in float64.

    Arguments that training computes from the data, where the constructor has them and the user did not give
    them: `elements` (symbols by atomic number), `atomic_energies` (symbol → E0 in eV),
    `avg_num_neighbors`, `scale` (eV; root-mean-square force component × 1 Å) and `shift` (eV per atom).
    """

    references: ClassVar[tuple[str, ...]] = ()
    """DOIs to cite."""
    uses_positions: bool = False
    """True where energies depend on positions or cell other than through pair vectors."""
    needs: ClassVar[tuple[str, ...]] = ()
    """Optional System fields that it cannot do without ('magmoms', 'charge', 'field' …)."""
    additive: ClassVar[bool] = True
    """False where energies of parts far apart do not add up (charge flows between them)."""
    learned: ClassVar[bool] = True
    """False for classical forms, whose parameters come from literature rather than from data."""
    fixed_topology: ClassVar[bool] = False
    """True where atoms have places in a topology: structures are copies of it, and no other arrangement."""

    radial_spline: RadialSpline | None = None
    """Set while radial networks are interpolated, see `interpolate_radial`."""

    cutoff: float
    elements: tuple[str, ...]
    arguments: dict[str, Any]
    _type_table: Tensor

    def __new__(cls, *args: Any, **kwargs: Any) -> "Potential":
        if args:
            raise TypeError(f"{cls.__name__} takes keyword arguments only.")
        self = super().__new__(cls)
        object.__setattr__(self, "arguments", kwargs)
        return self

    @abstractmethod
    def forward(self, system: System, pairs: Pairs) -> Results:
        """Energies per atom in eV; may also set charges, magmoms, dipole, spread."""

    def prepare(self, structures: Iterable[tuple[System, Pairs]]) -> None:
        """Set what depends on the training structures alone (feature scaling), once, before training."""

    def trial_structures(self) -> list[Atoms] | None:
        """Structures to try it on; None where any arrangement of its elements will do."""
        return None

    def decayed_parameters(self) -> Iterable[str]:
        """Names of the parameters that weight decay applies to; none unless an architecture says so."""
        return ()

    def program(self) -> Program | None:
        """Raw-kernel inference, if this potential has one; equal to `forward` to rounding."""
        return None

    def position_program(self) -> PositionProgram | None:
        """Raw-kernel inference of a potential with `uses_positions`, if it has one; equal to `forward`."""
        return None

    def interpolate_radial(self, intervals: int | None) -> bool:
        """Evaluate radial networks at the knots of a spline instead of at every pair; None: no longer.

        Training is then quicker, and differs by the spline's error. Gradients of the weights are those of
        the interpolated potential. False where an architecture cannot.
        """
        if not self.splines_radial:
            return False
        self.radial_spline = RadialSpline(cutoff=self.cutoff, intervals=intervals) if intervals else None
        return True

    @property
    def splines_radial(self) -> bool:
        """Whether `forward` can read radial networks, functions of the distance alone, from a spline."""
        return False

    @property
    def receptive_field(self) -> float:
        """How far an atom's energy can see, Å: cutoff × message-passing layers; inf where global."""
        return self.cutoff

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the arithmetic: that of the parameters; float64 where there are none."""
        for p in self.parameters():
            return p.dtype
        return torch.float64

    @property
    def device(self) -> torch.device | None:
        """Where its parameters and constants lie; None where it has none, and runs where the structure is."""
        for t in chain(self.parameters(), self.buffers()):
            return t.device
        return None

    def types(self, system: System) -> Int[Tensor, "atoms"]:
        """Index of each atom's element in `self.elements`.

        Raises ValueError for an element that the potential does not know or a System field it needs.
        """
        if not hasattr(self, "_type_table"):
            table = periodic_table.type_table(self.elements).to(system.numbers.device)
            self.register_buffer("_type_table", table, persistent=False)
        types = _looked_up(self._type_table, system.numbers)
        if len(types) and int(types.min()) < 0:
            unknown = [s for s in system.symbols if s not in self.elements]
            raise ValueError(
                f"{type(self).__name__} knows {', '.join(self.elements)}; the structure also has "
                f"{', '.join(unknown)}. Train on data with these elements or use another potential."
            )
        for name in self.needs:
            if getattr(system, name) is None:
                raise ValueError(f"{type(self).__name__} needs '{name}' on the structure; it is not set.")
        return types


def _looked_up(table: Tensor, index: Tensor) -> Tensor:
    """table[index] where the index is; of few numbers on a CPU in a tenth of torch's time."""
    if index.device.type == table.device.type == "cpu":
        return torch.from_numpy(table.numpy()[index.numpy()])
    return table.to(index.device)[index]


@dataclass(frozen=True, slots=True, eq=False)
class Design:
    """Rows of a linear model: derivative of each observable with respect to each coefficient."""

    energy: Float[Tensor, "systems coefficients"]
    """eV per unit coefficient."""
    offset: Float[Tensor, "systems"]
    """The part of the energy that no coefficient changes (atomic energies), eV."""
    forces: Float[Tensor, "atoms 3 coefficients"] | None = None
    stress: Float[Tensor, "systems 3 3 coefficients"] | None = None


class LinearPotential(Potential):
    """E = E_offset + Σ_k c_k B_k: linear in its coefficients, so fitted exactly by least squares."""

    coefficients: nn.Parameter

    @abstractmethod
    def design(self, system: System, pairs: Pairs, *, forces: bool, stress: bool) -> Design:
        """All rows of the design matrix for these structures at once."""

    def prior(self) -> Float[Tensor, "coefficients"]:
        """Relative ridge strength of each coefficient: the regulariser is λ Σ_k prior_k² c_k²."""
        return torch.ones_like(self.coefficients)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Make random initialisation inside the block reproducible, leaving the global generator untouched."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def check_positive(**values: float) -> None:
    """Raise ValueError unless every named value is finite and positive."""
    for name, value in values.items():
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"{name} must be a positive number; given {value}.")
