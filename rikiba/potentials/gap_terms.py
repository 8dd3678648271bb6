"""Terms of a Gaussian approximation potential: environments, their kernel, their sparse points.

An environment is an atom's neighbourhood (SOAP), a pair or a triplet; it has features x, a weight w that
fades to 0 at the cutoff, and belongs to an atom. The kernel of two is w w' k(x, x').
"""

import inspect
import math
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations_with_replacement
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from rikiba.core.pairs import Pairs
from rikiba.descriptors.soap import Soap
from rikiba.nn.cutoff import cosine, polynomial
from rikiba.nn.double_buffers import DoubleBuffers

from .sparse_points import Method, choose

Envelope = Literal["polynomial", "cosine"]


class Environments(NamedTuple):
    """Features and weights, differentiable in the pair vectors, and the atom each belongs to."""

    features: Float[Tensor, "environments components"]
    weight: Float[Tensor, "environments"]
    atom: Int[Tensor, "environments"]


class Term(DoubleBuffers, ABC):
    """One Gaussian process ε(x) with its sparse points; a point of weight 0 is a place left empty."""

    sparse: Tensor
    sparse_weight: Tensor

    def __init__(
        self,
        cutoff: float,
        transition_width: float,
        delta: float,
        n_sparse: int,
        method: Method,
        envelope: str,
    ) -> None:
        super().__init__()
        if min(cutoff, transition_width, delta) <= 0 or transition_width > cutoff or n_sparse < 1:
            raise ValueError(
                "cutoff, transition_width (at most the cutoff), delta and n_sparse must be positive; given "
                f"{cutoff}, {transition_width}, {delta}, {n_sparse}."
            )
        if envelope not in ("polynomial", "cosine"):
            raise ValueError(f"envelope must be polynomial or cosine; given '{envelope}'.")
        self.cutoff, self.transition_width, self.envelope = float(cutoff), float(transition_width), envelope
        self.delta, self.n_sparse, self.method = float(delta), int(n_sparse), method
        self._factor: tuple[tuple[int, ...], Tensor] | None = None

    def hold(self, points: Tensor) -> None:
        """Register the first sparse points."""
        self.register_buffer("sparse", points.double())
        self.register_buffer("sparse_weight", torch.ones(self.n_sparse, dtype=torch.float64))

    def fade(self, r: Tensor) -> Tensor:
        """f(r): 1, then 0 from the cutoff on."""
        x = ((r - (self.cutoff - self.transition_width)) / self.transition_width).clamp(min=0.0)
        return cosine(x) if self.envelope == "cosine" else polynomial(x, 3)

    @property
    @abstractmethod
    def label(self) -> str:
        """What it describes, for messages."""

    @abstractmethod
    def environments(self, vectors: Tensor, pairs: Pairs, types: Tensor) -> Environments:
        """All environments of a batch."""

    @abstractmethod
    def kernel(self, a: Tensor, b: Tensor) -> Float[Tensor, "a b"]:
        """k(x, x') of features, eV²."""

    @property
    def scale(self) -> Tensor | None:
        """Length of each component, for distances between environments."""
        return None

    @property
    def multiplicity(self) -> float:
        """How often each environment counts."""
        return 1.0

    def covariance(self, e: Environments) -> Float[Tensor, "environments points"]:
        """w w_m k(x, x_m)."""
        return self.kernel(e.features, self.sparse) * e.weight[:, None] * self.sparse_weight

    def factor(self, jitter: float) -> Float[Tensor, "points points"]:
        """Cholesky factor L of K_MM + jitter·δ², kept until the points change; ValueError without one."""
        key = (self.sparse.data_ptr(), self.sparse._version, self.sparse_weight._version, hash(jitter))
        if self._factor is None or self._factor[0] != key or self._factor[1].device != self.sparse.device:
            with torch.no_grad():
                k = self.kernel(self.sparse, self.sparse) * self.sparse_weight * self.sparse_weight[:, None]
                k.diagonal().add_(jitter * self.delta**2)
                found, failed = torch.linalg.cholesky_ex(k)
            if int(failed):
                raise ValueError(
                    f"The sparse points of {self.label} are too alike for jitter = {jitter}: raise the "
                    "jitter or take fewer points."
                )
            self._factor = (key, found)
        return self._factor[1]

    def points_from(self, features: Tensor, generator: torch.Generator) -> None:
        """Choose the sparse points among environments; places too many stay empty, with a warning."""
        found = (
            choose(features, self.n_sparse, self.method, generator, self.scale) if len(features) else features
        )
        if len(found) < self.n_sparse:
            warnings.warn(
                f"The data have {len(found)} different environments of {self.label}; {self.n_sparse} sparse "
                "points were asked for. The rest stay unused.",
                UserWarning,
                stacklevel=4,
            )
        with torch.no_grad():
            self.sparse_weight.zero_()[: len(found)] = 1.0
            self.sparse[: len(found)] = found


