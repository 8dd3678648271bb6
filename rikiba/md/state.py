"""Where everything is and how fast it moves: structures, velocities, masses, seeds and the clock."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, final

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from rikiba.core import units
from rikiba.core.system import System
from rikiba.kernels.local_motion import kinetic_energy
from rikiba.kernels.random import normals

if TYPE_CHECKING:
    from ase import Atoms

VELOCITY_STREAM = (1 << 20) - 1
"""Stream of random numbers for initial velocities; no operator uses it."""


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class State:
    """One or many systems in motion. Build it with `State.of` or `maxwell_boltzmann`.

    Positions are those of `system` and are never wrapped. A fixed atom has inverse mass 0 and no velocity.
    """

    system: System
    velocities: Float[Tensor, "atoms 3"]
    """Å per internal unit of time."""
    masses: Float[Tensor, "atoms"]
    """u."""
    inverse_masses: Float[Tensor, "atoms"]
    """1/u; 0 for a fixed atom."""
    seeds: Int[Tensor, "systems"]
    """Each system's own seed: its noise does not depend on who else is in the batch."""
    dof_removed: Int[Tensor, "systems"]
    """Degrees of freedom that carry no kinetic energy because they were zeroed and are conserved."""
    time: Float[Tensor, "systems"]
    """Internal units."""
    step: int = 0

    @staticmethod
    def of(
        system: System,
        velocities: Float[Tensor, "atoms 3"] | None = None,
        *,
        masses: Float[Tensor, "atoms"] | None = None,
        fixed: Bool[Tensor, "atoms"] | None = None,
        seed: int | Sequence[int] = 0,
        dof_removed: int | Sequence[int] | None = None,
    ) -> "State":
        """A state at step 0 and time 0.

        Args:
            system: the structures.
            velocities: Å per internal unit of time; zero if not given.
            masses: u; the elements' standard masses if not given.
            fixed: True for atoms that never move.
            seed: one for each system, or one integer s, which gives system k the seed s + k.
            dof_removed: degrees of freedom without kinetic energy in each system. If not given: 3 where at
                least two atoms move freely, none is fixed and the total momentum is zero; otherwise 0.

        Raises ValueError for masses that are not positive, non-finite velocities, fixed atoms that move and
        wrong lengths.
        """
        n, device = system.n_atoms, system.positions.device
        mass = (
            system.masses if masses is None else torch.as_tensor(masses, dtype=torch.float64, device=device)
        )
        v = torch.zeros_like(system.positions) if velocities is None else velocities.to(device, torch.float64)
        if mass.shape != (n,) or not bool((mass > 0).all()) or not bool(mass.isfinite().all()):
            raise ValueError(f"masses must be {n} positive numbers in u; given {mass.tolist()[:8]} ….")
        if v.shape != (n, 3) or not bool(v.isfinite().all()):
            raise ValueError(
                f"velocities must be finite and of shape ({n}, 3); given shape {tuple(v.shape)}."
            )
        inverse = 1.0 / mass
        if fixed is not None:
            if fixed.shape != (n,) or fixed.dtype != torch.bool:
                raise ValueError(
                    f"fixed must be {n} booleans; given {fixed.dtype} of shape {tuple(fixed.shape)}."
                )
            if bool((v[fixed] != 0).any()):
                raise ValueError("Fixed atoms must have zero velocity; set their rows of `velocities` to 0.")
            inverse = torch.where(fixed.to(device), 0.0, inverse)
        state = State(
            system=system,
            velocities=v,
            masses=mass,
            inverse_masses=inverse,
            seeds=per_system_seeds(seed, system.n_systems, device),
            dof_removed=torch.zeros(system.n_systems, dtype=torch.int64, device=device),
            time=torch.zeros(system.n_systems, dtype=torch.float64, device=device),
        )
        if dof_removed is None:
            return state.replace(dof_removed=_momentum_dof(state))
        given = (
            torch.as_tensor(dof_removed, dtype=torch.int64, device=device).expand(system.n_systems).clone()
        )
        return state.replace(dof_removed=given)

    @staticmethod
    def from_ase(frames: "Atoms | Sequence[Atoms]", *, seed: int | Sequence[int] = 0) -> "State":
        """Positions, velocities (zero where absent), masses and FixAtoms constraints of ASE structures.

        Raises ValueError for any other constraint.
        """
        from ase import Atoms
        from ase.constraints import FixAtoms

        frames = [frames] if isinstance(frames, Atoms) else list(frames)
        fixed = [torch.zeros(len(a), dtype=torch.bool) for a in frames]
        for atoms, mask in zip(frames, fixed, strict=True):
            for constraint in atoms.constraints:
                if not isinstance(constraint, FixAtoms):
                    raise ValueError(
                        f"{type(constraint).__name__} is not supported here; only FixAtoms is read from ASE."
                    )
                mask[torch.as_tensor(constraint.get_indices())] = True
        mask = torch.cat(fixed)
        velocities = torch.cat([torch.from_numpy(a.get_velocities()) for a in frames])
        return State.of(
            System.from_ase(frames),
            torch.where(mask[:, None], 0.0, velocities),
            masses=torch.cat([torch.from_numpy(a.get_masses().copy()) for a in frames]),
            fixed=mask if bool(mask.any()) else None,
            seed=seed,
        )

    def to_ase(self) -> "list[Atoms]":
        """One ASE structure per system, with velocities and masses; fixed atoms as FixAtoms."""
        from ase.constraints import FixAtoms

        frames = self.system.to_ase()
        for k, atoms in enumerate(frames):
            rows = self.system.atom_rows(k)
            atoms.set_masses(self.masses[rows].cpu().numpy())
            atoms.set_velocities(self.velocities[rows].cpu().numpy())
            still = (self.inverse_masses[rows] == 0).nonzero().flatten().tolist()
            if still:
                atoms.set_constraint(FixAtoms(still))
        return frames

    def replace(self, **changes: Any) -> "State":
        """A copy with the named fields changed."""
        return replace(self, **changes)

    def moved(
        self, positions: Float[Tensor, "atoms 3"], velocities: Float[Tensor, "atoms 3"] | None = None
    ) -> "State":
        """The same state at other positions, and with other velocities if given."""
        velocities = self.velocities if velocities is None else velocities
        return self._advanced(self.system.moved(positions), velocities, self.time, self.step)

    def with_velocities(self, velocities: Float[Tensor, "atoms 3"]) -> "State":
        """The same state with other velocities."""
        return self._advanced(self.system, velocities, self.time, self.step)

    def after(self, dt: Float[Tensor, "systems"]) -> "State":
        """The same state with the clock one timestep on."""
        return self._advanced(self.system, self.velocities, self.time + dt, self.step + 1)

    def _advanced(self, system: System, velocities: Tensor, time: Tensor, step: int) -> "State":
        # written out because dataclasses.replace costs more than the arithmetic of a step
        return State(
            system=system,
            velocities=velocities,
            masses=self.masses,
            inverse_masses=self.inverse_masses,
            seeds=self.seeds,
            dof_removed=self.dof_removed,
            time=time,
            step=step,
        )

    @property
    def n_systems(self) -> int:
        return self.system.n_systems

    @property
    def momentum(self) -> Float[Tensor, "systems 3"]:
        """Σ m v of each system."""
        return self.system.total(self.masses[:, None] * self.velocities)

    @property
    def angular_momentum(self) -> Float[Tensor, "systems 3"]:
        """Σ m (r − r_com) × v of each system's unwrapped positions."""
        r = self.system.positions - self._centre()[self.system.system_index]
        return self.system.total(self.masses[:, None] * torch.linalg.cross(r, self.velocities))

    def _centre(self) -> Tensor:
        total = self.system.total
        return total(self.masses[:, None] * self.system.positions) / total(self.masses)[:, None]

    @property
    def kinetic_energy(self) -> Float[Tensor, "systems"]:
        """K = Σ ½ m v², eV."""
        return kinetic_energy(self.masses, self.velocities, self.system.system_index, self.n_systems)

    @property
    def dof(self) -> Int[Tensor, "systems"]:
        """N_f = 3 (N − N_fixed) − dof_removed."""
        free = self.system.total((self.inverse_masses > 0).double()).round().long()
        return 3 * free - self.dof_removed

    @property
    def temperature_K(self) -> Float[Tensor, "systems"]:
        """T = 2K/(N_f k_B), K; NaN where a system has no degree of freedom."""
        return temperature(self.kinetic_energy, self.dof)

    def __getitem__(self, which: Any) -> "State":
        """The state of some of the systems, in the given order (they keep their seeds)."""
        index = torch.arange(self.n_systems, device=self.time.device)[which].reshape(-1)
        atoms = atom_index(self.system, index)
        return replace(
            self,
            system=self.system[index],
            velocities=self.velocities[atoms],
            masses=self.masses[atoms],
            inverse_masses=self.inverse_masses[atoms],
            seeds=self.seeds[index],
            dof_removed=self.dof_removed[index],
            time=self.time[index],
        )

    def to(self, device: torch.device | str) -> "State":
        """Move every tensor to a device."""
        names = ("system", "velocities", "masses", "inverse_masses", "seeds", "dof_removed", "time")
        return replace(self, **{name: getattr(self, name).to(device) for name in names})


