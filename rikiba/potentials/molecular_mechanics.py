"""Molecular mechanics: bonded and non-bonded energies of a fixed topology."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ase import Atoms
from jaxtyping import Float
from torch import Tensor

from rikiba.core import elements as periodic_table
from rikiba.core.pairs import Pairs
from rikiba.core.system import System

from .base import PositionProgram
from .bonded import BondedTerms
from .non_bonded import Electrostatics, Mixing, NonBondedTerms
from .pair import Truncation
from .topology import TopologyPotential, bonded_pairs

Table = Mapping[str, Any] | None


class MolecularMechanics(TopologyPotential):
    """E = Σ bonds + angles + torsions + impropers + Lennard-Jones + Coulomb of a fixed topology.

    A structure is any whole number of copies of the topology's atoms in its order. Every table has `atoms`
    (rows of atom numbers from 0) and one number for each row in its other columns. Force constants are
    second derivatives, ½ k (x − x₀)²: twice the K of AMBER's and CHARMM's files. Bonds are taken in nearest
    images, so atoms may be wrapped. Bonds never break: for that see `ace`, `mace` … or, of one bond,
    morse_bonds.

    Source: Cornell et al., doi:10.1021/ja00124a002, eq. 1; MacKerell et al., doi:10.1021/jp973084f, eq. 1.

    Args:
        symbols: elements of the topology's atoms, in order.
        bonds: ½ k (r − r₀)²: force_constant_eV_per_A2 k, length r₀.
        morse_bonds: D (1 − exp(−α (r − r₀)))²: depth_eV, alpha_per_A, length.
        quartic_bonds: ¼ k (r² − r₀²)², GROMOS' form: force_constant_eV_per_A4, length.
        angles: ½ k (θ − θ₀)² at the second of three atoms: force_constant_eV_per_rad2, angle_deg.
        cosine_angles: ½ k (cos θ − cos θ₀)², GROMOS' form: force_constant_eV, angle_deg.
        urey_bradley: ½ k (r − r₀)² between the ends of an angle: columns as of bonds.
        torsions: V [1 + cos(nφ − γ)]: amplitude_eV V, periodicity n, phase_deg γ; periodic impropers too.
        ryckaert_bellemans: Σ C_k cosᵏ(φ − 180°), k = 0 … 5: c0_eV … c5_eV.
        impropers: ½ k (φ − φ₀)²: force_constant_eV_per_rad2, angle_deg.
        cmaps: of two torsions of five atoms: map (which), and grids_eV [maps][N][N] from −180°.
        charges_e: charge of each atom, e; none if not given.
        lennard_jones: types (one for each atom, from 0), sigma and epsilon_eV (one for each type), and
            overrides, tables of types (two), sigma and epsilon_eV for pairs that do not follow `mixing`
            (CHARMM's NBFIX).
        exclusions: pairs of atoms left out of the sums over pairs.
        special_pairs: 1–4 pairs: charge_product_e2, sigma, epsilon_eV of each, scaled as the force field
            says; summed without cutoff, and left out of the sums over pairs.
        charge_sites: charges that lie beside their atom (TIP4P's M): atoms (three, the first's charge moves),
            weights (of their positions, sum 1), reach (longest way from the atom, Å).
        rigid: distances that dynamics keeps: length. No energy belongs to them.
        mixing: rule for unlike types: lorentz_berthelot or geometric.
        cutoff: of Lennard-Jones and of the pairs of Coulomb sums, Å; none: every pair (molecules only).
        truncation: how Lennard-Jones ends at the cutoff: smooth (C²), cut, shift or force_shift.
        switch_from: where the smooth switch begins, Å; 0.8·cutoff if not given.
        tail_correction: add the Lennard-Jones energy of a uniform fluid for what truncation leaves out.
        electrostatics: all_pairs (molecules), reaction_field (up to the cutoff), ewald (periodic, wave by
            wave) or pme (periodic, on a mesh: for more than some hundred atoms, and for dynamics).
        dielectric: of the medium beyond the cutoff of a reaction field.
        ewald_tolerance: relative size of what the Ewald sum leaves out; 1e-8 for ewald and 1e-5 for pme if
            not given.
        ewald_alpha: splitting parameter, 1/Å; from the tolerance if not given.
        ewald_k_cutoff: longest wave vector, 1/Å; from the tolerance if not given.
        mesh_order: of the mesh's splines, 4 to 8.
        mesh_spacing: largest distance of mesh points, Å; from the tolerance, and at most 1, if not given.
        mesh: points along each lattice vector; from the spacing if not given. Give it where the cell moves.
        remove_net_force: take the mean off the mesh's forces; they then keep momentum, but are no longer
            exactly the derivatives of the energy.
        allow_charged: accept periodic cells with a net charge, neutralised by a uniform background.
    """

    references = ("10.1021/ja00124a002", "10.1021/jp973084f")

    def __init__(
        self,
        *,
        symbols: Sequence[str],
        bonds: Table = None,
        morse_bonds: Table = None,
        quartic_bonds: Table = None,
        angles: Table = None,
        cosine_angles: Table = None,
        urey_bradley: Table = None,
        torsions: Table = None,
        ryckaert_bellemans: Table = None,
        impropers: Table = None,
        cmaps: Table = None,
        charges_e: Sequence[float] | None = None,
        lennard_jones: Table = None,
        exclusions: Sequence[Sequence[int]] = (),
        special_pairs: Table = None,
        charge_sites: Table = None,
        rigid: Table = None,
        mixing: Mixing = "lorentz_berthelot",
        cutoff: float | None = None,
        truncation: Truncation = "smooth",
        switch_from: float | None = None,
        tail_correction: bool = False,
        electrostatics: Electrostatics = "all_pairs",
        dielectric: float = 78.3,
        ewald_tolerance: float | None = None,
        ewald_alpha: float | None = None,
        ewald_k_cutoff: float | None = None,
        mesh_order: int = 6,
        mesh_spacing: float | None = None,
        mesh: Sequence[int] | None = None,
        remove_net_force: bool = False,
        allow_charged: bool = False,
    ) -> None:
        super().__init__()
        self.set_atoms(symbols, rigid)
        tables = {
            "bonds": bonds,
            "morse_bonds": morse_bonds,
            "quartic_bonds": quartic_bonds,
            "angles": angles,
            "cosine_angles": cosine_angles,
            "urey_bradley": urey_bradley,
            "torsions": torsions,
            "ryckaert_bellemans": ryckaert_bellemans,
            "impropers": impropers,
            "cmaps": cmaps,
        }
        self.bonded = BondedTerms(tables, len(symbols))
        self.non_bonded = NonBondedTerms(
            n_atoms=len(symbols),
            charges_e=charges_e,
            lennard_jones=lennard_jones,
            exclusions=exclusions,
            special_pairs=special_pairs,
            charge_sites=charge_sites,
            mixing=mixing,
            cutoff=cutoff,
            truncation=truncation,
            switch_from=switch_from,
            tail_correction=tail_correction,
            electrostatics=electrostatics,
            dielectric=dielectric,
            ewald_tolerance=ewald_tolerance,
            ewald_alpha=ewald_alpha,
            ewald_k_cutoff=ewald_k_cutoff,
            mesh_order=mesh_order,
            mesh_spacing=mesh_spacing,
            mesh=mesh,
            remove_net_force=remove_net_force,
            allow_charged=allow_charged,
        )
        self.cutoff = self.non_bonded.pair_cutoff

    @property
    def receptive_field(self) -> float:
        return float("inf")

    def energy_terms(self, system: System, pairs: Pairs) -> dict[str, Float[Tensor, "atoms"]]:
        """Energies per atom of every kind of term that the topology has, eV.

        Raises TopologyError where the structure is no whole number of copies, and ValueError where forces
        are asked for at a geometry where they have no limit.
        """
        copies = self.place(system)
        return self.bonded(copies) | self.non_bonded(system, pairs, copies)

    def position_program(self) -> PositionProgram | None:
        """Compiled kernels on the CPU."""
        own = type(self).energy_terms is MolecularMechanics.energy_terms
        if not own or self.non_bonded.charges.device.type != "cpu":
            return None
        from .topology_program import MechanicsProgram

        return MechanicsProgram(self, self.bonded, self.non_bonded)

    def trial_structures(self) -> list[Atoms]:
        """One copy and two, along helices: in triclinic cells where Ewald sums need them."""
        rng = np.random.default_rng(0)
        k = np.arange(self.n_atoms)[:, None]
        helix = np.hstack([np.cos(1.7 * k), np.sin(1.7 * k), 0.45 * k]) * [0.8, 0.8, 1.0]
        symbols = [periodic_table.symbol(int(z)) for z in self.numbers]
        periodic = self.non_bonded.ewald is not None or self.non_bonded.tail
        cell = np.array([[1.0, 0.0, 0.0], [0.1, 1.0, 0.0], [-0.1, 0.15, 1.0]]) * max(
            18.0, 0.5 * len(k) + 12.0
        )
        found = []
        for copies in (1, 2):
            turns = np.linalg.qr(rng.normal(size=(copies, 3, 3)))[0]
            placed = [helix @ turn + [4.0 * c, 0.5 * c, 0.0] for c, turn in enumerate(turns)]
            places = np.concatenate(placed)
            places += rng.uniform(-0.1, 0.1, places.shape)
            found.append(Atoms(symbols * copies, places, cell=cell if periodic else None, pbc=periodic))
        return found

    @classmethod
    def examples(cls) -> "list[MolecularMechanics]":
        """Small instances for the conformance tests."""
        chain = [[k, k + 1] for k in range(5)]
        far = bonded_pairs(6, chain, 3)
        special = [p for p in far if p not in bonded_pairs(6, chain, 2)]
        angles = [[k, k + 1, k + 2] for k in range(4)]
        dihedrals = [[k, k + 1, k + 2, k + 3] for k in range(3)]
        wave = 2.0 * np.pi * np.arange(6) / 6
        grid = 0.05 * np.cos(wave)[:, None] + 0.03 * np.cos(wave[:, None] - 2.0 * wave)
        arguments: dict[str, Any] = {
            "symbols": ["H", "O", "C", "C", "O", "H"],
            "bonds": {"atoms": chain[1:], "force_constant_eV_per_A2": [20.0] * 4, "length": [1.3] * 4},
            "morse_bonds": {"atoms": chain[:1], "depth_eV": [4.0], "alpha_per_A": [2.0], "length": [1.0]},
            "angles": {"atoms": angles, "force_constant_eV_per_rad2": [4.0] * 4, "angle_deg": [109.5] * 4},
            "quartic_bonds": {"atoms": [[4, 5]], "force_constant_eV_per_A4": [15.0], "length": [1.1]},
            "cosine_angles": {"atoms": angles[:2], "force_constant_eV": [3.0] * 2, "angle_deg": [111.0] * 2},
            "urey_bradley": {"atoms": [[1, 3]], "force_constant_eV_per_A2": [1.0], "length": [2.3]},
            "torsions": {
                "atoms": [*dihedrals, dihedrals[1]],
                "amplitude_eV": [0.05, 0.1, 0.05, 0.02],
                "periodicity": [3, 2, 3, 1],
                "phase_deg": [0.0, 180.0, 0.0, 180.0],
            },
            "ryckaert_bellemans": {"atoms": dihedrals[:1]} | {f"c{k}_eV": [0.02 * k] for k in range(6)},
            "impropers": {"atoms": [[2, 1, 0, 3]], "force_constant_eV_per_rad2": [0.5], "angle_deg": [0.0]},
            "cmaps": {"atoms": [[0, 1, 2, 3, 4]], "map": [0], "grids_eV": [grid.tolist()]},
            "charges_e": [0.4, -0.6, 0.2, 0.2, -0.6, 0.4],
            "lennard_jones": {
                "types": [0, 1, 2, 2, 1, 0],
                "sigma": [1.0, 2.9, 3.2],
                "epsilon_eV": [0.002, 0.007, 0.004],
                "overrides": [{"types": [0, 1], "sigma": 1.8, "epsilon_eV": 0.004}],
            },
            "exclusions": far,
            "special_pairs": {
                "atoms": special,
                "charge_product_e2": [0.05, -0.1, 0.05],
                "sigma": [2.1, 2.4, 2.1],
                "epsilon_eV": [0.002] * 3,
            },
        }
        periodic: dict[str, Any] = {"cutoff": 8.5, "electrostatics": "ewald", "tail_correction": True}
        return [cls(**arguments), cls(**arguments, **periodic)]
