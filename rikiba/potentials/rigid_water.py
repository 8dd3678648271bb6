"""Rigid water models of three and four sites."""

import math
from dataclasses import dataclass
from typing import Literal, final

import numpy as np
from ase import Atoms
from jaxtyping import Float
from torch import Tensor

from rikiba.core import units
from rikiba.core.pairs import Pairs
from rikiba.core.system import System

from .non_bonded import Electrostatics, NonBondedTerms
from .pair import Truncation
from .topology import TopologyPotential

Model = Literal["spc", "spce", "tip3p", "tip4p", "tip4p_ew", "tip4p_2005"]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class WaterModel:
    """Geometry, charges and Lennard-Jones parameters (of oxygen alone) of a molecule, and their source."""

    bond: float
    """O–H, Å."""
    angle_deg: float
    sigma: float
    """Å."""
    epsilon_eV: float
    hydrogen_charge_e: float
    site_distance: float = 0.0
    """From O to M, which carries the negative charge, on the bisector, Å."""
    source: str

    @property
    def hydrogen_distance(self) -> float:
        """H–H, Å."""
        return 2.0 * self.bond * math.sin(0.5 * math.radians(self.angle_deg))

    @property
    def site_weight(self) -> float:
        """a of M = O + a (H₁ − O) + a (H₂ − O)."""
        return self.site_distance / (2.0 * self.bond * math.cos(0.5 * math.radians(self.angle_deg)))


def _from_a_c(a: float, c: float) -> dict[str, float]:
    """σ and ε of A/r¹² − C/r⁶, A in kcal Å¹²/mol, C in kcal Å⁶/mol."""
    return {"sigma": (a / c) ** (1 / 6), "epsilon_eV": c * c / (4.0 * a) * units.kilocalorie_per_mole}


_KJ, _KCAL = units.kilojoule_per_mole, units.kilocalorie_per_mole
_A, _B = 3.7122, 3.428
"""SPC: v = −(A/r)⁶ + (B/r)¹² in kJ/mol, A in (kJ/mol)^(1/6) Å, B in (kJ/mol)^(1/12) Å."""
_SPC = {"sigma": _B**2 / _A, "epsilon_eV": 0.25 * (_A / _B) ** 12 * _KJ, "bond": 1.0, "angle_deg": 109.47}
_TIP = {"bond": 0.9572, "angle_deg": 104.52}

MODELS: dict[Model, WaterModel] = {
    "spc": WaterModel(hydrogen_charge_e=0.41, source="10.1007/978-94-015-7658-1_21", **_SPC),
    "spce": WaterModel(hydrogen_charge_e=0.4238, source="10.1021/j100308a038", **_SPC),
    "tip3p": WaterModel(
        hydrogen_charge_e=0.417, source="10.1063/1.445869", **_TIP, **_from_a_c(582e3, 595.0)
    ),
    "tip4p": WaterModel(
        hydrogen_charge_e=0.52,
        site_distance=0.15,
        source="10.1063/1.445869",
        **_TIP,
        **_from_a_c(600e3, 610.0),
    ),
    "tip4p_ew": WaterModel(
        hydrogen_charge_e=0.52422,
        site_distance=0.125,
        sigma=3.16435,
        epsilon_eV=0.16275 * _KCAL,
        source="10.1063/1.1683075",
        **_TIP,
    ),
    "tip4p_2005": WaterModel(
        hydrogen_charge_e=0.5564,
        site_distance=0.1546,
        sigma=3.1589,
        epsilon_eV=93.2 * units.boltzmann,
        source="10.1063/1.2121687",
        **_TIP,
    ),
}
"""Parameters by name, from table I of each source; TIP3P's and TIP4P's from A and C of table I."""


