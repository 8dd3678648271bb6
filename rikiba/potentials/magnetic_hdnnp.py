"""Neural network potential that tells magnetic states apart: spin-dependent symmetry functions."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations_with_replacement
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from rikiba.core import elements as periodic_table
from rikiba.core.pairs import Pairs
from rikiba.core.system import System
from rikiba.descriptors.acsf import Envelope
from rikiba.nn.atomic_energies import AtomicEnergies

from .base import check_positive
from .symmetry_networks import SymmetryFunctionPotential, element_networks, symmetry_functions

_NONE, _UP, _DOWN = range(3)


class MagneticHdnnp(SymmetryFunctionPotential):
    """E = Σ_i [E0(Z_i) + shift + scale·(NN_{Z_i}(x_i) − NN_{Z_i}(x_alone))] of spin-dependent functions.

    An atom's spin coordinate s_i is the sign of its moment on the structure, 0 below a threshold. Every sum
    over neighbours stands several times among the functions, over all and by the relative spin:

        radial: M⁰ = 1, M⁺ = ½|s_i s_j||s_i + s_j|, M⁻ = ½|s_i s_j||s_i − s_j|
        angular: M⁰⁰ = 1, M⁺⁺ (neighbours parallel to i, or one parallel and one without spin), M⁻⁻ (likewise
        antiparallel), M⁺⁻ (one parallel, one antiparallel)

    so that energies know ferromagnetic from antiferromagnetic order and do not change when all spins flip.
    Collinear spins only; s_i is a step function of the moment, so that energies do not depend on its size. As
    in ASE, a structure on which no moments are set has none.
    Eckhoff & Behler, doi:10.1038/s41524-021-00636-z, eqs. 9 to 19 (M_S there is half of a moment in μB).

    With `coordinate = "moment"` (a departure from the paper) s_i = m_i/m_ref takes any value, so that the
    energy has derivatives by the moments (`rikiba.calculators.effective_fields`) and knows their size. The
    functions continue the paper's as polynomials, M⁺ = ½(s_i² s_j² + s_i s_j), M⁻ = ½(s_i² s_j² − s_i s_j)
    and likewise the angular ones: equal where every s is 0, 1 or −1, points in which the published ones have
    kinks.

    Neighbours with spin up, down and none count as different elements in the sums; the functions above are
    sums of those. With all atoms of an element magnetic, or none, they hold the same information as
    conventional functions do of elements.

    Args:
        elements: chemical symbols.
        magnetic: those of them whose atoms may have a spin; all if not given.
        threshold_muB: moments smaller than this are no spin, μB; of the coordinate sign only.
        coordinate: sign, as published, or moment.
        reference_muB: m_ref, of the coordinate moment, μB: one for all elements, or by element.
        cutoff: neighbour radius, Å.
        angular_cutoff: radius of the angular functions, Å; `cutoff` if not given.
        n_radial: shifted radial functions per neighbour element; ignored where `radial` is given.
        n_angular: radial shells of the angular functions; ignored where `wide` or `narrow` are given.
        zetas: exponents of the angular functions; ignored where `wide` or `narrow` are given.
        radial: explicit (η, r_s) of each radial function, 1/Å² and Å; a third number is its own cutoff.
        wide: explicit (η, r_s, ζ, λ) of each angular function without r_jk; a fifth is its own cutoff.
        narrow: explicit (η, r_s, ζ, λ) of each angular function with r_jk; a fifth is its own cutoff.
        hidden: widths of the hidden layers, or those of each element.
        activation: as for behler_parrinello.
        envelope: as for behler_parrinello.
        envelope_start: fraction of the cutoff up to which cosine, mollifier and smoothstep are 1.
        n_selected: how many functions each element's network reads, chosen from the training set.
        atomic_energies: E0 of each element, eV; 0 if not given.
        scale: unit of the networks' output, eV.
        shift: added per atom, eV.
        isolated_limit: give an isolated atom exactly E0 + shift.
    """

    references = ("10.1038/s41524-021-00636-z", "10.1103/PhysRevLett.98.146401")
    kinds: Tensor
    references_muB: Tensor
    radial_sums: Tensor
    angular_sums: Tensor

    def __init__(
        self,
        *,
        elements: Sequence[str],
        magnetic: Sequence[str] | None = None,
        threshold_muB: float = 0.5,
        coordinate: Literal["sign", "moment"] = "sign",
        reference_muB: float | Mapping[str, float] = 1.0,
        cutoff: float = 6.0,
        angular_cutoff: float | None = None,
        n_radial: int = 12,
        n_angular: int = 4,
        zetas: Sequence[float] = (1, 2, 4),
        radial: Sequence[Sequence[float]] | None = None,
        wide: Sequence[Sequence[float]] | None = None,
        narrow: Sequence[Sequence[float]] = (),
        hidden: Sequence[int] | Mapping[str, Sequence[int]] = (32, 32),
        activation: str | Sequence[str] = "tanh",
        envelope: Envelope = "polynomial",
        envelope_start: float = 0.0,
        n_selected: int | None = None,
        atomic_energies: Mapping[str, float] | None = None,
        scale: float = 1.0,
        shift: float = 0.0,
        isolated_limit: bool = True,
    ) -> None:
        super().__init__()
        check_positive(cutoff=cutoff, scale=scale, threshold_muB=threshold_muB)
        self.elements = periodic_table.sorted_symbols(elements)
        unknown = sorted(set(magnetic or ()) - set(self.elements))
        if unknown:
            raise ValueError(f"magnetic names {', '.join(unknown)}; elements are {', '.join(self.elements)}.")
        self.cutoff, self.threshold = cutoff, threshold_muB
        if coordinate not in ("sign", "moment"):
            raise ValueError(f"coordinate is 'sign' or 'moment'; given '{coordinate}'.")
        self.coordinate = coordinate
        self.register_buffer("references_muB", self._references(reference_muB), persistent=False)
        spins = [3 if magnetic is None or s in magnetic else 1 for s in self.elements]
        first = [sum(spins[:k]) for k in range(len(spins))]
        # [element, spin] → kind of neighbour; without spin where an element has none
        kinds = [[f, f + 1, f + 2] if n == 3 else [f, f, f] for f, n in zip(first, spins, strict=True)]
        self.register_buffer("kinds", torch.tensor(kinds), persistent=False)
        self.features = symmetry_functions(
            n_elements=sum(spins),
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
        )
        self.register_buffer("radial_sums", self._radial_sums(), persistent=False)
        self.register_buffer("angular_sums", self._angular_sums(), persistent=False)
        n = self.features.n_radial * self.radial_sums.shape[1]
        n += self.features.n_angular * self.angular_sums.shape[1]
        reads = self.read_features(n, n_selected=n_selected)
        self.networks = element_networks(self.elements, reads, hidden, activation)
        self.atomic_energies = AtomicEnergies(self.elements, atomic_energies)
        self.scale, self.shift, self.isolated_limit = scale, shift, isolated_limit

    def _references(self, given: float | Mapping[str, float]) -> Float[Tensor, "elements"]:
        own = dict(given) if isinstance(given, Mapping) else dict.fromkeys(self.elements, given)
        missing = [s for s in self.elements if s not in own]
        if missing:
            raise ValueError(f"reference_muB lacks {', '.join(missing)}.")
        check_positive(**{f"reference_muB['{s}']": own[s] for s in self.elements})
        return torch.tensor([own[s] for s in self.elements], dtype=torch.float64)

    def _spin(self, kind: int) -> tuple[int, int]:
        """(element, spin) of a kind of neighbour."""
        element = int((self.kinds == kind).any(1).nonzero()[0])
        return element, (self.kinds[element] == kind).nonzero().flatten().tolist()[0]

    def _radial_sums(self) -> Float[Tensor, "3 sums kinds"]:
        """Which kinds of neighbours each radial sum counts, by the spin of the centre."""
        n = self.features.n_elements
        found = [self._spin(k) for k in range(n)]
        rows: list[list[list[float]]] = [[], [], []]
        for e in range(len(self.elements)):
            several = sum(f[0] == e for f in found) > 1
            for relation in ("all", "parallel", "antiparallel") if several else ("all",):
                for centre in (_NONE, _UP, _DOWN):
                    rows[centre].append(
                        [float(f[0] == e and _related(relation, centre, f[1])) for f in found]
                    )
        return torch.tensor(rows, dtype=torch.float64)

    def _angular_sums(self) -> Float[Tensor, "3 sums kind_pairs"]:
        """Which pairs of kinds each angular sum counts, by the spin of the centre."""
        pairs = self.features.element_pairs
        found = [(self._spin(a), self._spin(b)) for a, b in pairs]
        rows: list[list[list[float]]] = [[], [], []]
        n = len(self.elements)
        several = {e for e in range(n) if len(set(self.kinds[e].tolist())) > 1}
        for e, f in combinations_with_replacement(range(n), 2):
            relations = ["all"]
            if e in several or f in several:
                relations += ["++", "--"]
            if e in several and f in several:
                relations += ["+-"]
            for relation in relations:
                for centre in (_NONE, _UP, _DOWN):
                    rows[centre].append(
                        [
                            float((a[0], b[0]) == (e, f) and _related_pair(relation, centre, a[1], b[1]))
                            for a, b in found
                        ]
                    )
        return torch.tensor(rows, dtype=torch.float64)

    def spins(self, system: System) -> Int[Tensor, "atoms"]:
        """0 without spin, 1 up, 2 down."""
        if system.magmoms is None:
            return torch.zeros_like(system.numbers)
        m = system.magmoms
        return torch.where(m.abs() < self.threshold, _NONE, torch.where(m > 0, _UP, _DOWN))

    def prepare(self, structures: Iterable[tuple[System, Pairs]]) -> None:
        """As for all; raises ValueError where no atom of the training set has a spin."""
        structures = list(structures)
        if not any(self._has_moments(system) for system, _ in structures):
            least = f" of {self.threshold:g} μB or more" if self.coordinate == "sign" else ""
            raise ValueError(
                f"No atom of the training set has a moment{least}. Set the moments "
                f"on the structures (initial_magmoms), or use behler_parrinello."
            )
        super().prepare(structures)

    def _has_moments(self, system: System) -> bool:
        if self.coordinate == "sign" or system.magmoms is None:
            return bool((self.spins(system) != _NONE).any())
        return bool((system.magmoms != 0.0).any())

    def raw_features(self, system: System, pairs: Pairs, types: Tensor) -> Float[Tensor, "atoms features"]:
        n, kinds = self.features.n_radial, self.features.n_elements
        if self.coordinate == "moment":
            centre = self._shares(system, types)
            places = torch.nn.functional.one_hot(self.kinds[types], kinds).to(centre.dtype)
            shares = (centre[:, :, None] * places).sum(1)
            g = self.features.of_shares(system, pairs, shares, torch.float64)
        else:
            spin = self.spins(system)
            kind = self.kinds[types, spin]
            g = self.features(system, pairs, kind, torch.float64)
            alone = self.kinds[types, _NONE] == kind
            centre = torch.nn.functional.one_hot(torch.where(alone, _NONE, spin), 3).to(g.dtype)
        counted = torch.einsum("as,skx->akx", centre, self.radial_sums)
        parts = [torch.bmm(counted, g[:, : n * kinds].reshape(len(g), kinds, n)).flatten(1)]
        if self.features.n_angular:
            parts.append(self._angular(g[:, n * kinds :], centre).flatten(1))
        return torch.cat(parts, 1)

    def _shares(self, system: System, types: Tensor) -> Float[Tensor, "atoms 3"]:
        """How much of an atom has no spin, 1 − s², is up, ½(s² + s), and down, ½(s² − s)."""
        s = system.positions.new_zeros(system.n_atoms)
        if system.magmoms is not None:
            magnetic = self.kinds[types, _UP] != self.kinds[types, _NONE]
            s = torch.where(magnetic, system.magmoms / self.references_muB[types], s)
        return torch.stack([1.0 - s * s, 0.5 * (s * s + s), 0.5 * (s * s - s)], 1)

    def _angular(self, g: Tensor, centre: Tensor) -> Float[Tensor, "atoms sums functions"]:
        pairs, start, out = len(self.features.element_pairs), 0, []
        wide = self.features.wide
        n_wide = 0 if wide is None else len(wide.order)
        counted = torch.einsum("as,skx->akx", centre, self.angular_sums)
        for n in (n_wide, self.features.wide_direct.n, self.features.narrow.n):
            block = g[:, start : start + pairs * n].reshape(len(g), pairs, n)
            out.append(torch.bmm(counted, block))
            start += pairs * n
        return torch.cat(out, 2)

    @classmethod
    def examples(cls) -> "list[MagneticHdnnp]":
        """Small instances for the conformance tests."""
        small: dict[str, Any] = {"elements": ("O", "Si"), "cutoff": 4.0, "n_radial": 3, "hidden": (6,)}
        by_moment: dict[str, Any] = {"coordinate": "moment", "reference_muB": {"O": 1.0, "Si": 2.0}}
        return [
            cls(**small, magnetic=("Si",), n_angular=1, zetas=(1, 2)),
            cls(**small, **by_moment, narrow=[(0.3, 0.0, 1.0, 1.0)]),
        ]


def _related(relation: str, centre: int, spin: int) -> bool:
    if relation == "all":
        return True
    if centre == _NONE or spin == _NONE:
        return False
    return (centre == spin) == (relation == "parallel")


def _related_pair(relation: str, centre: int, a: int, b: int) -> bool:
    """What M⁰⁰, M⁺⁺, M⁻⁻ and M⁺⁻ of eqs. 16 to 19 are for spins 0 and ±1."""
    if relation == "all":
        return True
    if centre == _NONE or a == b == _NONE:
        return False
    signs = {s == centre for s in (a, b) if s != _NONE}
    if relation == "+-":
        return _NONE not in (a, b) and len(signs) == 2
    return signs == {relation == "++"}
