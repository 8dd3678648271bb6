"""Energies, forces and stress of a `Potential`, from ∂E/∂r_ij once for every architecture."""

import copy
from dataclasses import dataclass
from operator import attrgetter
from typing import cast

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from rikiba.core.pairs import Listed, PairFinder, Pairs
from rikiba.core.results import Results
from rikiba.core.system import System
from rikiba.kernels.grouping import segment_sum
from rikiba.kernels.matmul_precision import MatmulPrecision, matmul_precision
from rikiba.kernels.threads import one_torch_thread
from rikiba.potentials.base import EnsembleProgram, PositionProgram, Potential, Program, TellingProgram

from .base import require_finite, require_volume

_version = attrgetter("_version")
_FEW_ATOMS = 2000
"""Below, arrays of pairs are too small for torch's threads; a program's own threads are not concerned."""


def forces_from_pairs(
    gradient: Float[Tensor, "pairs 3"], pairs: Pairs, n_atoms: int
) -> Float[Tensor, "atoms 3"]:
    """F_a = Σ_{i=a} g_ij − Σ_{j=a} g_ij with g_ij = ∂E/∂r_ij and r_ij = r_j − r_i, eV/Å."""
    return segment_sum(gradient, pairs.i, n_atoms) - segment_sum(gradient, pairs.j, n_atoms)


def virial_from_pairs(
    gradient: Float[Tensor, "pairs 3"], vectors: Float[Tensor, "pairs 3"], pairs: Pairs, system: System
) -> Float[Tensor, "systems 3 3"]:
    """∂E/∂ε_ab = Σ_pairs g_a r_b, symmetrised, eV."""
    if system.n_systems == 1:
        outer = (gradient.transpose(0, 1) @ vectors)[None]
    else:
        per_pair = gradient[:, :, None] * vectors[:, None, :]
        outer = segment_sum(per_pair, system.system_index[pairs.i], system.n_systems)
    return 0.5 * (outer + outer.transpose(1, 2))


def stress_from_virial(virial: Float[Tensor, "systems 3 3"], system: System) -> Float[Tensor, "systems 3 3"]:
    """σ = (∂E/∂ε)/V in eV/Å³; NaN for a system whose cell spans no volume."""
    has_volume = system.has_volume[:, None, None]
    volume = torch.where(has_volume, system.volume[:, None, None], 1.0)
    return torch.where(has_volume, virial / volume, torch.nan)


@dataclass(frozen=True, slots=True)
class _Leaves:
    """What the energy is differentiated with respect to."""

    vectors: Tensor
    positions: Tensor | None
    strain: Tensor | None
    system: System

    @staticmethod
    def of(potential: Potential, system: System, pairs: Pairs) -> "_Leaves":
        vectors = pairs.vectors(system).detach().requires_grad_()
        if not potential.uses_positions:
            return _Leaves(vectors, None, None, system)
        positions = system.positions.detach().requires_grad_()
        strain = system.cell.new_zeros((system.n_systems, 3, 3)).requires_grad_()
        deformation = torch.eye(3, dtype=strain.dtype, device=strain.device) + strain
        strained = system.replace(
            positions=torch.einsum("ab,abc->ac", positions, deformation[system.system_index]),
            cell=system.cell.detach() @ deformation,
        )
        return _Leaves(vectors, positions, strain, strained)

    def tensors(self) -> list[Tensor]:
        return [t for t in (self.vectors, self.positions, self.strain) if t is not None]


