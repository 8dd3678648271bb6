"""ANI: networks of each element on environment vectors with separate radial and angular resolution."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from rikiba.core import elements as periodic_table
from rikiba.core.pairs import Pairs
from rikiba.core.results import Results
from rikiba.core.system import System
from rikiba.descriptors.aev import AevEnvelope, AtomicEnvironment, mid_angles, shifts
from rikiba.kernels.grouping import group_by_type
from rikiba.nn.atomic_energies import AtomicEnergies
from rikiba.nn.element_networks import ElementNetworks, spread_of

from .base import Potential, Program, check_positive, seeded

_HIDDEN = {"H": (160, 128, 96), "C": (144, 112, 96), "N": (128, 112, 96), "O": (128, 112, 96)}
"""Of ANI-1x."""
_OTHER_HIDDEN = (160, 128, 96)
"""Of S, F and Cl in ANI-2x."""


class ANI(Potential):
    """E = Σ_i [E0(Z_i) + shift + scale·mean_m (NN_{Z_i, m}(G_i) − NN_{Z_i, m}(0))].

    G_i are the radial and angular functions of atom i (`rikiba.descriptors.aev.AtomicEnvironment`), NN the
    networks of its element, one for each member m of an ensemble. Smith, Isayev & Roitberg,
    doi:10.1039/C6SC05720A; the defaults are the sizes of ANI-1x, doi:10.1063/1.5023802 (H, C, N, O), and, for
    other elements, widths of ANI-2x, doi:10.1021/acs.jctc.0c00121, whose functions are: cutoff 5.1,
    eta_radial 19.7, eta_angular 12.5, zeta 14.1, start 0.8, n_angular 8, n_angles 4.

    Departures from the papers by default: the envelope is C² ("cosine" is theirs, C¹); cos θ is multiplied
    by 0.95 as in the authors' code (`cosine_factor = 1` is the printed form, with a kink at straight
    angles); the networks are smooth ("celu" is the published models', whose second derivative jumps); NN(0)
    is subtracted, so that an isolated atom has exactly E0 + shift (`isolated_limit = false` is the published
    form). The authors' code also multiplies the radial functions by ¼ (`radial_factor`).

    With several members `Results.spread` holds their sample standard deviation.

    Args:
        elements: chemical symbols; kept in order of atomic number.
        cutoff: of radial functions, Å.
        angular_cutoff: of angular functions, Å.
        n_radial: radial functions, evenly spaced from `start`; ignored where `radial_shifts` are given.
        n_angular: distances of angular functions; ignored where `angular_shifts` are given.
        n_angles: angles of angular functions; ignored where `angles` are given.
        start: first centre, Å.
        eta_radial: exponent of radial functions, 1/Å².
        eta_angular: exponent of angular functions, 1/Å².
        zeta: sharpness of the angle.
        radial_shifts: explicit centres of radial functions, Å.
        angular_shifts: explicit centres of angular functions, Å.
        angles: explicit angles, radians.
        envelope: polynomial (C²), cosine (the papers' own, C¹) or mollifier (C∞).
        radial_factor: factor on radial functions; ¼ in the authors' code.
        cosine_factor: factor on cos θ before the arccosine.
        hidden: widths of the hidden layers, or those of each element; as published if not given.
        activation: silu, celu (α = 0.1, ANI-1x and later), gaussian (ANI-1), gelu or tanh.
        n_members: networks of each element whose mean counts; 8 in the published ensembles.
        atomic_energies: E0 of each element, eV; zero where not given.
        scale: unit of the networks' output, eV.
        shift: added to each atom's energy, eV.
        isolated_limit: give an isolated atom exactly E0 + shift.
        seed: of the initial weights.

    Raises:
        ValueError: for an unknown element or choice, and sizes that are not positive.
    """

    references: ClassVar[tuple[str, ...]] = (
        "10.1039/C6SC05720A",
        "10.1063/1.5023802",
        "10.1021/acs.jctc.0c00121",
    )

    def __init__(
        self,
        *,
        elements: Sequence[str],
        cutoff: float = 5.2,
        angular_cutoff: float = 3.5,
        n_radial: int = 16,
        n_angular: int = 4,
        n_angles: int = 8,
        start: float = 0.9,
        eta_radial: float = 16.0,
        eta_angular: float = 8.0,
        zeta: float = 32.0,
        radial_shifts: Sequence[float] | None = None,
        angular_shifts: Sequence[float] | None = None,
        angles: Sequence[float] | None = None,
        envelope: AevEnvelope = "polynomial",
        radial_factor: float = 1.0,
        cosine_factor: float = 0.95,
        hidden: Sequence[int] | Mapping[str, Sequence[int]] | None = None,
        activation: Literal["silu", "celu", "gaussian", "gelu", "tanh"] = "silu",
        n_members: int = 1,
        atomic_energies: Mapping[str, float] | None = None,
        scale: float = 1.0,
        shift: float = 0.0,
        isolated_limit: bool = True,
        seed: int = 0,
    ) -> None:
        super().__init__()
        check_positive(
            cutoff=cutoff, n_radial=n_radial, n_angular=n_angular, n_angles=n_angles, zeta=zeta,
            n_members=n_members, scale=scale, radial_factor=radial_factor,
        )  # fmt: skip
        self.elements = periodic_table.sorted_symbols(elements)
        self.cutoff, self.n_members = cutoff, n_members
        self.scale, self.shift, self.isolated_limit = scale, shift, isolated_limit
        self.environment = AtomicEnvironment(
            n_elements=len(self.elements),
            cutoff=cutoff,
            angular_cutoff=angular_cutoff,
            eta_radial=eta_radial,
            radial_shifts=shifts(n_radial, start, cutoff) if radial_shifts is None else radial_shifts,
            eta_angular=eta_angular,
            angular_shifts=shifts(n_angular, start, angular_cutoff)
            if angular_shifts is None
            else angular_shifts,
            zeta=zeta,
            angles=mid_angles(n_angles) if angles is None else angles,
            envelope=envelope,
            radial_factor=radial_factor,
            cosine_factor=cosine_factor,
        )
        self.atomic_energies = AtomicEnergies(self.elements, atomic_energies)
        with seeded(seed):
            self.networks = ElementNetworks(
                n_inputs=self.environment.n_features,
                hidden=[_widths(s, hidden) for s in self.elements],
                n_members=n_members,
                activation=activation,
            )

    def decayed_parameters(self) -> Iterable[str]:
        """Matrices of the networks, not biases."""
        return [n for n, _ in self.named_parameters() if ".weights." in n]

    def forward(self, system: System, pairs: Pairs) -> Results:
        """Energies per atom, eV; with several members also their spread."""
        types = self.types(system)
        members = self._members(self.environment(system, pairs, types, self.dtype), types)
        if self.isolated_limit:
            every = torch.arange(len(self.elements), device=types.device)
            nothing = members.new_zeros((len(every), self.environment.n_features))
            members = members - self._members(nothing, every)[types]
        members = self.scale * members.double()
        energies = self.atomic_energies(types) + self.shift + members.mean(1)
        return Results(energies=energies, spread=spread_of(members, system))

    def _members(self, features: Tensor, types: Tensor) -> Tensor:
        out: Tensor = self.networks(features, group_by_type(types, len(self.elements)))
        return out

    def program(self) -> Program | None:
        """A snapshot of this potential as compiled CPU kernels, equal to `forward` to rounding.

        None on other devices and precisions, for activations other than silu, celu and tanh, and where
        elements' networks differ in their number of layers.
        """
        from .ani_program import ACTIVATIONS, CompiledANI

        parameter = next(self.parameters())
        known = self.networks.function in ACTIVATIONS and self.dtype in (torch.float32, torch.float64)
        known = known and len({len(n.biases) for n in self.networks.networks}) == 1  # type: ignore[arg-type]
        return CompiledANI(self) if known and parameter.device.type == "cpu" else None

    @classmethod
    def examples(cls) -> "list[ANI]":
        """Small instances for the conformance tests."""
        small: dict[str, Any] = {"elements": ("O", "Si"), "cutoff": 4.0, "n_radial": 6, "n_angles": 3}
        return [
            cls(**small, angular_cutoff=3.2, hidden=(8, 6), atomic_energies={"O": -2.0, "Si": -3.5}),
            cls(
                **small,
                n_members=2,
                zeta=14.1,
                hidden={"O": (8,), "Si": (6, 5)},
                activation="gelu",
                envelope="mollifier",
                radial_factor=0.25,
            ),
        ]


def _widths(symbol: str, hidden: Sequence[int] | Mapping[str, Sequence[int]] | None) -> tuple[int, ...]:
    if hidden is None:
        return _HIDDEN.get(symbol, _OTHER_HIDDEN)
    if not isinstance(hidden, Mapping):
        return tuple(hidden)
    if symbol not in hidden:
        raise ValueError(f"hidden gives widths for {', '.join(hidden)}; {symbol} is missing.")
    return tuple(hidden[symbol])