class SoapTerm(Term):
    """ε_i = Σ_m α_m δ² (p_i · p_m)^ζ for atoms of one element; p is `rikiba.descriptors.soap.Soap`.

    Args:
        elements: symbols of the potential.
        centre: the element whose atoms have this energy.
        neighbours: elements that it sees; all if not given.
        cutoff: Å.
        transition_width: length over which neighbours fade, Å.
        n_max: radial functions.
        l_max: largest angular momentum.
        atom_sigma: width of the Gaussians, Å.
        central_weight: weight of the atom itself.
        zeta: power of the dot product.
        delta: standard deviation of an atom's energy before the fit, eV.
        n_sparse: sparse points.
        sparse_method: cur, fps or random.
        envelope: polynomial (C²) or cosine (C¹).
        generator: of the points before there are data.
    """

    def __init__(
        self,
        *,
        elements: Sequence[str],
        generator: torch.Generator,
        centre: str,
        neighbours: Sequence[str] | None = None,
        cutoff: float = 5.0,
        transition_width: float = 1.0,
        n_max: int = 8,
        l_max: int = 6,
        atom_sigma: float = 0.5,
        central_weight: float = 1.0,
        zeta: float = 4.0,
        delta: float = 1.0,
        n_sparse: int = 500,
        sparse_method: Method = "cur",
        envelope: Envelope = "polynomial",
    ) -> None:
        super().__init__(cutoff, transition_width, delta, n_sparse, sparse_method, envelope)
        if zeta < 1:
            raise ValueError(f"zeta must be at least 1; given {zeta}.")
        seen = tuple(elements if neighbours is None else sorted(neighbours, key=list(elements).index))
        if centre not in seen:
            raise ValueError(
                f"A SOAP of {centre} must see {centre} too; its neighbours are {', '.join(seen)}."
            )
        self.zeta, self.centre = float(zeta), centre
        self.kind, self.own = list(elements).index(centre), seen.index(centre)
        self.descriptor = Soap(
            elements=seen, cutoff=cutoff, n_max=n_max, l_max=l_max, atom_sigma=atom_sigma,
            transition_width=transition_width, envelope=envelope, central_weight=central_weight,
        )  # fmt: skip
        of_type = torch.tensor([seen.index(s) if s in seen else -1 for s in elements])
        self.register_buffer("of_type", of_type, persistent=False)
        points = torch.rand(
            (n_sparse, self.descriptor.n_components), generator=generator, dtype=torch.float64
        )
        self.hold(points / points.norm(dim=1, keepdim=True))

    of_type: Tensor

    @property
    def label(self) -> str:
        return f"SOAP of {self.centre}"

    def within(self, r: Tensor, pairs: Pairs, types: Tensor) -> Tensor:
        """Pairs that it describes."""
        return (
            (types[pairs.i] == self.kind) & (self.of_type[types[pairs.j]] >= 0) & (r < self.cutoff)
        ).nonzero()[:, 0]

    def environments(self, vectors: Tensor, pairs: Pairs, types: Tensor) -> Environments:
        atom = (types == self.kind).nonzero()[:, 0]
        place = torch.full_like(types, -1)
        place[atom] = torch.arange(len(atom), device=types.device)
        near = self.within(vectors.detach().norm(dim=-1), pairs, types)
        p = self.descriptor(
            vectors[near],
            place[pairs.i[near]],
            self.of_type[types[pairs.j[near]]],
            torch.full_like(atom, self.own),
        )
        return Environments(p, p.new_ones(len(atom)), atom)

    def kernel(self, a: Tensor, b: Tensor) -> Float[Tensor, "a b"]:
        return self.delta**2 * (a @ b.T) ** self.zeta

    def isolated(self) -> Float[Tensor, "1 components"]:
        """Features of an atom without neighbours."""
        none = torch.zeros(0, dtype=torch.int64, device=self.sparse.device)
        own = torch.tensor([self.own], device=self.sparse.device)
        return self.descriptor(self.sparse.new_zeros((0, 3)), none, none, own).detach()


