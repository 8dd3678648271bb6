"""Allegro: equivariant features of pairs, strictly local, no messages.

Musaelian, Batzner, Johansson, Sun, Owen, Kornbluth & Kozinsky, Nat. Commun. 14, 579 (2023),
doi:10.1038/s41467-023-36329-y. Equal to the package nequip-allegro 0.8 on the same weights
(tests/peers/allegro).
"""

from collections.abc import Mapping, Sequence
from math import sqrt
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from rikiba.core import elements as periodic_table
from rikiba.core.pairs import Pairs
from rikiba.core.results import Results
from rikiba.core.system import System
from rikiba.kernels.grouping import segment_sum
from rikiba.nn.atomic_energies import AtomicEnergies, by_element
from rikiba.nn.cutoff import polynomial
from rikiba.nn.double_buffers import DoubleBuffers
from rikiba.nn.irrep_layers import harmonics_of
from rikiba.nn.irreps import Irrep
from rikiba.nn.mlp import NormalisedMLP
from rikiba.nn.pair_embedding import BesselPairEmbedding, PairEmbedding, SplinePairEmbedding
from rikiba.nn.pair_products import PairProduct, Surroundings, reachable
from rikiba.nn.repulsion import lammps_zbl_by_atom
from rikiba.nn.so3 import spherical_harmonics

from .base import Potential, Program, check_positive, seeded, tabulated_program