def atom_index(system: System, which: Int[Tensor, "chosen"]) -> Int[Tensor, "atoms"]:
    """Indices of the atoms of the chosen systems, system after system."""
    rows = [system.atom_rows(int(k)) for k in which]
    parts = [torch.arange(r.start, r.stop, device=which.device) for r in rows]
    return torch.cat(parts) if parts else which.new_zeros(0)


def temperature(
    kinetic_energy: Float[Tensor, "systems"], dof: Int[Tensor, "systems"]
) -> Float[Tensor, "systems"]:
    """T = 2K/(N_f k_B) in K; NaN where N_f = 0."""
    return torch.where(dof > 0, 2.0 * kinetic_energy / (dof * units.boltzmann), torch.nan)


def per_system(
    value: float | Sequence[float] | Tensor, n_systems: int, device: Any = "cpu"
) -> Float[Tensor, "systems"]:
    """One number for all systems, or one for each, as float64; raises ValueError for another length."""
    t = torch.as_tensor(value, dtype=torch.float64, device=device)
    if t.dim() > 1 or (t.dim() == 1 and t.shape[0] != n_systems):
        raise ValueError(
            f"Give one number or {n_systems} (one for each system); given shape {tuple(t.shape)}."
        )
    return t.expand(n_systems).clone()