class _SquaredExponential(Term):
    """k = δ² exp(−Σ_d (x_d − x'_d)²/2θ_d²)."""

    theta: Tensor

    def kernel(self, a: Tensor, b: Tensor) -> Float[Tensor, "a b"]:
        square = ((a[:, None, :] - b[None, :, :]) / self.theta).square().sum(-1)
        return self.delta**2 * torch.exp(-0.5 * square)

    @property
    def scale(self) -> Tensor:
        return self.theta


class PairTerm(_SquaredExponential):
    """ε_i = Σ_j f(r_ij) Σ_m α_m δ² exp(−(r_ij − r_m)²/2θ²) for pairs of two elements, from both sides.

    Args:
        elements: symbols of the potential.
        pair: the two elements.
        cutoff: Å.
        transition_width: length over which pairs fade, Å.
        theta: length of the kernel, Å.
        delta: standard deviation of the energy before the fit, eV.
        n_sparse: sparse points.
        sparse_method: uniform, fps, cur or random.
        envelope: polynomial (C²) or cosine (C¹).
        generator: of the points before there are data.
    """

    def __init__(
        self,
        *,
        elements: Sequence[str],
        generator: torch.Generator,
        pair: Sequence[str],
        cutoff: float = 5.0,
        transition_width: float = 1.0,
        theta: float = 1.0,
        delta: float = 1.0,
        n_sparse: int = 20,
        sparse_method: Method = "uniform",
        envelope: Envelope = "polynomial",
    ) -> None:
        super().__init__(cutoff, transition_width, delta, n_sparse, sparse_method, envelope)
        if theta <= 0 or len(pair) != 2:
            raise ValueError(f"theta must be positive and pair name two elements; given {theta}, {pair}.")
        self.pair = tuple(pair)
        self.kinds = tuple(list(elements).index(s) for s in pair)
        self.register_buffer("theta", torch.tensor([theta], dtype=torch.float64), persistent=False)
        self.hold(torch.linspace(0.2 * cutoff, cutoff, n_sparse, dtype=torch.float64)[:, None])

    @property
    def label(self) -> str:
        return f"pairs {'–'.join(self.pair)}"

    def within(self, r: Tensor, pairs: Pairs, types: Tensor) -> Tensor:
        """Pairs that it describes."""
        a, b = self.kinds
        i, j = types[pairs.i], types[pairs.j]
        return ((((i == a) & (j == b)) | ((i == b) & (j == a))) & (r < self.cutoff)).nonzero()[:, 0]

    def environments(self, vectors: Tensor, pairs: Pairs, types: Tensor) -> Environments:
        near = self.within(vectors.detach().norm(dim=-1), pairs, types)
        r = vectors[near].norm(dim=-1)
        return Environments(r[:, None], self.fade(r), pairs.i[near])


