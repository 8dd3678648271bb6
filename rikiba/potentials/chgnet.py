"""CHGNet: features on atoms, bonds and angles, and the magnetic moments that they tell.

Deng et al., Nat. Mach. Intell. 5, 1031 (2023), doi:10.1038/s42256-023-00716-3. Equal to chgnet 0.4.2 on the
same weights (tests/peers/chgnet).
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from rikiba.core import elements as periodic_table
from rikiba.core.pairs import Pairs
from rikiba.core.results import Results
from rikiba.core.system import System
from rikiba.nn.angular import Fourier
from rikiba.nn.atomic_energies import AtomicEnergies
from rikiba.nn.cutoff import polynomial
from rikiba.nn.gated_mlp import GatedMLP
from rikiba.nn.mlp import MLP
from rikiba.nn.radial import Bessel

from .base import Potential, Program, check_positive, seeded, tabulated_program
from .schnet import above_isolated, with_isolated


class BondGraph(NamedTuple):
    """Pairs shorter than the bonds' cutoff, and the angles between them."""

    parent: Int[Tensor, "bonds"]
    """Place among all pairs."""
    centre: Int[Tensor, "bonds"]
    reverse: Int[Tensor, "bonds"]
    """Place of the opposite bond."""
    first: Int[Tensor, "angles"]
    second: Int[Tensor, "angles"]
    """The two bonds of each angle, at one centre; each pair of bonds in both orders."""

    @staticmethod
    def of(system: System, pairs: Pairs, cutoff: float) -> "BondGraph":
        """Raises ValueError for pairs not closed under reversal: a bond reads angles at both ends."""
        short, parent = pairs.within(system, cutoff)
        return BondGraph(parent, short.i, short.reverse(), *short.triplets())


