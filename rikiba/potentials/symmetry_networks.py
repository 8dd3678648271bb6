"""What potentials of element networks on symmetry functions share: features, their scaling and choice."""

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from rikiba.core.pairs import Pairs
from rikiba.core.results import Results
from rikiba.core.system import System
from rikiba.descriptors.acsf import Envelope, SymmetryFunctions, angular_set, shifted_radial_set
from rikiba.descriptors.selection import cur_columns
from rikiba.nn.atomic_energies import AtomicEnergies
from rikiba.nn.double_buffers import DoubleBuffers
from rikiba.nn.mlp import activation as activation_of

from .base import Potential

_SMOOTH = (
    "tanh", "silu", "gelu", "softplus", "sigmoid", "gaussian_half", "cosine", "reversed_sigmoid",
    "exponential", "harmonic", "identity",
)  # fmt: skip


class SymmetryFunctionPotential(DoubleBuffers, Potential):
    """A potential whose networks, one an element, read x = (G − ⟨G⟩)/σ_G.

    The statistics are those of the training set (`prepare`), per central element. Symmetry functions are
    computed in float64: differences of large moments would cost a float32 network its forces' last digits.
    A subclass gives `raw_features`, and when it is made calls `read_features` and sets the attributes below.
    """

    feature_mean: Tensor
    feature_scale: Tensor
    n_selected: int | None
    networks: nn.ModuleList
    atomic_energies: AtomicEnergies
    scale: float
    shift: float
    isolated_limit: bool

    @abstractmethod
    def raw_features(self, system: System, pairs: Pairs, types: Tensor) -> Float[Tensor, "atoms features"]:
        """G of every atom, float64."""

    def read_features(
        self,
        n_features: int,
        columns: Mapping[str, Sequence[int]] | None = None,
        n_selected: int | None = None,
    ) -> list[int]:
        """Make room for the statistics and the choice of features; returns how many each element reads.

        Raises ValueError where both `columns` and `n_selected` are given, and for columns that are not there.
        """
        if columns is not None and n_selected is not None:
            raise ValueError("Give columns or n_selected, not both.")
        n = len(self.elements)
        self.n_selected, self.chooses = n_selected, columns is not None or n_selected is not None
        reads = [_columns(s, columns, n_selected, n_features) for s in self.elements]
        for k, read in enumerate(reads if self.chooses else []):
            self.register_buffer(f"columns_{k}", torch.tensor(read))
        self.register_buffer("feature_mean", torch.zeros((n, n_features), dtype=torch.float64))
        self.register_buffer("feature_scale", torch.ones((n, n_features), dtype=torch.float64))
        return [len(read) for read in reads]

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
                g = self.raw_features(system, pairs, types)
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
                g = self.raw_features(system, pairs, types)
                x = (g - self.feature_mean[types]) / self.feature_scale[types]
                for k in range(n):
                    gram[k] += x[types == k].T @ x[types == k]
        assert self.n_selected is not None
        for k in range(n):
            chosen = cur_columns(gram[k], self.n_selected).sort().values
            getattr(self, f"columns_{k}").copy_(chosen)

    def forward(self, system: System, pairs: Pairs) -> Results:
        """E0 + shift + scale·NN(x) of every atom; with `isolated_limit` NN(x) − NN(x_alone)."""
        types = self.types(system)
        x = self.scaled(self.raw_features(system, pairs, types), types)
        output = self.outputs(self.networks, x, types)
        if self.isolated_limit:
            output = output - self.outputs(self.networks, *self.alone())[types]
        return Results(energies=self.atomic_energies(types) + self.shift + self.scale * output.double())

    def scaled(self, g: Float[Tensor, "atoms features"], types: Tensor) -> Float[Tensor, "atoms features"]:
        """x of atoms with features G."""
        return ((g - self.feature_mean[types]) / self.feature_scale[types]).to(self.dtype)

    def alone(self) -> tuple[Float[Tensor, "elements features"], Tensor]:
        """(x, type) of an atom of each element without neighbours (G = 0)."""
        every = torch.arange(len(self.elements), device=self.feature_mean.device)
        return self.scaled(torch.zeros_like(self.feature_mean), every), every

    def outputs(
        self,
        networks: nn.ModuleList,
        x: Float[Tensor, "atoms features"],
        types: Tensor,
        further: Float[Tensor, "atoms more"] | None = None,
    ) -> Float[Tensor, "atoms"]:
        """Output of the network of each atom's element, from the features that it reads and further ones."""
        rows = [torch.nonzero(types == k).flatten() for k in range(len(networks))]
        parts = []
        for k, (network, r) in enumerate(zip(networks, rows, strict=True)):
            own = self._read(x[r], k)
            own = own if further is None else torch.cat([own, further[r].to(own.dtype)], 1)
            parts.append(network(own).squeeze(-1))
        return torch.cat(parts)[torch.argsort(torch.cat(rows))]

    def _read(self, x: Tensor, kind: int) -> Tensor:
        return x[:, getattr(self, f"columns_{kind}")] if self.chooses else x


def symmetry_functions(
    *,
    n_elements: int,
    cutoff: float,
    angular_cutoff: float | None,
    n_radial: int,
    n_angular: int,
    zetas: Sequence[float],
    radial: Sequence[Sequence[float]] | None = None,
    wide: Sequence[Sequence[float]] | None = None,
    narrow: Sequence[Sequence[float]] = (),
    envelope: Envelope = "polynomial",
    envelope_start: float = 0.0,
    oscillating: Sequence[float] = (),
) -> SymmetryFunctions:
    """Those that are given, and sets made of `n_radial`, `n_angular` and `zetas` where none are."""
    reach = cutoff if angular_cutoff is None else angular_cutoff
    if wide is None:
        wide = () if narrow else angular_set(n_angular, reach, zetas)
    return SymmetryFunctions(
        n_elements=n_elements,
        cutoff=cutoff,
        radial=shifted_radial_set(n_radial, cutoff) if radial is None else radial,
        wide=wide,
        narrow=narrow,
        angular_cutoff=angular_cutoff,
        envelope=envelope,
        envelope_start=envelope_start,
        oscillating=oscillating,
    )


def element_networks(
    elements: Sequence[str],
    n_inputs: Sequence[int],
    hidden: Sequence[int] | Mapping[str, Sequence[int]],
    activation: str | Sequence[str],
) -> nn.ModuleList:
    """One network with one output for each element; `hidden` for all or by element."""
    return nn.ModuleList(
        _network(n, hidden[s] if isinstance(hidden, Mapping) else hidden, activation)
        for s, n in zip(elements, n_inputs, strict=True)
    )


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