class AngleTerm(_SquaredExponential):
    """ε_i = Σ_{j≠k} f(r_ij) f(r_ik) Σ_m α_m k(x, x_m) with x = (r_ij + r_ik, (r_ij − r_ik)², r_jk).

    Args:
        elements: symbols of the potential.
        centre: element of the atom in the middle.
        pair: elements of the other two.
        cutoff: Å.
        transition_width: length over which neighbours fade, Å.
        theta: lengths of the kernel, Å, Å², Å.
        delta: standard deviation of the energy before the fit, eV.
        n_sparse: sparse points.
        sparse_method: cur, fps or random.
        envelope: polynomial (C²) or cosine (C¹).
        generator: of the points before there are data.
    """

    def __init__(
        self,
        *,
        elements: Sequence[str],
        generator: torch.Generator,
        centre: str,
        pair: Sequence[str],
        cutoff: float = 3.5,
        transition_width: float = 0.7,
        theta: Sequence[float] = (1.0, 1.0, 1.0),
        delta: float = 0.3,
        n_sparse: int = 100,
        sparse_method: Method = "cur",
        envelope: Envelope = "polynomial",
    ) -> None:
        super().__init__(cutoff, transition_width, delta, n_sparse, sparse_method, envelope)
        if len(theta) != 3 or min(theta) <= 0 or len(pair) != 2:
            raise ValueError(
                f"theta must be three positive numbers, pair two elements; given {theta}, {pair}."
            )
        self.centre, self.pair = centre, tuple(pair)
        self.kind = list(elements).index(centre)
        self.kinds = tuple(list(elements).index(s) for s in pair)
        self.register_buffer("theta", torch.tensor(list(theta), dtype=torch.float64), persistent=False)
        r = cutoff * (0.3 + 0.7 * torch.rand((n_sparse, 2), generator=generator, dtype=torch.float64))
        turn = math.pi * torch.rand(n_sparse, generator=generator, dtype=torch.float64)
        across = (r.square().sum(1) - 2.0 * r.prod(1) * turn.cos()).sqrt()
        self.hold(torch.stack([r.sum(1), (r[:, 0] - r[:, 1]) ** 2, across], 1))

    @property
    def label(self) -> str:
        return f"triplets {self.pair[0]}–{self.centre}–{self.pair[1]}"

    @property
    def multiplicity(self) -> float:
        return 2.0

    def within(self, r: Tensor, pairs: Pairs, types: Tensor) -> Tensor:
        """Pairs that its triplets may have."""
        j = types[pairs.j]
        near = (
            (types[pairs.i] == self.kind) & (r < self.cutoff) & ((j == self.kinds[0]) | (j == self.kinds[1]))
        )
        return near.nonzero()[:, 0]

    def triplets(self, r: Tensor, pairs: Pairs, types: Tensor) -> tuple[Tensor, Tensor]:
        """Pairs (ij, ik) of each unordered triplet."""
        near = self.within(r, pairs, types)
        some = Pairs(
            i=pairs.i[near],
            j=pairs.j[near],
            shift=pairs.shift[near],
            cutoff=self.cutoff,
            n_atoms=pairs.n_atoms,
        )
        first, second = some.triplets()
        first, second = near[first[first < second]], near[second[first < second]]
        if self.kinds[0] != self.kinds[1]:
            mixed = types[pairs.j[first]] != types[pairs.j[second]]
            first, second = first[mixed], second[mixed]
        return first, second

    def environments(self, vectors: Tensor, pairs: Pairs, types: Tensor) -> Environments:
        lengths = vectors.norm(dim=-1)
        a, b = self.triplets(lengths.detach(), pairs, types)
        ra, rb, across = lengths[a], lengths[b], (vectors[b] - vectors[a]).norm(dim=-1)
        x = torch.stack([ra + rb, (ra - rb) ** 2, across], 1)
        return Environments(x, self.fade(ra) * self.fade(rb), pairs.i[a])


KINDS: Mapping[str, Callable[..., Term]] = {"soap": SoapTerm, "distance_2b": PairTerm, "angle_3b": AngleTerm}
"""Kind of a term, as QUIP calls them, → its class."""


def terms_of(
    tables: Sequence[Mapping[str, Any]],
    elements: Sequence[str],
    envelope: Envelope,
    generator: torch.Generator,
) -> list[Term]:
    """Terms of tables; one without `centre` or `pair` stands for one of each element or combination.

    Raises ValueError for an unknown kind or key.
    """
    out: list[Term] = []
    for table in tables:
        kind = str(table.get("kind"))
        if kind not in KINDS:
            raise ValueError(f"A term's kind is {', '.join(KINDS)}; given '{kind}'.")
        known = set(inspect.signature(KINDS[kind]).parameters) - {"elements", "generator"}
        given = {k: v for k, v in table.items() if k != "kind"}
        if set(given) - known:
            raise ValueError(
                f"A term of kind '{kind}' has no {', '.join(sorted(set(given) - known))}; it has "
                f"{', '.join(sorted(known))}."
            )
        named = [given.get("centre"), *given.get("pair", ())]
        if any(s is not None and s not in elements for s in named):
            raise ValueError(f"A term names {named}; the potential knows {', '.join(elements)}.")
        for places in _places(kind, given, elements):
            settings = {"envelope": envelope, **given, **places}
            out.append(KINDS[kind](elements=elements, generator=generator, **settings))
    if not out:
        raise ValueError("A GAP needs at least one term.")
    return out


def _places(kind: str, given: Mapping[str, Any], elements: Sequence[str]) -> list[dict[str, Any]]:
    centres = [given["centre"]] if "centre" in given else list(elements)
    couples = [given["pair"]] if "pair" in given else list(combinations_with_replacement(elements, 2))
    if kind == "soap":
        return [{"centre": c} for c in centres]
    if kind == "distance_2b":
        return [{"pair": p} for p in couples]
    return [{"centre": c, "pair": p} for c in centres for p in couples]
