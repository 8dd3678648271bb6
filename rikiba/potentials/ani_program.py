"""ANI inference in compiled kernels: environment vectors, networks and the reverse sweep."""

import copy
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

from rikiba.core.pairs import Pairs
from rikiba.core.results import Results
from rikiba.core.system import System
from rikiba.descriptors.aev import AtomicEnvironment
from rikiba.kernels import aev_cpu as kernels
from rikiba.kernels.activation_cpu import CELU, SILU, TANH
from rikiba.kernels.ani_cpu import ani_sweep
from rikiba.kernels.dense_cpu import Network, at_cache_line, network
from rikiba.kernels.lanes import LANES
from rikiba.nn.element_networks import spread_of

from .filter_program import differentiated, padded

if TYPE_CHECKING:
    from .ani import ANI

ACTIVATIONS = {"silu": SILU, "celu": CELU, "tanh": TANH}
"""Those that compiled networks have."""
_ENVELOPES = {
    "polynomial": kernels.POLYNOMIAL, "cosine": kernels.COSINE, "mollifier": kernels.MOLLIFIER,
}  # fmt: skip


class _Model(NamedTuple):
    """Functions and networks for the elements of one composition: other columns are zero and left out."""

    functions: kernels.Functions
    networks: Network
    """Members of one element after those of another."""
    kinds: np.ndarray
    """Number of each of the potential's elements in this composition."""


class CompiledANI:
    """A snapshot of an ANI; see `ANI.program`."""

    def __init__(self, potential: "ANI") -> None:
        self._exact = copy.deepcopy(potential).requires_grad_(False)
        self._real: type[np.floating] = np.float32 if potential.dtype == torch.float32 else np.float64
        self._models: dict[bytes, _Model] = {}
        self._offsets = self._exact.atomic_energies.values.numpy() + self._exact.shift
        self._alone = np.zeros((len(self._exact.elements), potential.n_members))
        if self._exact.isolated_limit:
            every = torch.arange(len(self._exact.elements))
            nothing = torch.zeros((len(every), potential.environment.n_features), dtype=potential.dtype)
            self._alone = self._exact._members(nothing, every).double().numpy()

    def __call__(
        self, system: System, pairs: Pairs, vectors: Float[Tensor, "pairs 3"]
    ) -> tuple[Float[Tensor, "atoms"], Float[Tensor, "pairs 3"]]:
        """(energies per atom in eV, ∂E/∂r_ij in eV/Å), float64."""
        energies, gradient, _ = self.with_spread(system, pairs, vectors)
        return energies, gradient

    def with_spread(
        self, system: System, pairs: Pairs, vectors: Float[Tensor, "pairs 3"]
    ) -> tuple[Float[Tensor, "atoms"], Float[Tensor, "pairs 3"], Results | None]:
        """The same with the members' spread."""
        if pairs.exchange is not None or system.n_atoms == 0:
            return *differentiated(self._exact, system, pairs, vectors), None
        types = self._exact.types(system).numpy()
        model = self._model(np.bincount(types, minlength=len(self._offsets)) > 0)
        given = vectors.detach().to(torch.float64).contiguous().numpy()
        members, gradient = np.empty((len(types), self._exact.n_members)), np.empty((len(given), 3))
        ani_sweep(
            pairs.i.numpy(), pairs.j.numpy(), given, model.kinds[types], model.functions, model.networks,
            self._exact.n_members, self._exact.scale, members, gradient,
        )  # fmt: skip
        members -= self._alone[types]
        members *= self._exact.scale
        energies = torch.from_numpy(self._offsets[types] + members.mean(1))
        return energies, torch.from_numpy(gradient), spread_of(torch.from_numpy(members), system)

    def _model(self, present: np.ndarray) -> _Model:
        key = present.tobytes()
        if key not in self._models:
            which = tuple(np.flatnonzero(present).tolist())
            columns = torch.from_numpy(_columns(self._exact.environment, which))
            functions = _functions(self._exact.environment, len(which), self._real)
            self._models[key] = _Model(functions, self._network(which, columns), np.cumsum(present) - 1)
        return self._models[key]

    def _network(self, which: tuple[int, ...], columns: Tensor) -> Network:
        """All members of these elements as padded networks of those columns."""
        chosen = [self._exact.networks.networks[k] for k in which]
        layers = range(len(chosen[0].biases))  # type: ignore[arg-type]
        widths = [max(n.biases[k].shape[2] for n in chosen) for k in layers]  # type: ignore[index, union-attr]
        sizes = [padded(n) for n in (len(columns), *widths)]
        weights: list[list[np.ndarray]] = []
        biases: list[list[np.ndarray]] = []
        for net in chosen:
            for m in range(self._exact.n_members):
                weights.append([])
                biases.append([])
                for k in layers:
                    w, b = net.weights[k][m], net.biases[k][m, 0]  # type: ignore[index, union-attr]
                    w = w[columns.clamp(min=0)] * (columns >= 0)[:, None] if k == 0 else w
                    weights[-1].append(_filled(w, sizes[k], sizes[k + 1]))
                    biases[-1].append(_filled(b[None], 1, sizes[k + 1])[0])
        return network(weights, biases, ACTIVATIONS[self._exact.networks.function])


def _filled(values: Tensor, rows: int, columns: int) -> np.ndarray:
    """A larger matrix with zeros around."""
    more = (0, columns - values.shape[1], 0, rows - values.shape[0])
    return pad(values.detach(), more).numpy()


def _columns(environment: AtomicEnvironment, present: tuple[int, ...]) -> np.ndarray:
    """Columns of the environment vector that belong to these elements; −1 where radial ones are padded."""
    n, m = environment.n_radial, environment.n_angular
    none = np.full(_whole(n) - n, -1)
    radial = [x for t in present for x in (t * n + np.arange(n), none)]
    first = environment.n_elements * n
    blocks = [
        int(environment.pair_index[a, b]) for k, a in enumerate(present) for b in present[k:]
    ]  # fmt: skip
    return np.concatenate([*radial, *(first + b * m + np.arange(m) for b in blocks)])


def _functions(environment: AtomicEnvironment, n_elements: int, real: type[np.floating]) -> kernels.Functions:
    e = environment
    column = np.zeros((n_elements, n_elements), np.int64)
    column[np.triu_indices(n_elements)] = np.arange(n_elements * (n_elements + 1) // 2)
    column = np.maximum(column, column.T) * e.n_angular + n_elements * _whole(e.n_radial)
    return kernels.Functions(
        radial_shifts=_lanes(e.radial_shifts, real),
        angular_shifts=_lanes(e.angular_shifts, real),
        cosines=_lanes(torch.cos(e.angles), real),
        sines=_lanes(torch.sin(e.angles), real),
        n_shifts=len(e.angular_shifts),
        n_angles=len(e.angles),
        cutoff=float(e.cutoff),
        angular_cutoff=float(e.angular_cutoff),
        eta_radial=float(e.eta_radial),
        eta_angular=float(e.eta_angular),
        zeta=float(e.zeta),
        radial_factor=float(e.radial_factor),
        cosine_factor=float(e.cosine_factor),
        envelope=_ENVELOPES[e.envelope],
        n_elements=n_elements,
        column=column,
    )


def _whole(n: int) -> int:
    """The next multiple of 16."""
    return -(-n // LANES) * LANES


def _lanes(values: Tensor, real: type[np.floating]) -> np.ndarray:
    """Padded with zeros to a multiple of 16."""
    out = np.zeros(_whole(len(values)), real)
    out[: len(values)] = values.numpy()
    return at_cache_line(out)
