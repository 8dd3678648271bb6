"""M3GNet: messages along pairs whose features hear of the angles between them.

Chen & Ong, Nat. Comput. Sci. 2, 718 (2022), doi:10.1038/s43588-022-00349-3, arXiv:2202.02450. Equal to
matgl 4.1.2 on the same weights (tests/peers/matgl).
"""

from collections.abc import Iterable, Mapping, Sequence
from math import pi, sqrt
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from rikiba.core import elements as periodic_table
from rikiba.core.pairs import Pairs
from rikiba.core.results import Results
from rikiba.core.system import System
from rikiba.nn.atomic_energies import AtomicEnergies
from rikiba.nn.cutoff import polynomial
from rikiba.nn.filters import start_glorot
from rikiba.nn.gated_mlp import GatedMLP
from rikiba.nn.radial import SmoothBessel
from rikiba.nn.so3 import degrees, spherical_harmonics
from rikiba.nn.spherical_bessel import SphericalBesselGrid

from .base import Potential, Program, check_positive, seeded, tabulated_program

Basis = Literal["smooth_bessel", "bessel_grid"]


class _Angles(NamedTuple):
    """What the three-body terms read of the pairs within their cutoff."""

    pairs: Pairs
    parent: Tensor
    """Index of each in the list of all pairs."""
    envelope: Float[Tensor, "near"]
    radial: Float[Tensor, "near l n"]
    harmonics: Float[Tensor, "near lm"]