class Allegro(DoubleBuffers, Potential):
    """E_i = E0 + shift + scale·Σ_j e_ij/√(2N̄) + ZBL_i, where each pair has scalars s and tensors V.

    Nat. Commun. 14, 579 (2023), "Methods", in the form of the authors' later code:

    x_ij = MLP(embedding(r_ij, Z_i, Z_j)),  s⁰ = W x,  w⁰ = W′ x,  V⁰_ij,l = (W″ x)_l Y_l(r̂_ij)
    Γ_i,l = Σ_k w_ik,l Y_l(r̂_ik)/√N̄,  V ← Σ_p W_p [V_ij ⊗ Γ_i]_p,  (s^t, w^t) = MLP(s⁰ ‖ … ‖ s^(t−1) ‖ V_0e)
    e_ij = MLP(s⁰ ‖ … ‖ s^n).

    Departures from the paper, shared with that code: every scalar of earlier layers is an input of the next
    network, in place of the residual sum, and no network has a bias, so that the embedding's factor f(r_ij)
    carries over to all that follows and stands nowhere else. The energy of an atom depends on the atoms
    within one cutoff alone, whatever the number of layers; an atom without neighbours has E0 + shift.
    With fixed frequencies or splines it is C3 in every distance at the cutoff, with trained ones C2.

    Args:
        elements: chemical symbols; kept in order of atomic number.
        cutoff: Å.
        n_layers: products with the surroundings.
        l_max: highest degree of the spherical harmonics and of the tensors.
        parity: both (tensors even and odd under inversion, as in the paper) or natural, (−1)^l. Tensors that
            cannot influence the energy are left out: up to 2 layers the two are the same.
        scalar_channels: length of s.
        tensor_channels: channels of V and Γ.
        radial_embedding: bessel, or spline (functions of their own for every ordered pair of elements).
        embedding_channels: length of the embedding; that of s if not given.
        n_bessel: radial basis functions.
        bessel_trainable: learn their frequencies (the energy is then C2 at the cutoff).
        envelope_power: power of the polynomial envelope.
        n_splines: functions for each pair of elements.
        spline_span: how many of them overlap at a distance, less one.
        embedding_widths: hidden widths of the network behind the embedding.
        latent_widths: hidden widths of the layers' networks.
        readout_widths: hidden widths of the last one; none makes it linear.
        activation: silu, gelu, mish, tanh or identity, in all networks.
        path_weights: channels (a weight for each coupling and channel) or shared (one for each coupling).
        avg_num_neighbors: mean number of neighbours, or one for each element (of the centre); computed from
            the training data.
        atomic_energies: energy of each isolated atom, eV; zero where not given.
        scale: factor on the interaction energy per atom, one number or one for each element.
        shift: added to each atom's energy, eV, one number or one for each element.
        zbl: add a screened nuclear repulsion, not scaled, brought to zero at the cutoff by the polynomial
            envelope.
        seed: of the initial weights.

    Raises:
        ValueError: for an unknown element or name, and sizes that are not positive.
    """

    scale: Tensor
    _normalisation: Tensor
    _numbers: Tensor
    _degrees: Tensor
    references: ClassVar[tuple[str, ...]] = ("10.1038/s41467-023-36329-y",)

    def __init__(
        self,
        *,
        elements: Sequence[str],
        cutoff: float = 5.0,
        n_layers: int = 2,
        l_max: int = 2,
        parity: Literal["both", "natural"] = "both",
        scalar_channels: int = 64,
        tensor_channels: int = 16,
        radial_embedding: Literal["bessel", "spline"] = "bessel",
        embedding_channels: int | None = None,
        n_bessel: int = 8,
        bessel_trainable: bool = False,
        envelope_power: int = 6,
        n_splines: int = 16,
        spline_span: int = 12,
        embedding_widths: Sequence[int] = (64,),
        latent_widths: Sequence[int] = (64,),
        readout_widths: Sequence[int] = (32,),
        activation: Literal["silu", "gelu", "mish", "tanh", "identity"] = "silu",
        path_weights: Literal["channels", "shared"] = "channels",
        avg_num_neighbors: float | Mapping[str, float] = 1.0,
        atomic_energies: Mapping[str, float] | None = None,
        scale: float | Mapping[str, float] = 1.0,
        shift: float | Mapping[str, float] = 0.0,
        zbl: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        check_positive(cutoff=cutoff, n_layers=n_layers, n_bessel=n_bessel)
        check_positive(scalar_channels=scalar_channels, tensor_channels=tensor_channels)
        if l_max < 0:
            raise ValueError(f"l_max must be at least 0; given {l_max}.")
        if path_weights not in ("channels", "shared"):
            raise ValueError(f"path_weights is 'channels' or 'shared'; given '{path_weights}'.")
        self.elements = periodic_table.sorted_symbols(elements)
        self.cutoff, self.n_layers, self.l_max, self.zbl = cutoff, n_layers, l_max, zbl
        self.scalar_channels, self.tensor_channels = scalar_channels, tensor_channels
        self.envelope_power = envelope_power
        self.atomic_energies = AtomicEnergies(self.elements, atomic_energies)
        self.shift = AtomicEnergies(self.elements, by_element(shift, self.elements))
        self._register_values(scale, avg_num_neighbors)
        self.tensors = reachable(_wanted(l_max, parity), harmonics_of(l_max), n_layers)
        """Representations of V before each layer and after the last."""
        n_embedding = scalar_channels if embedding_channels is None else embedding_channels
        weights = (l_max + 1) * tensor_channels
        with seeded(seed):
            self.embedding: PairEmbedding
            if radial_embedding == "bessel":
                self.embedding = BesselPairEmbedding(
                    types=len(self.elements),
                    channels=n_embedding,
                    n_bessel=n_bessel,
                    cutoff=cutoff,
                    trainable=bessel_trainable,
                    envelope_power=envelope_power,
                )
            elif radial_embedding == "spline":
                self.embedding = SplinePairEmbedding(
                    types=len(self.elements),
                    channels=n_embedding,
                    n_splines=n_splines,
                    span=spline_span,
                    cutoff=cutoff,
                )
            else:
                raise ValueError(f"radial_embedding is 'bessel' or 'spline'; given '{radial_embedding}'.")
            self.two_body = NormalisedMLP(
                widths=(n_embedding, *embedding_widths, scalar_channels), activation=activation
            )
            self.first_tensors = NormalisedMLP(
                widths=(scalar_channels, len(self.tensors[0]) * tensor_channels)
            )
            self.first = NormalisedMLP(widths=(scalar_channels, scalar_channels + weights))
            self.surroundings = Surroundings(l_max=l_max)
            self.layers = nn.ModuleList(
                [
                    AllegroLayer(
                        features=self.tensors[t],
                        harmonics=harmonics_of(l_max),
                        outputs=self.tensors[t + 1],
                        channels=tensor_channels,
                        mixed=path_weights == "channels",
                        widths=(
                            (t + 1) * scalar_channels + tensor_channels,
                            *latent_widths,
                            scalar_channels + (weights if t < n_layers - 1 else 0),
                        ),
                        activation=activation,
                    )
                    for t in range(n_layers)
                ]
            )
            self.readout = NormalisedMLP(
                widths=((n_layers + 1) * scalar_channels, *readout_widths, 1), activation=activation
            )

    def _register_values(
        self, scale: float | Mapping[str, float], avg_num_neighbors: float | Mapping[str, float]
    ) -> None:
        scales, counts = by_element(scale, self.elements), by_element(avg_num_neighbors, self.elements)
        for n in counts.values():
            check_positive(avg_num_neighbors=n)
        values, numbers = ([x[s] for s in self.elements] for x in (scales, counts))
        self.register_buffer("scale", torch.tensor(values, dtype=torch.float64))
        roots = torch.tensor(numbers, dtype=torch.float64).rsqrt()
        self.register_buffer("_normalisation", roots, persistent=False)
        known = periodic_table.numbers_of(self.elements)
        self.register_buffer("_numbers", known, persistent=False)
        degree = torch.arange(self.l_max + 1)
        self.register_buffer("_degrees", degree.repeat_interleave(2 * degree + 1), persistent=False)

    def forward(self, system: System, pairs: Pairs) -> Results:
        """Energies per atom, eV."""
        if pairs.cutoff > self.cutoff:
            pairs, _ = pairs.within(system, self.cutoff)
        types = self.types(system)
        vectors = pairs.vectors(system, self.dtype)
        r = torch.linalg.vector_norm(vectors, dim=1)
        interaction = self._interaction(pairs, types, vectors, r).to(torch.float64)
        energies = self.atomic_energies(types) + self.shift(types) + self.scale.double()[types] * interaction
        if self.zbl:
            envelope = polynomial(r / self.cutoff, self.envelope_power)
            repulsion = lammps_zbl_by_atom(r, pairs.i, pairs.j, self._numbers[types], envelope)
            energies = energies + repulsion.to(torch.float64)
        return Results(energies=energies)

    def program(self, *, tabulate: bool | None = None, tolerance: float = 1e-5) -> Program | None:
        """A snapshot of this potential as compiled CPU kernels; later changes of the weights do not reach it.

        With `tabulate` what depends on the distance alone becomes a spline. Forces in a trial structure must
        then equal those of the networks within `tolerance`, eV/Å, or within twice the rounding of automatic
        differentiation in this precision where that is larger; otherwise ValueError. Of more than eight
        elements tables are made when they are first met, checked likewise for every two of them, and where
        that fails, with a warning, not used; a structure of more than eight reads the embedding alone from
        a table. Answers do not depend on what was met before. Without tables the result equals `forward` to
        rounding. None: see `tabulated_program`.

        No program (None) for other devices and precisions, activations other than silu, and layers without
        a hidden one.
        """
        here = self.device == torch.device("cpu") and self.dtype in (torch.float32, torch.float64)
        latent: NormalisedMLP = self.layers[0].latent  # type: ignore[assignment]
        if not here or latent.function != "silu" or len(latent.weights) < 2:
            return None
        from .allegro_program import compiled_allegro

        def build(tables: bool) -> Program:
            return compiled_allegro(self, tabulate=tables, tolerance=tolerance)

        return tabulated_program(build, self.dtype, tabulate)

    def _interaction(self, pairs: Pairs, types: Tensor, vectors: Tensor, r: Tensor) -> Float[Tensor, "atoms"]:
        """Σ_j e_ij/√(2N̄)."""
        n, normalisation = len(types), self._normalisation.to(r)[types]
        x = self.two_body(self.embedding(r, types[pairs.i], types[pairs.j]))
        harmonics = spherical_harmonics(vectors / r[:, None], self.l_max)
        tensors = self._by_degree(self.first_tensors(x)).transpose(1, 2)
        tensors = tensors.index_select(2, self._degrees) * harmonics[:, None, :]
        s, w = self._split(self.first(x))
        scalars = [s]
        for layer in self.layers:
            assert w is not None
            around = self.surroundings(pairs.i, self._by_degree(w), harmonics, n)
            around = (around * normalisation[:, None, None]).transpose(1, 2).index_select(0, pairs.i)
            tensors, latent = layer(tensors, around, scalars)
            s, w = self._split(latent)
            scalars.append(s)
        e = self.readout(torch.cat(scalars, 1))[:, 0]
        return segment_sum(e, pairs.i, n) * (normalisation * (1.0 / sqrt(2.0)))

    def _by_degree(self, weights: Tensor) -> Float[Tensor, "pairs degrees channels"]:
        return weights.unflatten(1, (-1, self.tensor_channels))

    def _split(self, latent: Tensor) -> tuple[Tensor, Tensor | None]:
        """Scalars and, but from the last layer, weights of the surroundings."""
        n = self.scalar_channels
        return latent[:, :n], latent[:, n:] if latent.shape[1] > n else None

    @classmethod
    def examples(cls) -> "list[Allegro]":
        """Small instances for the conformance tests."""
        small: dict[str, Any] = {"elements": ("O", "Si"), "cutoff": 3.5, "scalar_channels": 6}
        small |= {"avg_num_neighbors": 5.0, "atomic_energies": {"O": -2.0, "Si": -3.0}, "scale": 0.8}
        small |= {"embedding_widths": (8,), "latent_widths": (8,), "readout_widths": (4,)}
        return [
            cls(**small, tensor_channels=3, n_bessel=4),
            cls(
                **small,
                tensor_channels=2,
                n_layers=3,
                l_max=1,
                radial_embedding="spline",
                n_splines=6,
                spline_span=4,
                path_weights="shared",
                zbl=True,
            ),
        ]


class AllegroLayer(nn.Module):
    """V ← Σ_p W_p [V_ij ⊗ Γ_i]_p and MLP(scalars ‖ V_0e).

    Args:
        features: representations of V.
        harmonics: those of Γ.
        outputs: those of the new V; the first is 0e.
        channels: of V and Γ.
        mixed: a weight for each coupling and channel.
        widths: of the network.
        activation: in the network.
    """

    def __init__(
        self,
        *,
        features: Sequence[Irrep],
        harmonics: Sequence[Irrep],
        outputs: Sequence[Irrep],
        channels: int,
        mixed: bool,
        widths: Sequence[int],
        activation: str,
    ) -> None:
        super().__init__()
        self.product = PairProduct(
            features=features, surroundings=harmonics, outputs=outputs, channels=channels, mixed=mixed
        )
        self.latent = NormalisedMLP(widths=widths, activation=activation)

    def forward(
        self,
        tensors: Float[Tensor, "pairs channels d"],
        around: Float[Tensor, "pairs channels lm"],
        scalars: Sequence[Float[Tensor, "pairs n"]],
    ) -> tuple[Float[Tensor, "pairs channels d_out"], Float[Tensor, "pairs outputs"]]:
        tensors = self.product(tensors, around)
        return tensors, self.latent(torch.cat([*scalars, tensors[:, :, 0]], 1))


def _wanted(l_max: int, parity: str) -> list[Irrep]:
    """Representations that tensors may have: by degree, even parity first."""
    if parity not in ("both", "natural"):
        raise ValueError(f"parity is 'both' or 'natural'; given '{parity}'.")
    found = [Irrep(l, p) for l in range(l_max + 1) for p in (1, -1)]
    return [ir for ir in found if parity == "both" or ir.natural]
