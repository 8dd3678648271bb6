"""What DimeNet and DimeNet++ share: messages between directed pairs, read by atoms after every layer."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from rikiba.core import elements as periodic_table
from rikiba.core.pairs import Pairs
from rikiba.core.results import Results
from rikiba.core.system import System
from rikiba.nn.atomic_energies import AtomicEnergies
from rikiba.nn.cutoff import polynomial
from rikiba.nn.directional import Angles, AtomOutput, Interaction, PairMessage
from rikiba.nn.radial import Bessel
from rikiba.nn.spherical_bessel import SphericalBessel

from .base import Potential, check_positive

Form = Literal["paper", "code"]
AngleOf = Literal["bond", "centre", "supplement"]
"""At j between i and k (the paper); at i between j and k; π less that at j."""


class Sizes(NamedTuple):
    """What both constructors take and the shared parts need."""

    elements: Sequence[str]
    cutoff: float
    channels: int
    n_layers: int
    n_radial: int
    n_spherical: int
    envelope_power: int
    form: Form
    atomic_energies: Mapping[str, float] | None
    scale: float
    shift: float
    isolated_limit: bool


class DirectionalNetwork(Potential):
    """E = Σ_i [E0(Z_i) + shift + scale·Σ_t (O_t(i) − O_t(alone))]; see DimeNet and DimeNetPlusPlus."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        s = sizes
        check_positive(
            cutoff=s.cutoff, channels=s.channels, n_layers=s.n_layers, n_radial=s.n_radial, scale=s.scale
        )
        if s.form not in ("paper", "code"):
            raise ValueError(f"form is 'paper' or 'code'; given '{s.form}'.")
        self.elements = periodic_table.sorted_symbols(s.elements)
        self.cutoff, self.n_layers, self.envelope_power = s.cutoff, s.n_layers, s.envelope_power
        self.scale, self.shift, self.isolated_limit = s.scale, s.shift, s.isolated_limit
        self.angle: AngleOf = "bond"
        self.atomic_energies = AtomicEnergies(self.elements, s.atomic_energies)

    def _build(
        self, sizes: Sizes, interactions: Sequence[Interaction], outputs: Sequence[AtomOutput]
    ) -> None:
        s, code = sizes, sizes.form == "code"
        self.radial_basis = Bessel(n=s.n_radial, cutoff=s.cutoff, trainable=True)
        self.angular_basis = SphericalBessel(
            degrees=s.n_spherical,
            n=s.n_radial,
            cutoff=s.cutoff,
            envelope_power=s.envelope_power,
            over_distance=code,
        )
        self.first = PairMessage(
            types=len(self.elements), channels=s.channels, n_radial=s.n_radial, activated=code
        )
        self.interactions = nn.ModuleList(interactions)
        self.outputs = nn.ModuleList(outputs)

    @property
    def receptive_field(self) -> float:
        """Cutoff × (layers + 1), Å."""
        return self.cutoff * (self.n_layers + 1)

    def decayed_parameters(self) -> Iterable[str]:
        """Matrices of all layers; not the elements' vectors, biases and frequencies."""
        return [n for n, _ in self.named_parameters() if n.endswith((".weight", ".bilinear"))]

    def forward(self, system: System, pairs: Pairs) -> Results:
        """Energies per atom, eV."""
        if pairs.cutoff > self.cutoff:
            pairs, _ = pairs.within(system, self.cutoff)
        types = self.types(system)
        vectors = pairs.vectors(system, self.dtype)
        r = torch.linalg.vector_norm(vectors, dim=1)
        e = self.radial_basis(r) * polynomial(r / self.cutoff, self.envelope_power)[:, None]
        angles = self._angles(pairs, vectors / r[:, None], r)
        m = self.first(e, types[pairs.i], types[pairs.j])
        # the row beyond the atoms has no neighbours
        rows = len(types) + 1
        found = self.outputs[0](m, e, pairs.i, rows)
        for interaction, output in zip(self.interactions, self.outputs[1:], strict=True):
            m = interaction(m, e, angles)
            found = found + output(m, e, pairs.i, rows)
        energies = found.to(torch.float64)
        energies = energies[:-1] - energies[-1:] if self.isolated_limit else energies[:-1]
        return Results(energies=self.atomic_energies(types) + self.shift + self.scale * energies)

    def _angles(self, pairs: Pairs, directions: Tensor, r: Tensor) -> Angles:
        to_i, to_k = pairs.triplets()  # pairs of one centre j
        target = pairs.reverse()[to_i]
        if self.angle == "centre":
            leg = directions * r[:, None]
            third = leg[target] + leg[to_k]
            cosine = (directions[target] * third).sum(1) / torch.linalg.vector_norm(third, dim=1)
        else:
            cosine = (directions[to_i] * directions[to_k]).sum(1)
            cosine = -cosine if self.angle == "supplement" else cosine
        return Angles.of(target, to_k, cosine, self.angular_basis(r))