def evaluate(
    potential: Potential,
    system: System,
    pairs: Pairs,
    *,
    forces: bool = True,
    stress: bool = False,
    create_graph: bool = False,
) -> Results:
    """Energy and its derivatives by reverse-mode differentiation; a pure function.

    E = Σ_i ε_i in float64; F = −∂E/∂r; σ = (1/V) ∂E/∂ε (NaN where a cell spans no volume).
    With `create_graph` the results can be differentiated again (training); otherwise they are detached.
    Raises ValueError where the pairs do not reach as far as the potential's cutoff.
    """
    if pairs.cutoff < potential.cutoff:
        raise ValueError(
            f"{type(potential).__name__} needs pairs up to {potential.cutoff} Å; "
            f"these end at {pairs.cutoff} Å."
        )
    if not (forces or stress):
        with torch.set_grad_enabled(create_graph):
            return _with_energy(potential(system, pairs), system)
    with torch.enable_grad():
        leaves = _Leaves.of(potential, system, pairs)
        results = _with_energy(potential(leaves.system, pairs.with_vectors(leaves.vectors)), system)
        energy = results.need("energy").sum()
        wanted = leaves.tensors()
        gradients: tuple[Tensor | None, ...]
        if energy.requires_grad:
            gradients = torch.autograd.grad(energy, wanted, create_graph=create_graph, allow_unused=True)
        else:
            gradients = (None,) * len(wanted)
        filled = [torch.zeros_like(t) if g is None else g for t, g in zip(wanted, gradients, strict=True)]
    return _assemble(
        results if create_graph else results.detach(), leaves, filled, pairs, system, forces, stress
    )


def _assemble(
    results: Results,
    leaves: _Leaves,
    gradients: list[Tensor],
    pairs: Pairs,
    system: System,
    forces: bool,
    stress: bool,
) -> Results:
    total_forces = virial = None
    if forces:
        total_forces = forces_from_pairs(gradients[0], pairs, system.n_atoms)
        if leaves.positions is not None:
            total_forces = total_forces - gradients[1]
    if stress:
        virial = virial_from_pairs(gradients[0], leaves.vectors.detach(), pairs, system)
        if leaves.strain is not None:
            virial = virial + 0.5 * (gradients[2] + gradients[2].transpose(1, 2))
    return results.replace(
        forces=total_forces, stress=None if virial is None else stress_from_virial(virial, system)
    )


def _with_energy(results: Results, system: System) -> Results:
    if results.energy is not None:
        return results
    return results.replace(energy=system.total(results.need("energies")))


def run_program(
    program: Program, system: System, pairs: Pairs, *, forces: bool = True, stress: bool = False
) -> Results:
    """The same results from a potential's raw-kernel program."""
    return _run_program(program, system, pairs, forces, stress)[0]


def _run_program(
    program: Program, system: System, pairs: Pairs, forces: bool, stress: bool
) -> tuple[Results, bool]:
    """Also whether all results are known to be finite."""
    vectors, spread = pairs.vectors(system).detach(), None
    if hasattr(program, "with_spread"):  # isinstance takes longer than a small molecule's kernels
        ensemble = cast(EnsembleProgram, program)
        energies, gradient, spread = ensemble.with_spread(system, pairs, vectors)
    else:
        energies, gradient = program(system, pairs, vectors)
    further = cast(TellingProgram, program).further() if hasattr(program, "further") else {}
    plain = (
        gradient.device.type == "cpu" and gradient.dtype == vectors.dtype == energies.dtype == torch.float64
    )
    if plain and system.owned is None:
        found, finite = _sums(energies, gradient, vectors, pairs, system, forces, stress)
    else:
        found, finite = _plain_sums(energies, gradient, vectors, pairs, system, forces, stress), False
    finite = finite and spread is None and not further
    return Results(energies=energies, spread=spread, **found, **further), finite


def _plain_sums(
    energies: Tensor,
    gradient: Tensor,
    vectors: Tensor,
    pairs: Pairs,
    system: System,
    forces: bool,
    stress: bool,
) -> dict[str, Tensor]:
    """Energy, forces and stress by torch."""
    found = {"energy": system.total(energies)}
    if forces:
        found["forces"] = forces_from_pairs(gradient, pairs, system.n_atoms)
    if stress:
        virial = virial_from_pairs(gradient, vectors, pairs, system)
        found["stress"] = stress_from_virial(virial, system)
    return found


