"""Lennard-Jones and Coulomb energies of a topology: exclusions, special pairs, charges beside their atoms."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor

from rikiba.core import units
from rikiba.core.pairs import Pairs
from rikiba.core.system import System
from rikiba.electrostatics.ewald import Ewald, excluded_energies
from rikiba.nn.double_buffers import DoubleBuffers

from .base import check_positive
from .pair import Truncation, quintic_switch
from .topology import Copies, Exclusions, TopologyError, table_columns

Electrostatics = Literal["all_pairs", "reaction_field", "ewald"]
Mixing = Literal["lorentz_berthelot", "geometric"]
Energies = Float[Tensor, "atoms"]


def lennard_jones(
    r: Float[Tensor, "*pairs"], sigma: Float[Tensor, "*pairs"], epsilon: Float[Tensor, "*pairs"]
) -> Float[Tensor, "*pairs"]:
    """4ε[(σ/r)¹² − (σ/r)⁶], eV."""
    s6 = (sigma / r) ** 6
    return 4.0 * epsilon * (s6 * s6 - s6)


class NonBondedTerms(DoubleBuffers):
    """What atoms of a topology do to each other through space; see `MolecularMechanics` for the arguments."""

    charges: Tensor
    types: Tensor
    sigma: Tensor
    epsilon: Tensor
    excluded: Tensor
    special: Tensor
    special_charge: Tensor
    special_sigma: Tensor
    special_epsilon: Tensor
    site_atoms: Tensor
    site_weights: Tensor
    site_reach: Tensor

    def __init__(
        self,
        *,
        n_atoms: int,
        charges_e: Sequence[float] | None = None,
        lennard_jones: Mapping[str, Any] | None = None,
        exclusions: Sequence[Sequence[int]] = (),
        special_pairs: Mapping[str, Any] | None = None,
        charge_sites: Mapping[str, Any] | None = None,
        mixing: Mixing = "lorentz_berthelot",
        cutoff: float | None = None,
        truncation: Truncation = "smooth",
        switch_from: float | None = None,
        tail_correction: bool = False,
        electrostatics: Electrostatics = "all_pairs",
        dielectric: float = 78.3,
        ewald_tolerance: float = 1e-8,
        ewald_alpha: float | None = None,
        ewald_k_cutoff: float | None = None,
        allow_charged: bool = False,
    ) -> None:
        super().__init__()
        self.n = n_atoms
        self._set_ends(cutoff, truncation, switch_from, tail_correction, electrostatics)
        self._set_charges(charges_e, charge_sites)
        self._set_types(lennard_jones, mixing)
        self._set_pairs(exclusions, special_pairs)
        check_positive(dielectric=dielectric)
        self.dielectric = dielectric
        self.ewald = None
        if electrostatics == "ewald":
            assert cutoff is not None
            self.ewald = Ewald(
                cutoff=cutoff,
                tolerance=ewald_tolerance,
                alpha=ewald_alpha,
                k_cutoff=ewald_k_cutoff,
                allow_charged=allow_charged,
            )

    def _set_ends(
        self, cutoff: float | None, truncation: Truncation, start: float | None, tail: bool, coulomb: str
    ) -> None:
        if coulomb not in get_args(Electrostatics):
            raise ValueError(
                f"electrostatics must be {', '.join(get_args(Electrostatics))}; given '{coulomb}'."
            )
        if cutoff is None and (coulomb != "all_pairs" or tail or start is not None):
            raise ValueError(
                "Without a cutoff every pair is summed, of molecules only: reaction_field, ewald, "
                "switch_from and tail_correction need a cutoff."
            )
        if truncation not in get_args(Truncation):
            raise ValueError(f"truncation must be {', '.join(get_args(Truncation))}; given '{truncation}'.")
        if tail and truncation not in ("cut", "smooth"):
            raise ValueError(f"tail_correction is for truncation cut or smooth; given '{truncation}'.")
        self.cutoff, self.truncation, self.tail, self.coulomb = cutoff, truncation, tail, coulomb
        self.switch_from = 0.0
        if cutoff is not None:
            check_positive(cutoff=cutoff)
            self.switch_from = 0.8 * cutoff if start is None else start
            if not 0 <= self.switch_from < cutoff:
                raise ValueError(f"switch_from must lie in [0, cutoff = {cutoff}) Å; given {start}.")

    def _set_charges(self, charges: Sequence[float] | None, sites: Mapping[str, Any] | None) -> None:
        q = torch.as_tensor(charges if charges is not None else [0.0] * self.n, dtype=torch.float64)
        if len(q) != self.n or not bool(q.isfinite().all()):
            raise TopologyError(f"charges_e needs one finite number for each of {self.n} atoms.")
        self.register_buffer("charges", q)
        self.charged = bool((q != 0).any())
        given: Mapping[str, Any] = {"atoms": [], "weights": [], "reach": []} if sites is None else sites
        if set(given) != {"atoms", "weights", "reach"}:
            raise TopologyError(
                f"charge_sites is a table of atoms, weights and reach; given {sorted(given)}."
            )
        atoms, values = table_columns(
            "charge_sites", {"atoms": given["atoms"], "reach": given["reach"]}, self.n, 3, ("reach",)
        )
        weights = torch.as_tensor(given["weights"], dtype=torch.float64).reshape(-1, 3)
        if len(weights) != len(atoms) or bool(((weights.sum(1) - 1.0).abs() > 1e-12).any()):
            raise TopologyError("charge_sites.weights are three numbers of sum 1 for each site.")
        if len(atoms[:, 0].unique()) != len(atoms):
            raise TopologyError("charge_sites: an atom's charge can lie in one place only.")
        self.register_buffer("site_atoms", atoms)
        self.register_buffer("site_weights", weights)
        self.register_buffer("site_reach", values["reach"])

    def _set_types(self, table: Mapping[str, Any] | None, mixing: Mixing) -> None:
        """Types of atoms and tables of σ and ε of every two types."""
        none = {"types": [0] * self.n, "sigma": [1.0], "epsilon_eV": [0.0]}
        given: dict[str, Any] = dict(none if table is None else table)
        special = given.pop("overrides", [])
        if set(given) != {"types", "sigma", "epsilon_eV"}:
            raise TopologyError(
                f"lennard_jones is a table of types, sigma, epsilon_eV and, where needed, overrides; given "
                f"are {sorted(given)}."
            )
        s, e = (torch.as_tensor(given[k], dtype=torch.float64) for k in ("sigma", "epsilon_eV"))
        types = torch.as_tensor(given["types"], dtype=torch.int64)
        if len(s) != len(e) or len(types) != self.n or not set(types.tolist()) <= set(range(len(s))):
            raise TopologyError(
                f"lennard_jones needs sigma and epsilon_eV of every type and the type, 0 … {len(s) - 1}, of "
                f"each of {self.n} atoms."
            )
        if not bool((s >= 0).all() and (e >= 0).all()):
            raise TopologyError("lennard_jones: sigma and epsilon_eV must be at least 0.")
        if mixing not in get_args(Mixing):
            raise ValueError(f"mixing must be {' or '.join(get_args(Mixing))}; given '{mixing}'.")
        mean = 0.5 * (s[:, None] + s) if mixing == "lorentz_berthelot" else (s[:, None] * s).sqrt()
        depth = (e[:, None] * e).sqrt()
        for row in special:
            a, b = int(row["types"][0]), int(row["types"][1])
            mean[a, b] = mean[b, a] = float(row["sigma"])
            depth[a, b] = depth[b, a] = float(row["epsilon_eV"])
        self.register_buffer("types", types)
        self.register_buffer("sigma", mean)
        self.register_buffer("epsilon", depth)
        self.dispersive = bool((depth > 0).any())

    def _set_pairs(self, exclusions: Sequence[Sequence[int]], special: Mapping[str, Any] | None) -> None:
        out, _ = table_columns("exclusions", {"atoms": exclusions}, self.n, 2, ())
        columns = ("charge_product_e2", "sigma", "epsilon_eV")
        table: Mapping[str, Any] = {c: [] for c in ("atoms", *columns)} if special is None else special
        atoms, values = table_columns("special_pairs", table, self.n, 2, columns)
        every = torch.cat([out, atoms]).sort(1).values
        once = every.unique(dim=0) if len(every) else every
        if len(atoms.sort(1).values.unique(dim=0) if len(atoms) else atoms) != len(atoms):
            raise TopologyError("special_pairs names a pair twice.")
        self.register_buffer("excluded", once)
        self.register_buffer("special", atoms)
        for name, column in zip(("charge", "sigma", "epsilon"), columns, strict=True):
            self.register_buffer(f"special_{name}", values[column])
        self.exclusions = Exclusions(once, self.n)

    @property
    def pair_cutoff(self) -> float:
        """How far pairs of atoms must reach, Å: farther than charges beside their atoms interact."""
        reach = float(self.site_reach.max()) if len(self.site_reach) else 0.0
        return 0.0 if self.cutoff is None else self.cutoff + 2.0 * reach

    def forward(self, system: System, pairs: Pairs, copies: Copies) -> dict[str, Energies]:
        """Energies per atom of each kind of term, eV; a pair's energy is shared equally."""
        summed = (self.charged and self.coulomb == "all_pairs") or (self.dispersive and self.cutoff is None)
        every = self._all_pairs(system) if summed else None
        near = pairs if self.cutoff is None else self._not_excluded(copies, pairs)
        found: dict[str, Energies] = {}
        if self.dispersive:
            listed = near if self.cutoff is not None or every is None else every
            found["lennard_jones"] = self._dispersion(system, listed)
        if self.tail:
            found["lennard_jones_tail"] = self.tail_energy(system)[system.system_index]
        shift = self.displacements(copies) if len(self.site_atoms) else None
        if self.charged:
            found |= self._coulomb(system, near, every, copies, shift)
        if len(self.special):
            found |= self._special(copies, shift)
        return found

    def _not_excluded(self, copies: Copies, pairs: Pairs) -> Pairs:
        keep = (~self.exclusions.mask(copies, pairs)).nonzero().flatten()
        given = None if pairs.given_vectors is None else pairs.given_vectors[keep]
        return replace(pairs, i=pairs.i[keep], j=pairs.j[keep], shift=pairs.shift[keep], given_vectors=given)

    def _all_pairs(self, system: System) -> Pairs:
        """Every pair of atoms of one system, in both directions, that is not excluded; of molecules only."""
        if bool(system.pbc.any()):
            raise ValueError(
                'A periodic structure needs a cutoff and electrostatics = "ewald" (or "reaction_field"); '
                "every pair is summed for molecules without periodic axes only."
            )
        starts = system.counts.cumsum(0) - system.counts
        parts = []
        for start, n in zip(starts.tolist(), system.counts.tolist(), strict=True):
            grid = torch.arange(n, device=system.numbers.device)
            parts.append(torch.cartesian_prod(grid, grid).reshape(-1, 2) + start)
        both = torch.cat(parts) if parts else torch.zeros((0, 2), dtype=torch.int64)
        i, j = both.T
        keep = (i != j) & ~self.exclusions.named(i, j)
        i, j = i[keep], j[keep]
        return Pairs(i=i, j=j, shift=i.new_zeros((len(i), 3)), cutoff=math.inf, n_atoms=system.n_atoms)

    def _dispersion(self, system: System, pairs: Pairs) -> Energies:
        """Lennard-Jones energies of pairs up to the cutoff."""
        if self.cutoff is not None:
            pairs = pairs if pairs.cutoff == self.cutoff else pairs.within(system, self.cutoff)[0]
        ti, tj = self.types[pairs.i % self.n], self.types[pairs.j % self.n]
        at = (self.epsilon[ti, tj] > 0).nonzero().flatten()
        sigma, epsilon = self.sigma[ti[at], tj[at]], self.epsilon[ti[at], tj[at]]
        r = pairs.vectors(system)[at].norm(dim=-1)
        v = lennard_jones(r, sigma, epsilon)
        if self.cutoff is not None:
            v = self._ended(v, r, sigma, epsilon)
        return _shared(system.n_atoms, pairs.i[at], 0.5 * v)

    def _ended(self, v: Tensor, r: Tensor, sigma: Tensor, epsilon: Tensor) -> Tensor:
        assert self.cutoff is not None
        if self.truncation == "cut":
            return v
        if self.truncation == "smooth":
            return v * quintic_switch(r, self.switch_from, self.cutoff)
        rc = self.cutoff
        v = v - lennard_jones(torch.full_like(r, rc), sigma, epsilon)
        if self.truncation == "shift":
            return v
        s6 = (sigma / rc) ** 6
        return v - (r - rc) * 24.0 * epsilon / rc * (s6 - 2.0 * s6 * s6)

    def tail_energy(self, system: System) -> Float[Tensor, "systems"]:
        """Energy per atom of a uniform fluid for what the truncation leaves out, eV.

        (2π/V) Σ_ab N_a N_b [∫_s^rc r² (1 − S(r)) v_ab dr + ∫_rc^∞ r² v_ab dr] / N, with S the switch from s
        (Allen & Tildesley, Computer Simulation of Liquids, 2nd ed., eq. 2.144, has the second integral).
        Stress is its derivative at fixed cutoff.
        """
        assert self.cutoff is not None
        if not bool(system.has_volume.all() and system.pbc.all()):
            raise ValueError("The tail correction needs a cell with a volume, periodic in all directions.")
        rc, s6 = self.cutoff, self.sigma**6
        integral = 4.0 * self.epsilon * (s6 * s6 / (9.0 * rc**9) - s6 / (3.0 * rc**3))
        if self.truncation == "smooth":
            integral = integral + self._switched_off()
        per_copy = torch.bincount(self.types, minlength=len(self.sigma)).double()
        counts = (system.counts / self.n)[:, None] * per_copy
        volume = torch.linalg.det(system.cell).abs()
        total = 2.0 * math.pi / volume * torch.einsum("sa,ab,sb->s", counts, integral, counts)
        return total / system.counts.clamp(min=1)

    def _switched_off(self) -> Float[Tensor, "types types"]:
        """∫ r² (1 − S) v dr over the range of the switch, by 64 Gauss–Legendre points."""
        import numpy as np

        assert self.cutoff is not None
        x, w = (torch.from_numpy(a).to(self.sigma.device) for a in np.polynomial.legendre.leggauss(64))
        half = 0.5 * (self.cutoff - self.switch_from)
        r = self.switch_from + half * (x + 1.0)
        weight = half * w * r * r * (1.0 - quintic_switch(r, self.switch_from, self.cutoff))
        v = lennard_jones(r, self.sigma[..., None], self.epsilon[..., None])
        return (v * weight).sum(-1)

    def displacements(self, copies: Copies) -> Float[Tensor, "atoms 3"]:
        """From each atom to where its charge lies, Å: Σ_k w_k (r_k − r_0) of its site.

        Raises TopologyError where one is longer than the reach that pairs were searched for.
        """
        first, a, b = self.site_atoms.T
        w = self.site_weights
        d = w[:, 1:2] * copies.vectors(first, a) + w[:, 2:3] * copies.vectors(first, b)
        length = d.detach().norm(dim=-1)
        if bool((length > self.site_reach).any()):
            raise TopologyError(
                f"A charge lies {float(length.max()):.3f} Å from its atom, and charge_sites.reach is "
                f"{float(self.site_reach.min()):.3f} Å: the molecule is not in its geometry."
            )
        out = d.new_zeros((d.shape[0], self.n, 3)).index_add(1, first, d)
        return out.reshape(-1, 3)

    def _coulomb(
        self, system: System, near: Pairs, every: Pairs | None, copies: Copies, shift: Tensor | None
    ) -> dict[str, Energies]:
        q = self.charges.repeat(copies.positions.shape[0])
        listed = near if every is None or self.coulomb != "all_pairs" else every
        vectors = listed.vectors(system)
        if shift is not None:
            system = system.replace(positions=system.positions + shift)
            vectors = vectors + shift[listed.j] - shift[listed.i]
        if self.ewald is not None:
            assert self.cutoff is not None
            # the list reaches farther than the cutoff where charges lie beside their atoms
            terms = self.ewald(system, listed.with_vectors(vectors), q)
            return {
                "coulomb_real": terms.real,
                "coulomb_reciprocal": terms.reciprocal,
                "coulomb_self": terms.self_interaction + terms.background,
                "coulomb_excluded": self._out_of_reciprocal(copies, shift),
            }
        r = vectors.norm(dim=-1)
        inverse = 1.0 / r
        if self.coulomb == "reaction_field":
            assert self.cutoff is not None
            e, rc = self.dielectric, self.cutoff
            field = (e - 1.0) / ((2.0 * e + 1.0) * rc**3)
            inverse = torch.where(r < rc, inverse + field * r * r - 3.0 * e / ((2.0 * e + 1.0) * rc), 0.0)
        half = 0.5 * units.coulomb_constant * q[listed.i] * q[listed.j] * inverse
        return {"coulomb": _shared(system.n_atoms, listed.i, half)}

    def _between(self, copies: Copies, pairs: Int[Tensor, "p 2"], shift: Tensor | None) -> Tensor:
        """Nearest-image vectors between the charges of two atoms of one copy."""
        first, second = pairs.T
        d = copies.vectors(first, second)
        if shift is None:
            return d
        own = shift.reshape(-1, self.n, 3)
        return d + own[:, second] - own[:, first]

    def _on_both(self, energies: Float[Tensor, "copies pairs"], pairs: Int[Tensor, "pairs 2"]) -> Energies:
        half = (0.5 * energies)[:, :, None].expand(-1, -1, 2).flatten(1)
        out = energies.new_zeros((energies.shape[0], self.n)).index_add(1, pairs.reshape(-1), half)
        return out.reshape(-1)

    def _out_of_reciprocal(self, copies: Copies, shift: Tensor | None) -> Energies:
        """−k_e q_i q_j erf(α r)/r of excluded pairs, which the sum over waves contains."""
        assert self.ewald is not None
        first, second = self.excluded.T
        both = self.excluded[(self.charges[first] * self.charges[second]) != 0]
        d = self._between(copies, both, shift)
        flat = excluded_energies(
            d.reshape(-1, 3),
            both[:, 0].repeat(len(d)),
            both[:, 1].repeat(len(d)),
            self.charges,
            self.ewald.splitting,
        )
        return self._on_both(flat.reshape(d.shape[:2]), both)

    def _special(self, copies: Copies, shift: Tensor | None) -> dict[str, Energies]:
        r = copies.vectors(*self.special.T).norm(dim=-1)
        charges = r if shift is None else self._between(copies, self.special, shift).norm(dim=-1)
        coulomb = units.coulomb_constant * self.special_charge / charges
        dispersion = lennard_jones(r, self.special_sigma, self.special_epsilon)
        return {
            "lennard_jones_special": self._on_both(dispersion, self.special),
            "coulomb_special": self._on_both(coulomb, self.special),
        }


def _shared(n_atoms: int, centre: Int[Tensor, "pairs"], half: Float[Tensor, "pairs"]) -> Energies:
    return half.new_zeros(n_atoms).index_add(0, centre, half)
