"""Potentials of a fixed topology from positions to forces in compiled kernels."""

from dataclasses import replace
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from rikiba.core import units
from rikiba.core.pairs import Pairs
from rikiba.core.system import System
from rikiba.electrostatics.ewald import Ewald
from rikiba.electrostatics.pme import ParticleMeshEwald
from rikiba.kernels import bonded_cpu, coulomb_cpu, non_bonded_cpu

from .bonded import QUARTIC, RB, BondedTerms, Terms
from .mesh_program import Answer, MeshSum, differentiated
from .non_bonded import NonBondedTerms
from .pair_sweep import Once
from .topology import Copies, TopologyPotential


class _Structure:
    """What stays from call to call while atoms move: which copies there are, in which cells."""

    def __init__(self, potential: TopologyPotential, charges: Tensor, types: Tensor, system: System) -> None:
        self.system, self.cell = system, system.cell.detach().clone()
        self._place = copies = potential.place(system)
        self.n_copies = len(copies.positions)
        self.charges = charges.repeat(self.n_copies)
        self.roots = (self.charges * units.coulomb_constant**0.5).numpy()
        """√k_e q: products are eV Å."""
        self.types = types.repeat(self.n_copies).numpy()
        self.cells, self.index = self.cell.contiguous().numpy(), system.system_index.contiguous().numpy()
        self.copies = (
            copies.cell.detach().contiguous().numpy(),
            copies.to_fractions.contiguous().numpy(),
            copies.half_width.contiguous().numpy(),
            system.system_index[:: potential.n_atoms].contiguous().numpy(),
        )
        self.checked = False
        """Whether a sum of charges has been found possible here."""

    def at(self, system: System) -> Copies:
        """The copies where a System's atoms are now."""
        return replace(self._place, positions=system.positions.detach().reshape(self._place.positions.shape))

    def holds(self, system: System) -> bool:
        """Whether a system is of the same atoms in the same cells."""
        own = self.system
        same = all(
            getattr(own, x) is getattr(system, x) for x in ("numbers", "system_index", "pbc")
        )  # fmt: skip
        return same and torch.equal(self.cell, system.cell)


