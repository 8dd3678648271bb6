"""What the third and the fourth generation of HDNNP share: atomic charges, their energy, its screening."""

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from rikiba.core import elements as periodic_table
from rikiba.core.pairs import Pairs
from rikiba.core.results import Results
from rikiba.core.system import System
from rikiba.descriptors.acsf import SymmetryFunctions
from rikiba.electrostatics.charge_equilibration import (
    coulomb_matrices,
    matrix_energies,
    net_charges,
    screened_energies,
)
from rikiba.electrostatics.ewald import Ewald
from rikiba.nn.atomic_energies import AtomicEnergies

from .base import check_positive
from .symmetry_networks import SymmetryFunctionPotential, element_networks


class ChargedHdnnp(SymmetryFunctionPotential):
    """E = Σ_i [E0(Z_i) + scale·NN_{Z_i}(x_i …)] + E_elec(q) of Gaussian charges q.

    A subclass says what the charges are (`charges`) and whether the networks of the energies read them.
    """

    uses_positions = True
    additive = False
    widths: Tensor
    reads_charge: bool
    """Whether an atom's charge is among the inputs of its energy."""
    features: SymmetryFunctions

    @abstractmethod
    def charges(
        self,
        system: System,
        pairs: Pairs,
        types: Tensor,
        x: Float[Tensor, "atoms features"],
        matrices: list[Tensor],
    ) -> Float[Tensor, "atoms"]:
        """Charges that add up to the total charge, e, float64; `matrices`: Coulomb matrix of each system."""

    def build(
        self,
        *,
        elements: Sequence[str],
        features: SymmetryFunctions,
        columns: Mapping[str, Sequence[int]] | None,
        hidden: Sequence[int] | Mapping[str, Sequence[int]],
        charge_hidden: Sequence[int] | Mapping[str, Sequence[int]],
        activation: str | Sequence[str],
        charge_activation: str | Sequence[str] | None,
        widths: Mapping[str, float] | None,
        screening: Sequence[float] | None,
        screening_form: str,
        ewald_cutoff: float | None,
        ewald_tolerance: float,
        allow_charged: bool,
        atomic_energies: Mapping[str, float] | None,
        scale: float,
        shift: float,
        isolated_limit: bool,
    ) -> None:
        """Everything but the charges; called by constructors, whose arguments these are."""
        check_positive(scale=scale, ewald_tolerance=ewald_tolerance)
        self.elements = periodic_table.sorted_symbols(elements)
        self.features = features
        reads = self.read_features(features.n_features, columns)
        more = [n + 1 for n in reads] if self.reads_charge else reads
        self.networks = element_networks(self.elements, more, hidden, activation)
        given = charge_activation if charge_activation is not None else activation
        self.charge_networks = element_networks(self.elements, reads, charge_hidden, given)
        self.register_buffer("widths", self._widths(widths))
        self.screening = _limits(screening)
        if screening_form not in ("smooth", "cosine"):
            raise ValueError(f"screening_form is 'smooth' or 'cosine'; given '{screening_form}'.")
        self.smooth_screening = screening_form == "smooth"
        reach = self._reach(ewald_cutoff, ewald_tolerance)
        self.ewald = Ewald(cutoff=reach, tolerance=ewald_tolerance, allow_charged=allow_charged)
        self.cutoff = max(features.cutoff, reach, *(self.screening or (0.0, 0.0)))
        self.atomic_energies = AtomicEnergies(self.elements, atomic_energies)
        self.scale, self.shift, self.isolated_limit = scale, shift, isolated_limit

    def _widths(self, given: Mapping[str, float] | None) -> Float[Tensor, "elements"]:
        numbers = torch.tensor([periodic_table.number(s) for s in self.elements])
        radii = periodic_table.covalent_radius(numbers).tolist()
        own = dict(zip(self.elements, radii, strict=True)) | dict(given or {})
        check_positive(**{f"widths['{s}']": own[s] for s in self.elements})
        return torch.tensor([own[s] for s in self.elements], dtype=torch.float64)

    def _reach(self, given: float | None, tolerance: float) -> float:
        """Where Gaussians of the widest two charges act as points to within the tolerance, Å."""
        needed = 2.0 * float(self.widths.max()) * math.sqrt(-math.log(tolerance))
        if given is not None and given < 0.99 * needed:
            raise ValueError(
                f"ewald_cutoff = {given} Å is too short for charges of width {float(self.widths.max()):.3g} "
                f"Å at ewald_tolerance = {tolerance:g}: {needed:.1f} Å are needed. Give more, narrower "
                f"`widths`, or leave ewald_cutoff out."
            )
        return max(needed, 6.0) if given is None else given

    @property
    def receptive_field(self) -> float:
        """inf: charges act at any distance."""
        return math.inf

    def raw_features(self, system: System, pairs: Pairs, types: Tensor) -> Float[Tensor, "atoms features"]:
        reach = self.features.cutoff
        near = pairs.within(system, reach)[0] if pairs.cutoff > reach else pairs
        return self.features(system, near, types, torch.float64)

    def forward(self, system: System, pairs: Pairs) -> Results:
        types = self.types(system)
        self._check_neutral(system, pairs)
        x = self.scaled(self.raw_features(system, pairs, types), types)
        widths = self.widths[types]
        matrices = coulomb_matrices(system, pairs, widths, self.ewald)
        q = self.charges(system, pairs, types, x, matrices)
        electrostatic = matrix_energies(system, matrices, q, widths)
        if self.screening is not None:
            electrostatic = electrostatic + screened_energies(
                system, pairs, q, widths, *self.screening, smooth=self.smooth_screening
            )
        short = self.outputs(self.networks, x, types, q[:, None] if self.reads_charge else None)
        if self.isolated_limit:
            at_rest, every = self.alone()
            uncharged = at_rest.new_zeros(len(every), 1) if self.reads_charge else None
            short = short - self.outputs(self.networks, at_rest, every, uncharged)[types]
        energies = self.atomic_energies(types) + self.shift + self.scale * short.double() + electrostatic
        return Results(energies=energies, charges=q)

    def _check_neutral(self, system: System, pairs: Pairs) -> None:
        """Raise or warn about periodic systems with a net charge, as `Ewald.check` does."""
        periodic = torch.nonzero(system.pbc.any(1)).flatten()
        if system.charge is None or not bool((system.charge[periodic] != 0).any()):
            return
        for s in periodic.tolist():
            each = system[s]
            self.ewald.check(
                each, pairs, net_charges(each) * torch.ones_like(each.positions[:, 0]) / each.n_atoms
            )


def _limits(screening: Sequence[float] | None) -> tuple[float, float] | None:
    if screening is None:
        return None
    if len(screening) != 2 or not 0.0 <= screening[0] < screening[1] < math.inf:
        raise ValueError(f"screening is (inner, outer) with 0 ≤ inner < outer, Å; given {tuple(screening)}.")
    return float(screening[0]), float(screening[1])
