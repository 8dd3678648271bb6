"""All contractions of moment tensors to scalars up to a level, and how to evaluate them by few products.

A contraction is a multigraph without loops: a vertex is a moment M_{μ,ν}, an edge a summed index, so that ν
edges meet at it. Connected graphs are found by filling adjacency matrices, all others are products of them.
A connected graph is evaluated by cutting it in two connected parts with open indices; a component of a part
is a graph whose vertices also carry the powers of x, y, z of their open indices, so that equal parts of many
graphs are made once.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache, reduce
from itertools import combinations, combinations_with_replacement, groupby, permutations, product
from math import comb, factorial, prod
from operator import mul

import numpy as np

Powers = tuple[int, int, int]
Moment = tuple[int, int]
"""(μ, ν): radial function and rank."""


@dataclass(frozen=True, slots=True, order=True)
class Graph:
    """Vertices with open indices and the number of edges between each two, rows of the upper triangle."""

    vertices: tuple[tuple[int, int, Powers], ...]
    """(μ, ν, powers of the open indices); a shape has (number of open indices, 0, 0) there."""
    edges: tuple[int, ...]


@dataclass(frozen=True, slots=True, order=True)
class Contraction:
    """A basis function: a product of connected graphs without open indices."""

    level: int
    factors: tuple[Graph, ...]

    @property
    def n_moments(self) -> int:
        return sum(len(g.vertices) for g in self.factors)


@dataclass(frozen=True, eq=False)
class MomentBasis:
    """Basis functions of one level as a sequence of products.

    Nodes 0 … n_basic − 1 are components Σ_j f_μ(r) x^a y^b z^c of moments; node n of the others is
    Σ_t factor[t]·node[left[t]]·node[right[t]] over first[n − n_basic] ≤ t < first[n + 1 − n_basic].
    """

    level: int
    basic: np.ndarray
    """[n_basic, 4]: μ, a, b, c; sorted by μ."""
    first: np.ndarray
    left: np.ndarray
    right: np.ndarray
    factor: np.ndarray
    scalars: np.ndarray
    """Node of each basis function."""
    stages: tuple[int, ...]
    """First node of each stage: its products read nodes of stages before only; and the number of nodes."""
    functions: tuple[Contraction, ...]

    @property
    def n_radial_functions(self) -> int:
        """Number of different μ."""
        return int(self.basic[:, 0].max()) + 1

    @property
    def n_nodes(self) -> int:
        return len(self.basic) + len(self.first) - 1

    def evaluate(self, basic: np.ndarray) -> np.ndarray:
        """Basis functions of components [n_basic, …] of any type, whole numbers too; [n_functions, …]."""
        nodes = list(basic)
        for n in range(len(self.first) - 1):
            terms = range(self.first[n], self.first[n + 1])
            nodes.append(sum(nodes[self.left[t]] * nodes[self.right[t]] * int(self.factor[t]) for t in terms))
        return np.array([nodes[s] for s in self.scalars])


def moment_level(mu: int, nu: int) -> int:
    """lev M_{μ,ν} = 2 + 4μ + ν. Gubaev et al., doi:10.1016/j.commatsci.2018.09.031."""
    return 2 + 4 * mu + nu


@lru_cache(maxsize=8)
def moment_basis(level: int, max_moments: int | None = 4) -> MomentBasis:
    """All contractions of at most `max_moments` moments with Σ lev M ≤ level.

    Four moments, 1, 2, 5, 9, 16, 29, 52, 92, 163, 288, 500, 864 functions for levels 2, 4 … 24, are the
    published templates; none does not limit their number. Raises ValueError unless the level is even and 2
    to 28.
    """
    if level % 2 or not 2 <= level <= 28:
        raise ValueError(f"The level of a moment tensor potential is even, 2 to 28; given {level}.")
    if max_moments is not None and max_moments < 1:
        raise ValueError(f"max_moments must be at least 1; given {max_moments}.")
    return _Builder().basis(level, contractions(level, max_moments or level))


def contractions(level: int, max_moments: int) -> tuple[Contraction, ...]:
    """Every basis function up to `level`, by level and number of moments."""
    connected = sorted(_connected(level, max_moments), key=lambda c: (c.level, c.n_moments, c))
    found = [Contraction(0, ())]
    for one in connected:
        found += [
            Contraction(c.level + k * one.level, c.factors + one.factors * k)
            for c in found
            for k in range(1, (level - c.level) // one.level + 1)
            if c.n_moments + k * one.n_moments <= max_moments
        ]
    return tuple(sorted(found[1:], key=lambda c: (c.level, c.n_moments, c)))


def _connected(level: int, max_moments: int) -> Iterator[Contraction]:
    """Connected graphs without open indices."""
    moments = [
        (mu, nu) for mu in range(level) for nu in range(level) if moment_level(mu, nu) <= level and (nu or 1)
    ]
    yield from (
        Contraction(moment_level(mu, 0), (Graph(((mu, 0, (0, 0, 0)),), ()),)) for mu, nu in moments if nu == 0
    )
    tensors = [m for m in moments if m[1] > 0]
    # a tree on n vertices has level 2n + 2(n − 1) at least
    for n in range(2, min(max_moments, (level + 2) // 4) + 1):
        for vertices in _multisets(tensors, n, level):
            ranks = [nu for _, nu in vertices]
            if sum(ranks) % 2 or sum(ranks) < 2 * (n - 1) or 2 * max(ranks) > sum(ranks):
                continue
            total = sum(moment_level(*m) for m in vertices)
            labelled = tuple((mu, nu, (0, 0, 0)) for mu, nu in vertices)
            graphs = {
                canonical(Graph(labelled, edges))[0]
                for edges in _fillings(tuple(ranks))
                if _is_connected(edges, range(n), n)
            }
            yield from (Contraction(total, (g,)) for g in sorted(graphs))


def _multisets(moments: list[Moment], n: int, level: int) -> Iterator[tuple[Moment, ...]]:
    """n moments, in order, of total level at most `level`."""
    if n == 0:
        yield ()
        return
    for k, m in enumerate(moments):
        rest = level - moment_level(*m)
        if rest >= 3 * (n - 1):
            yield from ((m, *others) for others in _multisets(moments[k:], n - 1, rest))


def _fillings(ranks: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Upper triangles of symmetric matrices of counts with the given row sums and zero diagonal."""
    if len(ranks) == 1:
        if ranks[0] == 0:
            yield ()
        return
    for row in _shares(ranks[0], ranks[1:]):
        rest = tuple(r - x for r, x in zip(ranks[1:], row, strict=True))
        yield from (row + below for below in _fillings(rest))


