"""ANI inference in compiled kernels: environment vectors, networks and the reverse sweep."""

import copy
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from rikiba.core.pairs import Pairs
from rikiba.core.results import Results
from rikiba.core.system import System
from rikiba.descriptors.aev import AtomicEnvironment
from rikiba.kernels import aev_cpu as kernels
from rikiba.kernels.activation_cpu import CELU, SILU
from rikiba.kernels.dense_cpu import Network, at_cache_line, network, network_forward, network_reverse
from rikiba.kernels.lanes import LANES

from .filter_program import differentiated, padded, widened

if TYPE_CHECKING:
    from .ani import ANI

ACTIVATIONS = {"silu": SILU, "celu": CELU}
"""Those that compiled networks have."""
_ENVELOPES = {
    "polynomial": kernels.POLYNOMIAL, "cosine": kernels.COSINE, "mollifier": kernels.MOLLIFIER,
}  # fmt: skip


class _Model(NamedTuple):
    """Functions and networks for the elements of one composition: other columns are zero and left out."""

    functions: kernels.Functions
    stride: int
    networks: list[Network]
    """Members of each element."""


class _Environments(NamedTuple):
    """What the reverse sweep needs of the forward one."""

    arguments: tuple[np.ndarray, ...]
    order: np.ndarray
    """Atoms by element."""
    spans: np.ndarray
    values: np.ndarray


class CompiledANI:
    """A snapshot of an ANI; see `ANI.program`."""

    def __init__(self, potential: "ANI") -> None:
        self._exact = copy.deepcopy(potential).requires_grad_(False)
        self._real: type[np.floating] = np.float32 if potential.dtype == torch.float32 else np.float64
        self._models: dict[tuple[int, ...], _Model] = {}
        self._offsets = self._exact.atomic_energies.values.numpy() + self._exact.shift
        self._alone = np.zeros((len(self._exact.elements), potential.n_members))
        if self._exact.isolated_limit:
            types = torch.arange(len(self._exact.elements))
            nothing = torch.zeros((len(types), potential.environment.n_features), dtype=potential.dtype)
            self._alone = self._exact._members(nothing, types).double().numpy()

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
        from .ani import spread_of

        if pairs.exchange is not None:
            energies, gradient = differentiated(self._exact, system, pairs, vectors)
            return energies, gradient, None
        types = self._exact.types(system).numpy()
        present, kinds = np.unique(types, return_inverse=True)
        model = self._model(tuple(present.tolist()))
        given = vectors.detach().to(torch.float64).contiguous().numpy()
        e = self._environments(model, kinds, pairs.i.numpy(), pairs.j.numpy(), given)
        members, slope = self._networks(model, e)
        gradient = np.empty((len(given), 3))
        kernels.environments_reverse(*e.arguments, model.functions, model.stride, slope, gradient)
        own = torch.from_numpy(self._exact.scale * (members - self._alone[types]))
        energies = torch.from_numpy(self._offsets[types]) + own.mean(1)
        return energies, torch.from_numpy(gradient), spread_of(own, system)

    def _environments(
        self, model: _Model, kinds: np.ndarray, i: np.ndarray, j: np.ndarray, vectors: np.ndarray
    ) -> _Environments:
        n, m, f = len(kinds), len(i), model.functions
        unit, r, radial, near = np.empty((m, 3)), np.empty(m), np.empty((m, 2)), np.empty((m, 2))
        close_pairs = np.empty(m, np.int64)
        start, close = kernels.geometry(i, j, vectors, kinds, n, f, unit, r, radial, near, close_pairs)
        order = np.argsort(kinds, kind="stable")
        place = np.empty(n, np.int64)
        place[order] = np.arange(n)
        spans = np.searchsorted(kinds[order], np.arange(f.n_elements + 1))
        values = at_cache_line(np.empty(n * model.stride, self._real))
        arguments = (j, kinds, place, start, close, close_pairs, unit, r, radial, near)
        kernels.environments(*arguments, f, model.stride, values)
        return _Environments(arguments, order, spans, values)

    def _networks(self, model: _Model, e: _Environments) -> tuple[np.ndarray, np.ndarray]:
        """Members' outputs of every atom, and ∂(scale · Σ mean)/∂(environment vectors)."""
        n_members, stride = self._exact.n_members, model.stride
        members = np.empty((len(e.order), n_members))
        slope = at_cache_line(np.zeros(len(e.values), self._real))
        for kind, net in enumerate(model.networks):
            first, rows = int(e.spans[kind]), int(e.spans[kind + 1] - e.spans[kind])
            hidden, n_out = net.widths[1:-1], int(net.widths[-1])
            slopes = np.empty(rows * int(hidden.sum()), self._real)
            work = np.empty(2 * rows * int(max(hidden, default=0)), self._real)
            out = np.empty(rows * n_out, self._real)
            back = np.zeros(rows * n_out, self._real)
            back[::n_out] = self._exact.scale / n_members
            at = first * stride
            for member in range(n_members):
                network_forward(
                    net, member, e.values, at, stride, rows, slopes, 0, work, out, 0, n_out, False
                )  # fmt: skip
                members[e.order[first : first + rows], member] = out[::n_out]
                network_reverse(net, member, back, 0, n_out, rows, slopes, 0, work, slope, at, stride, True)
        return members, slope

    def _model(self, present: tuple[int, ...]) -> _Model:
        if present not in self._models:
            columns = torch.from_numpy(_columns(self._exact.environment, present))
            stride = padded(len(columns))
            found = [self._network(kind, columns) for kind in present]
            functions = _functions(self._exact.environment, len(present), self._real)
            self._models[present] = _Model(functions, stride, found)
        return self._models[present]

    def _network(self, kind: int, columns: Tensor) -> Network:
        """All members of an element as padded networks of those columns."""
        members = self._exact.networks.networks[kind]
        weights: list[list[np.ndarray]] = [[] for _ in range(self._exact.n_members)]
        biases: list[list[np.ndarray]] = [[] for _ in range(self._exact.n_members)]
        layers = [members.weights, members.biases]
        assert all(isinstance(x, nn.ParameterList) for x in layers)
        for k, (w, b) in enumerate(zip(*layers, strict=True)):
            w = w[:, columns] if k == 0 else w
            w = widened(widened(w, w.shape[1], 1), w.shape[2], 2)
            b = widened(b[:, 0], b.shape[2], 1)
            for m in range(self._exact.n_members):
                weights[m].append(w[m].numpy())
                biases[m].append(b[m].numpy())
        return network(weights, biases, ACTIVATIONS[self._exact.networks.function])


