"""High-dimensional neural network potential of Behler and Parrinello."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from rikiba.core import elements as periodic_table
from rikiba.core.pairs import Pairs
from rikiba.core.results import Results
from rikiba.core.system import System
from rikiba.descriptors.acsf import SymmetryFunctions, angular_set, shifted_radial_set
from rikiba.nn.atomic_energies import AtomicEnergies
from rikiba.nn.double_buffers import DoubleBuffers

from .base import Potential, check_positive

_ACTIVATIONS = {"tanh": nn.Tanh, "silu": nn.SiLU, "gelu": nn.GELU, "softplus": nn.Softplus}


class BehlerParrinello(DoubleBuffers, Potential):
    """E = Σ_i [E0(Z_i) + shift + scale·(NN_{Z_i}(x_i) − NN_{Z_i}(x_alone))], x = (G − ⟨G⟩)/σ_G.

    G_i are the symmetry functions of atom i; x_alone is what an atom without neighbours has (G = 0).

    Behler & Parrinello, Phys. Rev. Lett. 98, 146401 (2007), doi:10.1103/PhysRevLett.98.146401. Every element
    has its own network. Features are centred and scaled by their statistics over the training set
    (`prepare`), per central element, and computed in float64: differences of large moments would cost a
    float32 network its forces' last digits. The default envelope is C²; "cosine" is the paper's, C¹.
    Departure from the paper: subtracting NN(x_alone) gives an isolated atom exactly E0 + shift;
    `isolated_limit = false` is the published form.

    Args:
        elements: chemical symbols.
        cutoff: neighbour radius, Å.
        angular_cutoff: radius of the angular functions, Å; `cutoff` if not given.
        n_radial: shifted radial functions per neighbour element; ignored where `radial` is given.
        n_angular: radial shells of the angular functions; ignored where `wide` or `narrow` are given.
        zetas: exponents of the angular functions; ignored where `wide` or `narrow` are given.
        radial: explicit (η, r_s) of each radial function, 1/Å² and Å.
        wide: explicit (η, r_s, ζ, λ) of each angular function without r_jk (G⁵).
        narrow: explicit (η, r_s, ζ, λ) of each angular function with r_jk (G⁴).
        hidden: widths of the hidden layers.
        activation: tanh, silu, gelu or softplus.
        envelope: polynomial (C²) or cosine (the paper's, C¹).
        atomic_energies: E0 of each element, eV; 0 if not given.
        scale: unit of the networks' output, eV.
        shift: added per atom, eV.
        isolated_limit: give an isolated atom exactly E0 + shift.
    """

    references = ("10.1103/PhysRevLett.98.146401", "10.1063/1.3553717")
    feature_mean: Tensor
    feature_scale: Tensor

    def __init__(
        self,
        *,
        elements: Sequence[str],
        cutoff: float = 6.0,
        angular_cutoff: float | None = None,
        n_radial: int = 12,
        n_angular: int = 4,
        zetas: Sequence[float] = (1, 2, 4),
        radial: Sequence[tuple[float, float]] | None = None,
        wide: Sequence[tuple[float, float, float, float]] | None = None,
        narrow: Sequence[tuple[float, float, float, float]] = (),
        hidden: Sequence[int] = (32, 32),
        activation: Literal["tanh", "silu", "gelu", "softplus"] = "tanh",
        envelope: Literal["polynomial", "cosine"] = "polynomial",
        atomic_energies: Mapping[str, float] | None = None,
        scale: float = 1.0,
        shift: float = 0.0,
        isolated_limit: bool = True,
    ) -> None:
        super().__init__()
        check_positive(cutoff=cutoff, scale=scale)
        if activation not in _ACTIVATIONS:
            raise ValueError(f"activation must be one of {', '.join(_ACTIVATIONS)}; given '{activation}'.")
        self.elements = periodic_table.sorted_symbols(elements)
        self.cutoff = cutoff
        reach = cutoff if angular_cutoff is None else angular_cutoff
        if wide is None:
            wide = () if narrow else angular_set(n_angular, reach, zetas)
        self.features = SymmetryFunctions(
            n_elements=len(self.elements),
            cutoff=cutoff,
            radial=shifted_radial_set(n_radial, cutoff) if radial is None else radial,
            wide=wide,
            narrow=narrow,
            angular_cutoff=angular_cutoff,
            envelope=envelope,
        )
        n, m = len(self.elements), self.features.n_features
        self.register_buffer("feature_mean", torch.zeros((n, m), dtype=torch.float64))
        self.register_buffer("feature_scale", torch.ones((n, m), dtype=torch.float64))
        self.networks = nn.ModuleList(_network(m, hidden, _ACTIVATIONS[activation]) for _ in self.elements)
        self.atomic_energies = AtomicEnergies(self.elements, atomic_energies)
        self.scale = scale
        self.shift = shift
        self.isolated_limit = isolated_limit

    def prepare(self, structures: Iterable[tuple[System, Pairs]]) -> None:
        """Centre and scale features by mean and standard deviation over the given structures, per element.

        A feature that never varies keeps its unit, so that new environments are not blown up.
        """
        n, m = self.feature_mean.shape
        count, total, square = (self.feature_mean.new_zeros(shape) for shape in ((n,), (n, m), (n, m)))
        with torch.no_grad():
            for system, pairs in structures:
                types = self.types(system)
                g = self.features(system, pairs, types, torch.float64)
                count.index_add_(0, types, count.new_ones(len(types)))
                total.index_add_(0, types, g)
                square.index_add_(0, types, g * g)
        if bool((count == 0).any()):
            missing = [s for s, c in zip(self.elements, count.tolist(), strict=True) if c == 0]
            raise ValueError(f"No training structure contains {', '.join(missing)}.")
        mean = total / count[:, None]
        deviation = (square / count[:, None] - mean * mean).clamp(min=0.0).sqrt()
        deviation = torch.where(deviation > 1e-6, deviation, torch.ones_like(deviation))
        self.feature_mean.copy_(mean)
        self.feature_scale.copy_(deviation)

    def forward(self, system: System, pairs: Pairs) -> Results:
        types = self.types(system)
        g = self.features(system, pairs, types, torch.float64)
        output = self._networks(self._scaled(g, types), types)
        if self.isolated_limit:
            every = torch.arange(len(self.elements), device=types.device)
            alone = self._networks(self._scaled(torch.zeros_like(self.feature_mean), every), every)
            output = output - alone[types]
        return Results(energies=self.atomic_energies(types) + self.shift + self.scale * output.double())

    def _scaled(self, g: Float[Tensor, "atoms features"], types: Tensor) -> Float[Tensor, "atoms features"]:
        return ((g - self.feature_mean[types]) / self.feature_scale[types]).to(self.dtype)

    def _networks(self, x: Float[Tensor, "atoms features"], types: Tensor) -> Float[Tensor, "atoms"]:
        if len(self.networks) == 1:
            return self.networks[0](x).squeeze(-1)
        rows = [torch.nonzero(types == k).flatten() for k in range(len(self.networks))]
        parts = [net(x[r]).squeeze(-1) for net, r in zip(self.networks, rows, strict=True)]
        return torch.cat(parts)[torch.argsort(torch.cat(rows))]

    @classmethod
    def examples(cls) -> "list[BehlerParrinello]":
        """Small instances for the conformance tests."""
        small: dict[str, Any] = {"elements": ("O", "Si"), "cutoff": 4.0, "n_radial": 4, "hidden": (8,)}
        narrow = [(0.3, 0.0, 1.0, 1.0), (0.1, 1.0, 2.5, -1.0)]
        return [cls(**small, n_angular=2, zetas=(1, 2)), cls(**small, narrow=narrow)]


def _network(n_inputs: int, hidden: Sequence[int], activation: type[nn.Module]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for width in hidden:
        layers += [nn.Linear(n_inputs, width), activation()]
        n_inputs = width
    return nn.Sequential(*layers, nn.Linear(n_inputs, 1))