class M3GNet(Potential):
    """E = Σ_i [E0(Z_i) + shift + scale·(R(v_i) − R(v_alone))], v_i the features after T blocks.

    v⁰_i = embedding of Z_i, e⁰_ij = silu(W h(r_ij) + b), h radial functions. Each block (eqs. 2–5):
    ẽ_ij = Σ_k b_ln(r_ik) Y_l0(θ_jik) σ(W v_k + b)_ln f_c(r_ij) f_c(r_ik) over k ≠ j within the three-body
    cutoff;  e_ij ← e_ij + G(ẽ_ij);
    e_ij ← e_ij + G(v_i, v_j, e_ij) ∘ W h(r_ij);  v_i ← v_i + Σ_j G(v_i, v_j, e_ij) ∘ W h(r_ij)
    G and the readout R are gated networks, N(x) ∘ σ(N'(x)). f_c is the polynomial of power 3.

    The sum over k needs no triplets: with Y_l0(θ) = (4π/(2l+1))^½ Σ_m Y_lm(r̂_ij) Y_lm(r̂_ik)
    (orthonormal Y) it is one sum over neighbours for each centre, less the term k = j. Departures from the
    paper: subtracting R(v_alone) gives an isolated atom E0 + shift; there is no global state.

    Args:
        elements: chemical symbols; kept in order of atomic number.
        cutoff: Å.
        three_body_cutoff: Å; at most the cutoff.
        channels: length of features of atoms and pairs and of hidden layers.
        n_layers: blocks T.
        n_max: radial functions; of the grid, for each degree.
        l_max: highest degree of the angular functions.
        radial_basis: smooth_bessel (the paper's, C² at the cutoff) or bessel_grid (all functions of the
            three-body grid; energies are C⁰ at the cutoff, as in the public M3GNet-MP-2021.2.8).
        three_body_basis: bessel_grid (the paper's) or smooth_bessel ((l_max + 1)·n_max of these).
        readout_layers: hidden layers of the readout; matgl has 3.
        messages_to: centre (the paper's) or neighbour, where the pair's other end receives what is summed,
            as in matgl before version 4 and the public models of that time.
        atomic_energies: energy of each isolated atom, eV; zero where not given.
        scale: factor on the network's energy, eV; the training data's force spread is usual.
        shift: added to each atom's energy, eV.
        isolated_limit: give an isolated atom exactly E0 + shift; false is the published form.
        seed: of the initial weights.

    Raises:
        ValueError: for an unknown element or choice, sizes that are not positive, or a three-body cutoff
            beyond the cutoff.
    """

    references: ClassVar[tuple[str, ...]] = ("10.1038/s43588-022-00349-3",)

    def __init__(
        self,
        *,
        elements: Sequence[str],
        cutoff: float = 5.0,
        three_body_cutoff: float = 4.0,
        channels: int = 64,
        n_layers: int = 3,
        n_max: int = 3,
        l_max: int = 2,
        radial_basis: Basis = "smooth_bessel",
        three_body_basis: Basis = "bessel_grid",
        readout_layers: int = 2,
        messages_to: Literal["centre", "neighbour"] = "centre",
        atomic_energies: Mapping[str, float] | None = None,
        scale: float = 1.0,
        shift: float = 0.0,
        isolated_limit: bool = True,
        seed: int = 0,
    ) -> None:
        super().__init__()
        check_positive(
            cutoff=cutoff,
            three_body_cutoff=three_body_cutoff,
            channels=channels,
            n_layers=n_layers,
            n_max=n_max,
            scale=scale,
        )
        if three_body_cutoff > cutoff:
            raise ValueError(
                f"Three-body terms end within the cutoff; given {three_body_cutoff} > {cutoff} Å."
            )
        if messages_to not in ("centre", "neighbour"):
            raise ValueError(f"messages_to is 'centre' or 'neighbour'; given '{messages_to}'.")
        self.elements = periodic_table.sorted_symbols(elements)
        self.cutoff, self.three_body_cutoff, self.n_layers = cutoff, three_body_cutoff, n_layers
        self.l_max, self.messages_to = l_max, messages_to
        self.scale, self.shift, self.isolated_limit = scale, shift, isolated_limit
        self.atomic_energies = AtomicEnergies(self.elements, atomic_energies)
        functions = n_max * (l_max + 1)
        # a grid, or as many smooth functions, for the angles; for the pairs n_max smooth ones, or the grid
        self.radial, n_radial = _basis(radial_basis, n_max, n_max, l_max, cutoff)
        self.three_body, _ = _basis(three_body_basis, functions, n_max, l_max, cutoff)
        with seeded(seed):
            self.embedding = nn.Parameter(torch.randn(len(self.elements), channels))
            self.pair_embedding = nn.Linear(n_radial, channels)
            self.layers = nn.ModuleList(
                [
                    M3GNetLayer(channels=channels, n_radial=n_radial, functions=functions)
                    for _ in range(n_layers)
                ]
            )
            hidden = (channels,) * readout_layers
            self.readout = GatedMLP(widths=(channels, *hidden, 1), output_activation="identity")
            start_glorot(self)

    @property
    def receptive_field(self) -> float:
        """Å: the cutoff a block, and the three-body cutoff too where messages go to the neighbour."""
        beyond = self.three_body_cutoff if self.messages_to == "neighbour" else 0.0
        return (self.cutoff + beyond) * self.n_layers

    def decayed_parameters(self) -> Iterable[str]:
        """Matrices of all networks; not the embedding, not biases."""
        return [n for n, _ in self.named_parameters() if ".weight" in n]

    def forward(self, system: System, pairs: Pairs) -> Results:
        """Energies per atom, eV.

        Raises ValueError for a decomposed system with messages to the neighbour.
        """
        if pairs.cutoff > self.cutoff:
            pairs, _ = pairs.within(system, self.cutoff)
        if self.messages_to == "neighbour" and pairs.exchange is not None:
            raise ValueError("With messages_to = 'neighbour' a system cannot be decomposed; use 'centre'.")
        types = self.types(system)
        vectors = pairs.vectors(system, self.dtype)
        r = torch.linalg.vector_norm(vectors, dim=1)
        angles = self._angles(system, pairs, vectors / r[:, None], r)
        radial = self.radial(r)
        v, e = self.embedding.index_select(0, types), nn.functional.silu(self.pair_embedding(radial))
        to = pairs.i if self.messages_to == "centre" else pairs.j
        for layer in self.layers:
            v, e = layer(v, e, radial, pairs, angles, to)
        energies = self.readout((v, None)).squeeze(-1).to(torch.float64)
        if self.isolated_limit:
            kinds, which = types.unique(return_inverse=True)
            energies = (
                energies - self.readout((self.embedding[kinds], None)).squeeze(-1).to(torch.float64)[which]
            )
        return Results(energies=self.atomic_energies(types) + self.shift + self.scale * energies)

    def _angles(self, system: System, pairs: Pairs, unit: Tensor, r: Tensor) -> _Angles:
        near, parent = pairs.within(system, self.three_body_cutoff)
        r = r.index_select(0, parent)
        envelope = polynomial(r / self.three_body_cutoff, 3)
        radial = self.three_body(r).unflatten(1, (self.l_max + 1, -1)) * envelope[:, None, None]
        harmonics = spherical_harmonics(unit.index_select(0, parent), self.l_max)
        return _Angles(near, parent, envelope, radial, harmonics)

    def program(self, *, tabulate: bool | None = None, tolerance: float = 1e-5) -> Program | None:
        """A snapshot of this potential as compiled CPU kernels; None on other devices and precisions.

        With `tabulate` the functions of the distance are quintic splines. Forces of trial structures must
        then equal those of the functions themselves within `tolerance`, eV/Å, or within twice the rounding of
        automatic differentiation in this precision where that is larger; raises ValueError otherwise.
        Without, the result equals `forward` to rounding. None: see `tabulated_program`.
        """
        if self.embedding.device.type != "cpu" or self.dtype not in (torch.float32, torch.float64):
            return None
        from .m3gnet_program import CompiledM3GNet

        def build(tables: bool) -> Program:
            return CompiledM3GNet(self, tabulate=tables, tolerance=tolerance)

        return tabulated_program(build, self.dtype, tabulate)

    @classmethod
    def examples(cls) -> "list[M3GNet]":
        """Small instances for the conformance tests."""
        small: dict[str, Any] = {"elements": ("O", "Si"), "cutoff": 4.0, "three_body_cutoff": 3.5}
        small |= {"channels": 8, "n_layers": 2, "n_max": 2}
        energies = {"O": -2.0, "Si": -3.5}
        return [
            cls(**small, atomic_energies=energies, scale=0.8, shift=0.1),
            # a seed whose forces stand well above what its energies are rounded by in float32
            cls(**small, three_body_basis="smooth_bessel", readout_layers=1, messages_to="neighbour", seed=2),
        ]