def _shares(total: int, limits: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Ways to share out `total` within limits."""
    if not limits:
        if total == 0:
            yield ()
        return
    for x in range(min(total, limits[0]) + 1):
        yield from ((x, *rest) for rest in _shares(total - x, limits[1:]))


@lru_cache(maxsize=16)
def _places(n: int) -> np.ndarray:
    """Where edge (u, v) stands in the upper triangle."""
    at = np.zeros((n, n), np.int64)
    for k, (u, v) in enumerate(combinations(range(n), 2)):
        at[u, v] = at[v, u] = k
    return at


def _is_connected(edges: tuple[int, ...], which: "range | tuple[int, ...]", n: int) -> bool:
    at, left = _places(n), set(which)
    front = [left.pop()]
    while front:
        u = front.pop()
        near = [v for v in left if edges[at[u, v]]]
        left.difference_update(near)
        front += near
    return not left


@lru_cache(maxsize=1 << 18)
def canonical(graph: Graph) -> tuple[Graph, tuple[int, ...]]:
    """(the one of all numberings of the vertices that comes first, vertex at each of its places)."""
    n = len(graph.vertices)
    at = _places(n).tolist()
    e = graph.edges
    # vertices that differ in label or in the edges that meet there cannot change places
    mark = [
        (graph.vertices[u], sorted((e[at[u][v]] for v in range(n) if v != u), reverse=True)) for u in range(n)
    ]
    deeper = [
        (*m, sorted((e[at[u][v]], mark[v]) for v in range(n) if v != u and e[at[u][v]]))
        for u, m in enumerate(mark)
    ]  # fmt: skip
    order = sorted(range(n), key=lambda u: deeper[u])
    groups = [tuple(g) for _, g in groupby(order, key=lambda u: deeper[u])]
    best: tuple[int, ...] | None = None
    kept: tuple[int, ...] = ()
    pairs = list(combinations(range(n), 2))
    for choice in product(*(permutations(g) for g in groups)):
        p = tuple(u for g in choice for u in g)
        found = tuple(e[at[p[u]][p[v]]] for u, v in pairs)
        if best is None or found > best:
            best, kept = found, p
    return Graph(tuple(graph.vertices[u] for u in kept), best or ()), kept


def _part(graph: Graph, which: tuple[int, ...]) -> Graph:
    """The vertices `which`, whose edges to others become open indices of a shape."""
    n, at, e = len(graph.vertices), _places(len(graph.vertices)), graph.edges
    others = [v for v in range(n) if v not in which]
    vertices = []
    for u in which:
        mu, nu, (open_, _, _) = graph.vertices[u]
        vertices.append((mu, nu, (open_ + sum(e[at[u, v]] for v in others), 0, 0)))
    return Graph(tuple(vertices), tuple(e[at[u, v]] for u, v in combinations(which, 2)))


def _cuts(shape: Graph) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Ways to cut a connected shape in two connected parts."""
    n = len(shape.vertices)
    for size in range(1, n // 2 + 1):
        for a in combinations(range(n), size):
            b = tuple(v for v in range(n) if v not in a)
            if 2 * size == n and a[0] != 0:
                continue
            if _is_connected(shape.edges, a, n) and _is_connected(shape.edges, b, n):
                yield a, b


def _terms(shape: Graph, a: tuple[int, ...], b: tuple[int, ...]) -> int:
    """Products that all components of a shape take when it is cut so."""
    at = _places(len(shape.vertices))
    across = prod(comb(shape.edges[at[u, v]] + 2, 2) for u in a for v in b)
    return across * prod(comb(open_ + 2, 2) for _, _, (open_, _, _) in shape.vertices)


@lru_cache(maxsize=1 << 16)
def _cost(shape: Graph) -> int:
    """Products of a shape with nothing made before."""
    if len(shape.vertices) == 1:
        return 0
    return min(
        _terms(shape, a, b) + sum(_cost(canonical(_part(shape, x))[0]) for x in (a, b))
        for a, b in _cuts(shape)
    )


@lru_cache(maxsize=64)
def _monomials(degree: int) -> tuple[tuple[Powers, int], ...]:
    """Powers of the given degree with their multinomial coefficients."""
    out = []
    for axes in combinations_with_replacement(range(3), degree):
        p = (axes.count(0), axes.count(1), axes.count(2))
        out.append((p, factorial(degree) // prod(factorial(x) for x in p)))
    return tuple(out)


def _raised(a: Powers, b: Powers) -> Powers:
    return a[0] + b[0], a[1] + b[1], a[2] + b[2]


class _Builder:
    """Nodes as they are needed."""

    def __init__(self) -> None:
        self.node: dict[Graph, int] = {}
        self.products: dict[int, dict[tuple[int, int], int]] = {}
        self.depth: list[int] = []
        self._cut: dict[Graph, tuple[tuple[int, ...], tuple[int, ...]]] = {}

    def basis(self, level: int, functions: tuple[Contraction, ...]) -> MomentBasis:
        node_of: dict[tuple[Graph, ...], int] = {}
        for c in functions:
            if len(c.factors) == 1:
                node_of[c.factors] = self.component(c.factors[0])
        for c in functions:
            if len(c.factors) > 1:
                pair = node_of[c.factors[:-1]], node_of[c.factors[-1:]]
                node_of[c.factors] = self._new({(min(pair), max(pair)): 1})
        return self._sorted(level, functions, [node_of[c.factors] for c in functions])

    def component(self, graph: Graph) -> int:
        """Node of a graph with given powers of its open indices."""
        graph, _ = canonical(graph)
        if graph in self.node:
            return self.node[graph]
        if len(graph.vertices) == 1:
            self.node[graph] = self._new({})
            return self.node[graph]
        shape, order = canonical(
            Graph(tuple((mu, nu, (sum(p), 0, 0)) for mu, nu, p in graph.vertices), graph.edges)
        )
        at = _places(len(order))
        edges = [graph.edges[at[order[u], order[v]]] for u, v in combinations(range(len(order)), 2)]
        graph = Graph(tuple(graph.vertices[u] for u in order), tuple(edges))
        found = self._new(self._sum(graph, *self._best_cut(shape)))
        self.node[canonical(graph)[0]] = found
        return found

    def _best_cut(self, shape: Graph) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The cheapest, parts that were made before being free."""
        if shape not in self._cut:

            def cost(cut: tuple[tuple[int, ...], tuple[int, ...]]) -> int:
                parts = [canonical(_part(shape, x))[0] for x in cut]
                return _terms(shape, *cut) + sum(0 if p in self._cut else _cost(p) for p in parts)

            self._cut[shape] = min(_cuts(shape), key=cost)
        return self._cut[shape]

    def _sum(self, graph: Graph, a: tuple[int, ...], b: tuple[int, ...]) -> dict[tuple[int, int], int]:
        """The sum over the powers of all edges between two parts."""
        at = _places(len(graph.vertices))
        across = [(u, v, graph.edges[at[u, v]]) for u in a for v in b if graph.edges[at[u, v]]]
        out: dict[tuple[int, int], int] = {}
        for choice in product(*(_monomials(k) for _, _, k in across)):
            powers = {u: p for u, (_, _, p) in enumerate(graph.vertices)}
            for (u, v, _), (p, _) in zip(across, choice, strict=True):
                powers[u], powers[v] = _raised(powers[u], p), _raised(powers[v], p)
            pair = sorted(
                self.component(
                    Graph(
                        tuple((*graph.vertices[u][:2], powers[u]) for u in part),
                        tuple(graph.edges[at[u, v]] for u, v in combinations(part, 2)),
                    )
                )
                for part in (a, b)
            )
            key = (pair[0], pair[1])
            out[key] = out.get(key, 0) + reduce(mul, (m for _, m in choice), 1)
        return out

    def _new(self, terms: dict[tuple[int, int], int]) -> int:
        n = len(self.depth)
        self.products[n] = terms
        self.depth.append(1 + max((self.depth[x] for pair in terms for x in pair), default=-1))
        return n

    def _sorted(self, level: int, functions: tuple[Contraction, ...], scalars: list[int]) -> MomentBasis:
        single = {n: g.vertices[0] for g, n in self.node.items() if len(g.vertices) == 1}

        def place(n: int) -> tuple[object, ...]:
            if n not in single:
                return (self.depth[n], n)
            mu, _, p = single[n]
            return (0, mu, sum(p), tuple(-x for x in p))

        order = sorted(range(len(self.depth)), key=place)
        number = {n: k for k, n in enumerate(order)}
        terms = [
            sorted((*sorted((number[a], number[b])), c) for (a, b), c in self.products[n].items())
            for n in order
        ]
        flat = np.array([t for ts in terms for t in ts], np.int64).reshape(-1, 3)
        counts = [len(ts) for ts in terms[len(single) :]]
        depths = [self.depth[n] for n in order]
        return MomentBasis(
            level=level,
            basic=np.array([(single[n][0], *single[n][2]) for n in order if n in single], np.int64),
            first=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
            left=flat[:, 0].copy(),
            right=flat[:, 1].copy(),
            factor=flat[:, 2].astype(np.float64),
            scalars=np.array([number[s] for s in scalars], np.int64),
            stages=(*(k for k in range(1, len(depths)) if depths[k] != depths[k - 1]), len(depths)),
            functions=functions,
        )
