"""High-dimensional neural network potential of Behler and Parrinello."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from rikiba.core import elements as periodic_table
from rikiba.core.pairs import Pairs
from rikiba.core.system import System
from rikiba.descriptors.acsf import Envelope
from rikiba.nn.atomic_energies import AtomicEnergies

from .base import Program, check_positive
from .symmetry_networks import SymmetryFunctionPotential, element_networks, symmetry_functions


class BehlerParrinello(SymmetryFunctionPotential):
    """E = Σ_i [E0(Z_i) + shift + scale·(NN_{Z_i}(x_i) − NN_{Z_i}(x_alone))], x = (G − ⟨G⟩)/σ_G.

    G_i are the symmetry functions of atom i; x_alone is what an atom without neighbours has (G = 0).

    Behler & Parrinello, Phys. Rev. Lett. 98, 146401 (2007), doi:10.1103/PhysRevLett.98.146401. Every element
    has its own network. The default envelope is C²; "cosine" is the paper's, C¹.
    Departure from the paper: subtracting NN(x_alone) gives an isolated atom exactly E0 + shift;
    `isolated_limit = false` is the published form.

    Every element's network reads all functions, those that `columns` names for it, or the `n_selected` ones
    that the CUR decomposition keeps of the training set (`rikiba.descriptors.selection`).

    Args:
        elements: chemical symbols.
        cutoff: neighbour radius, Å.
        angular_cutoff: radius of the angular functions, Å; `cutoff` if not given.
        n_radial: shifted radial functions per neighbour element; ignored where `radial` is given.
        n_angular: radial shells of the angular functions; ignored where `wide` or `narrow` are given.
        zetas: exponents of the angular functions; ignored where `wide` or `narrow` are given.
        radial: explicit (η, r_s) of each radial function, 1/Å² and Å; a third number is its own cutoff.
        wide: explicit (η, r_s, ζ, λ) of each angular function without r_jk (G⁵); a fifth is its own cutoff.
        narrow: explicit (η, r_s, ζ, λ) of each angular function with r_jk (G⁴); a fifth is its own cutoff.
        oscillating: κ of each radial function cos(κr) (G³), 1/Å.
        hidden: widths of the hidden layers, or those of each element.
        activation: tanh, silu, gelu, softplus, sigmoid, gaussian_half (e^{−x²/2}), cosine, reversed_sigmoid,
            exponential (e^{−x}), harmonic (x²) or identity; or one of them for each hidden layer.
        envelope: polynomial (C²), cosine (the paper's, C¹), tanh, tanh_unit (C²), mollifier (C∞), smoothstep1
            to smoothstep4 (C¹ to C⁴) or none (a jump).
        envelope_start: fraction of the cutoff up to which cosine, mollifier and smoothstep are 1.
        columns: which functions each element's network reads, by their place; all if not given.
        n_selected: how many functions each element's network reads, chosen from the training set.
        atomic_energies: E0 of each element, eV; 0 if not given.
        scale: unit of the networks' output, eV.
        shift: added per atom, eV.
        isolated_limit: give an isolated atom exactly E0 + shift.
    """

    references = ("10.1103/PhysRevLett.98.146401", "10.1063/1.3553717", "10.1063/1.5024611")

    def __init__(
        self,
        *,
        elements: Sequence[str],
        cutoff: float = 6.0,
        angular_cutoff: float | None = None,
        n_radial: int = 12,
        n_angular: int = 4,
        zetas: Sequence[float] = (1, 2, 4),
        radial: Sequence[Sequence[float]] | None = None,
        wide: Sequence[Sequence[float]] | None = None,
        narrow: Sequence[Sequence[float]] = (),
        oscillating: Sequence[float] = (),
        hidden: Sequence[int] | Mapping[str, Sequence[int]] = (32, 32),
        activation: str | Sequence[str] = "tanh",
        envelope: Envelope = "polynomial",
        envelope_start: float = 0.0,
        columns: Mapping[str, Sequence[int]] | None = None,
        n_selected: int | None = None,
        atomic_energies: Mapping[str, float] | None = None,
        scale: float = 1.0,
        shift: float = 0.0,
        isolated_limit: bool = True,
    ) -> None:
        super().__init__()
        check_positive(cutoff=cutoff, scale=scale)
        self.elements = periodic_table.sorted_symbols(elements)
        self.cutoff = cutoff
        self.features = symmetry_functions(
            n_elements=len(self.elements),
            cutoff=cutoff,
            angular_cutoff=angular_cutoff,
            n_radial=n_radial,
            n_angular=n_angular,
            zetas=zetas,
            radial=radial,
            wide=wide,
            narrow=narrow,
            envelope=envelope,
            envelope_start=envelope_start,
            oscillating=oscillating,
        )
        reads = self.read_features(self.features.n_features, columns, n_selected)
        self.networks = element_networks(self.elements, reads, hidden, activation)
        self.atomic_energies = AtomicEnergies(self.elements, atomic_energies)
        self.scale = scale
        self.shift = shift
        self.isolated_limit = isolated_limit

    def raw_features(self, system: System, pairs: Pairs, types: Tensor) -> Float[Tensor, "atoms features"]:
        return self.features(system, pairs, types, torch.float64)

    def program(self) -> Program | None:
        """Automatic differentiation in blocks of atoms; None on other devices than the CPU."""
        if self.feature_mean.device.type != "cpu":
            return None
        from .term_programs import BlockProgram

        return BlockProgram(self)

    @classmethod
    def examples(cls) -> "list[BehlerParrinello]":
        """Small instances for the conformance tests."""
        small: dict[str, Any] = {"elements": ("O", "Si"), "cutoff": 4.0, "n_radial": 4, "hidden": (8,)}
        narrow = [(0.3, 0.0, 1.0, 1.0), (0.1, 1.0, 2.5, -1.0)]
        columns = {"O": [0, 3, 7, 9], "Si": [1, 2, 8, 11, 13]}
        return [
            cls(**small, n_angular=2, zetas=(1, 2)),
            cls(**small, narrow=narrow, oscillating=(1.0,), columns=columns, envelope="smoothstep3"),
        ]