def _sums(
    energies: Tensor,
    gradient: Tensor,
    vectors: Tensor,
    pairs: Pairs,
    system: System,
    forces: bool,
    stress: bool,
) -> tuple[dict[str, Tensor], bool]:
    """The same by one kernel; also whether all numbers are finite."""
    from rikiba.kernels.pair_geometry_cpu import results

    n = system.n_systems
    moving = np.zeros((system.n_atoms if forces else 0, 3))
    box, volume = np.zeros((n if stress else 0, 3, 3)), np.empty(n)
    if stress:
        _volumes(system, volume)
        volume[volume == 0.0] = np.nan
    finite = results(
        pairs.i.numpy(), pairs.j.numpy(), system.system_index.numpy(), vectors.contiguous().numpy(),
        gradient.contiguous().numpy(), energies.detach().contiguous().numpy(), volume, moving, box,
    )  # fmt: skip
    found = {"energy": system.total(energies)}
    if forces:
        found["forces"] = torch.from_numpy(moving)
    if stress:
        found["stress"] = torch.from_numpy(box)
    return found, finite


def _volumes(system: System, out: np.ndarray) -> float:
    """Volume of each cell, 0 where it spans none; the least."""
    from rikiba.kernels.pair_geometry_cpu import volumes

    return volumes(system.cell.detach().contiguous().numpy(), out)  # type: ignore[no-any-return]


def _search(points: np.ndarray, cell: np.ndarray, pbc: np.ndarray, radius: float) -> Listed:
    """Neighbours by the compiled kernel; see `rikiba.core.pairs.Search`."""
    from rikiba.kernels.neighbour_search_cpu import neighbours

    points, cell = np.ascontiguousarray(points), np.ascontiguousarray(cell)
    return neighbours(points, cell, pbc, radius)  # type: ignore[no-any-return]


def run_sweep(
    program: PositionProgram, system: System, pairs: Pairs, *, forces: bool = True, stress: bool = False
) -> Results:
    """The same results from a program that goes from positions to forces itself; pairs may be candidates."""
    energies, found, outer = program.sweep(system, pairs)
    results = Results(energies=energies, energy=system.total(energies))
    if forces:
        results = results.replace(forces=found)
    if stress:
        virial = 0.5 * (outer + outer.transpose(1, 2))
        results = results.replace(stress=stress_from_virial(virial, system))
    return results


def frozen(potential: Potential) -> Potential:
    """The same potential, weights shared, that keeps no history for derivatives of the weights.

    Inference then spends nothing on gradients that nobody asks for. Later changes of the weights in place
    (loading, training) are seen by both.
    """
    shared: dict[int, Tensor] = {}
    for p in potential.parameters():
        shared[id(p)] = torch.nn.Parameter(p.detach(), requires_grad=False)
    for b in potential.buffers():
        shared[id(b)] = b
    return copy.deepcopy(potential, shared)


class _Weights:
    """Tells whether a potential's parameters have been written to or replaced since it was last asked."""

    def __init__(self, potential: Potential) -> None:
        self._potential = potential
        self._places: list[int] | None = None
        self._versions: list[int] = []
        self._tensors: list[Tensor] = []

    @property
    def device(self) -> torch.device | None:
        """Where they are; None where there are none."""
        return self._tensors[0].device if self._tensors else self._potential.device

    def changed(self) -> bool:
        """True at the first call, then after every change."""
        if (
            self._places is not None
            and list(map(Tensor.data_ptr, self._tensors)) == self._places
            and list(map(_version, self._tensors)) == self._versions
        ):
            return False
        self._tensors = [*self._potential.parameters(), *self._potential.buffers()]
        self._places = list(map(Tensor.data_ptr, self._tensors))
        self._versions = list(map(_version, self._tensors))
        return True