class M3GNetLayer(nn.Module):
    """A block, doi:10.1038/s43588-022-00349-3, eqs. 2–5.

    Args:
        channels: length of features.
        n_radial: radial functions of a pair.
        functions: angular times radial functions of the three-body terms.
    """

    def __init__(self, *, channels: int, n_radial: int, functions: int) -> None:
        super().__init__()
        c = channels
        self.angular_weights = nn.Linear(c, functions)
        self.angular = GatedMLP(widths=(functions, c), bias=False)
        self.pair_update = GatedMLP(widths=(3 * c, c, c, c))
        self.pair_weights = nn.Linear(n_radial, c, bias=False)
        self.message = GatedMLP(widths=(3 * c, c, c, c))
        self.message_weights = nn.Linear(n_radial, c, bias=False)

    def forward(
        self,
        v: Float[Tensor, "atoms channels"],
        e: Float[Tensor, "pairs channels"],
        radial: Float[Tensor, "pairs n"],
        pairs: Pairs,
        angles: _Angles,
        to: Tensor,
    ) -> tuple[Float[Tensor, "atoms channels"], Float[Tensor, "pairs channels"]]:
        """(v, e) after the block; messages are summed at the atoms `to`."""
        around = pairs.sync(v)
        heard = self.angular((self.angular_sums(around, angles), None))
        e = e.index_add(0, angles.parent, heard)
        ends = ((v, pairs.i), (around, pairs.j))
        e = e + self.pair_update(*ends, (e, None)) * self.pair_weights(radial)
        message = self.message(*ends, (e, None)) * self.message_weights(radial)
        return v.index_add(0, to, message), e

    def angular_sums(self, v: Float[Tensor, "atoms channels"], angles: _Angles) -> Float[Tensor, "near ln"]:
        """ẽ_ij of eq. 2: the sum over all neighbours of the centre, less the neighbour itself."""
        pairs, parts = angles.pairs, []
        weights = torch.sigmoid(self.angular_weights(v)).unflatten(1, angles.radial.shape[1:])
        own = angles.radial * weights.index_select(0, pairs.j)
        for l, rows in enumerate(degrees(angles.radial.shape[1] - 1)):
            y = angles.harmonics[:, rows]
            sums = own.new_zeros((pairs.n_atoms, y.shape[1], own.shape[2]))
            sums = sums.index_add(0, pairs.i, y[:, :, None] * own[:, None, l])
            # component-normalised: Σ_m Y_lm(a) Y_lm(b) = (2l + 1) P_l(a·b)
            around = torch.einsum("pm,pmn->pn", y, sums.index_select(0, pairs.i)) / (2 * l + 1)
            parts.append(sqrt((2 * l + 1) / (4.0 * pi)) * (around - own[:, l]))
        return torch.cat(parts, 1) * angles.envelope[:, None]


def _basis(
    name: str, smooth: int, n_max: int, l_max: int, cutoff: float
) -> tuple[SmoothBessel | SphericalBesselGrid, int]:
    """Radial functions, `smooth` of the smooth ones, and their number."""
    if name == "smooth_bessel":
        return SmoothBessel(n=smooth, cutoff=cutoff), smooth
    if name == "bessel_grid":
        return SphericalBesselGrid(n=n_max, l_max=l_max, cutoff=cutoff), n_max * (l_max + 1)
    raise ValueError(f"A basis of M3GNet is 'smooth_bessel' or 'bessel_grid'; given '{name}'.")