class _Sums:
    """What a sweep adds to."""

    def __init__(self, system: System) -> None:
        self.energies = torch.zeros(system.n_atoms, dtype=torch.float64)
        self.forces = torch.zeros((system.n_atoms, 3), dtype=torch.float64)
        self.virial = torch.zeros((system.n_systems, 3, 3), dtype=torch.float64)
        self.positions = system.positions.detach().contiguous().numpy()

    @property
    def outputs(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(energies, forces, virial)."""
        return self.energies.numpy(), self.forces.numpy(), self.virial.numpy()


@final
class MechanicsProgram:
    """Bonded and non-bonded terms of a topology.

    Torsion maps and Ewald's sum over waves are differentiated automatically beside the kernels. A structure
    in which a kernel finds what the definition refuses (collinear atoms of a torsion, a molecule torn apart)
    is given to the definition, whose error names the atoms.

    Args:
        potential: gives energies where kernels refuse.
        bonded: none for rigid molecules.
        non_bonded: Lennard-Jones and charges.
    """

    def __init__(
        self, potential: TopologyPotential, bonded: BondedTerms | None, non_bonded: NonBondedTerms
    ) -> None:
        self._potential = potential
        self._bonds = [] if bonded is None else [_term_kernel(k, t) for k, t in bonded.kinds.items()]
        self._maps = None if bonded is None else bonded.maps
        self._terms, self._rest = non_bonded, _NonBonded(non_bonded)
        self._structure: _Structure | None = None

    def sweep(self, system: System, pairs: Pairs) -> Answer:
        """(energies per atom, forces, ∂E/∂ε before symmetrisation); pairs may reach beyond the cutoff.

        Raises as `forward` does.
        """
        if self._structure is None or not self._structure.holds(system):
            self._structure = _Structure(self._potential, self._terms.charges, self._terms.types, system)
        known, sums, n = self._structure, _Sums(system), self._potential.n_atoms
        refused = self._rest.add(system, pairs, known, sums)
        for kernel, form, atoms, parameters in self._bonds:
            refused |= kernel(*form, sums.positions, *known.copies, atoms, parameters, n, *sums.outputs)
        if refused:
            near = pairs.within(system, self._potential.cutoff)[0]
            return differentiated(lambda s: self._potential(s, near).need("energies"), system)
        found = sums.energies, sums.forces, sums.virial
        if self._maps is None:
            return found
        maps = self._maps
        more = differentiated(
            lambda s: maps.shared(maps.energy(self._potential.place(s))).reshape(-1), system
        )
        return found[0] + more[0], found[1] + more[1], found[2] + more[2]


def _term_kernel(name: str, t: Any) -> tuple[Any, tuple[int, ...], np.ndarray, np.ndarray]:
    """(kernel, its form, atoms, parameters) of a kind of bonded term."""
    assert isinstance(t, Terms)
    table: dict[str, tuple[Any, tuple[int, ...], tuple[str, ...]]] = {
        "bonds": (bonded_cpu.bond_terms, (bonded_cpu.HARMONIC,), ("force_constant_eV_per_A2", "length")),
        "morse_bonds": (bonded_cpu.bond_terms, (bonded_cpu.MORSE,), ("depth_eV", "alpha_per_A", "length")),
        "quartic_bonds": (bonded_cpu.bond_terms, (bonded_cpu.QUARTIC,), QUARTIC),
        "angles": (bonded_cpu.angle_terms, (bonded_cpu.ANGLE,), ("force_constant_eV_per_rad2", "angle_deg")),
        "cosine_angles": (bonded_cpu.angle_terms, (bonded_cpu.COSINE,), ("force_constant_eV", "angle_deg")),
        "torsions": (
            bonded_cpu.torsion_terms, (bonded_cpu.PERIODIC,), ("amplitude_eV", "periodicity", "phase_deg")
        ),
        "ryckaert_bellemans": (bonded_cpu.torsion_terms, (bonded_cpu.RYCKAERT_BELLEMANS,), RB),
        "impropers": (
            bonded_cpu.torsion_terms, (bonded_cpu.IMPROPER,), ("force_constant_eV_per_rad2", "angle_deg")
        ),
    }  # fmt: skip
    table["urey_bradley"] = table["bonds"]
    kernel, form, columns = table[name]
    values = [getattr(t, c) for c in columns]
    values = [torch.deg2rad(v) if c.endswith("_deg") else v for c, v in zip(columns, values, strict=True)]
    parameters = torch.stack(values, 1) if len(t.atoms) else torch.zeros((0, len(columns))).double()
    return kernel, form, t.atoms.contiguous().numpy(), parameters.double().contiguous().numpy()


class _NonBonded:
    """Lennard-Jones, Coulomb, 1–4 pairs, exclusions and what belongs to a whole cell."""

    def __init__(self, terms: NonBondedTerms) -> None:
        self._terms = terms
        self._once, self._kept = Once(), _Kept()
        self._excluded = terms.excluded.contiguous().numpy()
        self._special = terms.special.contiguous().numpy()
        self._special_parameters = (
            torch.stack(
                [
                    units.coulomb_constant * terms.special_charge,
                    4.0 * terms.special_epsilon,
                    terms.special_sigma**2,
                ],
                1,
            )
            .contiguous()
            .numpy()
        )
        self._sites = [
            x.contiguous().numpy() for x in (terms.site_atoms, terms.site_weights, terms.site_reach)
        ]
        self._dispersion, self._switch = _dispersion(terms)
        self._settings, self._form = _coulomb(terms)
        summed, self._table = terms.ewald, np.zeros((1, 6))
        self._alpha = 0.0 if summed is None else summed.splitting
        if summed is not None:
            self._table = coulomb_cpu.erfc_table(summed.splitting * summed.cutoff)
        self._mesh = MeshSum(summed) if isinstance(summed, ParticleMeshEwald) else None

    def add(self, system: System, pairs: Pairs, known: _Structure, sums: _Sums) -> int:
        """Add to the sums; 1 where a kernel refuses."""
        terms, positions = self._terms, sums.positions
        places, place_forces, refused = positions, sums.forces.numpy(), 0
        apart = len(terms.site_atoms) > 0
        if apart:
            places, place_forces = np.empty_like(positions), np.zeros_like(positions)
            refused |= non_bonded_cpu.place_charges(
                positions, *known.copies[:2], *self._sites, terms.n, places
            )
        e, f, v = sums.outputs
        shifts = np.empty((known.n_copies * len(self._excluded), 3), dtype=np.int64)
        refused |= non_bonded_cpu.excluded_terms(
            positions, places, *known.copies, self._excluded, known.roots, self._alpha, terms.n, shifts, e,
            place_forces, v,
        )  # fmt: skip
        if len(self._special):
            refused |= non_bonded_cpu.special_terms(
                positions, places, *known.copies, self._special, self._special_parameters, terms.n, e, f,
                place_forces, v,
            )  # fmt: skip
        if refused:
            return refused
        if terms.charged or terms.dispersive:
            near = self._pairs(system, pairs, known, shifts)
            non_bonded_cpu.pair_terms(
                positions, places, apart, known.cells, known.index, near.i.numpy(), near.j.numpy(),
                near.shift.numpy(), known.types, self._dispersion, self._switch, self._form, known.roots,
                self._settings, self._table, e, f, place_forces, v,
            )  # fmt: skip
        if terms.charged and terms.ewald is not None:
            self._smooth(system, pairs, known, torch.from_numpy(places), sums, torch.from_numpy(place_forces))
        if apart:
            non_bonded_cpu.return_forces(place_forces, *self._sites[:2], terms.n, f)
        if terms.tail:
            _add_uniform(terms.tail_energy(system)[system.system_index], system, sums)
        return 0

    def _pairs(self, system: System, pairs: Pairs, known: _Structure, shifts: np.ndarray) -> Pairs:
        """Those that are not excluded, each once; kept while the list and the excluded images stay."""
        terms = self._terms
        every = terms.cutoff is None or (terms.charged and terms.coulomb == "all_pairs")
        if every:
            key: Any = (system.system_index, system.pbc)
            return self._kept(key, shifts, lambda: self._once(terms.every_pair(system)))
        copies = known.at(system)
        return self._kept((pairs.i,), shifts, lambda: terms.not_excluded(copies, self._once(pairs)))

    def _smooth(
        self, system: System, pairs: Pairs, known: _Structure, places: Tensor, sums: _Sums, forces: Tensor
    ) -> None:
        """The sum over waves, and what charges alone or with the cell give."""
        summed, q = self._terms.ewald, known.charges
        assert summed is not None
        if not known.checked:
            summed.check(system, pairs, q)
            known.checked = True
        sums.energies += summed.self_interaction(q)
        if summed.allow_charged:
            _add_uniform(summed.background(system, q), system, sums)
        if self._mesh is not None:
            self._mesh.add(system, places, q, sums.energies, forces, sums.virial)
            return
        assert isinstance(summed, Ewald)
        charges = system.replace(positions=places)
        energies, own, virial = differentiated(lambda s: summed.reciprocal(s, q), charges)
        sums.energies += energies
        sums.virial += virial
        forces += own


def _add_uniform(energies: Tensor, system: System, sums: _Sums) -> None:
    """Energies that are proportional to 1/V."""
    sums.energies += energies
    sums.virial -= system.total(energies)[:, None, None] * torch.eye(3, dtype=torch.float64)


class _Kept:
    """A list of pairs, and what it was made of."""

    def __init__(self) -> None:
        self._key: tuple[tuple[Tensor, ...], np.ndarray] | None = None
        self._found: Pairs | None = None

    def __call__(self, key: tuple[Tensor, ...], shifts: np.ndarray, make: Any) -> Pairs:
        """The list that is kept, or one made anew."""
        if self._key is not None and self._found is not None:
            same = len(key) == len(self._key[0]) and all(
                a is b for a, b in zip(key, self._key[0], strict=True)
            )
            if same and np.array_equal(shifts, self._key[1]):
                return self._found
        self._found = make()
        self._key = (key, shifts.copy())
        assert self._found is not None
        return self._found


def _dispersion(terms: NonBondedTerms) -> tuple[np.ndarray, np.ndarray]:
    """(4ε, σ², a, b) of every two types, (start, stop) of the switch; see `pair_terms`."""
    sigma, epsilon = terms.sigma, terms.epsilon
    value, slope = torch.zeros_like(sigma), torch.zeros_like(sigma)
    stop = torch.inf if terms.cutoff is None else terms.cutoff
    if terms.cutoff is not None and terms.truncation in ("shift", "force_shift"):
        s6 = (sigma / stop) ** 6
        value = 4.0 * epsilon * (s6 * s6 - s6)
        if terms.truncation == "force_shift":
            slope = 24.0 * epsilon / stop * (s6 - 2.0 * s6 * s6)
    smooth = terms.cutoff is not None and terms.truncation == "smooth"
    switch = np.array([terms.switch_from if smooth else stop, stop])
    return torch.stack([4.0 * epsilon, sigma**2, value, slope], -1).contiguous().numpy(), switch


def _coulomb(terms: NonBondedTerms) -> tuple[np.ndarray, int]:
    """(r_c, α, field, shift) and the form of `pair_terms`."""
    rc = torch.inf if terms.cutoff is None or terms.coulomb == "all_pairs" else terms.cutoff
    if not terms.charged:
        return np.array([rc, 0.0, 0.0, 0.0]), non_bonded_cpu.NONE
    if terms.ewald is not None:
        return np.array([rc, terms.ewald.splitting, 0.0, 0.0]), non_bonded_cpu.SCREENED
    if terms.coulomb == "all_pairs":
        return np.array([rc, 0.0, 0.0, 0.0]), non_bonded_cpu.BARE
    field, constant = terms.field()
    return np.array([rc, 0.0, field, constant]), non_bonded_cpu.REACTION_FIELD
