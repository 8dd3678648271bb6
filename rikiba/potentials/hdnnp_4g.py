"""Neural network potential of the fourth generation: charges that know the whole system."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from rikiba.core.pairs import Pairs
from rikiba.core.system import System
from rikiba.descriptors.acsf import Envelope
from rikiba.electrostatics.charge_equilibration import equilibrate

from .base import check_positive
from .charged_networks import ChargedHdnnp
from .symmetry_networks import symmetry_functions


class Hdnnp4G(ChargedHdnnp):
    """E = Σ_i [E0(Z_i) + shift + scale·NN_{Z_i}(x_i, q_i)] + E_elec(q), q from electronegativities χ_i(x_i).

    Charges minimise Σ χ_i q_i + ½ Σ J_i q_i² + E_Coulomb at the given total charge: every atom's charge
    depends on all atoms, so that charge moves over any distance. χ_i is the output (V) of a network of the
    element; J is an element's number, trained too. Charges are Gaussians of width σ. E_elec is their Coulomb
    energy, screened at short distance where `screening` says so; the networks of the energies read the
    charges. Ko, Finkler, Goedecker & Behler, doi:10.1038/s41467-020-20427-2, eqs. 1 to 8.

    Departures: envelopes and screening are C² by default ("cosine" is the published form of both); the energy
    of an uncharged atom without neighbours is exactly E0 + shift (`isolated_limit = false` is the published
    form); hardness is positive by construction, J = e^u with u trained. Charges and energies are trained
    together (`[training] charges_weight`) rather than in two stages.

    Args:
        elements: chemical symbols.
        cutoff: neighbour radius of the symmetry functions, Å.
        angular_cutoff: radius of the angular functions, Å; `cutoff` if not given.
        n_radial: shifted radial functions per neighbour element; ignored where `radial` is given.
        n_angular: radial shells of the angular functions; ignored where `wide` or `narrow` are given.
        zetas: exponents of the angular functions; ignored where `wide` or `narrow` are given.
        radial: explicit (η, r_s) of each radial function, 1/Å² and Å; a third number is its own cutoff.
        wide: explicit (η, r_s, ζ, λ) of each angular function without r_jk; a fifth is its own cutoff.
        narrow: explicit (η, r_s, ζ, λ) of each angular function with r_jk; a fifth is its own cutoff.
        columns: which functions each element's networks read, by their place; all if not given.
        hidden: widths of the hidden layers of the energies' networks, or those of each element.
        charge_hidden: likewise of the electronegativities' networks.
        activation: as for behler_parrinello.
        charge_activation: of the electronegativities' networks; `activation` if not given.
        envelope: as for behler_parrinello.
        envelope_start: fraction of the cutoff up to which cosine, mollifier and smoothstep are 1.
        widths: σ of each element's Gaussian charge, Å; the covalent radius if not given.
        hardness: J of each element to start from, V/e; 10 if not given.
        screening: (inner, outer) in Å: charges closer than inner do not interact, beyond outer fully.
        screening_form: smooth (C²) or cosine (the published one, C¹).
        ewald_cutoff: where the sum over pairs ends in periodic systems, Å; as short as the widths allow, but
            at least 6, if not given.
        ewald_tolerance: relative size of what the Ewald summation leaves out.
        allow_charged: accept periodic systems with a net charge, neutralised by a uniform background.
        atomic_energies: E0 of each element, eV; 0 if not given.
        scale: unit of the networks' output, eV.
        shift: added per atom, eV.
        isolated_limit: give an uncharged isolated atom exactly E0 + shift.
    """

    references = (
        "10.1038/s41467-020-20427-2",
        "10.1021/acs.accounts.0c00689",
        "10.1103/PhysRevLett.98.146401",
    )
    reads_charge = True

    def __init__(
        self,
        *,
        elements: Sequence[str],
        cutoff: float = 6.0,
        angular_cutoff: float | None = None,
        n_radial: int = 12,
        n_angular: int = 4,
        zetas: Sequence[float] = (1, 2, 4),
        radial: Sequence[Sequence[float]] | None = None,
        wide: Sequence[Sequence[float]] | None = None,
        narrow: Sequence[Sequence[float]] = (),
        columns: Mapping[str, Sequence[int]] | None = None,
        hidden: Sequence[int] | Mapping[str, Sequence[int]] = (32, 32),
        charge_hidden: Sequence[int] | Mapping[str, Sequence[int]] = (16, 16),
        activation: str | Sequence[str] = "tanh",
        charge_activation: str | Sequence[str] | None = None,
        envelope: Envelope = "polynomial",
        envelope_start: float = 0.0,
        widths: Mapping[str, float] | None = None,
        hardness: Mapping[str, float] | None = None,
        screening: Sequence[float] | None = None,
        screening_form: Literal["smooth", "cosine"] = "smooth",
        ewald_cutoff: float | None = None,
        ewald_tolerance: float = 1e-6,
        allow_charged: bool = False,
        atomic_energies: Mapping[str, float] | None = None,
        scale: float = 1.0,
        shift: float = 0.0,
        isolated_limit: bool = True,
    ) -> None:
        super().__init__()
        self.build(
            elements=elements,
            features=symmetry_functions(
                n_elements=len(set(elements)),
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
            ),
            columns=columns,
            hidden=hidden,
            charge_hidden=charge_hidden,
            activation=activation,
            charge_activation=charge_activation,
            widths=widths,
            screening=screening,
            screening_form=screening_form,
            ewald_cutoff=ewald_cutoff,
            ewald_tolerance=ewald_tolerance,
            allow_charged=allow_charged,
            atomic_energies=atomic_energies,
            scale=scale,
            shift=shift,
            isolated_limit=isolated_limit,
        )
        own = dict.fromkeys(self.elements, 10.0) | dict(hardness or {})
        check_positive(**{f"hardness['{s}']": own[s] for s in self.elements})
        self.log_hardness = nn.Parameter(torch.tensor([own[s] for s in self.elements]).log())

    @property
    def hardness(self) -> Float[Tensor, "elements"]:
        """J of each element, V/e."""
        return self.log_hardness.double().exp()

    def charges(
        self, system: System, pairs: Pairs, types: Tensor, x: Tensor, matrices: list[Tensor]
    ) -> Float[Tensor, "atoms"]:
        electronegativity = self.outputs(self.charge_networks, x, types).double()
        return equilibrate(
            system,
            pairs,
            electronegativity,
            self.hardness[types],
            widths=self.widths[types],
            ewald=self.ewald,
            matrices=matrices,
        )

    @classmethod
    def examples(cls) -> "list[Hdnnp4G]":
        """Small instances for the conformance tests."""
        small: dict[str, Any] = {
            "elements": ("O", "Si"),
            "cutoff": 4.0,
            "n_radial": 4,
            "n_angular": 1,
            "hidden": (8,),
            "charge_hidden": (6,),
            "widths": {"O": 0.4, "Si": 0.5},
            "ewald_tolerance": 1e-10,
        }
        return [cls(**small, screening=(1.0, 3.5))]
