"""ACE as the program pacemaker writes it: products of complex sums with coefficients of their own."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from rikiba.core import elements as periodic_table
from rikiba.core.pairs import Pairs
from rikiba.core.results import Results
from rikiba.core.system import System
from rikiba.descriptors.ace_products import OneParticle
from rikiba.descriptors.cluster_sums import ClusterSums
from rikiba.descriptors.ctilde import real_products
from rikiba.nn.atomic_energies import AtomicEnergies
from rikiba.nn.cutoff import quintic
from rikiba.nn.double_buffers import DoubleBuffers
from rikiba.nn.pacemaker_radial import PacemakerRadial

from .base import Potential, Program
from .embedded_ace import root

FORMS = ("shifted_scaled", "finnis_sinclair")


class PacemakerACE(DoubleBuffers, Potential):
    """Atomic cluster expansion with the coefficients c̃ of a potential fitted by pacemaker.

    E_i = E0 + F(ρ_i1, ρ_i2 …) f_c(v_i) + v_i, F = Σ_p w_p f(ρ_p, m_p),
    ρ_ip = Σ_k c̃_pk Re Π_t A_i,z_t n_t l_t m_t, A_i,znlm = Σ_j δ(z, z_j) R_nl(r_ij) Y_lm(r̂_ij), and where a
    function has one neighbour only, g_n in place of R_nl Y_lm. v_i = Σ_j v(r_ij) is the repulsion of cores
    and f_c the quintic step from 1 to 0 over the last `core_width_eV` below `core_cutoff_eV`. With nuclear
    cores (`zbl`) instead E_i = E0 + (1 − S(u_i)) F + S(u_i) v_i: u_i is that of the neighbour deepest inside
    its inner cutoff, S the quintic step from 1 at u = 0 to 0 at u = 1. Y are complex
    harmonics with Y_00 = 1 (Condon–Shortley phase); g, R and v are those of
    `rikiba.nn.pacemaker_radial.PacemakerRadial`, f that of `rikiba.potentials.embedded_ace.root`.
    Drautz, doi:10.1103/PhysRevB.99.014104; Lysogorskiy et al., doi:10.1038/s41524-021-00559-9, eqs. 3–10;
    Bochkarev et al., doi:10.1103/PhysRevMaterials.6.013804.

    The axis of Y does not matter, as c̃ couple to invariants: here it is y. Cosine envelopes and the step at
    ρ = 0 are kept as published; forces are continuous, their slopes jump there. With `zbl`, forces jump where
    another neighbour becomes the deepest, and with chebyshev_linear energies jump at the cutoff.

    `rikiba.interop.pacemaker` reads the arguments from a file. Always in float64: published densities are
    small differences of terms that add up to 10⁶, of which float32 keeps 0.01 eV.

    Args:
        elements: chemical symbols; kept in order of atomic number.
        bonds: for each ordered pair like "Cu-Cu" a table {radial = "chebyshev_power", cutoff = 7.4,
            decay = 2.0, cutoff_width = 0.01, mixing = [n][l][k], repulsion_eV_A = 400.0,
            repulsion_per_A2 = 7.0, inner_cutoff = 0.0, inner_width = 0.0, zbl = 0.0}; radial may be
            chebyshev_exponential, bessel or chebyshev_linear, too. An inner_width of 0 means no inner cutoff;
            a zbl > 0, which all bonds have or none, is a factor of the nuclear repulsion.
        embeddings: for each element {form = "shifted_scaled", fs_parameters = [w_1, m_1, w_2, m_2 …],
            core_cutoff_eV = 1e5, core_width_eV = 250.0}; form may be finnis_sinclair, too.
        functions: for each element of the centre a list of {neighbours = ["Cu", "Cu"], n = [1, 1],
            l = [1, 1], m = [[0, 0], [1, -1]], coefficients = [[c̃_1, c̃_2 …], …]}, a row for each row of m.
        atomic_energies: energy of each isolated atom, eV; zero where not given.
    """

    references = (
        "10.1103/PhysRevB.99.014104",
        "10.1038/s41524-021-00559-9",
        "10.1103/PhysRevMaterials.6.013804",
    )
    # its form, too, comes from a file: there is nothing that data alone could fill in
    learned = False

    def __init__(
        self,
        *,
        elements: Sequence[str],
        bonds: Mapping[str, Mapping[str, Any]],
        embeddings: Mapping[str, Mapping[str, Any]],
        functions: Mapping[str, Sequence[Mapping[str, Any]]],
        atomic_energies: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__()
        self.elements = periodic_table.sorted_symbols(elements)
        missing = [s for s in self.elements if s not in embeddings or s not in functions]
        if missing:
            raise ValueError(f"embeddings and functions need every element; missing: {', '.join(missing)}.")
        w, m, self.embeddings, core = _embeddings([embeddings[s] for s in self.elements])
        self.factors, self.exponents = w.tolist(), m.tolist()
        self.register_buffer("core", core, persistent=False)
        self.descriptor = PacemakerSums(
            elements=self.elements, bonds=bonds, functions=functions, n_densities=w.shape[1]
        )
        self.cutoff = self.descriptor.radial.cutoff
        self.atomic_energies = AtomicEnergies(self.elements, atomic_energies)

    core: Tensor

    def forward(self, system: System, pairs: Pairs) -> Results:
        types = self.types(system)
        vectors = pairs.vectors(system, self.dtype)
        neighbour = types[pairs.j]
        products = self.descriptor.products(self.descriptor.sums(vectors, pairs.i, neighbour, types))
        own = products.new_zeros(len(types))
        for kind, form in enumerate(self.embeddings):
            here = torch.nonzero(types == kind).flatten()
            density = products[here] @ self.descriptor.weights[kind].T
            value = density.new_zeros(len(here))
            for p, (w, m) in enumerate(zip(self.factors[kind], self.exponents[kind], strict=True)):
                value = value + w * root(density[:, p], m, form)
            own = own.index_add(0, here, value)
        if self.descriptor.radial.repels:
            v = self.descriptor.radial.repulsion(vectors.norm(dim=-1), types[pairs.i], neighbour)
            total = own.new_zeros(len(types)).index_add(0, pairs.i, v)
            if self.descriptor.radial.zbl:
                u = self.descriptor.radial.closest(vectors.norm(dim=-1), pairs.i, pairs.j, types)
                own = own + quintic(u) * (total - own)
            else:
                own = own * self.core_step(total, types) + total
        return Results(energies=self.atomic_energies(types) + own.double())

    def core_step(
        self, repulsion: Float[Tensor, "atoms"], types: Int[Tensor, "atoms"]
    ) -> Float[Tensor, "atoms"]:
        """f_c of each atom."""
        end, width = self.core.to(repulsion)[types].unbind(-1)
        return quintic((repulsion - end) / width + 1.0)

    def program(self) -> Program | None:
        """Energies and forces by compiled kernels, in float64 on the CPU."""
        if self.core.device.type != "cpu":
            return None
        from .pacemaker_program import CompiledPacemakerACE

        return CompiledPacemakerACE(self)

    @classmethod
    def examples(cls) -> "list[PacemakerACE]":
        """Small instances for the conformance tests, of what has two derivatives."""
        rng = np.random.default_rng(7)
        both = ("O", "Si")

        def function(*factors: tuple[str, int, int], rows: dict[tuple[int, ...], float]) -> dict[str, Any]:
            c = rng.normal(0.0, 0.3, 2)
            names, n, l = (list(x) for x in zip(*factors, strict=True))
            m = [list(row) for row in rows]
            return {
                "neighbours": names, "n": n, "l": l, "m": m,
                "coefficients": [(x * c).tolist() for x in rows.values()],
            }  # fmt: skip

        def basis() -> list[dict[str, Any]]:
            p: dict[tuple[int, ...], float] = {(0, 0): 1.0, (1, -1): -2.0}
            return [
                *(function((s, n, 0), rows={(0,): 1.0}) for s in both for n in (1, 2, 3)),
                function(("O", 1, 0), ("Si", 2, 0), rows={(0, 0): 1.0}),
                function(("O", 1, 1), ("O", 1, 1), rows=p),
                function(("Si", 1, 1), ("Si", 2, 1), rows=p),
                function(("O", 1, 0), ("Si", 1, 1), ("Si", 2, 1), rows={(0, *m): x for m, x in p.items()}),
            ]

        def table(radial: str, cutoff: float, **more: float) -> dict[str, Any]:
            values = rng.normal(0.0, 0.5, (2, 2, 4)).tolist()
            return {"radial": radial, "cutoff": cutoff, "decay": 3.0, "mixing": values, **more}

        fs = [1.0, 1.0, 0.7, 1.0]
        core = {"repulsion_eV_A": 60.0, "repulsion_per_A2": 1.0}
        inner = {**core, "inner_cutoff": 1.9, "inner_width": 0.6}
        crossed = table("bessel", 4.1, **inner)
        return [
            cls(
                elements=both,
                bonds={
                    "O-O": table("chebyshev_power", 4.4, **inner),
                    "O-Si": crossed, "Si-O": crossed, "Si-Si": table("chebyshev_power", 4.5),
                },
                embeddings={s: {"form": "shifted_scaled", "fs_parameters": fs} for s in both},
                functions={s: basis() for s in both},
                atomic_energies={"O": -2.0, "Si": -1.0},
            ),
            cls(
                elements=both,
                bonds={f"{a}-{b}": table("chebyshev_power", 4.3, **core) for a in both for b in both},
                embeddings={
                    "O": {"form": "finnis_sinclair", "fs_parameters": fs, "core_cutoff_eV": 9.0,
                          "core_width_eV": 8.0},
                    "Si": {"form": "shifted_scaled", "fs_parameters": [1.0, 1.0]},
                },
                functions={
                    "O": basis(),
                    "Si": [f | {"coefficients": [c[:1] for c in f["coefficients"]]} for f in basis()],
                },
            ),
        ]  # fmt: skip


class PacemakerSums(ClusterSums):
    """The sums A of `PacemakerACE`, its monomials and their coefficients.

    Args:
        elements: symbols.
        bonds: as there.
        functions: as there.
        n_densities: largest number of densities.
    """

    harmonic = 1.0

    weights: Tensor
    """[elements, densities, monomials]"""

    def __init__(
        self,
        *,
        elements: Sequence[str],
        bonds: Mapping[str, Mapping[str, Any]],
        functions: Mapping[str, Sequence[Mapping[str, Any]]],
        n_densities: int,
    ) -> None:
        super().__init__()
        self.elements = tuple(elements)
        self.l_max = max((max(map(int, f["l"])) for s in elements for f in functions[s]), default=0)
        self.radial = PacemakerRadial(elements=self.elements, bonds=bonds, l_max=self.l_max)
        n, k = self.radial.n_radial, self.radial.n_base
        # of l = 0 the g stand behind the R
        self.one = OneParticle(len(self.elements), (n + k, *(n,) * self.l_max))
        monomials, weights = real_products(self.one, self.elements, functions, n_densities, n)
        self.tabulate([0, *(l * n + k for l in range(1, self.l_max + 1))], torch.from_numpy(monomials))
        self.register_buffer("weights", torch.from_numpy(weights), persistent=False)

    def radial_columns(
        self, r: Float[Tensor, "pairs"], centre: Int[Tensor, "pairs"], neighbour: Int[Tensor, "pairs"]
    ) -> Float[Tensor, "pairs columns"]:
        """R_nl, and g behind those of l = 0."""
        g = self.radial.base(r, centre, neighbour)
        mixed = (self.radial.mixing.to(g).flatten(2, 3)[centre, neighbour] @ g[:, :, None]).squeeze(-1)
        n = self.radial.n_radial
        return torch.cat([mixed[:, :n], g, mixed[:, n:]], 1)


def _embeddings(tables: Sequence[Mapping[str, Any]]) -> tuple[np.ndarray, np.ndarray, list[str], Tensor]:
    """(w, m, form of f, end and width of f_c) of each element; missing densities have w = 0, m = 1."""
    known = {"form", "fs_parameters", "core_cutoff_eV", "core_width_eV"}
    for t in tables:
        fs = t.get("fs_parameters", ())
        if set(t) - known or not fs or len(fs) % 2 or min(fs[1::2]) <= 0 or t.get("form") not in FORMS:
            raise ValueError(
                f"embeddings have form ({' or '.join(FORMS)}), fs_parameters = [w_1, m_1, …] with m > 0, and "
                f"possibly core_cutoff_eV and core_width_eV; given {dict(t)}."
            )
    n = max(len(t["fs_parameters"]) // 2 for t in tables)
    w, m = np.zeros((len(tables), n)), np.ones((len(tables), n))
    core = []
    for k, t in enumerate(tables):
        fs = t["fs_parameters"]
        w[k, : len(fs) // 2], m[k, : len(fs) // 2] = fs[::2], fs[1::2]
        core.append([float(t.get("core_cutoff_eV", 1e5)), float(t.get("core_width_eV", 250.0))])
        if not 0 < core[-1][1]:
            raise ValueError(f"core_width_eV must be positive; given {core[-1][1]}.")
    return w, m, [str(t["form"]) for t in tables], torch.tensor(core, dtype=torch.float64)