class RigidWater(TopologyPotential):
    """Water of rigid molecules: Lennard-Jones between oxygens, Coulomb between three charges of a molecule.

    Atoms are O, H, H, molecule after molecule; they may be wrapped. No energy belongs to a molecule's
    geometry: dynamics must keep the distances that `rigid_distances` gives, and a relaxation too. In the
    models of four sites the negative charge lies at M = O + a (H₁ − O) + a (H₂ − O), a place and not an
    atom: forces on it reach the atoms by the chain rule, exactly.

    Source: that of each model, `MODELS[model].source`.

    Args:
        model: spc, spce, tip3p (without Lennard-Jones on H), tip4p, tip4p_ew or tip4p_2005.
        cutoff: of Lennard-Jones and of the pairs of Coulomb sums, Å; none: every pair (clusters only).
        truncation: how Lennard-Jones ends at the cutoff: smooth (C²), cut, shift or force_shift.
        switch_from: where the smooth switch begins, Å; 0.8·cutoff if not given.
        tail_correction: add the Lennard-Jones energy of a uniform fluid for what truncation leaves out.
        electrostatics: ewald (periodic), reaction_field (up to the cutoff) or all_pairs (clusters).
        dielectric: of the medium beyond the cutoff of a reaction field.
        ewald_tolerance: relative size of what the Ewald sum leaves out.
        ewald_alpha: splitting parameter, 1/Å; from the tolerance if not given.
        ewald_k_cutoff: longest wave vector, 1/Å; from the tolerance if not given.
    """

    def __init__(
        self,
        *,
        model: Model,
        cutoff: float | None = 9.0,
        truncation: Truncation = "smooth",
        switch_from: float | None = None,
        tail_correction: bool = False,
        electrostatics: Electrostatics = "ewald",
        dielectric: float = 78.3,
        ewald_tolerance: float = 1e-6,
        ewald_alpha: float | None = None,
        ewald_k_cutoff: float | None = None,
    ) -> None:
        super().__init__()
        if model not in MODELS:
            raise ValueError(f"model must be {', '.join(MODELS)}; given '{model}'.")
        m = self.model = MODELS[model]
        self.references = (m.source,)  # type: ignore[misc]
        bonds = [[0, 1], [0, 2], [1, 2]]
        rigid = {"atoms": bonds, "length": [m.bond, m.bond, m.hydrogen_distance]}
        self.set_atoms(["O", "H", "H"], rigid)
        a, site = m.site_weight, m.site_distance > 0.0
        self.non_bonded = NonBondedTerms(
            n_atoms=3,
            charges_e=[-2.0 * m.hydrogen_charge_e, m.hydrogen_charge_e, m.hydrogen_charge_e],
            lennard_jones={"types": [0, 1, 1], "sigma": [m.sigma, 0.0], "epsilon_eV": [m.epsilon_eV, 0.0]},
            exclusions=bonds,
            charge_sites={"atoms": [[0, 1, 2]], "weights": [[1.0 - 2.0 * a, a, a]], "reach": [0.25]}
            if site
            else None,
            cutoff=cutoff,
            truncation=truncation,
            switch_from=switch_from,
            tail_correction=tail_correction,
            electrostatics=electrostatics,
            dielectric=dielectric,
            ewald_tolerance=ewald_tolerance,
            ewald_alpha=ewald_alpha,
            ewald_k_cutoff=ewald_k_cutoff,
        )
        self.cutoff = self.non_bonded.pair_cutoff

    @property
    def receptive_field(self) -> float:
        return math.inf

    def energy_terms(self, system: System, pairs: Pairs) -> dict[str, Float[Tensor, "atoms"]]:
        """Energies per atom of every kind of term, eV; raises TopologyError where atoms are not O, H, H."""
        return self.non_bonded(system, pairs, self.place(system))

    def molecule(self) -> Atoms:
        """One molecule in its geometry, O at the origin."""
        half = 0.5 * math.radians(self.model.angle_deg)
        x, y = math.cos(half), math.sin(half)
        return Atoms("OHH", self.model.bond * np.array([[0.0, 0.0, 0.0], [x, y, 0.0], [x, -y, 0.0]]))

    def trial_structures(self) -> list[Atoms]:
        """Two and three molecules; in triclinic cells where Ewald sums need them."""
        rng = np.random.default_rng(0)
        one = self.molecule().positions
        periodic = self.non_bonded.coulomb == "ewald" or self.non_bonded.tail
        cell = np.array([[9.0, 0.0, 0.0], [0.7, 9.5, 0.0], [-0.8, 1.0, 10.0]])
        found = []
        for n in (2, 3):
            turned = [
                one @ np.linalg.qr(rng.normal(size=(3, 3)))[0] + [2.9 * k, 0.3 * k, 0] for k in range(n)
            ]
            places = np.concatenate(turned) + rng.uniform(-0.02, 0.02, (3 * n, 3))
            found.append(Atoms("OHH" * n, places, cell=cell if periodic else None, pbc=periodic))
        return found

    @classmethod
    def examples(cls) -> "list[RigidWater]":
        """Small instances for the conformance tests."""
        return [
            cls(model="spce", cutoff=None, electrostatics="all_pairs"),
            cls(model="tip4p_2005", cutoff=6.0, tail_correction=True, ewald_tolerance=1e-9),
        ]