def _columns(environment: AtomicEnvironment, present: tuple[int, ...]) -> np.ndarray:
    """Columns of the environment vector that belong to these elements, in their order."""
    n, m = environment.n_radial, environment.n_angular
    radial = [t * n + np.arange(n) for t in present]
    first = environment.n_elements * n
    blocks = [
        int(environment.pair_index[a, b]) for k, a in enumerate(present) for b in present[k:]
    ]  # fmt: skip
    return np.concatenate([*radial, *(first + b * m + np.arange(m) for b in blocks)])


def _functions(environment: AtomicEnvironment, n_elements: int, real: type[np.floating]) -> kernels.Functions:
    e = environment
    column = np.zeros((n_elements, n_elements), np.int64)
    column[np.triu_indices(n_elements)] = np.arange(n_elements * (n_elements + 1) // 2)
    column = np.maximum(column, column.T) * e.n_angular + n_elements * e.n_radial
    return kernels.Functions(
        radial_shifts=_lanes(e.radial_shifts, real),
        angular_shifts=_lanes(e.angular_shifts, real),
        cosines=_lanes(torch.cos(e.angles), real),
        sines=_lanes(torch.sin(e.angles), real),
        n_radial=e.n_radial,
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


def _lanes(values: Tensor, real: type[np.floating]) -> np.ndarray:
    """Padded with zeros to a multiple of 16."""
    out = np.zeros(-(-len(values) // LANES) * LANES, real)
    out[: len(values)] = values.numpy()
    return at_cache_line(out)