class CHGNet(Potential):
    """E = Σ_i [E0(Z_i) + shift + scale·(R(v_i) − R(v_alone))] after T layers; m_i = |w·v_i + b| after T − 1.

    v⁰_i = embedding of Z_i, e⁰_ij = W_e b(r_ij), a⁰_jik = W_a F(θ_jik); b are Bessel functions with trained
    frequencies times an envelope, F sines and cosines with trained frequencies. Each layer (eqs. 2–4):
    v_i ← v_i + L(Σ_j φ(v_i, e_ij, v_j) ∘ ẽ_ij),  ẽ_ij = W b(r_ij)
    e_ij ← e_ij + L(Σ_k φ(e_ij, e_ik, a_jik, v_i) ∘ ẽ′_ij ∘ ẽ′_ik + the same at j),  ẽ′_ij = W b′(r_ij)
    a_jik ← a_jik + φ(e_ij, e_ik, a_jik, v_i)
    with gated perceptrons φ and angles between bonds shorter than `bond_cutoff` only. A bond's features are
    those of both directions; the last layer updates atoms alone. R ends in layer norm and a perceptron.

    Departures from the published code: subtracting R(v_alone) gives an isolated atom E0 + shift; an update of
    angles that nothing reads is left out. Defaults are version 0.3.0; 0.2.0 has n_radial = 9, n_angular = 4,
    cutoff = 5, envelope_power = 5, readout_widths = [64, 64], no norms, and a bias in L.

    Args:
        elements: chemical symbols; kept in order of atomic number.
        cutoff: of pairs, Å.
        bond_cutoff: of bonds between which angles are, Å.
        channels: features of an atom, of a bond and of an angle.
        n_layers: layers T, at least 2.
        n_radial: Bessel functions.
        n_angular: frequencies of angles; twice as many functions, and one.
        envelope_power: power of the polynomial envelope, C² at both cutoffs.
        hidden_widths: hidden widths of φ for atoms and bonds.
        angle_widths: hidden widths of φ for angles.
        readout_widths: hidden widths of R.
        gate_norm: layer norms in φ.
        readout_norm: layer norm before R.
        output_bias: a bias in L.
        bias_needs_angles: leave the bias of bonds' L out where a structure has no angle at all, as the
            published code does: the energy then jumps as the first angle appears.
        angle_epsilon: rounds off the angles' functions at straight angles, see `Fourier`.
        trainable_frequencies: learn the frequencies of radial and angular functions.
        atomic_energies: energy of each element's atom, eV; zero where not given.
        scale: factor on the network's energy, eV; the training data's force spread is usual.
        shift: added to each atom's energy, eV.
        isolated_limit: give an isolated atom exactly E0 + shift; false is the published form, where E0 is
            fitted to compounds and an isolated atom has E0 + R(v_alone).
        seed: of the initial weights.

    Raises:
        ValueError: for an unknown element, sizes that are not positive, fewer than two layers, or a
            bond_cutoff beyond the cutoff.
    """

    references: ClassVar[tuple[str, ...]] = ("10.1038/s42256-023-00716-3",)

    def __init__(
        self,
        *,
        elements: Sequence[str],
        cutoff: float = 6.0,
        bond_cutoff: float = 3.0,
        channels: int = 64,
        n_layers: int = 4,
        n_radial: int = 31,
        n_angular: int = 15,
        envelope_power: int = 8,
        hidden_widths: Sequence[int] = (64,),
        angle_widths: Sequence[int] = (),
        readout_widths: Sequence[int] = (64, 64, 64),
        gate_norm: bool = True,
        readout_norm: bool = True,
        output_bias: bool = False,
        bias_needs_angles: bool = False,
        angle_epsilon: float = 1e-6,
        trainable_frequencies: bool = True,
        atomic_energies: Mapping[str, float] | None = None,
        scale: float = 1.0,
        shift: float = 0.0,
        isolated_limit: bool = True,
        seed: int = 0,
    ) -> None:
        super().__init__()
        check_positive(
            cutoff=cutoff,
            bond_cutoff=bond_cutoff,
            channels=channels,
            n_radial=n_radial,
            n_angular=n_angular,
            scale=scale,
        )
        if n_layers < 2 or bond_cutoff > cutoff:
            raise ValueError(
                f"n_layers is at least 2 and bond_cutoff at most cutoff; given {n_layers}, {bond_cutoff} Å "
                f"and {cutoff} Å."
            )
        polynomial(torch.zeros(1), envelope_power)  # refuses a bad power now
        self.elements = periodic_table.sorted_symbols(elements)
        self.cutoff, self.bond_cutoff, self.n_layers = cutoff, bond_cutoff, n_layers
        self.envelope_power, self.bias_needs_angles = envelope_power, bias_needs_angles and output_bias
        self.scale, self.shift, self.isolated_limit = scale, shift, isolated_limit
        self.atomic_energies = AtomicEnergies(self.elements, atomic_energies)
        c, hidden = channels, tuple(hidden_widths)

        def radial(reach: float) -> Bessel:
            return Bessel(n=n_radial, cutoff=reach, trainable=trainable_frequencies)

        def gated(parts: int, widths: tuple[int, ...]) -> GatedMLP:
            return GatedMLP(widths=(parts * c, *widths, c), norm=gate_norm)

        with seeded(seed):
            self.embedding = nn.Parameter(torch.randn(len(self.elements), c))
            self.radial, self.bond_radial = radial(cutoff), radial(bond_cutoff)
            self.angular = Fourier(order=n_angular, trainable=trainable_frequencies, epsilon=angle_epsilon)
            self.bond_embedding = nn.Linear(n_radial, c, bias=False)
            self.pair_weights = nn.Linear(n_radial, c, bias=False)
            self.bond_weights = nn.Linear(n_radial, c, bias=False)
            self.angle_embedding = nn.Linear(2 * n_angular + 1, c, bias=False)
            self.atom_gates = nn.ModuleList([gated(3, hidden) for _ in range(n_layers)])
            self.bond_gates = nn.ModuleList([gated(4, hidden) for _ in range(n_layers - 1)])
            self.angle_gates = nn.ModuleList([gated(4, tuple(angle_widths)) for _ in range(n_layers - 2)])
            self.atom_outputs = nn.ModuleList([nn.Linear(c, c, bias=output_bias) for _ in range(n_layers)])
            self.bond_outputs = nn.ModuleList(
                [nn.Linear(c, c, bias=output_bias) for _ in range(n_layers - 1)]
            )
            self.moment = nn.Linear(c, 1)
            self.readout_norm = nn.LayerNorm(c) if readout_norm else nn.Identity()
            self.readout = MLP(widths=(c, *readout_widths, 1))

    @property
    def receptive_field(self) -> float:
        """Cutoff × layers, Å."""
        return self.cutoff * self.n_layers

    def decayed_parameters(self) -> Iterable[str]:
        """Matrices of all networks; not the embedding, norms, frequencies or biases."""
        return [n for n, p in self.named_parameters() if n.endswith(".weight") and p.ndim == 2]

    def forward(self, system: System, pairs: Pairs) -> Results:
        """Energies per atom in eV, magnetic moments in μB."""
        if pairs.cutoff > self.cutoff:
            pairs, _ = pairs.within(system, self.cutoff)
        types = self.types(system)
        vectors = pairs.vectors(system, self.dtype)
        r = torch.linalg.vector_norm(vectors, dim=1)
        bonds = BondGraph.of(system, pairs, self.bond_cutoff)
        basis = self._basis(self.radial, r)
        e, weights = self.bond_embedding(basis), self.pair_weights(basis)
        at_bonds = self.bond_weights(self._basis(self.bond_radial, r[bonds.parent]))
        unit = (vectors / r[:, None])[bonds.parent]
        a = self.angle_embedding(self.angular((unit[bonds.first] * unit[bonds.second]).sum(1)))
        v = with_isolated(self.embedding, types) if self.isolated_limit else self.embedding[types]
        biased = self._biased(system, pairs, bonds, e)
        moments = v.new_zeros(0)
        for t in range(self.n_layers):
            if t == self.n_layers - 1:
                moments = self.moment(v[: system.n_atoms]).squeeze(1).abs().to(torch.float64)
            v = self._atoms(t, v, e, weights, pairs)
            if t < self.n_layers - 1:
                e = self._bonds(t, v, e, a, at_bonds, bonds, biased)
            if t < self.n_layers - 2:
                a = a + self.angle_gates[t](*self._angle_parts(v, e, a, bonds))
        energies = self.readout(self.readout_norm(v)).squeeze(1).to(torch.float64)
        if self.isolated_limit:
            energies = above_isolated(energies, types)
        energies = self.atomic_energies(types) + self.shift + self.scale * energies
        return Results(energies=energies, magmoms=moments)

    def _basis(self, radial: Bessel, r: Tensor) -> Float[Tensor, "pairs functions"]:
        return radial(r) * polynomial(r / radial.cutoff, self.envelope_power)[:, None]

    def _biased(self, system: System, pairs: Pairs, bonds: BondGraph, like: Tensor) -> Tensor:
        """[pairs, 1] or [1, 1]: 1 where the bias of bonds' L is added."""
        if not self.bias_needs_angles:
            return like.new_ones(1, 1)
        centre = system.system_index[bonds.centre[bonds.first]]
        with_angles = like.new_zeros(system.n_systems).index_fill(0, centre, 1.0)
        return with_angles[system.system_index[pairs.i]][:, None]

    def _atoms(self, t: int, v: Tensor, e: Tensor, weights: Tensor, pairs: Pairs) -> Tensor:
        """Atoms after layer t; rows beyond the atoms have no neighbours."""
        senders = pairs.sync(v[: pairs.n_atoms])
        messages = self.atom_gates[t]((v, pairs.i), (e, None), (senders, pairs.j)) * weights
        return v + self.atom_outputs[t](torch.zeros_like(v).index_add(0, pairs.i, messages))

    def _bonds(
        self, t: int, v: Tensor, e: Tensor, a: Tensor, weights: Tensor, bonds: BondGraph, biased: Tensor
    ) -> Tensor:
        messages = self.bond_gates[t](*self._angle_parts(v, e, a, bonds))
        messages = messages * weights[bonds.first] * weights[bonds.second]
        one_end = torch.zeros_like(weights).index_add(0, bonds.first, messages)
        weight, bias = self.bond_outputs[t].weight, self.bond_outputs[t].bias
        update = (one_end + one_end[bonds.reverse]) @ weight.T  # type: ignore[operator]
        e = e.index_add(0, bonds.parent, update)
        return e if bias is None else e + biased * bias  # type: ignore[operator]

    @staticmethod
    def _angle_parts(
        v: Tensor, e: Tensor, a: Tensor, bonds: BondGraph
    ) -> tuple[tuple[Tensor, Tensor | None], ...]:
        own = e[bonds.parent]
        return (own, bonds.first), (own, bonds.second), (a, None), (v, bonds.centre[bonds.first])

    def program(self, *, tabulate: bool | None = None, tolerance: float = 1e-5) -> Program | None:
        """A snapshot of this potential as compiled CPU kernels; None on other devices and precisions.

        None too for networks φ of several hidden layers and for `bias_needs_angles`. With `tabulate`
        functions of a distance or an angle are quintic splines. Forces of trial structures must then equal
        those of the functions themselves within `tolerance`, eV/Å, or within twice the rounding of automatic
        differentiation in this precision where that is larger; raises ValueError otherwise. Without, the
        result equals `forward` to rounding. None: see `tabulated_program`.
        """
        deep = any(len(gates[0].core.layers) > 2 for gates in (self.atom_gates, self.bond_gates))  # type: ignore[union-attr, arg-type]
        deep = deep or any(len(gate.core.layers) > 2 for gate in self.angle_gates)  # type: ignore[union-attr, arg-type]
        cpu = self.embedding.device.type == "cpu" and self.dtype in (torch.float32, torch.float64)
        if deep or self.bias_needs_angles or not cpu:
            return None
        from .chgnet_program import CompiledCHGNet

        def build(tables: bool) -> Program:
            return CompiledCHGNet(self, tabulate=tables, tolerance=tolerance)

        return tabulated_program(build, self.dtype, tabulate)

    @classmethod
    def examples(cls) -> "list[CHGNet]":
        """Small instances for the conformance tests."""
        small = {"elements": ("O", "Si"), "cutoff": 4.0, "channels": 8, "n_radial": 6, "n_angular": 3}
        widths = {"hidden_widths": (8,), "readout_widths": (8,)}
        energies = {"O": -2.0, "Si": -3.5}
        return [
            cls(**small, **widths, n_layers=3, atomic_energies=energies, scale=0.8, shift=0.1),  # type: ignore[arg-type]
            cls(**small, **widths, n_layers=3, gate_norm=False, readout_norm=False, output_bias=True),  # type: ignore[arg-type]
        ]