def per_system_seeds(
    seed: int | Sequence[int], n_systems: int, device: Any = "cpu"
) -> Int[Tensor, "systems"]:
    """Seeds s, s+1, … from one integer, or the given ones; raises ValueError for another length."""
    if isinstance(seed, int):
        return seed + torch.arange(n_systems, dtype=torch.int64, device=device)
    seeds = torch.as_tensor(seed, dtype=torch.int64, device=device).clone()
    if seeds.shape != (n_systems,):
        raise ValueError(f"Give one seed or {n_systems} (one for each system); given {tuple(seeds.shape)}.")
    return seeds


def maxwell_boltzmann(
    system: System,
    temperature_K: float | Sequence[float],
    *,
    seed: int | Sequence[int] = 0,
    masses: Float[Tensor, "atoms"] | None = None,
    fixed: Bool[Tensor, "atoms"] | None = None,
    remove_momentum: bool = True,
    remove_rotation: bool | None = None,
) -> State:
    """A state with velocities from the Maxwell–Boltzmann distribution, v = √(k_B T/m) ξ.

    Removing the total momentum (and rotation) projects those degrees of freedom out and counts them in
    `dof_removed`, so the mean temperature of what remains is T. Systems with fixed atoms keep both.

    Args:
        system: the structures.
        temperature_K: one for all systems or one for each.
        seed: one for each system, or one integer s, which gives system k the seed s + k.
        masses: u; the elements' standard masses if not given.
        fixed: True for atoms that never move.
        remove_momentum: subtract the centre-of-mass velocity.
        remove_rotation: subtract the rotation about the centre of mass; by default for systems that are
            periodic along no axis.

    Raises ValueError for a negative temperature and as `State.of` does.
    """
    state = State.of(system, masses=masses, fixed=fixed, seed=seed, dof_removed=0)
    kelvin = per_system(temperature_K, system.n_systems, system.positions.device)
    if not bool((kelvin >= 0).all()) or not bool(kelvin.isfinite().all()):
        raise ValueError(f"temperature_K must be at least 0; given {kelvin.tolist()}.")
    index = system.system_index
    first = system.counts.cumsum(0) - system.counts
    own = torch.arange(system.n_atoms, device=index.device) - first[index]
    noise = normals(state.seeds[index], own, 0, VELOCITY_STREAM, 3)
    width = torch.sqrt(units.boltzmann * kelvin[index] * state.inverse_masses)
    state = state.replace(velocities=width[:, None] * noise)
    # one system at a time: sums over atoms then have the same bits whoever else is in the batch
    parts = [_without_drift(state[k], remove_momentum, remove_rotation) for k in range(system.n_systems)]
    return state.replace(
        velocities=torch.cat([p.velocities for p in parts]) if parts else state.velocities,
        dof_removed=torch.cat([p.dof_removed for p in parts]) if parts else state.dof_removed,
    )


