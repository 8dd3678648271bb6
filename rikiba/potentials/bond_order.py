"""What Tersoff's potential and its modification share: pair attraction weakened by other bonds."""

from abc import abstractmethod
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from rikiba.core.pairs import Pairs
from rikiba.core.results import Results
from rikiba.core.system import System
from rikiba.nn.double_buffers import DoubleBuffers

from .base import Potential, Program
from .many_body import reaching

Taper = Literal["smooth", "sine"]


def taper_value(
    r: Float[Tensor, "*n"], middle: Float[Tensor, "*n"], width: Float[Tensor, "*n"], taper: Taper
) -> Float[Tensor, "*n"]:
    """f_C: 1 below R − D, 0 above R + D; with x = π(r − R)/2D between:

    - sine: ½ − ½ sin x (Tersoff), C¹;
    - smooth: ½ − (9/16) sin x − (1/16) sin 3x, C³ (M. V. R. Murty & H. A. Atwater, Phys. Rev. B 51, 4889
      (1995), doi:10.1103/PhysRevB.51.4889).
    """
    x = 0.5 * torch.pi * ((r - middle) / width).clamp(-1.0, 1.0)
    if taper == "sine":
        return 0.5 - 0.5 * torch.sin(x)
    return 0.5 - (9.0 * torch.sin(x) + torch.sin(3.0 * x)) / 16.0


class BondOrderPotential(DoubleBuffers, Potential):
    """E = ½ Σ_i Σ_{j≠i} f_C(r_ij) [A e^{−λ₁ r_ij} − b_ij B e^{−λ₂ r_ij}],

    b_ij = [1 + (β ζ_ij)^η]^{−1/2n}, ζ_ij = Σ_{k≠i,j} f_C(r_ik) g(θ_jik) exp{[λ₃(r_ij − r_ik)]^m}.

    What belongs to a bond i-j stands in the entry i-j-j, what belongs to k beside it in i-j-k, its R and D
    included, as in LAMMPS. A subclass sets the parameters by `set_parameters` and names g by `angular_form`.
    """

    learned = False
    angular_form: ClassVar[int]
    """0: Tersoff's g; 1: the modified one; the compiled kernel has both."""
    taper: Taper
    bond: Tensor
    angle: Tensor
    reach: Tensor

    @abstractmethod
    def angular(self, cosine: Float[Tensor, "*n"], parameters: Float[Tensor, "*n k"]) -> Float[Tensor, "*n"]:
        """g(cos θ) with its own parameters."""

    def set_parameters(
        self, t: dict[str, Float[Tensor, "types types types"]], angular: tuple[str, ...], taper: Taper
    ) -> None:
        """Check and store tables A_eV, B_eV, lambda1…3_per_A, beta, eta, n, m, R, D and those of g."""
        if taper not in ("smooth", "sine"):
            raise ValueError(f"taper must be smooth or sine; given '{taper}'.")
        if bool((t["D"] <= 0).any() or (t["R"] < t["D"]).any()):
            raise ValueError("R and D must satisfy 0 < D ≤ R for every triplet: f_C must not jump.")
        if not bool(((t["m"] == 1) | (t["m"] == 3)).all()):
            raise ValueError("m must be 1 or 3 for every triplet.")
        first = {name: torch.einsum("ijj->ij", table) for name, table in t.items()}
        bonded = (first["B_eV"] != 0) & (first["beta"] != 0)
        if bool((bonded & ((first["n"] <= 0) | (first["eta"] <= 0) | (first["beta"] < 0))).any()):
            raise ValueError("n, eta and beta must be positive where two elements attract each other.")
        one = torch.ones_like(first["n"])
        columns = [first[k] for k in ("A_eV", "lambda1_per_A", "B_eV", "lambda2_per_A", "beta")]
        columns += [torch.where(bonded, first["eta"], one), 0.5 / torch.where(bonded, first["n"], one)]
        self.taper = taper
        self.register_buffer("bond", torch.stack([*columns, first["R"], first["D"]], -1), persistent=False)
        names = ("m", "lambda3_per_A", "R", "D", *angular)
        self.register_buffer("angle", torch.stack([t[k] for k in names], -1), persistent=False)
        reach = (t["R"] + t["D"]).amax(1)
        self.register_buffer("reach", reach, persistent=False)
        self.cutoff = float(reach.max())

    def forward(self, system: System, pairs: Pairs) -> Results:
        types = self.types(system)
        pairs, vectors, r = reaching(pairs, system, types, self.reach, self.dtype)
        ti, tj = types[pairs.i], types[pairs.j]
        a, lambda1, b, lambda2, beta, eta, half_n, middle, width = self.bond[ti, tj].unbind(-1)
        first, second = pairs.triplets()
        angle = self.angle[ti[first], tj[first], tj[second]]
        unit = vectors / r[:, None]
        g = self.angular((unit[first] * unit[second]).sum(-1), angle[:, 4:])
        apart = angle[:, 1] * (r[first] - r[second])
        stretch = torch.exp(torch.where(angle[:, 0] == 3.0, apart**3, apart))
        others = taper_value(r[second], angle[:, 2], angle[:, 3], self.taper) * g * stretch
        zeta = beta * torch.zeros_like(r).index_add(0, first, others)
        crowded = zeta > 0.0
        y = eta * torch.log(torch.where(crowded, zeta, 1.0))
        order = torch.where(crowded, torch.exp(-half_n * torch.logaddexp(y, torch.zeros_like(y))), 1.0)
        two = a * torch.exp(-lambda1 * r) - order * b * torch.exp(-lambda2 * r)
        half = 0.5 * taper_value(r, middle, width, self.taper) * two
        energies = half.new_zeros(system.n_atoms, dtype=torch.float64)
        return Results(energies=energies.index_add(0, pairs.i, half.double()))

    def program(self) -> Program | None:
        """Compiled kernel on the CPU: one pass over centres, no list of triplets."""
        if self.reach.device.type != "cpu":
            return None
        from rikiba.kernels.bond_order_cpu import bond_order

        from .many_body_programs import ManyBodyProgram

        smooth = self.taper == "smooth"
        return ManyBodyProgram(self, bond_order, self.angular_form, smooth, self.bond, self.angle, self.reach)