class PotentialCalculator:
    """A potential with its pair list: what MD, relaxation and properties call.

    It computes where the potential is; a structure on another device is copied there and its results back.
    On the GPU everything stays on the device except the neighbour search, which the host does once in many
    steps (see `skin`).

    Args:
        potential: any `Potential`; its dtype and device are used.
        skin: extra neighbour radius, Å; larger means fewer, longer searches. Results do not depend on it.
        use_program: run the potential's raw-kernel program where it has one: `potential.program()`, made at
            the first call and again when weights have changed. A program of other settings may be given
            instead; it is kept as it is. False: automatic differentiation.
        precision: of matrix products of float32 numbers on an NVIDIA GPU. full: IEEE float32. tf32: factors
            are rounded to 11 significant bits, in the harmonics' couplings and the reverse sweep too, so
            forces have relative errors near 1e-3 and are no longer the derivatives of the energy to float32
            rounding. Energies are summed in float64 with both.

    Raises:
        ValueError: for tf32 where the potential is not on a CUDA device or not in float32.
    """

    def __init__(
        self,
        potential: Potential,
        *,
        skin: float = 0.5,
        use_program: bool | Program | PositionProgram = True,
        precision: MatmulPrecision = "full",
    ) -> None:
        if precision not in ("full", "tf32"):
            raise ValueError(f"precision is 'full' or 'tf32'; given {precision!r}.")
        self.precision: MatmulPrecision = precision
        self.potential = potential
        self._frozen = potential
        self.pairs = PairFinder(potential.cutoff, skin, _search)
        self._program = None if isinstance(use_program, bool) else use_program
        self._follow = use_program is True
        self._sweeps = False
        self._weights = _Weights(potential)

    def __call__(self, system: System, *, forces: bool = True, stress: bool = False) -> Results:
        """Detached results; see `evaluate`. Raises as the `Calculator` protocol says."""
        device = self._weights.device
        if device is not None and device != system.positions.device:
            return self(system.to(device), forces=forces, stress=stress).to(system.positions.device)
        if self.precision == "full" and (device is None or device.type == "cpu"):
            return self._on_device(system, forces, stress)
        with matmul_precision(self.precision, device, self.potential.dtype):
            return self._on_device(system, forces, stress)

    def _on_device(self, system: System, forces: bool, stress: bool) -> Results:
        if self._weights.changed():
            self._frozen = frozen(self.potential)
            if self._follow:
                self._program = self.potential.program() or self.potential.position_program()
            self._sweeps = isinstance(self._program, PositionProgram)
        if stress and (self._program is None or not _volumes(system, np.empty(system.n_systems)) > 0.0):
            require_volume(system)
        if self._program is None:
            results = evaluate(self._frozen, system, self.pairs(system), forces=forces, stress=stress)
            finite = False
        elif system.n_atoms < _FEW_ATOMS:
            with one_torch_thread():
                results, finite = self._run(self._program, system, forces, stress)
        else:
            results, finite = self._run(self._program, system, forces, stress)
        return results if finite else require_finite(results, system, type(self.potential).__name__)

    def _run(
        self, program: Program | PositionProgram, system: System, forces: bool, stress: bool
    ) -> tuple[Results, bool]:
        """Also whether all results are known to be finite."""
        if self._sweeps:
            candidates, sweeping = self.pairs.candidates(system), cast(PositionProgram, program)
            return run_sweep(sweeping, system, candidates, forces=forces, stress=stress), False
        return _run_program(cast(Program, program), system, self._with_vectors(system), forces, stress)

    def _with_vectors(self, system: System) -> Pairs:
        """The pairs with their vectors, in one compiled pass on a CPU."""
        if system.positions.device.type != "cpu":
            return self.pairs(system)
        from rikiba.kernels.pair_geometry_cpu import near_pairs

        candidates = self.pairs.listed(system)
        positions, cell = (x.detach().contiguous().numpy() for x in (system.positions, system.cell))
        found = near_pairs(*candidates, positions, cell, system.system_index.numpy(), self.pairs.cutoff)
        i, j, shift, vectors = (torch.from_numpy(x) for x in found)
        return Pairs(
            i=i, j=j, shift=shift, cutoff=self.pairs.cutoff, n_atoms=system.n_atoms, given_vectors=vectors
        )

    def graph(self, system: System) -> Results:
        """Results with history, for Hessian-vector products and derivatives with respect to parameters.

        `system.positions` may require a gradient: the energy is then a function of it. Results are on the
        potential's device.
        """
        device = self.potential.device
        system = system if device is None or device == system.positions.device else system.to(device)
        with torch.enable_grad():
            return _with_energy(self.potential(system, self.pairs(system)), system)
