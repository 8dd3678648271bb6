"""High-dimensional neural network potential of Behler and Parrinello."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from rikiba.core import elements as periodic_table
from rikiba.core.pairs import Pairs
from rikiba.core.results import Results
from rikiba.core.system import System
from rikiba.descriptors.acsf import Envelope, SymmetryFunctions, angular_set, shifted_radial_set
from rikiba.descriptors.selection import cur_columns
from rikiba.nn.atomic_energies import AtomicEnergies
from rikiba.nn.double_buffers import DoubleBuffers
from rikiba.nn.mlp import activation as activation_of

from .base import Potential, check_positive

_SMOOTH = (
    "tanh", "silu", "gelu", "softplus", "sigmoid", "gaussian_half", "cosine", "reversed_sigmoid",
    "exponential", "harmonic", "identity",
)  # fmt: skip


class BehlerParrinello(DoubleBuffers, Potential):
    """E = Σ_i [E0(Z_i) + shift + scale·(NN_{Z_i}(x_i) − NN_{Z_i}(x_alone))], x = (G − ⟨G⟩)/σ_G.

    G_i are the symmetry functions of atom i; x_alone is what an atom without neighbours has (G = 0).

    Behler & Parrinello, Phys. Rev. Lett. 98, 146401 (2007), doi:10.1103/PhysRevLett.98.146401. Every element
    has its own network. Features are centred and scaled by their statistics over the training set
    (`prepare`), per central element, and computed in float64: differences of large moments would cost a
    float32 network its forces' last digits. The default envelope is C²; "cosine" is the paper's, C¹.
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
        if columns is not None and n_selected is not None:
            raise ValueError("Give columns or n_selected, not both.")
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
            envelope_start=envelope_start,
            oscillating=oscillating,
        )
        n, m = len(self.elements), self.features.n_features
        self.n_selected, self.chooses = n_selected, columns is not None or n_selected is not None
        reads = [_columns(s, columns, n_selected, m) for s in self.elements]
        for k, read in enumerate(reads if self.chooses else []):
            self.register_buffer(f"columns_{k}", torch.tensor(read))
        self.register_buffer("feature_mean", torch.zeros((n, m), dtype=torch.float64))
        self.register_buffer("feature_scale", torch.ones((n, m), dtype=torch.float64))
        self.networks = nn.ModuleList(
            _network(len(read), hidden[s] if isinstance(hidden, Mapping) else hidden, activation)
            for s, read in zip(self.elements, reads, strict=True)
        )
        self.atomic_energies = AtomicEnergies(self.elements, atomic_energies)
        self.scale = scale
        self.shift = shift
        self.isolated_limit = isolated_limit

    def prepare(self, structures: Iterable[tuple[System, Pairs]]) -> None:
        """Centre and scale features by mean and standard deviation over the given structures, per element.

        A feature that never varies keeps its unit, so that new environments are not blown up. With
        `n_selected` also chooses the functions.
        """
        structures = list(structures) if self.n_selected is not None else structures
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
        if self.n_selected is not None:
            self._select(structures)

    def _select(self, structures: Iterable[tuple[System, Pairs]]) -> None:
        """Choose the columns of each element from their correlations."""
        n, m = self.feature_mean.shape
        gram = self.feature_mean.new_zeros((n, m, m))
        with torch.no_grad():
            for system, pairs in structures:
                types = self.types(system)
                g = self.features(system, pairs, types, torch.float64)
                x = (g - self.feature_mean[types]) / self.feature_scale[types]
                for k in range(n):
                    gram[k] += x[types == k].T @ x[types == k]
        assert self.n_selected is not None
        for k in range(n):
            chosen = cur_columns(gram[k], self.n_selected).sort().values
            getattr(self, f"columns_{k}").copy_(chosen)

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
            return self.networks[0](self._read(x, 0)).squeeze(-1)
        rows = [torch.nonzero(types == k).flatten() for k in range(len(self.networks))]
        parts = [
            net(self._read(x[r], k)).squeeze(-1)
            for k, (net, r) in enumerate(zip(self.networks, rows, strict=True))
        ]
        return torch.cat(parts)[torch.argsort(torch.cat(rows))]

    def _read(self, x: Tensor, kind: int) -> Tensor:
        return x[:, getattr(self, f"columns_{kind}")] if self.chooses else x

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


class _Activation(nn.Module):
    """A function by its name."""

    def __init__(self, name: str) -> None:
        super().__init__()
        if name not in _SMOOTH:
            raise ValueError(f"activation must be one of {', '.join(_SMOOTH)}; given '{name}'.")
        self.function = name

    def forward(self, x: Tensor) -> Tensor:
        return activation_of(self.function)(x)


def _columns(
    symbol: str, columns: Mapping[str, Sequence[int]] | None, n_selected: int | None, n: int
) -> list[int]:
    if columns is not None and symbol not in columns:
        raise ValueError(f"columns are given for {', '.join(columns)}; {symbol} is missing.")
    found = (
        list(columns[symbol]) if columns is not None else list(range(n if n_selected is None else n_selected))
    )
    if not found or len(set(found)) < len(found) or not set(found) <= set(range(n)):
        raise ValueError(f"{symbol} needs different columns among 0 … {n - 1}; asked for {found}.")
    return found


def _network(n_inputs: int, hidden: Sequence[int], activation: str | Sequence[str]) -> nn.Sequential:
    names = [activation] * len(hidden) if isinstance(activation, str) else list(activation)
    if len(names) != len(hidden):
        raise ValueError(f"{len(hidden)} hidden layers need as many activations; given {names}.")
    layers: list[nn.Module] = []
    for width, name in zip(hidden, names, strict=True):
        layers += [nn.Linear(n_inputs, width), _Activation(name)]
        n_inputs = width
    return nn.Sequential(*layers, nn.Linear(n_inputs, 1))
