"""PaiNN: scalar and vector features on every atom.

Schütt, Unke & Gastegger, ICML 2021, arXiv:2102.03150. Equal to SchNetPack 2.1.1 on the same weights
(tests/peers/schnetpack).
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from rikiba.core import elements as periodic_table
from rikiba.core.pairs import Pairs
from rikiba.core.results import Results
from rikiba.core.system import System
from rikiba.kernels.pair_convolution import ConvolutionPlan, Coupling, plan_convolution
from rikiba.nn.atomic_energies import AtomicEnergies
from rikiba.nn.equivariant import PlanStore
from rikiba.nn.filters import RadialFilters, start_glorot
from rikiba.nn.mlp import MLP
from rikiba.nn.radial_spline import SplinePoints, convolve

from .base import Potential, Program, check_positive, seeded, tabulated_program
from .schnet import above_isolated, with_isolated


class _Edges(NamedTuple):
    """What every layer reads of the pairs."""

    pairs: Pairs
    points: SplinePoints | None
    """Set where the rows of filters are a spline's coefficients, not pairs."""
    harmonics: Float[Tensor, "pairs 4"]
    """1 and the components of the direction r̂_ij."""
    plan: ConvolutionPlan
    first_plan: ConvolutionPlan


class PaiNN(Potential):
    """E = Σ_i [E0(Z_i) + shift + scale·(R(q_i) − R(q_alone))], q_i and vectors μ_i after T layers.

    q⁰_i = embedding of Z_i, μ⁰_i = 0. Each layer has a message and an update (eqs. 7–9, figs. 2b and 2c):
    (x¹, x², x³)_j = φ(q_j);  (W¹, W², W³)(r) = (A e(r) + a) f_c(r)
    q_i ← q_i + Σ_j x¹_j ∘ W¹;  μ_i ← μ_i + Σ_j (x²_j ∘ W² r̂_ij + x³_j ∘ W³ ∘ μ_j),  r̂_ij = (r_j − r_i)/r_ij
    (a, b, c)_i = ψ(q_i, √(|V μ_i|² + ε));  q_i ← q_i + a_i + c_i ∘ ⟨V μ_i, U μ_i⟩;  μ_i ← μ_i + b_i ∘ U μ_i
    φ, ψ and the readout R are networks with one hidden layer and SiLU.

    Departures from the paper: the envelope is C² by default; ε rounds the cone of the norm off where μ = 0
    (at sites of high symmetry, where forces are linear in displacements only while |V μ| < √ε: with 1e-8 a
    perfect crystal has no usable force constants); subtracting R(q_alone) gives an isolated atom E0 + shift.

    Args:
        elements: chemical symbols; kept in order of atomic number.
        cutoff: Å.
        channels: number of scalars, and of vectors, on each atom.
        n_layers: layers T.
        n_radial: radial basis functions.
        radial_basis: bessel, sin(nπr/r_c)/r (the paper's), or gaussian.
        gamma: exponent of the Gaussians in Å⁻²; 1/(2Δ²) from their spacing Δ if not given.
        envelope: polynomial (C²) or cosine (the paper's, C¹).
        envelope_power: power of the polynomial envelope.
        norm_epsilon: ε in the norm of vectors; the published code has 1e-8.
        readout_widths: hidden widths of the readout; half the channels if not given.
        readout_activation: silu (the paper's) or shifted_softplus.
        atomic_energies: energy of each isolated atom, eV; zero where not given.
        scale: factor on the network's energy, eV; the training data's force spread is usual.
        shift: added to each atom's energy, eV.
        isolated_limit: give an isolated atom exactly E0 + shift; false is the published form.
        seed: of the initial weights.

    Raises:
        ValueError: for an unknown element or choice, or sizes that are not positive.
    """

    references: ClassVar[tuple[str, ...]] = ("10.48550/arXiv.2102.03150",)

    def __init__(
        self,
        *,
        elements: Sequence[str],
        cutoff: float = 5.0,
        channels: int = 128,
        n_layers: int = 3,
        n_radial: int = 20,
        radial_basis: Literal["bessel", "gaussian"] = "bessel",
        gamma: float | None = None,
        envelope: Literal["polynomial", "cosine"] = "polynomial",
        envelope_power: int = 6,
        norm_epsilon: float = 1e-2,
        readout_widths: Sequence[int] | None = None,
        readout_activation: Literal["silu", "shifted_softplus"] = "silu",
        atomic_energies: Mapping[str, float] | None = None,
        scale: float = 1.0,
        shift: float = 0.0,
        isolated_limit: bool = True,
        seed: int = 0,
    ) -> None:
        super().__init__()
        check_positive(
            cutoff=cutoff,
            channels=channels,
            n_layers=n_layers,
            n_radial=n_radial,
            norm_epsilon=norm_epsilon,
            scale=scale,
        )
        self.elements = periodic_table.sorted_symbols(elements)
        self.cutoff, self.n_layers = cutoff, n_layers
        self.scale, self.shift, self.isolated_limit = scale, shift, isolated_limit
        self.atomic_energies = AtomicEnergies(self.elements, atomic_energies)
        hidden = (max(1, channels // 2),) if readout_widths is None else tuple(readout_widths)
        with seeded(seed):
            self.embedding = nn.Parameter(torch.randn(len(self.elements), channels))
            self.filters = RadialFilters(
                n_layers=n_layers,
                widths=(n_radial, 3 * channels),
                cutoff=cutoff,
                basis=radial_basis,
                gamma=gamma,
                envelope=envelope,
                envelope_power=envelope_power,
            )
            self.layers = nn.ModuleList(
                [
                    PaiNNLayer(channels=channels, last=t == n_layers - 1, norm_epsilon=norm_epsilon)
                    for t in range(n_layers)
                ]
            )
            self.readout = MLP(widths=(channels, *hidden, 1), activation=readout_activation)
            start_glorot(self)
        self._plan, self._first_plan = (
            PlanStore(_plan(with_vectors=True)),
            PlanStore(_plan(with_vectors=False)),
        )

    @property
    def receptive_field(self) -> float:
        """Cutoff × layers, Å."""
        return self.cutoff * self.n_layers

    @property
    def splines_radial(self) -> bool:
        """True."""
        return True

    def decayed_parameters(self) -> Iterable[str]:
        """Matrices of all networks; not the embedding, not biases."""
        return [n for n, _ in self.named_parameters() if ".weight" in n]

    def forward(self, system: System, pairs: Pairs) -> Results:
        """Energies per atom, eV."""
        if pairs.cutoff > self.cutoff:
            pairs, _ = pairs.within(system, self.cutoff)
        types = self.types(system)
        vectors = pairs.vectors(system, self.dtype)
        r = torch.linalg.vector_norm(vectors, dim=1)
        harmonics = torch.cat([torch.ones_like(r)[:, None], vectors / r[:, None]], 1)
        filters, points = self.filters.at(r, self.radial_spline)
        filters = filters.unflatten(2, (3, -1))
        edges = _Edges(pairs, points, harmonics, self._plan.like(r), self._first_plan.like(r))
        q = (
            with_isolated(self.embedding, types)
            if self.isolated_limit
            else self.embedding.index_select(0, types)
        )
        mu = None
        for layer, w in zip(self.layers, filters, strict=True):
            q, mu = layer(q, mu, w, edges)
        energies = self.readout(q).squeeze(-1).to(torch.float64)
        if self.isolated_limit:
            energies = above_isolated(energies, types)
        return Results(energies=self.atomic_energies(types) + self.shift + self.scale * energies)

    def program(self, *, tabulate: bool | None = None, tolerance: float = 1e-5) -> Program | None:
        """A snapshot of this potential as compiled CPU kernels; None on other devices and precisions.

        With `tabulate` filters are quintic splines of the distance. Forces of trial structures must then
        equal those of the networks within `tolerance`, eV/Å, or within twice the rounding of automatic
        differentiation in this precision where that is larger; raises ValueError otherwise. Without, the
        result equals `forward` to rounding. None: see `tabulated_program`.
        """
        if self.embedding.device.type != "cpu" or self.dtype not in (torch.float32, torch.float64):
            return None
        from .painn_program import CompiledPaiNN

        def build(tables: bool) -> Program:
            return CompiledPaiNN(self, tabulate=tables, tolerance=tolerance)

        return tabulated_program(build, self.dtype, tabulate)

    @classmethod
    def examples(cls) -> "list[PaiNN]":
        """Small instances for the conformance tests."""
        small: dict[str, Any] = {"elements": ("O", "Si"), "cutoff": 4.0, "channels": 8, "n_radial": 8}
        energies = {"O": -2.0, "Si": -3.5}
        return [
            cls(**small, n_layers=2, atomic_energies=energies, scale=0.8, shift=0.1),
            cls(**small, n_layers=3, radial_basis="gaussian", readout_activation="shifted_softplus"),
        ]


class PaiNNLayer(nn.Module):
    """A message and an update, arXiv:2102.03150, eqs. 7–9 and figs. 2b, 2c.

    Args:
        channels: number of scalars and of vectors.
        last: vectors are not read after this layer.
        norm_epsilon: ε in the norm of vectors.
    """

    def __init__(self, *, channels: int, last: bool, norm_epsilon: float) -> None:
        super().__init__()
        self.last, self.norm_epsilon = last, norm_epsilon
        self.message = MLP(widths=(channels, channels, 3 * channels), activation="silu")
        self.mix = nn.Linear(channels, 2 * channels, bias=False)
        self.update = MLP(widths=(2 * channels, channels, 3 * channels), activation="silu")

    def forward(
        self,
        q: Float[Tensor, "rows channels"],
        mu: Float[Tensor, "rows 3 channels"] | None,
        filters: Float[Tensor, "samples 3 channels"],
        edges: _Edges,
    ) -> tuple[Float[Tensor, "rows channels"], Float[Tensor, "rows 3 channels"] | None]:
        """(q, μ) after the layer; rows beyond the atoms have no neighbours; None is μ = 0, or μ unread."""
        dq, mu_new = self._messages(q, mu, filters, edges)
        return self._updated(q + dq, mu_new if mu is None else mu + mu_new)

    def _messages(
        self, q: Tensor, mu: Tensor | None, filters: Tensor, edges: _Edges
    ) -> tuple[Float[Tensor, "rows channels"], Float[Tensor, "rows 3 channels"]]:
        pairs, n = edges.pairs, edges.pairs.n_atoms
        x = self.message(q[:n]).unflatten(1, (3, -1))
        # x³_j ∘ μ_j belongs to the sender: one product an atom, not one a pair
        if mu is None:
            plan, features, filters = edges.first_plan, x[:, :2], filters[:, :2]
        else:
            plan, features = edges.plan, torch.cat([x[:, :2], x[:, 2:] * mu[:n]], 1)
        senders = pairs.sync(features)
        out = convolve(plan, pairs.i, pairs.j, filters, edges.points, edges.harmonics, senders, q.shape[0])
        scalars, vectors = plan.split(out)
        return scalars[:, 0, 0], vectors.sum(2)

    def _updated(
        self, q: Tensor, mu: Tensor
    ) -> tuple[Float[Tensor, "rows channels"], Float[Tensor, "rows 3 channels"] | None]:
        v, u = self.mix(mu).chunk(2, -1)
        norm = torch.sqrt((v * v).sum(1) + self.norm_epsilon)
        a, b, c = self.update(torch.cat([q, norm], 1)).chunk(3, -1)
        q = q + a + c * (v * u).sum(1)
        return q, None if self.last else mu + b[:, None] * u


def _plan(*, with_vectors: bool) -> ConvolutionPlan:
    """Features x¹ (a scalar), x² (a scalar that becomes a vector along r̂) and x³μ (a vector)."""
    one, unit = torch.ones(1, 1, 1, dtype=torch.float64), torch.eye(3, dtype=torch.float64)
    couplings = [Coupling(0, 0, 0, one), Coupling(1, 1, 1, unit[:, None])]
    if with_vectors:
        couplings.append(Coupling(0, 2, 1, unit[None]))
    return plan_convolution(couplings, n_harmonics=4, n_features=5 if with_vectors else 2)