def _without_drift(state: State, momentum: bool, rotation: bool | None) -> State:
    """One system without total momentum and (if isolated or told) rotation; as it is if atoms are fixed."""
    free = (state.inverse_masses > 0).all()[None]
    if momentum:
        state = without_momentum(state, free)
    turn = not bool(state.system.pbc.any()) if rotation is None else rotation
    return without_rotation(state, free) if momentum and turn else state


def without_momentum(state: State, which: Bool[Tensor, "systems"]) -> State:
    """Subtract the centre-of-mass velocity of the chosen systems; 3 degrees of freedom count as removed."""
    velocity = state.momentum / state.system.total(state.masses)[:, None]
    velocity = torch.where(which[:, None], velocity, 0.0)
    return state.replace(
        velocities=state.velocities - velocity[state.system.system_index],
        dof_removed=state.dof_removed + 3 * which.long(),
    )


def without_rotation(state: State, which: Bool[Tensor, "systems"]) -> State:
    """Subtract ω × (r − r_com), I ω = L; rank(I) degrees of freedom count as removed (3; 2 if linear)."""
    index = state.system.system_index
    r = state.system.positions - state._centre()[index]
    square = (r * r).sum(-1)[:, None, None] * torch.eye(3, dtype=r.dtype, device=r.device)
    inertia = state.system.total(state.masses[:, None, None] * (square - r[:, :, None] * r[:, None, :]))
    moments, axes = torch.linalg.eigh(inertia)
    least = 1e-12 * state.system.total(state.masses)[:, None]  # u Å²: a single atom, up to rounding
    turns = moments > torch.maximum(1e-9 * moments[:, -1:], least)
    along = torch.einsum("kab,ka->kb", axes, state.angular_momentum)
    omega = torch.einsum("kab,kb->ka", axes, torch.where(turns, along / moments, 0.0))
    omega = torch.where(which[:, None], omega, 0.0)
    return state.replace(
        velocities=state.velocities - torch.linalg.cross(omega[index], r),
        dof_removed=state.dof_removed + turns.sum(1) * which,
    )


def _momentum_dof(state: State) -> Tensor:
    """3 where momentum is zero, no atom is fixed and at least two move; otherwise 0."""
    total = state.system.total
    scale = total(state.masses * state.velocities.norm(dim=-1))
    still = state.momentum.norm(dim=-1) <= 1e-9 * scale
    no_fixed = total((state.inverse_masses == 0).double()) == 0
    moves_freely = still & no_fixed & (state.system.counts > 1)
    return torch.where(moves_freely, 3, 0)
